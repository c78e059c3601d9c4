"""Export of a result: tables of the traces (CSV, Parquet), fields for ParaView (VTK)."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np

from nanoslit.errors import (
    CaseError,
    MissingExtraError,
    ResultFileError,
    WriteFailedError,
)
from nanoslit.mpnp.traces import SPECS
from nanoslit.results.basis import basis
from nanoslit.results.files import FIELDS, read_case_of, read_traces, require_result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nanoslit.mpnp.traces import Traces
    from nanoslit.results.basis import Basis

__all__ = ["FORMATS", "export", "flat_columns"]

FORMATS = ("vtk", "csv", "parquet")

_HIDDEN_CELL = 32
_VTR = re.compile(r"fields-\d{4,}\.vtr")
_PER_DEPTH = {"C m-1": "C", "A m-1": "A", "mol m-1": "mol"}


def flat_columns(traces: Traces, chosen: Basis | None = None) -> dict[str, Any]:
    """Return every trace as columns, one per slit, opening, ...; unit in the name.

    Parameters
    ----------
    traces : Traces
    chosen : Basis, optional
        Basis of the values per depth; depth by default.

    Returns
    -------
    dict of str to ndarray
        Names such as ``slit_charge_2 [C m-1]``; slits and openings count from 1.
    """
    out: dict[str, Any] = {}
    for name, data in traces.values.items():
        unit = SPECS[name].unit
        if chosen is not None and chosen.name != "depth" and unit in _PER_DEPTH:
            data, unit = data * chosen.factor, chosen.unit(_PER_DEPTH[unit])
        for index in np.ndindex(data.shape[1:]):
            suffix = "".join(f"_{i + 1}" for i in index)
            out[f"{name}{suffix} [{unit}]"] = data[(slice(None), *index)]
    return out


def _replace(path: Path, data: bytes) -> None:
    """Write bytes to a temporary name, then rename."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _csv(columns: dict[str, Any], label: str) -> bytes:
    text = io.StringIO()
    text.write(f"# {label}\n" + ",".join(columns) + "\n")
    np.savetxt(text, np.column_stack(list(columns.values())), delimiter=",", fmt="%.17g")
    return text.getvalue().encode()


def _parquet(columns: dict[str, Any], label: str) -> bytes:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("Parquet needs pyarrow: install nanoslit[data]") from error
    table = pa.table(columns).replace_schema_metadata({"basis": label})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue().to_pybytes())


def _grids(path: Path) -> Iterator[tuple[float, Any]]:
    """Yield time and a pyvista rectilinear grid of every snapshot."""
    try:
        import pyvista
    except ImportError as error:
        raise MissingExtraError("VTK files need pyvista: install nanoslit[vtk]") from error
    with require_result(path) as file:
        if "fields" not in file:
            raise ResultFileError(f"{path}: keeps no fields; run with --snapshots")
        group = file["fields"]
        x, y = group["x"][()] * 1e9, group["y"][()] * 1e9
        ions = list(group["ion"].asstr()[()])
        for i, t in enumerate(group["time"][()]):
            grid = pyvista.RectilinearGrid(x, y, np.zeros(1))
            data = {name: group[name][i] for name in FIELDS}
            _point_data(grid, data, ions)
            grid.field_data["applied_potential"] = group["applied_potential"][i : i + 1]
            yield float(t), grid


def _point_data(grid: Any, data: dict[str, Any], ions: list[str]) -> None:
    """Add fields as point data: x runs fastest in VTK; solids are blanked."""

    def flat(a: Any) -> Any:
        return np.ascontiguousarray(a.T).ravel()

    def vector(a: Any, b: Any) -> Any:
        return np.stack([flat(a), flat(b), np.zeros(a.size)], axis=1)

    grid.point_data["phi"] = flat(data["phi"])
    grid.point_data["current_density"] = vector(
        data["current_density_x"], data["current_density_y"]
    )
    for k, ion in enumerate(ions):
        grid.point_data[f"c_{ion}"] = flat(data["concentration"][k])
        grid.point_data[f"flux_{ion}"] = vector(data["ion_flux_x"][k], data["ion_flux_y"][k])
    solid = np.isnan(data["phi"])
    touching = solid[1:, 1:] | solid[1:, :-1] | solid[:-1, 1:] | solid[:-1, :-1]
    # VTK's own mark of cells that are not drawn
    grid.cell_data["vtkGhostType"] = np.where(flat(touching), _HIDDEN_CELL, 0).astype(np.uint8)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else [folder]


def _require_whole(part: Path, target: Path) -> None:
    """Raise if VTK could not write all of a file: it only prints that."""
    end = b"</VTKFile>"
    with part.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - 64))
        if end not in file.read():
            raise WriteFailedError(f"{target}: cannot be written: is the disk full?")


def _vtk(path: Path, target: Path) -> None:
    """Write one .vtr per snapshot into a folder and a .pvd that lists their times."""
    folder = target.with_suffix("")
    if folder.exists() and not all(_VTR.fullmatch(p.name) for p in _entries(folder)):
        raise CaseError(
            f"{folder}: holds other files than those of an export; choose another name with -o"
        )
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.part-", dir=target.parent))
    try:
        entries = []
        for i, (t, grid) in enumerate(_grids(path)):
            name = f"fields-{i:04d}.vtr"
            grid.save(work / name)
            _require_whole(work / name, target)
            entries.append(
                f'    <DataSet timestep="{t!r}" file={quoteattr(folder.name + "/" + name)}/>'
            )
        if folder.exists():
            shutil.rmtree(folder)
        work.chmod(0o755)
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    text = "\n".join(
        [
            '<?xml version="1.0"?>',
            '<VTKFile type="Collection" version="0.1">',
            "  <Collection>",
            *entries,
            "  </Collection>",
            "</VTKFile>",
            "",
        ]
    )
    _replace(target, text.encode())


def export(
    path: str | Path, to: str, output: str | Path | None = None, per: str = "depth"
) -> Path:
    """Write a result in another format and return the file written.

    Parameters
    ----------
    path : path
        Result file.
    to : {"vtk", "csv", "parquet"}
        ``csv`` and ``parquet`` hold the traces, a column for each slit, opening and so
        on; ``vtk`` the fields: a ``.pvd`` that ParaView opens as a time series (lengths
        in nm) and a folder of ``.vtr`` files beside it.
    output : path, optional
        By default beside the result.
    per : str
        Basis of the traces' values per depth.

    Raises
    ------
    CaseError
        If the format or the basis is unknown.
    ResultFileError
        If the file is no result, or keeps no fields.
    MissingExtraError
        If pyvista or pyarrow is not installed.
    """
    path = Path(path)
    if to not in FORMATS:
        raise CaseError(f"--to {to}: unknown format; choose among {', '.join(FORMATS)}")
    ending = ".pvd" if to == "vtk" else f".{to}"
    target = path.with_suffix(ending) if output is None else Path(output)
    if to == "vtk":
        if target.suffix != ".pvd":
            raise CaseError(f"{target}: give a name that ends in .pvd (a time series)")
        _vtk(path, target)
        return target
    chosen = basis(read_case_of(path), per)
    columns = flat_columns(read_traces(path), chosen)
    _replace(target, {"csv": _csv, "parquet": _parquet}[to](columns, chosen.label))
    return target
