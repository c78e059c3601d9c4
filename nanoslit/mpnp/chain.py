"""Exact linear solves on ranks that own consecutive pieces of a chain.

The nodes are numbered along the longer direction, so a rank has neighbours before and
after it and no others. The nodes of rank r that touch rank r - 1 are its *interface*: few,
where the cut goes through the opening of a sheet. Without the interfaces the ranks know
nothing of each other: each eliminates its other nodes by itself, the Schur complements
of all interfaces add up to a banded matrix, which every rank factorises for itself, and
a solve needs one sum over the ranks. One rank alone has no interface: a plain LU.

The band grows with the number of ranks; beyond some hundred ranks its solution, which all
repeat, costs as much as a rank's own part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import lapack

from nanoslit.mpnp.blocklu import BlockLU

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nanoslit.mpnp.grid import Grid
    from nanoslit.mpnp.residual import Subdomain

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["ChainLU", "is_chain", "partition"]

IMBALANCE = 0.05
"""Part of its nodes by which a rank's piece may differ for the sake of a narrow cut."""


def partition(grid: Grid, ranks: int) -> Ints:
    """Return the first node of each rank, and last the number of nodes (ranks + 1,).

    Pieces are of equal size but for ``IMBALANCE``; within it cuts go where the fewest
    nodes touch the piece before.
    """
    n = grid.n_nodes
    even = n * np.arange(ranks + 1) // ranks
    node, first = np.arange(n), _first_neighbour(grid)
    # a node touches the piece before if the cut lies behind its first neighbour
    change = np.bincount(first + 1, minlength=n + 1) - np.bincount(node + 1, minlength=n + 1)
    width = np.cumsum(change)
    play = int(IMBALANCE * n / ranks)
    for r in range(1, ranks):
        near = np.arange(even[r] - play, even[r] + play + 1)
        even[r] = min(near, key=lambda s: (width[s], abs(s - n * r // ranks)))
    return even


def is_chain(grid: Grid, bounds: Ints) -> bool:
    """Return whether each piece touches only the one before and the one after it."""
    owner = np.searchsorted(bounds, np.arange(grid.n_nodes), side="right") - 1
    return bool(np.all(owner - owner[_first_neighbour(grid)] <= 1))


def _first_neighbour(grid: Grid) -> Ints:
    """Return the lowest number among each node and its neighbours."""
    first = np.arange(grid.n_nodes)
    inner = (grid.k >= 0) & (grid.l >= 0)
    k, l = grid.k[inner], grid.l[inner]  # noqa: E741
    np.minimum.at(first, k, l)
    np.minimum.at(first, l, k)
    return first


class ChainLU:
    """LU of a matrix whose rows are distributed over a chain of ranks.

    Parameters
    ----------
    sub : Subdomain
        This rank's nodes.
    size : int
        Unknowns per node.
    order : callable
        Fill-reducing order of a pattern given by row starts and columns.
    comm : mpi4py communicator, optional
        None for one rank.
    """

    def __init__(
        self, sub: Subdomain, size: int, order: Callable[[Ints, Ints], Ints], comm: Any = None
    ) -> None:
        self.comm, self.size, self.n = comm, size, sub.n_owned
        rows, columns = self._rows(sub)
        before = columns < 0
        touching = np.unique(rows[before])  # the interface with the rank before
        later = sub.ghosts[sub.ghosts >= sub.stop]  # that of the rank behind
        self._set_exchange(sub, rows[before] + sub.start, before, later)
        rows = np.concatenate([rows[~before], self._rows_behind])
        columns = np.concatenate([columns[~before], self._columns_behind])
        self._sort = np.lexsort((columns, rows))
        n = self.n + later.size
        start = np.searchsorted(rows[self._sort], np.arange(n + 1))
        kept = np.concatenate([touching, np.arange(self.n, n)])
        self.lu = BlockLU(
            start, columns[self._sort], self._order(rows, columns, kept, order), kept.size, size
        )
        widths = np.array([touching.size] if comm is None else comm.allgather(touching.size))
        first = np.concatenate([[0], np.cumsum(widths)]) * size
        begin = first[0 if comm is None else comm.rank]
        self._place = slice(begin, begin + kept.size * size)
        self._firsts, self._unknowns = first, int(first[-1])
        self._x = np.zeros((n, size))
        self._scale = np.ones((n, size))

    def _rows(self, sub: Subdomain) -> tuple[Ints, Ints]:
        """Return local row and column of each block of the owned rows.

        Columns behind the owned ones follow them; those of the rank before are negative.
        """
        rows = np.repeat(np.arange(self.n), np.diff(sub.pattern.start))
        columns = sub.pattern.columns - sub.start
        behind = columns >= self.n
        later = sub.ghosts[sub.ghosts >= sub.stop] - sub.start
        columns[behind] = self.n + np.searchsorted(later, columns[behind])
        return rows, columns

    def _order(
        self, rows: Ints, columns: Ints, kept: Ints, order: Callable[[Ints, Ints], Ints]
    ) -> Ints:
        """Return the owned nodes inside in a fill-reducing order, then the kept ones."""
        inside = np.ones(int(rows.max()) + 1, dtype=bool)
        inside[kept] = False
        number = np.cumsum(inside) - 1
        chosen = np.flatnonzero(inside[rows] & inside[columns])
        chosen = chosen[np.lexsort((columns[chosen], rows[chosen]))]
        starts = np.searchsorted(number[rows[chosen]], np.arange(inside.sum() + 1))
        nodes = np.flatnonzero(inside)
        return np.concatenate([nodes[order(starts, number[columns[chosen]])], kept])

    # -- blocks that belong to the rank behind ----------------------------------------

    def _set_exchange(
        self, sub: Subdomain, rows: Ints, before: NDArray[np.bool_], later: Ints
    ) -> None:
        """Agree on the blocks that couple an interface to the piece before it."""
        self._given = np.flatnonzero(before)
        none = np.zeros(0, dtype=np.int64)
        self._rows_behind = self._columns_behind = none
        place = rows, sub.pattern.columns[before]
        received = self._from_behind(place)
        if received is not None:
            self._rows_behind = self.n + np.searchsorted(later, received[0])
            self._columns_behind = received[1] - sub.start

    def _from_behind(self, value: Any) -> Any:
        """Give a value to the rank before; return that of the rank behind, None if last."""
        if self.comm is None:
            return None
        rank, last = self.comm.rank, self.comm.size - 1
        to_before = self.comm.isend(value, rank - 1) if rank else None
        received = self.comm.recv(source=rank + 1) if rank < last else None
        if to_before is not None:
            to_before.wait()
        return received

    # -- numbers ----------------------------------------------------------------------

    def factor(self, values: Floats) -> None:
        """Factorise (collective).

        Parameters
        ----------
        values : ndarray, shape (n_blocks, size, size)
            In the order of ``sub.pattern``.
        """
        if self.comm is None:
            self.lu.factor(values)
            return
        behind = self._from_behind(values[self._given])
        own = np.delete(values, self._given, axis=0)
        parts = own if behind is None else np.concatenate([own, behind])
        self._factor_band(self.comm.allgather(self.lu.factor(parts[self._sort])))

    def _factor_band(self, parts: list[Floats]) -> None:
        """Add the Schur complements up and factorise the band."""
        self._width = max(len(p) for p in parts) - 1
        w = self._width
        band = np.zeros((3 * w + 1, self._unknowns))
        for first, part in zip(self._firsts, parts, strict=False):
            i, j = np.indices(part.shape)
            band[2 * w + i - j, first + j] += part
        # a pivot of zero leaves numbers that are not finite: the linear solver sees them
        self._band, self._pivots, _ = lapack.dgbtrf(band, w, w)

    def solve(self, x: Floats, scale: Floats, out: Floats) -> None:
        """Solve for scale * x, both (n_owned, size), into ``out`` (collective)."""
        if self.comm is None:
            self.lu.backward(self.lu.forward(x, scale), out)
            return
        self._x[: self.n] = x
        self._scale[: self.n] = scale
        self._x[self.n :] = 0.0
        rest, total = np.zeros(self._unknowns), np.empty(self._unknowns)
        rest[self._place] = self.lu.forward(self._x, self._scale).ravel()
        self.comm.Allreduce(rest, total)
        w = self._width
        known, _ = lapack.dgbtrs(self._band, w, w, total, self._pivots)
        self.lu.backward(known[self._place].reshape(-1, self.size), self._x)
        out[:] = self._x[: self.n]
