"""From checks with error bars to one of four words.

A check is a number with an error that must lie between two bounds. It holds if the whole
error bar does, fails if none of it does, and is open otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["FAILS", "HOLDS", "IN_PART", "NOT_TESTED", "Check", "judge"]

HOLDS = "holds over the declared range"
IN_PART = "holds in part"
FAILS = "fails over the range"
NOT_TESTED = "not tested here"


@dataclass(frozen=True)
class Check:
    """One test of a claim.

    Parameters
    ----------
    run : str
        Run or interval between runs, as the reader would name it.
    value, error : float
        What was found and the half width of its error bar.
    low, high : float
        Bounds between which the claim holds.
    place : str
        Where in the cell, or which number.
    """

    run: str
    value: float
    error: float
    low: float = -math.inf
    high: float = math.inf
    place: str = ""

    @property
    def where(self) -> str:
        """Run and place in one."""
        return f"{self.run}, {self.place}" if self.place else self.run

    @property
    def holds(self) -> bool | None:
        """Whether the claim holds here; None if the error bar crosses a bound."""
        if not math.isfinite(self.value) or not math.isfinite(self.error):
            return None
        bottom, top = self.value - self.error, self.value + self.error
        if self.low <= bottom and top <= self.high:
            return True
        if top < self.low or bottom > self.high:
            return False
        return None


def judge(checks: Sequence[Check], reason: str) -> tuple[str, str]:
    """Return the verdict word and where it applies.

    Parameters
    ----------
    checks : sequence of Check
    reason : str
        Why there may be none.

    Returns
    -------
    tuple of str
        One of :data:`HOLDS`, :data:`IN_PART`, :data:`FAILS`, :data:`NOT_TESTED`, and the
        boundary (or the reason).
    """
    if not checks:
        return NOT_TESTED, reason
    groups = {k: [c for c in checks if c.holds is k] for k in (True, False, None)}
    held, failed, unclear = groups[True], groups[False], groups[None]
    if not held and not failed:
        return NOT_TESTED, "the error bars are larger than the effect"
    if held and not failed and not unclear:
        return HOLDS, ""
    words = [("holds", held), ("fails", failed), ("open within errors", unclear)]
    boundary = "; ".join(f"{word}: {_names(some, checks)}" for word, some in words if some)
    if held:
        return IN_PART, boundary
    return FAILS, boundary if unclear else ""


def _names(some: Sequence[Check], checks: Sequence[Check]) -> str:
    """Name checks of one group: by run or by place alone where that says all."""
    rest = [c for c in checks if c not in some]
    for key in ("run", "place"):
        names = list(dict.fromkeys(getattr(c, key) for c in some))
        if "" not in names and not {getattr(c, key) for c in rest} & set(names):
            return ("; " if any("," in n for n in names) else ", ").join(names)
    places = dict.fromkeys(c.place for c in some)
    return "; ".join(
        f"{place} ({', '.join(c.run for c in some if c.place == place)})" for place in places
    )
