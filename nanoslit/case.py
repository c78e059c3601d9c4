"""A case: electrolyte, geometry, electrode, cell, protocol and numerics of one run."""

from __future__ import annotations

from dataclasses import dataclass, field

from nanoslit.electrolyte import Electrolyte
from nanoslit.errors import CaseError
from nanoslit.geometry import Geometry
from nanoslit.protocol import Protocol

__all__ = ["Case", "Electrode", "MeshSpacing", "Numerics", "Output"]


@dataclass(frozen=True)
class Electrode:
    """Surface of the conductor.

    Parameters
    ----------
    stern_capacitance : float, optional
        Capacitance of a compact (Stern) layer in series with the diffuse layer
        [F m^-2]; none by default.
    sheet_areal_mass : float
        Mass of a sheet per area of sheet; 0.76 mg/m^2 (one graphene layer) [kg m^-2].
    """

    stern_capacitance: float | None = None
    sheet_areal_mass: float = 0.76e-6

    def __post_init__(self) -> None:
        if self.stern_capacitance is not None and not self.stern_capacitance > 0:
            raise CaseError(
                f"stern_capacitance = {self.stern_capacitance!r} F/m^2 must be positive"
            )
        if not self.sheet_areal_mass > 0:
            raise CaseError(
                f"sheet_areal_mass = {self.sheet_areal_mass!r} kg/m^2 must be positive"
            )


@dataclass(frozen=True)
class MeshSpacing:
    """Spacing of the graded mesh: h = min(wall + growth * distance to wall, largest).

    Parameters
    ----------
    wall : float
        Cell size at walls and sheet ends as a fraction of the shortest length there: Debye
        length, shortened by the largest field of the protocol, thickness of a sheet, a third
        of an opening [-].
    growth : float
        Increase of cell size per distance along slits; across them it is
        ``nanoslit.mpnp.grid.ACROSS`` times this [-].
    largest : float
        Upper bound of the cell size in units of the Debye length [-].
    """

    wall: float
    growth: float
    largest: float

    def __post_init__(self) -> None:
        for key in ("wall", "growth", "largest"):
            if not getattr(self, key) > 0:
                raise CaseError(f"mesh {key} = {getattr(self, key)!r} must be positive")

    def finer(self, factor: float) -> MeshSpacing:
        """Return the spacing with every size divided by a factor."""
        return MeshSpacing(self.wall / factor, self.growth / factor, self.largest / factor)


@dataclass(frozen=True)
class Numerics:
    """How the equations are solved; never part of the physics.

    Parameters
    ----------
    mesh : {"coarse", "standard", "fine"} or MeshSpacing
        Preset or explicit spacing.
    tolerance : float, optional
        Relative local error per time step; by default that of the preset [-].
    linear_solver : {"direct", "iterative"}
        LU, or a preconditioned Krylov method for domains beyond its memory.
    max_step : float, optional
        Longest time step [s].
    max_steps : int
        Give up after this many accepted steps.
    """

    mesh: str | MeshSpacing = "standard"
    tolerance: float | None = None
    linear_solver: str = "direct"
    max_step: float | None = None
    max_steps: int = 1_000_000

    def __post_init__(self) -> None:
        if isinstance(self.mesh, str) and self.mesh not in ("coarse", "standard", "fine"):
            raise CaseError(
                f"mesh = {self.mesh!r} must be 'coarse', 'standard' or 'fine', or a table "
                "of wall, growth and largest"
            )
        if self.tolerance is not None and not 0 < self.tolerance < 0.1:
            raise CaseError(f"tolerance = {self.tolerance!r} must be between 0 and 0.1")
        if self.linear_solver not in ("direct", "iterative"):
            raise CaseError(
                f"linear_solver = {self.linear_solver!r} must be 'direct' or 'iterative'"
            )
        if self.max_step is not None and not self.max_step > 0:
            raise CaseError(f"max_step = {self.max_step!r} s must be positive")
        if self.max_steps < 1:
            raise CaseError(f"max_steps = {self.max_steps!r} must be at least 1")


@dataclass(frozen=True)
class Output:
    """Which fields a result keeps besides the traces; never part of the content key.

    Parameters
    ----------
    snapshot_potentials : tuple of float, optional
        Potentials at which the fields are kept, each time the last cycle passes them;
        by default 1/3 and 2/3 of the window, none for an empty list [V].
    snapshot_times : tuple of float
        Further times [s].
    snapshot_vertices : bool
        Also at the ends of the sweeps of the last cycle.
    """

    snapshot_potentials: tuple[float, ...] | None = None
    snapshot_times: tuple[float, ...] = ()
    snapshot_vertices: bool = True


@dataclass(frozen=True)
class Case:
    """Everything that one simulation needs; one case file reproduces one run.

    Parameters
    ----------
    name : str
        Label; not part of the content key.
    electrolyte : Electrolyte
    geometry : Planar or NanoslitNetwork
    protocol : Protocol
    electrode : Electrode
    cell : {"half", "full"}
        ``half``: ideal reservoir (bulk concentration, zero potential) at x = 0.
        ``full``: two mirrored electrodes at +V/2 and -V/2, the salt closed in.
    numerics : Numerics
    output : Output
    """

    name: str
    electrolyte: Electrolyte
    geometry: Geometry
    protocol: Protocol
    electrode: Electrode = field(default_factory=Electrode)
    cell: str = "half"
    numerics: Numerics = field(default_factory=Numerics)
    output: Output = field(default_factory=Output)

    def __post_init__(self) -> None:
        if self.cell not in ("half", "full"):
            raise CaseError(f"cell = {self.cell!r} must be 'half' or 'full'")

    @property
    def largest_wall_potential(self) -> float:
        """Largest |potential| of an electrode against the electrolyte at zero charge [V]."""
        lo, hi = self.protocol.bounds
        return max(abs(lo), abs(hi)) * (0.5 if self.cell == "full" else 1.0)
