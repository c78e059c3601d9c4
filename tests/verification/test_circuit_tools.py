"""SPICE round trip, discovered laws, fit, studies, films, commands of circuits."""

import json
import os
import shutil
import subprocess

import h5py
import numpy as np
import pytest
from scipy.integrate import trapezoid

from nanoslit import CyclicVoltammetry, NanoCircuit
from nanoslit.circuit import LadderLaw, observables
from nanoslit.circuit.configuration import Constraint, Objective, Study, Variable
from nanoslit.circuit.explorer import explore, pareto_front
from nanoslit.circuit.film import film_of
from nanoslit.circuit.fit import fit
from nanoslit.circuit.material import CellParameters, MaterialMap
from nanoslit.circuit.measurement import Measurement, read_measurement
from nanoslit.circuit.spice import netlist
from nanoslit.errors import CaseError, CircuitError, LawError

CV = CyclicVoltammetry(0, 1, 10.0, cycles=1)
HAND = {"c_slit": 4e-4, "r_open": 1.0, "c_open": 4e-4}


# --- SPICE ------------------------------------------------------------------------------
def ngspice(text, folder):
    program = shutil.which("ngspice")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("ngspice is not installed (see tests/debian.txt)")
        pytest.skip("ngspice is not installed (Debian package ngspice)")
    (folder / "x.cir").write_text(text)
    subprocess.run([program, "-b", "x.cir"], cwd=folder, check=True, capture_output=True)
    return np.loadtxt(folder / "out.txt", skiprows=1)


@pytest.mark.parametrize(
    "circuit",
    [
        NanoCircuit(6, 5.0, 0.9, **HAND),
        NanoCircuit(4, 5.0, -0.9, **HAND, governor="outer", charge="signed"),
        NanoCircuit(3, 5.0, 0.9, **HAND, governor="mean", saturation=0.6),
        NanoCircuit(
            3, **HAND,
            law=LadderLaw("5*I/(1+3*q_inner**2)", q_max=4e-4, basis="absolute"),
        ),
    ],
)  # fmt: skip
def test_ngspice_agrees_with_the_netlist(circuit, tmp_path):
    protocol = CyclicVoltammetry(-0.5, 1, 15.0, cycles=1)
    rows = ngspice(netlist(circuit, protocol, table="out.txt"), tmp_path)
    r = circuit.simulate(protocol)
    ours = np.interp(rows[:, 0], r.time[0], r.electrode_current[0])
    assert np.abs(ours + rows[:, 2]).max() < 1e-3 * np.abs(ours).max()


# --- laws -------------------------------------------------------------------------------
def current(circuit, **settings):
    return circuit.simulate(CV, **settings).electrode_current[0]


def test_law_with_the_paper_form_is_the_built_in_one():
    by_hand = NanoCircuit(6, 5.0, 0.9, **HAND)
    law = LadderLaw("5.0*I*(1-0.9*q_inner)", q_max=4e-4, basis="absolute")
    assert np.allclose(current(NanoCircuit(6, law=law, **HAND)), current(by_hand), rtol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=pytest.mark.slow)])
def test_generated_law_equals_the_built_in_one(backend):
    by_hand = NanoCircuit(6, 5.0, 0.9, **HAND, governor="mean")
    law = LadderLaw(
        "k*I*(1-0.9*q_mean)", {"k": 5.0}, governor="mean", q_max=4e-4, basis="absolute"
    )
    answer = current(NanoCircuit(6, law=law, **HAND), backend=backend)
    assert np.allclose(answer, current(by_hand), rtol=1e-7, atol=1e-10)


def test_law_that_is_not_proportional_to_the_current():
    # sinh is linear for small arguments
    nearly = LadderLaw("5e3*sinh(I/1e3)*(1-0.9*q_inner)", q_max=4e-4, basis="absolute")
    by_hand = NanoCircuit(6, 5.0, 0.9, **HAND)
    answer = current(NanoCircuit(6, law=nearly, **HAND))
    assert np.allclose(answer, current(by_hand), rtol=1e-6, atol=1e-9)


