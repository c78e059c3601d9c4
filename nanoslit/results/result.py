"""Results in Python: ``nanoslit.run(case)`` and ``nanoslit.open_result(path)``."""

from __future__ import annotations

import html
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoslit.errors import MissingExtraError
from nanoslit.results.files import read_case_of, read_summary, require_result

if TYPE_CHECKING:
    from nanoslit.case import Case

__all__ = ["Result", "open_result", "run"]


class Result:
    """A finished run: traces and fields as xarray datasets, summary, case.

    Parameters
    ----------
    path : path
        Result file.

    Raises
    ------
    ResultFileError
        If it is missing, not a result, or of another version.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with require_result(self.path) as file:
            self.groups = tuple(file)

    def dataset(self, group: str) -> Any:
        """Return one group of the file as an ``xarray.Dataset``, in memory.

        Raises
        ------
        MissingExtraError
            If xarray or h5netcdf is not installed.
        """
        try:
            import h5netcdf  # noqa: F401
            import xarray
        except ImportError as error:
            raise MissingExtraError(
                "labelled results need xarray and h5netcdf: install nanoslit[data], or read "
                f"{self.path} with h5py"
            ) from error
        with xarray.open_dataset(self.path, engine="h5netcdf", group=group) as data:
            return data.load()

    @cached_property
    def traces(self) -> Any:
        """Time series (``xarray.Dataset``; names and units in the README)."""
        return self.dataset("traces")

    @cached_property
    def fields(self) -> Any:
        """Snapshots of the fields on the mesh (``xarray.Dataset``), None if none kept."""
        return self.dataset("fields") if "fields" in self.groups else None

    @cached_property
    def case(self) -> Case:
        """The case that was run."""
        return read_case_of(self.path)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return read_summary(self.path)

    def summary(self) -> dict[str, Any]:
        """Return what ``nanoslit show --json`` prints; see ``results.summary``."""
        return self._summary

    def _lines(self) -> list[tuple[str, str]]:
        s = self.summary()
        rows = [
            ("file", str(self.path)),
            ("case", s["name"]),
            ("cell", s["cell"]),
            ("CV area", f"{s['cv_area']:.4g} W/m"),
        ]
        if s["capacitance"] is not None:
            rows.append(("capacitance", f"{s['capacitance']:.4g} F/m"))
        for k, row in enumerate(s["openings"], 1):
            rows.append(
                (
                    f"opening {k}",
                    f"R_c = {row['r_c']:.4g} Ohm m, gamma = "
                    f"{row['gamma']:.3f}, R2 = {row['r2']:.4f}",
                )
            )
        return rows

    def __repr__(self) -> str:
        return f"<nanoslit result {self.path}>"

    def _repr_html_(self) -> str:
        """Return the summary as a table for notebooks."""
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td>{html.escape(text)}</td></tr>"
            for name, text in self._lines()
        )
        return f"<table>{rows}</table>"


def open_result(path: str | Path) -> Result:
    """Return a finished run from its file; see :class:`Result`."""
    return Result(path)


def run(
    case: Case,
    path: str | Path | None = None,
    *,
    comm: Any = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Result:
    """Run a case in this process and return its result.

    Parameters
    ----------
    case : Case
    path : path, optional
        Result file; by default one in a new temporary folder (``Result.path``), which
        nobody deletes.
    comm : mpi4py communicator, optional
        One process alone by default; with several ranks give the path.
    overwrite : bool
        Replace an existing result.
    resume : bool
        Go on from a checkpoint beside the path.

    Raises
    ------
    ResultFileError
        If the file exists or cannot be written.
    ConvergenceError
        If the solver cannot go on.
    """
    from nanoslit.results.running import run_case

    if path is None:
        path = Path(tempfile.mkdtemp(prefix="nanoslit-")) / "result.h5"
    run_case(case, path, comm=comm, overwrite=overwrite, resume=resume)
    return Result(path)
