"""The page: sections in the order computed, found, how sure; texts and tables as HTML."""

from __future__ import annotations

import re
from html import escape
from typing import Any

import numpy as np
from bokeh.embed import components
from bokeh.resources import Resources

from nanoslit import __version__
from nanoslit.estimates import CARBON_CAPACITANCE
from nanoslit.findings.runs import MESH_ERRORS, VOLTAGES, mesh_error, wall_capacitance
from nanoslit.findings.verdict import FAILS, HOLDS, IN_PART
from nanoslit.report import fields
from nanoslit.report.data import ReportData, RunData, finite
from nanoslit.report.figures import MEASURED_WALLS, all_figures

__all__ = ["LIMITS", "page"]

LIMITS = (
    "no hydration or desolvation", "no ion correlations", "no dielectric saturation",
    "no quantum capacitance of the sheets", "no surface groups",
    "ions diffuse in the slits as in bulk (confinement slows them)", "no electro-osmosis",
    "no swelling", "no Faradaic current, no electronic resistance",
    "a parallel two-dimensional stack",
    "ideal conductivity: 15 S/m for 1 mol/L KCl against 11 S/m measured",
)  # fmt: skip

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
SHORT = 20
"""Text in a table up to this length stays on one line."""

STYLE = """
:root{--line:#d8d8d8;--soft:#f5f6f7;--text:#222}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,sans-serif;color:var(--text);margin:0}
main{max-width:1060px;margin:0 auto;padding:0 16px 60px}
header{background:#173042;color:#fff;padding:26px 16px}
header>div{max-width:1028px;margin:0 auto} header h1{margin:0 0 6px;font-size:26px}
nav{position:sticky;top:0;background:#fff;border-bottom:1px solid var(--line);z-index:5;
 padding:8px 16px;overflow-x:auto;white-space:nowrap;font-size:13px;scrollbar-width:none}
nav>div{max-width:1028px;margin:0 auto;display:flex;justify-content:space-between;gap:14px}
nav a{color:#0b5d8a;text-decoration:none}
h2{margin:38px 0 8px;padding-top:10px;border-top:1px solid var(--line);font-size:21px;
 scroll-margin-top:40px}
h3{font-size:16px;margin:22px 0 6px}
p{margin:8px 0;max-width:78ch} ul{max-width:78ch;padding-left:22px}
.cards{display:flex;flex-wrap:wrap;gap:14px;margin-top:18px}
.cards>div{flex:1 1 min(290px,100%);background:var(--soft);border-radius:8px;
 padding:6px 16px 12px}
.cards h3{margin:8px 0 2px}
.grid{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(min(430px,100%),1fr))}
.grid>div{min-width:0}
.wide{overflow-x:auto;margin:10px 0}
table{border-collapse:collapse;font-size:13px}
th,td{border:1px solid var(--line);padding:3px 9px;text-align:left;vertical-align:top}
th{background:var(--soft)} td.n{text-align:right;font-variant-numeric:tabular-nums}
td.n,td.w{white-space:nowrap}
code{background:#eef1f3;padding:1px 5px;border-radius:3px;overflow-wrap:anywhere}
.law{font-size:17px;display:inline-block;padding:6px 12px;margin:6px 0}
.note{color:#555;font-size:13.5px}
.yes{background:#e2f2e8}.part{background:#fdf3d8}.no{background:#fbe3de}.none{background:#f0f0f0}
details summary{cursor:pointer;color:#0b5d8a}
"""


