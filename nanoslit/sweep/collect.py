"""One data set of all observables over the axes of a plan; NaN where a point is missing.

The file is netCDF-4 (HDF5): dimensions are the axes (``slit_size``, ``scan_rate``, ...;
``sample`` for a sample), then ``opening``, ``slit`` or ``phase`` (time within the last
cycle). Costs stand in the group ``provenance``, so that equal sweeps give equal data.
"""

from __future__ import annotations

import contextlib
import csv
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit.errors import NanoslitError, SweepError, WriteFailedError
from nanoslit.sweep.axes import Column, Group
from nanoslit.sweep.catalogue import STATES, Catalogue
from nanoslit.sweep.folder import Folder
from nanoslit.sweep.points import Points, short
from nanoslit.sweep.reconcile import adopt
from nanoslit.sweep.record import CV_SAMPLES
from nanoslit.sweep.status import current_plan, open_catalogue

__all__ = ["Collected", "collect", "gather"]

_MOST_CVS = 20_000  # above this the voltammograms stay in the result files
_ENDINGS = (".h5", ".hdf5", ".nc")
_LARGE = 1 << 24  # bytes of an array that is better kept in a file
_ROWS = 10_000  # points that are written at once

SCALARS = {
    "cv_area": ("W m-1", "closed integral of I dphi over the last cycle"),
    "capacitance": ("F m-1", "cv_area / (2 scan rate window)"),
    "dissipated_energy": ("J m-1", "closed integral of phi dQ over the last cycle"),
    "largest_current": ("A m-1", "largest |electrode current| of the last cycle"),
    "largest_charge": ("C m-1", "largest |electrode charge| of the last cycle"),
    "current_mismatch_relative": ("1", "largest difference of the current between cuts"),
    "ion_mismatch_relative": ("1", "largest error of the ion balance"),
}
OPENINGS = {
    "r_c": ("Ohm m", "R_c of dphi = I R_c (1 - gamma |Q|/Q_max)"),
    "gamma": ("1", "gamma of dphi = I R_c (1 - gamma |Q|/Q_max)"),
    "r2": ("1", "time-weighted coefficient of determination"),
    "r_max": ("Ohm m", "largest dphi/I where |I| >= 5 % of its maximum"),
    "r_min": ("Ohm m", "smallest dphi/I where |I| >= 5 % of its maximum"),
    "resistivity_max": ("Ohm m", "r_max times slit size over path length"),
    "resistivity_min": ("Ohm m", "r_min times slit size over path length"),
}
_PARTS = ("migration", "diffusion", "steric")
_CV = {
    "applied_potential": "V", "electrode_current": "A m-1", "electrode_charge": "C m-1",
}  # fmt: skip
_COST = {
    "cpu": ("s", "processor time of the attempt that finished"),
    "wall": ("s", "wall time of the attempt that finished"),
    "attempt": ("1", "number of the attempt that finished"),
    "ranks": ("1", "MPI ranks"),
    "resumed": ("1", "1 if it went on from a checkpoint"),
    "gentler": ("1", "1 if the numerics were made gentler after a divergence"),
}


