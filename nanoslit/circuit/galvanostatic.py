"""Protocols with a given current: constant-current charge and discharge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nanoslit.circuit.drive import CURRENT
from nanoslit.errors import ProtocolError
from nanoslit.protocol import Protocol

__all__ = ["Galvanostatic"]


@dataclass(frozen=True)
class Galvanostatic(Protocol):
    """Constant-current charge and discharge between two potentials.

    Starts from rest at ``start``. Each half cycle ends when the potential reaches its
    limit, which includes the ohmic step of R_open; a full cell's limits and start are
    those of the cell.

    Parameters
    ----------
    current : float
        Charging current, also that of the discharge unless ``discharge_current`` is
        given [A, A/m or A/m^2 as the circuit's basis], positive.
    lower, upper : float
        Limits [V].
    cycles : int
        Number of charges and discharges.
    start : float, optional
        Potential of the rest state, ``lower`` by default [V]; with ``start = upper`` the
        discharge comes first.
    discharge_current : float, optional
        Positive [A, ...].
    longest : float
        No half cycle lasts longer than this [s].
    """

    current: float
    lower: float
    upper: float
    cycles: int = 1
    start: float | None = None
    discharge_current: float | None = None
    longest: float = 1e9

    def __post_init__(self) -> None:
        for key in ("current", "discharge_current", "longest"):
            value = getattr(self, key)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ProtocolError(f"{key} = {value!r} must be positive and finite")
        if not (math.isfinite(self.lower) and math.isfinite(self.upper)):
            raise ProtocolError("lower and upper must be finite")
        if self.upper <= self.lower:
            raise ProtocolError(
                f"upper = {self.upper:g} V must be above lower = {self.lower:g} V"
            )
        if isinstance(self.cycles, bool) or self.cycles != int(self.cycles) or self.cycles < 1:
            raise ProtocolError(f"cycles = {self.cycles!r} must be a whole number >= 1")
        start = self.lower if self.start is None else self.start
        if not self.lower <= start <= self.upper:
            raise ProtocolError(
                f"start = {start!r} V must lie between lower = {self.lower:g} V and upper = "
                f"{self.upper:g} V"
            )
        object.__setattr__(self, "start", float(start))

    @property
    def start_potential(self) -> float:
        """Potential of the rest state before time 0 [V]."""
        assert self.start is not None
        return self.start

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest potential [V]."""
        return self.lower, self.upper

    def pieces(
        self,
    ) -> tuple[
        Sequence[int],
        Sequence[float],
        Sequence[float],
        Sequence[float],
        Sequence[int],
        float,
    ]:
        """Return kind, longest duration, current, limit and cycle of each half cycle."""
        down = -(self.discharge_current or self.current)
        pair = [(self.current, self.upper), (down, self.lower)]
        if self.start_potential == self.upper:
            pair.reverse()
        halves = pair * self.cycles
        count = len(halves)
        return (
            [CURRENT] * count,
            [self.longest] * count,
            [value for value, _ in halves],
            [limit for _, limit in halves],
            [1 + k // 2 for k in range(count)],
            self.start_potential,
        )