def test_law_per_depth_needs_a_depth_for_absolute_values():
    law = LadderLaw("5e-3*I*(1-0.9*q_inner)", q_max=0.4, basis="per depth")
    with pytest.raises(CircuitError, match="depth"):
        NanoCircuit(6, law=law, **HAND, basis="absolute").simulate(CV)
    absolute = NanoCircuit(6, law=law, **HAND, basis="absolute", depth=1e-3)
    assert np.allclose(current(absolute), current(NanoCircuit(6, 5.0, 0.9, **HAND)), rtol=1e-9)
    per_depth = NanoCircuit(6, law=law, c_slit=0.4, r_open=1e-3, c_open=0.4)
    assert per_depth.basis == "per depth"
    assert np.allclose(1e-3 * current(per_depth), current(absolute), rtol=1e-9)


def test_law_file_brings_its_conventions(tmp_path):
    from nanoslit.discovery.law import ResistanceLaw

    ResistanceLaw.linear(5e-3, 0.9, governor="outer", charge="signed", q_max=0.4).to_file(
        tmp_path / "LAW.json"
    )
    values = {"c_slit": 0.4, "r_open": 1e-3, "c_open": 0.4}
    circuit = NanoCircuit(6, law=tmp_path / "LAW.json", **values)
    assert (circuit.governor, circuit.charge, circuit.basis) == ("outer", "signed", "per depth")
    same = NanoCircuit(6, 5e-3, 0.9, **values, governor="outer", charge="signed", q_max=0.4)
    assert np.allclose(current(circuit), current(same), rtol=1e-12)
    for option in ({"governor": "inner"}, {"charge": "abs"}, {"q_max": "window"}, {"r_c": 1.0}):
        with pytest.raises(CircuitError, match=next(iter(option))):
            NanoCircuit(6, law=tmp_path / "LAW.json", **values, **option)
    # a wider window: the charge of its training stays, so the resistance must not vanish
    with pytest.raises(CircuitError, match="not positive"):
        circuit.simulate(CyclicVoltammetry(0, 1.2, 10.0))


def test_unusable_laws():
    with pytest.raises(LawError, match="V"):
        LadderLaw("I*V")
    with pytest.raises(LawError, match="q_max"):
        LadderLaw("I*(1-q_inner)")
    with pytest.raises(LawError, match="without current"):
        LadderLaw("I+0.1*q_inner", q_max=1.0)


def test_capacitance_that_depends_on_potential():
    options = {"c_law": "1 + k*u**2", "c_law_constants": {"k": [0.0, 0.5]}}
    r = NanoCircuit(6, 5.0, 0.5, **HAND, **options).simulate(CV, cycle="periodic")
    plain = NanoCircuit(6, 5.0, 0.5, **HAND).simulate(CV, cycle="periodic")
    assert np.allclose(r.electrode_current[0], plain.electrode_current[0], rtol=1e-6, atol=1e-9)
    u = r.nodes[1, :, 1:]
    assert np.allclose(r.slit_charge[1], 4e-4 * (u + 0.5 * u**3 / 3))
    line = NanoCircuit(6, 5.0, 0.0, **HAND, **options).simulate(CV, cycle="periodic")
    a = observables.features(line)["asymmetry"]
    assert a[0] < 1e-4
    assert a[1] > 0.01  # C(u) breaks the symmetry, too
    work = observables.features(r)
    assert np.all(work["dissipated_energy"] > 0)


def test_symmetric_cell_is_two_half_cells():
    half = NanoCircuit(6, 5.0, 0.9, **HAND).simulate(CyclicVoltammetry(0, 0.5, 5.0))
    cell = NanoCircuit(6, 5.0, 0.9, **HAND, cell="symmetric").simulate(
        CyclicVoltammetry(0, 1.0, 10.0)
    )
    assert np.allclose(cell.electrode_current, half.electrode_current)
    assert np.isclose(cell.applied_potential.max(), 1.0)
    with pytest.raises(CircuitError, match="signed"):
        NanoCircuit(6, 5.0, 0.9, **HAND, cell="symmetric", charge="signed")


