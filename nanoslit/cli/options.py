"""What several commands ask for, read in one way."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanoslit.errors import CaseError

__all__ = ["quantity", "require_free", "shared"]


def quantity(option: str, text: str, unit: str, *, positive: bool = True) -> float:
    """Return the value of an option such as ``--time "4 h"``.

    Parameters
    ----------
    option : str
        Its name, for the message.
    text : str
    unit : str
        SI unit of the value.
    positive : bool
        Whether it must be above zero.

    Raises
    ------
    CaseError
        If it is no such quantity.
    """
    from nanoslit.units import parse_quantity

    try:
        value = parse_quantity(text, unit)
    except CaseError as error:
        raise CaseError(f"{option} {text!r}: {error}") from None
    if positive and value <= 0:
        raise CaseError(f"{option} {text!r} must be positive")
    return value


def require_free(path: Path | None, *, overwrite: bool) -> None:
    """Raise unless a file may be written there.

    Raises
    ------
    CaseError
        If it exists, or its folder does not.
    """
    if path is None:
        return
    if path.is_dir():
        raise CaseError(f"{path}: is a folder; give the name of a file")
    if path.exists() and not overwrite:
        raise CaseError(f"{path}: exists already; choose another name or add --overwrite")
    if not path.parent.is_dir():
        raise CaseError(f"{path}: folder {path.parent} does not exist; make it first")


def shared(name: str, read: Callable[..., Any]) -> Callable[[Callable[..., None]], Any]:
    """Give a command the options of another function, too.

    Parameters
    ----------
    name : str
        Parameter of the command that takes what ``read`` returns.
    read : callable
        Its parameters are options, described as those of a command.
    """
    more = inspect.signature(read, eval_str=True).parameters

    def give(command: Callable[..., None]) -> Any:
        own = dict(inspect.signature(command, eval_str=True).parameters)
        own.pop(name)

        def run(**given: Any) -> None:
            asked = {key: given.pop(key) for key in more}
            command(**given, **{name: read(**asked)})

        kind = inspect.Parameter.KEYWORD_ONLY
        every = [p.replace(kind=kind) for p in (*own.values(), *more.values())]
        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in every}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return give
