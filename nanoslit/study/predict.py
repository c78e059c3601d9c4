"""Cells that were not solved, from ion-resolved circuits of cells that were."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.casefile import case_to_toml, content_key
from nanoslit.circuit.files import new_file, write_data, write_scale
from nanoslit.errors import CircuitError, ConvergenceError
from nanoslit.protocol import CyclicVoltammetry
from nanoslit.results.summary import cv_area, dissipated_energy
from nanoslit.study.compare import deviation
from nanoslit.study.ions import IonMaterial, ion_parameters
from nanoslit.study.parameters import read_cell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.circuit.ions import IonResponse

    Array = NDArray[np.float64]

__all__ = ["NUMBERS", "deviations", "numbers", "predict_all", "train", "write_prediction"]

NUMBERS = {
    "capacitance": ("F/m", "CV area / (2 scan rate window); cyclic voltammetry alone"),
    "cv_area": ("W/m", "integral of I dphi over the last cycle"),
    "dissipated_energy": ("J/m", "integral of phi dQ over the last cycle"),
    "largest_current": ("A/m", "of the last cycle"),
    "largest_charge": ("C/m", "of the last cycle"),
}
"""What is told of a prediction: unit (per metre of depth of the half period), meaning."""

TRACES = {
    "applied_potential": ("V", ("time",)),
    "electrode_current": ("A/m", ("time",)),
    "electrode_charge": ("C/m", ("time",)),
    "slit_charge": ("C/m", ("time", "slit")),
    "slit_ion_content": ("mol/m", ("time", "slit", "ion")),
    "slit_ion_potential": ("V", ("time", "slit", "ion")),
}


def train(paths: Iterable[str | Path]) -> IonMaterial:
    """Return circuits learned from solved half cells, see :func:`ion_parameters`."""
    return IonMaterial([ion_parameters(path) for path in paths])


def deviations(material: IonMaterial, paths: Iterable[str | Path]) -> dict[str, float]:
    """Return how far the circuit is off solved cells: L2 norm over the last cycle [-]."""
    return {str(p): deviation(material.circuit, read_cell(p)) for p in paths}


def numbers(response: IonResponse, case: Case) -> dict[str, float]:
    """Return :data:`NUMBERS` of the last cycle of a prediction."""
    cycle = np.asarray(case.protocol.cycle(response.time * (1 - 1e-12)))
    first = int(np.argmax(cycle == cycle.max()))
    rows = slice(max(first - 1, 0), None)
    time, v = response.time[rows], response.applied_potential[rows]
    q, i = response.electrode_charge[rows], response.electrode_current[rows]
    area = cv_area(time, v, q)
    out = {
        "cv_area": area,
        "dissipated_energy": dissipated_energy(time, v, q, i, case.protocol.breakpoints()),
        "largest_current": float(np.abs(i).max()),
        "largest_charge": float(np.abs(q).max()),
    }
    p = case.protocol
    if isinstance(p, CyclicVoltammetry):
        out["capacitance"] = area / (2 * p.scan_rate * p.window)
    return {k: out[k] for k in NUMBERS if k in out}


def write_prediction(
    path: str | Path, response: IonResponse, case: Case, trained: dict[str, float]
) -> dict[str, float]:
    """Write traces of a prediction, named as those of the solver; return its numbers.

    Parameters
    ----------
    path : path
        Written under a temporary name first.
    response : IonResponse
    case : Case
        The predicted one.
    trained : dict of str to float
        Training runs and the circuit's deviation from them.
    """
    told = numbers(response, case)
    with new_file(path, case.name, "nanoslit-prediction") as file:
        file.attrs["case"] = case_to_toml(case)
        file.attrs["content_key"] = content_key(case)
        file.attrs["trained_on"] = json.dumps(trained)
        for key, value in told.items():
            file.attrs[key] = value
        group = file.create_group("traces")
        write_scale(group, "time", response.time, "s")
        write_scale(group, "slit", np.arange(1, response.circuit.n_slits + 1), "")
        names = [ion.name for ion in case.electrolyte.ions]
        write_scale(group, "ion", np.array(names, dtype="S"), "")
        for key, (unit, dims) in TRACES.items():
            write_data(group, key, getattr(response, key), list(dims), unit, key)
    return told


def predict_all(
    material: IonMaterial, cases: Iterable[Case]
) -> tuple[dict[str, Array], dict[int, str]]:
    """Return :data:`NUMBERS` of many cases, NaN where there is no circuit, and why not."""
    rows: list[dict[str, Any]] = []
    failed: dict[int, str] = {}
    for i, case in enumerate(cases):
        try:
            rows.append(numbers(material.circuit(case).simulate(case.protocol), case))
        except (CircuitError, ConvergenceError) as error:
            rows.append({})
            failed[i] = str(error)
    columns = {k: np.array([row.get(k, np.nan) for row in rows], float) for k in NUMBERS}
    return columns, failed