def page(data: ReportData) -> str:
    """Return the whole page, scripts of bokeh included."""
    plots = all_figures(data)
    pictured = None
    for r in data.runs:
        if (frames := fields.read_frames(r.run)) is not None:
            pictured = r
            plots |= {f"field {k}": v for k, v in fields.draw(frames, r.run).items()}
            break
    script, divs = _stable(*components(plots))
    resources = Resources(mode="inline", components=["bokeh", "bokeh-widgets"])
    sections = [
        ("Summary", "In short", _short(data)),
        ("Circuits", "Circuits against the field equations", _circuits(data, divs)),
        ("Currents", "What drives the current", _drive(divs)),
        ("Resistance", "Resistance against charge", _resistance(data, divs)),
        ("Slit size", "Against slit size", _size(data, divs)),
        ("Laws", "Laws and their rivals", _laws(data, divs)),
        ("Fields", "Fields", _fields(pictured, divs)),
        ("Walls", "Wall capacitance", _walls(data, divs)),
        ("Designs", "Design space", _design(divs)),
        ("Claims", "Claims of the paper", _claims(data)),
        ("Errors", "How sure", _sure(data)),
        ("Limits", "Limits of the model", _limits()),
        ("Provenance", "Provenance", _origin(data)),
    ]
    body = links = ""
    for name, title, text in sections:
        key = name.lower().replace(" ", "-")
        body += f'<section><h2 id="{key}">{title}</h2>{text}</section>'
        links += f'<a href="#{key}">{name}</a>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<link rel="icon" href="data:,"><title>nanoslit report</title><style>{STYLE}</style>
{resources.render()}{script}</head><body>
<header><div><h1>Charging of nanoslit electrodes: law and circuit</h1>
Study in <b>{escape(data.folder.resolve().name)}</b>. Field equations, the law found in them,
and circuits made of it, after Zhan et al. (preprint, 2021).</div></header>
<nav><div>{links}</div></nav><main>{body}</main></body></html>
"""


def _stable(script: str, divs: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Replace the random names of bokeh by numbers: equal studies give equal pages."""
    known: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        return known.setdefault(match[0], f"00000000-0000-4000-8000-{len(known):012d}")

    return UUID.sub(name, script), {k: UUID.sub(name, v) for k, v in divs.items()}


# -- pieces --------------------------------------------------------------------------------


def _table(
    head: list[str], rows: list[list[Any]], classes: list[str] | None = None, wide: bool = False
) -> str:
    """Return an HTML table, with classes of its rows; numbers stand right."""
    top = "".join(f"<th>{escape(str(h))}</th>" for h in head)
    lines = []
    for k, row in enumerate(rows):
        name = f' class="{classes[k]}"' if classes else ""
        lines.append(f"<tr{name}>{''.join(_cell(v) for v in row)}</tr>")
    style = ' style="min-width:860px"' if wide else ""
    return f'<div class="wide"><table{style}><tr>{top}</tr>{"".join(lines)}</table></div>'


def _cell(value: Any) -> str:
    if value is None or isinstance(value, float):
        return f'<td class="n">{escape(_number(value))}</td>'
    text = str(value)
    short = ' class="w"' if len(text) < SHORT else ""
    return f"<td{short}>{escape(text)}</td>"


def _number(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.4g}"


def _percent(value: Any) -> str:
    number = finite(value)
    return "–" if number is None else f"{100 * number:.1f} %"


def _bar(value: float, error: float) -> str:
    return f"{value:.3g} ± {error:.1g}"


