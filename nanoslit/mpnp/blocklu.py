"""Sparse LU of matrices with small dense blocks, which may stop before some rows.

A matrix of n block rows with a symmetric pattern is eliminated but for t chosen rows; what
is left of these rows and columns is their Schur complement, a dense matrix. With t = 0
this is a plain LU, and without fill an incomplete one: what an elimination adds outside the
pattern of the matrix is forgotten. There is no pivoting but inside the diagonal blocks: flux
matrices need none, and whoever uses this checks the residual of the solution.

Rows are eliminated in a given fill-reducing order, brought into the postorder of the
elimination tree: the same fill, but rows that need each other lie close in memory, which
is worth a factor of two on a long strip. Factors and solves are in single precision, for
memory traffic is what a solve costs: an LU that serves as a preconditioner needs no more
(up to 1 V per electrode the iterations are the same as in double). U is stored from its
last row to its first, the way in which it is used: read backwards it takes three times as
long. The pattern is analysed once (Davis, Direct methods for sparse linear systems, ch. 4);
the factors of each new matrix overwrite the old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.mpnp.kernels import compiled, fused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Singles = NDArray[np.float32]

__all__ = ["BlockLU"]

_INDEX = np.uint32  # without sign: compiled code need not look for negative numbers


class BlockLU:
    """LU of a block matrix of fixed pattern.

    Parameters
    ----------
    start, columns : ndarray of int, shape (n + 1,) and (n_blocks,)
        The rows of the matrix in compressed form; pattern symmetric, diagonal present.
    order : ndarray of int, shape (n,)
        Rows in the order of their elimination, last those that are not eliminated.
    kept : int
        Number of these.
    size : int
        Rows of a block.
    fill : bool
        Whether the factors may have blocks where the matrix has none; without, it is an
        incomplete LU, in the given order.
    """

    def __init__(
        self,
        start: Ints,
        columns: Ints,
        order: Ints,
        kept: int,
        size: int,
        *,
        fill: bool = True,
    ) -> None:
        n, self.kept = start.size - 1, kept
        self._unit = (0.0,) * size
        if fill:
            order = _postorder(start, columns, order, n - kept)
        place = np.argsort(order)
        lower, self._l = _lower_pattern(start, columns, order, place, n - kept, fill)
        upper, self._u = _upper_pattern(lower, self._l, n)
        self._start, self._columns, self._order, self._place, self._lower, self._upper = (
            a.astype(_INDEX) for a in (start, columns, order, place, lower, upper)
        )
        b = size
        self._lv, self._uv = (np.empty((self._l.size, b, b), np.float32) for _ in range(2))
        self._inverse = np.empty((n - kept, b, b))
        self._work = np.zeros((n, b, b))
        self._y = np.zeros((n, b), np.float32)
        self._left = np.zeros((kept, b, kept, b))

    @property
    def blocks(self) -> int:
        """Number of blocks in the factors."""
        return int(2 * self._l.size + len(self._inverse))

    def factor(self, values: Floats) -> Floats:
        """Eliminate; return the Schur complement of the kept rows.

        Parameters
        ----------
        values : ndarray, shape (n_blocks, size, size)

        Returns
        -------
        ndarray, shape (kept * size, kept * size)
            Not finite where a pivot vanished; overwritten by the next call.
        """
        _factor(
            self._start,
            self._columns,
            values,
            self._order,
            self._place,
            self._lower,
            self._l,
            self._lv,
            self._upper,
            self._u,
            self._uv,
            self._inverse,
            self._work,
            self._left,
            self._unit,
        )
        self._pivots = self._inverse[::-1].astype(np.float32)
        n = self.kept * len(self._unit)
        return self._left.reshape(n, n)

    def forward(self, x: Floats, scale: Floats) -> Floats:
        """Eliminate scale * x, both (n, size); return what is left of the kept rows."""
        args = self._place, self._lower, self._l, self._lv
        _forward(*args, x, scale, self._y, self._unit)
        return np.array(self._y[self._y.shape[0] - self.kept :], dtype=float)

    def backward(self, known: Floats, x: Floats) -> None:
        """Complete the solution x (n, size) after ``forward``, given that of the kept rows."""
        self._y[self._y.shape[0] - self.kept :] = known
        args = self._place, self._upper, self._u, self._uv, self._pivots
        _backward(*args, self._y, x, self._unit)


@compiled
def _postorder(start: Any, columns: Any, order: Any, stop: int) -> Any:
    """Return the order (n,) with its first ``stop`` rows in the tree's postorder."""
    n = order.size
    place = np.empty(n, np.int64)
    for i in range(n):
        place[order[i]] = i
    parent, ancestor = np.full(n, -1), np.full(n, -1)
    for i in range(stop):
        for q in range(start[order[i]], start[order[i] + 1]):
            j = place[columns[q]]
            while j < i:
                above = ancestor[j]
                ancestor[j] = i
                if above == -1:
                    parent[j] = i
                    break
                j = above
    child, sibling = np.full(n, -1), np.full(n, -1)
    for i in range(stop - 1, -1, -1):
        if parent[i] >= 0:
            sibling[i] = child[parent[i]]
            child[parent[i]] = i
    out, stack, at = order.copy(), np.empty(n, np.int64), 0
    for root in range(stop):
        if parent[root] >= 0:
            continue
        top = 0
        stack[0] = root
        while top >= 0:
            i = stack[top]
            if child[i] >= 0:
                top += 1
                stack[top] = child[i]
                child[i] = sibling[child[i]]
            else:
                out[at] = order[i]
                at += 1
                top -= 1
    return out