# --- wrong input ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"c_slit": [4e-4, -1.0]}, "c_slit = -1 of circuit 1"),
        ({"r_c": [5, np.nan]}, "r_c = nan of circuit 1"),
        ({"gamma": [0.5, 1.0]}, "circuit 1"),
        ({"gamma": -1.2}, "circuit 0"),
        ({"r_open": 0.0}, "r_open = 0 of circuit 0"),
        ({"r_c": np.ones((2, 5))}, "6 slits"),
        ({"r_c": [1, 2], "gamma": [0.1, 0.2, 0.3]}, "circuits"),
        ({"governor": "iner"}, "did you mean 'inner'"),
        ({"q_max": -1.0}, "q_max"),
        ({"q_max": 2e-4}, "stay positive"),
        ({"c_slit": "abc"}, "c_slit"),
        ({"c_law": "1 + z*u"}, "z"),
        ({"c_law": "1 - 2*u**2"}, "c_law of circuit 0"),
        ({"n_slits": 0}, "n_slits"),
    ],
)
def test_wrong_circuits(change, words):
    given = {"n_slits": 6, "r_c": 5.0, "gamma": 0.5, **HAND, **change}
    with pytest.raises(CircuitError, match=words):
        NanoCircuit(**given).simulate(CV)


def test_strong_gamma_is_possible_with_saturation():
    r = NanoCircuit(6, 5.0, 0.99, **HAND, saturation=2.0).simulate(CV)
    assert np.all(r.slit_resistance > 0)


# --- fit --------------------------------------------------------------------------------
def noisy(theta, seed, gamma=0.6):
    rng = np.random.default_rng(seed)
    duration = 36 * 5.0 * 4e-4 / theta
    r = NanoCircuit(6, 5.0, gamma, 4e-4, 2.0, 3e-4).simulate(
        CyclicVoltammetry(0, 1, 1 / duration, cycles=2)
    )
    t = np.linspace(0, 4 * duration, 700)
    i = np.interp(t, r.time[0], r.electrode_current[0])
    i = i + 0.01 * np.abs(i).max() * rng.normal(size=i.size)
    return Measurement(t, np.interp(t, r.time[0], r.applied_potential[0]), i, f"theta {theta}")


def test_fit_recovers_the_circuit():
    result = fit([noisy(x, k) for k, x in enumerate((0.1, 0.5, 1.5))], 6)
    assert abs(result.values["gamma"] - 0.6) < 0.05
    assert abs(result.values["r_c"] / 5 - 1) < 0.05
    assert abs(result.values["c_slit"] / 4e-4 - 1) < 0.05
    assert result.intervals["gamma"][1] - result.intervals["gamma"][0] < 0.1
    assert not result.warnings
    assert result.line.misfit > 1.5 * result.misfit
    assert result.evidence > 10


def test_profile_intervals_bound_the_misfit():
    """Fitting the others anew at the end of an interval costs 1.96^2 variances there."""
    data = [noisy(x, k) for k, x in enumerate((0.1, 0.5, 1.5))]
    plain = fit(data, 6, transmission_line=False)
    profile = fit(data, 6, transmission_line=False, profile=True)
    assert profile.values == plain.values
    for name in ("gamma", "r_c", "c_slit"):  # nearly a parabola here
        widths = [np.ptp(r.intervals[name]) for r in (plain, profile)]
        assert 0.8 < widths[1] / widths[0] < 1.25
        assert profile.intervals[name][0] < profile.values[name] < profile.intervals[name][1]


