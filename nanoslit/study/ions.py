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
window, scan rate and protocol.
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
    from numpy.typing import NDArray

    from nanoslit.case import Case

    Array = NDArray[np.float64]

__all__ = ["IonParameters", "ion_parameters"]


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

    def circuit(self, case: Case) -> IonCircuit:
        """Return the circuit of a case with the geometry of the training run.

        Raises
        ------
        CircuitError
            If slits, sheets or walls are others, or it is no half cell of two ions with
            constant diffusivities.
        """
        check_case(case)
        mine, other = (_fixed(c) for c in (self.case, case))
        if changed := [k for k in mine if mine[k] != other.get(k)]:
            raise CircuitError(
                f"the circuit was trained on another {changed[0]} ({mine[changed[0]]!r}, not "
                f"{other.get(changed[0])!r}): solve a cell with it, and train on that"
            )
        g: Any = case.geometry
        share = np.array([
            a.diffusivity / b.diffusivity
            for a, b in zip(self.case.electrolyte.ions, case.electrolyte.ions, strict=True)
        ])  # fmt: skip
        space = open_space_reading(case)
        return IonCircuit(
            case.electrolyte, case.electrode, g.slit_size, g.sheets, self.length,
            self.exterior, self.resistance * share, self.mouth * share, g.reservoir - space,
            g.height, space,
        )  # fmt: skip


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
    kept = {k: v for k, v in geometry.items() if k not in ("sheets", "reservoir")}
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
