"""What a point will cost before anything has been measured: mesh nodes and seconds.

Meshes of a few rows of every group are built; the logarithm of the number of nodes is
taken as a sum over the groups. The seconds are then a rate per node and cycle that the
first finished points correct: only ratios matter for the order of work.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import CaseError

if TYPE_CHECKING:
    from nanoslit.sweep.points import Points

__all__ = ["SECONDS_PER_NODE", "expected_costs", "mesh_nodes", "total_cost"]

SECONDS_PER_NODE = 1.5e-3
"""Seconds of one core per mesh node of a voltammogram of two cycles (measured once)."""

_ROWS = 6  # meshes built for each group


def mesh_nodes(points: Points, index: int) -> int:
    """Return the number of mesh nodes of a point.

    Raises
    ------
    GeometryError
        If it cannot be meshed.
    """
    from nanoslit.mpnp.grid import build_grid

    return int(build_grid(points.case(index)).n_nodes)


def _effects(points: Points) -> tuple[float, list[Any]]:
    """Return log nodes of the first point and the change along each group (size,)."""
    base = np.log(mesh_nodes(points, 0))
    strides = np.cumprod([1, *reversed(points.shape[1:])])[::-1]
    out = []
    for size, stride in zip(points.shape, strides.tolist(), strict=True):
        rows = np.unique(np.linspace(0, size - 1, min(size, _ROWS)).round().astype(int))
        logs = [np.log(mesh_nodes(points, int(r) * stride)) - base if r else 0.0 for r in rows]
        out.append(np.interp(np.arange(size), rows, logs))
    return float(base), out


def _safe_effects(points: Points) -> tuple[float, list[Any]]:
    try:
        return _effects(points)
    except CaseError:  # told as a failure of the points that cannot be meshed
        return 7.0, [np.zeros(n) for n in points.shape]


def expected_costs(points: Points) -> Iterator[float]:
    """Yield the expected cost of each point [s of one core]."""
    base, effects = _safe_effects(points)
    for begin in range(0, len(points), 10_000):
        index = np.arange(begin, min(begin + 10_000, len(points)))
        rows = np.unravel_index(index, points.shape)
        logs = base + sum(e[r] for e, r in zip(effects, rows, strict=True))
        yield from (SECONDS_PER_NODE * np.exp(logs)).tolist()


def total_cost(points: Points) -> float:
    """Return the expected cost of all points [s of one core]."""
    base, effects = _safe_effects(points)
    product = 1.0
    for effect in effects:
        product *= float(np.exp(effect).sum())
    return SECONDS_PER_NODE * float(np.exp(base)) * product
