"""Multistep formulas and the decisions of the step control."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoslit.mpnp.stepper import (
    MAX_ORDER,
    History,
    bdf_weights,
    divided_difference,
    extrapolate,
    propose,
)

steps = st.lists(st.floats(0.1, 3.0), min_size=MAX_ORDER + 1, max_size=MAX_ORDER + 1)


def newest_first(lengths):
    return np.concatenate([[0.0], -np.cumsum(lengths)]) + 1.0


@pytest.mark.parametrize(
    ("order", "weights"),
    [
        (1, [1, -1]),
        (2, [3 / 2, -2, 1 / 2]),
        (3, [11 / 6, -3, 3 / 2, -1 / 3]),
        (4, [25 / 12, -4, 3, -4 / 3, 1 / 4]),
        (5, [137 / 60, -5, 5, -10 / 3, 5 / 4, -1 / 5]),
    ],
)
def test_weights_of_equal_steps(order, weights):
    assert bdf_weights(-np.arange(order + 1.0)) == pytest.approx(weights, rel=1e-13)


@given(steps, st.integers(1, MAX_ORDER))
def test_weights_are_exact_for_polynomials(lengths, order):
    t = newest_first(lengths)[: order + 1]
    w = bdf_weights(t)
    for p in range(order + 1):
        exact = p * t[0] ** (p - 1) if p else 0.0
        scale = np.abs(w * t**p).sum()
        assert abs(w @ t**p - exact) <= 1e-11 * scale + 1e-13


@given(steps, st.integers(1, MAX_ORDER))
def test_weights_of_the_next_power_show_the_order(lengths, order):
    t = newest_first(lengths)[: order + 1]
    # derivative of prod(t - t_j) over all points, which the formula takes for zero
    assert bdf_weights(t) @ np.prod(t[:, None] - t[None, :], axis=1) == 0


@given(steps, st.floats(-1, 2))
def test_extrapolation_is_exact_for_polynomials(lengths, at):
    t = newest_first(lengths)
    w = extrapolate(t, at)
    for p in range(t.size):
        assert abs(w @ t**p - at**p) <= 1e-9 * np.abs(w * t**p).sum() + 1e-12


@given(steps)
def test_divided_difference_picks_the_leading_coefficient(lengths):
    t = newest_first(lengths)
    w = divided_difference(t)
    for p in range(t.size):
        exact = 1.0 if p == t.size - 1 else 0.0
        assert abs(w @ t**p - exact) <= 1e-9 * np.abs(w * t**p).sum() + 1e-12


def filled(function, times, order):
    h = History()
    for t in times:
        value = np.array([[function(t)]])
        h.push(t, value, value, value[0])
    h.order = order
    return h


@pytest.mark.parametrize("order", range(1, MAX_ORDER + 1))
def test_error_estimate_is_that_of_the_formula(order):
    """dc/dt = f(t): the step's error is the residual of the exact solution over a_0."""
    n, dt = MAX_ORDER + 2, 0.05
    times = dt * np.arange(n) * (1 + 0.02 * np.arange(n))
    h = filled(np.sin, times, order)
    t = times[-1] + 1.3 * dt
    w = h.weights(t)
    old = h.old_part(w, h.stored)
    solved = (np.cos(t) - old) / w[0]
    true = float(solved[0, 0] - np.sin(t))
    estimate = float(h.error(t, solved, order)[0, 0])
    assert abs(estimate) == pytest.approx(abs(true), rel=0.5)


def test_prediction_follows_a_polynomial():
    h = filled(lambda t: t**2, [0.0, 1.0, 1.5, 2.5], 2)
    assert h.predict(3.0, h.states)[0, 0] == pytest.approx(9.0)


def test_restart_forgets_all_but_the_last_state():
    h = filled(lambda t: t, [0.0, 1.0, 2.0], 3)
    h.restart(0.1)
    assert (h.times, h.order, h.step) == ([2.0], 1, 0.1)
    assert h.states[0][0, 0] == 2.0


@pytest.mark.parametrize("order", range(1, MAX_ORDER + 1))
def test_large_error_rejects_and_shortens(order):
    h = History(order=order)
    for error in (1.5, 10.0, 1e6):
        p = propose(h, 1.0, {order: error})
        assert not p.accept
        assert 0.2 <= p.step < 1.0


def test_small_error_raises_the_order_and_bounds_the_growth():
    h = filled(np.sin, np.arange(6.0), 2)
    h.steps_at_order = 3
    p = propose(h, 1.0, {1: 0.9, 2: 0.5, 3: 1e-9})
    assert p.accept
    assert p.order == 3
    assert 1.0 < p.step <= 2.0
