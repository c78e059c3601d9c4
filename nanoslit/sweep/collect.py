"""One data set of all observables over the axes of a plan; NaN where a point is missing.

The file is netCDF-4 (HDF5): dimensions are the axes (``slit_size``, ``scan_rate``, ...;
``sample`` for a sample), then ``opening``, ``slit`` or ``phase`` (time within the last
cycle). Costs stand in the group ``provenance``, so that equal sweeps give equal data.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit.sweep.axes import Column, Group
from nanoslit.sweep.catalogue import STATES, Catalogue
from nanoslit.sweep.folder import Folder
from nanoslit.sweep.points import Points, short
from nanoslit.sweep.reconcile import adopt
from nanoslit.sweep.record import CV_SAMPLES
from nanoslit.sweep.status import current_plan, open_catalogue

__all__ = ["Collected", "collect", "gather"]

_MOST_CVS = 20_000  # above this the voltammograms stay in the result files

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


def gather(folder: Folder, catalogue: Catalogue, number: int, points: Points) -> Collected:
    """Return the observables of all points that are done."""
    out = Collected(points, _dimension_names(points.groups))
    shape, n = points.shape, len(points)
    states = np.zeros(n, dtype=np.int8)
    done: list[tuple[int, dict[str, Any]]] = []
    records = _records(folder, catalogue, number, states)
    with_cv = n <= _MOST_CVS
    widest = 0
    for i, record in records:
        if not with_cv:
            record.pop("cv", None)
        widest = max(widest, len(record["summary"].get("openings", [])))
        done.append((i, record))
    flat: dict[str, tuple[tuple[str, ...], Any, str, str]] = {}
    for name, (unit, text) in SCALARS.items():
        flat[name] = ((), _scalars(n, done, name), unit, text)
    for name, (unit, text) in OPENINGS.items():
        for block in ("", "_electrochemical"):
            data = _openings(n, widest, done, f"openings{block}", name)
            flat[name + block] = (("opening",), data, unit, text + block.replace("_", ", "))
    flat |= _signs(n, widest, done)
    if with_cv:
        for name, unit in _CV.items():
            data = np.full((n, CV_SAMPLES), np.nan)
            for i, record in done:
                data[i] = record["cv"][name]
            flat[f"cv_{name.split('_')[1]}"] = (("phase",), data, unit, f"{name} of a cycle")
    flat["status"] = (
        (),
        states,
        "1",
        "state: " + ", ".join(f"{i} {s}" for i, s in enumerate(STATES)),
    )
    for name, (unit, text) in _COST.items():
        data = np.full(n, np.nan)
        for i, record in done:
            data[i] = _cost(record, name)
        out.costs[name] = ((), data.reshape(shape), unit, text)
    out.arrays = {
        name: (dims, data.reshape(*shape, *data.shape[1:]), unit, text)
        for name, (dims, data, unit, text) in flat.items()
    }
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


def _scalars(n: int, done: list[tuple[int, dict[str, Any]]], name: str) -> Any:
    data = np.full(n, np.nan)
    for i, record in done:
        summary = record["summary"]
        data[i] = _number(summary.get(name, summary.get("balances", {}).get(name)))
    return data


def _openings(
    n: int, widest: int, done: list[tuple[int, dict[str, Any]]], block: str, name: str
) -> Any:
    data = np.full((n, widest), np.nan)
    for i, record in done:
        rows = record["summary"].get(block, [])
        data[i, : len(rows)] = [_number(row.get(name)) for row in rows]
    return data


def _signs(
    n: int, widest: int, done: list[tuple[int, dict[str, Any]]]
) -> dict[str, tuple[tuple[str, ...], Any, str, str]]:
    """Return the signs of the mean flux parts while the potential rises and falls."""
    out: dict[str, tuple[tuple[str, ...], Any, str, str]] = {}
    for half in ("rising", "falling"):
        for where, dims, size in (
            ("mouth_current", (), 0), ("opening_current", ("opening",), widest),
            ("slit_current", ("slit",), widest + 1),
        ):  # fmt: skip
            for part in _PARTS:
                data = np.full((n, size) if dims else n, np.nan)
                for i, record in done:
                    parts = record["summary"].get("flux_parts", {}).get(half, {})
                    name = f"{where}_{part}"
                    value = parts.get(f"{name}_excess", parts.get(name))
                    if value is None:
                        continue
                    if dims:
                        data[i, : len(value)] = np.sign(value)
                    else:
                        data[i] = np.sign(value)
                out[f"sign_{where}_{part}_{half}"] = (
                    dims,
                    data,
                    "1",
                    f"sign of the mean {part} part of the {where}, {half}",
                )
    return out


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
        If the folder or the plan does not exist.
    """
    folder = Folder.open(root)
    with open_catalogue(folder) as catalogue:
        number, plan = current_plan(folder, catalogue, name)
        data = gather(folder, catalogue, number, Points(plan))
    path = output or root / "collected" / "sweep.h5"
    path.parent.mkdir(parents=True, exist_ok=True)
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

    write_sealed(path, fill)


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


def _table(data: Collected) -> dict[str, Any]:
    """Return one column a number, one row a point, of everything without ``phase``."""
    shape, n = data.points.shape, len(data.points)
    rows = np.unravel_index(np.arange(n), shape)
    out: dict[str, Any] = {}
    for (name, group), row in zip(data.dims.items(), rows, strict=True):
        for column, label in _coordinates(name, group):
            out[label] = _values(column)[row]
    for name, (dims, array, _, _) in data.arrays.items():
        if "phase" in dims:
            continue
        flat = array.reshape(n, -1)
        if not dims:
            out[name] = flat[:, 0]
        else:
            out |= {f"{name}_{j + 1}": flat[:, j] for j in range(flat.shape[1])}
    out["status"] = np.array(STATES)[data["status"].reshape(n)]
    return out


def _write_csv(path: Path, data: Collected) -> None:
    table = _table(data)
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))
    part.replace(path)


def _write_parquet(path: Path, data: Collected) -> Path | None:
    """Write Parquet; None where pyarrow is missing or does not work with this numpy."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        return None
    part = path.with_name(f".{path.name}.part")
    columns = {name: pa.array(column.tolist()) for name, column in _table(data).items()}
    parquet.write_table(pa.table(columns), part)
    part.replace(path)
    return path
