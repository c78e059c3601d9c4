"""What a study computes from results and law: circuits, deviations, design space."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit import atomic
from nanoslit.discovery.law import ResistanceLaw
from nanoslit.errors import CaseError
from nanoslit.study.compare import MODELS, compare, models_of, usable_form
from nanoslit.study.parameters import Cell, ladder_parameters, read_cell

__all__ = ["RULES", "evaluate", "explore_slit_sizes"]

RULES = (
    "N sheets are N slits; all fits are least squares through the origin over the last cycle, "
    "weighted by time",
    "potentials inside are those of the counter-ions; of charge (mean over all ions) for the "
    "mean potential, the constant C, the line and the bent circuits",
    "slit charge: length times the charge per length of a long slit in equilibrium at applied "
    "minus slit potential; the first and the last slit have lengths of their own",
    "C_slit: the slope instead, over interior slits",
    "node 0: the plane in the open space where the solver reads it, three Debye lengths in "
    "front of the first sheet; R_open: its potential against the electrode current; C_open: "
    "charge outside the slits against applied minus node 0",
    "openings: voltage between neighbouring slits against current and current times charge of "
    "the inner slit; the mouth is the resistor between node 0 and slit 1, fitted by itself",
)
"""How the numbers of the circuits are read (:mod:`nanoslit.study.parameters`)."""


def evaluate(results: list[Path], law_path: Path, target: Path) -> None:
    """Compare circuits with all cells and write parameters, currents and deviations."""
    law = ResistanceLaw.from_file(law_path)
    form, remark = usable_form(law)
    found = sorted((read_cell(p) for p in results), key=lambda c: c.case.geometry.slit_size)  # type: ignore[union-attr]
    # the smallest slit, where the circuits differ most, also with circuits fitted to it
    cells = [_cell_entry(cell, law, refitted=cell is found[0]) for cell in found]
    text = {
        "law": law.best.expression, "verdict": law.extra.get("verdict", ""),
        "circuit_law": form.expression, "remark": remark, "governor": law.governor,
        "evaluations": law.evaluations, "seed": law.seed, "models": MODELS, "rules": RULES,
        "cells": cells,
    }  # fmt: skip
    atomic.write_json(target, text)


def _cell_entry(cell: Cell, law: ResistanceLaw, refitted: bool) -> dict[str, Any]:
    p = ladder_parameters(cell)
    outcomes = compare(models_of(cell, law, refitted), cell)
    g: Any = cell.case.geometry
    return {
        "file": cell.path.name, "slit_size": g.slit_size, "sheets": g.sheets,
        "scan_rate": getattr(cell.case.protocol, "scan_rate", None),
        "window": cell.case.protocol.bounds, "parameters": asdict(p),
        "constants": _constants(cell, law),
        "curves": {"time": cell.time - cell.time[0], "applied": cell.applied},
        "outcomes": {k: asdict(v) for k, v in outcomes.items()},
    }  # fmt: skip


def _constants(cell: Cell, law: ResistanceLaw) -> list[dict[str, float]]:
    form, _ = usable_form(law)
    names = [f"{cell.path.stem}:{k}" for k in range(1, cell.slits)]
    return [form.values(n if form.cases else None) for n in names]


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
    atomic.write_json(target, {k: np.asarray(v) for k, v in table.items()})
