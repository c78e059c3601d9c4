"""Returned currents against SciPy's Radau, and one back end against the other."""

import numpy as np
import pytest

from circuit_reference import deviation, reference
from nanoslit import CyclicVoltammetry, NanoCircuit

CURRENT_ERROR = 1e-4  # of the peak, joined linearly between stored points
WINDOWS = [(0, 1), (-1, 1), (-0.3, 1), (0.4, 1), (-1, 0)]


def random_case(rng, slits):
    n = int(rng.choice(slits))
    theta = 10 ** rng.uniform(-3, 1.5)
    lower, upper = WINDOWS[rng.integers(len(WINDOWS))]
    r_c, c = 5.0, 4e-4
    rate = (upper - lower) * theta / (n * n * r_c * c)
    circuit = NanoCircuit(
        n, r_c, rng.uniform(-0.95, 0.95), c, r_c * 10 ** rng.uniform(-4, 1),
        c * 10 ** rng.uniform(-1.5, 1.5),
        governor=["inner", "outer", "outer_open", "mean"][rng.integers(4)],
        charge=["abs", "signed"][rng.integers(2)], saturation=[None, 0.4, 0.7][rng.integers(3)],
    )  # fmt: skip
    return circuit, CyclicVoltammetry(lower, upper, rate, cycles=1)


def check(seed, slits):
    circuit, protocol = random_case(np.random.default_rng(seed), slits)
    response = circuit.simulate(protocol)
    error = deviation(response, reference(response))
    assert error < CURRENT_ERROR, (seed, error, circuit.options(), circuit._values)


@pytest.mark.parametrize("seed", range(12))
def test_current_of_random_circuits(seed):
    check(seed, [1, 2, 6])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_current_of_many_random_circuits(seed):
    check(seed, [1, 2, 6, 20, 60])


@pytest.mark.slow
@pytest.mark.parametrize("theta", [0.02, 1.0, 20.0])
def test_current_of_a_thousand_slits(theta):
    circuit = NanoCircuit(1000, 1.0, 0.9, 1.0, 0.5, 0.5)
    response = circuit.simulate(CyclicVoltammetry(0, 1, theta / 1e6, cycles=1))
    assert deviation(response, reference(response, rtol=1e-8)) < CURRENT_ERROR


def both(n_slits, lower):
    rng = np.random.default_rng(n_slits)
    circuit = NanoCircuit(
        n_slits, rng.uniform(1, 10, 40), rng.uniform(-0.9, 0.9, 40), 4e-4, 1.0, 4e-4
    )
    protocol = CyclicVoltammetry(lower, 1, 5 / n_slits**2, cycles=2)
    return [circuit.simulate(protocol, backend=b) for b in ("numba", "numpy")]


@pytest.mark.parametrize("n_slits", [1, 6, 30])
def test_both_back_ends_agree(n_slits):
    one, two = both(n_slits, 0.0)
    # stored times follow the square root of the curvature, which turns the rounding of a
    # straight piece into 1e-5 of its length; steps and the curve itself are the same
    assert np.array_equal(one.outcome.steps, two.outcome.steps)
    assert np.allclose(one.time, two.time, atol=1e-4 * one.time.max())
    assert np.allclose(one.outcome.ends, two.outcome.ends, atol=1e-9)
    for k in range(40):
        again = np.interp(one.time[k], two.time[k], two.electrode_current[k])
        error = np.abs(again - one.electrode_current[k]).max()
        assert error < 1e-6 * np.abs(one.electrode_current[k]).max()


def test_both_back_ends_agree_to_tolerance_over_a_kink():
    # rounding decides whether a step just reaches the kink, so the steps may differ
    one, two = both(6, -0.4)
    for k in range(0, 40, 5):
        t = np.linspace(0, one.time[k, -1], 997)
        i, j = (np.interp(t, r.time[k], r.electrode_current[k]) for r in (one, two))
        assert np.abs(i - j).max() < 1e-4 * np.abs(i).max()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_one_circuit_equals_a_member_of_a_batch(backend):
    r_c = np.linspace(1, 10, 37)
    protocol = CyclicVoltammetry(0, 1, 10.0)
    batch = NanoCircuit(6, r_c, 0.9, 4e-4, 1.0, 4e-4).simulate(protocol, backend=backend)
    for k in (0, 17, 36):
        one = NanoCircuit(6, r_c[k], 0.9, 4e-4, 1.0, 4e-4).simulate(protocol, backend=backend)
        assert np.array_equal(one.electrode_current[0], batch.electrode_current[k])
        assert np.array_equal(one.time[0], batch.time[k])


def test_threads_do_not_change_the_result():
    circuit = NanoCircuit(6, np.linspace(1, 10, 100), 0.9, 4e-4, 1.0, 4e-4)
    a, b = (
        circuit.simulate(CyclicVoltammetry(0, 1, 10), backend="numba", threads=t)
        for t in (1, 3)
    )
    assert np.array_equal(a.electrode_current, b.electrode_current)
