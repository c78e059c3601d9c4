"""Writing figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanoslit.errors import CaseError

__all__ = ["ENDINGS", "require_ending", "save"]

ENDINGS = (".png", ".svg", ".pdf")


def require_ending(path: str | Path) -> None:
    """Raise unless a name ends as a figure's must.

    Raises
    ------
    CaseError
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise CaseError(f"{path}: figures are written as .png, .svg or .pdf")


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as png, svg or pdf: to a temporary name, then renamed.

    Raises
    ------
    CaseError
        If the ending is another one.
    OSError
        If the folder is missing or not writable.
    """
    path = Path(path)
    require_ending(path)
    part = path.with_name(f".{path.name}.part")
    try:
        figure.savefig(part, format=path.suffix.lower().lstrip("."), dpi=150)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
