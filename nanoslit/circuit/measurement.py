"""Measured or simulated cyclic voltammograms: reading and unit conversion.

Plain text with one header line of names and units (``time/s,potential/V,current/mA``,
also ``t [s]`` or ``I (mA)``), EC-Lab text (``.mpt``) and Gamry (``.DTA``). Binary files
are exported as text by their programs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.errors import CaseError
from nanoslit.units import parse_quantity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Measurement", "read_measurement"]

NAMES = {
    "time": ("time", "t", "t_s"),
    "potential": (
        "potential",
        "ewe",
        "<ewe>",
        "v",
        "e",
        "voltage",
        "vf",
        "applied_potential",
        "ecell",
        "ewe-ece",
        "<ewe-ece>",
    ),
    "current": ("current", "i", "<i>", "im", "electrode_current"),
    "cycle": ("cycle number", "cycle", "cycle_number"),
}
_HEAD = re.compile(r"^\s*\"?([^\[\(/\"]+?)\s*(?:[/\[\(]\s*([^\]\)\"]*)[\]\)]?)?\s*\"?\s*$")
GAMRY_NAMES = {"T": "time", "Vf": "potential", "Im": "current"}
MAX_KNOTS = 400
MOST_DROPPED = 0.1  # of the rows, because their time does not rise


@dataclass(frozen=True)
class Measurement:
    """One voltammogram in SI: current of the whole electrode or cell.

    Parameters
    ----------
    time, potential, current : ndarray, shape (points,)
        [s], [V], [A].
    name : str
    notes : tuple of str
        Conversions that were made.
    """

    time: Array
    potential: Array
    current: Array
    name: str = "data"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        t, v, i = self.time, self.potential, self.current
        if not (t.shape == v.shape == i.shape and t.ndim == 1 and t.size >= 20):
            raise CaseError(f"{self.name}: needs at least 20 rows of time, potential, current")
        if not (np.isfinite(t).all() and np.isfinite(v).all() and np.isfinite(i).all()):
            raise CaseError(f"{self.name}: holds values that are not finite numbers")
        if np.any(np.diff(t) <= 0):
            row = int(np.flatnonzero(np.diff(t) <= 0)[0]) + 2
            raise CaseError(f"{self.name}: time does not rise at data row {row}")
        if np.ptp(v) <= 0:
            raise CaseError(f"{self.name}: the potential never changes")
        if not np.any(i):
            raise CaseError(f"{self.name}: the current is zero everywhere")
        if self.sign_is_reversed:
            raise CaseError(
                f"{self.name}: the current is negative while the potential rises; charging "
                "currents must be positive: reverse the sign (--current-sign -1)"
            )

    @property
    def sign_is_reversed(self) -> bool:
        """Whether charge flows against the change of potential."""
        mean = 0.5 * (self.current[1:] + self.current[:-1])
        q = np.concatenate([[0], np.cumsum(mean * np.diff(self.time))])
        v = self.potential - self.potential.mean()
        return bool(np.sum((q - q.mean()) * v) < 0)

    @cached_property
    def knots(self) -> tuple[Array, Array]:
        """Times from the start and potentials of a piecewise linear drive.

        The vertices, where straight lines through the sweeps between them meet; if the
        potential is not made of straight sweeps, up to 400 of its points.
        """
        from scipy.signal import find_peaks

        t, v, span = self.time - self.time[0], self.potential, np.ptp(self.potential)
        turns = [find_peaks(s * v, prominence=0.05 * span)[0] for s in (1.0, -1.0)]
        rows = np.unique(np.concatenate([[0], *turns, [len(v) - 1]])).astype(int)
        if np.abs(np.interp(t, t[rows], v[rows]) - v).max() > 0.02 * span or len(rows) < 2:
            step = max(1, len(v) // MAX_KNOTS)
            rows = np.unique(np.concatenate([np.arange(0, len(v), step), rows]))
            return t[rows], v[rows]
        lines = [
            np.polyfit(t[a : b + 1][1:-1], v[a : b + 1][1:-1], 1) if b - a >= 6 else None
            for a, b in zip(rows[:-1], rows[1:], strict=True)
        ]
        corners, levels = t[rows].copy(), v[rows].copy()
        for k, (left, right) in enumerate(zip(lines[:-1], lines[1:], strict=True), start=1):
            if left is not None and right is not None:
                (a1, a0), (b1, b0) = left, right
                corners[k] = (a0 - b0) / (b1 - a1)
                levels[k] = a0 + a1 * corners[k]
        return corners, levels

    @property
    def scan_rate(self) -> float:
        """Median absolute slope of the potential [V/s]."""
        t, v = self.knots
        return float(np.median(np.abs(np.diff(v) / np.diff(t))))

    def thinned(self, points: int) -> Measurement:
        """Return at most so many points, evenly chosen."""
        rows = np.unique(np.linspace(0, len(self.time) - 1, points).astype(int))
        part = Measurement(
            self.time[rows], self.potential[rows], self.current[rows], self.name, self.notes
        )
        part.__dict__["knots"] = self.knots  # of all points
        return part


def _split(line: str) -> list[str]:
    for mark in ("\t", ";", ","):
        if mark in line:
            return [part.strip() for part in line.rstrip("\n").split(mark)]
    return line.split()


def _columns(header: list[str], path: Path) -> dict[str, tuple[int, str | None]]:
    found: dict[str, tuple[int, str | None]] = {}
    for position, text in enumerate(header):
        match = _HEAD.match(text)
        if match is None:
            continue
        name, unit = match.group(1).strip().lower(), match.group(2)
        for key, names in NAMES.items():
            if name in names and key not in found:
                found[key] = position, unit
    missing = [k for k in ("time", "potential", "current") if k not in found]
    if missing:
        raise CaseError(
            f"{path}: no column for {missing} in the header {header}; name them like "
            "time/s, potential/V, current/mA"
        )
    return found


def _gamry(lines: list[str], path: Path) -> tuple[list[str], list[str]]:
    """Return header cells and data lines of all curves; curve k is cycle k."""
    starts = [i for i, text in enumerate(lines) if re.match(r"^CURVE\d*\tTABLE", text)]
    if not starts or starts[-1] + 3 >= len(lines):
        raise CaseError(f"{path}: holds no CURVE table")
    names, units = (_split(lines[starts[0] + k].strip()) for k in (1, 2))
    header = []
    for name, unit in zip(names, units, strict=False):
        if name in GAMRY_NAMES:
            header.append(f"{GAMRY_NAMES[name]}/{unit.split()[0]}")  # "V vs. Ref."
        else:
            header.append(f"{name} of Gamry")
    rows = []
    for number, i in enumerate(starts, start=1):
        for text in lines[i + 3 :]:
            if not text.startswith("\t"):
                break
            cells = text.strip().split("\t")[: len(header)]
            rows.append("\t".join([*cells, str(number)]))
    return [*header, "cycle number"], rows


def _ec_lab(lines: list[str], path: Path) -> list[str]:
    """Return the lines from the header of the table on."""
    count = re.search(r"Nb header lines\s*:\s*(\d+)", "\n".join(lines[:5]))
    if count is not None:
        return lines[int(count.group(1)) - 1 :]
    if lines and "time/s" in lines[0].split("\t"):  # exported without header
        return lines
    raise CaseError(f"{path}: does not say its number of header lines")


def _parts(path: Path) -> tuple[list[str], list[str]]:
    """Return header cells and data lines."""
    if path.suffix.lower() in (".mpr", ".h5"):
        raise CaseError(f"{path}: is binary; export it as text (EC-Lab: .mpt)")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: cannot be read: {error}") from None
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = raw.decode("cp1252", errors="replace").splitlines()
    if path.suffix.lower() == ".dta":
        return _gamry(lines, path)
    if path.suffix.lower() == ".mpt":
        lines = _ec_lab(lines, path)
    lines = [t for t in lines if t.strip() and not t.startswith("#")]
    if len(lines) < 2:
        raise CaseError(f"{path}: holds no data")
    return _split(lines[0]), lines[1:]


def _factor(unit: str | None, target: str, key: str, path: Path) -> float:
    if not unit:
        raise CaseError(f"{path}: the {key} column has no unit; write it like {key}/{target}")
    try:
        return parse_quantity(f"1 {unit}", target)
    except CaseError as error:
        raise CaseError(f"{path}: unit of {key}: {error}") from None


def read_measurement(
    path: str | Path,
    *,
    mass: float | None = None,
    area: float | None = None,
    current_sign: int = 1,
    cycles: tuple[int, int] | None = None,
) -> Measurement:
    """Read a voltammogram and convert it to s, V and A.

    Parameters
    ----------
    path : path
    mass : float, optional
        Electrode mass, for currents per mass [kg].
    area : float, optional
        Electrode area, for currents per area [m^2].
    current_sign : {1, -1}
        -1 if charging currents are negative in the file.
    cycles : (int, int), optional
        First and last cycle number to keep; needs a cycle column.

    Raises
    ------
    CaseError
        If a column or unit is missing, rows are not numbers, or mass or area is needed.
    """
    path = Path(path)
    if current_sign not in (1, -1):
        raise CaseError(f"current sign {current_sign} must be 1 or -1")
    header, rows = _parts(path)
    found = _columns(header, path)
    table = _numbers(rows, {k: v[0] for k, v in found.items()}, path)
    notes = []
    for key, target in (("time", "s"), ("potential", "V")):
        unit = found[key][1]
        table[key] = table[key] * _factor(unit, target, key, path)
        notes.append(f"{key}: {unit} -> {target}")
    scale, note = _current_factor(found["current"][1], mass, area, path)
    table["current"] = table["current"] * scale * current_sign
    notes.append(note + (", sign reversed" if current_sign < 0 else ""))
    keep = np.ones(len(table["time"]), bool)
    if cycles is not None:
        if "cycle" not in table:
            raise CaseError(f"{path}: has no cycle column; all of it would be used")
        keep = (table["cycle"] >= cycles[0]) & (table["cycle"] <= cycles[1])
        if not keep.any():
            first, last = table["cycle"].min(), table["cycle"].max()
            raise CaseError(
                f"{path}: has no cycles {cycles[0]} to {cycles[1]}, only {first:g} to {last:g}"
            )
    time = table["time"][keep]
    new = np.concatenate([[True], np.diff(time) > 0])
    dropped = int(np.count_nonzero(~new))
    if dropped > MOST_DROPPED * len(time):
        raise CaseError(
            f"{path}: time does not rise in {dropped} of {len(time)} rows; give one "
            "measurement in the order of its time"
        )
    if dropped:
        notes.append(f"{dropped} rows left out whose time does not rise")
    return Measurement(
        time[new], table["potential"][keep][new], table["current"][keep][new], path.name,
        tuple(notes),
    )  # fmt: skip


def _numbers(rows: list[str], columns: dict[str, int], path: Path) -> dict[str, Array]:
    comma = "\t" in rows[0] or ";" in rows[0]
    out: dict[str, list[float]] = {k: [] for k in columns}
    for number, text in enumerate(rows, start=2):
        cells = _split(text)
        for key, position in columns.items():
            try:
                cell = cells[position]
                value = float(cell.replace(",", ".") if comma else cell)
                if not np.isfinite(value):
                    raise ValueError
                out[key].append(value)
            except (IndexError, ValueError):
                raise CaseError(
                    f"{path}: line {number} of the table has no number for {key}: {text[:80]!r}"
                ) from None
    return {k: np.array(v) for k, v in out.items()}


def _current_factor(
    unit: str | None, mass: float | None, area: float | None, path: Path
) -> tuple[float, str]:
    """Return the factor to A and what was done."""
    for target, size, key in (("A", 1.0, ""), ("A/kg", mass, "mass"), ("A/m^2", area, "area")):
        try:
            factor = _factor(unit, target, "current", path)
        except CaseError:
            continue
        if size is None:
            raise CaseError(f"{path}: current is in {unit}; give the {key} of the electrode")
        shown = f" x {key} {size:g}" if key else ""
        return factor * size, f"current: {unit} -> A{shown}"
    raise CaseError(f"{path}: unit of current {unit!r} must be like A, A/g or A/cm^2")
