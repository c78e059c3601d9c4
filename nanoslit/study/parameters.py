"""Parameters of the ladder circuit, read from the traces of one solved cell by fixed rules.

N sheets are N slits. A potential inside is that of the counter-ions, (mu - mu_bulk)/(z e)
of the ions that the electrode attracts, or the mean of that over all ions, the potential of
charge; both are zero everywhere in equilibrium. Counter-ions carry nearly all the current
of a charged slit, and their potential, unlike the mean, fixes the charge of a slit that
exchanges salt more slowly than charge. All fits are least squares through the origin,
weighted by time, over the last cycle:

* slit charge = length times the charge per length of a long slit in equilibrium at applied
  potential minus potential of the slit (:func:`nanoslit.mpnp.equilibrium.slit_charge`); the
  length of the first and of the last slit each by itself, that of the others together;
* C_slit: the slope instead, over interior slits (all slits if there are fewer than three);
* node 0 is the open space, at the plane where the solver reads it; R_open: its potential
  against the electrode current; C_open: exterior charge against applied minus node 0;
* openings: voltage between neighbouring slits against current and current times charge,
  ``R_c I - R_c gamma I |Q|/Q_max`` with the charge of the deeper slit;
* the mouth has its own R_c and gamma, from the voltage between slit 1 and node 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.errors import CaseError
from nanoslit.mpnp.equilibrium import slit_charge
from nanoslit.results.last_cycle import HalfCell, read_last_cycle, weighted_fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["POTENTIALS", "Cell", "LadderParameters", "ladder_parameters", "read_cell"]

POTENTIALS = ("counterion", "electrochemical")


@dataclass(frozen=True, kw_only=True)
class Cell(HalfCell):
    """Last cycle of a solved half cell, as a ladder sees it.

    Parameters
    ----------
    potential : {"counterion", "electrochemical"}
        Which potential the inner ones are.
    slit_potential : ndarray, shape (times, slits)
        [V]
    open_potential, exterior_charge : ndarray, shape (times,)
    voltage, resistor_current : ndarray, shape (times, slits)
        Of the mouth, then of the openings [V], [A/m].
    mid_voltage : ndarray, shape (times, slits - 1)
        Difference of electrostatic potentials at the middles of neighbouring slits [V].
    """

    potential: str
    slit_potential: Array
    open_potential: Array
    exterior_charge: Array
    voltage: Array
    resistor_current: Array
    mid_voltage: Array

    def equilibrium(self, potentials: Array) -> tuple[Array, Array]:
        """Return charge and capacitance per length of its slits in equilibrium."""
        case, size = self.case, self.network.slit_size
        return slit_charge(case.electrolyte, case.electrode, size, potentials)

    def potentials(self, points: int = 201) -> Array:
        """Return potentials that span the window of its protocol and zero [V]."""
        lower, upper = (float(v) for v in self.case.protocol.bounds)
        lower, upper = min(lower, 0.0), max(upper, 0.0)
        pad = 0.1 * (upper - lower)
        return np.linspace(lower - pad, upper + pad, points)


def read_cell(path: str | Path, potential: str = "counterion") -> Cell:
    """Return the last cycle of a result file.

    Raises
    ------
    CaseError
        If there is no such potential.
    ResultFileError
        If it is no result of a half cell with at least two slits.
    """
    if potential not in POTENTIALS:
        raise CaseError(f"potential = {potential!r} must be one of {POTENTIALS}")
    c = read_last_cycle(path)

    def inner(name: str) -> Array:
        if potential == "counterion":
            return c.counterion(name)
        return np.asarray(c.trace(name).mean(axis=-1))

    inside, space = inner("slit_ion_potential"), inner("open_space_ion_potential")
    mouth = c.trace("mouth_current")[:, None]
    return Cell(
        **c.base(), potential=potential, slit_potential=inside, open_potential=space,
        exterior_charge=c.trace("exterior_charge"),
        voltage=np.diff(np.concatenate([space[:, None], inside], axis=1), axis=1),
        resistor_current=np.concatenate([mouth, c.opening_current], 1),
        mid_voltage=c.trace("trans_slit_voltage"),
    )  # fmt: skip


@dataclass(frozen=True)
class LadderParameters:
    """Numbers of a ladder, per depth of the simulated half period.

    Parameters
    ----------
    r_c, gamma : ndarray, shape (slits,)
        Of the mouth, then of the openings, each by itself [Ohm m], [-].
    q_max : ndarray, shape (slits,)
        Largest charge of the slit behind the resistor [C/m].
    r_constant : ndarray, shape (slits,)
        The same resistors without dependence on charge [Ohm m].
    length : ndarray, shape (slits,)
        Length of a long slit in equilibrium that holds the charge of each slit [m].
    c_slit, c_open : float
        [F/m]
    r_open : float
        [Ohm m]
    c_zero, c_bend : float
        Slit capacitance C (1 + bend u^2) [F/m], [V^-2].
    residuals : dict of str to float
        Rms misfit over rms value of each fit [-].
    pooled : dict of str to float
        R_c and gamma of all openings together, and of the potential at the middle of the
        slits instead of the potential of charge (``mid_r_c``, ``mid_gamma``).
    """

    r_c: Array
    gamma: Array
    q_max: Array
    r_constant: Array
    length: Array
    c_slit: float
    c_open: float
    r_open: float
    c_zero: float
    c_bend: float
    residuals: dict[str, float]
    pooled: dict[str, float]


def ladder_parameters(cell: Cell) -> LadderParameters:
    """Return the parameters of the circuit of one cell; the rules are those above."""
    w, n = cell.weight, cell.slits
    inner = cell.interior
    u = (cell.applied[:, None] - cell.slit_potential)[:, inner]
    q = cell.slit_charge[:, inner]
    node = cell.open_potential
    length, res_l = _lengths(cell)
    (c_slit,), res_c = weighted_fit(u[..., None], q, w)
    (c_zero, cubic), res_bend = weighted_fit(np.stack([u, u**3], -1), q, w)
    (r_open,), res_r = weighted_fit(cell.current[:, None], node, w)
    (c_open,), res_o = weighted_fit((cell.applied - node)[:, None], cell.exterior_charge, w)
    q_max = np.abs(cell.slit_charge).max(axis=0)
    i = cell.resistor_current
    columns = np.stack([i, -i * np.abs(cell.slit_charge) / q_max], -1)
    residuals = {
        "length": res_l,
        "c_slit": res_c,
        "c_slit_bent": res_bend,
        "r_open": res_r,
        "c_open": res_o,
    }
    laws, constants = np.empty((n, 2)), np.empty(n)
    for k in range(n):
        laws[k], residuals[f"law {k}"] = weighted_fit(columns[:, k], cell.voltage[:, k], w)
        (constants[k],), residuals[f"constant {k}"] = weighted_fit(
            columns[:, k, :1], cell.voltage[:, k], w
        )
    pooled: dict[str, float] = {}
    for prefix, v in (("", cell.voltage[:, 1:]), ("mid_", cell.mid_voltage)):
        (a, b), pooled[f"{prefix}residual"] = weighted_fit(columns[:, 1:], v, w)
        pooled |= {f"{prefix}r_c": float(a), f"{prefix}gamma": float(b / a)}
    return LadderParameters(
        laws[:, 0], laws[:, 1] / laws[:, 0], q_max, constants, length, float(c_slit),
        float(c_open), float(r_open), float(c_zero), float(3 * cubic / c_zero), residuals,
        pooled,
    )  # fmt: skip


def _lengths(cell: Cell) -> tuple[Array, float]:
    """Return the length of each slit and the largest misfit."""
    grid = cell.potentials()
    charge, _ = cell.equilibrium(grid)
    u = cell.applied[:, None] - cell.slit_potential
    theory = np.interp(u, grid, charge)
    last = cell.slits - 1
    groups = [slice(0, 1), slice(1, last), slice(last, last + 1)]
    length, misfits = np.empty(cell.slits), []
    for group in groups:
        if theory[:, group].size:
            (length[group],), misfit = weighted_fit(
                theory[:, group, None], cell.slit_charge[:, group], cell.weight
            )
            misfits.append(misfit)
    return length, max(misfits)
