"""A sweep as one HTML page: states, voltammograms, failures with their logs, cost.

The page needs no server and loads nothing from elsewhere; curves are SVG paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit.atomic import write_text
from nanoslit.sweep.catalogue import STATES, Catalogue
from nanoslit.sweep.collect import Collected, gather
from nanoslit.sweep.folder import Folder
from nanoslit.sweep.points import Points
from nanoslit.sweep.status import current_plan, open_catalogue, sweep_status

__all__ = ["write_report"]

_MOST = 400  # points shown one by one
_COLOURS = {
    "done": "#cfe8cf", "failed": "#f4c7c3", "quarantined": "#f4c7c3", "planned": "#eeeeee",
    "queued": "#dde6f5", "running": "#bcd2f5", "checkpointed": "#fbe9b7",
    "cancelled": "#dddddd",
}  # fmt: skip
_STYLE = """body{font:14px sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}
td,th{padding:.25em .6em;border:1px solid #ccc;text-align:left}pre{background:#f6f6f6;
padding:.6em;overflow:auto}svg{background:#fff}.g{display:flex;flex-wrap:wrap;gap:1em}
figure{margin:0;width:190px}figcaption{font-size:12px}"""


def write_report(root: Path, output: Path | None = None) -> Path:
    """Write the report of the plan used last and return its path.

    Raises
    ------
    SweepError
        If the folder is none of a sweep.
    """
    folder, facts = Folder.open(root), sweep_status(root)
    with open_catalogue(folder) as catalogue:
        number, plan = current_plan(folder, catalogue)
        data = gather(folder, catalogue, number, Points(plan))
        parts = [
            f"<h1>Sweep {escape(plan.name)}</h1>", _counts(facts), _matrix(data),
            _curves(data), _failures(folder, catalogue, number, data.points), _cost(data),
            f"<h2>Plan</h2><pre>{escape(plan.to_toml())}</pre>",
        ]  # fmt: skip
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Sweep {escape(plan.name)}'
        f"</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n"
    )
    path = output or root / "report.html"
    write_text(path, page)
    return path


def _counts(facts: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{s}<td>{facts[s]}" for s in STATES if facts[s])
    paused = f"<p>Paused: {escape(facts['reason'])}</p>" if facts["reason"] else ""
    return (
        f"<table>{rows}</table><p>{facts['total']} points, {facts['core_hours_spent']:.4g} "
        f"core-hours spent, {facts['core_hours_left']:.4g} left.</p>{paused}"
    )


def _matrix(data: Collected) -> str:
    """Return the states of all points: rows the first dimension, columns the others."""
    points = data.points
    if len(points) > _MOST:
        return f"<p>{len(points)} points are too many to show one by one.</p>"
    rows = []
    width = len(points) // points.shape[0]
    states = data["status"].reshape(points.shape[0], width)
    for i, line in enumerate(states):
        cells = "".join(
            f'<td style="background:{_COLOURS[STATES[s]]}" '
            f'title="{escape(points.label(i * width + j))}">{STATES[s]}'
            for j, s in enumerate(line)
        )
        rows.append(f"<tr>{cells}")
    return f"<h2>States</h2><table>{''.join(rows)}</table>"


def _curves(data: Collected) -> str:
    if "cv_current" not in data.arrays or len(data.points) > _MOST:
        return ""
    n = len(data.points)
    v, i = (data[name].reshape(n, -1) for name in ("cv_potential", "cv_current"))
    figures = [
        f"<figure>{_svg(v[k], i[k])}<figcaption>{escape(data.points.label(k))}</figcaption>"
        "</figure>"
        for k in range(n)
        if np.isfinite(i[k]).all()
    ]
    if not figures:
        return ""
    return (
        "<h2>Voltammograms</h2><p>Electrode current against applied potential, last cycle; "
        f"each to its own scale.</p><div class=g>{''.join(figures)}</div>"
    )


def _svg(x: Any, y: Any) -> str:
    def scaled(a: Any, size: int) -> Any:
        span = np.ptp(a) or 1.0
        return 5 + (size - 10) * (a - a.min()) / span

    px, py = scaled(x, 190), 140 - scaled(y, 140)
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(px, py, strict=True))
    top, low = f"{y.max():.3g} A/m", f"{x.min():.3g} to {x.max():.3g} V"
    return (
        f'<svg width="190" height="140" role="img"><polyline points="{path}" fill="none" '
        f'stroke="#1f4e9c"/><text x="5" y="11" font-size="10">{top}</text>'
        f'<text x="100" y="136" font-size="10">{low}</text></svg>'
    )


def _failures(folder: Folder, catalogue: Catalogue, number: int, points: Points) -> str:
    items = list(_failure_items(folder, catalogue, number, points))
    return f"<h2>Failures</h2>{''.join(items[:50])}" if items else "<p>No failures.</p>"


def _failure_items(
    folder: Folder, catalogue: Catalogue, number: int, points: Points
) -> Iterator[str]:
    for i, key, state, kind in catalogue.members(number, ["failed", "quarantined"]):
        record = folder.point(key).failed or {}
        text = str(record.get("message", "no record of it"))[-3000:]
        yield (
            f"<h3>{escape(points.label(i))}</h3><p>{state}: {escape(kind or 'unknown')}, key "
            f"{key.hex()[:12]}</p><pre>{escape(text)}</pre>"
        )


def _cost(data: Collected) -> str:
    cpu = data.costs["cpu"][1]
    known = cpu[np.isfinite(cpu)]
    if not known.size:
        return ""
    return (
        f"<h2>Cost</h2><p>Processor time a point: median {np.median(known):.3g} s, largest "
        f"{known.max():.3g} s, sum {known.sum() / 3600:.4g} core-hours.</p>"
    )
