"""Pictures of the fields of one run: snapshots on an even grid, with a slider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import ColumnDataSource, CustomJS, Div, HoverTool, LinearColorMapper, Slider
from bokeh.plotting import figure
from scipy.interpolate import RegularGridInterpolator

from nanoslit.findings.runs import Run
from nanoslit.results.files import require_result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Frames", "draw", "read_frames"]

IN_FRONT = 2e-9
"""Open space that is shown in front of the first sheet [m]."""
PIXELS = (192, 80)
MOST_FRAMES = 24
PALETTES = {"phi": "Viridis256", "current": "Cividis256"}


@dataclass(frozen=True)
class Frames:
    """Snapshots on an even grid, NaN inside sheets.

    Parameters
    ----------
    extent : tuple of float
        x from the first sheet and y: left, right, bottom, top [nm].
    images : dict of str to (title, ndarray of shape (frames, ny, nx))
    time, applied : ndarray, shape (frames,)
        From the start of the cycle [s]; [V].
    """

    extent: tuple[float, float, float, float]
    images: dict[str, tuple[str, Array]]
    time: Array
    applied: Array


def read_frames(run: Run) -> Frames | None:
    """Return the snapshots of the last cycle, None if the run kept no fields."""
    g = run.network
    with require_result(run.path) as file:
        if "fields" not in file or file["fields/phi"].shape[0] == 0:
            return None
        f = file["fields"]
        start = file["cycles/start"][()][-1]
        used = np.flatnonzero(f["time"][()] >= start * (1 - 1e-9))
        if used.size > MOST_FRAMES:
            used = used[np.linspace(0, used.size - 1, MOST_FRAMES).round().astype(int)]
        x, y = f["x"][()], f["y"][()]
        time, applied = f["time"][used] - start, f["applied_potential"][used]
        ions = [i.name for i in run.case.electrolyte.ions]
        content = f["concentration"][()][used] * 1e-3
        values = {"phi": ("potential [V]", f["phi"][()][used])}
        for k, name in enumerate(ions):
            values[f"ion{k}"] = (f"{name} [mol/L]", content[:, k])
        j = np.hypot(f["current_density_x"][()][used], f["current_density_y"][()][used])
        values["current"] = ("ionic current density [A/mm^2]", j * 1e-6)
    left = max(g.reservoir - IN_FRONT, 0.0)
    edges_x = np.linspace(left, g.reservoir + g.thickness, PIXELS[0] + 1)
    edges_y = np.linspace(0.0, g.height, PIXELS[1] + 1)
    px, py = 0.5 * (edges_x[1:] + edges_x[:-1]), 0.5 * (edges_y[1:] + edges_y[:-1])
    solid = _solid(run, px, py)
    images = {k: (title, _even(x, y, v, px, py, solid)) for k, (title, v) in values.items()}
    extent = (1e9 * (left - g.reservoir), 1e9 * g.thickness, 0.0, 1e9 * g.height)
    return Frames(extent, images, time, applied)


def _solid(run: Run, x: Array, y: Array) -> NDArray[np.bool_]:
    """Return where the sheets are, shape (ny, nx)."""
    g = run.network
    out = np.zeros((y.size, x.size), bool)
    half = 0.5 * g.opening
    for k in range(1, g.sheets + 1):
        front = g.sheet_front(k)
        inside = (x >= front) & (x <= front + g.sheet_thickness)
        along = y <= g.height - half if g.opening_at_top(k) else y >= half
        out |= along[:, None] & inside[None, :]
    return out


def _even(
    x: Array, y: Array, values: Array, px: Array, py: Array, solid: NDArray[np.bool_]
) -> Array:
    """Interpolate linearly; walls are mesh lines, so no cell mixes both sides."""
    read = RegularGridInterpolator((x, y), np.moveaxis(np.nan_to_num(values), 0, -1))
    grid = np.stack(np.meshgrid(px, py), axis=-1)
    out = np.moveaxis(read(grid), -1, 0)
    out[:, solid] = np.nan
    return np.asarray(out)


def draw(frames: Frames, run: Run) -> dict[str, Any]:
    """Return the slider, its caption, the voltammogram with a mark, and the pictures."""
    left, right, bottom, top = frames.extent
    n = frames.time.size
    first = int(np.argmax(np.abs(frames.applied)))
    store = {k: list(v.astype(np.float32)) for k, (_, v) in frames.images.items()}
    everything = ColumnDataSource({**store})
    shown = ColumnDataSource({k: v[first : first + 1] for k, v in store.items()})
    marks = np.interp(frames.time, run.time, run.current)
    mark = ColumnDataSource({"x": [frames.applied[first]], "y": [marks[first]]})
    captions = [_caption(run, t, v) for t, v in zip(frames.time, frames.applied, strict=True)]
    caption = Div(text=captions[first], name="field-caption")
    slider = Slider(start=0, end=n - 1, value=first, step=1, title="snapshot",
                    name="field-slider", sizing_mode="stretch_width")  # fmt: skip
    slider.js_on_change("value", CustomJS(
        args={"all": everything, "shown": shown, "mark": mark, "caption": caption,
              "captions": captions, "v": list(frames.applied), "i": list(marks)},
        code="""
        const k = cb_obj.value, data = {};
        for (const name of Object.keys(all.data)) data[name] = [all.data[name][k]];
        shown.data = data;
        mark.data = {x: [v[k]], y: [i[k]]};
        caption.text = captions[k];
        """,
    ))  # fmt: skip
    cv = figure(height=260, sizing_mode="stretch_width", x_axis_label="potential [V]",
                y_axis_label="current [A/m]", title="where in the cycle",
                tools="pan,box_zoom,reset")  # fmt: skip
    cv.toolbar.autohide = True
    cv.line(run.applied, run.current, color="black")
    cv.scatter("x", "y", source=mark, size=12, color="#d55e00", name="field-mark")
    out: dict[str, Any] = {"slider": slider, "caption": caption, "cv": cv}
    for key, (title, values) in frames.images.items():
        mapper = LinearColorMapper(
            PALETTES.get(key, "Magma256"), nan_color="#dddddd",
            low=float(np.nanpercentile(values, 0.2)),
            high=float(np.nanpercentile(values, 99.5)),
        )  # fmt: skip
        plot = figure(
            height=280, sizing_mode="stretch_width", title=title, x_axis_label="x [nm]",
            y_axis_label="y [nm]", x_range=(left, right), y_range=(bottom, top),
            tools="pan,box_zoom,reset",
        )  # fmt: skip
        image = plot.image(key, x=left, y=bottom, dw=right - left, dh=top - bottom,
                           source=shown, color_mapper=mapper,
                           name=f"field-{key}")  # fmt: skip
        plot.add_tools(HoverTool(tooltips=[("x, y", "$x{0.00}, $y{0.00} nm"),
                                           (title, f"@{key}{{0.000}}")]))  # fmt: skip
        plot.toolbar.autohide = True
        plot.add_layout(image.construct_color_bar(width=10, padding=2), "right")
        out[key] = plot
    return out


def _caption(run: Run, time: float, applied: float) -> str:
    """Say when a snapshot was taken."""
    rising = bool(run.rising[int(np.argmin(np.abs(run.time - time)))])
    turn = np.isclose(applied, [run.applied.min(), run.applied.max()], rtol=1e-6).any()
    way = "turning" if turn else "rising" if rising else "falling"
    return f"applied {applied:.3g} V ({way}), {1e6 * time:.4g} us after the cycle's start"
