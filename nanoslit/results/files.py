"""The result file: what stands where, writing it on any number of ranks, reading it.

Groups (see README, Results): ``traces``, ``fields``, ``observables``, ``cycles``,
``balances``, ``solver``, ``provenance``; the geometry's numbers are root attributes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from nanoslit.casefile import case_from_toml, case_to_toml
from nanoslit.errors import (
    CaseError,
    ResultFileError,
    WriteFailedError,
)
from nanoslit.mpnp.traces import SPECS, Traces, reading_positions
from nanoslit.results import sealed
from nanoslit.results.layout import Table, create, write_scalars, write_table
from nanoslit.results.snapshots import FieldBlocks, Snapshots
from nanoslit.results.summary import cycle_table, geometry_numbers, summarise

if TYPE_CHECKING:
    from nanoslit.case import Case
    from nanoslit.mpnp.simulation import Simulation

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "FIELDS",
    "read_case_of",
    "read_summary",
    "read_traces",
    "require_result",
    "write_result",
]

SCHEMA = "nanoslit-result"
SCHEMA_VERSION = 1
_DROPPED_BITS = 20  # of the mantissa of potential and concentrations
_SINGLE = ("ion_flux_x", "ion_flux_y", "current_density_x", "current_density_y")

FIELDS: dict[str, tuple[bool, str, str]] = {
    "phi": (False, "V", "electrostatic potential"),
    "concentration": (True, "mol m-3", "concentration of each ion"),
    "ion_flux_x": (True, "mol m-2 s-1", "flux of each ion in x, mean over the node"),
    "ion_flux_y": (True, "mol m-2 s-1", "flux of each ion in y, mean over the node"),
    "current_density_x": (False, "A m-2", "ionic current density in x"),
    "current_density_y": (False, "A m-2", "ionic current density in y"),
}
"""Name of each field: one per ion?, unit, description."""

_LAW_UNITS = {
    "r_c": ("Ohm m", "R_c of dphi = I R_c (1 - gamma |Q|/Q_max)"),
    "gamma": ("1", "gamma of dphi = I R_c (1 - gamma |Q|/Q_max)"),
    "r2": ("1", "time-weighted coefficient of determination"),
    "r_max": ("Ohm m", "largest dphi/I where |I| >= 5 % of its maximum"),
    "r_min": ("Ohm m", "smallest dphi/I where |I| >= 5 % of its maximum"),
    "resistivity_max": ("Ohm m", "r_max times slit size over path length, per depth"),
    "resistivity_min": ("Ohm m", "r_min times slit size over path length, per depth"),
}
_SCALARS = {
    "cv_area": ("W m-1", "closed integral of I dphi over the last cycle"),
    "capacitance": ("F m-1", "cv_area / (2 scan rate window)"),
    "dissipated_energy": ("J m-1", "closed integral of phi dQ over the last cycle"),
    "largest_current": ("A m-1", "largest |electrode current| of the last cycle"),
    "largest_charge": ("C m-1", "largest |electrode charge| of the last cycle"),
    "current_mismatch": ("A m-1", "largest difference of the total current between cuts"),
    "ion_mismatch": ("A m-1", "largest error of the ion balance times Faraday's constant"),
}
_GEOMETRY_UNITS = {"sheet_mass": "kg m-1"}


# -- tables -------------------------------------------------------------------------------


def _trace_table(case: Case, traces: Traces) -> Table:
    table = Table(attributes={"description": "time series of the run, per metre of depth"})
    n = case.geometry.sheets
    coordinates: dict[str, tuple[Any, str, str]] = {
        "slit": (np.arange(1, n + 1), "1", "number of the slit, from the reservoir"),
        "opening": (np.arange(1, n), "1", "opening k lies between slits k and k+1"),
        "distance": (traces.distances, "m", "distance from the first sheet"),
        "electrode": (np.array(["positive", "negative"]), "1", "electrode of a full cell"),
        "ion": (np.array([i.name for i in case.electrolyte.ions]), "1", "ion"),
    }
    used = {d for name in traces.values for d in traces.dims(name)}
    for name, (data, unit, text) in coordinates.items():
        if name in used:
            table.add(name, (name,), data, unit, text)
    for name, data in traces.values.items():
        table.add(name, traces.dims(name), data, SPECS[name].unit, SPECS[name].long_name)
    return table


def _observable_table(summary: dict[str, Any]) -> Table:
    table = Table(attributes={"description": "law and resistances of each opening"})
    for block in (
        "openings",
        "openings_electrochemical",
        "openings_negative",
        "openings_electrochemical_negative",
    ):
        rows = summary.get(block)
        if not rows:
            continue
        table.add(
            "opening",
            ("opening",),
            np.arange(1, len(rows) + 1),
            "1",
            "opening k lies between slits k and k+1",
        )
        suffix = block.removeprefix("openings")
        for name, (unit, text) in _LAW_UNITS.items():
            table.add(
                name + suffix,
                ("opening",),
                [row[name] for row in rows],
                unit,
                text + suffix.replace("_", ", "),
            )
    return table


def _field_table(simulation: Simulation, snapshots: Snapshots, shape: tuple[int, ...]) -> Table:
    """Return the coordinates of the fields; the fields themselves are only labelled."""
    grid, case = simulation.grid, simulation.case
    count = len(snapshots.taken)
    table = Table(
        attributes={
            "description": "fields on the mesh; NaN inside sheets; "
            "potential and concentration rounded to 2e-10, fluxes to 1e-7"
        }
    )
    table.add("snapshot", ("snapshot",), np.arange(count), "1", "number of the snapshot")
    table.add("time", ("snapshot",), [t for t, _, _ in snapshots.taken], "s", "time")
    table.add(
        "applied_potential",
        ("snapshot",),
        [v for _, v, _ in snapshots.taken],
        "V",
        "applied potential",
    )
    table.add("ion", ("ion",), np.array([i.name for i in case.electrolyte.ions]), "1", "ion")
    table.add("x", ("x",), grid.x_lines, "m", "distance from the reservoir")
    table.add("y", ("y",), grid.y_lines, "m", "position along the sheets")
    for name, (per_ion, unit, text) in FIELDS.items():
        dims = ("snapshot", "ion", "x", "y") if per_ion else ("snapshot", "x", "y")
        table.add(name, dims, None, unit, text)
    return table


# -- writing ------------------------------------------------------------------------------


def stored(name: str, values: Any) -> Any:
    """Return a field as it is stored: without the bits that are noise to compress.

    Fluxes in single precision (1e-7; two thirds of the fields), potential and
    concentrations in double precision with 32 bits of mantissa (2e-10).

    Parameters
    ----------
    name : str
        Of :data:`FIELDS`.
    values : ndarray
    """
    if name in _SINGLE:
        with np.errstate(under="ignore"):
            return values.astype(np.float32)
    bits = np.array(values, dtype=np.float64, order="C").view(np.int64)
    bits += np.int64(1) << np.int64(_DROPPED_BITS - 1)
    bits &= ~((np.int64(1) << np.int64(_DROPPED_BITS)) - np.int64(1))
    out = bits.view(np.float64)
    out[np.isnan(values)] = np.nan
    return out


@dataclass
class _Fields:
    """Writes fields into an open file, by all ranks or from gathered blocks."""

    simulation: Simulation
    snapshots: Snapshots

    def __post_init__(self) -> None:
        self.blocks = FieldBlocks(self.simulation)

    def _create(self, group: Any, index: int, name: str, m: int) -> Any:
        if index:
            return group[name]
        nx, ny = self.blocks.shape
        count = len(self.snapshots.taken)
        per_ion = FIELDS[name][0]
        shape = (count, m, nx, ny) if per_ion else (count, nx, ny)
        limit = max(1, (1 << 17) // max(1, ny if self.blocks.axis == 0 else nx))
        plane = (min(nx, limit), ny) if self.blocks.axis == 0 else (nx, min(ny, limit))
        chunks = (1, 1, *plane) if per_ion else (1, *plane)
        return create(group, name, shape, np.float32 if name in _SINGLE else np.float64, chunks)

    def _place(self, index: int, per_ion: bool) -> tuple[Any, ...]:
        lines = slice(self.blocks.start, self.blocks.stop)
        mesh = (lines, slice(None)) if self.blocks.axis == 0 else (slice(None), lines)
        return (index, slice(None), *mesh) if per_ion else (index, *mesh)

    def write_together(self, group: Any) -> None:
        """Write with all ranks into a file open on all of them (collective)."""
        for i, (_, _, state) in enumerate(self.snapshots.taken):
            for name, block in self.blocks.fields(state):
                dataset = self._create(group, i, name, block.shape[0])
                per_ion = FIELDS[name][0]
                with dataset.collective:
                    dataset[self._place(i, per_ion)] = stored(
                        name, block if per_ion else block[0]
                    )

    def gathered(self) -> list[dict[str, Any]] | None:
        """Return whole fields of every snapshot on rank 0, None elsewhere (collective)."""
        cell = self.simulation.cell
        out: list[dict[str, Any]] = []
        for _, _, state in self.snapshots.taken:
            row = {}
            for name, block in self.blocks.fields(state):
                lines = cell.gather(np.moveaxis(block, 1 + self.blocks.axis, 0))
                if lines is not None:
                    row[name] = np.moveaxis(lines, 0, 1 + self.blocks.axis)
            out.append(row)
        return out if cell.rank == 0 else None

    def write_gathered(self, group: Any, rows: list[dict[str, Any]]) -> None:
        """Write whole fields from one process."""
        for i, row in enumerate(rows):
            for name, data in row.items():
                dataset = self._create(group, i, name, data.shape[0])
                dataset[i] = stored(name, data if FIELDS[name][0] else data[0])

    @property
    def bytes(self) -> int:
        """Size of the fields without compression."""
        n_ions = self.simulation.equations.n_ions
        per_node = sum(n_ions if per_ion else 1 for per_ion, _, _ in FIELDS.values())
        return 8 * int(np.prod(self.blocks.shape)) * per_node * len(self.snapshots.taken)


def write_result(
    path: Path,
    simulation: Simulation,
    traces: Traces,
    snapshots: Snapshots,
    provenance: dict[str, Any],
    comm: Any = None,
) -> None:
    """Write the result of a finished run (collective).

    Fields are written by all ranks where h5py has MPI, else gathered and written by rank
    0; the layout is the same. The file appears under its name when it is complete.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    simulation : Simulation
        Still open.
    traces : Traces
    snapshots : Snapshots
    provenance : dict
        From :func:`nanoslit.results.provenance.describe`, on rank 0.
    comm : mpi4py communicator, optional

    Raises
    ------
    WriteFailedError
        On every rank, if the file cannot be written; nothing is left behind.
    """
    begin = time.perf_counter()
    fields = _Fields(simulation, snapshots)
    cell, error = simulation.cell, None
    together = cell.size > 1 and h5py.get_config().mpi and bool(snapshots.taken)
    rows = None if together else fields.gathered()
    content = _Content(simulation, traces, snapshots, provenance, begin)
    if not together:
        try:
            if cell.rank == 0:
                assert rows is not None
                sealed.write_sealed(path, lambda file: content.fill(file, fields, rows))
        except OSError as problem:
            error = problem
        cell.fail_together(error)
        return
    part = Path(cell.share(str(sealed.part_name(path))))
    _require_room(path, fields.bytes, cell)
    try:
        with h5py.File(part, "w", driver="mpio", comm=comm, libver=sealed.LIBVER) as file:
            fields.write_together(file.create_group("fields"))
    except (OSError, RuntimeError) as problem:
        error = WriteFailedError(sealed.cannot_write(path, problem, fields.bytes))
    try:
        cell.fail_together(error)
        if cell.rank == 0:
            with h5py.File(part, "r+", libver=sealed.LIBVER) as file:
                content.fill(file, fields, None)
            sealed.seal(part)
            sealed.publish(part, path)
    except (OSError, RuntimeError) as problem:
        part.unlink(missing_ok=True)
        error = WriteFailedError(sealed.cannot_write(path, problem, fields.bytes))
    cell.fail_together(error)


def _require_room(path: Path, size: int, cell: Any) -> None:
    """Raise on every rank unless the disk has room: HDF5 does not survive without."""
    import shutil

    error = None
    if cell.rank == 0:
        free, needed = shutil.disk_usage(path.parent).free, int(1.1 * size) + 20_000_000
        if free < needed:
            error = WriteFailedError(
                f"{path}: cannot be written: it may need {needed} bytes and {free} are "
                "free; make room and start again with --resume"
            )
    cell.fail_together(error)


@dataclass
class _Content:
    """Everything but the fields, written by rank 0."""

    simulation: Simulation
    traces: Traces
    snapshots: Snapshots
    provenance: dict[str, Any]
    begin: float

    def fill(self, file: Any, fields: _Fields, rows: list[dict[str, Any]] | None) -> None:
        """Write all groups into an open file; ``rows`` are gathered fields."""
        s, case = self.simulation, self.simulation.case
        if rows is not None and self.snapshots.taken:
            fields.write_gathered(file.create_group("fields"), rows)
        if self.snapshots.taken:
            write_table(file["fields"], _field_table(s, self.snapshots, fields.blocks.shape))
        cost = run_cost(s)
        summary = summarise(self.traces, case, cost)
        self._root(file, case)
        write_table(file.create_group("traces"), _trace_table(case, self.traces))
        self._cycles(file.create_group("cycles"))
        group = file.create_group("observables")
        write_table(group, _observable_table(summary))
        write_scalars(group, {k: summary[k] for k in _SCALARS if k in summary}, _SCALARS)
        write_scalars(file.create_group("balances"), summary["balances"], _SCALARS)
        write_scalars(file.create_group("solver"), cost, {})
        file["solver"].attrs["settings"] = json.dumps(
            {
                "tolerance": s.tolerance,
                "linear_solver": case.numerics.linear_solver,
                "mesh": str(case.numerics.mesh),
            }
        )
        self._provenance(file.create_group("provenance"), case)

    def _root(self, file: Any, case: Case) -> None:
        a = file.attrs
        a["Conventions"] = "CF-1.11"
        a["title"] = f"nanoslit run of case {case.name}"
        a["schema"], a["schema_version"] = SCHEMA, SCHEMA_VERSION
        a["content_key"] = self.provenance.get("content_key", "")
        a["status"] = "finished"
        a["cell"] = case.cell
        a["created"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        a["convention"] = (
            "SI units; extensive values per metre of depth of the simulated half period of "
            "height half_period_height, not doubled; currents positive when a positive "
            "electrode charges"
        )
        numbers = {**geometry_numbers(case), **reading_positions(case)}
        for name, value in numbers.items():
            a[name] = value
        a["units"] = json.dumps({k: _GEOMETRY_UNITS.get(k, "m") for k in numbers})

    def _cycles(self, group: Any) -> None:
        table, index = Table(), cycle_table(self.traces)
        times = self.traces["time"]
        table.add("cycle", ("cycle",), index["cycle"], "1", "number of the cycle")
        table.add("first", ("cycle",), index["first"], "1", "its first time index")
        table.add("last", ("cycle",), index["last"], "1", "its last time index, included")
        table.add("start", ("cycle",), times[index["first"]], "s", "its start")
        table.add("end", ("cycle",), times[index["last"]], "s", "its end")
        write_table(group, table)

    def _provenance(self, group: Any, case: Case) -> None:
        grid = self.simulation.grid
        more = {
            "mesh_nodes": grid.n_nodes,
            "mesh_x": grid.x_lines.size,
            "mesh_y": grid.y_lines.size,
            "wall_time": self.simulation.cost.wall_time,
            "gather_time": time.perf_counter() - self.begin,
        }
        for name, value in {**self.provenance, **more}.items():
            group.attrs[name] = value
        try:
            group["case"] = case_to_toml(case)
            group["case"].attrs["long_name"] = "the case as TOML, defaults written out"
        except CaseError as error:
            group.attrs["case_missing"] = str(error)


def run_cost(simulation: Simulation) -> dict[str, Any]:
    """Return counters and times of a run (this rank's), as numbers by name."""
    out = dict(vars(simulation.cost))
    for name, value in vars(simulation.solver_cost).items():
        out[name] = value
    return {k: v for k, v in out.items() if isinstance(v, int | float)}


# -- reading ------------------------------------------------------------------------------


@contextmanager
def require_result(path: str | Path) -> Iterator[Any]:
    """Give an open result file of this version.

    Raises
    ------
    ResultFileError
        If it is missing, not HDF5, not a result, or of another version.
    DamagedFileError
        If it cannot be read any more.
    """
    path = Path(path)
    with sealed.open_sealed(path) as file:
        schema, number = file.attrs.get("schema"), file.attrs.get("schema_version")
        if schema != SCHEMA:
            raise ResultFileError(
                f"{path}: is an HDF5 file but not a result of nanoslit run (schema: {schema})"
            )
        if number != SCHEMA_VERSION:
            raise ResultFileError(
                f"{path}: has schema version {number}; this nanoslit reads version "
                f"{SCHEMA_VERSION}: use the nanoslit that wrote it, or run the case again"
            )
        yield file


def read_traces(path: str | Path) -> Traces:
    """Return the traces of a result file.

    Raises
    ------
    ResultFileError
        See :func:`require_result`.
    """
    with require_result(path) as file:
        group = file["traces"]
        values = {name: group[name][()] for name in SPECS if name in group}
        distances = group["distance"][()] if "distance" in group else np.zeros(0)
        return Traces(values, distances, 2 if file.attrs["cell"] == "full" else 1)


def read_case_of(path: str | Path) -> Case:
    """Return the case that a result file was run from.

    Raises
    ------
    ResultFileError
        If the case existed in Python only, or see :func:`require_result`.
    """
    with require_result(path) as file:
        group = file["provenance"]
        if "case" not in group:
            raise ResultFileError(f"{path}: {group.attrs['case_missing']}")
        text = group["case"].asstr()[()]
    return case_from_toml(text, source=f"{path}: provenance/case")


def read_summary(path: str | Path) -> dict[str, Any]:
    """Return the summary of a result file, from its traces and counters.

    Raises
    ------
    ResultFileError
        See :func:`require_result`.
    """
    traces, case = read_traces(path), read_case_of(path)
    with require_result(path) as file:
        cost = {name: file["solver"][name][()].item() for name in file["solver"]}
        origin = {
            k: v.item() if isinstance(v, np.generic) else v
            for k, v in file["provenance"].attrs.items()
        }
    out = summarise(traces, case, cost)
    out["provenance"] = origin
    return out
