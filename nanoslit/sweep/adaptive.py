"""Adaptive refinement: more values on an axis where an observable is not yet straight.

Ask: along every line of the grid parallel to an axis, each inner value is compared with
the straight line between its neighbours; the deviation, relative to the range of the
observable, says how badly both neighbouring intervals are resolved. Intervals above the
tolerance are halved (in the logarithm for a logarithmic axis), the worst first, as far as
the budget goes. Tell: the refined plan is an ordinary plan in the same folder, so that
only its new points are computed.

Every round follows from finished results alone, which are deterministic: a refinement that
was interrupted goes on exactly where it was, because its last plan is the current one.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import SweepError
from nanoslit.sweep.axes import Column
from nanoslit.sweep.collect import Collected, gather
from nanoslit.sweep.plan import Plan, plan_from_toml
from nanoslit.sweep.points import Points
from nanoslit.sweep.reconcile import enter_plan
from nanoslit.tomltext import toml_text
from nanoslit.units import parse_quantity, round_significant

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nanoslit.sweep.catalogue import Catalogue
    from nanoslit.sweep.cluster import Where
    from nanoslit.sweep.engine import Outcome, Service
    from nanoslit.sweep.folder import Folder

    Floats = NDArray[np.float64]

__all__ = ["interval_errors", "next_plan", "refine"]


def interval_errors(x: Floats, y: Floats) -> Floats:
    """Return how badly each interval of an axis is resolved.

    Parameters
    ----------
    x : ndarray, shape (n,)
        Rising values of the axis (their logarithms on a logarithmic axis).
    y : ndarray, shape (n, m)
        Observable along m lines; NaN where it is missing.

    Returns
    -------
    ndarray, shape (n - 1,)
        Largest deviation of the values at its ends from the straight line between their
        neighbours, relative to the range of y along the line.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = ((x[1:-1] - x[:-2]) / (x[2:] - x[:-2]))[:, None]
        straight = y[:-2] + share * (y[2:] - y[:-2])
        known = np.isfinite(y)
        top = np.where(known, y, -np.inf).max(axis=0)
        bottom = np.where(known, y, np.inf).min(axis=0)
        spread = np.maximum(top - bottom, 1e-300)
        deviation = np.nan_to_num(np.abs(y[1:-1] - straight) / spread, nan=0.0).max(axis=1)
    padded = np.concatenate([[0.0], deviation, [0.0]])
    return np.asarray(np.maximum(padded[:-1], padded[1:]))


def _middle(column: Column, i: int, j: int) -> Any:
    """Return the value half-way between two rows as a case file would hold it, or None."""
    a, b = float(column.si[i]), float(column.si[j])
    log = column.log and a > 0 and b > 0
    middle = round_significant(math.sqrt(a * b) if log else 0.5 * (a + b), 6)
    if isinstance(column.si[i], int):
        whole = round(middle)
        return whole if whole not in (a, b) else None
    if column.unit == "1":
        return middle
    number = parse_quantity(f"{middle!r} {column.unit}", column.shown_unit)
    return f"{number:.6g} {column.shown_unit}"


def next_plan(data: Collected) -> Plan | None:
    """Return the refined plan that the results ask for, None when they are resolved.

    Raises
    ------
    SweepError
        If the observable does not exist.
    """
    plan = data.points.plan
    adaptive = plan.adaptive
    assert adaptive is not None
    if adaptive.observable not in data.arrays:
        raise SweepError(
            f"{plan.source}: adaptive.observable = {adaptive.observable!r} is not collected; "
            f"allowed: {', '.join(n for n in data.arrays if n != 'status')}"
        )
    array = data[adaptive.observable]
    limit = (adaptive.start or plan.size) + adaptive.budget
    wishes = []
    for axis, group in enumerate(plan.groups):
        if group.keys[0] not in adaptive.axes or group.kind != "axis":
            continue
        column = group.columns[0]
        order = np.argsort(np.asarray(column.si, dtype=float))
        x = np.asarray(column.si, dtype=float)[order]
        y = np.moveaxis(array, axis, 0).reshape(len(x), -1)[order]
        errors = interval_errors(np.log(x) if column.log else x, y)
        for i in np.flatnonzero(errors > adaptive.tolerance):
            value = _middle(column, int(order[i]), int(order[i + 1]))
            if value is not None:
                wishes.append((-float(errors[i]), axis, value))
    added: dict[int, list[Any]] = {}
    sizes = list(data.points.shape)
    for _, axis, value in sorted(wishes, key=lambda w: w[:2]):
        sizes[axis] += 1
        if math.prod(sizes) > limit:
            sizes[axis] -= 1
            continue
        added.setdefault(axis, []).append(value)
    return _with_values(plan, added) if added else None


def _with_values(plan: Plan, added: dict[int, list[Any]]) -> Plan:
    """Return a plan whose axes hold further values."""
    document = copy.deepcopy(plan.document)
    axes: dict[str, Any] = {}
    for i, group in enumerate(plan.groups):
        if group.kind != "axis":
            continue
        column = group.columns[0]
        axes[column.key] = [*column.raw, *added.get(i, [])]
        if column.log:  # a list has no spacing of its own
            axes[column.key] = {"values": axes[column.key], "spacing": "log"}
    document["axes"] = axes
    assert plan.adaptive is not None
    document["adaptive"]["start"] = plan.adaptive.start or plan.size
    return plan_from_toml(toml_text(document), plan.source)


def refine(
    folder: Folder,
    catalogue: Catalogue,
    number: int,
    points: Points,
    where: Where,
    tell: Callable[[Service], None] | None,
    outcome: Outcome,
) -> Outcome:
    """Refine and compute until the tolerance or the budget is reached."""
    from nanoslit.sweep.engine import Service

    while outcome.exit_code == 0:
        plan = next_plan(gather(folder, catalogue, number, points))
        if plan is None:
            return outcome
        points = Points(plan)
        number, _ = enter_plan(folder, catalogue, plan)
        service = Service(folder, catalogue, number, points, where, tell)
        outcome = service.run()
    return outcome
