"""Exact identities of the ladder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from nanoslit import CyclicVoltammetry, NanoCircuit
from nanoslit.circuit import Galvanostatic, Tolerance, observables
from nanoslit.circuit.rodas import A_MATRIX, C_MATRIX, DENSE_3, GAMMA
from nanoslit.protocol import CallablePotential, PotentialSteps, PotentialTable

FINE = Tolerance(1e-8, 1e-8)
R, C, N = 5.0, 4e-4, 6


def ladder(gamma=0.9, **options):
    return NanoCircuit(N, R, gamma, C, 0.5 * R, 0.5 * C, **options)


def sweep(theta, lower=0.0, upper=1.0, cycles=1):
    return CyclicVoltammetry(lower, upper, (upper - lower) * theta / (N * N * R * C), cycles)


def test_coefficients_have_order_three_consistency():
    # stages of a stiffly accurate method end where the last ones do
    assert np.array_equal(A_MATRIX[5, :4], A_MATRIX[4, :4])
    assert A_MATRIX[5, 4] == 1
    assert np.allclose(np.triu(C_MATRIX), 0)
    assert GAMMA == 0.25
    assert len(DENSE_3) == 5


@given(
    gamma=st.floats(-0.95, 0.95), theta=st.floats(0.01, 10), rho=st.floats(0.01, 5),
    c=st.floats(0.05, 5), window=st.sampled_from([(0, 1), (-1, 1), (-0.3, 1), (0.2, 1)]),
    governor=st.sampled_from(["inner", "outer", "outer_open", "mean"]),
    charge=st.sampled_from(["abs", "signed"]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_discrete_maximum_principle_and_charge(gamma, theta, rho, c, window, governor, charge):
    circuit = NanoCircuit(
        N, R, gamma, C, rho * R, c * C, governor=governor, charge=charge
    )  # fmt: skip
    r = circuit.simulate(sweep(theta, *window, cycles=2), backend="numpy")
    lo, hi = window
    assert r.nodes.min() > lo - 2e-4 * (hi - lo)
    assert r.nodes.max() < hi + 2e-4 * (hi - lo)
    assert np.all(r.slit_resistance > 0)
    assert np.abs(r.electrode_current).max() <= (hi - lo) / (rho * R) * 1.001
    charge_by_current = trapezoid(r.electrode_current[0], r.time[0])
    change = r.electrode_charge[0, -1] - r.electrode_charge[0, 0]
    moved = trapezoid(np.abs(r.electrode_current[0]), r.time[0])
    assert abs(charge_by_current - change) < 2e-4 * moved


def test_area_is_charge_swing_times_rate():
    r = ladder().simulate(sweep(0.6), cycle="periodic", tolerance=FINE, points=3000)
    v, i = r.applied_potential[0], r.electrode_current[0]
    assert np.isclose(observables.features(r)["area"][0], trapezoid(i, v), rtol=1e-5)


def test_energy_balance():
    r = ladder().simulate(sweep(0.6), tolerance=FINE, points=4000)
    heat = 0.5 * R * r.electrode_current[0] ** 2
    heat = heat + (r.slit_inflow[0] ** 2 * r.slit_resistance[0]).sum(axis=1)
    lost = trapezoid(heat, r.time[0])
    stored = observables.stored_energy(r, r.outcome.ends[:, -1])[0]
    assert np.isclose(r.work.sum(), stored + lost, rtol=1e-6)
    f = observables.features(r)
    assert np.isclose(f["dissipated_energy"][0], lost, rtol=1e-6)
    assert np.isclose(
        f["supplied_energy"] - f["delivered_energy"], f["dissipated_energy"] + stored, rtol=1e-5
    )


def test_transmission_line_has_no_asymmetry():
    fine = {"tolerance": FINE, "points": 3000}
    f = observables.features(ladder(0.0).simulate(sweep(1.0), cycle="periodic", **fine))
    assert f["asymmetry"][0] < 1e-6
    first = observables.features(ladder(0.0).simulate(sweep(1.0), tolerance=FINE))
    assert first["asymmetry"][0] > 1e-2  # the cycle from rest is not periodic


def test_absolute_charge_in_a_symmetric_window_has_no_asymmetry():
    r = ladder(0.9).simulate(
        sweep(1.0, -1, 1), cycle="periodic", tolerance=Tolerance(1e-7, 1e-7)
    )
    assert observables.features(r)["asymmetry"][0] < 1e-4
    signed = ladder(0.9, charge="signed").simulate(sweep(1.0, -1, 1), cycle="periodic")
    assert observables.features(signed)["asymmetry"][0] > 0.05


def test_periodic_transmission_line_in_closed_form():
    circuit, protocol = ladder(0.0), sweep(0.8)
    r = circuit.simulate(protocol, cycle="periodic", tolerance=FINE, points=2000)
    k = np.diag([1 / (0.5 * R) + 1 / R] + [2 / R] * (N - 1) + [1 / R])
    k -= np.diag([1 / R] * N, 1) + np.diag([1 / R] * N, -1)
    c = circuit.capacitance[0]
    w, v = np.linalg.eigh(k / np.sqrt(np.outer(c, c)))
    half, rate = 0.5 * protocol.period, protocol.scan_rate
    t = r.time[0][r.time[0] <= half]
    share = v[0] / np.sqrt(c[0]) * (v.T @ np.sqrt(c)) * rate / w
    x = share * (1 - 2 * np.exp(-np.outer(t, w)) / (1 + np.exp(-w * half)))
    current = x.sum(axis=1) / (0.5 * R)
    assert np.abs(r.electrode_current[0, : len(t)] - current).max() < 1e-6 * current.max()


def test_rates_of_a_uniform_ladder():
    # the driven resistor is R, so the open space is the first of N + 1 alike nodes
    times = observables.time_constants(NanoCircuit(N, R, 0.0, C, R, C))[0]
    k, n = np.arange(1, N + 2), N + 1
    rates = 4 / (R * C) * np.sin((2 * k - 1) * np.pi / (2 * (2 * n + 1))) ** 2
    assert np.allclose(1 / times, rates, rtol=1e-12)


def test_slow_sweeps_have_the_predicted_plateaus():
    theta, gamma = 0.01, 0.9
    protocol = sweep(theta)
    r = ladder(gamma).simulate(protocol, cycle="periodic", tolerance=FINE, points=1000)
    total = ladder().total_capacitance[0]
    beyond = (N - np.arange(1, N + 1) + 1) * C
    s = np.sum((beyond / total) ** 2)
    e = gamma * protocol.scan_rate * total * R * s
    cycle = observables.last_cycle(r)
    half = 0.5 * protocol.period
    up = np.interp(half / 2, cycle.time_up[0], cycle.current_up[0])
    down = np.interp(half / 2, cycle.time_down[0], cycle.current_down[0])
    assert np.isclose((up + down) / (2 * protocol.scan_rate * total), e, rtol=0.02)


@pytest.mark.parametrize("bias", [0.0, 0.6])
def test_impedance_of_the_ladder(bias):
    circuit = ladder(0.9)
    f = np.logspace(-2, 5, 40)
    z = circuit.impedance(f, bias, window=1.0)[0]
    r_k = R * (1 - 0.9 * bias)
    w = 2 * np.pi * f
    k = np.diag([1 / (0.5 * R) + 1 / r_k] + [2 / r_k] * (N - 1) + [1 / r_k])
    k -= np.diag([1 / r_k] * N, 1) + np.diag([1 / r_k] * N, -1)
    cap = np.diag(circuit.capacitance[0])
    u0 = [np.linalg.solve(k + 1j * x * cap, np.eye(N + 1)[0] / (0.5 * R))[0] for x in w]
    exact = 0.5 * R / (1 - np.array(u0))
    assert np.abs(z / exact - 1).max() < 1e-10
    assert np.isclose(z[-1].real, 0.5 * R, rtol=1e-3)


def test_impedance_agrees_with_a_small_sine():
    circuit, f = ladder(0.9, q_max=C), 20.0
    drive = CallablePotential(
        lambda t: 0.5 + 1e-3 * np.sin(2 * np.pi * f * np.asarray(t)), (0.0, 40 / f)
    )
    r = circuit.simulate(drive, tolerance=FINE, points=100)
    last = r.time[0] > 39 / f
    t, i = r.time[0][last], r.electrode_current[0][last]
    answer = trapezoid(i * np.exp(-2j * np.pi * f * t), t) * 2 * f
    z = 1e-3 / 1j / answer
    assert np.isclose(z, circuit.impedance([f], 0.5)[0, 0], rtol=1e-3)


def test_line_of_many_slits_is_the_porous_electrode():
    n, f = 2000, np.array([0.05, 0.5, 5.0])
    z = NanoCircuit(n, 1 / n, 0.0, 1 / n, 1e-6, 1e-9).impedance(f)[0]
    x = np.sqrt(2j * np.pi * f)
    assert np.allclose(z, 1 / (np.tanh(x) * x), rtol=2e-3)


def test_constant_current():
    circuit, current = NanoCircuit(N, R, 0.9, C, 0.5 * R, 0.5 * C, q_max=C), 1e-2
    r = circuit.simulate(Galvanostatic(current, 0.0, 1.0, cycles=2), tolerance=FINE)
    drop = 0.5 * R * current
    v = r.applied_potential[0]
    assert np.isclose(v[0], drop)
    ends = np.flatnonzero(np.diff(r.time[0]) == 0)
    assert np.allclose(v[ends], [1, 0, 1], atol=1e-6)
    assert np.allclose(np.abs(v[ends + 1] - v[ends]), 2 * drop, rtol=1e-6)
    charge = r.electrode_charge[0]
    assert np.allclose(charge[: ends[0]], current * r.time[0][: ends[0]], atol=1e-6 * C)


def test_energy_of_one_capacitor_at_constant_current():
    # all in one node: a huge C_open and a tiny slit
    c, r_open, i = 1.0, 2.0, np.array([0.05, 0.2])
    circuit = NanoCircuit(1, 1.0, 0.0, 1e-9, r_open, c)
    e = observables.ragone(circuit, i, upper=1.0, lower=0.1)["energy"][0]
    assert np.allclose(e, 0.5 * c * ((1 - i * r_open) ** 2 - 0.1**2), rtol=1e-5)
    nothing = observables.ragone(circuit, [10.0], upper=1.0)
    assert nothing["energy"][0, 0] == 0


def test_scaling_leaves_potentials_unchanged():
    a, b = 3.0, 7.0
    one = ladder().simulate(sweep(0.5))
    other = NanoCircuit(N, a * R, 0.9, b * C, a * 0.5 * R, b * 0.5 * C).simulate(
        CyclicVoltammetry(0, 1, sweep(0.5).scan_rate / (a * b), cycles=1)
    )
    assert np.allclose(one.nodes, other.nodes, atol=1e-9)
    assert np.allclose(
        one.electrode_current, a * other.electrode_current, rtol=1e-7, atol=1e-12
    )


def test_table_equals_triangle():
    protocol = sweep(0.7, cycles=2)
    t = protocol.breakpoints()
    table = PotentialTable(tuple(t), tuple(protocol(t)))
    a, b = ladder().simulate(protocol), ladder().simulate(table)
    assert np.allclose(a.electrode_current, b.electrode_current, rtol=1e-9, atol=1e-12)


def test_step_charges_fully():
    r = ladder().simulate(PotentialSteps((1.0, 0.0), (2.0, 2.0)))
    assert np.isclose(r.electrode_current[0, 0], 1 / (0.5 * R))
    assert np.allclose(r.outcome.ends[0, 0], 1.0, atol=1e-4)
    assert np.allclose(r.outcome.ends[0, 1], 0.0, atol=1e-4)


def test_half_sweep_start_inside_the_window():
    whole = ladder().simulate(CyclicVoltammetry(-0.5, 0.5, 5.0, cycles=3, start=0.0))
    assert whole.applied_potential[0, 0] == 0
    assert np.isclose(whole.applied_potential[0, -1], 0, atol=1e-12)
    second = ladder().simulate(CyclicVoltammetry(-0.5, 0.5, 5.0, cycles=3, start=0.0), cycle=2)
    peak = np.abs(whole.electrode_current).max()
    t = whole.time[0][whole.cycle == 2] - 0.4
    i = whole.electrode_current[0][whole.cycle == 2]
    assert (
        np.abs(np.interp(t, second.time[0], second.electrode_current[0]) - i).max()
        < 2e-4 * peak
    )


@pytest.mark.parametrize(
    ("theta", "expected"),
    [
        (0.3, {"asymmetry": (0.140, 0, 0.124, 0.252),
               "relative_area": (0.622, 0.714, 0.774, 0.830),
               "corner": (0.91, 1.00, 1.06, 1.13), "contrast": (1.10, 1.09, 1.09, 1.09),
               "relative_top_charge": (0.795, 0.857, 0.903, 0.950)}),
        (1.0, {"asymmetry": (0.088, 0, 0.114, 0.311),
               "relative_area": (0.245, 0.308, 0.376, 0.468),
               "corner": (0.61, 0.76, 0.91, 1.17), "contrast": (1.84, 1.88, 1.95, 2.15),
               "relative_top_charge": (0.611, 0.654, 0.698, 0.759)}),
    ],
)  # fmt: skip
def test_shapes_against_independent_values(theta, expected):
    f = observables.features(
        ladder([-0.9, 0, 0.5, 0.9]).simulate(sweep(theta), cycle="periodic")
    )
    for key, values in expected.items():
        assert np.allclose(
            f[key], values, atol=7e-3 if key in ("corner", "contrast") else 2e-3
        ), key


def test_saturation_makes_a_hump_and_nothing_else_does():
    f = observables.features(
        ladder(0.9, saturation=[0.9, 0.7, 0.4]).simulate(sweep(0.6), cycle="periodic")
    )
    assert np.allclose(f["peak_potential"], [0.99, 0.79, 0.51], atol=0.01)
    assert np.allclose(f["peak_prominence"], [0.01, 0.34, 0.35], atol=0.01)
    plain = ladder([-0.9, 0, 0.5, 0.9]).simulate(sweep(0.6), cycle="periodic")
    assert np.isnan(observables.features(plain)["peak_potential"]).all()


@pytest.mark.parametrize(
    ("governor", "area", "corner"),
    [("inner", 0.468, 1.17), ("outer", 0.375, 0.93), ("outer_open", 0.472, 1.19),
     ("mean", 0.469, 1.17)],
)  # fmt: skip
def test_governors_against_independent_values(governor, area, corner):
    r = ladder(0.9, governor=governor).simulate(sweep(1.0), cycle="periodic")
    f = observables.features(r)
    assert np.isclose(f["relative_area"][0], area, atol=1e-3)
    assert np.isclose(f["corner"][0], corner, atol=6e-3)


def test_largest_charge_of_the_cycle():
    r = ladder(0.9, q_max="cycle").simulate(sweep(0.6), cycle="periodic")
    assert np.allclose(np.abs(r.slit_charge[0]).max(axis=0), r.q_max[0], rtol=1e-4)
    window = ladder(0.9).simulate(sweep(0.6), cycle="periodic")
    ratio = observables.features(r)["corner"] / observables.features(window)["corner"]
    assert np.isclose(ratio[0], 1.05, atol=0.01)