def test_profile_intervals_are_open_where_linearised_ones_are_not():
    data = noisy(0.005, 3)
    result = fit(data, 6, starts=6, iterations=25, transmission_line=False, profile=True)
    low, high = result.intervals["r_c"]
    assert high > 5 * result.values["r_c"] or low < 0.2 * result.values["r_c"]


def test_fit_says_that_the_model_is_wrong():
    """A periodic cycle taken for one from rest."""
    circuit = NanoCircuit(6, 5.0, 0.6, 4e-4, 2.0, 3e-4)
    r = circuit.simulate(CyclicVoltammetry(0, 1, 50.0), cycle="periodic", points=100)
    data = Measurement(r.time[0], r.applied_potential[0], r.electrode_current[0])
    result = fit(data, 6, starts=6, iterations=25, transmission_line=False)
    assert result.misfit > 0.1
    assert "--state periodic" in result.warnings[0]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (2, "0", "zero everywhere"),
        (2, "nan", "no number for current"),
        (0, "1.5", "time does not rise"),
    ],
)
def test_measurements_that_cannot_be_fitted(tmp_path, column, value, message):
    rows = [[str(k), str(0.01 * k), "1e-3"] for k in range(50)]
    for row in rows:
        row[column] = value
    path = tmp_path / "cv.csv"
    path.write_text("time/s,potential/V,current/A\n" + "\n".join(map(",".join, rows)) + "\n")
    with pytest.raises(CaseError, match=message):
        read_measurement(path)
    with pytest.raises(CaseError, match="1 or -1"):
        read_measurement(path, current_sign=3)


def test_fit_says_what_a_slow_scan_cannot_tell():
    result = fit(noisy(0.005, 3), 6, starts=6, iterations=25)
    assert any("r_c is not identified" in text for text in result.warnings)


def test_measurements_are_converted(tmp_path):
    t = np.linspace(0, 2, 101)
    v = 1 - np.abs(1 - t)
    i = np.where(t < 1, 1.0, -1.0)
    rows = "\n".join(f"{a},{1e3 * b},{c}" for a, b, c in zip(t, v, i, strict=True))
    path = tmp_path / "cv.csv"
    path.write_text("t [s],Ewe/mV,I (mA/cm^2)\n" + rows)
    data = read_measurement(path, area=2e-4)
    assert np.allclose(data.potential, v)
    assert np.allclose(data.current, 2e-3 * i)
    assert np.isclose(data.scan_rate, 1.0)
    with pytest.raises(CaseError, match="area"):
        read_measurement(path)
    with pytest.raises(CaseError, match="reverse the sign"):
        read_measurement(path, area=2e-4, current_sign=-1)
    path.write_text("t,E,I\n" + rows)
    with pytest.raises(CaseError, match="unit"):
        read_measurement(path)
    path.write_text("t/s,E/V,I/mA\n0,1,x\n")
    with pytest.raises(CaseError, match="line 2"):
        read_measurement(path)


# --- explorer ---------------------------------------------------------------------------
def study(**changes):
    given = {
        "name": "s", "fixed": {"n_slits": 6},
        "variables": (
            Variable("theta", 0.05, 2.0, "log"), Variable("gamma", -0.9, 0.9),
            Variable("rho", 0.1, 2.0, "log"), Variable("c", 0.1, 2.0, "log"),
        ),
        "lower": 0.0, "upper": 1.0, "scan_rate": None, "cycle": 1, "method": "sobol",
        "samples": 256, "seed": 1,
    }  # fmt: skip
    return Study(**(given | changes))


def test_groups_are_what_they_say():
    result = explore(study())
    k = 17
    values = {n: v[k] for n, v in result.samples.items()}
    rate = values["theta"] / 36
    circuit = NanoCircuit(6, 1.0, values["gamma"], 1.0, values["rho"], values["c"])
    f = observables.features(circuit.simulate(CyclicVoltammetry(0, 1, rate, cycles=1)))
    assert np.isclose(f["relative_area"][0], result.features["relative_area"][k], rtol=1e-3)


