"""Files that are either the old ones or whole new ones, never halves."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write_text"]


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
