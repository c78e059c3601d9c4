"""Curves of one circuit that are no time series: impedance spectra, Ragone plots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import CaseError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.ladder import NanoCircuit

    Array = NDArray[np.float64]

__all__ = ["Column", "Curve", "Ragone", "unit_of"]

_PER = {"absolute": "", "per depth": "m", "per area": "m^2"}


def unit_of(unit: str, circuit: NanoCircuit) -> str:
    """Return a unit in the basis of a circuit: a resistance times, else per length or area."""
    per = _PER[circuit.basis]
    if not per:
        return unit
    return f"{unit} {per}" if unit == "Ohm" else f"{unit}/{per}"


@dataclass(frozen=True)
class Column:
    """Values with heading and unit."""

    heading: str
    unit: str
    values: Array


@dataclass(frozen=True)
class Curve:
    """Columns of equal length by name; the first is the one that the others depend on."""

    kind: str
    columns: dict[str, Column]
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ragone:
    """Energy against power of constant-current discharges, as a file asks for it.

    Parameters
    ----------
    upper, lower : float
        Rest before the discharge, and its end [V].
    lowest, highest : float
        Currents [A, A/m or A/m^2].
    per_decade : int
        Currents in a factor of ten.

    Raises
    ------
    CaseError
        If the range of currents or the window is empty.
    """

    upper: float
    lowest: float
    highest: float
    lower: float = 0.0
    per_decade: int = 10

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise CaseError(
                f"lowest = {self.lowest:g} A must be below highest = {self.highest:g} A"
            )
        if not self.lower < self.upper:
            raise CaseError(f"lower = {self.lower:g} V must be below upper = {self.upper:g} V")

    @property
    def current(self) -> Array:
        """Currents, rising."""
        decades = np.log10(self.highest / self.lowest)
        count = max(2, int(np.ceil(decades * self.per_decade)) + 1)
        return np.geomspace(self.lowest, self.highest, count)

    def curve(self, circuit: NanoCircuit) -> Curve:
        """Return the plot of one circuit; see :func:`nanoslit.circuit.observables.ragone`."""
        from nanoslit.circuit.observables import ragone

        found = ragone(circuit, self.current, upper=self.upper, lower=self.lower)
        units = {"energy": "J", "power": "W", "time": "s", "charge": "C"}
        columns = {"current": Column("current", unit_of("A", circuit), found["current"])}
        columns |= {
            name: Column(
                name, unit if name == "time" else unit_of(unit, circuit), found[name][0]
            )
            for name, unit in units.items()
        }
        return Curve("ragone", columns, {"upper": self.upper, "lower": self.lower})
