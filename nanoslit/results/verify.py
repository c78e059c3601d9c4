"""Whether a file is what was written: seal, version, every chunk readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nanoslit.errors import DamagedFileError, ResultFileError
from nanoslit.results import sealed
from nanoslit.results.files import SCHEMA, require_result

__all__ = ["verify_file"]


def verify_file(path: str | Path) -> str:
    """Return what was found in a good result or checkpoint file.

    Raises
    ------
    ResultFileError
        If the file is missing, not HDF5, of another version, or not of nanoslit.
    DamagedFileError
        If it was truncated, a bit was flipped, or a dataset cannot be read.
    """
    path = Path(path)
    try:
        sealed.check(path)
    except DamagedFileError:
        _require_ours(path)
        raise
    with sealed.open_sealed(path) as file:
        schema = file.attrs.get("schema")
    if schema != SCHEMA:
        return f"good ({schema}), {path.stat().st_size} bytes"
    with require_result(path) as file:
        count = _read_everything(file)
        key = file.attrs["content_key"]
    return f"good, {count} datasets, {path.stat().st_size} bytes, key {key[:12]}"


def _require_ours(path: Path) -> None:
    """Raise if a file that opens was written by another program."""
    try:
        with sealed.open_sealed(path) as file:
            schema = file.attrs.get("schema")
    except DamagedFileError:
        return
    if not str(schema).startswith("nanoslit-"):
        raise ResultFileError(f"{path}: is an HDF5 file that nanoslit did not write")


def _read_everything(file: Any) -> int:
    """Read every dataset, which checks the sums of its chunks; return their number."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            np.asarray(item[()])
            found.append(name)

    file.visititems(visit)
    return len(found)
