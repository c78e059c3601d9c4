"""Numbers of a run are those planted in its traces; mesh errors are those of the README."""

import re
from pathlib import Path

import numpy as np
import pytest

from example_case import EXAMPLE
from nanoslit.casefile import case_from_toml
from nanoslit.findings.runs import MESH_ERRORS, Run, laws_of, numbers_of

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
R_C, GAMMA, SLITS, N = 0.3, 0.6, 3, 801


def planted(lead=0.0, shift=1.0, path="none.h5"):
    """One cycle whose openings obey the paper's law; slit k holds k times the charge."""
    t = np.linspace(0.0, 4e-6, N)
    applied = 0.2 * (1 - np.abs(t / 2e-6 - 1))
    charge = 1e-9 * (applied / 0.2)[:, None] * np.arange(1, SLITS + 1)
    current = np.where(t <= 2e-6, 0.01, -0.01)
    opening = current[:, None] * np.ones(SLITS - 1)
    q = charge[:, 1:] / charge[:, 1:].max(axis=0)
    voltage = opening * R_C * (1 - GAMMA * q)
    w = np.full(N, 1.0)
    w[[0, -1]] = 0.5
    part = {"migration": opening * 0.6, "diffusion": opening * 0.4 * shift,
            "steric": opening * 0.01}  # fmt: skip
    parts = {p: {k: v.copy() for k, v in part.items()} for p in ("opening", "open space")}
    parts["slit"] = {k: np.concatenate([v, v[:, :1]], 1) for k, v in part.items()}
    parts["mouth"] = {k: v[:, :1] for k, v in part.items()}
    return Run(
        path=Path(path), case=case_from_toml(EXAMPLE), mesh="standard", time=t,
        weight=w / w.sum(),
        applied=applied, current=current + lead * applied, rising=np.gradient(applied) > 0,
        slit_charge=charge, slit_potential=0.0 * charge,
        charge_potential=applied[:, None] - charge / 5e-8, opening_current=opening,
        voltage={"electrochemical": voltage, "mid": voltage}, parts=parts,
        distances=np.array([1e-9, 2e-9]),
    )  # fmt: skip


@pytest.fixture
def numbers(monkeypatch):
    monkeypatch.setattr("nanoslit.findings.runs._surface", lambda _: {})
    return lambda **options: numbers_of(planted(**options))


def test_planted_law_is_found():
    laws = laws_of(planted(), "mid")
    assert laws.r_c == pytest.approx(R_C, rel=1e-9)
    assert laws.gamma == pytest.approx(GAMMA, rel=1e-9)
    assert laws.misfit == pytest.approx(0, abs=1e-9)
    assert laws.gamma_halves == pytest.approx(GAMMA, rel=1e-9)
    assert laws.r_max == pytest.approx(R_C, rel=1e-9)
    assert laws.r_min == pytest.approx(R_C * (1 - GAMMA), rel=1e-2)
    assert laws.r_max_phase == pytest.approx(0, abs=0.01)


def test_errors_are_those_of_the_mesh_if_the_law_is_exact(numbers):
    found = numbers()
    r_c = found["r_c:mid"]
    assert r_c.error == pytest.approx(MESH_ERRORS["standard"]["r_c"] * R_C, rel=1e-6)
    assert r_c.common == pytest.approx(0, abs=1e-9)
    assert found["spread_gamma:mid"].value == pytest.approx(0, abs=1e-9)


def test_capacitance_signs_and_asymmetry(numbers):
    found = numbers()
    assert found["c_slit"].value == pytest.approx(5e-8, rel=1e-9)
    assert found["c_time"].value == pytest.approx(0, abs=1e-9)
    assert found["same:slit 1:migration:diffusion"].value == pytest.approx(1)
    assert numbers(shift=-1.0)["same:slit 1:migration:diffusion"].value == 0.0
    assert found["asymmetry"].value == pytest.approx(0, abs=2e-2)  # the jump at the vertex
    # I = 0.01 + 0.05 V up, -0.01 + 0.05 V down: the means are 0.005 and 0.015
    assert numbers(lead=0.05)["asymmetry"].value == pytest.approx(2 / 3, abs=0.02)


def test_a_part_that_is_noise_has_no_sign(numbers):
    found = numbers(shift=1e-4)
    assert "same:slit 1:migration:diffusion" not in found


@pytest.mark.parametrize("preset", MESH_ERRORS)
def test_mesh_errors_are_those_of_the_readme(preset):
    row = re.search(rf"^\| {preset} \|(.*)\|$", README, re.MULTILINE)
    assert row
    said = [float(word.strip(" %")) / 100 for word in row[1].split("|")]
    assert said == pytest.approx(list(MESH_ERRORS[preset].values()))