def _range(values: list[float], digits: int = 3) -> str:
    low, high = (f"{v:.{digits}g}" for v in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _grid(divs: dict[str, str], names: list[str]) -> str:
    inside = "".join(f"<div>{divs[n]}</div>" for n in names if n in divs)
    return f'<div class="grid">{inside}</div>'


# -- sections ------------------------------------------------------------------------------


def _short(data: ReportData) -> str:
    runs = data.runs
    case = runs[0].run.case
    protocol: Any = case.protocol
    low, high = protocol.bounds
    meshes = ", ".join(sorted({r.run.mesh for r in runs}))
    sheets = _range([float(r.run.network.sheets) for r in runs])
    sizes = _range([1e9 * r.run.slit_size for r in runs])
    rate = getattr(protocol, "scan_rate", None)
    computed = [
        f"{len(runs)} cells by the steric Poisson-Nernst-Planck equations (Kilic, Bazant & "
        f"Ajdari 2007): d = {sizes} nm, {sheets} sheets, {low:g} to {high:g} V"
        + (f", {rate:.3g} V/s" if rate else "") + f", mesh: {meshes}",
    ]  # fmt: skip
    if data.law is not None:
        computed.append(
            f"a search for the law of the voltage across an opening, "
            f"{data.law.evaluations or '?'} trial formulas, learning from the charging half "
            "of the cycle"
        )
    if data.models:
        computed.append(f"{len(data.models)} kinds of circuit beside each solved cell")
    if "theta" in data.explored:
        computed.append(f"{data.explored['theta'].size} circuits of the design space")
    cards = {"Computed": computed, "Found": _found(data), "How sure": _doubts(data)}
    boxes = "".join(
        f"<div><h3>{title}</h3><ul>{''.join(f'<li>{escape(t)}</li>' for t in lines)}</ul></div>"
        for title, lines in cards.items()
    )
    law = ""
    if data.law is not None:
        law = (
            f'<p><code class="law">trans-slit voltage = {escape(data.law.best.expression)}'
            f"</code></p><p>{escape(_verdict(data))} I is the current through an opening, X "
            "the stored charge |Q| over the charge of the ions that bulk electrolyte has in a "
            f"slit, read in the {escape(data.law.governor)} slit; the other names are "
            "constants of each opening.</p>"
        )
    remark = data.circuits.get("remark")
    more = f"<p>{escape(str(remark))}.</p>" if remark else ""
    return (
        f"{law}{more}<div class='cards'>{boxes}</div><p class='note'>Sheet length, opening, "
        "ion size, diffusivities, scan rate and window are our choice: the paper does not "
        "publish them. Currents, charges and resistances are those of the simulated half "
        "period, per metre of depth. In figures with a legend, a click on a name hides its "
        "curve.</p>"
    )


def _verdict(data: ReportData) -> str:
    text = str(data.law.extra.get("verdict", "")) if data.law else ""
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _found(data: ReportData) -> list[str]:
    runs = data.runs
    out = []
    if data.law is not None:
        best = data.law.best
        out.append(
            f"the law above misses the voltage by {_percent(best.error_train)} on the charging "
            f"half that it learnt from and by {_percent(best.error_test)} on the unseen "
            "discharging half"
        )
    r_c = [r.numbers[f"r_c:{data.voltage}"].value for r in runs]
    gamma = [r.numbers[f"gamma:{data.voltage}"].value for r in runs]
    misfit = [100 * r.numbers[f"misfit:{data.voltage}"].value for r in runs]
    out.append(
        f"the paper's law R_c (1 - gamma |Q|/Q_max) fits with R_c = {_range(r_c)} Ohm m and "
        f"gamma = {_range(gamma)}, but leaves {_range(misfit, 2)} % of the voltage"
    )
    for name in data.models:
        off = [finite(r.outcomes.get(name, {}).get("deviation")) for r in runs]
        known = [100 * v for v in off if v is not None]
        if known and name in ("law", "paper", "line"):
            text = {"law": "the law found", "paper": "the paper's law",
                    "line": "constant resistors"}[name]  # fmt: skip
            out.append(f"the circuit with {text} is {_range(known)} % off the solved current")
    return out


def _doubts(data: ReportData) -> list[str]:
    out = []
    for mesh in sorted({r.run.mesh for r in data.runs}):
        r = next(r for r in data.runs if r.run.mesh == mesh)
        names = ("r_c_electrochemical", "gamma_electrochemical", "cv_area")
        errors = [mesh_error(r.run, n) for n in names]
        if np.isfinite(errors).all():
            out.append(
                f"mesh {mesh}: R_c within {_percent(errors[0])}, gamma within "
                f"{errors[1]:.2g}, area of the voltammogram within {_percent(errors[2])} of "
                "the limit of fine meshes (largest error of eleven small stacks)"
            )
    halves = [r.numbers[f"gamma:{data.voltage}"] for r in data.runs]
    out.append(
        "one law for the whole cycle leaves open: gamma fitted to charging and to discharging "
        f"alone differs by up to ±{max(m.common for m in halves):.2g}"
    )
    ratio = max(wall_capacitance(r.run).value for r in data.runs) / CARBON_CAPACITANCE[1]
    if ratio > 1:
        out.append(
            f"the walls store {ratio:.0f} times what measured carbons do at most; charge, "
            "current and times are as much larger"
        )
    out.append("the model leaves out much of a real slit, see the limits")
    return out


def _circuits(data: ReportData, divs: dict[str, str]) -> str:
    names = list(data.models)
    head = ["cell", "R_c [Ohm m]", "gamma", "misfit of that law", *names]
    rows: list[list[Any]] = []
    for r in data.runs:
        r_c, gamma = r.numbers[f"r_c:{data.voltage}"], r.numbers[f"gamma:{data.voltage}"]
        rows.append([
            r.label, _bar(r_c.value, r_c.total), _bar(gamma.value, gamma.total),
            _percent(r.numbers[f"misfit:{data.voltage}"].value),
            *(_percent(r.outcomes.get(n, {}).get("deviation")) for n in names),
        ])  # fmt: skip
    notes = sorted({
        f"{r.label}, {n}: {o['note']}" for r in data.runs for n, o in r.outcomes.items()
        if o.get("note")
    })  # fmt: skip
    models = "".join(
        f"<li><b>{escape(k)}</b>{escape(': ' + v if v else '')}</li>"
        for k, v in data.models.items()
    )
    absent = "".join(f"<li>{escape(n)}</li>" for n in notes)
    return f"""<p>Deviation of each circuit: L2 norm of the difference of the currents over the
last cycle, over the L2 norm of the solved current. No hand tuning. Circuits called
"refitted" were fitted to the very curve they are compared with; all others take their
numbers from the traces by the fixed rules below.</p>{_table(head, rows)}<ul>{models}</ul>
<ul>{absent}</ul>{divs["cv"]}{_more_tables(data)}
<details><summary>How the circuit's numbers were read, and how well each fit does</summary>
{_rules(data)}</details>"""


def _more_tables(data: ReportData) -> str:
    """Return every further table that ``circuits.json`` holds as a list of rows."""
    out = []
    for key, value in data.circuits.items():
        if key in ("cells", "rules") or not isinstance(value, list) or not value:
            continue
        if not all(isinstance(row, dict) for row in value):
            continue
        head = list(dict.fromkeys(k for row in value for k in row))
        rows = [[_plain(row.get(k)) for k in head] for row in value]
        out.append(f"<h3>{escape(key.replace('_', ' '))}</h3>{_table(head, rows)}")
    return "".join(out)


def _plain(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return finite(value)
    return "–" if value is None else str(value)


def _rules(data: ReportData) -> str:
    rules = data.circuits.get("rules") or []
    text = f"<ul>{''.join(f'<li>{escape(str(v))}</li>' for v in rules)}</ul>"
    names = ("c_slit", "c_open", "r_open", "r_mouth")
    rows: list[list[Any]] = []
    fits: list[list[Any]] = []
    residuals = list(
        dict.fromkeys(k for r in data.runs for k in (_parameters(r).get("residuals") or {}))
    )
    for r in data.runs:
        p = _parameters(r)
        rows.append([r.label, *(finite(p.get(n)) for n in names)])
        own = p.get("residuals") or {}
        fits.append([r.label, *(_percent(own.get(k)) for k in residuals)])
    units = ("C_slit [F/m]", "C_open [F/m]", "R_open [Ohm m]", "R_mouth [Ohm m]")
    kept = [i for i in range(len(names)) if any(row[i + 1] is not None for row in rows)]
    first = _table(
        ["cell", *(units[i] for i in kept)], [[row[0], *(row[i + 1] for i in kept)]
                                              for row in rows]
    )  # fmt: skip
    return f"{text}{first}<p>Rms misfit of each fit:</p>{_table(['cell', *residuals], fits)}"


def _parameters(r: RunData) -> dict[str, Any]:
    return r.cell.get("parameters") or {}


def _drive(divs: dict[str, str]) -> str:
    return f"""<p>The ionic current is the sum of migration (the field pulls ions),
diffusion (ions spread from where there are more) and a steric part (crowded ions push).
Where the geometry varies, even equilibrium has large parts that cancel; along a slit
(line across it, midway between its openings) the solver stores the parts minus those of the
equilibrium of equal charge: what drives the current. Positive: towards the reservoir, as of
a positive electrode that charges.</p>
<h3>Inside the electrode</h3>{divs["inside"]}
{divs["share"]}
<p class="note">Theory: slit in transverse equilibrium, small signal. All three parts have one
sign there, at every slit size.</p>
<h3>In front of the electrode</h3>
<p>Raw parts: close to the first sheet they are those of its double layer, which cancel
and are up to thousands of times the current; a few Debye lengths out migration carries
all. Which of the two is read depends on where the plane lies, see the last figure.</p>
{divs["front"]}"""


def _resistance(data: ReportData, divs: dict[str, str]) -> str:
    governor = data.law.governor if data.law else "inner"
    return f"""<p>Voltage over current of each opening, where the current is at least 5 % of its
maximum, against the charge of the {escape(governor)} slit. Large marks: first opening, small:
the others. Lines: laws with their constants for the first opening, fitted to the charging
half. A law R(Q) is one line; where charging and discharging separate, charge alone does not
fix the resistance.</p>{divs["resistance"]}"""


def _size(data: ReportData, divs: dict[str, str]) -> str:
    return f"""<p>R_c and gamma of dphi = I R_c (1 - gamma |Q|/Q_max), fitted to the whole last
cycle, mean over the openings; Q is the charge of the slit behind the opening. Bars: scatter
of the openings, error of the mesh, and half the difference between fits to charging and to
discharging alone. Potentials:
of the counter-ions, which carry nearly all of the current of a charged slit; of charge (the
mean over all ions); in the middle of the slit, which the paper reads.</p>
{_grid(divs, ["r_c", "gamma", "extremes", "resistivity"])}"""


def _laws(data: ReportData, divs: dict[str, str]) -> str:
    if data.law is None:
        return "<p>No law search in this folder.</p>"
    forms = [
        *(("search", f) for f in data.law.front),
        *((k.replace("_", " "), f) for k, f in data.law.baselines.items()),
    ]
    rows = [
        ["chosen: " + n if f.expression == data.law.best.expression else n, f.expression,
         f"{f.complexity}", f"{100 * (f.error_train or 0):.2f} %", _percent(f.error_test)]
        for n, f in sorted(forms, key=lambda item: item[1].error_train or 1.0)
    ]  # fmt: skip
    return f"""<p>{escape(_verdict(data))} The search minimises error and complexity together;
its best laws form the front. Rivals are forms from the literature with constants fitted to
the same data; inner, outer and mean say whose charge they use. An error is the rms misfit
over the rms voltage, that of the {VOLTAGES[data.voltage]}.</p>{divs["laws"]}
<details><summary>All laws as a table</summary>{
        _table(
            ["", "trans-slit voltage =", "complexity", "error, charging", "error, discharging"],
            rows,
        )
    }
</details>"""


def _fields(pictured: RunData | None, divs: dict[str, str]) -> str:
    if pictured is None:
        return "<p>The runs kept no fields; a plan asks for them in its output table.</p>"
    pictures = [k for k in divs if k.startswith("field ")]
    rest = ("field slider", "field caption")
    shown = [k for k in pictures if k not in rest]
    return f"""<p>{escape(pictured.label)}, the simulated half period: reservoir on the left,
sheets in grey, collector on the right edge; mirror lines above and below. The slider goes
through the snapshots of the last cycle. Axes are not to one scale.</p>
{divs["field slider"]}{divs["field caption"]}{_grid(divs, shown)}"""


def _walls(data: ReportData, divs: dict[str, str]) -> str:
    walls = [wall_capacitance(r.run) for r in data.runs]
    top = 100 * max(w.value for w in walls)
    stern = data.runs[0].run.case.electrode.stern_capacitance
    layer = "no Stern layer" if stern is None else f"a Stern layer of {100 * stern:g} uF/cm^2"
    rows = [
        [name, f"{low:g}" if low == high else f"{low:g} to {high:g}", source]
        for name, (low, high, source) in MEASURED_WALLS.items()
    ]
    measured = f"3 to {100 * CARBON_CAPACITANCE[1]:.0f}"
    return f"""<p>This model has {layer}: its walls take up to {top:.0f} uF/cm^2. Measured
carbons have {measured}, because real ions keep a distance, water near a wall screens
less, and carbon has few states to charge. Charges, currents and RC times of this model are
larger by the same factor; ratios such as gamma depend on it through the window.
</p>{divs["walls"]}{_table(["measured on", "uF/cm^2", "source"], rows)}"""


def _design(divs: dict[str, str]) -> str:
    maps = [k for k in divs if k.startswith("map ")]
    if not maps:
        return "<p>The design space was not explored.</p>"
    return f"""<p>Circuits whose R_c, gamma and C_slit are those of the solved cells,
interpolated between their slit sizes. theta = N² R_c C_slit over the sweep time: far below 1
all slits charge together, far above 1 only the outermost ones.</p>{_grid(divs, maps)}"""


def _claims(data: ReportData) -> str:
    found = data.claims.get("claims")
    if not found:
        return (
            "<p>Not judged yet: <code>python -m analysis.claims DIR</code> writes them, then "
            "<code>nanoslit report DIR</code>.</p>"
        )
    colours = {HOLDS: "yes", IN_PART: "part", FAILS: "no"}
    rows, classes = [], []
    for c in found:
        boundary = f". {c['boundary'][:1].upper()}{c['boundary'][1:]}" if c["boundary"] else ""
        rows.append([c["number"], c["claim"], c["place"], c["criterion"],
                     f"{c['verdict']}{boundary}", _evidence(c["checks"])])  # fmt: skip
        classes.append(colours.get(c["verdict"], "none"))
    count = {v: sum(c["verdict"] == v for c in found) for v in (HOLDS, IN_PART, FAILS)}
    rest = len(found) - sum(count.values())
    words = "; ".join(f"{v}: {n}" for v, n in count.items())
    head = ["", "claim", "paper", "asked", "verdict", "value ± error"]
    table = _table(head, rows, classes, wide=True)
    return f"""<p>{words}; not tested here: {rest}. Bounds are our choice, since the paper gives
words. A check holds if its whole error bar lies inside the bounds. Declared range of these
runs: {escape(str(data.claims.get("range", "")))}.</p>{table}"""


def _evidence(checks: list[dict[str, Any]]) -> str:
    """Return the spread of what was measured, with the typical error."""
    values = [v for c in checks if (v := finite(c.get("value"))) is not None]
    errors = [v for c in checks if (v := finite(c.get("error"))) is not None]
    if not values:
        return "–"
    largest = max(errors, default=0.0)
    return _range(values) + (f" ± {largest:.1g}" if largest > 0 else "")


def _sure(data: ReportData) -> str:
    rows: list[list[Any]] = []
    for r in data.runs:
        b = r.provenance.get("balances", {})
        rows.append([
            r.label, str(r.provenance.get("error_estimate", "")),
            *(_percent(mesh_error(r.run, n)) for n in MESH_ERRORS["standard"]),
            *(finite(b.get(n)) for n in ("current_mismatch_relative", "ion_mismatch_relative")),
        ])  # fmt: skip
    head = ["cell", "mesh and time step", "CV area", "R_c (middle)", "gamma (middle)",
            "R_c (others)", "gamma (others)", "current balance", "ion balance"]  # fmt: skip
    return f"""<p>Errors of mesh and time step: largest deviation from the limit of fine
meshes over eleven small stacks (README, How exact; gamma: absolute). Balances: largest error of
the conservation laws over the run, relative to the largest current.</p>{_table(head, rows)}
<p>What is not covered by these numbers: the misfit of every law and circuit is printed with
it; whether the equations describe a real slit is discussed below.</p>"""


def _limits() -> str:
    items = "".join(f"<li>{escape(x)}</li>" for x in LIMITS)
    return f"""<ul>{items}</ul><p>A slit of 1.5 to 5 nm is two to eight hydrated ions wide,
where a continuum theory with one steric size is at its limit: repeat with other ion sizes,
permittivities and Stern layers before a number is used.</p>"""


def _origin(data: ReportData) -> str:
    rows: list[list[Any]] = []
    for r in data.runs:
        p = r.provenance
        rows.append([
            r.label, r.run.path.name, str(p.get("content_key", ""))[:12],
            f"{str(p.get('revision', ''))[:10]} {p.get('revision_state', '')}",
            str(p.get("started", ""))[:16], p.get("host", ""), f"{p.get('ranks', '')}",
            finite(p.get("wall_time")), f"{p.get('mesh_nodes', '')}",
        ])  # fmt: skip
    first = data.runs[0].provenance
    versions = ", ".join(
        f"{k.removeprefix('version_')} {v}" for k, v in sorted(first.items())
        if k.startswith("version_") and v != "none"
    )  # fmt: skip
    law = ""
    if data.law is not None:
        law = f" Law search: {data.law.evaluations} evaluations, seed {data.law.seed}."
    head = ["cell", "result file", "content key", "code revision", "started", "host", "ranks",
            "seconds", "mesh nodes"]  # fmt: skip
    return f"""<p>nanoslit {escape(__version__)}, Python {escape(str(first.get("python", "")))},
{escape(versions)}.{escape(law)} Each result file holds its case, and the study's folder the
law, circuits and designs as JSON; <code>nanoslit study</code> with the same plan repeats
them.</p>{_table(head, rows)}"""
