"""What a study computes from results and law: circuits, deviations, design space."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit import atomic
from nanoslit.discovery.law import ResistanceLaw
from nanoslit.errors import CaseError
from nanoslit.study.compare import MODELS, compare, models_of, usable_form
from nanoslit.study.parameters import Cell, ladder_parameters, read_cell

__all__ = ["evaluate", "explore_slit_sizes"]


def evaluate(results: list[Path], law_path: Path, target: Path) -> None:
    """Compare circuits with all cells and write parameters, currents and deviations."""
    law = ResistanceLaw.from_file(law_path)
    form, remark = usable_form(law)
    cells = [_cell_entry(read_cell(path), law) for path in results]
    cells.sort(key=lambda c: c["slit_size"])
    fronts = [_form(f) for f in law.front]
    rivals = {k: _form(f) for k, f in law.baselines.items()}
    text = {
        "law": law.best.expression, "verdict": law.extra.get("verdict", ""),
        "circuit_law": form.expression, "remark": remark, "governor": law.governor,
        "evaluations": law.evaluations, "seed": law.seed, "front": fronts,
        "baselines": rivals, "models": MODELS, "cells": cells,
    }  # fmt: skip
    atomic.write_text(target, json.dumps(text, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


def _form(form: Any) -> dict[str, Any]:
    return {
        "expression": form.expression, "complexity": form.complexity,
        "error_train": form.error_train, "error_test": form.error_test,
    }  # fmt: skip


def _cell_entry(cell: Cell, law: ResistanceLaw) -> dict[str, Any]:
    p = ladder_parameters(cell)
    outcomes = compare(models_of(cell, law), cell)
    g: Any = cell.case.geometry
    return {
        "file": cell.path.name, "slit_size": g.slit_size, "sheets": g.sheets,
        "scan_rate": getattr(cell.case.protocol, "scan_rate", None),
        "window": cell.case.protocol.bounds, "parameters": asdict(p),
        "constants": _constants(cell, law), "curves": _curves(cell),
        "outcomes": {k: asdict(v) for k, v in outcomes.items()},
    }  # fmt: skip


def _constants(cell: Cell, law: ResistanceLaw) -> list[dict[str, float]]:
    names = [f"{cell.path.stem}:{k}" for k in range(1, cell.slits)]
    return [usable_form(law)[0].values(n if usable_form(law)[0].cases else None) for n in names]


def _curves(cell: Cell) -> dict[str, Any]:
    """Return what the report draws of the last cycle."""
    from nanoslit.results.files import read_traces

    t = read_traces(cell.path)
    rows = t.in_cycle()
    parts = {
        f"{name} {part}": _one(t[f"{name}_{part}"][rows])
        for name in ("mouth_current", "opening_current", "slit_current", "open_space_current")
        for part in ("migration", "diffusion", "steric")
    }
    i = cell.resistor_current[:, 1:]
    large = np.abs(i) > 0.05 * np.abs(i).max(axis=0)
    x = np.abs(cell.slit_charge[:, 1:]) / cell.bulk_charge
    rising = np.gradient(np.abs(cell.applied)) > 0
    both = [large[:, 0] & rising, large[:, 0] & ~rising]
    ratio = np.divide(cell.voltage[:, 1:], i, where=large, out=np.full_like(i, np.nan))
    return {
        "time": cell.time - cell.time[0], "applied": cell.applied, "current": cell.current,
        "parts": parts, "charge": [x[m, 0] for m in both],
        "resistance": [ratio[m, 0] for m in both],
    }  # fmt: skip


def _one(values: Any) -> Any:
    """Return the first column of a trace that has several places."""
    return values if values.ndim == 1 else values[:, 0]


def explore_slit_sizes(results: list[Path], target: Path, samples: int) -> None:
    """Explore slit size and theta, and write samples and capacitance.

    Raises
    ------
    CaseError
        If the results have fewer than two slit sizes.
    """
    from nanoslit.circuit.configuration import Study, Variable
    from nanoslit.circuit.explorer import explore

    cells = {read_cell(p).case.geometry.slit_size: p for p in results}  # type: ignore[union-attr]
    if len(cells) < 2:
        raise CaseError("a study needs two slit sizes or more in its plan")
    first = read_cell(cells[min(cells)])
    p = ladder_parameters(first)
    lower, upper = first.case.protocol.bounds
    fixed = {
        "n_slits": first.slits, "r_open": p.r_open, "c_open": p.c_open, "basis": "per depth",
        "governor": "inner", "saturation": 1.0,
    }  # fmt: skip
    study = Study(
        "slit sizes", fixed,
        (Variable("slit_size", min(cells), max(cells)), Variable("theta", 1e-2, 1e2, "log")),
        lower, upper, None, "periodic", "sobol", samples, 1,
        material=tuple(str(cells[d]) for d in sorted(cells)),
    )  # fmt: skip
    result = explore(study)
    wanted = ("relative_area", "asymmetry", "efficiency")
    table = {**result.samples, **{k: result.features[k] for k in wanted}}
    atomic.write_text(target, json.dumps({k: np.asarray(v).tolist() for k, v in table.items()}))