def test_sobol_indices_find_what_matters():
    result = explore(study(method="sensitivity", samples=3000, cycle="periodic"))
    row = dict(zip(result.index_features, result.total, strict=True))
    names = [v.name for v in result.study.variables]
    assert names[int(np.argmax(row["relative_area"]))] == "theta"
    assert names[int(np.argmax(row["asymmetry"]))] == "gamma"


def test_search_keeps_the_constraint_and_beats_samples():
    goals = (Objective("relative_area"), Objective("peak_current", "minimize"))
    limit = (Constraint("asymmetry", max=0.2),)
    found = explore(
        study(method="nsga2", samples=600, generations=12, objectives=goals, constraints=limit)
    )
    front = found.pareto
    assert len(front) >= 5
    assert np.all(found.features["asymmetry"][front] <= 0.2)
    drawn = explore(study(samples=512, objectives=goals, constraints=limit))
    best = found.features["relative_area"][front].max()
    assert best >= drawn.features["relative_area"][drawn.pareto].max() - 0.01
    again = explore(
        study(method="nsga2", samples=600, generations=12, objectives=goals, constraints=limit)
    )
    assert np.array_equal(front, again.pareto)


def test_front_of_two_objectives():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 400))
    front = set(pareto_front(a, b).tolist())
    beaten = [np.any((a > x) & (b > y)) for x, y in zip(a, b, strict=True)]
    assert front == {k for k in range(400) if not beaten[k]}


# --- film -------------------------------------------------------------------------------
def test_film_keeps_theta():
    cell = CellParameters(
        1.5e-9, 20e-9, 1e-9, 0.335e-9, 10.5e-9, 6, 2.0, 0.5, 3e-9, 2e-8, 0.76e-6,
        "electrochemical", 15.0, 1000.0, 0.01,
    )  # fmt: skip
    film = film_of(cell, 1e-6, 500e-9)
    assert film.slits == round(1e-6 / 1.835e-9)
    rate = 1e5
    theta_cell = 36 * cell.r_c * cell.c_slit * rate
    theta_film = film.slits**2 * film.r_c * film.c_slit * film.equivalent_rate(rate)
    assert np.isclose(theta_cell, theta_film)
    assert np.isclose(film.cell_rate(film.equivalent_rate(rate)), rate)
    slow, _ = film.capacitance(1e-3 * 0.1 / film.ladder_time, 0.1)
    assert np.isclose(slow[0], film.slits * film.c_slit / film.sheet_mass, rtol=0.01)
    with pytest.raises(CircuitError, match="thinner"):
        film_of(cell, 1e-10, 500e-9)


# --- commands ---------------------------------------------------------------------------
CIRCUIT = """
name = "demo"
cycle = "periodic"
[circuit]
n_slits = 6
r_c = "5 ohm"
gamma = 0.9
c_slit = "0.4 mF"
r_open = "1 ohm"
c_open = "0.4 mF"
[protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "1 V"
scan_rate = "10 V/s"
"""
STUDY = """
[circuit]
n_slits = 6
[protocol]
lower = "0 V"
upper = "1 V"
[sampling]
method = "sensitivity"
samples = 600
[vary.theta]
lower = 0.1
upper = 1.0
[vary.gamma]
lower = 0.0
upper = 0.9
[vary.rho]
lower = 0.1
upper = 1.0
[vary.c]
lower = 0.1
upper = 1.0
"""


