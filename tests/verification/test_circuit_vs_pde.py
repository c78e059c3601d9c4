"""The circuit against the field equations: its parameters, its current, its predictions."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import xarray

from example_case import EXAMPLE
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.discovery.law import LawForm, ResistanceLaw
from nanoslit.errors import CaseError, CircuitError
from nanoslit.results.files import read_case_of, read_summary, read_traces
from nanoslit.study.compare import MODELS, compare, models_of, usable_form
from nanoslit.study.ions import IonMaterial, ion_parameters
from nanoslit.study.parameters import ladder_parameters, read_cell
from run_cases import run

CHANGES = ("--set", "geometry.sheets=4", "--set", "numerics.mesh=coarse", "--snapshots", "none")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return a training run, one at half its rate in a wider window, a faster one."""
    folder = tmp_path_factory.mktemp("cells")
    (folder / "case.toml").write_text(EXAMPLE)
    other = ("--set", "protocol.scan_rate=5e4 V/s", "--set", "protocol.upper=0.25 V")
    fast = ("--set", "protocol.scan_rate=1e6 V/s", "--set", "geometry.sheets=5")
    for name, more in (("train", ()), ("other", other), ("fast", fast)):
        done = run(folder, "run", "case.toml", "-o", f"{name}.h5", *CHANGES, *more)
        assert done.returncode == 0, done.stderr
    return folder / "train.h5", folder / "other.h5", folder / "fast.h5"


def test_ion_traces_add_up(results):
    t = read_traces(results[0])
    for name in ("opening", "mouth"):
        total = t[f"{name}_current"]
        assert t[f"{name}_ion_current"].sum(axis=-1) == pytest.approx(
            total, abs=1e-9 * np.abs(total).max()
        )
    assert t["slit_ion_potential"].mean(axis=-1) == pytest.approx(t["slit_charge_potential"])
    assert t["open_space_ion_potential"].mean(axis=-1) == pytest.approx(
        t["open_space_potential"]
    )


def test_counterions_follow_the_sign_of_the_electrode(results):
    salt = read_case_of(results[0]).electrolyte
    by_ion = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])  # cation, anion
    assert salt.counterion_mean(by_ion, [1.0, -1.0]).tolist() == [[2.0], [3.0]]


def test_charge_follows_the_potential_of_the_counterions(results):
    """The slit holds its equilibrium charge there, while salt lags in the mean potential."""
    counter, mean = (
        ladder_parameters(read_cell(results[0], p)).residuals["length"]
        for p in ("counterion", "electrochemical")
    )
    assert counter < 0.01 < mean


def test_deviation_and_what_each_step_gains(results):
    cell = read_cell(results[0])
    models = models_of(cell, None)
    assert {m.name for m in models} <= set(MODELS)
    for path in results[:2]:  # the second one is a prediction
        found = compare(models, read_cell(path))
        assert found["donnan"].deviation < 0.04
        assert found["donnan"].deviation < 0.3 * found["line"].deviation
        assert found["line"].deviation > 0.1
    own = {k: v.deviation for k, v in compare(models, cell).items()}
    steps = ["donnan", "paper", "paper, mean potential", "paper, constant C"]
    assert sorted(steps, key=own.__getitem__) == steps
    assert own["line refitted"] < own["line"]


def test_a_rail_for_each_ion_holds_at_any_scan_rate(results):
    models = models_of(read_cell(results[0]), None, refitted=False)
    for path in results:
        found = compare(models, read_cell(path))
        assert found["ions"].deviation < 0.025
        assert found["ions"].deviation < found["donnan"].deviation
    assert found["ions"].deviation < 0.2 * found["donnan"].deviation  # salt lags most there


def test_ion_parameters_are_lengths_of_the_geometry(results):
    p = ion_parameters(results[0])
    g = p.case.geometry
    for name, misfit in (
        ("opening, K+", 0.03),
        ("opening, Cl-", 0.02),
        ("length of Cl-", 0.02),
    ):
        assert p.residuals[name] < misfit
    assert p.length == pytest.approx(g.height, rel=0.06)
    assert p.exterior == pytest.approx(0.5 * g.sheet_length, rel=0.1)
    assert p.path == pytest.approx(g.height, rel=0.2)
    assert g.sheet_thickness < p.passage < g.sheet_thickness + g.opening
    assert p.mouth == pytest.approx(p.path, rel=0.2)


