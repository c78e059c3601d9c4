"""Snapshots of the fields during a run: when, taken how, and as blocks of the mesh.

A snapshot does not disturb the time stepping: the state at its time is read off the
polynomial of the step that passes it, which is as accurate as the step. Only the state is
kept; concentrations and fluxes are derived when the file is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from nanoslit.errors import ProtocolError
from nanoslit.mpnp.grid import BULK
from nanoslit.mpnp.stepper import extrapolate
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.simulation import Simulation

    Floats = NDArray[np.float64]

__all__ = ["FieldBlocks", "Snapshots", "snapshot_times"]

_MOST_VERTICES = 12


def snapshot_times(case: Case) -> Floats:
    """Return the times at which the output table of a case asks for the fields [s].

    By default the vertices of the last cycle and, in both directions of it, the
    potentials at 1/3 and 2/3 of the window.

    Raises
    ------
    ProtocolError
        If a time lies outside the protocol, or a potential is not passed in the last
        cycle.
    """
    protocol, out = case.protocol, case.output
    marks = protocol.breakpoints()
    last = int(protocol.cycle(marks[-1]))
    middle = 0.5 * (marks[1:] + marks[:-1])
    pieces = [
        (a, b)
        for a, b, m in zip(marks[:-1], marks[1:], middle, strict=True)
        if int(protocol.cycle(m)) == last or last == 1
    ]
    times = list(out.snapshot_times)
    if out.snapshot_vertices:
        ends = np.unique(np.array(pieces))
        times += [t for t in ends[-_MOST_VERTICES:] if int(protocol.cycle(t)) >= last - 1]
    wanted = out.snapshot_potentials
    if wanted is None:
        low, high = protocol.bounds
        wanted = tuple(low + (high - low) * np.array([1 / 3, 2 / 3]))
        times += [t for v in wanted for t in _passages(case, pieces, v)][:64]
    else:
        for v in wanted:
            found = _passages(case, pieces, v)
            if not found:
                low, high = protocol.bounds
                raise ProtocolError(
                    f"output.snapshot_potentials: {v:g} V is not passed in the last cycle; "
                    f"the protocol covers {low:g} V to {high:g} V"
                )
            times += found
    end = protocol.duration
    for t in times:
        if not 0 <= t <= end * (1 + 1e-9):
            raise ProtocolError(
                f"output.snapshot_times: {t:g} s lies outside the protocol (0 to {end:g} s)"
            )
    return _distinct(np.minimum(times, end), end)


def _distinct(times: Floats, end: float) -> Floats:
    """Return sorted times without those that differ by rounding only."""
    out = np.unique(times)
    return out[np.concatenate([[True], np.diff(out) > 1e-9 * end])] if out.size else out


def _passages(case: Case, pieces: list[tuple[float, float]], potential: float) -> list[float]:
    """Return the times in smooth pieces of the protocol at which a potential is passed."""
    found = []
    for a, b in pieces:
        t = np.linspace(a, b, 1001)
        t[0] += 1e-12 * (b - a)  # the limit from inside, at a jump
        v = np.asarray(case.protocol(t)) - potential
        v[-1] = float(case.protocol(b, side="left")) - potential
        i = np.flatnonzero(np.sign(v[:-1]) * np.sign(v[1:]) < 0)
        found += list(t[i] - v[i] * (t[i + 1] - t[i]) / (v[i + 1] - v[i]))
        found += list(t[1:-1][v[1:-1] == 0])
    return found


@dataclass
class Snapshots:
    """Takes the snapshots of a run: call it after every accepted step.

    Attributes
    ----------
    times : ndarray
        When [s], rising.
    taken : list of (time [s], applied potential [V], state of the owned nodes)
    """

    times: Floats
    taken: list[tuple[float, float, Floats]] = field(default_factory=list)
    _before: tuple[list[float], list[Floats]] = ([], [])

    def __call__(self, simulation: Simulation) -> None:
        """Take what became due since the call before."""
        h, s = simulation.history, simulation.scales.time
        while len(self.taken) < self.times.size:
            target = float(self.times[len(self.taken)])
            # the end of the step is the same number as a breakpoint but for rounding
            if target / s > h.times[0] * (1 + 1e-12):
                break
            state = self._at(simulation, target / s)
            volt = (
                float(simulation.case.protocol(target, side="left"))
                if target > 0
                else (simulation.case.protocol.start_potential)
            )
            self.taken.append((target, volt, state))
        self._before = (list(h.times), list(h.states))

    def _at(self, simulation: Simulation, t: float) -> Floats:
        h = simulation.history
        order = int(simulation.recorder.rows[-1]["order"])
        if order == 0 or abs(t - h.times[0]) <= 1e-12 * abs(t):
            return h.states[0].copy()
        times, states = self._before
        points = np.array([h.times[0], *times[:order]])
        weights = extrapolate(points, t)
        return np.asarray(
            sum(w * u for w, u in zip(weights, [h.states[0], *states[:order]], strict=True))
        )

    # -- checkpoints -----------------------------------------------------------------

    def state(self, simulation: Simulation) -> dict[str, Any] | None:
        """Return what has been taken, on rank 0 (collective)."""
        n, b = simulation.cell.sub.n_owned, simulation.equations.n_fields
        states = np.array([u for _, _, u in self.taken]).reshape(-1, n, b)
        everything = simulation.cell.gather(np.moveaxis(states, 0, 1))
        if everything is None:
            return None
        return {
            "times": self.times,
            "taken_times": np.array([t for t, _, _ in self.taken]),
            "potentials": np.array([v for _, v, _ in self.taken]),
            "states": everything,
        }

    @classmethod
    def restore(cls, simulation: Simulation, state: dict[str, Any] | None) -> Snapshots:
        """Return the snapshots of a checkpoint (collective)."""
        cell = simulation.cell
        times, taken, potentials = cell.share(
            None
            if state is None
            else (state["times"], state["taken_times"], state["potentials"])
        )
        part = cell.scatter(None if state is None else state["states"])
        h = simulation.history
        done = [
            (float(t), float(v), part[:, i].copy())
            for i, (t, v) in enumerate(zip(taken, potentials, strict=True))
        ]
        return cls(np.asarray(times), done, (list(h.times), list(h.states)))


class FieldBlocks:
    """Fields of snapshots on the tensor mesh, one block of whole mesh lines per rank.

    Nodes are numbered along the longer direction, so a rank owns whole lines but for the
    two at its ends; a line belongs to the rank that owns its first node, and the others
    send it their part.

    Parameters
    ----------
    simulation : Simulation

    Attributes
    ----------
    axis : int
        Mesh direction (0 = x, 1 = y) that is cut into blocks.
    start, stop : int
        Mesh lines of this rank's block along ``axis``.
    shape : tuple of int
        Of the whole mesh.
    """

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        cell, grid = simulation.cell, simulation.grid
        self.shape = grid.node.shape
        self.axis = 1 if self.shape[1] > self.shape[0] else 0
        line = (grid.ix, grid.iy)[self.axis]
        n, size = grid.n_nodes, cell.size
        ends = np.array([n * (r + 1) // size for r in range(size)])
        # nodes of a line are contiguous: its first one decides
        first = np.searchsorted(line, np.arange(self.shape[self.axis]))
        owner = np.searchsorted(ends, np.minimum(first, n - 1), side="right")
        owner[0] = 0  # the line of the reservoir has no nodes
        mine = np.flatnonzero(owner == cell.rank)
        self.start, self.stop = (int(mine[0]), int(mine[-1]) + 1) if mine.size else (0, 0)
        own = slice(cell.sub.start, cell.sub.stop)
        self._receiver = owner[line[own]]
        self._position = np.ravel_multi_index((grid.ix[own], grid.iy[own]), self.shape)
        self._vectors()

    def _vectors(self) -> None:
        """Prepare the mean flux density of a node from its edges, by direction."""
        s, g = self.simulation, self.simulation.grid
        sub = s.cell.sub
        e = sub.edges
        vertical = np.where(g.k[e] == BULK, True, g.ix[g.k[e]] != g.ix[g.l[e]])
        share = 0.5 * g.face[e] * g.distance[e]  # volume next to the edge, at each end
        self._share = [np.where(vertical, share, 0.0), np.where(vertical, 0.0, share)]
        ends = np.concatenate([sub.k, sub.l])
        here = np.flatnonzero(ends < sub.n_owned)
        self._edges_of = sparse.csr_matrix(
            (np.ones(here.size), (ends[here], here % e.size)), (sub.n_owned, e.size)
        )
        self._total = [self._edges_of @ w for w in self._share]

    def values(self, state: Floats) -> dict[str, Floats]:
        """Return the fields of one snapshot on the owned nodes (collective), SI.

        Returns
        -------
        dict of str to ndarray
            ``phi`` (n_owned,); ``concentration``, ``ion_flux_x``, ``ion_flux_y``
            (n_owned, ions); ``current_density_x``, ``current_density_y`` (n_owned,).
        """
        s = self.simulation
        eq, scales = s.equations, s.scales
        u = s.cell.with_ghosts(state)
        n = s.cell.sub.n_owned
        out = {
            "phi": u[:n, 0] * scales.potential,
            "concentration": eq.concentrations(u)[:n] * scales.concentration,
        }
        density = eq.ion_flux(u) / (eq.conductance * self._distance)[:, None]
        unit = scales.concentration * scales.length / scales.time
        for direction, share, total in zip("xy", self._share, self._total, strict=True):
            flux = self._edges_of @ (density * share[:, None])
            with np.errstate(invalid="ignore"):
                flux = flux * unit / total[:, None]
            out[f"ion_flux_{direction}"] = flux
            out[f"current_density_{direction}"] = FARADAY * (flux @ eq.z)
        return out

    @property
    def _distance(self) -> Floats:
        """Length of this rank's edges in units of the equations."""
        s = self.simulation
        return np.asarray(s.grid.distance[s.cell.sub.edges] / s.scales.length)

    def block(self, values: Floats, reservoir: Floats | float = np.nan) -> Floats:
        """Return values of the owned nodes as this rank's block (collective).

        Parameters
        ----------
        values : ndarray, shape (n_owned,) or (n_owned, m)
        reservoir : float or ndarray, shape (m,)
            Value on the line of the reservoir, which has no nodes.

        Returns
        -------
        ndarray, shape (m, nx or lines, lines or ny)
            NaN where solid; m = 1 for a scalar.
        """
        cell = self.simulation.cell
        values = values.reshape(values.shape[0], -1)
        parts = [
            (self._position[self._receiver == r], values[self._receiver == r])
            for r in range(cell.size)
        ]
        shape = list(self.shape)
        shape[self.axis] = self.stop - self.start
        out = np.full((values.shape[1], *shape), np.nan)
        for position, data in cell.exchange(parts):
            i, j = np.unravel_index(position, self.shape)
            i, j = (i - self.start, j) if self.axis == 0 else (i, j - self.start)
            out[:, i, j] = data.T
        if self.simulation.case.cell == "half" and (self.axis == 1 or self.start == 0):
            out[:, 0] = np.broadcast_to(np.asarray(reservoir), values.shape[1])[:, None]
        return out

    def fields(self, state: Floats) -> Iterator[tuple[str, Floats]]:
        """Yield name and block of every field of a snapshot (collective)."""
        bulk = [ion.concentration for ion in self.simulation.case.electrolyte.ions]
        reservoir: dict[str, Any] = {"phi": 0.0, "concentration": np.array(bulk)}
        for name, values in self.values(state).items():
            yield name, self.block(values, reservoir.get(name, np.nan))