def test_circuit_command_and_fit_of_its_output(nanoslit, tmp_path):
    (tmp_path / "c.toml").write_text(CIRCUIT)
    out = nanoslit(
        "circuit", tmp_path / "c.toml", "-o", tmp_path / "cv.h5", "--csv", tmp_path / "cv.csv",
        "--spice", tmp_path / "cv.cir", "--json",
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    features = json.loads(out.stdout)["features"]
    with h5py.File(tmp_path / "cv.h5") as file:
        traces = file["traces"]
        assert traces["slit_charge"].shape == (len(traces["time"]), 6)
        assert traces["opening_current"].shape[1] == 5
        assert traces["electrode_current"].attrs["units"] == "A"
        assert np.isclose(
            trapezoid(traces["electrode_current"][()], traces["applied_potential"][()]),
            features["area"], rtol=1e-3,
        )  # fmt: skip
    assert ".tran" in (tmp_path / "cv.cir").read_text()
    again = nanoslit("circuit", tmp_path / "c.toml", "-o", tmp_path / "cv.h5")
    assert again.returncode == 2
    fitted = nanoslit(
        "fit", tmp_path / "cv.csv", "--slits", 6, "--state", "periodic", "--json",
        "-o", tmp_path / "fit.json",
    )  # fmt: skip
    assert fitted.returncode == 0, fitted.stderr
    values = json.loads(fitted.stdout)["values"]
    assert abs(values["gamma"]["value"] - 0.9) < 0.02
    assert "current: A -> A" in fitted.stderr


def test_impedance_command(nanoslit, tmp_path):
    head, _, _ = CIRCUIT.partition("[protocol]")
    head = head.replace('cycle = "periodic"', "")
    text = (
        head
        + """[protocol]
kind = "impedance"
lowest = "0.1 Hz"
highest = "1 kHz"
bias = "0.5 V"
window = "1 V"
"""
    )
    (tmp_path / "z.toml").write_text(text)
    out = nanoslit(
        "circuit", tmp_path / "z.toml", "-o", tmp_path / "z.h5", "--json",
        "--csv", tmp_path / "z.csv", "--figure", tmp_path / "z.png",
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    circuit = NanoCircuit(6, 5.0, 0.9, 4e-4, 1.0, 4e-4)
    z = circuit.impedance(found["frequency"], 0.5, window=1.0)[0]
    assert len(z) == 41
    assert np.allclose(found["real"], z.real)
    assert np.allclose(found["imag"], z.imag)
    with h5py.File(tmp_path / "z.h5") as file:
        assert np.allclose(file["impedance/real"], z.real)
    (tmp_path / "z.toml").write_text(text.replace('"1 kHz"', '"0.01 Hz"'))
    out = nanoslit("circuit", tmp_path / "z.toml", "-o", tmp_path / "y.h5")
    assert out.returncode == 2
    assert "lowest" in out.stderr


def test_ragone_command(nanoslit, tmp_path):
    """Slow discharges deliver all the energy; its loss grows with the current."""
    head, _, _ = CIRCUIT.partition("[protocol]")
    head = head.replace('cycle = "periodic"', "").replace("gamma = 0.9", "gamma = 0.0")
    text = (
        head
        + """[protocol]
kind = "ragone"
upper = "1 V"
lowest = "1 uA"
highest = "0.1 A"
"""
    )
    (tmp_path / "r.toml").write_text(text)
    out = nanoslit(
        "circuit", tmp_path / "r.toml", "-o", tmp_path / "r.h5", "--json",
        "--csv", tmp_path / "r.csv", "--figure", tmp_path / "r.png",
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    assert found["units"]["power"] == "W"
    energy, power = np.array(found["energy"]), np.array(found["power"])
    assert len(energy) == 51
    assert np.isclose(energy[0], 0.5 * 7 * 4e-4, rtol=1e-3)
    assert np.all(np.diff(energy) < 0)
    assert np.allclose(power * found["time"], energy)
    with h5py.File(tmp_path / "r.h5") as file:
        assert np.allclose(file["ragone/energy"], energy)
        assert file["ragone/energy"].attrs["units"] == "J"
    header = (tmp_path / "r.csv").read_text().splitlines()[0]
    assert header == "current/A,energy/J,power/W,time/s,charge/C"
    (tmp_path / "r.toml").write_text(text.replace('"0.1 A"', '"0.1 uA"'))
    out = nanoslit("circuit", tmp_path / "r.toml", "-o", tmp_path / "y.h5")
    assert out.returncode == 2
    assert "lowest" in out.stderr


def test_explore_command(nanoslit, tmp_path):
    (tmp_path / "s.toml").write_text(STUDY)
    out = nanoslit(
        "explore", tmp_path / "s.toml", "-o", tmp_path / "s.h5", "--json",
        "--figure", tmp_path / "s.png",
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout)["circuits"] == 64 * 6
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["features/asymmetry"].shape == (64 * 6,)
        assert file["sobol/total_order"].shape[1] == 4
    assert (tmp_path / "s.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CIRCUIT.replace('"5 ohm"', "5"), "unit"),
        (CIRCUIT.replace('"5 ohm"', '"5 V"'), "circuit.r_c"),
        (CIRCUIT.replace("gamma", "gama"), "gamma"),
        (CIRCUIT.replace("0.9", "1.5"), "gamma"),
        (CIRCUIT.replace('"0.4 mF"', '"-1 mF"', 1), "circuit.c_slit"),
        (CIRCUIT.replace("n_slits = 6", "n_slits = 0"), "n_slits"),
        (CIRCUIT + "[circiut]\n", "circuit"),
        (CIRCUIT.replace("periodic", "often"), "cycle"),
        (CIRCUIT.replace('r_c = "5 ohm"', 'law = "no.json"\nbasis = "absolute"'), "no.json"),
        ("not toml", "TOML"),
    ],
)
def test_bad_circuit_files(text, words, nanoslit, tmp_path):
    (tmp_path / "c.toml").write_text(text)
    out = nanoslit("circuit", tmp_path / "c.toml", "-o", tmp_path / "cv.h5")
    assert out.returncode == 2, out.stderr
    assert words in out.stderr
    assert "Traceback" not in out.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[vary.c]", "[vary.cc]"), "vary.cc"),
        (('method = "sensitivity"', 'method = "sobl"'), "sobol"),
        (("upper = 0.9", "upper = -0.9"), "below"),
        (("n_slits = 6", 'n_slits = 6\nr_open = "1 ohm"'), "r_open"),
    ],
)
def test_bad_study_files(change, words, nanoslit, tmp_path):
    (tmp_path / "s.toml").write_text(STUDY.replace(*change))
    out = nanoslit("explore", tmp_path / "s.toml", "-o", tmp_path / "s.h5")
    assert out.returncode == 2, out.stderr
    assert words in out.stderr


