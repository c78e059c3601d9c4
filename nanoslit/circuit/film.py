"""From a solved nanometre cell to a film of micrometres, at equal theta.

The path along a slit grows with the sheet length: path resistance and slit capacitance
are proportional to the half period H, the resistance of an opening stays. A film has
as many slits as sheets with their slits fit into its thickness. Two ladders with equal
theta = N^2 R_c C_slit rate/window, gamma and Q/Q_max have the same voltammogram in units
of rate x capacitance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.circuit.drive import Drive
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.circuit.observables import features
from nanoslit.errors import CircuitError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nanoslit.circuit.material import CellParameters

    Array = NDArray[np.float64]

__all__ = ["VALIDITY", "Film", "film_of"]

MOST_SLITS = 2000  # of a computed ladder
VALIDITY = (
    "slits in quasi-equilibrium across their width (a few 0.1 ns, always far shorter)",
    "no salt depletion along a slit: charge below the bulk ion content supplied by the bath",
    "ideal parallel sheets: one slit width, staggered openings, no dead ends",
    "bulk diffusivity inside the slits, unless the cell was solved with another one",
)


@dataclass(frozen=True)
class Film:
    """A film made of the slits of a solved cell (per metre of depth of a half period).

    Parameters
    ----------
    cell : CellParameters
        The solved cell.
    thickness, sheet_length : float
        Of the film [m].
    slits : int
    r_path, r_opening : float
        Resistance along a slit and of an opening [Ohm m].
    c_slit, q_max : float
        [F/m], [C/m]
    height : float
        Half period of the film [m].
    """

    cell: CellParameters
    thickness: float
    sheet_length: float
    slits: int
    r_path: float
    r_opening: float
    c_slit: float
    q_max: float
    height: float

    @property
    def r_c(self) -> float:
        """Resistance that feeds a slit when it is uncharged [Ohm m]."""
        return self.r_path + self.r_opening

    @property
    def ladder_time(self) -> float:
        """N^2 R_c C_slit [s]."""
        return self.slits**2 * self.r_c * self.c_slit

    @property
    def cell_ladder_time(self) -> float:
        """The same of the solved cell [s]."""
        return self.cell.sheets**2 * self.cell.r_c * self.cell.c_slit

    def equivalent_rate(self, cell_rate: float) -> float:
        """Return the film's scan rate of equal theta for a rate of the cell [V/s]."""
        return cell_rate * self.cell_ladder_time / self.ladder_time

    def cell_rate(self, film_rate: float) -> float:
        """Return the cell's scan rate of equal theta for a rate of the film [V/s]."""
        return film_rate * self.ladder_time / self.cell_ladder_time

    @property
    def sheet_mass(self) -> float:
        """Dry mass of the sheets of the half period [kg/m]."""
        return self.slits * 0.5 * self.sheet_length * self.cell.sheet_areal_mass

    @property
    def wall_capacitance(self) -> float:
        """Capacitance per area of the two walls of a slit [F/m^2]."""
        return self.c_slit / (2 * self.height)

    def circuit(self, most: int = MOST_SLITS) -> NanoCircuit:
        """Return the film's half cell, per depth.

        A film of more than ``most`` slits is a ladder of ``most`` with the same total
        resistance and capacitance, which is as good as a continuum: at theta = 100 the
        capacitance differs by less than 1 %. The open space in front is our choice: one
        opening's resistance and a thousandth of a slit's capacitance, both negligible.
        """
        count = min(self.slits, most)
        several = self.slits / count
        opening = max(self.r_opening, 1e-3 * self.r_c)
        return NanoCircuit(
            count, several * self.r_c, self.cell.gamma, several * self.c_slit, opening,
            1e-3 * self.c_slit, q_max=several * self.q_max, basis="per depth",
        )  # fmt: skip

    def capacitance(
        self, scan_rates: ArrayLike, upper: float, lower: float = 0.0
    ) -> tuple[Array, Array]:
        """Return capacitance per dry sheet mass [F/kg] and asymmetry against scan rate.

        Periodic cyclic voltammetry between the potentials [V], scan rates in V/s.
        """
        rate = np.atleast_1d(np.asarray(scan_rates, float))
        if not np.all(rate > 0):
            raise CircuitError("scan rates must be positive")
        low, high = np.full_like(rate, lower), np.full_like(rate, upper)
        drive = Drive.sweeps(low, high, rate, 1, low.copy())
        batch = self.circuit().select(np.zeros(len(rate), np.int64))
        values = features(batch.simulate(drive, cycle="periodic", points=64))
        return values["capacitance"] / self.sheet_mass, values["asymmetry"]


def film_of(cell: CellParameters, thickness: float, sheet_length: float) -> Film:
    """Return the film of given thickness and sheet length.

    The path resistance of the cell is H/(sigma d), that of uncharged bulk electrolyte,
    but not more than the resistance found; the rest is the opening's.

    Raises
    ------
    CircuitError
        If a length is not positive or the film is thinner than one sheet with its slit.
    """
    for key, value in (("thickness", thickness), ("sheet_length", sheet_length)):
        if not (np.isfinite(value) and value > 0):
            raise CircuitError(f"{key} = {value!r} m must be positive and finite")
    pitch = cell.slit_size + cell.sheet_thickness
    slits = round(thickness / pitch)
    if slits < 1:
        raise CircuitError(
            f"a film of {thickness:.3g} m is thinner than one sheet with its slit "
            f"({pitch:.3g} m)"
        )
    path = min(cell.height / (cell.conductivity * cell.slit_size), cell.r_c)
    height = 0.5 * (sheet_length + cell.opening)
    ratio = height / cell.height
    return Film(
        cell, thickness, sheet_length, slits, path * ratio, cell.r_c - path,
        cell.c_slit * ratio, cell.q_max * ratio, height,
    )  # fmt: skip


def with_law(cell: CellParameters, r_c: float, gamma: float, q_max: float) -> CellParameters:
    """Return the cell with the numbers of a discovered law."""
    return replace(cell, r_c=r_c, gamma=gamma, q_max=q_max)