def test_ion_circuits_between_slit_sizes(results):
    one = ion_parameters(results[0])
    g = replace(one.case.geometry, slit_size=2e-9)
    wide = replace(one, case=replace(one.case, geometry=g), path=2 * one.path)
    material = IonMaterial([one, wide])
    middle = replace(one.case, geometry=replace(g, slit_size=np.sqrt(1.5 * 2) * 1e-9))
    assert material.circuit(middle).path == pytest.approx(1.5 * one.path)
    assert material.circuit(one.case).path == pytest.approx(one.path)
    # rounding of the interpolation made a length negative that is zero at the widest slit
    third = replace(one, case=replace(one.case, geometry=replace(g, slit_size=2.9e-9)))
    for access in np.geomspace(1e-10, 1e-9, 40):
        runs = [replace(one, access=access), replace(wide, access=0.4 * access)]
        widest = IonMaterial([*runs, replace(third, access=0.0)])
        assert 0 <= widest.circuit(third.case).access < 1e-20
    with pytest.raises(CircuitError, match=r"3 nm; the circuit was trained on 1.5, 2"):
        material.circuit(replace(one.case, geometry=replace(g, slit_size=3e-9)))
    with pytest.raises(CircuitError, match="opening"):
        material.circuit(replace(one.case, geometry=replace(g, opening=2e-9)))
    with pytest.raises(CircuitError, match="half cells"):
        material.circuit(replace(one.case, cell="full"))
    with pytest.raises(CircuitError, match="no training run"):
        IonMaterial([])


def test_predict_a_case(results, tmp_path):
    train, _, fast = results
    done = run(
        tmp_path, "predict", train, "-o", "p.h5", "--set", "protocol.scan_rate=1e6 V/s",
        "--set", "geometry.sheets=5", "--against", fast, "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["against"][str(fast)] < 0.02
    summary = read_summary(fast)
    for key in ("cv_area", "capacitance", "dissipated_energy", "largest_current"):
        assert told["numbers"][key] == pytest.approx(summary[key], rel=0.03), key
    with xarray.open_dataset(tmp_path / "p.h5", group="traces") as found:
        assert found["slit_ion_content"].dims == ("time", "slit", "ion")
        solved = read_traces(fast)
        content = np.asarray(found["slit_ion_content"])[-1]
        assert content == pytest.approx(solved["slit_ion_content"][-1], rel=0.05)
    again = run(tmp_path, "predict", train, "-o", "p.h5")
    assert again.returncode == 2
    assert "--overwrite" in again.stderr


def test_predict_all_points_of_a_plan(results, tmp_path):
    train = results[0]
    text = EXAMPLE.split("[", 1)[1].replace("[", "[case.").replace("[case.[case.", "[[case.")
    (tmp_path / "plan.toml").write_text(
        '[axes]\n"geometry.sheets" = [2, 6]\n"geometry.slit_size" = ["1.5 nm", "1.6 nm"]\n'
        "[case." + text
    )
    done = run(tmp_path, "predict", train, "-o", "p.csv", "--plan", "plan.toml")
    assert done.returncode == 0, done.stderr
    assert "4 points, 2 without a circuit" in done.stdout
    rows = list(csv.DictReader((tmp_path / "p.csv").read_text().splitlines()))
    few, many = (float(r["capacitance/(F/m)"]) for r in (rows[0], rows[2]))
    assert many > 2 * few
    assert "trained on 1.5 nm" in rows[1]["remark"]
    for words in (("-o", "p.h5", "--plan", "plan.toml"),
                  ("-o", "q.h5", "--set", "geometry.slit_size=2 nm")):  # fmt: skip
        wrong = run(tmp_path, "predict", train, *words)
        assert wrong.returncode == 2, words
        assert wrong.stderr.count("\n") <= 3


def test_circuit_of_more_slits_repeats_the_inner_ones(results):
    cell = read_cell(results[0])
    make = next(m.make for m in models_of(cell, None, refitted=False) if m.name == "paper")
    circuit = make(cell)
    assert isinstance(circuit, NanoCircuit)
    assert circuit.n_slits == 4


def test_unknown_potential_is_refused(results):
    with pytest.raises(CaseError, match="potential"):
        read_cell(results[0], "salt")


def test_laws_that_are_singular_without_charge_are_passed_over():
    def form(expression, error):
        return LawForm(expression, {}, error_train=error)

    rational = form("2*I/(1 + X_inner)", 0.3)
    front = [form("2*I*exp(-sqrt(X_inner))", 0.1), form("I/sqrt(X_outer)", 0.2), rational]
    law = ResistanceLaw(form("I + dQdt_inner", 0.05), front=front)
    chosen, remark = usable_form(law)
    assert chosen == rational
    assert rational.expression in remark
