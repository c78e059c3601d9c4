"""Excess-potential flux: Bernoulli function, consistency, equilibrium, exact split."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoslit.mpnp.fluxes import (
    bernoulli,
    bernoulli_slope,
    compose,
    excess_flux,
    excess_flux_slopes,
    split_flux,
)

NEAR_ZERO = [s * 10.0**p for p in range(-300, 1, 20) for s in (1, -1)]
AROUND = [
    *np.linspace(-30, 30, 121),
    *np.linspace(-0.1, 0.1, 81),
    *NEAR_ZERO,
    0.0199999,
    0.0200001,
    -0.0199999,
    -0.0200001,
]


def precise(x):
    """Bernoulli function and its slope to 40 digits."""
    with localcontext() as context:
        context.prec = 80
        d = Decimal(float(x))
        if d == 0:
            return 1.0, -0.5
        if abs(d) < Decimal("1e-15"):
            return float(1 - d / 2), float(Decimal("-0.5") + d / 6)
        e = d.exp()
        b = d / (e - 1)
        return float(b), float((1 - b * e) / (e - 1))


@pytest.mark.parametrize("x", AROUND)
def test_bernoulli_to_rounding(x):
    value, slope = precise(x)
    assert bernoulli(np.array([x]))[0] == pytest.approx(value, rel=4e-15)
    assert bernoulli_slope(np.array([x]))[0] == pytest.approx(slope, rel=2e-12, abs=1e-300)


@pytest.mark.parametrize("x", [50.0, 700.0, 745.0, 1e4])
def test_bernoulli_far_out(x):
    far = np.array([x, -x])
    assert bernoulli(far) == pytest.approx([x * np.exp(-x), x], rel=1e-13, abs=1e-300)
    assert bernoulli_slope(far) == pytest.approx(
        [(1 - x) * np.exp(-x), -1.0], rel=1e-13, abs=1e-300
    )


Z, C0 = np.array([2.0, 1.0, -1.0]), np.array([0.2, 0.3, 0.7])
number = st.floats(-6, 6)
states = st.lists(number, min_size=8, max_size=8).map(
    lambda x: (np.array(x[:4]), np.array(x[4:]))
)
packings = st.sampled_from([0.0, 0.03, 0.4])


def sides(state, packing):
    u = np.array(state)  # (2, 4): phi, mu of k and l
    v = packing * C0 / C0.sum()
    return [
        (u[s, :1], u[s, 1:, None], compose(u[s, 1:, None], u[s, :1], Z, C0, v)) for s in (0, 1)
    ]


def flux_of(state, packing):
    (phi_k, mu_k, k), (phi_l, mu_l, l) = sides(state, packing)  # noqa: E741
    eta = Z[:, None] * (phi_k - phi_l) + (k.ln_gamma - l.ln_gamma)
    return excess_flux(k.c, eta, mu_k, mu_l)


@given(states, packings)
def test_composition_is_physical_and_consistent(state, packing):
    phi, mu, c = sides(state, packing)[0]
    assert (c.c > 0).all()
    assert c.packing.sum() < 1
    # mu = ln(c / bulk activity) + z phi + ln gamma, relative to the bulk
    assert c.ln_c - np.log(C0)[:, None] + Z[:, None] * phi + c.ln_gamma == pytest.approx(
        mu, abs=1e-12
    )
    if packing:
        volume = packing / C0.sum()
        gamma = (1 - volume * C0.sum()) / (1 - volume * c.c.sum())
        assert c.ln_gamma[0] == pytest.approx(np.log(gamma), abs=1e-7)


@given(states, packings)
def test_flux_is_antisymmetric_and_downhill(state, packing):
    there, back = flux_of(state, packing), flux_of(state[::-1], packing)
    assert there == pytest.approx(-back, rel=1e-9)
    drop = state[0][1:, None] - state[1][1:, None]
    assert (there * drop >= 0).all()


@given(st.lists(number, min_size=5, max_size=5), packings)
def test_no_flux_at_equal_electrochemical_potential(x, packing):
    mu = x[2:]
    assert (flux_of((np.array([x[0], *mu]), np.array([x[1], *mu])), packing) == 0).all()


@given(states, packings, st.floats(0, 1e-8))
def test_parts_add_up_to_the_flux(state, packing, floor):
    (phi_k, mu_k, k), (phi_l, mu_l, l) = sides(state, packing)  # noqa: E741
    least = np.full((3, 1), floor)
    parts = split_flux(k, l, phi_k - phi_l, Z, mu_k - mu_l, least)
    total = flux_of(state, packing) + least * (mu_k - mu_l)
    # potentials themselves carry rounding: near equilibrium it is all that is left
    potentials = np.abs(np.array(state)).max() + np.abs(k.ln_c) + np.abs(l.ln_c)
    mobility = np.maximum(np.abs(k.c), np.abs(l.c)) * np.exp(6) + least
    size = sum(np.abs(p) for p in parts) + np.abs(total)
    assert (np.abs(sum(parts) - total) <= 1e-13 * size + 1e-16 * mobility * potentials).all()


@given(states)
def test_parts_have_the_signs_of_their_forces(state):
    (phi_k, mu_k, k), (phi_l, mu_l, l) = sides(state, 0.3)  # noqa: E741
    dif, mig, ster = split_flux(k, l, phi_k - phi_l, Z, mu_k - mu_l, np.zeros((3, 1)))
    assert (dif * (k.c - l.c) >= 0).all()
    assert (mig * Z[:, None] * (phi_k - phi_l) >= 0).all()
    assert (ster * (k.packing.sum() - l.packing.sum()) >= 0).all()


@given(states, packings)
def test_slopes_of_the_flux(state, packing):
    (phi_k, mu_k, k), (phi_l, mu_l, l) = sides(state, packing)  # noqa: E741
    eta = Z[:, None] * (phi_k - phi_l) + (k.ln_gamma - l.ln_gamma)
    f, by_eta, by_mu = excess_flux_slopes(k.c, eta, mu_k, mu_l)
    assert f == pytest.approx(excess_flux(k.c, eta, mu_k, mu_l), rel=1e-14)
    h = 1e-5
    for got, up, down in (
        (by_eta, excess_flux(k.c, eta + h, mu_k, mu_l), excess_flux(k.c, eta - h, mu_k, mu_l)),
        (by_mu, excess_flux(k.c, eta, mu_k, mu_l + h), excess_flux(k.c, eta, mu_k, mu_l - h)),
    ):
        scale = np.abs(up) + np.abs(down) + np.abs(got)
        assert (np.abs(got - (up - down) / (2 * h)) <= 1e-9 * scale / h * 1e-1).all()


def test_weak_gradients_give_the_continuous_flux():
    """-(grad c + z c grad phi + c a^3 grad sum c / (1 - a^3 sum c)) and each of its parts."""
    h, v = 1e-5, 0.4 * C0 / C0.sum()
    a3 = 0.4 / C0.sum()

    def at(x):
        phi = np.array([0.3 + 0.5 * x])
        mu = np.array([0.2 + 0.4 * x, -0.1 + 0.3 * x, 0.5 - 0.7 * x])[:, None]
        return phi, mu, compose(mu, phi, Z, C0, v)

    (phi_k, mu_k, k), (phi_l, mu_l, l), (_, _, m) = at(-h / 2), at(h / 2), at(0)  # noqa: E741
    parts = split_flux(k, l, phi_k - phi_l, Z, mu_k - mu_l, np.zeros((3, 1)))
    grad_c = (l.c - k.c) / h
    expected = (
        -grad_c,
        -Z[:, None] * m.c * 0.5,
        -m.c * a3 * grad_c.sum() / (1 - a3 * m.c.sum()),
    )
    for part, value in zip(parts, expected, strict=True):
        assert part / h == pytest.approx(value, rel=1e-8, abs=1e-9)
