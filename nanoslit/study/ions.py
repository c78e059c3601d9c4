"""The ion-resolved circuit of one solved cell, and what it says of other cells.

Seven numbers are read from the last cycle of a training run, by least squares through the
origin weighted by time; everything else is geometry and electrolyte:

* length (for each ion): content of the slits against that of a long slit in equilibrium at
  the slit's potentials;
* exterior: charge of the front of sheet 1 against that of a planar wall at node 0;
* resistance (for each ion): voltage between neighbouring slits against current over the mean
  of their contents, all openings together; the mouth by itself, with the content of slit 1.

Lengths belong to the geometry and resistances to geometry and diffusivity (R D is kept), so
that the circuit predicts cells of other number of sheets, concentration, diffusivities,
window, scan rate and protocol; with several training runs, of slit sizes between theirs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.ions import IonCircuit, check_electrolyte, contents
from nanoslit.errors import CircuitError
from nanoslit.mpnp.grid import open_space_reading
from nanoslit.study.parameters import fit, read_cell
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
    resistance, mouth : ndarray, shape (2,)
        [V (mol/m)/(A/m)]
    residuals : dict of str to float
        Rms misfit over rms value of each fit [-].
    """

    case: Case
    length: Array
    exterior: float
    resistance: Array
    mouth: Array
    residuals: dict[str, float]

    def logarithms(self) -> Array:
        """Return ln of lengths, exterior and of both resistances times diffusivity, (7,)."""
        d = np.array([ion.diffusivity for ion in self.case.electrolyte.ions])
        return np.log([*self.length, self.exterior, *self.resistance * d, *self.mouth * d])


class IonMaterial:
    """Circuits of cells that were not solved, from one or several that were.

    Between training runs of different slit size the logarithms of the seven numbers follow
    a monotone cubic in the logarithm of the slit size (a straight line between two); runs of
    one slit size are averaged. No extrapolation in slit size.

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
        rows = np.array([p.logarithms() for p in trained])
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
        d = np.array([ion.diffusivity for ion in case.electrolyte.ions])
        numbers = np.exp(self._at(g.slit_size))
        space = open_space_reading(case)
        return IonCircuit(
            case.electrolyte, case.electrode, g.slit_size, g.sheets, numbers[:2],
            float(numbers[2]), numbers[3:5] / d, numbers[5:] / d, g.reservoir - space,
            g.height, space,
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
        return np.asarray(curve(np.log(np.clip(slit_size, low, high))))


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

    from nanoslit.results.files import read_traces

    cell = read_cell(path)
    case, weight = cell.case, cell.weight
    check_case(case)
    t = read_traces(path)
    rows = t.in_cycle()
    inside, space = t["slit_ion_potential"][rows], t["open_space_ion_potential"][rows]
    potential = np.concatenate([space[:, None], inside], axis=1)
    current = np.concatenate(
        [t["mouth_ion_current"][rows][:, None], t["opening_ion_current"][rows]], axis=1
    )
    content = np.asarray(t["slit_ion_content"][rows])
    z = np.array([ion.charge for ion in case.electrolyte.ions], float)
    middle = (z[0] * potential[..., 0] - z[1] * potential[..., 1]) / (z[0] - z[1])
    salt = z[0] * (potential[..., 0] - middle)
    u = cell.applied[:, None] - middle
    g: Any = case.geometry
    lower, upper = (float(v) for v in case.protocol.bounds)
    x, y, log_n, wall = contents(case.electrolyte, case.electrode, g.slit_size, lower, upper)

    def theory(values: Array, boxes: slice) -> Array:
        curves = [RectBivariateSpline(x, y, values[..., s]) for s in (0, 1)]
        return np.stack([c.ev(u[:, boxes], salt[:, boxes]) for c in curves], axis=-1)

    boxes = np.exp(theory(log_n, slice(1, None)))
    face = -FARADAY * (theory(wall, slice(0, 1))[:, 0] @ z)
    voltage = np.diff(potential, axis=1)
    mean = np.concatenate([content[:, :1], 0.5 * (content[:, 1:] + content[:, :-1])], axis=1)
    shape = current / mean
    length, resistance, mouth = np.empty(2), np.empty(2), np.empty(2)
    residuals: dict[str, float] = {}
    for s, ion in enumerate(case.electrolyte.ions):
        for name, target, x_, y_ in (
            ("length", length, boxes[..., s], content[..., s]),
            ("resistance", resistance, shape[:, 1:, s], voltage[:, 1:, s]),
            ("mouth", mouth, shape[:, :1, s], voltage[:, :1, s]),
        ):
            (target[s],), residuals[f"{name} of {ion.name}"] = fit(x_[..., None], y_, weight)
    (exterior,), residuals["exterior"] = fit(face[:, None], cell.exterior_charge, weight)
    return IonParameters(case, length, float(exterior), resistance, mouth, residuals)
