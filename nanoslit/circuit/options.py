"""Named options of the circuit model that the literature leaves open, with defaults."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from nanoslit.errors import CircuitError

__all__ = ["ACCESS", "BASES", "CELLS", "CHARGES", "GOVERNORS", "Q_MAX", "choose"]

GOVERNORS = ("inner", "outer", "outer_open", "mean")
Q_MAX = ("window", "cycle")
CHARGES = ("abs", "signed")
ACCESS = ("dynamic", "constant")
CELLS = ("half", "symmetric")
BASES = ("absolute", "per depth", "per area")


def choose(key: str, value: object, allowed: Sequence[str]) -> str:
    """Return ``value`` if it is one of the allowed names.

    Raises
    ------
    CircuitError
        Otherwise; the message lists the names and suggests the nearest one.
    """
    if value in allowed:
        return str(value)
    near = difflib.get_close_matches(str(value), allowed, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise CircuitError(f"{key} = {value!r} must be one of {list(allowed)}{hint}")