@compiled
def _lower_pattern(
    start: Any, columns: Any, order: Any, place: Any, stop: int, fill: bool
) -> Any:
    """Return the pattern of L by rows: those of its columns that are eliminated.

    Without fill the elimination tree is cut at every node: no row reaches further than
    its own columns.
    """
    n = order.size
    parent, mark = np.full(n, -1), np.full(n, -1)
    first = np.zeros(n + 1, np.int64)
    for i in range(n):
        mark[i] = i
        for q in range(start[order[i]], start[order[i] + 1]):
            j = place[columns[q]]
            while 0 <= j < min(i, stop) and mark[j] != i:
                mark[j] = i
                first[i + 1] += 1
                if fill and parent[j] == -1:
                    parent[j] = i
                j = parent[j]
    for i in range(n):
        first[i + 1] += first[i]
    out = np.empty(first[n], np.uint32)
    mark[:] = -1
    for i in range(n):
        mark[i] = i
        at = first[i]
        for q in range(start[order[i]], start[order[i] + 1]):
            j = place[columns[q]]
            while 0 <= j < min(i, stop) and mark[j] != i:
                mark[j] = i
                out[at] = j
                at += 1
                j = parent[j]
        out[first[i] : at].sort()
    return first, out


@compiled
def _upper_pattern(first: Any, columns: Any, n: int) -> Any:
    """Return the pattern of U from that of L: row i in [start[i + 1], start[i])."""
    start = np.zeros(n + 1, np.int64)
    for q in range(columns.size):
        start[columns[q]] += 1
    for i in range(n - 1, -1, -1):
        start[i] += start[i + 1]
    at, out = start[1:].copy(), np.empty(columns.size, np.uint32)
    for i in range(n):
        for q in range(first[i], first[i + 1]):
            out[at[columns[q]]] = i
            at[columns[q]] += 1
    return start, out


@fused
def _put(to: Any, i: int, blocks: Floats, j: int, unit: Any) -> None:
    """Copy block j to place i of another array; zeros if j is negative."""
    b = len(unit)
    for a in range(b):
        for d in range(b):
            to[i, a, d] = 0.0 if j < 0 else blocks[j, a, d]


@fused
def _invert(m: Floats, out: Floats) -> None:
    """Invert a small matrix, which is destroyed, with row pivoting."""
    b = m.shape[0]
    for i in range(b):
        for j in range(b):
            out[i, j] = 1.0 if i == j else 0.0
    for c in range(b):
        p = c
        for i in range(c + 1, b):
            if abs(m[i, c]) > abs(m[p, c]):
                p = i
        for j in range(b):
            m[p, j], m[c, j] = m[c, j], m[p, j]
            out[p, j], out[c, j] = out[c, j], out[p, j]
        f = 1.0 / m[c, c]
        for j in range(b):
            m[c, j] *= f
            out[c, j] *= f
        for i in range(b):
            if i != c:
                g = m[i, c]
                for j in range(b):
                    m[i, j] -= g * m[c, j]
                    out[i, j] -= g * out[c, j]


@fused
def _subtract(t: Floats, first: int, last: int, u: Any, uv: Singles, work: Floats) -> None:
    """Subtract t U of one row of U from the working row.

    Blocks of three, those of two ions, are written out: twice as fast.
    """
    b = t.shape[0]
    if b == 3:
        t00, t01, t02 = t[0, 0], t[0, 1], t[0, 2]
        t10, t11, t12 = t[1, 0], t[1, 1], t[1, 2]
        t20, t21, t22 = t[2, 0], t[2, 1], t[2, 2]
        for p in range(first, last):
            j = u[p]
            for d in range(3):
                u0, u1, u2 = uv[p, 0, d], uv[p, 1, d], uv[p, 2, d]
                work[j, 0, d] -= t00 * u0 + t01 * u1 + t02 * u2
                work[j, 1, d] -= t10 * u0 + t11 * u1 + t12 * u2
                work[j, 2, d] -= t20 * u0 + t21 * u1 + t22 * u2
        return
    for p in range(first, last):
        j = u[p]
        for a in range(b):
            for d in range(b):
                s = 0.0
                for e in range(b):
                    s += t[a, e] * uv[p, e, d]
                work[j, a, d] -= s


