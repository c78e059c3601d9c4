"""From solved cells to circuit parameters: maps of R_c, gamma, C_slit and Q_max.

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
from nanoslit.results.last_cycle import read_last_cycle, weighted_fit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["CellParameters", "MaterialMap", "cell_parameters", "material_of"]

VOLTAGES = ("electrochemical", "mid")


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
    concentration : float
        Of the first ion in the bulk [mol/m^3].
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
    concentration: float
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
    cell = read_last_cycle(path)
    geometry, charge = cell.network, cell.slit_charge
    if voltage == "electrochemical":
        inside = cell.trace("slit_electrochemical_potential")
        drop = np.diff(inside, axis=1)
    else:
        inside, drop = cell.trace("slit_potential"), cell.trace("trans_slit_voltage")
    i, q_max = cell.opening_current, float(np.abs(charge).max())
    columns = np.stack([i, -i * np.abs(charge[:, 1:]) / q_max], axis=-1)
    (r_c, slope), misfit = weighted_fit(columns, drop, cell.weight)
    u = (cell.applied[:, None] - inside)[:, cell.interior]
    (c_slit,), _ = weighted_fit(u[..., None], charge[:, cell.interior], cell.weight)
    electrolyte = cell.case.electrolyte
    return CellParameters(
        geometry.slit_size, geometry.sheet_length, geometry.opening,
        geometry.sheet_thickness, geometry.height, geometry.sheets, float(r_c),
        float(slope / r_c), q_max, float(c_slit), cell.case.electrode.sheet_areal_mass,
        voltage, electrolyte.conductivity, electrolyte.ions[0].concentration, misfit,
    )  # fmt: skip


class MaterialMap:
    """Circuit parameters as functions of slit size and concentration, between solved cells.

    Monotone cubic interpolation (PCHIP; straight lines along an axis of fewer than four
    values if there are two axes) of log R_c, gamma, log C_slit and log Q_max; no
    extrapolation. Cells that differ in other things, such as scan rate or number of sheets,
    are averaged; ``spread`` tells how much they differ.

    Parameters
    ----------
    cells : list of CellParameters
        One for each slit size, or for each pair of slit size and concentration.

    Raises
    ------
    CircuitError
        If the cells are too few, differ in geometry, or leave gaps in the grid.
    """

    def __init__(self, cells: list[CellParameters]) -> None:
        for key in ("sheet_length", "opening", "sheet_thickness", "voltage"):
            if len({getattr(c, key) for c in cells}) > 1:
                raise CircuitError(f"the result files of a map differ in {key}")
        self.cells = cells
        self.height = cells[0].height if cells else float("nan")
        sizes, levels = (
            np.unique([getattr(c, key) for c in cells])
            for key in ("slit_size", "concentration")
        )
        if len(sizes) < 2:
            raise CircuitError(
                "a map of slit sizes needs at least two result files of different slit_size"
            )
        table, self.spread = _grid(cells, sizes, levels)
        self.axes = {"slit_size": sizes}
        if len(levels) > 1:
            self.axes["concentration"] = levels
        from scipy.interpolate import PchipInterpolator, RegularGridInterpolator

        if len(levels) == 1:
            curve = PchipInterpolator(sizes, table[:, 0], extrapolate=False)
            self._curve: Any = lambda x: curve(x[:, 0])
        else:
            method = "pchip" if min(len(sizes), len(levels)) >= 4 else "linear"
            self._curve = RegularGridInterpolator((sizes, levels), table, method=method)

    def at(
        self, slit_size: ArrayLike, concentration: ArrayLike | None = None
    ) -> dict[str, Array]:
        """Return r_c [Ohm m], gamma, c_slit [F/m] and q_max [C/m].

        Parameters
        ----------
        slit_size : array_like, shape (circuits,)
            [m]
        concentration : array_like, shape (circuits,), optional
            Of the first ion in the bulk [mol/m^3]; needed if the solved cells differ in it.

        Raises
        ------
        CircuitError
            Outside the solved range, naming the first circuit.
        """
        given = {"slit_size": slit_size, "concentration": concentration}
        columns = []
        for key, known in self.axes.items():
            if given[key] is None:
                raise CircuitError(
                    f"the solved cells differ in {key}: vary it or fix it, within "
                    f"{known[0]:.4g}..{known[-1]:.4g}"
                )
            x = np.atleast_1d(np.asarray(given[key], float))
            slack = 1e-9 * (known[-1] - known[0])
            bad = np.flatnonzero(~((x >= known[0] - slack) & (x <= known[-1] + slack)))
            if bad.size:
                raise CircuitError(
                    f"{key} = {x[bad[0]]:.4g} of circuit {bad[0]} lies outside the solved "
                    f"range {known[0]:.4g}..{known[-1]:.4g}"
                )
            columns.append(np.clip(x, known[0], known[-1]))
        if concentration is not None and "concentration" not in self.axes:
            raise CircuitError(
                "concentration: all solved cells have the same one, "
                f"{self.cells[0].concentration:.4g} mol/m^3; solve cells of another"
            )
        values = self._curve(np.stack(np.broadcast_arrays(*columns), axis=1))
        return {
            "r_c": np.exp(values[:, 0]), "gamma": values[:, 1],
            "c_slit": np.exp(values[:, 2]), "q_max": np.exp(values[:, 3]),
        }  # fmt: skip

    def in_basis(self, values: dict[str, Array], basis: str, depth: Any) -> dict[str, Array]:
        """Return parameters of :meth:`at` in another basis than per depth.

        Parameters
        ----------
        values : dict
        basis : {"absolute", "per depth", "per area"}
            Per area of the electrode face: of the half period's height.
        depth : float or None
            Depth of the electrode, for absolute values [m].

        Raises
        ------
        CircuitError
            If the depth is missing.
        """
        if basis == "per depth":
            return values
        if basis == "absolute" and depth is None:
            raise CircuitError(
                "the solved cells are per depth: give depth [m] for absolute values, or "
                "basis = 'per depth'"
            )
        extent = self.height if basis == "per area" else 1.0 / depth
        return {
            "r_c": values["r_c"] * extent, "gamma": values["gamma"],
            "c_slit": values["c_slit"] / extent, "q_max": values["q_max"] / extent,
        }  # fmt: skip


def _grid(cells: list[CellParameters], sizes: Array, levels: Array) -> tuple[Array, float]:
    """Return log R_c, gamma, log C_slit, log Q_max over the grid and their largest spread."""
    table = np.empty((len(sizes), len(levels), 4))
    spread = 0.0
    for i, size in enumerate(sizes):
        for k, level in enumerate(levels):
            rows = np.array([
                (np.log(c.r_c), c.gamma, np.log(c.c_slit), np.log(c.q_max))
                for c in cells
                if c.slit_size == size and c.concentration == level
            ])  # fmt: skip
            if not len(rows):
                raise CircuitError(
                    f"no result has slit_size = {size:.4g} m with a concentration of "
                    f"{level:.4g} mol/m^3; a map needs every pair"
                )
            table[i, k] = rows.mean(axis=0)
            spread = max(spread, float(np.ptp(rows[:, :3], axis=0).max()))
    return table, spread


def result_files(path: str | Path) -> list[Path]:
    """Return the results that a path stands for.

    Parameters
    ----------
    path : path
        A result file, the folder of a sweep, or its collected data set.

    Raises
    ------
    ResultFileError
        If there are none.
    """
    from nanoslit.results.sealed import open_sealed

    path = Path(path)
    if path.is_file():
        with open_sealed(path) as file:
            collected = file.attrs.get("schema") == "nanoslit-sweep"
        if not collected:
            return [path]
        path = path.resolve().parent.parent  # DIR/collected/sweep.h5
    found = sorted(path.rglob("result.h5"))
    if not found:
        raise ResultFileError(
            f"{path}: holds no results; give result files, the folder of a sweep, or the data "
            "set collected in that folder"
        )
    return found


@lru_cache(maxsize=8)
def material_of(paths: tuple[str, ...]) -> MaterialMap:
    """Return the map of some result files, sweep folders or collected data sets."""
    return MaterialMap([cell_parameters(f) for p in paths for f in result_files(p)])
