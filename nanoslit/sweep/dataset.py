"""A collected sweep as an xarray data set, opened lazily."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nanoslit.errors import MissingExtraError

__all__ = ["open_sweep"]


def open_sweep(folder: str | Path, plan: str | None = None) -> Any:
    """Return all observables of a sweep over its axes; data are read when they are used.

    With Dask installed the arrays are Dask arrays, so that a computation on them is lazy
    too.

    The collected file is written anew if the sweep has gone on since.

    Parameters
    ----------
    folder : path
        The sweep's folder, or a file written by ``nanoslit sweep collect``.
    plan : str, optional
        Name of a plan; by default the one used last.

    Returns
    -------
    xarray.Dataset
        Dimensions as in :mod:`nanoslit.sweep.collect`.

    Raises
    ------
    SweepError
        If the folder is none of a sweep.
    MissingExtraError
        If xarray or h5netcdf is not installed.
    """
    from nanoslit.sweep.collect import collect

    try:
        import h5netcdf  # noqa: F401
        import xarray
    except ImportError:
        raise MissingExtraError(
            "open_sweep needs xarray: pip install 'nanoslit[data]'"
        ) from None
    path = Path(folder)
    if path.is_dir() or not path.exists():
        name = f"sweep{'-' + plan if plan else ''}.h5"
        path = collect(path, path / "collected" / name, plan)[0]
    chunks: dict[str, int] | None = {} if find_spec("dask") else None  # those of the file
    return xarray.open_dataset(path, engine="h5netcdf", chunks=chunks)
