"""Figures of the report, one function each; all fill the width that they are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from bokeh.models import ColumnDataSource, HoverTool, TabPanel, Tabs, Whisker
from bokeh.plotting import figure

from nanoslit.estimates import CARBON_CAPACITANCE, estimate
from nanoslit.findings.runs import PARTS, VOLTAGES, Measured, wall_capacitance
from nanoslit.report.data import ReportData, RunData, finite, law_curve, rivals_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["MEASURED_WALLS", "all_figures"]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#555")
PART_COLOURS = dict(zip(PARTS, ("#0072b2", "#d55e00", "#009e73"), strict=True))

MEASURED_WALLS = {
    "porous carbons, typical": (
        1e2 * CARBON_CAPACITANCE[0], 1e2 * CARBON_CAPACITANCE[1],
        "range that `nanoslit check` warns by",
    ),
    "graphite basal plane, 0.9 M NaF": (
        3.0, 3.0, "smallest value; Randin & Yeager, J. Electroanal. Chem. 36 (1972) 257",
    ),
    "graphite basal plane, Li to Cs chlorides": (
        4.72, 9.39, "at a fixed potential from that of zero charge; Iamprasertkun et al., "
        "J. Phys. Chem. Lett. 2019, doi 10.1021/acs.jpclett.8b03523",
    ),
}  # fmt: skip
"""Measured capacitance per wall area, low and high [uF cm^-2], and where it stands."""


def _plot(
    title: str, x: str, y: str, tips: list[tuple[str, str]] | None = None, **options: Any
) -> Any:
    """Return an empty figure that shows what is under the pointer."""
    plot = figure(**{
        "title": title, "x_axis_label": x, "y_axis_label": y, "height": 340,
        "sizing_mode": "stretch_width", "tools": "pan,box_zoom,wheel_zoom,reset,save",
        "active_drag": None, "active_scroll": None,
    } | options)  # fmt: skip
    plot.add_tools(HoverTool(tooltips=tips or [(x, "$x{0.000a}"), (y, "$y{0.000a}")]))
    plot.toolbar.autohide = True
    return plot


def _finish(plot: Any, columns: int = 2) -> Any:
    """Put the legend below, where it takes no width from narrow windows."""
    if plot.legend:
        legend = plot.legend[0]
        legend.click_policy = "hide"
        legend.label_text_font_size = "9pt"
        legend.ncols = columns
        legend.border_line_color = None
        legend.padding = legend.margin = 0
        legend.location = "left"
        plot.height += 24 * -(-len(legend.items) // columns)
        plot.add_layout(legend, "below")
    return plot


def _tabs(data: ReportData, draw: Callable[[RunData], Any]) -> Any:
    return Tabs(
        tabs=[TabPanel(child=draw(r), title=r.label) for r in data.shown],
        sizing_mode="stretch_width",
    )


def all_figures(data: ReportData) -> dict[str, Any]:
    """Return every figure of the page by name, but the fields."""
    out = {
        "cv": _tabs(data, _voltammogram),
        "inside": _tabs(data, _inside),
        "front": _tabs(data, _front),
        "share": _diffusion_share(data),
        "resistance": _tabs(data, lambda r: _resistance(r, data)),
        "walls": _walls(data),
    }
    out |= _trends(data) | _design(data)
    if data.law is not None:
        out["laws"] = _laws(data)
    return out


# -- curves of one run ---------------------------------------------------------------------


def _voltammogram(r: RunData) -> Any:
    tips = [("curve", "$name"), ("potential", "$x{0.000} V"), ("current", "$y{0.0000} A/m")]
    plot = _plot("Last cycle, current per metre of depth", "potential [V]", "current [A/m]",
                 tips, height=400)  # fmt: skip
    plot.line(r.run.applied, r.run.current, color="black", line_width=3, name="field equations",
              legend_label="field equations")  # fmt: skip
    applied = (r.cell.get("curves") or {}).get("applied")
    for k, (name, outcome) in enumerate(r.outcomes.items()):
        current = outcome.get("current")
        x = applied if applied is not None else r.run.applied
        if current is None or len(current) != len(x):
            continue
        off = finite(outcome.get("deviation"))
        label = name if off is None else f"{name}: {100 * off:.1f} % off"
        plot.line(np.array(x, float), np.array(current, float), name=name,
                  color=COLOURS[k % len(COLOURS)], line_width=1.6, legend_label=label,
                  line_dash="dashed" if "refitted" in name else "solid")  # fmt: skip
    return _finish(plot)


def _parts(r: RunData, place: str, title: str, column: int = 0) -> Any:
    """Draw the three parts of a current and their sum over the last cycle."""
    plot = _plot(title, "time [us]", "current [A/m]",
                 [("part", "$name"), ("time", "$x{0.000} us"), ("current", "$y{0.00000} A/m")],
                 height=300)  # fmt: skip
    parts = r.run.parts[place]
    t = 1e6 * r.run.time
    for part in PARTS:
        plot.line(t, parts[part][:, column], color=PART_COLOURS[part], line_width=2, name=part,
                  legend_label=part)  # fmt: skip
    total = np.sum([parts[p][:, column] for p in PARTS], axis=0)
    plot.line(t, total, color="black", line_dash="dotted", line_width=1.5, name="sum",
              legend_label="sum")  # fmt: skip
    return _finish(plot, columns=4)


def _stack(*plots: Any) -> Any:
    """Return figures one above the other: side by side a phone is too narrow."""
    from bokeh.layouts import column

    return column(*plots, sizing_mode="stretch_width")


def _inside(r: RunData) -> Any:
    excess = "slit excess" if "slit excess" in r.run.parts else "slit"
    title = "Along slit 1" + (", minus equilibrium" if excess != "slit" else ", raw")
    return _stack(
        _parts(r, excess, title), _parts(r, "opening", "Through opening 1 (in sheet 2), raw")
    )


def _front(r: RunData) -> Any:
    x = 1e9 * r.run.distances
    far = len(x) - 1
    plots = [_parts(r, "mouth", "Mouth (opening in sheet 1), raw")]
    if far >= 0:
        plots.append(
            _parts(r, "open space", f"{x[far]:.3g} nm in front of sheet 1, raw",
                   far)
        )  # fmt: skip
    if far >= 1:
        plots.append(_profile(r))
    return _stack(*plots)


def _profile(r: RunData) -> Any:
    """Draw the size of the parts against the distance from the first sheet."""
    plot = _plot("Mean size of the raw parts in front of sheet 1",
                 "distance [nm]", "mean |current| [A/m]", y_axis_type="log", height=300,
                 tips=[("part", "$name"), ("distance", "$x{0.0} nm"),
                       ("mean |current|", "@y{0.000a} A/m")])  # fmt: skip
    w = r.run.weight[:, None]
    parts = r.run.parts["open space"]
    curves = {p: (w * np.abs(parts[p])).sum(axis=0) for p in PARTS}
    curves["sum"] = (w * np.abs(np.sum(list(parts.values()), axis=0))).sum(axis=0)
    for name, values in curves.items():
        colour = PART_COLOURS.get(name, "black")
        source = ColumnDataSource({"x": 1e9 * r.run.distances, "y": np.maximum(values, 1e-12)})
        plot.line("x", "y", source=source, color=colour, name=name, legend_label=name)
        plot.scatter("x", "y", source=source, color=colour, name=name, legend_label=name,
                     size=6)  # fmt: skip
    return _finish(plot, columns=4)


def _resistance(r: RunData, data: ReportData) -> Any:
    """Draw dphi/I of the openings against charge, with the laws over the first."""
    plot = _plot(f"Voltage over current, {VOLTAGES[data.voltage]}",
                 "|Q| / charge of the bulk ions of a slit", "resistance [Ohm m]", height=420,
                 tips=[("", "$name"), ("|Q|", "$x{0.00}"),
                       ("R", "$y{0.0000} Ohm m")])  # fmt: skip
    governor = data.law.governor if data.law else "inner"
    run = r.run
    large = run.large()
    ratio = np.divide(run.voltage[data.voltage], run.opening_current,
                      out=np.full(large.shape, np.nan), where=large)  # fmt: skip
    for k in range(ratio.shape[1]):
        x = run.columns(k)[f"X_{governor}"]
        for half, rows, marker, colour in (
            ("charging", run.rising, "circle", "#333333"),
            ("discharging", ~run.rising, "triangle", "#b0b0b0"),
        ):
            used = rows & large[:, k]
            plot.scatter(x[used], ratio[used, k], marker=marker, size=7 if k == 0 else 4,
                         color=colour, alpha=1.0 if k == 0 else 0.5,
                         name=f"{half}, opening {k + 1}",
                         legend_label=f"field equations, {half}")  # fmt: skip
    for i, (name, form) in enumerate(rivals_of(data).items()):
        x, y = law_curve(form, run, 0, governor)
        if x.size:
            plot.line(x, y, color=COLOURS[i], line_width=3 if i == 0 else 1.8, name=name,
                      legend_label=name)  # fmt: skip
    return _finish(plot, columns=1)


# -- against slit size ---------------------------------------------------------------------


def _with_bars(
    plot: Any, x: Sequence[float], values: Sequence[Measured], name: str, colour: str,
    shift: float = 0.0,
) -> None:  # fmt: skip
    """Add points with error bars and a thin line."""
    y = np.array([m.value for m in values])
    e = np.nan_to_num(np.array([m.total for m in values]))
    # bars do not count for the range that bokeh finds
    ends = [*(y - e), *(y + e)]
    plot.scatter([x[0]] * len(ends), ends, size=0, alpha=0)
    where = np.asarray(x) * (1 + shift)
    source = ColumnDataSource({"x": where, "y": y, "low": y - e, "high": y + e, "e": e})
    plot.line("x", "y", source=source, color=colour, alpha=0.4, name=name, legend_label=name)
    plot.scatter("x", "y", source=source, color=colour, size=8, name=name, legend_label=name)
    plot.add_layout(Whisker(source=source, base="x", lower="low", upper="high",
                            line_color=colour))  # fmt: skip


SHORT = {"counterion": "counter-ions", "electrochemical": "charge", "mid": "middle"}
TIPS = [("", "$name"), ("d", "@x{0.00} nm"), ("value", "@y{0.0000} +- @e{0.0000}")]


def _trends(data: ReportData) -> dict[str, Any]:
    d = [1e9 * r.run.slit_size for r in data.runs]
    out = {}
    panels = {
        "r_c": ("R_c of the openings", "R_c [Ohm m]", ("r_c",)),
        "gamma": ("gamma of the openings", "gamma", ("gamma",)),
        "extremes": ("Largest and smallest dphi/I (middle potential)", "R [Ohm m]",
                     ("r_max", "r_min")),
        "resistivity": ("The same as resistivity R d / path length", "resistivity [Ohm m]",
                        ("resistivity_max", "resistivity_min")),
    }  # fmt: skip
    for key, (title, label, names) in panels.items():
        plot = _plot(title, "slit size d [nm]", label, TIPS, height=280)
        both = len(names) == 1
        series = [(names[0], v) for v in data.runs[0].run.voltage] if both else [
            (n, "mid") for n in names
        ]  # fmt: skip
        for k, (name, voltage) in enumerate(series):
            ends = {"max": "largest", "min": "smallest"}
            shown = SHORT[voltage] if both else ends[name[-3:]]
            values = [r.numbers[f"{name}:{voltage}"] for r in data.runs]
            _with_bars(plot, d, values, shown, COLOURS[k], 0.008 * (2 * k - len(series) + 1))
        out[key] = _finish(plot, columns=3)
    return out


def _diffusion_share(data: ReportData) -> Any:
    plot = _plot("Share of diffusion in the current along the slits", "slit size d [nm]",
                 "share", TIPS, height=280)  # fmt: skip
    d = [1e9 * r.run.slit_size for r in data.runs]
    _with_bars(plot, d, [r.numbers["diffusion_share"] for r in data.runs],
               "field equations (bar: change in the cycle)", COLOURS[0])  # fmt: skip
    debye = 1e9 * data.runs[0].run.case.electrolyte.debye_length
    fine = np.linspace(min(d) * 0.9, max(d) * 1.05, 80)
    x = fine / (2 * debye)
    plot.line(fine, np.tanh(x) / x, color="black", line_dash="dashed", name="small-signal",
              legend_label="uncharged slit, tanh(x)/x, x = d / 2 Debye lengths")  # fmt: skip
    return _finish(plot, columns=1)


def _walls(data: ReportData) -> Any:
    """Draw the capacitance of the walls beside measured ones."""
    plot = _plot("Capacitance per wall area", "slit size d [nm]", "uF / cm^2", TIPS,
                 y_axis_type="log", height=380)  # fmt: skip
    d = [1e9 * r.run.slit_size for r in data.runs]
    walls = [wall_capacitance(r.run) for r in data.runs]
    _with_bars(plot, d, [Measured(100 * w.value, 100 * w.error, 100 * w.common) for w in walls],
               "model: charge over potential in the cycle", COLOURS[1])  # fmt: skip
    small = [100 * estimate(r.run.case).wall_capacitance for r in data.runs]
    plot.line(d, small, color=COLOURS[1], line_dash="dashed", name="model at low voltage",
              legend_label="model at low voltage")  # fmt: skip
    ends = [min(d) * 0.9, max(d) * 1.1]
    for k, (name, (low, high, _)) in enumerate(MEASURED_WALLS.items()):
        colour = COLOURS[(0, 2, 3)[k]]
        label = f"measured: {name}"
        if high > low:
            plot.varea(ends, [low, low], [high, high], color=colour, alpha=0.3, name=label,
                       legend_label=label)  # fmt: skip
        else:
            plot.line(ends, [low, low], color=colour, line_width=2, name=label,
                      legend_label=label)  # fmt: skip
    return _finish(plot, columns=1)


# -- laws and designs ----------------------------------------------------------------------


def _laws(data: ReportData) -> Any:
    """Draw error against complexity of the front and of the rivals."""
    assert data.law is not None
    plot = _plot("Laws: error against complexity", "complexity (weighted number of terms)",
                 "error on the charging half", y_axis_type="log", height=420,
                 tips=[("", "@name"), ("law", "@law"), ("error, charging", "@y{0.0000}"),
                       ("error, discharging", "@test")])  # fmt: skip
    groups = {
        "front of the search": [("front", f) for f in data.law.front],
        "rivals and baselines": list(data.law.baselines.items()),
        "chosen": [("chosen", data.law.best)],
    }
    for k, (label, forms) in enumerate(groups.items()):
        kept = [(n, f) for n, f in forms if f.error_train and f.complexity is not None]
        source = ColumnDataSource({
            "x": [f.complexity for _, f in kept], "y": [f.error_train for _, f in kept],
            "name": [n.replace("_", " ") for n, _ in kept],
            "law": [f.expression for _, f in kept],
            "test": ["none" if f.error_test is None else f"{f.error_test:.4f}"
                     for _, f in kept],
        })  # fmt: skip
        if label == "chosen":
            plot.scatter("x", "y", source=source, size=18, fill_color=None, line_width=2,
                         line_color="#d55e00", legend_label=label)  # fmt: skip
            continue
        if k == 0:
            plot.step("x", "y", source=source, mode="after", color=COLOURS[0], alpha=0.4)
        plot.scatter("x", "y", source=source, size=9, marker=("circle", "square")[k],
                     color=(COLOURS[0], "#999999")[k], legend_label=label)  # fmt: skip
    return _finish(plot, columns=3)


MAPS = {
    "relative_area": "area over that without resistance",
    "asymmetry": "asymmetry A of the two sweeps",
    "efficiency": "energy given back over energy taken in",
}


def _design(data: ReportData) -> dict[str, Any]:
    """Draw the features of explored circuits over slit size and theta."""
    from bokeh.transform import linear_cmap

    e = data.explored
    if "slit_size" not in e or "theta" not in e:
        return {}
    out = {}
    for key, values in e.items():
        if key in ("slit_size", "theta") or not np.isfinite(values).any():
            continue
        plot = _plot(MAPS.get(key, key.replace("_", " ")), "slit size d [nm]", "theta",
                     [("d", "@x{0.00} nm"), ("theta", "@y{0.000a}"), (key, "@z{0.000}")],
                     y_axis_type="log", height=320)  # fmt: skip
        plot.title.text_font_size = "9pt"
        used = np.isfinite(values)
        source = ColumnDataSource({
            "x": 1e9 * e["slit_size"][used], "y": e["theta"][used], "z": values[used],
        })  # fmt: skip
        colours = linear_cmap("z", "Viridis256", values[used].min(), values[used].max())
        dots = plot.scatter("x", "y", source=source, size=6, color=colours)
        plot.add_layout(dots.construct_color_bar(width=10, padding=2), "right")
        out[f"map {key}"] = plot
    return out