# --- maps from solved cells -------------------------------------------------------------
def solved(slit_size, concentration, scale=1.0):
    """Return the parameters of a made-up solved cell; R_c falls with size and salt."""
    return CellParameters(
        slit_size, 10e-9, 1e-9, 0.335e-9, 5.5e-9, 4,
        scale * 2e-9 / slit_size * (1000 / concentration), 0.5 + 1e8 * (slit_size - 1.5e-9),
        3e-9, 2e-8, 0.76e-6, "electrochemical", 15.0, concentration, 0.01,
    )  # fmt: skip


def test_material_over_slit_size_and_concentration():
    cells = [solved(d, c) for d in (1.5e-9, 3e-9) for c in (500.0, 1000.0)]
    values = MaterialMap(cells).at([1.5e-9, 3e-9], [500.0, 1000.0])
    assert np.allclose(values["r_c"], [cells[0].r_c, cells[3].r_c])
    assert np.allclose(values["gamma"], [0.5, 0.65])
    with pytest.raises(CircuitError, match="slit_size = 4e-09 of circuit 1"):
        MaterialMap(cells).at([2e-9, 4e-9], [500.0, 500.0])
    with pytest.raises(CircuitError, match="concentration"):
        MaterialMap(cells).at([2e-9])
    with pytest.raises(CircuitError, match="every pair"):
        MaterialMap(cells[:3])
    twice = MaterialMap([solved(d, 1e3, s) for d in (1.5e-9, 3e-9) for s in (0.9, 1.1)])
    assert np.isclose(twice.spread, np.log(1.1 / 0.9))
    assert np.isclose(twice.at(1.5e-9)["r_c"][0], np.sqrt(0.99) * 2 / 1.5)


