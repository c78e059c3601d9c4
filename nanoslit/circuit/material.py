"""From solved cells to circuit parameters: maps d -> (gamma, R_c, C_slit), and films.

Parameters are read from the traces of result files by fixed rules, per depth of the
simulated half period: the resistance law by least squares of trans-slit voltage against
current over the last cycle, C_slit as the slope of slit charge against the potential
between electrode and slit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import CircuitError, ResultFileError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["CellParameters", "MaterialMap", "cell_parameters", "material_of"]

VOLTAGES = ("electrochemical", "mid")
NEEDED = (
    "time",
    "cycle",
    "applied_potential",
    "slit_charge",
    "slit_potential",
    "slit_electrochemical_potential",
    "trans_slit_voltage",
    "opening_current",
)


@dataclass(frozen=True)
class CellParameters:
    """Circuit parameters of one solved cell, per metre of depth of the half period.

    Parameters
    ----------
    slit_size, sheet_length, opening, sheet_thickness, height : float
        Geometry [m].
    sheets : int
    r_c : float
        Resistance of an opening at zero charge [Ohm m].
    gamma : float
        Relative fall of it at ``q_max`` [-].
    q_max : float
        Largest |slit charge| of the cycle [C/m].
    c_slit : float
        Charge of an interior slit per potential [F/m].
    sheet_areal_mass : float
        [kg/m^2]
    voltage : str
        "electrochemical" or "mid".
    conductivity : float
        Of the bulk electrolyte [S/m].
    residual : float
        Rms misfit of the law over the rms voltage [-].
    """

    slit_size: float
    sheet_length: float
    opening: float
    sheet_thickness: float
    height: float
    sheets: int
    r_c: float
    gamma: float
    q_max: float
    c_slit: float
    sheet_areal_mass: float
    voltage: str
    conductivity: float
    residual: float


def cell_parameters(path: str | Path, voltage: str = "electrochemical") -> CellParameters:
    """Return the circuit parameters of a result file.

    Law of all openings together, over the last cycle, weighted by time:
    ``dphi = R_c I - R_c gamma I |Q|/Q_max`` with the charge of the deeper slit. C_slit is
    the slope through the origin over interior slits (all slits if there are fewer than
    three).

    Raises
    ------
    ResultFileError
        If the file has no traces of a half cell with at least two slits.
    """
    case, traces = _read(path)
    geometry = case.geometry
    if not hasattr(geometry, "slit_size"):
        raise ResultFileError(f"{path}: a planar cell has no slits")
    last = traces["cycle"] == traces["cycle"].max()
    time = traces["time"][last]
    weight = np.gradient(time)[:, None]
    applied = traces["applied_potential"][last]
    charge = traces["slit_charge"][last]
    if charge.ndim != 2 or charge.shape[1] < 2:
        raise ResultFileError(f"{path}: needs a half cell with at least two slits")
    if voltage == "electrochemical":
        inside = traces["slit_electrochemical_potential"][last]
        drop = np.diff(inside, axis=1)
    else:
        inside = traces["slit_potential"][last]
        drop = traces["trans_slit_voltage"][last]
    current = traces["opening_current"][last]
    q_max = float(np.abs(charge).max())
    columns = np.stack([current, -current * np.abs(charge[:, 1:]) / q_max], axis=-1)
    w = np.sqrt(np.broadcast_to(weight, drop.shape)).ravel()
    x, y = columns.reshape(-1, 2) * w[:, None], drop.ravel() * w
    fit, *_ = np.linalg.lstsq(x, y, rcond=None)
    r_c = float(fit[0])
    interior = slice(1, -1) if charge.shape[1] > 2 else slice(None)
    u = (applied[:, None] - inside)[:, interior]
    q = charge[:, interior]
    c_slit = float((weight * u * q).sum() / (weight * u * u).sum())
    misfit = np.sqrt(np.mean((y - x @ fit) ** 2) / np.mean(y**2))
    return CellParameters(
        geometry.slit_size, geometry.sheet_length, geometry.opening,
        geometry.sheet_thickness, geometry.height, geometry.sheets, r_c,
        float(fit[1] / fit[0]), q_max, c_slit, case.electrode.sheet_areal_mass, voltage,
        case.electrolyte.conductivity, float(misfit),
    )  # fmt: skip


def _read(path: str | Path) -> tuple[Any, dict[str, Array]]:
    """Return the case and the traces of a result file."""
    from nanoslit.results.files import read_case_of, read_traces

    case, traces = read_case_of(path), read_traces(path).values
    missing = [k for k in NEEDED if k not in traces]
    if missing:
        raise ResultFileError(f"{path}: has no traces {missing}")
    return case, {k: np.asarray(traces[k]) for k in NEEDED}


class MaterialMap:
    """Circuit parameters as functions of the slit size, between solved cells.

    Monotone cubic interpolation (PCHIP) of log R_c, gamma, log C_slit and log Q_max in
    the slit size; no extrapolation.
    """

    def __init__(self, cells: list[CellParameters]) -> None:
        cells = sorted(cells, key=lambda c: c.slit_size)
        self.cells = cells
        d = np.array([c.slit_size for c in cells])
        if len(cells) < 2 or np.any(np.diff(d) <= 0):
            raise CircuitError(
                "a map of slit sizes needs at least two result files of different slit_size"
            )
        for key in ("sheet_length", "opening", "sheet_thickness", "voltage"):
            if len({getattr(c, key) for c in cells}) > 1:
                raise CircuitError(f"the result files of a map differ in {key}")
        from scipy.interpolate import PchipInterpolator

        rows = np.array(
            [(np.log(c.r_c), c.gamma, np.log(c.c_slit), np.log(c.q_max)) for c in cells]
        )
        self._curve = PchipInterpolator(d, rows, extrapolate=False)
        self.range = float(d[0]), float(d[-1])

    def at(self, slit_size: ArrayLike) -> dict[str, Array]:
        """Return r_c [Ohm m], gamma, c_slit [F/m] and q_max [C/m] at slit sizes [m].

        Raises
        ------
        CircuitError
            Outside the solved slit sizes.
        """
        d = np.atleast_1d(np.asarray(slit_size, float))
        if np.any((d < self.range[0]) | (d > self.range[1])):
            raise CircuitError(
                f"slit sizes {d.min():.3g}..{d.max():.3g} m lie outside the solved range "
                f"{self.range[0]:.3g}..{self.range[1]:.3g} m"
            )
        values = self._curve(d)
        return {
            "r_c": np.exp(values[:, 0]), "gamma": values[:, 1],
            "c_slit": np.exp(values[:, 2]), "q_max": np.exp(values[:, 3]),
        }  # fmt: skip


@lru_cache(maxsize=8)
def material_of(paths: tuple[str, ...]) -> MaterialMap:
    """Return the map of some result files."""
    return MaterialMap([cell_parameters(p) for p in paths])