@dataclass
class Collected:
    """Arrays over the points of a plan.

    Attributes
    ----------
    dims : dict of str to Group
        Dimensions of the plan, in order.
    arrays : dict of str to (trailing dims, array, unit, description)
        First axes are those of ``dims``.
    costs : the same, of the provenance
    """

    points: Points
    dims: dict[str, Group]
    arrays: dict[str, tuple[tuple[str, ...], Any, str, str]] = field(default_factory=dict)
    costs: dict[str, tuple[tuple[str, ...], Any, str, str]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.arrays[name][1]


def _dimension_names(groups: tuple[Group, ...]) -> dict[str, Group]:
    """Return a short, unique name for each group."""
    names = [short(g.keys[0]) if g.kind != "sample" else "sample" for g in groups]
    unique = [
        name
        if names.count(name) == 1
        else (f"sample_{i}" if g.kind == "sample" else g.keys[0].replace(".", "_"))
        for i, (name, g) in enumerate(zip(names, groups, strict=True))
    ]
    return dict(zip(unique, groups, strict=True))


def gather(
    folder: Folder, catalogue: Catalogue, number: int, points: Points, room: Path | None = None
) -> Collected:
    """Return the observables of all points that are done.

    Points are read one at a time; memory holds nothing but the arrays, and those of many
    points lie in temporary files of the folder ``room`` (the system's by default).

    Raises
    ------
    OSError
        If there is no room on that disk.
    """
    out = Collected(points, _dimension_names(points.groups))
    n, openings = len(points), _most_openings(points)
    with_cv = n <= _MOST_CVS
    flat = _columns(openings, with_cv)
    width = {"": (), "opening": (openings,), "slit": (openings + 1,), "phase": (CV_SAMPLES,)}
    arrays = {name: _blank((n, *width[c.dim]), room) for name, c in flat.items()}
    costs = {name: _blank((n,), room) for name in _COST}
    states = np.zeros(n, dtype=np.int8)
    for i, record in _records(folder, catalogue, number, states):
        for name, column in flat.items():
            value = column.read(record)
            if value is not None:
                arrays[name][i] = value
        for name, array in costs.items():
            array[i] = _cost(record, name)
    shape = points.shape
    for name, c in flat.items():
        data = arrays[name].reshape(*shape, *width[c.dim])
        out.arrays[name] = ((c.dim,) if c.dim else (), data, c.unit, c.text)
    text = "state: " + ", ".join(f"{i} {s}" for i, s in enumerate(STATES))
    out.arrays["status"] = ((), states.reshape(shape), "1", text)
    for name, (unit, text) in _COST.items():
        out.costs[name] = ((), costs[name].reshape(shape), unit, text)
    return out


def _blank(shape: tuple[int, ...], room: Path | None) -> Any:
    """Return an array of NaN, in a nameless file if it is large."""
    size = 8 * math.prod(shape)
    if size < _LARGE:
        return np.full(shape, np.nan)
    with tempfile.TemporaryFile(dir=room) as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error now, not later
        array = np.memmap(file, float, "r+", shape=shape)
    for i in range(0, len(array), _ROWS):
        array[i : i + _ROWS] = np.nan
    return array


def _most_openings(points: Points) -> int:
    """Return the largest number of openings of any point."""
    sheets = [points.case(0).geometry.sheets]
    for group in points.groups:
        for column in group.columns:
            if column.key == "geometry.sheets":
                sheets += column.si
    return max(0, max(sheets) - 1)


@dataclass(frozen=True)
class _Observable:
    """One array of the data set: its dimension besides the axes, and where it stands."""

    dim: str
    unit: str
    text: str
    read: Callable[[dict[str, Any]], Any]


def _columns(openings: int, with_cv: bool) -> dict[str, _Observable]:
    """Return all observables by name, those of a point read from its record."""
    out = {
        name: _Observable("", unit, text, partial(_scalar, name))
        for name, (unit, text) in SCALARS.items()
    }
    for name, (unit, text) in OPENINGS.items():
        for block in ("", "_electrochemical"):
            out[name + block] = _Observable(
                "opening", unit, text + block.replace("_", ", "),
                partial(_opening, f"openings{block}", name, openings),
            )  # fmt: skip
    for half in ("rising", "falling"):
        for where, dim, size in (
            ("mouth_current", "", 0), ("opening_current", "opening", openings),
            ("slit_current", "slit", openings + 1),
        ):  # fmt: skip
            for part in _PARTS:
                out[f"sign_{where}_{part}_{half}"] = _Observable(
                    dim, "1", f"sign of the mean {part} part of the {where}, {half}",
                    partial(_sign, half, f"{where}_{part}", size if dim else None),
                )  # fmt: skip
    for name, unit in _CV.items() if with_cv else ():
        out[f"cv_{name.split('_')[1]}"] = _Observable(
            "phase", unit, f"{name} of a cycle", partial(_curve, name)
        )
    return out


def _records(
    folder: Folder, catalogue: Catalogue, number: int, states: Any
) -> Iterator[tuple[int, dict[str, Any]]]:
    for i, key, state, _ in catalogue.members(number):
        states[i] = STATES.index(state)
        if state == "done":
            point = folder.point(key)
            record = point.done
            if (record is None or "cv" not in record) and adopt(point):
                record = point.done  # its record was lost: written anew from the result
            if record is not None and "cv" in record:
                yield i, record


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _padded(values: list[Any], size: int) -> list[float]:
    return [_number(v) for v in values] + [math.nan] * (size - len(values))


def _scalar(name: str, record: dict[str, Any]) -> float:
    summary = record["summary"]
    return _number(summary.get(name, summary.get("balances", {}).get(name)))


def _opening(block: str, name: str, size: int, record: dict[str, Any]) -> list[float]:
    return _padded([row.get(name) for row in record["summary"].get(block, [])], size)


def _sign(half: str, name: str, size: int | None, record: dict[str, Any]) -> Any:
    """Return the sign of a mean flux part while the potential rises or falls."""
    parts = record["summary"].get("flux_parts", {}).get(half, {})
    value = parts.get(f"{name}_excess", parts.get(name))
    if value is None:
        return None
    return np.sign(value if size is None else _padded(value, size))


def _curve(name: str, record: dict[str, Any]) -> Any:
    return record["cv"][name]


def _cost(record: dict[str, Any], name: str) -> float:
    if name == "wall":
        return _number(record.get("ended", math.nan)) - _number(record.get("started", math.nan))
    if name == "gentler":
        return float(bool(record.get("changes")))
    return _number(record.get(name, math.nan))


# --- files -------------------------------------------------------------------------------


def collect(root: Path, output: Path | None = None, name: str | None = None) -> list[Path]:
    """Write the data set of a plan as HDF5, CSV and (where pyarrow works) Parquet.

    Raises
    ------
    SweepError
        If the folder or the plan does not exist, or the output has another ending.
    WriteFailedError
        If the disk is full or the place cannot be written.
    """
    path = output or root / "collected" / "sweep.h5"
    if path.suffix not in _ENDINGS or path.is_dir():
        raise SweepError(
            f"{path}: give the name of an HDF5 file, ending in {' or '.join(_ENDINGS)}; CSV "
            "and Parquet are written beside it"
        )
    folder = Folder.open(root)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_catalogue(folder) as catalogue:
            number, plan = current_plan(folder, catalogue, name)
            data = gather(folder, catalogue, number, Points(plan), path.parent)
    except NanoslitError:
        raise
    except OSError as error:
        raise WriteFailedError(f"{path}: cannot be written ({error.strerror})") from None
    _write_hdf5(path, data)
    written = [path, path.with_suffix(".csv")]
    _write_csv(written[1], data)
    parquet = _write_parquet(path.with_suffix(".parquet"), data)
    return [*written, *([parquet] if parquet else [])]


def _write_hdf5(path: Path, data: Collected) -> None:
    from nanoslit.results.layout import Table, write_table
    from nanoslit.results.sealed import write_sealed

    names = tuple(data.dims)
    table = Table(attributes={
        "Conventions": "CF-1.11", "schema": "nanoslit-sweep", "schema_version": 1,
        "title": f"observables of the sweep {data.points.plan.name}",
    })  # fmt: skip
    for name, group in data.dims.items():
        for column, label in _coordinates(name, group):
            table.add(label, (name,), _values(column), column.unit or "1", column.key)
        if group.kind == "sample":
            table.add(name, (name,), np.arange(group.size), "1", "number of the sample")
    sizes = {d: a.shape[len(names) + j] for dims, a, *_ in data.arrays.values()
             for j, d in enumerate(dims)}  # fmt: skip
    for d, size in sizes.items():
        if d == "phase":
            table.add(d, (d,), np.linspace(0, 1, size), "1", "time within the cycle")
        else:
            table.add(d, (d,), np.arange(1, size + 1), "1", f"number of the {d}")
    for name, (dims, array, unit, text) in data.arrays.items():
        table.add(name, (*names, *dims), array, unit, text)

    def fill(file: Any) -> None:
        write_table(file, table)
        group = file.create_group("provenance")
        for name, (_, array, unit, text) in data.costs.items():
            dataset = group.create_dataset(name, data=array)
            dataset.attrs["units"], dataset.attrs["long_name"] = unit, text
            for j, dim in enumerate(names):
                dataset.dims[j].attach_scale(file[dim])

    size = sum(np.asarray(v.data).nbytes for v in table.variables.values())
    write_sealed(path, fill, size)


def _coordinates(name: str, group: Group) -> Iterator[tuple[Column, str]]:
    """Yield each column of a group with its name in the file."""
    taken = {name}
    for j, column in enumerate(group.columns):
        label = name if j == 0 and group.kind != "sample" else short(column.key)
        if label in taken and not (j == 0 and group.kind != "sample"):
            label = column.key.replace(".", "_").replace("*", "all")
        taken.add(label)
        yield column, label


def _values(column: Column) -> Any:
    if column.numeric:
        return np.array(column.si, dtype=float)
    return np.array([v if isinstance(v, str) else repr(v) for v in column.raw])


def _rows_of(data: Collected) -> Iterator[dict[str, Any]]:
    """Yield tables of some points each: a column a number, without ``phase``."""
    shape, n = data.points.shape, len(data.points)
    labelled = [
        (row, label, _values(column))
        for row, (name, group) in enumerate(data.dims.items())
        for column, label in _coordinates(name, group)
    ]
    arrays = {
        name: array.reshape(n, -1)
        for name, (dims, array, _, _) in data.arrays.items()
        if "phase" not in dims
    }
    for begin in range(0, n, _ROWS):
        part = slice(begin, min(begin + _ROWS, n))
        rows = np.unravel_index(np.arange(part.start, part.stop), shape)
        out: dict[str, Any] = {label: values[rows[row]] for row, label, values in labelled}
        for name, flat in arrays.items():
            if not data.arrays[name][0]:
                out[name] = flat[part, 0]
            else:
                out |= {f"{name}_{j + 1}": flat[part, j] for j in range(flat.shape[1])}
        out["status"] = np.array(STATES)[out["status"]]
        yield out


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name; what was written there takes the place of ``path``."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise WriteFailedError(
            f"{path}: cannot be written ({error.strerror or error}); make room, then repeat"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _write_csv(path: Path, data: Collected) -> None:
    with _replacing(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for i, table in enumerate(_rows_of(data)):
            if not i:
                writer.writerow(table)
            writer.writerows(zip(*(c.tolist() for c in table.values()), strict=True))


def _write_parquet(path: Path, data: Collected) -> Path | None:
    """Write Parquet; None where pyarrow is missing or does not work with this numpy."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    with _replacing(path) as part, contextlib.ExitStack() as stack:
        writer = None
        for table in _rows_of(data):
            batch = pa.table({name: pa.array(c.tolist()) for name, c in table.items()})
            if writer is None:
                writer = stack.enter_context(parquet.ParquetWriter(part, batch.schema))
            writer.write_table(batch)
    return path
