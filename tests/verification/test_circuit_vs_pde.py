"""The circuit against the field equations: its parameters, its current, its predictions."""

import numpy as np
import pytest

from example_case import EXAMPLE
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.discovery.law import LawForm, ResistanceLaw
from nanoslit.errors import CaseError
from nanoslit.results.files import read_case_of, read_traces
from nanoslit.study.compare import MODELS, compare, models_of, usable_form
from nanoslit.study.parameters import ladder_parameters, read_cell
from run_cases import run

CHANGES = ("--set", "geometry.sheets=4", "--set", "numerics.mesh=coarse", "--snapshots", "none")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Return results of a training run and of one at half the scan rate, wider window."""
    folder = tmp_path_factory.mktemp("cells")
    (folder / "case.toml").write_text(EXAMPLE)
    other = ("--set", "protocol.scan_rate=5e4 V/s", "--set", "protocol.upper=0.25 V")
    for name, more in (("train", ()), ("other", other)):
        done = run(folder, "run", "case.toml", "-o", f"{name}.h5", *CHANGES, *more)
        assert done.returncode == 0, done.stderr
    return folder / "train.h5", folder / "other.h5"


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
    for path in results:  # the second one is a prediction
        found = compare(models, read_cell(path))
        assert found["donnan"].deviation < 0.04
        assert found["donnan"].deviation < 0.3 * found["line"].deviation
        assert found["line"].deviation > 0.1
    own = {k: v.deviation for k, v in compare(models, cell).items()}
    steps = ["donnan", "paper", "paper, mean potential", "paper, constant C"]
    assert sorted(steps, key=own.__getitem__) == steps
    assert own["line refitted"] < own["line"]


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
