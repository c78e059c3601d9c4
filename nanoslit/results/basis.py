"""What extensive values are divided by: depth, footprint, volume, mass, wall surface.

Traces are per metre of depth of the simulated half period. Both halves of a period are
alike, so that divided by the half period's height, volume, mass or wall they are those of
the whole electrode. A half cell gives values of an electrode; a full cell those of the
cell, whose two electrodes both count in its volume, mass and wall: for equal electrodes
the capacitance of one is four times that of the cell per mass (twice as much, on half the
mass) and twice that of the cell per footprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanoslit.errors import CaseError, closest
from nanoslit.results.summary import geometry_numbers

if TYPE_CHECKING:
    from nanoslit.case import Case

__all__ = ["BASES", "Basis", "basis"]

BASES = ("depth", "area", "volume", "mass", "surface")

# divisor's numbers, what it is called, laboratory unit and its size in SI, for the unit
# "F" (currents "A" and so on take the same factor)
_KINDS: dict[str, tuple[tuple[str, ...], str, str, float, str]] = {
    "depth": ((), "per metre of depth of the half period", "m", 1.0, ""),
    "area": (("half_period_height",), "per footprint area", "cm2", 1e-4, ""),
    "volume": (
        ("half_period_height", "electrode_thickness"),
        "per electrode volume",
        "cm3",
        1e-6,
        "",
    ),
    "mass": (("sheet_mass",), "per mass of dry sheets", "g", 1e-3, ""),
    "surface": (("wall_area",), "per wetted wall", "cm2", 1e-4, "u"),
}


@dataclass(frozen=True)
class Basis:
    """How values per depth become values on another basis.

    Attributes
    ----------
    name : str
    factor : float
        Multiply a value per metre of depth (F/m, A/m, C/m) by it to get ``unit``.
    prefix, per : str
        The unit is prefix + F (A, C, W, J) + "/" + per, such as uF/cm2.
    label : str
        What it is, and whose: the electrode's or the cell's.
    """

    name: str
    factor: float
    prefix: str
    per: str
    label: str

    def unit(self, symbol: str) -> str:
        """Return the unit of a quantity, such as ``F/g`` for ``F``."""
        return f"{self.prefix}{symbol}/{self.per}"


def basis(case: Case, name: str) -> Basis:
    """Return how to express the extensive values of a case on a basis.

    Parameters
    ----------
    case : Case
    name : {"depth", "area", "volume", "mass", "surface"}

    Raises
    ------
    CaseError
        If the name is unknown, or a planar wall is asked for its volume or mass.
    """
    if name not in _KINDS:
        guess = closest(name, BASES)
        raise CaseError(
            f"per {name!r} is no basis; choose among {', '.join(BASES)}"
            + (f" ({guess})" if guess else "")
        )
    keys, text, per, size, prefix = _KINDS[name]
    numbers = geometry_numbers(case)
    divisor = 1.0
    for key in keys:
        if key not in numbers:
            raise CaseError(
                f"per {name}: a planar wall has no {key.replace('_', ' ')}; use depth, area "
                "or surface"
            )
        divisor *= numbers[key]
    label = f"electrode, {text}"
    if case.cell == "full":
        both = name not in ("depth", "area")
        divisor *= 2 if both else 1
        share = (
            f"{text} of both electrodes; one electrode of two equal ones has 4 times "
            "this capacitance"
            if both
            else f"{text}; one electrode of two equal ones has 2 times this capacitance"
        )
        label = f"cell, {share}"
    micro = {"": 1.0, "u": 1e6}[prefix]
    return Basis(name, size * micro / divisor, prefix, per, label)
