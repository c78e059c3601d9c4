"""One self-contained page of what a study computed, found, and how sure it is.

Only this module imports bokeh; its scripts are written into the page, which needs no
network.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit import __version__, atomic
from nanoslit.errors import MissingExtraError, ResultFileError

__all__ = ["write_report"]

COLOURS = ("#1b6ca8", "#c8553d", "#588157", "#8338ec", "#b08900", "#6c757d", "#111111")
LIMITS = (
    "no hydration or desolvation, ion correlations, dielectric saturation, quantum "
    "capacitance or surface groups; confined ions diffuse as in bulk",
    "no electro-osmosis, no swelling, no Faradaic current, sheets conduct ideally",
    "a parallel two-dimensional stack; ideal dilute conductivity (15 S/m at 1 mol/L against "
    "about 11 S/m measured)",
)


def write_report(folder: str | Path) -> Path:
    """Write ``report.html`` of a study's folder and return its path.

    Raises
    ------
    ResultFileError
        If the study is not finished.
    MissingExtraError
        If bokeh is missing.
    """
    folder = Path(folder)
    try:
        data = json.loads((folder / "circuits.json").read_text(encoding="utf-8"))
        explored = json.loads((folder / "explored.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise ResultFileError(
            f"{folder}: is no finished study ({error}); run `nanoslit study PLAN.toml -o "
            f"{folder}`"
        ) from None
    try:
        from bokeh.embed import components
        from bokeh.resources import INLINE
    except ImportError:
        raise MissingExtraError(
            "the report needs bokeh: pip install 'nanoslit[report]'"
        ) from None
    plots = {
        "cv": _tabs(data, _voltammogram), "parts": _tabs(data, _parts),
        "resistance": _tabs(data, _resistance), "size": _against_size(data),
        "front": _front(data), "design": _design(explored),
    }  # fmt: skip
    script, divs = components(plots)
    page = _page(data, INLINE.render() + script, divs)
    target = folder / "report.html"
    atomic.write_text(target, page)
    return target


def _figure(title: str, x: str, y: str, **options: Any) -> Any:
    from bokeh.plotting import figure

    return figure(
        title=title, x_axis_label=x, y_axis_label=y, width=760, height=380,
        tools="pan,wheel_zoom,box_zoom,reset,hover", **options,
    )  # fmt: skip


def _legend(plot: Any) -> Any:
    if plot.legend:
        plot.add_layout(plot.legend[0], "right")
        plot.legend.click_policy = "hide"
        plot.legend.label_text_font_size = "8pt"
    return plot


def _tabs(data: dict[str, Any], draw: Any) -> Any:
    from bokeh.models import TabPanel, Tabs

    return Tabs(tabs=[
        TabPanel(child=draw(c), title=f"d = {c['slit_size'] * 1e9:.3g} nm")
        for c in data["cells"]
    ])  # fmt: skip


def _voltammogram(cell: dict[str, Any]) -> Any:
    plot = _figure("Last cycle of the voltammogram", "potential [V]", "current [A/m of depth]")
    curves = cell["curves"]
    plot.line(curves["applied"], curves["current"], legend_label="field equations",
              color="black", line_width=3)  # fmt: skip
    for (name, outcome), colour in zip(cell["outcomes"].items(), COLOURS, strict=False):
        if outcome["current"] is not None:
            plot.line(curves["applied"], outcome["current"], color=colour, line_width=1.5,
                      legend_label=f"{name}: {100 * outcome['deviation']:.1f} %")  # fmt: skip
    return _legend(plot)


def _parts(cell: dict[str, Any]) -> Any:
    plot = _figure("Ionic current by cause, last cycle", "time [s]", "current [A/m of depth]")
    dashes = {"migration": "solid", "diffusion": "dashed", "steric": "dotted"}
    for i, (name, values) in enumerate(cell["curves"]["parts"].items()):
        place, part = name.split()
        plot.line(cell["curves"]["time"], values, color=COLOURS[i // 3], legend_label=name,
                  line_dash=dashes[part], visible=place != "slit_current")  # fmt: skip
    return _legend(plot)


def _resistance(cell: dict[str, Any]) -> Any:
    plot = _figure("First opening: voltage over current", "|Q| / charge of bulk ions",
                   "resistance [Ohm m]")  # fmt: skip
    curves = cell["curves"]
    for half, marker, k in (("rising", "circle", 0), ("falling", "triangle", 1)):
        r = np.array([np.nan if v is None else v for v in curves["resistance"][k]], float)
        plot.scatter(curves["charge"][k], r, marker=marker, size=5, color=COLOURS[k],
                     legend_label=f"field equations, {half}")  # fmt: skip
    p = cell["parameters"]
    top = max([*curves["charge"][0], *curves["charge"][1], 1e-9])
    x = np.linspace(0, top, 60)
    plot.line(x, p["r_c"][1] * (1 - p["gamma"][1] * x / top), color="black",
              legend_label="R_c (1 - gamma |Q|/Q_max)")  # fmt: skip
    return _legend(plot)


def _against_size(data: dict[str, Any]) -> Any:
    from bokeh.layouts import row

    d = [1e9 * c["slit_size"] for c in data["cells"]]
    plots = []
    for key, label in (("r_c", "R_c [Ohm m]"), ("gamma", "gamma")):
        plot = _figure(label, "slit size d [nm]", label)
        plot.width = 470
        for prefix, name, colour in (("", "potential of charge", COLOURS[0]),
                                     ("mid_", "mid-plane potential", COLOURS[1])):  # fmt: skip
            y = [c["parameters"]["pooled"][prefix + key] for c in data["cells"]]
            plot.line(d, y, color=colour)
            plot.scatter(d, y, color=colour, size=7, legend_label=name)
        plots.append(plot)
    return row(*plots)


def _front(data: dict[str, Any]) -> Any:
    plot = _figure("Laws: error against complexity", "complexity", "error, charging half",
                   y_axis_type="log",
                   tooltips=[("law", "@law"), ("test error", "@test")])  # fmt: skip
    groups = {"front": data["front"], "baselines": list(data["baselines"].values())}
    for (name, forms), colour in zip(groups.items(), COLOURS, strict=False):
        kept = [f for f in forms if f["error_train"]]
        plot.scatter("x", "y", source={
            "x": [f["complexity"] for f in kept], "y": [f["error_train"] for f in kept],
            "law": [f["expression"] for f in kept],
            "test": [str(f["error_test"]) for f in kept],
        }, size=8, color=colour, legend_label=name)  # fmt: skip
    return _legend(plot)


def _design(explored: dict[str, Any]) -> Any:
    from bokeh.transform import linear_cmap

    plot = _figure("Circuits between the solved slit sizes: area of the voltammogram over "
                   "that without resistance", "slit size [nm]", "theta", y_axis_type="log",
                   tooltips=[("relative area", "@z")])  # fmt: skip
    source = {
        "x": 1e9 * np.array(explored["slit_size"]), "y": explored["theta"],
        "z": explored["relative_area"],
    }  # fmt: skip
    z = np.array(explored["relative_area"], float)
    renderer = plot.scatter("x", "y", source=source, size=6,
                            color=linear_cmap("z", "Viridis256", z.min(), z.max()))  # fmt: skip
    plot.add_layout(renderer.construct_color_bar(width=12), "right")
    return plot


def _table(data: dict[str, Any]) -> str:
    names = list(data["cells"][0]["outcomes"])
    head = "".join(f"<th>{html.escape(n)}</th>" for n in names)
    rows = []
    for c in data["cells"]:
        pooled = c["parameters"]["pooled"]
        cells = "".join(_percent(c["outcomes"][n]) for n in names)
        rows.append(
            f"<tr><td>{1e9 * c['slit_size']:.3g}</td><td>{pooled['r_c']:.4g}</td>"
            f"<td>{pooled['gamma']:.3f}</td><td>{100 * pooled['residual']:.1f} %</td>"
            f"{cells}</tr>"
        )
    return (
        "<table><tr><th>d [nm]</th><th>R_c [Ohm m]</th><th>gamma</th><th>misfit of that law"
        f"</th>{head}</tr>{''.join(rows)}</table>"
    )


def _percent(outcome: dict[str, Any]) -> str:
    if outcome["current"] is None:
        return f"<td title='{html.escape(outcome['note'])}'>none</td>"
    return f"<td>{100 * outcome['deviation']:.2f} %</td>"


def _rules(data: dict[str, Any]) -> str:
    rows = []
    for c in data["cells"]:
        p = c["parameters"]
        res = ", ".join(f"{k} {100 * v:.1f} %" for k, v in p["residuals"].items())
        rows.append(
            f"<tr><td>{1e9 * c['slit_size']:.3g}</td><td>{p['c_slit']:.4g}</td>"
            f"<td>{p['c_open']:.4g}</td><td>{p['r_open']:.4g}</td><td>{res}</td></tr>"
        )
    return (
        "<table><tr><th>d [nm]</th><th>C_slit [F/m]</th><th>C_open [F/m]</th>"
        f"<th>R_open [Ohm m]</th><th>rms misfit of each fit</th></tr>{''.join(rows)}</table>"
    )


def _page(data: dict[str, Any], scripts: str, divs: dict[str, str]) -> str:
    e = html.escape
    first = data["cells"][0]
    remark = f"<p>{e(data['remark'])}</p>" if data["remark"] else ""
    models = "".join(f"<li><b>{e(k)}</b>: {e(v)}</li>" for k, v in data["models"].items())
    limits = "".join(f"<li>{e(x)}</li>" for x in LIMITS)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<link rel="icon" href="data:,"><title>nanoslit report</title><style>
body{{font:15px/1.5 sans-serif;max-width:1040px;margin:2em auto;padding:0 1em;color:#222}}
table{{border-collapse:collapse;font-size:13px}} td,th{{border:1px solid #ccc;padding:3px 8px}}
code{{background:#f2f2f2;padding:1px 4px}} .note{{color:#555}}</style>{scripts}</head><body>
<h1>Charging of nanoslit electrodes: law and circuit</h1>
<p>The field equations (steric Poisson-Nernst-Planck) were solved for
{len(data["cells"])} cases, {first["sheets"]} sheets, window {first["window"]} V,
{first["scan_rate"]} V/s. A search looked for the law of the voltage across an opening; a
circuit with that law was compared with the solved current. Sheet length, opening, ions, scan
rate and window are our choice: the paper does not publish them.</p>
<h2>Law found</h2><p><code>trans-slit voltage = {e(data["law"])}</code></p>
<p>{e(data["verdict"])}. I: current through the opening; X = |Q| over the charge of the bulk
ions of a slit; governor: {e(data["governor"])} slit; other names are constants of each
opening.</p>{remark}
<h2>Circuits against the field equations</h2>{_table(data)}
<p class="note">Deviation: L2 norm of the difference of the currents over the last cycle over
the L2 norm of the solved current. No hand tuning; the two refitted circuits were fitted to
the very curve they are compared with. Each column:</p><ul>{models}</ul>{divs["cv"]}
<h2>What drives the current</h2>{divs["parts"]}
<h2>Resistance against charge</h2>{divs["resistance"]}
<h2>Against slit size</h2>{divs["size"]}
<h2>Rival laws</h2>{divs["front"]}
<h2>Design space</h2>{divs["design"]}
<h2>How the circuit's numbers were read, and how good each fit is</h2>
<p>Least squares through the origin, weighted by time, last cycle. N sheets are N slits. C_slit:
slit charge against applied minus slit potential, interior slits. Node 0 is the plane in the
open space read by the solver; R_open: its potential against the current; C_open: exterior
charge against applied minus node 0. The mouth has its own resistance.</p>{_rules(data)}
<p class="note">The misfits above are the errors known here; the error of mesh and time step is
not estimated in this report.</p><h2>Limits of the model</h2><ul>{limits}</ul>
<h2>Provenance</h2><p>nanoslit {__version__}; result files
{", ".join(e(c["file"]) for c in data["cells"])} hold case, versions and commands; law search:
{data["evaluations"]} evaluations, seed {data["seed"]}.</p>
</body></html>
"""
