r"""Parts of the slit currents in excess of their equilibrium values.

At rest the diffusion, migration and steric parts of a current cancel but need not
vanish: along a line across which the potential varies, diffusion balances migration. What
drives a run is the excess of each part over its value in the equilibrium with the same
charge in the slit,

    I_part,excess(t) = I_part(t) - I_part,eq(Q_slit(t)),

and the excesses of the parts still add up to the whole current. The equilibria are solved
at a few applied potentials and interpolated (PCHIP) in the charge of each slit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from nanoslit.mpnp.stepper import extrapolate
from nanoslit.mpnp.traces import PARTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.mpnp.simulation import Simulation
    from nanoslit.mpnp.traces import Traces

    Floats = NDArray[np.float64]

__all__ = ["EQUILIBRIA", "add_excess", "equilibrium_table"]

EQUILIBRIA = 9
"""Number of applied potentials at which equilibria are solved: on the reference case 5, 9
and 17 give the excess parts to 1e-4, 4e-5 and 8e-6 of their largest value."""


def equilibrium_table(simulation: Simulation, potentials: Floats) -> dict[str, Floats]:
    """Return the traces of equilibria, one row per applied potential (collective).

    Parameters
    ----------
    simulation : Simulation
        Of a half cell; its history is not touched.
    potentials : ndarray, shape (n,)
        Applied potentials, each near the one before it [V].

    Returns
    -------
    dict of str to ndarray
        ``slit_charge`` [C m^-1] and the parts of ``slit_current`` [A m^-1], (n, slits).
    """
    s, rows = simulation, []
    before: list[tuple[float, Floats]] = []  # newest first; they extrapolate the next one
    for volt in potentials:
        v = float(volt) / s.scales.potential
        guess = None
        if before:
            weights = extrapolate(np.array([p for p, _ in before]), v)
            guess = np.tensordot(weights, np.stack([u for _, u in before]), 1)
        u = s.equilibrium(v, guess)
        before = [(v, u), *(b for b in before if b[0] != v)][:3]
        local = s.cell.with_ghosts(u)
        stored = s.equations.stored(local)
        charges = s.cell.sum(s.observer.charges(local, stored, v))
        instant = s.cell.sum(s.observer.instant(local))
        rows.append(s.observer.record(charges, np.zeros_like(charges), instant))
    names = ["slit_charge", *(f"slit_current_{part}" for part in PARTS)]
    return {name: np.array([row[name][0] for row in rows]) for name in names}


def add_excess(simulation: Simulation, traces: Traces, count: int = EQUILIBRIA) -> None:
    """Add ``slit_current_<part>_excess`` to the traces of a run (collective).

    Nothing is added for a full cell, where the potential of an electrode at rest is not
    the applied one, and for a planar wall, which has no slits.

    Parameters
    ----------
    simulation : Simulation
        The run, still open.
    traces : Traces
        Changed in place.
    count : int
        Number of equilibria over the range of the protocol.
    """
    case = simulation.case
    if case.cell != "half" or "slit_charge" not in traces:
        return
    low, high = case.protocol.bounds
    table = equilibrium_table(simulation, np.linspace(low, high, count))
    charge: Any = traces["slit_charge"]
    rest = {
        part: np.stack(
            [
                _at_charge(table["slit_charge"][:, k], table[f"slit_current_{part}"][:, k], q)
                for k, q in enumerate(charge.T)
            ],
            axis=1,
        )
        for part in PARTS[:2]
    }
    rest[PARTS[2]] = -rest[PARTS[0]] - rest[PARTS[1]]  # at rest they add up to nothing
    for part in PARTS:
        name = f"slit_current_{part}"
        traces.values[f"{name}_excess"] = traces[name] - rest[part]


def _at_charge(charge: Floats, value: Floats, at: Floats) -> Floats:
    """Interpolate a value in the charge of the equilibria; hold it beyond the ends."""
    order = np.argsort(charge)
    rising = charge[order]
    keep = np.concatenate([[True], np.diff(rising) > 0])
    if keep.sum() < 2:
        return np.full(at.shape, value[0])
    curve = PchipInterpolator(rising[keep], value[order][keep])
    return np.asarray(curve(np.clip(at, rising[0], rising[-1])))
