"""The periodic state of a cycled ladder: fixed point of one cycle."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.circuit.integrator import Job, Tolerance, integrate
from nanoslit.errors import ConvergenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.resistor import Resistor

    Array = NDArray[np.float64]

__all__ = ["periodic_start"]

DEPTH = 4  # earlier cycles that the acceleration remembers
MAX_CYCLES = 200


def periodic_start(job: Job, *, backend: str = "auto", threads: int | None = None) -> Array:
    """Return the state at the start of a cycle to which the cycle returns.

    Repeats the cycle of ``job`` with Anderson acceleration (D. G. Anderson, J. ACM 12,
    547 (1965)) for each circuit; circuits that have settled drop out. All states stay
    within the potentials of the drive, as the ladder itself does.

    Returns
    -------
    ndarray, shape (circuits, nodes)
        [V]

    Raises
    ------
    ConvergenceError
        If a circuit does not settle within 200 cycles.
    """
    settled = job.start.copy()
    alive = np.arange(len(settled))
    state = settled.copy()
    bound = 0.05 * min(job.tolerance.potential, job.tolerance.current)
    tolerance = Tolerance(
        max(0.3 * job.tolerance.current, 1e-12), max(0.3 * job.tolerance.potential, 1e-12)
    )
    states: list[Array] = []
    moves: list[Array] = []
    for _ in range(MAX_CYCLES):
        one = _subset(job, alive, state, tolerance)
        move = integrate(one, backend=backend, threads=threads).ends[:, -1] - state
        size = np.abs(move).max(axis=1) / one.potential_scale
        done = size <= bound
        settled[alive[done]] = (state + move)[done]
        going = ~done
        if not going.any():
            return settled
        states = [x[going] for x in [*states, state][-DEPTH:]]
        moves = [x[going] for x in [*moves, move][-DEPTH:]]
        alive = alive[going]
        lo, hi = job.lower[alive, None], job.upper[alive, None]
        state = np.clip(_mixed(states, moves), lo, hi)
    raise ConvergenceError(
        f"circuit {alive[0]} has no periodic state after {MAX_CYCLES} cycles; report a "
        "cycle number instead, or choose a slower scan"
    )


def _mixed(states: list[Array], moves: list[Array]) -> Array:
    """Return the next state of Anderson's scheme for each circuit."""
    state, move = states[-1], moves[-1]
    if len(states) == 1:
        return state + move
    dm = np.stack([move - m for m in moves[:-1]], axis=2)
    ds = np.stack([state - s for s in states[:-1]], axis=2)
    normal = np.einsum("bni,bnj->bij", dm, dm)
    trace = np.trace(normal, axis1=1, axis2=2)
    depth = normal.shape[1]
    normal += (1e-12 * trace + 1e-300)[:, None, None] * np.eye(depth)
    right = np.einsum("bni,bn->bi", dm, move)
    weight = np.linalg.solve(normal, right[..., None])
    return np.asarray(state + move - ((ds + dm) @ weight)[..., 0])


def _subset(job: Job, rows: NDArray[np.int64], start: Array, tolerance: Tolerance) -> Job:
    part = replace(
        job, start=np.ascontiguousarray(start), capacitance=job.capacitance[rows],
        law=_law_rows(job.law, rows), g_open=job.g_open[rows],
        drive=job.drive.select(rows), points=1, tolerance=tolerance,
    )  # fmt: skip
    part.lower, part.upper = job.lower[rows], job.upper[rows]
    return part


def _law_rows(law: Resistor, rows: NDArray[np.int64]) -> Resistor:
    import copy

    part = copy.copy(law)
    part.parameters = np.ascontiguousarray(law.parameters[:, rows])
    return part
