"""A preconditioner for domains whose LU is too large: incomplete LU and a coarse problem.

Nodes next to each other, ``ASIDE`` x ``ASIDE`` of them, make an aggregate; fields that are
constant on each aggregate give a coarse problem with a ninth of the nodes (Galerkin: rows
and columns of an aggregate are added up). It is solved exactly by the LU of a chain
(:mod:`nanoslit.mpnp.chain`). What it leaves is smoothed by an incomplete LU with the pattern
of the matrix itself, which each rank does for its own nodes. Neither is of much use alone:
the incomplete LU knows nothing of the other end of a slit, the coarse problem nothing of the
double layer; together they need seven or eight iterations for three digits on all meshes tried.

The factors have a fourth (30 lines across) to a sixth (140) of the blocks of the LU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from nanoslit.mpnp.blocklu import BlockLU
from nanoslit.mpnp.chain import ChainLU
from nanoslit.mpnp.residual import Subdomain

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nanoslit.mpnp.grid import Grid

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["ASIDE", "TwoLevel"]

ASIDE = 3
"""Nodes of an aggregate in each direction."""


@dataclass(frozen=True)
class _Aggregates:
    """The coarse mesh: nodes ``k`` and ``l`` of its edges, and the aggregate of each node.

    ``first`` (ranks + 1,) is the first aggregate of each rank, and their number.
    """

    of: Ints
    first: Ints
    k: Ints
    l: Ints  # noqa: E741


def _aggregate(grid: Grid, bounds: Ints) -> _Aggregates:
    """Join neighbours within squares of ``ASIDE`` lines and within ranks."""
    inner = (grid.k >= 0) & (grid.l >= 0)
    k, l = grid.k[inner], grid.l[inner]  # noqa: E741
    n = grid.n_nodes
    owner = np.searchsorted(bounds, np.arange(n), side="right") - 1
    square = np.stack([owner, grid.ix // ASIDE, grid.iy // ASIDE])
    joined = (square[:, k] == square[:, l]).all(axis=0)
    links = sparse.coo_matrix((np.ones(joined.sum()), (k[joined], l[joined])), shape=(n, n))
    count, of = sparse.csgraph.connected_components(links, directed=False)
    # in the order of their first nodes, so that those of a rank follow each other
    first_node = np.full(count, n)
    np.minimum.at(first_node, of, np.arange(n))
    number = np.argsort(np.argsort(first_node))
    of = number[of]
    first = np.searchsorted(np.sort(first_node), bounds)
    pairs = np.sort(np.stack([of[k], of[l]])[:, ~joined], axis=0)
    pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
    return _Aggregates(of, first, pairs[0], pairs[1])


class TwoLevel:
    """Coarse problem, then incomplete LU, of a matrix distributed over a chain of ranks.

    Parameters
    ----------
    grid : Grid
    bounds : ndarray of int, shape (ranks + 1,)
        First node of each rank, and the number of nodes.
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
        self,
        grid: Grid,
        bounds: Ints,
        sub: Subdomain,
        size: int,
        order: Callable[[Ints, Ints], Ints],
        comm: Any = None,
    ) -> None:
        rank = 0 if comm is None else comm.rank
        coarse = _aggregate(grid, bounds)
        part = Subdomain(coarse, *coarse.first[rank : rank + 2])
        self.coarse = ChainLU(part, size, order, comm)
        self._own = coarse.of[sub.start : sub.stop] - part.start
        n, m = sub.n_owned, part.n_owned
        self._sum = sparse.csr_matrix((np.ones(n), (self._own, np.arange(n))), shape=(m, n))
        rows = np.repeat(np.arange(n), np.diff(sub.pattern.start))
        self._blocks = self._block_sums(part, self._own[rows], coarse.of[sub.pattern.columns])
        inside = sub.owns(sub.pattern.columns)
        self._inside = None if inside.all() else np.flatnonzero(inside)
        start = np.concatenate([[0], np.cumsum(np.bincount(rows[inside], minlength=n))])
        columns = sub.pattern.columns[inside] - sub.start
        self.smoother = BlockLU(start, columns, np.arange(n), 0, size, fill=False)
        self._ones = np.ones((max(n, m), size))

    def _block_sums(self, part: Subdomain, row: Ints, column: Ints) -> sparse.csr_matrix:
        """Return what adds blocks up to those of the coarse matrix."""
        pattern = part.pattern
        width = int(max(pattern.columns.max(), column.max())) + 1
        coarse_row = np.repeat(np.arange(part.n_owned), np.diff(pattern.start))
        at = np.searchsorted(coarse_row * width + pattern.columns, row * width + column)
        shape = (pattern.columns.size, at.size)
        return sparse.csr_matrix((np.ones(at.size), (at, np.arange(at.size))), shape=shape)

    def factor(self, values: Floats) -> None:
        """Factorise (collective); arguments as those of :meth:`ChainLU.factor`."""
        flat = self._blocks @ values.reshape(len(values), -1)
        self.coarse.factor(flat.reshape(-1, *values.shape[1:]))
        self.smoother.factor(values if self._inside is None else values[self._inside])

    def correct(self, x: Floats, scale: Floats, out: Floats) -> None:
        """Put the coarse solution for scale * x (n_owned, size) into ``out`` (collective)."""
        right = self._sum @ (scale * x)
        left = np.empty_like(right)
        self.coarse.solve(right, self._ones[: len(right)], left)
        np.take(left, self._own, axis=0, out=out)

    def smooth(self, x: Floats, scale: Floats, out: Floats) -> None:
        """Add the incomplete solution for scale * x (n_owned, size) to ``out``."""
        part = np.empty_like(x)
        self.smoother.backward(self.smoother.forward(x, scale), part)
        out += part
