"""Files that are either the old ones or whole new ones, never halves."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

__all__ = ["json_text", "write_json", "write_text"]


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON that every reader takes: a number that is none becomes null.

    Parameters
    ----------
    path : path
        Its folder must exist.
    value : object
        Tables, lists, arrays, numbers, text; NaN and infinities become null.

    Raises
    ------
    OSError
        If the folder is missing or not writable.
    """
    write_text(path, json_text(value, indent=1))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return the JSON that :func:`write_json` writes."""
    return json.dumps(_plain(value), indent=indent, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return a value without arrays and without numbers that JSON does not have."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def write_text(path: str | Path, text: str) -> None:
    """Write text to a temporary file beside ``path``, then rename it.

    Parameters
    ----------
    path : path
        Its folder must exist.
    text : str
        Written as UTF-8.

    Raises
    ------
    OSError
        If the folder is missing or not writable.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
