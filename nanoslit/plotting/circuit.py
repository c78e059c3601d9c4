"""Drawings of circuits: voltammograms, shape trends, studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nanoslit.circuit.curves import Curve
    from nanoslit.circuit.explorer import StudyResult
    from nanoslit.circuit.response import CircuitResponse

__all__ = ["draw_ragone", "draw_shapes", "draw_spectrum", "draw_study", "draw_voltammogram"]

MOST_CURVES = 12


def _figure(columns: int = 1, rows: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * columns, 3.6 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def draw_voltammogram(response: CircuitResponse, labels: list[str] | None = None) -> Any:
    """Return a figure of current against potential, one curve per circuit."""
    figure, axes = _figure()
    axis = axes[0, 0]
    unit = {"absolute": "A", "per depth": "A/m", "per area": "A/m$^2$"}[response.circuit.basis]
    for k in range(min(response.circuits, MOST_CURVES)):
        label = None if labels is None else labels[k]
        axis.plot(response.applied_potential[k], response.electrode_current[k], label=label)
    axis.set_xlabel("potential [V]")
    axis.set_ylabel(f"current [{unit}]")
    if labels is not None:
        axis.legend(fontsize=8)
    return figure


def draw_spectrum(curve: Curve) -> Any:
    """Return Nyquist and Bode plots of one impedance spectrum."""
    frequency, real, imag = (curve.columns[k].values for k in ("frequency", "real", "imag"))
    unit = curve.columns["real"].unit
    figure, axes = _figure(2)
    nyquist, bode = axes[0]
    nyquist.plot(real, -imag, ".-")
    nyquist.set_xlabel(f"Re Z [{unit}]")
    nyquist.set_ylabel(f"-Im Z [{unit}]")
    bode.loglog(frequency, np.hypot(real, imag), label="|Z|")
    bode.loglog(frequency, real, "--", label="Re Z")
    bode.set_xlabel("frequency [Hz]")
    bode.set_ylabel(f"impedance [{unit}]")
    bode.legend(fontsize=8)
    return figure


def draw_ragone(curve: Curve) -> Any:
    """Return energy against power of constant-current discharges."""
    figure, axes = _figure()
    energy, power = curve.columns["energy"], curve.columns["power"]
    axis, shown = axes[0, 0], energy.values > 0
    axis.loglog(power.values[shown], energy.values[shown], ".-")
    axis.set_xlabel(f"mean power [{power.unit}]")
    axis.set_ylabel(f"energy [{energy.unit}]")
    return figure


def draw_shapes(panels: list[tuple[str, list[str], CircuitResponse]], note: str) -> Any:
    """Return one panel per (title, labels, response); currents over rate x capacitance."""
    columns = 2
    figure, axes = _figure(columns, -(-len(panels) // columns))
    for axis, (title, labels, response) in zip(axes.ravel(), panels, strict=False):
        scale = response.drive.curves[:, 0, 1] * response.circuit.total_capacitance
        for k, label in enumerate(labels):
            shade = 0.1 + 0.8 * k / max(1, len(labels) - 1)
            axis.plot(
                response.applied_potential[k], response.electrode_current[k] / scale[k],
                label=label, color=_colour(shade), lw=1.2,
            )  # fmt: skip
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("potential [V]")
        axis.set_ylabel("current / (scan rate x capacitance)")
        axis.legend(fontsize=7)
    for axis in axes.ravel()[len(panels) :]:
        axis.set_visible(False)
    figure.supxlabel(note, fontsize=8)
    return figure


def _colour(x: float) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](x)


def draw_study(result: StudyResult) -> Any:
    """Return Sobol indices if there are any, and the front of the first two objectives."""
    panels = (result.total is not None) + (len(result.study.objectives) >= 2)
    figure, axes = _figure(max(panels, 1))
    queue = list(axes.ravel())
    if result.total is not None:
        axis = queue.pop(0)
        shown = axis.imshow(np.clip(result.total, 0, 1), vmin=0, vmax=1, aspect="auto")
        names = [v.name for v in result.study.variables]
        axis.set_xticks(range(len(names)), names, fontsize=8)
        axis.set_yticks(range(len(result.index_features)), result.index_features, fontsize=7)
        figure.colorbar(shown, ax=axis, label="total Sobol index")
    if len(result.study.objectives) >= 2:
        axis = queue.pop(0)
        x, y = (result.features[o.feature] for o in result.study.objectives[:2])
        step = max(1, len(x) // 20_000)
        axis.plot(x[::step], y[::step], ".", ms=1, alpha=0.3, label="circuits")
        if result.pareto is not None:
            axis.plot(x[result.pareto], y[result.pareto], "o-", ms=3, label="Pareto front")
        axis.set_xlabel(result.study.objectives[0].feature)
        axis.set_ylabel(result.study.objectives[1].feature)
        axis.legend(fontsize=8)
    if not panels:
        axis = queue[0]
        first = result.study.variables[0].name
        axis.plot(result.samples[first], result.features["relative_area"], ".", ms=2)
        axis.set_xlabel(first)
        axis.set_ylabel("relative_area")
    return figure