@fused
def _factor(
    start: Any,
    columns: Any,
    values: Floats,
    order: Any,
    place: Any,
    lower: Any,
    l: Any,  # noqa: E741
    lv: Singles,
    upper: Any,
    u: Any,
    uv: Singles,
    inverse: Floats,
    work: Floats,
    left: Floats,
    unit: Any,
) -> None:
    """Eliminate row by row: L has unit diagonal, ``inverse`` holds that of U."""
    n, stop, b = order.size, inverse.shape[0], len(unit)
    t = np.empty((b, b))
    for i in range(n):
        for q in range(lower[i], lower[i + 1]):
            _put(work, l[q], values, -1, unit)
        if i < stop:
            _put(work, i, values, -1, unit)
            for q in range(upper[i + 1], upper[i]):
                _put(work, u[q], values, -1, unit)
        else:
            work[stop:] = 0.0
        for q in range(start[order[i]], start[order[i] + 1]):
            _put(work, place[columns[q]], values, q, unit)
        for q in range(lower[i], lower[i + 1]):
            k = l[q]
            for a in range(b):
                for d in range(b):
                    s = 0.0
                    for e in range(b):
                        s += work[k, a, e] * inverse[k, e, d]
                    t[a, d] = s
                    lv[q, a, d] = s
            _subtract(t, upper[k + 1], upper[k], u, uv, work)
        if i < stop:
            for q in range(upper[i + 1], upper[i]):
                _put(uv, q, work, u[q], unit)
            _invert(work[i], inverse[i])
        else:
            for j in range(stop, n):
                for a in range(b):
                    for d in range(b):
                        left[i - stop, a, j - stop, d] = work[j, a, d]


@fused
def _subtract_row(
    first: int, last: int, columns: Any, values: Singles, y: Singles, i: int, unit: Any
) -> None:
    """Subtract from y[i] the product of a row of L or U with y."""
    b = len(unit)
    if b == 3:
        y0, y1, y2 = y[i, 0], y[i, 1], y[i, 2]
        for q in range(first, last):
            k = columns[q]
            z0, z1, z2 = y[k, 0], y[k, 1], y[k, 2]
            y0 -= values[q, 0, 0] * z0 + values[q, 0, 1] * z1 + values[q, 0, 2] * z2
            y1 -= values[q, 1, 0] * z0 + values[q, 1, 1] * z1 + values[q, 1, 2] * z2
            y2 -= values[q, 2, 0] * z0 + values[q, 2, 1] * z1 + values[q, 2, 2] * z2
        y[i, 0], y[i, 1], y[i, 2] = y0, y1, y2
        return
    for a in range(b):
        s = y[i, a]
        for q in range(first, last):
            for e in range(b):
                s -= values[q, a, e] * y[columns[q], e]
        y[i, a] = s


@fused
def _forward(
    place: Any,
    lower: Any,
    l: Any,  # noqa: E741
    lv: Singles,
    x: Floats,
    scale: Floats,
    y: Singles,
    unit: Any,
) -> None:
    """Solve with L: y = scale x - L y by rows.

    x is read from its first number to its last and then left alone: to jump about in it
    row by row, out of the cache, costs as much as the product.
    """
    for r in range(place.size):
        for a in range(len(unit)):
            y[place[r], a] = np.float32(scale[r, a] * x[r, a])
    for i in range(place.size):
        _subtract_row(lower[i], lower[i + 1], l, lv, y, i, unit)


@fused
def _backward(
    place: Any,
    upper: Any,
    u: Any,
    uv: Singles,
    pivots: Singles,
    y: Singles,
    x: Floats,
    unit: Any,
) -> None:
    """Solve with U from the last eliminated row up; x is y in the original order."""
    b, n = len(unit), len(pivots)
    rest = np.empty(b, np.float32)
    for i in range(n - 1, -1, -1):
        _subtract_row(upper[i + 1], upper[i], u, uv, y, i, unit)
        rest[:] = y[i]
        for a in range(b):
            s = np.float32(0.0)
            for e in range(b):
                s += pivots[n - 1 - i, a, e] * rest[e]
            y[i, a] = s
    for r in range(place.size):
        for a in range(b):
            x[r, a] = y[place[r], a]
