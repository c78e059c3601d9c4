"""Ion-resolved circuit: a chain of slits in which every ion has a rail of its own.

A ladder with one node per slit takes the charge of a slit for its whole state. Salt moves as
slowly as charge does, so a slit has two: the contents of both ions, or a potential U and a
salt potential w, with the ions' (mu_s - mu_s,bulk)/(z_s e) = V_s = U + w/z_s. Then

* a slit holds what a long slit in equilibrium at (E - U, w) holds, times a length;
* the sheet in front holds what a planar wall does, times a length;
* between neighbouring slits an ion's voltage is that of a path through both slits and of a
  passage through the opening, each with the ions that are there,

      V_s,k+1 - V_s,k = V_T/(F D_s) I_s (path^2/N_s + passage/n_s),

  N_s the mean of their contents, n_s the content per length of a slit as wide as the opening,
  in equilibrium at their mean state; at the mouth N_s is that of slit 1, and a length of open
  space comes on top;
* the open space in front is bulk electrolyte, by the same law in a few boxes.

All numbers are lengths, the same for both ions but for what a slit holds: they depend neither
on potential nor on concentration nor on scan rate. Half cells of two ions with constant
diffusivities.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.case import Electrode
from nanoslit.circuit.drive import Drive
from nanoslit.electrolyte import Electrolyte
from nanoslit.errors import CircuitError, ConvergenceError
from nanoslit.mpnp.equilibrium import slit_content, wall_excess
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.protocol import Protocol

    Array = NDArray[np.float64]

__all__ = ["IonCircuit", "IonResponse", "check_electrolyte"]

OPEN_BOXES = 8  # of the open space; 16 change the current of a fast scan by 0.1 %
SALT = (-10.0, 4.0)  # range of the salt potential [V_T]: e^-10 to e^4 times the bulk
POINTS = (8, 3)  # of the tables per thermal voltage, in potential and in salt
MOST_STEPS = 100_000


@dataclass(frozen=True)
class IonCircuit:
    """A half cell whose slits hold two kinds of ions, per metre of depth of a half period.

    Parameters
    ----------
    electrolyte : Electrolyte
        Of two ions with constant diffusivities.
    electrode : Electrode
    slit_size : float
        Clear distance of the sheets [m].
    n_slits : int
    length : ndarray, shape (2,)
        Length of a long slit in equilibrium that holds as much of each ion as a slit [m].
    exterior : float
        Length of a planar wall that holds as much charge as the face of sheet 1 [m].
    opening : float
        Width of the openings [m].
    path, passage : float
        Between neighbouring slits: length of the path, length of the passage [m].
    mouth, access : float
        The same path up to slit 1, and a length of open space in front of it [m].
    gap, height : float
        The open space: distance of the bath from node 0 and width [m].
    space : float
        Distance of node 0 from the first sheet [m].

    Raises
    ------
    CircuitError
        If a number is not positive, or the electrolyte is not one of two ions with constant
        diffusivities.
    """

    electrolyte: Electrolyte
    electrode: Electrode
    slit_size: float
    n_slits: int
    length: Array
    exterior: float
    opening: float
    path: float
    passage: float
    mouth: float
    access: float
    gap: float
    height: float
    space: float

    def __post_init__(self) -> None:
        check_electrolyte(self.electrolyte)
        if self.n_slits < 1:
            raise CircuitError(f"n_slits = {self.n_slits!r} must be 1 or more")
        object.__setattr__(self, "length", np.asarray(self.length, float))
        if self.length.shape != (2,):
            raise CircuitError("length must hold two numbers, one for each ion")
        for key in ("slit_size", "length", "exterior", "opening", "path", "mouth", "gap",
                    "height"):  # fmt: skip
            value = getattr(self, key)
            if not (np.all(np.isfinite(value)) and np.all(np.asarray(value) > 0)):
                raise CircuitError(f"{key} = {value!r} must be positive and finite")
        for key in ("passage", "access", "space"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CircuitError(f"{key} = {getattr(self, key)!r} must be 0 or more")

    @cached_property
    def valence(self) -> Array:
        """Charge numbers of both ions."""
        return np.array([ion.charge for ion in self.electrolyte.ions], float)

    def _model(self, lower: float, upper: float) -> tuple[Any, ...]:
        """Return what the kernel reads, with tables for a range of electrode potentials."""
        from nanoslit.circuit.ion_kernel import FRONT, OPEN, SLIT

        e, n = self.electrolyte, OPEN_BOXES + self.n_slits
        bulk = np.array([ion.concentration for ion in e.ions])
        mobility = FARADAY * np.array([ion.diffusivity for ion in e.ions]) / e.thermal_voltage
        kind = np.full(n, SLIT)
        kind[:OPEN_BOXES] = OPEN
        kind[OPEN_BOXES - 1] = FRONT
        size = np.empty((n, 2))
        width = self.gap / OPEN_BOXES
        size[:OPEN_BOXES] = self.height * width
        size[OPEN_BOXES - 1] = self.height * (0.5 * width + self.space)
        size[OPEN_BOXES:] = self.length
        path, passage, access = np.zeros(n), np.zeros(n), np.zeros(n)
        access[:OPEN_BOXES] = width / self.height
        access[OPEN_BOXES] = self.access / self.height
        path[OPEN_BOXES], path[OPEN_BOXES + 1 :] = self.mouth**2, self.path**2
        passage[OPEN_BOXES:] = self.passage
        free = bulk / (1 - e.ion_volume * bulk.sum())
        salt = np.append(free, e.ion_volume)
        grid, slit, wall, gate = tables(
            e, self.electrode, self.slit_size, self.opening, lower, upper
        )
        links = (path, passage, access, mobility, gate)
        return (
            kind, size, float(self.exterior), salt, e.thermal_voltage, grid, slit, wall,
            links, self.valence, bulk,
        )  # fmt: skip

    def simulate(self, protocol: Protocol, tolerance: float = 1e-4) -> IonResponse:
        """Integrate a protocol of given potential from rest at its start.

        Parameters
        ----------
        protocol : Protocol
        tolerance : float
            Of the local error of a step in every potential, in thermal voltages.

        Raises
        ------
        CircuitError
            If the protocol gives a current.
        ConvergenceError
            If no step is short enough, or a slit is depleted beyond what is tabulated.
        """
        from nanoslit.circuit.ion_kernel import LEFT_TABLE, TOO_MANY, advance

        drive = Drive.of(protocol, 1)
        if drive.kinds.any():
            raise CircuitError("an ion-resolved circuit follows potentials, not currents")
        lower, upper = (float(v[0]) for v in drive.bounds())
        start = float(drive.start[0])
        model = self._model(lower, upper)
        n = OPEN_BOXES + self.n_slits
        first = np.zeros((n, 2))
        first[:, 0] = start
        times, currents = np.empty(MOST_STEPS), np.empty((MOST_STEPS, 2))
        states = np.empty((MOST_STEPS, n, 2))
        count, status = advance(
            first, drive.lengths[0], drive.curves[0], model,
            tolerance * self.electrolyte.thermal_voltage, times, states, currents,
        )  # fmt: skip
        if status:
            reached = times[count - 1] if count else 0.0
            reason = {
                LEFT_TABLE: "potentials of a slit left their table",
                TOO_MANY: f"it needs more than {MOST_STEPS} steps",
            }.get(status, "no step was short enough for the tolerance")
            raise ConvergenceError(
                f"the ion-resolved circuit was not integrated beyond {reached:.3g} s: "
                f"{reason}; scan slower if the salt in front of the electrode is used up"
            )
        rest = first[None]
        return IonResponse(
            self, np.append(0.0, times[:count]),
            np.append(start, np.asarray(protocol(times[:count], "left"))),
            np.concatenate([np.zeros((1, 2)), currents[:count]]),
            np.concatenate([rest, states[:count]]),
        )  # fmt: skip


@dataclass(frozen=True)
class IonResponse:
    """Traces of an ion-resolved circuit, named as those of the field solver.

    Attributes
    ----------
    time, applied_potential : ndarray, shape (times,)
        [s], [V]
    ion_current : ndarray, shape (times, 2)
        Current of both ions into the bath [A/m].
    state : ndarray, shape (times, boxes, 2)
        Electrode minus local potential U, and salt potential, of the boxes of the open space
        and of the slits [V].
    """

    circuit: IonCircuit
    time: Array
    applied_potential: Array
    ion_current: Array
    state: Array

    @property
    def electrode_current(self) -> Array:
        """Charging current, (times,) [A/m]."""
        return np.asarray(self.ion_current.sum(axis=1))

    @cached_property
    def electrode_charge(self) -> Array:
        """Charge since the start, (times,) [C/m]."""
        from scipy.integrate import cumulative_trapezoid

        return np.asarray(cumulative_trapezoid(self.electrode_current, self.time, initial=0.0))

    @property
    def slit_ion_potential(self) -> Array:
        """(mu - mu_bulk)/(z e) of both ions in every slit, (times, slits, 2) [V]."""
        u, w = np.moveaxis(self.state[:, OPEN_BOXES:], -1, 0)
        middle = self.applied_potential[:, None] - u
        return np.asarray(middle[..., None] + w[..., None] / self.circuit.valence)

    @cached_property
    def slit_ion_content(self) -> Array:
        """Both ions in every slit, (times, slits, 2) [mol/m]."""
        from scipy.interpolate import RectBivariateSpline

        u, w = np.moveaxis(self.state[:, OPEN_BOXES:], -1, 0)
        c = self.circuit
        v = self.applied_potential
        window = float(v.min()), float(v.max())
        x, y = grid_of(c.electrolyte, *window)
        log_n = log_contents(c.electrolyte, c.electrode, c.slit_size, *window)
        return np.stack(
            [c.length[s] * np.exp(RectBivariateSpline(x, y, log_n[..., s]).ev(u, w))
             for s in (0, 1)], axis=-1,
        )  # fmt: skip

    @property
    def slit_charge(self) -> Array:
        """Charge of the walls of every slit, (times, slits) [C/m]."""
        return np.asarray(-FARADAY * (self.slit_ion_content @ self.circuit.valence))


def check_electrolyte(electrolyte: Electrolyte) -> None:
    """Raise unless an electrolyte is one of two ions with constant diffusivities.

    Raises
    ------
    CircuitError
    """
    ions = electrolyte.ions
    if len(ions) != 2:
        raise CircuitError(f"an ion-resolved circuit is for two ions; here are {len(ions)}")
    if any(ion.diffusivity_factor is not None for ion in ions):
        raise CircuitError("an ion-resolved circuit is for constant diffusivities")


@lru_cache(maxsize=16)
def grid_of(electrolyte: Electrolyte, lower: float, upper: float) -> tuple[Array, Array]:
    """Return potentials and salt potentials that tables are made for [V].

    They reach a third of the window and four thermal voltages beyond it.
    """
    unit = electrolyte.thermal_voltage
    lower, upper = min(lower, 0.0), max(upper, 0.0)
    beyond = (upper - lower) / 3 + 4 * unit
    count = int(np.ceil((upper - lower + 2 * beyond) / unit * POINTS[0])) + 1
    u = np.linspace(lower - beyond, upper + beyond, count)
    return u, unit * np.linspace(*SALT, int((SALT[1] - SALT[0]) * POINTS[1]) + 1)


@lru_cache(maxsize=16)
def log_contents(
    electrolyte: Electrolyte, electrode: Electrode, width: float, lower: float, upper: float
) -> Array:
    """Return ln of the contents of a long slit on the grid, (n, m, 2) [mol m^-2]."""
    u, w = grid_of(electrolyte, lower, upper)
    return np.log(slit_content(electrolyte, electrode, width, u, w))


@lru_cache(maxsize=16)
def excess(electrolyte: Electrolyte, electrode: Electrode, lower: float, upper: float) -> Array:
    """Return the excess of ions at a planar wall on the grid, (n, m, 2) [mol m^-2]."""
    return wall_excess(electrolyte, electrode, *grid_of(electrolyte, lower, upper))


@lru_cache(maxsize=16)
def tables(
    electrolyte: Electrolyte,
    electrode: Electrode,
    slit_size: float,
    opening: float,
    lower: float,
    upper: float,
) -> tuple[Array, Array, Array, Array]:
    """Return grid and Hermite coefficients of slit, wall and opening for the kernel."""
    u, w = grid_of(electrolyte, lower, upper)
    grid = np.array([u[0], u[1] - u[0], w[0], w[1] - w[0]])
    values = (
        log_contents(electrolyte, electrode, slit_size, lower, upper),
        excess(electrolyte, electrode, lower, upper),
        log_contents(electrolyte, electrode, opening, lower, upper),
    )
    slit, wall, gate = (_hermite(u, w, v) for v in values)
    return grid, slit, wall, gate


def _hermite(u: Array, w: Array, values: Array) -> Array:
    """Return f, h_u f_u, h_w f_w, h_u h_w f_uw of splines at the nodes, (n, m, 2, 4)."""
    from scipy.interpolate import RectBivariateSpline

    h, k = u[1] - u[0], w[1] - w[0]
    out = np.empty((*values.shape, 4))
    for s in range(values.shape[2]):
        curve = RectBivariateSpline(u, w, values[..., s])
        for i, (dx, dy) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
            out[..., s, i] = curve(u, w, dx=dx, dy=dy) * h**dx * k**dy
    return out
