"""Geometry of the electrode: planar wall or network of staggered nanoslits.

x runs from the reservoir (x = 0) into the electrode. Sheets 1..N lie across x; each is
followed by a slit of width d, and the last slit is closed by an impermeable current
collector at the electrode's potential. The stack is periodic in y with period L + delta
(one sheet, one opening). By mirror symmetry half of it, H = (L + delta)/2, is simulated:
half a sheet and half an opening per row. Staggered: odd sheets are open over delta/2 at
the upper end (y = H), even sheets at the lower end (y = 0); aligned: all at the upper end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nanoslit.errors import GeometryError

__all__ = ["Geometry", "NanoslitNetwork", "Planar"]


_LONGEST = 1e-4  # m; a mesh of a reservoir as long as this has a quarter of a million nodes


def _require_length(owner: object, *keys: str) -> None:
    for key in keys:
        value = getattr(owner, key)
        if not (math.isfinite(value) and value > 0):
            raise GeometryError(f"{key} = {value!r} m must be positive and finite")
        if value > _LONGEST:
            raise GeometryError(
                f"{key} = {value:.4g} m must be at most {_LONGEST:g} m: the mesh resolves "
                "nanometres. `nanoslit scale` maps a solved cell to a film of micrometres"
            )


@dataclass(frozen=True)
class Planar:
    """A flat wall that faces a reservoir: one double layer, one dimension.

    Parameters
    ----------
    reservoir : float
        Distance from the reservoir (or, in a full cell, the mid-plane) to the wall [m].

    Raises
    ------
    GeometryError
        If the distance is not positive, or beyond 0.1 mm.
    """

    reservoir: float

    def __post_init__(self) -> None:
        _require_length(self, "reservoir")

    @property
    def sheets(self) -> int:
        """Number of sheets: 0."""
        return 0


@dataclass(frozen=True)
class NanoslitNetwork:
    """A stack of perforated conducting sheets (all lengths in m).

    Parameters
    ----------
    slit_size : float
        Clear distance d between neighbouring sheets.
    sheet_length : float
        Length L of a sheet between two openings.
    opening : float
        Width delta of an opening; smaller than the sheet.
    sheets : int
        Number N of sheets, which is also the number of slits.
    sheet_thickness : float
        Thickness of a sheet; 0.335 nm (graphene) by default.
    reservoir : float
        Distance from the reservoir at x = 0 (in a full cell: from the mid-plane) to the
        first sheet.
    arrangement : {"staggered", "aligned"}
        Where the openings of neighbouring sheets lie.

    Raises
    ------
    GeometryError
        If a length is not positive or beyond 0.1 mm, the opening is not shorter than the
        sheet, or the number of sheets is not a whole number >= 1.
    """

    slit_size: float
    sheet_length: float
    opening: float
    sheets: int
    sheet_thickness: float = 0.335e-9
    reservoir: float = 10e-9
    arrangement: str = "staggered"

    def __post_init__(self) -> None:
        _require_length(
            self, "slit_size", "sheet_length", "opening", "sheet_thickness", "reservoir"
        )
        if isinstance(self.sheets, bool) or self.sheets != int(self.sheets) or self.sheets < 1:
            raise GeometryError(f"sheets = {self.sheets!r} must be a whole number >= 1")
        if self.opening >= self.sheet_length:
            raise GeometryError(
                f"opening = {self.opening:.4g} m must be shorter than sheet_length = "
                f"{self.sheet_length:.4g} m"
            )
        if self.arrangement not in ("staggered", "aligned"):
            raise GeometryError(
                f"arrangement = {self.arrangement!r} must be 'staggered' or 'aligned'"
            )

    @property
    def height(self) -> float:
        """Simulated height H = (L + delta)/2 [m]."""
        return 0.5 * (self.sheet_length + self.opening)

    @property
    def pitch(self) -> float:
        """Sheet thickness plus slit size [m]."""
        return self.sheet_thickness + self.slit_size

    @property
    def thickness(self) -> float:
        """Electrode thickness N (t + d), from the first sheet to the collector [m]."""
        return self.sheets * self.pitch

    @property
    def path_length(self) -> float:
        """Path along a slit between the openings of its two sheets [m].

        Half a period for the staggered stack. In the aligned stack the openings face
        one another and the path is slit width plus sheet thickness.
        """
        return self.height if self.arrangement == "staggered" else self.pitch

    @property
    def wall_area(self) -> float:
        """Wetted wall per depth of the simulated half period, collector included [m].

        Both faces of N half sheets, the sheet ends, and the collector.
        """
        half_sheet = 0.5 * self.sheet_length
        return self.sheets * (2 * half_sheet + self.sheet_thickness) + self.height

    def sheet_front(self, k: int) -> float:
        """Return x of the reservoir-side face of sheet k = 1..N [m]."""
        return self.reservoir + (k - 1) * self.pitch

    def opening_at_top(self, k: int) -> bool:
        """Whether sheet k = 1..N is open at the upper end (y = H)."""
        return self.arrangement == "aligned" or k % 2 == 1


Geometry = Planar | NanoslitNetwork
