"""Charging of a planar cell: linear time constants and the weakly nonlinear RC limit."""

import numpy as np
import pytest

import closed_forms as exact
from nanoslit.electrolyte import Electrolyte
from nanoslit.mpnp.simulation import Simulation
from solver_cases import decay_rates, hold, planar

C0 = 1000.0


@pytest.mark.parametrize(
    ("epsilon", "root"), [(0.1, 9.45649), (0.05, 19.4799), (0.02, 49.4923)]
)
def test_slowest_time_of_the_linear_cell(epsilon, root):
    """Half cell: bulk at the mid-plane, which odd symmetry makes exact at small signal."""
    assert exact.slowest_charging_time(epsilon) == pytest.approx(root, rel=2e-6)
    salt = Electrolyte.symmetric(C0)
    gap = salt.debye_length / epsilon
    with Simulation(planar(hold(1e-6), gap, electrolyte=salt, mesh="standard")) as s:
        rates, modes = decay_rates(s, np.zeros((s.cell.sub.n_owned, 3)), 10)
        unit = s.scales.time
    # salt diffuses more slowly still, but without a potential
    phi = np.abs(modes[:, :, 0]).max(axis=1) / np.abs(modes).max(axis=(1, 2))
    assert 1 / (rates[phi > 1e-3][0] * unit) == pytest.approx(root, rel=1e-3)


def test_slowest_time_from_a_held_step():
    salt = Electrolyte.symmetric(C0)
    epsilon = 0.1
    tau = exact.slowest_charging_time(epsilon) * salt.debye_length**2 / 2e-9
    c = planar(
        hold(1e-5, 8 * tau),
        salt.debye_length / epsilon,
        electrolyte=salt,
        mesh="standard",
        tolerance=1e-6,
        max_step=0.1 * tau,
    )
    with Simulation(c) as s:
        traces = s.run()
    t, i = traces["time"], traces["electrode_current"]
    late = (t > 4 * tau) & (t < 7 * tau)
    slope = -np.polyfit(t[late], np.log(i[late]), 1)[0]
    assert 1 / slope == pytest.approx(tau, rel=1e-3)


def double_layer_charge(v, nu, epsilon, mesh="coarse", tolerance=1e-4):
    """Return times and charge of the ions in front of one electrode after a step.

    Full cell: beyond small signals the mid-plane loses salt. Times in units of Debye
    length times half gap over D, charges in units of the double layer. (The conductor
    carries in addition the charge epsilon v of the empty capacitor, which the RC limit
    leaves out.)
    """
    salt = Electrolyte.symmetric(C0, ion_size=exact.ion_size(nu, C0))
    gap = salt.debye_length / epsilon
    unit = salt.debye_length * gap / 2e-9
    c = planar(
        hold(2 * v * salt.thermal_voltage, 4 * unit),
        gap,
        electrolyte=salt,
        cell="full",
        mesh=mesh,
        tolerance=tolerance,
        max_step=0.1 * unit,
    )
    with Simulation(c) as s:
        traces = s.run()
    scale = salt.debye_capacitance * salt.thermal_voltage
    return traces["time"] / unit, traces["exterior_charge"][:, 0] / scale


def deviation(v, nu, epsilon, **numerics):
    """Largest relative error against the RC limit from t = 0.25 to 4."""
    t, q = double_layer_charge(v, nu, epsilon, **numerics)
    chosen = t >= 0.25
    return np.abs(q[chosen] / exact.rc_charge(v, nu, t[chosen]) - 1).max()


@pytest.mark.parametrize(
    ("v", "nu", "bound", "falls"),
    [
        # the model's own error: of order epsilon at small potential; where the layers take up
        # salt, its depletion reaches sqrt(epsilon) of the gap and is itself of that order
        (0.1, 0.346, 0.01, 0.5),
        (1.0, 0.346, 0.01, 0.5),
        (4.0, 0.346, 0.025, 0.5**0.5),
        (4.0, 0.05, 0.07, 0.5**0.5),
    ],
)
def test_weakly_nonlinear_charging(v, nu, bound, falls):
    accurate = {"mesh": "standard", "tolerance": 1e-5}
    near = deviation(v, nu, 0.02, **accurate)
    assert near <= bound
    if v >= 1:
        assert deviation(v, nu, 0.01, **accurate) / near == pytest.approx(falls, abs=0.03)


@pytest.mark.parametrize(
    ("v", "nu", "charge"), [(1.0, 0.346, 0.6347), (4.0, 0.346, 2.488), (4.0, 0.05, 2.592)]
)
def test_charge_of_an_independent_1d_solution(v, nu, charge):
    """q(t = 1), epsilon = 0.02, of a 1D solution with 100 cells made elsewhere."""
    t, q = double_layer_charge(v, nu, 0.02)
    assert np.interp(1.0, t, q) == pytest.approx(charge, rel=2e-3)


def test_stern_layer_in_the_linear_rc_limit():
    """Stern and Debye capacitance in series; the rest falls with epsilon."""
    salt = Electrolyte.symmetric(C0)
    series = 1 / (1 + 1 / 0.5)

    def error(epsilon):
        gap = salt.debye_length / epsilon
        tau = series * salt.debye_length * gap / 2e-9
        c = planar(
            hold(1e-5, 3 * tau),
            gap,
            electrolyte=salt,
            mesh="standard",
            stern=0.5 * salt.debye_capacitance,
            tolerance=1e-5,
            max_step=0.1 * tau,
        )
        with Simulation(c) as s:
            traces = s.run()
        t = traces["time"] / tau
        q = traces["exterior_charge"] / (1e-5 * series * salt.debye_capacitance)
        return np.abs(q + np.expm1(-t))[t > 0.3].max()

    near, nearer = error(0.01), error(0.005)
    assert nearer < 0.015
    assert nearer / near == pytest.approx(0.5, abs=0.05)
