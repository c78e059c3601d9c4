"""Whether a file is what was written: seal, version, every chunk readable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nanoslit.errors import DamagedFileError
from nanoslit.results import sealed
from nanoslit.results.files import SCHEMA, require_result

__all__ = ["verify_file"]


def verify_file(path: str | Path) -> str:
    """Return what was found in a good result or checkpoint file.

    Raises
    ------
    ResultFileError
        If the file is missing, not HDF5, or of another version.
    DamagedFileError
        If it was truncated, a bit was flipped, or a dataset cannot be read.
    """
    path = Path(path)
    sealed.check(path)
    with sealed.open_sealed(path) as file:
        schema = file.attrs.get("schema")
    if schema != SCHEMA:
        return f"good ({schema}), {path.stat().st_size} bytes"
    with require_result(path) as file:
        count = _read_everything(path, file)
        key = file.attrs["content_key"]
    return f"good, {count} datasets, {path.stat().st_size} bytes, key {key[:12]}"


def _read_everything(path: Path, file: Any) -> int:
    """Read every dataset, which checks the sums of its chunks; return their number."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            try:
                np.asarray(item[()])
            except (OSError, RuntimeError) as error:
                raise DamagedFileError(
                    f"{path}: {name} cannot be read ({error}); repeat the run"
                ) from None
            found.append(name)

    file.visititems(visit)
    return len(found)
