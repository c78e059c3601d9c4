"""A problem laid out for the compiled kernels, and what they compute on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery import kernels
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.tokens import MAX_TOKENS, OPERATORS, UNARY, VARIABLE

__all__ = ["PackedData"]

Array = NDArray[np.float64]
TABULATED = 4_000_000  # numbers at most that functions of single columns may take


@dataclass(frozen=True)
class PackedData:
    """Rows sorted by data set and cut into blocks.

    Parameters
    ----------
    order : ndarray of int64, shape (n,)
        Row of the problem at each place.
    arrays : kernels.Arrays
    sets : int
        Number of data sets of the problem.
    """

    order: NDArray[np.int64]
    arrays: kernels.Arrays
    sets: int

    @classmethod
    def build(
        cls, problem: Problem, settings: SearchSettings, subset: Sequence[int] | None = None
    ) -> PackedData:
        """Lay out all rows or a subset."""
        rows = np.arange(len(problem.y)) if subset is None else np.asarray(subset)
        order = rows[np.argsort(problem.groups[rows], kind="stable")]
        g = problem.groups[order]
        X, y = problem.X[order], problem.y[order].copy()
        w = np.ones(len(y)) if problem.weights is None else problem.weights[order].copy()
        by_set = settings.private_constants and settings.scale
        offset = settings.offset and settings.scale
        present = np.unique(g)
        for s in present:
            own = g == s
            centre = (w[own] @ y[own]) / w[own].sum() if offset else 0.0
            w[own] /= (w[own] @ (y[own] - centre) ** 2) * len(present)
        norm = np.zeros((problem.sets if by_set else 1, 2))
        for b in range(len(norm)):
            own = g == b if by_set else np.ones(len(y), dtype=bool)
            if not own.any():
                continue
            centre = (w[own] @ y[own]) / w[own].sum() if offset else 0.0
            y[own] -= centre
            norm[b] = w[own] @ y[own] ** 2, w[own].sum()
        table, lookup = _functions(np.ascontiguousarray(X.T), settings)
        width = kernels.BLOCK
        bounds = [
            (s, min(s + width, hi), k) for k, lo, hi in _runs(g) for s in range(lo, hi, width)
        ]
        arrays = kernels.Arrays(
            np.array(bounds, dtype=np.int64),
            np.concatenate([*table, np.empty((2 * MAX_TOKENS + 1) * width)]),
            len(table) * len(y),
            lookup,
            w,
            y,
            w * y,
            norm,
            np.array([bool(np.ptp(w) > 0), offset, settings.scale, by_set]),
        )
        return cls(order, arrays, problem.sets)

    @property
    def length(self) -> int:
        """Number of rows."""
        return len(self.order)

    @property
    def blocks(self) -> int:
        """Number of scales: one, or one for each data set."""
        return len(self.arrays.norm)

    @cached_property
    def has_scale_offset_own(self) -> tuple[bool, bool, bool]:
        """Whether a scale is fitted, an offset, and both for each data set."""
        _, offset, scale, by_set = self.arrays.flags.tolist()
        return scale, offset, by_set

    def score(self, T: Any, N: Any, C: Any) -> tuple[Array, Array]:
        """Return misfits and scales of packed rows."""
        errors = np.empty(len(T))
        A = np.zeros((len(T), self.blocks, 2))
        kernels.score_rows(T, N, C, self.arrays, errors, A)
        return errors, A

    def fit(self, tokens: Any, C: Array, steps: int) -> tuple[float, int, Array]:
        """Fit the constants of one row in place; return misfit, evaluations, scales."""
        A = np.zeros((self.blocks, 2))
        error, count = kernels.fit_constants(tokens, len(tokens), C, self.arrays, steps, A)
        return float(error), int(count), A

    def values(self, tokens: Any, C: Array) -> Array:
        """Return the values of one expression in the packed order."""
        out = np.empty((1, self.length))
        kernels.evaluate_rows(tokens[None], np.array([len(tokens)]), C[None], self.arrays, out)
        values: Array = out[0]
        return values

    def curvature(
        self, tokens: Any, C: Array, leaves: NDArray[np.int64]
    ) -> tuple[Array, NDArray[np.int64]]:
        """Return J^T W J without scales, and the parameter of each (leaf, data set)."""
        place = np.zeros((len(leaves) + 2, self.sets), dtype=np.int64)
        flags = self.arrays.flags
        m = int(kernels.place_parameters(tokens, self.sets, flags, leaves, place))
        H, gradient = np.zeros((m, m)), np.zeros(m)
        if m:
            A = np.zeros((self.blocks, 2))
            A[:, 0] = 1.0
            kernels.normal_equations(
                tokens, len(tokens), C, self.arrays, A, leaves, place, H, gradient
            )
        return H, place


def _functions(X: Array, settings: SearchSettings) -> tuple[list[Array], NDArray[np.int64]]:
    """Append the values of the functions of single columns, as many as there is room for."""
    lookup = np.full((VARIABLE - UNARY, len(X)), kernels.MISSING, dtype=np.int64)
    rows = list(X)
    for code in (OPERATORS[o] for o in settings.operators):
        if code < UNARY:
            continue
        for j, column in enumerate(X):
            if (len(rows) + 1 - len(X)) * X.shape[1] > TABULATED:
                break
            values = np.empty_like(column)
            if kernels.tabulate(code, column, values):
                lookup[code - UNARY - 1, j] = len(rows) * X.shape[1]
                rows.append(values)
            else:
                lookup[code - UNARY - 1, j] = kernels.NOT_FINITE
    return rows, lookup


def _runs(g: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    edges = np.flatnonzero(np.diff(g)) + 1
    starts = [0, *edges.tolist()]
    ends = [*edges.tolist(), len(g)]
    return [(int(g[a]), a, b) for a, b in zip(starts, ends, strict=True)]
