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
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import CaseError, ResultFileError
from nanoslit.mpnp.equilibrium import slit_charge
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case

    Array = NDArray[np.float64]

__all__ = ["POTENTIALS", "Cell", "LadderParameters", "ladder_parameters", "read_cell"]

POTENTIALS = ("counterion", "electrochemical")


@dataclass(frozen=True)
class Cell:
    """Last cycle of a solved half cell.

    Parameters
    ----------
    path : Path
    case : Case
    potential : {"counterion", "electrochemical"}
        Which potential the inner ones are.
    time, weight, applied, current : ndarray, shape (times,)
        Weights are the trapezoidal ones of the mean over time, sum 1.
    slit_charge, slit_potential : ndarray, shape (times, slits)
        [C/m], [V]
    open_potential, exterior_charge : ndarray, shape (times,)
    voltage, resistor_current : ndarray, shape (times, slits)
        Of the mouth, then of the openings [V], [A/m].
    mid_voltage : ndarray, shape (times, slits - 1)
        Difference of electrostatic potentials at the middles of neighbouring slits [V].
    """

    path: Path
    case: Case
    potential: str
    time: Array
    weight: Array
    applied: Array
    current: Array
    slit_charge: Array
    slit_potential: Array
    open_potential: Array
    exterior_charge: Array
    voltage: Array
    resistor_current: Array
    mid_voltage: Array

    @property
    def slits(self) -> int:
        """Number of slits."""
        return int(self.slit_charge.shape[1])

    @property
    def bulk_charge(self) -> float:
        """Charge of the ions of bulk electrolyte in a slit, F A sum |z| c [C/m]."""
        g: Any = self.case.geometry
        content = sum(abs(i.charge) * i.concentration for i in self.case.electrolyte.ions)
        return float(FARADAY * content * g.slit_size * g.height)

    def equilibrium(self, potentials: Array) -> tuple[Array, Array]:
        """Return charge and capacitance per length of its slits in equilibrium."""
        g: Any = self.case.geometry
        return slit_charge(self.case.electrolyte, self.case.electrode, g.slit_size, potentials)

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
    from nanoslit.results.files import read_case_of, read_traces
    from nanoslit.results.summary import time_weights

    if potential not in POTENTIALS:
        raise CaseError(f"potential = {potential!r} must be one of {POTENTIALS}")
    case, t = read_case_of(path), read_traces(path)
    if case.cell != "half" or case.geometry.sheets < 2:
        raise ResultFileError(
            f"{path}: a circuit is compared with a half cell of two sheets or more; this is "
            f"a {case.cell} cell of {case.geometry.sheets}"
        )
    rows = t.in_cycle()
    time = t["time"][rows]

    def inner(name: str) -> Array:
        by_ion = np.asarray(t[name][rows])
        if potential == "counterion":
            return case.electrolyte.counterion_mean(by_ion, t["electrode_charge"][rows])
        return np.asarray(by_ion.mean(axis=-1))

    inside, space = inner("slit_ion_potential"), inner("open_space_ion_potential")
    voltage = np.diff(np.concatenate([space[:, None], inside], axis=1), axis=1)
    return Cell(
        Path(path), case, potential, time, time_weights(time), t["applied_potential"][rows],
        t["electrode_current"][rows], t["slit_charge"][rows], inside, space,
        t["exterior_charge"][rows], voltage,
        np.concatenate([t["mouth_current"][rows][:, None], t["opening_current"][rows]], 1),
        t["trans_slit_voltage"][rows],
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


def fit(columns: Array, target: Array, weight: Array) -> tuple[Array, float]:
    """Return coefficients and relative rms misfit of a weighted linear fit.

    Parameters
    ----------
    columns : ndarray, shape (times, coefficients) or (times, sets, coefficients)
    target : ndarray, shape (times,) or (times, sets)
    weight : ndarray, shape (times,)
    """
    w = np.sqrt(weight).reshape(-1, *([1] * (target.ndim - 1)))
    x = (columns * w[..., None]).reshape(-1, columns.shape[-1])
    y = (target * w).ravel()
    scale = np.linalg.norm(x, axis=0)
    c, *_ = np.linalg.lstsq(x / scale, y, rcond=None)
    misfit = np.linalg.norm(y - x / scale @ c) / np.linalg.norm(y)
    return c / scale, float(misfit)


def ladder_parameters(cell: Cell) -> LadderParameters:
    """Return the parameters of the circuit of one cell; the rules are those above."""
    w, n = cell.weight, cell.slits
    inner = slice(1, -1) if n > 2 else slice(None)
    u = (cell.applied[:, None] - cell.slit_potential)[:, inner]
    q = cell.slit_charge[:, inner]
    node = cell.open_potential
    length, res_l = _lengths(cell)
    (c_slit,), res_c = fit(u[..., None], q, w)
    (c_zero, cubic), res_bend = fit(np.stack([u, u**3], -1), q, w)
    (r_open,), res_r = fit(cell.current[:, None], node, w)
    (c_open,), res_o = fit((cell.applied - node)[:, None], cell.exterior_charge, w)
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
        laws[k], residuals[f"law {k}"] = fit(columns[:, k], cell.voltage[:, k], w)
        (constants[k],), residuals[f"constant {k}"] = fit(
            columns[:, k, :1], cell.voltage[:, k], w
        )
    pooled: dict[str, float] = {}
    for prefix, v in (("", cell.voltage[:, 1:]), ("mid_", cell.mid_voltage)):
        (a, b), pooled[f"{prefix}residual"] = fit(columns[:, 1:], v, w)
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
            (length[group],), misfit = fit(
                theory[:, group, None], cell.slit_charge[:, group], cell.weight
            )
            misfits.append(misfit)
    return length, max(misfits)
