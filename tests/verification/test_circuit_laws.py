"""Slit capacitances C(u), laws and the mouth's own law, in every combination."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from nanoslit import CyclicVoltammetry, NanoCircuit
from nanoslit.circuit import LadderLaw
from nanoslit.circuit.capacitance import CapacitanceTable
from nanoslit.circuit.configuration import read_circuit
from nanoslit.errors import CircuitError

N = 4
VALUES = {"c_slit": 4e-4, "r_open": 1.0, "c_open": 4e-4}
SWEEP = CyclicVoltammetry(-0.4, 1.0, 20.0, cycles=1)
TABLE = {"potential": [-0.5, -0.2, 0.0, 0.4, 0.8, 1.1], "factor": [1.3, 1.1, 1, 1.2, 1.9, 1.5]}

CAPACITANCES = {
    "polynomial": {
        "c_law": "1 + k*u + 0.6*u**2",
        "c_law_constants": {"k": [[0, 0.1, 0.2, 0.3]]},
    },
    "table": {"c_law": TABLE},
    "constant": {},
}
LAWS = {
    "linear": {
        "r_c": 5.0, "gamma": [[0.3, 0.5, 0.6, 0.7]], "governor": "mean", "q_max": 1.2e-3
    },
    "even": {
        "law": LadderLaw(
            "r*I/(1 + a*X_inner**2)", {"r": [[5.0, 4.0, 6.0, 5.0]], "a": 2.0},
            bulk_charge=4e-4, basis="absolute",
        )
    },
    "signed": {
        "law": LadderLaw(
            "r*I*exp(-0.8*q_outer)", {"r": 5.0}, "outer", "signed", basis="absolute",
            q_max=[[4e-4, 5e-4, 6e-4, 7e-4]],
        )
    },
}  # fmt: skip
MOUTHS = {
    "own numbers": {"r_mouth": 8.0, "gamma_mouth": 0.2},
    "own law": {
        "mouth_law": LadderLaw(
            "r*I/(1 + b*q_inner)", {"r": 9.0, "b": 1.5}, q_max=5e-4, basis="absolute"
        )
    },
    "none": {},
}


def slit_charge(which, u, k):
    """Return the charge of slit k (from 0) written down once more."""
    if which == "polynomial":
        return 4e-4 * (u + 0.1 * k * u**2 / 2 + 0.6 * u**3 / 3)
    if which == "table":
        from scipy.interpolate import PchipInterpolator

        integral = PchipInterpolator(TABLE["potential"], TABLE["factor"]).antiderivative()
        return 4e-4 * (integral(u) - integral(0.0))
    return 4e-4 * u


def resistance(law, mouth, q, k):
    """Return resistor k (from 0) for the charges q of all slits, written down once more."""
    before = 0.0 if k == 0 else q[k - 1]
    scale = 4e-4 + 1e-4 * k
    if k == 0 and mouth == "own law":
        return 9.0 / (1 + 1.5 * abs(q[0]) / 5e-4)
    if k == 0 and mouth == "own numbers":
        s = {
            "linear": abs(q[0]) / 1.2e-3,
            "even": abs(q[0]) / 4e-4,
            "signed": 0.0,
        }[law]
        return 8.0 * (1 - 0.2 * s)
    if law == "linear":
        s = abs(q[0]) if k == 0 else abs(0.5 * (before + q[k]))
        return 5.0 * (1 - (0.3, 0.5, 0.6, 0.7)[k] * s / 1.2e-3)
    if law == "even":
        return (5.0, 4.0, 6.0, 5.0)[k] / (1 + 2 * (q[k] / 4e-4) ** 2)
    return 5.0 * np.exp(-0.8 * before / scale)


def independent_current(which, law, mouth, time, slope):
    """Return the current of the same circuit by SciPy, with charges as unknowns."""
    grid = np.linspace(-0.5, 1.1, 4001)
    tables = [slit_charge(which, grid, k) for k in range(N)]

    def rate(t, y):
        v = -0.4 + slope * t if t < 0.07 else 1.0 - slope * (t - 0.07)
        q = y[1:]
        u = np.array([y[0] / 4e-4, *(np.interp(q[k], tables[k], grid) for k in range(N))])
        flow = np.zeros(N + 2)
        flow[0] = v - u[0]
        for k in range(N):
            flow[k + 1] = (u[k] - u[k + 1]) / resistance(law, mouth, q, k)
        return flow[:-1] - flow[1:]

    start = np.array([4e-4 * -0.4, *(slit_charge(which, -0.4, k) for k in range(N))])
    current = np.empty_like(time)
    for begin, end in ((0.0, 0.07), (0.07, 0.14)):
        part = (time >= begin) & (time <= end)
        s = solve_ivp(rate, (begin, end), start, "LSODA", np.sort(time[part]), rtol=1e-8,
                      atol=1e-13, max_step=1e-3)  # fmt: skip
        v = np.where(s.t < 0.07, -0.4 + slope * s.t, 1.0 - slope * (s.t - 0.07))
        current[part] = v - s.y[0] / 4e-4
        start = s.y[:, -1]
    return current


ALL = [(c, law, m) for c in CAPACITANCES for law in LAWS for m in MOUTHS]
# every pair of choices at least once
PAIRS = [
    (c, law, list(MOUTHS)[(i + k) % 3])
    for i, c in enumerate(CAPACITANCES)
    for k, law in enumerate(LAWS)
]
REST = [pytest.param(*x, marks=pytest.mark.slow) for x in ALL if x not in PAIRS]


@pytest.mark.parametrize(("which", "law", "mouth"), PAIRS + REST)
def test_every_combination_against_scipy(which, law, mouth):
    circuit = NanoCircuit(N, **VALUES, **CAPACITANCES[which], **LAWS[law], **MOUTHS[mouth])
    r = circuit.simulate(SWEEP, backend="numpy")
    time = r.time[0][::25]
    expected = independent_current(which, law, mouth, time, 20.0)
    peak = np.abs(expected).max()
    assert np.abs(r.electrode_current[0][::25] - expected).max() < 2e-4 * peak
    charge = [slit_charge(which, r.nodes[0, :, k + 1], k) for k in range(N)]
    assert np.allclose(r.slit_charge[0], np.stack(charge, axis=1), rtol=1e-9, atol=1e-12)


@pytest.mark.slow  # each compiles a kernel
@pytest.mark.parametrize(
    ("which", "law", "mouth"),
    [("polynomial", "linear", "own law"), ("table", "even", "own numbers"),
     ("constant", "signed", "own law"), ("polynomial", "signed", "own numbers")],
)  # fmt: skip
def test_compiled_kernel_agrees(which, law, mouth):
    circuit = NanoCircuit(N, **VALUES, **CAPACITANCES[which], **LAWS[law], **MOUTHS[mouth])
    one, two = (circuit.simulate(SWEEP, backend=b) for b in ("numpy", "numba"))
    i = np.interp(one.time[0], two.time[0], two.electrode_current[0])
    error = np.abs(i - one.electrode_current[0]).max()
    assert error < 1e-4 * np.abs(i).max()
    assert np.allclose(one.outcome.ends, two.outcome.ends, atol=2e-5)


def test_compiled_table_and_mouth_agree():
    circuit = NanoCircuit(
        N, **VALUES, **CAPACITANCES["table"], **LAWS["signed"], **MOUTHS["own law"]
    )
    one, two = (circuit.simulate(SWEEP, backend=b) for b in ("numpy", "numba"))
    assert np.array_equal(one.outcome.steps, two.outcome.steps)
    assert np.allclose(one.outcome.ends, two.outcome.ends, atol=1e-9)
    # the built-in kernel, loaded or compiled after a generated one, is still itself
    plain = NanoCircuit(N, 5.0, 0.5, **VALUES, q_max=4e-4)
    one, two = (plain.simulate(SWEEP, backend=b) for b in ("numpy", "numba"))
    assert np.allclose(one.outcome.ends, two.outcome.ends, atol=1e-9)


def test_table_of_equal_factors_is_a_constant_capacitance():
    flat = NanoCircuit(N, 5.0, 0.5, **VALUES, c_law={"potential": [-1, 2], "factor": [1, 1]})
    plain = NanoCircuit(N, 5.0, 0.5, **VALUES)
    a, b = (c.simulate(SWEEP, backend="numpy").outcome.ends for c in (flat, plain))
    assert np.allclose(a, b, atol=1e-6)
    bent = CapacitanceTable((-1.0, 0.0, 1.0), (1.0, 2.0, 4.0))
    u = np.linspace(-1, 1, 2001)
    f = bent.functions()
    assert np.allclose(np.gradient(f["table_charge"](u), u)[1:-1], f["table_factor"](u)[1:-1],
                       rtol=1e-4)  # fmt: skip
    assert np.allclose(np.gradient(f["table_factor"](u), u)[2:-2], f["table_slope"](u)[2:-2],
                       atol=2e-2)  # fmt: skip
    assert f["table_charge"](0.0) == 0


def test_potentials_that_are_not_reached_do_not_matter():
    falling = {"c_law": "1 + 1.5*u"}  # not positive below -0.67 V
    circuit = NanoCircuit(N, 5.0, 0.5, **VALUES, **falling)
    circuit.simulate(CyclicVoltammetry(0, 1, 20.0))
    with pytest.raises(CircuitError, match="c_law of circuit 0"):
        circuit.simulate(CyclicVoltammetry(-1, 1, 20.0))


def test_charges_given_as_arrays_work_everywhere():
    circuit = NanoCircuit(N, 5.0, 0.5, **VALUES, q_max=[[4e-4, 5e-4, 6e-4, 7e-4]])
    assert circuit.options()["q_max"] == "given"
    z = circuit.impedance([1.0, 10.0], 0.3)
    assert z.shape == (1, 2)
    from nanoslit.circuit.spice import netlist

    text = netlist(circuit, SWEEP)
    # slope of s with potential: C_slit/Q_max of each slit
    assert all(f"{4e-4 / q:.6g}"[:6] in text for q in (4e-4, 5e-4, 6e-4, 7e-4))
    r = circuit.simulate(SWEEP)
    assert np.allclose(r.q_max, [[4e-4, 5e-4, 6e-4, 7e-4]])
    one_for_each = NanoCircuit(N, 5.0, 0.5, **VALUES, q_max=[4e-4, 8e-4])
    assert one_for_each.impedance([1.0], 0.3).shape == (2, 1)
    assert netlist(one_for_each, SWEEP, index=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c_law": {"potential": [0, 0.5], "factor": [1, 1]}}, "circuit 0 from -0.4 to 1"),
        ({"c_law": {"potential": [0.1, 0.5], "factor": [1, 1]}}, "include 0 V"),
        ({"c_law": {"potential": [0, 1], "factor": [1, -1]}}, "factor 1"),
        ({"c_law": {"potential": [0, 1]}}, "potential"),
        ({"c_law": {"potential": [1, 0], "factor": [1, 1]}}, "rise"),
        ({"c_law": 3.0}, "expression"),
        ({"c_law": TABLE, "c_law_constants": {"k": 1.0}}, "c_law_constants"),
        ({**MOUTHS["own law"], "r_mouth": 1.0}, "not both"),
        ({**MOUTHS["own law"], "access": "constant"}, "access"),
        ({"mouth_law": LadderLaw("I*(1-3*q_inner)", q_max=4e-4, basis="absolute")},
         "circuit 0, slit 1"),
    ],
)  # fmt: skip
def test_impossible_combinations(change, words):
    with pytest.raises(CircuitError, match=words):
        NanoCircuit(N, 5.0, 0.5, **VALUES, **change).simulate(SWEEP)


FILE = """
[circuit]
n_slits = 4
c_slit = "0.4 mF"
r_open = "1 ohm"
c_open = "0.4 mF"
CAPACITANCE
[circuit.law]
expression = "r*I*exp(-0.8*q_outer)"
constants = { r = [5.0, 5.0, 5.0, 5.0] }
governor = "outer"
charge = "signed"
q_max = ["0.4 mC", "0.5 mC", "0.6 mC", "0.7 mC"]
[circuit.mouth_law]
expression = "r*I/(1 + b*q_inner)"
constants = { r = 9.0, b = 1.5 }
q_max = "0.5 mC"
[protocol]
kind = "cyclic-voltammetry"
lower = "-0.4 V"
upper = "1 V"
scan_rate = "20 V/s"
cycles = 1
"""
TEXT = {
    "polynomial": 'c_law = "1 + k*u + 0.6*u**2"\nc_law_constants = { k = [0, 0.1, 0.2, 0.3] }',
    "table": "c_law.potential = [" + ", ".join(f'"{u} V"' for u in TABLE["potential"])
    + f"]\nc_law.factor = {TABLE['factor']}",
    "constant": "",
}  # fmt: skip


@pytest.mark.parametrize("which", CAPACITANCES)
def test_a_file_says_the_same(which, tmp_path):
    (tmp_path / "c.toml").write_text(FILE.replace("CAPACITANCE", TEXT[which]))
    plan = read_circuit(tmp_path / "c.toml")
    here = NanoCircuit(
        N, **VALUES, **CAPACITANCES[which], **LAWS["signed"], **MOUTHS["own law"]
    )
    a = plan.circuit.simulate(plan.protocol).electrode_current
    assert np.allclose(a, here.simulate(SWEEP).electrode_current, rtol=1e-9, atol=1e-15)