@pytest.mark.parametrize("basis", ["per depth", "absolute", "per area"])
def test_study_of_a_material_in_any_basis(basis, monkeypatch):
    cells = [solved(d, c) for d in (1.5e-9, 3e-9) for c in (500.0, 1000.0)]
    monkeypatch.setattr("nanoslit.circuit.material.material_of", lambda _: MaterialMap(cells))
    extent = {"per depth": 1.0, "absolute": 1e3, "per area": 5.5e-9}[basis]
    fixed = {
        "n_slits": 4, "r_open": 0.1 * extent, "c_open": 1e-8 / extent, "basis": basis,
        "depth": 1e-3, "saturation": 1.0,
    }  # fmt: skip
    result = explore(
        study(
            fixed=fixed, material=("x",), samples=16, upper=0.2,
            variables=(
                Variable("slit_size", 1.5e-9, 3e-9), Variable("concentration", 500, 1000),
                Variable("scan_rate", 1e5, 1e7, "log"),
            ),
        )
    )  # fmt: skip
    r = MaterialMap(cells).at(
        *(result.samples[k] for k in ("slit_size", "concentration"))
    )  # fmt: skip
    one = NanoCircuit(
        4, r["r_c"], r["gamma"], r["c_slit"], 0.1, 1e-8, q_max=r["q_max"], saturation=1.0,
        basis="per depth",
    )  # fmt: skip
    protocols = [CyclicVoltammetry(0, 0.2, v, cycles=1) for v in result.samples["scan_rate"]]
    expected = observables.features(one.simulate(protocols, points=200))
    assert np.allclose(result.features["asymmetry"], expected["asymmetry"], atol=2e-3)
    assert np.allclose(
        extent * result.features["top_charge"], expected["top_charge"], rtol=2e-3
    )


def test_error_of_a_study_names_its_circuit():
    bad = study(
        fixed={"n_slits": 6, "q_max": 0.5}, samples=64,
        variables=(Variable("theta", 0.1, 1.0), Variable("gamma", 0.0, 0.9),
                   Variable("rho", 0.1, 1.0), Variable("c", 0.1, 1.0)),
    )  # fmt: skip
    with pytest.raises(CircuitError, match=r"circuit \d+ \(with theta = .*gamma = ") as error:
        explore(bad)
    row = int(str(error.value).split("circuit ")[1].split(" ")[0])
    gamma = 0.9 * _gamma_of(bad)[row]
    assert f"gamma = {gamma:.4g}" in str(error.value)


def _gamma_of(plan):
    from scipy.stats import qmc

    return qmc.Sobol(4, rng=plan.seed).random_base2(6)[:, 1]


def test_scale_with_a_law(nanoslit, tmp_path, monkeypatch):
    from nanoslit.cli import circuit as command
    from nanoslit.discovery.law import ResistanceLaw

    cell = solved(1.5e-9, 1000.0)
    monkeypatch.setattr("nanoslit.circuit.material.cell_parameters", lambda *_: cell)
    path = tmp_path / "LAW.json"
    ResistanceLaw.linear(0.3, 0.7, governor="inner", charge="abs", q_max=2e-9).to_file(path)
    found = command._cell(path, tmp_path / "RESULT.h5", None, "electrochemical")
    assert np.isclose(found.r_c, 0.3)
    assert np.isclose(found.gamma, 0.7)
    assert np.isclose(found.q_max, 2e-9)
    assert found.c_slit == cell.c_slit
    words = ("scale", path, "--film-thickness", "1um", "--sheet-length", "1um")
    out = nanoslit(*words)
    assert out.returncode == 2
    assert "--result" in out.stderr
