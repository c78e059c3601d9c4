"""The ion-resolved circuit of one solved cell, and what it says of other cells.

Seven lengths are read from the last cycle of a training run, by least squares through the
origin weighted by time; everything else is geometry and electrolyte:

* length (for each ion): content of the slits against that of a long slit in equilibrium at
  the slit's potentials;
* exterior: charge of the front of sheet 1 against that of a planar wall at node 0;
* path and passage: voltage of an ion between neighbouring slits against its current over
  their mean content, and over the content of an opening; all openings and both ions together,
  each sample weighted with the mean content, so that it counts as a current does;
* mouth and access: the same between node 0 and slit 1, with the passage as found and the
  current over the concentration at node 0; no length is less than zero.

They belong to the geometry, so that the circuit predicts cells of other number of sheets,
concentration, diffusivities, window, scan rate and protocol; with several training runs, of
slit sizes between theirs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.ions import IonCircuit, check_electrolyte, excess, grid_of, log_contents
from nanoslit.errors import CircuitError
from nanoslit.mpnp.equilibrium import concentrations
from nanoslit.mpnp.grid import open_space_reading
from nanoslit.results.last_cycle import read_last_cycle, weighted_fit
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from nanoslit.case import Case

    Array = NDArray[np.float64]

__all__ = ["IonMaterial", "IonParameters", "ion_parameters"]

VARIED = ("slit_size", "sheets", "reservoir")
"""Geometry in which a case may differ from the training runs."""


@dataclass(frozen=True)
class IonParameters:
    """Numbers of an ion-resolved circuit, per depth of the simulated half period.

    Parameters
    ----------
    case : Case
        Of the training run.
    length : ndarray, shape (2,)
        [m]
    exterior : float
        [m]
    path, passage, mouth, access : float
        See :class:`nanoslit.circuit.ions.IonCircuit` [m].
    residuals : dict of str to float
        Rms misfit over rms value of each fit [-].
    """

    case: Case
    length: Array
    exterior: float
    path: float
    passage: float
    mouth: float
    access: float
    residuals: dict[str, float]

    def lengths(self) -> Array:
        """Return all seven lengths, (7,) [m]."""
        return np.array([
            *self.length, self.exterior, self.path, self.passage, self.mouth, self.access
        ])  # fmt: skip


class IonMaterial:
    """Circuits of cells that were not solved, from one or several that were.

    Between training runs of different slit size the lengths follow a monotone cubic in the
    logarithm of the slit size (a straight line between two); runs of one slit size are
    averaged. No extrapolation in slit size.

    Parameters
    ----------
    trained : sequence of IonParameters

    Raises
    ------
    CircuitError
        If there are none, or their sheets or walls differ.
    """

    def __init__(self, trained: Sequence[IonParameters]) -> None:
        if not trained:
            raise CircuitError("no training run given; give a result of a half cell")
        self.trained = tuple(trained)
        for other in trained[1:]:
            self._require_same(other.case, "the training runs differ in")
        sizes = np.array([_slit_size(p.case) for p in trained])
        rows = np.array([p.lengths() for p in trained])
        self.slit_sizes = np.unique(sizes)
        self._values = np.array([rows[sizes == d].mean(axis=0) for d in self.slit_sizes])

    def _require_same(self, case: Case, what: str) -> None:
        mine, other = _fixed(self.trained[0].case), _fixed(case)
        if changed := [k for k in mine if mine[k] != other.get(k)]:
            key = changed[0]
            raise CircuitError(
                f"{what} {key}: {mine[key]!r} and {other.get(key)!r}; solve a cell with it, "
                "and train on that"
            )

    def circuit(self, case: Case) -> IonCircuit:
        """Return the circuit of a case.

        Raises
        ------
        CircuitError
            If sheets or walls are not those of the training, its slit size is outside of
            theirs, or it is no half cell of two ions with constant diffusivities.
        """
        check_case(case)
        self._require_same(case, "case and training differ in")
        g: Any = case.geometry
        size = self._at(g.slit_size)
        space = open_space_reading(case)
        exterior, path, passage, mouth, access = size[2:].tolist()
        return IonCircuit(
            case.electrolyte, case.electrode, g.slit_size, g.sheets, size[:2], exterior,
            g.opening, path, passage, mouth, access, g.reservoir - space, g.height, space,
        )  # fmt: skip

    def _at(self, slit_size: float) -> Array:
        low, high = self.slit_sizes[0], self.slit_sizes[-1]
        if not low * (1 - 1e-9) <= slit_size <= high * (1 + 1e-9):
            known = ", ".join(f"{x * 1e9:.4g}" for x in self.slit_sizes)
            raise CircuitError(
                f"slit_size = {slit_size * 1e9:.4g} nm; the circuit was trained on {known} nm "
                "and does not extrapolate: train on cells around it as well"
            )
        if len(self.slit_sizes) == 1:
            return np.asarray(self._values[0])
        from scipy.interpolate import PchipInterpolator

        curve = PchipInterpolator(np.log(self.slit_sizes), self._values)
        found = curve(np.log(np.clip(slit_size, low, high)))
        # rounding must not make a length that is zero in one of the runs negative
        return np.asarray(np.clip(found, self._values.min(axis=0), self._values.max(axis=0)))


def _slit_size(case: Case) -> float:
    g: Any = case.geometry
    return float(g.slit_size)


def check_case(case: Case) -> None:
    """Raise unless a case is one that ion-resolved circuits are for.

    Raises
    ------
    CircuitError
    """
    check_electrolyte(case.electrolyte)
    if case.cell != "half" or not hasattr(case.geometry, "slit_size"):
        raise CircuitError("an ion-resolved circuit is for half cells with slits")


def _fixed(case: Case) -> dict[str, object]:
    """Return what must be the same in the training run."""
    geometry = asdict(case.geometry)
    kept = {k: v for k, v in geometry.items() if k not in VARIED}
    charges = tuple(ion.charge for ion in case.electrolyte.ions)
    return {**kept, "charge numbers": charges, "electrode": case.electrode}


def ion_parameters(path: str | Path) -> IonParameters:
    """Read the numbers of an ion-resolved circuit from a solved half cell.

    Raises
    ------
    ResultFileError
        If it is no result of a half cell with at least two slits.
    CircuitError
        If its electrolyte is not one of two ions with constant diffusivities.
    """
    from scipy.interpolate import RectBivariateSpline

    cell = read_last_cycle(path)
    case, weight = cell.case, cell.weight
    check_case(case)
    inside, space = cell.trace("slit_ion_potential"), cell.trace("open_space_ion_potential")
    potential = np.concatenate([space[:, None], inside], axis=1)
    current = np.concatenate(
        [cell.trace("mouth_ion_current")[:, None], cell.trace("opening_ion_current")], axis=1
    )
    content = cell.trace("slit_ion_content")
    z = np.array([ion.charge for ion in case.electrolyte.ions], float)
    middle = (z[0] * potential[..., 0] - z[1] * potential[..., 1]) / (z[0] - z[1])
    salt = z[0] * (potential[..., 0] - middle)
    u = cell.applied[:, None] - middle
    g: Any = case.geometry
    lower, upper = (float(v) for v in case.protocol.bounds)
    salts, walls, window = case.electrolyte, case.electrode, (lower, upper)
    x, y = grid_of(salts, *window)
    log_slit = log_contents(salts, walls, g.slit_size, *window)
    wall = excess(salts, walls, *window)

    def theory(values: Array, boxes: slice) -> Array:
        curves = [RectBivariateSpline(x, y, values[..., s]) for s in (0, 1)]
        return np.stack([c.ev(u[:, boxes], salt[:, boxes]) for c in curves], axis=-1)

    boxes = np.exp(theory(log_slit, slice(1, None)))
    face = -FARADAY * (theory(wall, slice(0, 1))[:, 0] @ z)
    size, exterior, residuals = np.empty(2), np.empty(1), {}
    for s, ion in enumerate(case.electrolyte.ions):
        (size[s],), residuals[f"length of {ion.name}"] = weighted_fit(
            boxes[..., s, None], content[..., s], weight
        )
    exterior[:], residuals["exterior"] = weighted_fit(
        face[:, None], cell.trace("exterior_charge"), weight
    )
    log_gate = log_contents(salts, walls, g.opening, *window)
    middles = 0.5 * (u[:, 1:] + u[:, :-1]), 0.5 * (salt[:, 1:] + salt[:, :-1])
    log_n = [RectBivariateSpline(x, y, log_gate[..., s]).ev(*middles) for s in (0, 1)]
    gate = np.exp(np.stack(log_n, axis=-1))
    mean = np.concatenate([content[:, :1], 0.5 * (content[:, 1:] + content[:, :-1])], axis=1)
    front = np.broadcast_to(
        concentrations(case.electrolyte, salt[:, 0])[:, None] * g.height, mean.shape
    )
    unit = case.electrolyte.thermal_voltage / FARADAY
    voltage = np.diff(potential, axis=1) / unit
    drive = current / np.array([ion.diffusivity for ion in case.electrolyte.ions])
    columns = drive[..., None] / np.stack([mean, gate, front], axis=-1)
    scale = np.sqrt(weight)[:, None, None] * mean
    names = [ion.name for ion in case.electrolyte.ions]
    (squared, passage), off = _lengths(columns[:, 1:, :, :2], voltage[:, 1:], scale[:, 1:])
    residuals |= {f"opening, {n}": r for n, r in zip(names, off, strict=True)}
    rest = voltage[:, :1] - passage * columns[:, :1, :, 1]
    (mouth, access), off = _lengths(columns[:, :1, :, ::2], rest, scale[:, :1])
    residuals |= {f"mouth, {n}": r for n, r in zip(names, off, strict=True)}
    return IonParameters(
        case, size, float(exterior[0]), float(np.sqrt(squared)), float(passage),
        float(np.sqrt(mouth)), float(access), residuals,
    )  # fmt: skip


def _lengths(columns: Array, target: Array, scale: Array) -> tuple[Array, list[float]]:
    """Return the non-negative least-squares factors, and the misfit of each ion.

    Parameters
    ----------
    columns : ndarray, shape (times, links, ions, factors)
    target, scale : ndarray, shape (times, links, ions)
    """
    from scipy.optimize import nnls

    x, y = columns * scale[..., None], target * scale
    flat = x.reshape(-1, x.shape[-1])
    unit = np.linalg.norm(flat, axis=0)
    found, _ = nnls(flat / unit, y.ravel())
    found = found / unit
    miss = np.sum((y - x @ found) ** 2, axis=(0, 1)) / np.sum(y**2, axis=(0, 1))
    return found, [float(v) for v in np.sqrt(miss)]
