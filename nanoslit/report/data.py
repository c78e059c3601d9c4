"""What a report shows: results, law, circuits, design space and claims of one folder.

Files of a study are read by name and tolerantly: a number that is missing, null or NaN is
left out of the page.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import LawError, ResultFileError
from nanoslit.findings.claims import names_of
from nanoslit.findings.runs import Measured, Run, numbers_of, read_runs
from nanoslit.results.files import require_result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.discovery.law import LawForm, ResistanceLaw

    Array = NDArray[np.float64]

__all__ = ["ReportData", "RunData", "finite", "gather", "rivals_of"]

MOST_SHOWN = 8
"""Runs that get curves of their own; tables and trends hold all."""


@dataclass(frozen=True)
class RunData:
    """One solved cell: its run, its numbers, and what ``circuits.json`` says of it."""

    label: str
    run: Run
    numbers: dict[str, Measured]
    cell: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """What each circuit says of this cell."""
        found = self.cell.get("outcomes") or {}
        return {k: v for k, v in found.items() if isinstance(v, dict)}


@dataclass(frozen=True)
class ReportData:
    """Everything that the page shows.

    Parameters
    ----------
    folder : Path
    runs : list of RunData
        By rising slit size.
    circuits : dict
        ``circuits.json``.
    explored : dict of str to ndarray
    claims : dict
        ``claims.json``, empty if it was not written.
    law : ResistanceLaw, optional
    """

    folder: Path
    runs: list[RunData]
    circuits: dict[str, Any]
    explored: dict[str, Any]
    claims: dict[str, Any]
    law: ResistanceLaw | None

    @property
    def voltage(self) -> str:
        """Voltage of the law, or the one that drives the current if there is no law."""
        known = self.runs[0].run
        named = str(self.law.meaning.get("voltage")) if self.law else ""
        return named if named in known.voltage else known.driving

    @property
    def shown(self) -> list[RunData]:
        """At most eight runs, evenly spread."""
        n = len(self.runs)
        if n <= MOST_SHOWN:
            return self.runs
        return [self.runs[i] for i in np.linspace(0, n - 1, MOST_SHOWN).round().astype(int)]

    @property
    def models(self) -> dict[str, str]:
        """Circuits and what each is."""
        named = dict(self.circuits.get("models") or {})
        for r in self.runs:
            for name in r.outcomes:
                named.setdefault(name, "")
        return {k: v for k, v in named.items() if any(k in r.outcomes for r in self.runs)}


def finite(value: Any) -> float | None:
    """Return a number, None for what is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def gather(folder: str | Path) -> ReportData:
    """Return what a finished study holds.

    Raises
    ------
    ResultFileError
        If it is not finished.
    """
    folder = Path(folder)
    try:
        circuits = _read(folder / "circuits.json")
        explored = _read(folder / "explored.json")
    except (OSError, ValueError) as error:
        raise ResultFileError(
            f"{folder}: is no finished study ({error}); run `nanoslit study PLAN.toml -o "
            f"{folder}`"
        ) from None
    claims = _read(folder / "claims.json") if (folder / "claims.json").exists() else {}
    cells = {c.get("file"): c for c in circuits.get("cells", [])}
    runs = read_runs(folder)
    names = names_of(runs)
    found = [
        RunData(name, run, numbers_of(run), cells.get(run.path.name, {}), _origin(run.path))
        for name, run in zip(names, runs, strict=True)
    ]
    tables = {k: np.array(v, float) for k, v in explored.items() if isinstance(v, list)}
    return ReportData(folder, found, circuits, tables, claims, _law(folder / "LAW.json"))


def _read(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold an object")
    return value


def _origin(path: Path) -> dict[str, Any]:
    with require_result(path) as file:
        found = {
            k: v.item() if isinstance(v, np.generic) else v
            for k, v in file["provenance"].attrs.items()
        }
        if "balances" in file:
            found["balances"] = {k: float(v[()]) for k, v in file["balances"].items()
                                 if v.shape == ()}  # fmt: skip
    return found


def _law(path: Path) -> ResistanceLaw | None:
    from nanoslit.discovery.law import ResistanceLaw

    return ResistanceLaw.from_file(path) if path.exists() else None


def rivals_of(data: ReportData) -> dict[str, LawForm]:
    """Return the laws that are drawn over the resistances, by label."""
    if data.law is None:
        return {}
    governor = data.law.governor
    known = {
        "paper": "the paper: R_c (1 - gamma |Q|)", "rational": "rational: R_c / (1 + b |Q|)",
        "donnan": "Donnan: R_c / sqrt(1 + (b Q)^2)",
    }  # fmt: skip
    out = {"law found": data.law.best}
    for name, label in known.items():
        form = data.law.baselines.get(f"{name}_{governor}")
        if form is None:
            continue
        if form.expression == data.law.best.expression:
            out = {f"law found, {label}" if k == "law found" else k: v for k, v in out.items()}
        else:
            out[label] = form
    return out


def law_curve(form: LawForm, run: Run, opening: int, governor: str) -> tuple[Array, Array]:
    """Return charge and resistance of a law along the rising half of a run's cycle.

    Parameters
    ----------
    form : LawForm
    run : Run
    opening : int
        From 0.
    governor : str

    Returns
    -------
    tuple of ndarray
        |Q| over the charge of the bulk ions, R [Ohm m]; empty if the law does not know
        this opening or needs what traces do not have.
    """
    columns = run.columns(opening)
    rows = run.rising & run.large()[:, opening]
    chosen = {k: v[rows] for k, v in columns.items()}
    try:
        voltage = form(chosen, f"{run.name}:{opening + 1}" if form.cases else None)
    except LawError:
        return np.zeros(0), np.zeros(0)
    x = chosen.get(f"X_{governor}", chosen["X_inner"])
    order = np.argsort(x)
    return x[order], (voltage / chosen["I"])[order]
