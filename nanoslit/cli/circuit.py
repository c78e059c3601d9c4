"""Commands on circuits: ``circuit``, ``explore``, ``fit`` and ``scale``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanoslit.atomic import json_text, write_json
from nanoslit.cli import app
from nanoslit.cli.options import quantity, require_free
from nanoslit.errors import CaseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanoslit.circuit.configuration import CircuitPlan
    from nanoslit.circuit.curves import Curve
    from nanoslit.circuit.material import CellParameters

__all__ = ["circuit", "explore", "fit", "scale"]

Output = Annotated[Path, typer.Option("-o", "--output", help="HDF5 file to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Figure = Annotated[
    Path | None, typer.Option("--figure", help="Also draw to .png, .svg or .pdf.")
]


def _require_figure(path: Path | None, overwrite: bool) -> None:
    """Raise, before anything is computed, unless a figure can be written there."""
    from nanoslit.plotting.files import require_ending

    if path is not None:
        require_ending(path)
        require_free(path, overwrite=overwrite)


def _table(rows: Sequence[tuple[str, ...]], headings: tuple[str, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@app.command()
def circuit(
    path: Annotated[Path, typer.Argument(metavar="CIRCUIT.toml", show_default=False)],
    output: Output,
    overwrite: Overwrite = False,
    spice: Annotated[
        Path | None, typer.Option("--spice", help="Also write a SPICE netlist.")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Also write time, potential, current.")
    ] = None,
    figure: Figure = None,
    json_: Json = False,
) -> None:
    """Simulate one circuit: voltammetry, steps, constant current, impedance, Ragone."""
    from nanoslit.atomic import write_text
    from nanoslit.circuit.configuration import read_circuit
    from nanoslit.circuit.curves import Ragone
    from nanoslit.circuit.files import write_response, write_table
    from nanoslit.circuit.impedance import Spectrum
    from nanoslit.circuit.observables import FEATURES, features
    from nanoslit.circuit.spice import netlist
    from nanoslit.errors import CircuitError

    for target in (output, spice, csv):
        require_free(target, overwrite=overwrite)
    _require_figure(figure, overwrite)
    plan = read_circuit(path)
    if isinstance(plan.protocol, Spectrum | Ragone):
        if spice is not None:
            raise CaseError("--spice: a netlist is for a potential that is given in time")
        _curve(plan, plan.protocol.curve(plan.circuit), output, csv, figure, json_)
        return
    text = None if spice is None else netlist(plan.circuit, plan.protocol, title=plan.name)
    response = plan.circuit.simulate(plan.protocol, cycle=plan.cycle, points=plan.points)
    write_response(output, response, plan.name)
    if spice is not None and text is not None:
        write_text(spice, text)
    if csv is not None:
        unit = {"absolute": "A", "per depth": "A/m", "per area": "A/m^2"}
        current = f"current/{unit[plan.circuit.basis]}"
        write_table(
            csv,
            {
                "time/s": response.time[0], "potential/V": response.applied_potential[0],
                current: response.electrode_current[0],
            },
        )  # fmt: skip
    if figure is not None:
        from nanoslit.plotting.circuit import draw_voltammogram
        from nanoslit.plotting.files import save

        save(draw_voltammogram(response), figure)
    try:
        values = {k: float(v[0]) for k, v in features(response).items()}
    except CircuitError:  # not cyclic voltammetry: no such numbers
        values = {}
    if json_:
        found = {"name": plan.name, "output": str(output), "features": values}
        typer.echo(json_text(found))
        return
    rows = [(k, f"{v:.5g}", *FEATURES[k]) for k, v in values.items()]
    if rows:
        note = "" if plan.circuit.basis == "absolute" else f" ({plan.circuit.basis})"
        _table(rows, ("observable", "value", f"unit{note}", "meaning"))
    typer.echo(f"wrote {output}" + "".join(f", {x}" for x in (spice, csv, figure) if x))


def _curve(
    plan: CircuitPlan,
    curve: Curve,
    output: Path,
    csv: Path | None,
    figure: Path | None,
    json_: bool,
) -> None:
    """Write an impedance spectrum or a Ragone plot."""
    from nanoslit.circuit.files import write_curve, write_table

    write_curve(output, plan.circuit, curve, plan.name)
    columns = {f"{c.heading}/{c.unit}": c.values for c in curve.columns.values()}
    if csv is not None:
        write_table(csv, columns)
    if figure is not None:
        from nanoslit.plotting.circuit import draw_ragone, draw_spectrum
        from nanoslit.plotting.files import save

        draw = draw_spectrum if curve.kind == "impedance" else draw_ragone
        save(draw(curve), figure)
    if json_:
        found: dict[str, Any] = {"name": plan.name, "output": str(output)}
        found["units"] = {name: c.unit for name, c in curve.columns.items()}
        found |= {name: c.values for name, c in curve.columns.items()}
        typer.echo(json_text(found))
        return
    rows = [
        tuple(f"{x:.5g}" for x in row)
        for row in zip(*(v[::5] for v in columns.values()), strict=True)
    ]
    _table(rows, tuple(f"{c.heading} [{c.unit}]" for c in curve.columns.values()))
    typer.echo(f"wrote {output}" + "".join(f", {x}" for x in (csv, figure) if x))


@app.command()
def explore(
    path: Annotated[Path, typer.Argument(metavar="STUDY.toml", show_default=False)],
    output: Output,
    overwrite: Overwrite = False,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Default: all cores.")
    ] = None,
    figure: Figure = None,
    json_: Json = False,
) -> None:
    """Explore a design space: samples, Sobol indices, Pareto front, NSGA-II."""
    import time

    from nanoslit.circuit.configuration import read_study
    from nanoslit.circuit.explorer import explore as run
    from nanoslit.circuit.files import write_study

    require_free(output, overwrite=overwrite)
    _require_figure(figure, overwrite)
    study = read_study(path)
    began = time.perf_counter()
    result = run(study, threads=threads, progress=lambda text: typer.echo(text, err=True))
    wall = time.perf_counter() - began
    write_study(output, result)
    if figure is not None:
        from nanoslit.plotting.circuit import draw_study
        from nanoslit.plotting.files import save

        save(draw_study(result), figure)
    count = len(result.feasible)
    summary: dict[str, Any] = {
        "name": study.name, "output": str(output), "circuits": count, "seconds": wall,
        "feasible": int(result.feasible.sum()),
        "pareto": None if result.pareto is None else len(result.pareto),
    }  # fmt: skip
    names = [v.name for v in study.variables]
    if result.first is not None and result.total is not None:
        summary["sobol"] = {
            f: {
                n: [float(result.first[i, k]), float(result.total[i, k])]
                for k, n in enumerate(names)
            }
            for i, f in enumerate(result.index_features)
        }
    if json_:
        typer.echo(json_text(summary))
        return
    typer.echo(
        f"{count} circuits in {wall:.1f} s, {summary['feasible']} within the constraints"
        + ("" if result.pareto is None else f", {len(result.pareto)} on the Pareto front")
    )
    if "sobol" in summary:
        rows = [
            (f, *(f"{a:.3f} / {b:.3f}" for a, b in row.values()))
            for f, row in summary["sobol"].items()
        ]
        _table(rows, ("first / total Sobol index", *names))
    typer.echo(f"wrote {output}")


@app.command()
def fit(
    paths: Annotated[list[Path], typer.Argument(metavar="CV.csv...", show_default=False)],
    slits: Annotated[int, typer.Option("--slits", min=1, help="Number of slits of the model.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="JSON file to write.")
    ] = None,
    mass: Annotated[
        str | None, typer.Option("--mass", help='For currents per mass, "5 mg".')
    ] = None,
    area: Annotated[
        str | None, typer.Option("--area", help='For currents per area, "1 cm^2".')
    ] = None,
    cell: Annotated[str, typer.Option("--cell", help="half or symmetric.")] = "half",
    pzc: Annotated[
        str, typer.Option("--pzc", help='Potential of zero charge: "0.1 V", or fit.')
    ] = "0 V",
    leak: Annotated[bool, typer.Option("--leak", help="Fit a leak resistance.")] = False,
    state: Annotated[
        str, typer.Option("--state", help="rest (from the first point) or periodic.")
    ] = "rest",
    cycles: Annotated[
        str | None, typer.Option("--cycles", help='Cycle numbers to keep, "2-3".')
    ] = None,
    current_sign: Annotated[
        int, typer.Option("--current-sign", help="-1 if charging currents are negative.")
    ] = 1,
    profile: Annotated[
        bool, typer.Option("--profile", help="Intervals by profile likelihood (slower).")
    ] = False,
    starts: Annotated[int, typer.Option("--starts", min=1, help="Of the search.")] = 12,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 1,
    overwrite: Overwrite = False,
    json_: Json = False,
) -> None:
    """Fit a circuit to voltammograms, several scan rates at once."""
    from nanoslit.circuit.fit import fit as run
    from nanoslit.circuit.measurement import read_measurement

    require_free(output, overwrite=overwrite)
    size = {
        "mass": None if mass is None else quantity("--mass", mass, "kg"),
        "area": None if area is None else quantity("--area", area, "m^2"),
    }
    kept = None
    if cycles is not None:
        try:
            first, _, last = cycles.partition("-")
            kept = int(first), int(last or first)
        except ValueError:
            raise CaseError(f"--cycles {cycles!r} must be like 2 or 2-3") from None
    data = [read_measurement(p, current_sign=current_sign, cycles=kept, **size) for p in paths]
    for one in data:
        lo, hi = (round(float(x), 9) + 0.0 for x in (one.potential.min(), one.potential.max()))
        typer.echo(
            f"{one.name}: {len(one.time)} points, {lo:.4g}..{hi:.4g} V, "
            f"{one.scan_rate:.4g} V/s; " + "; ".join(one.notes),
            err=True,
        )
    zero: float | str = "fit" if pzc == "fit" else quantity("--pzc", pzc, "V", positive=False)
    result = run(
        data,
        slits,
        cell=cell,
        pzc=zero,
        leak=leak,
        state=state,
        starts=starts,
        seed=seed,
        profile=profile,
    )
    units = {"gamma": "", "r_c": "Ohm", "r_open": "Ohm", "leak": "Ohm", "pzc": "V"}
    summary = {
        "values": {
            n: {
                "value": result.values[n], "unit": units.get(n, "F"),
                "standard_error": result.standard_errors[n],
                "interval": list(result.intervals[n]),
            }
            for n in result.names
        },
        "correlation": result.correlation.tolist(), "misfit": result.misfit,
        "transmission_line": None if result.line is None else {
            "values": result.line.values, "misfit": result.line.misfit
        },
        "evidence_for_gamma": result.evidence, "warnings": list(result.warnings),
        "n_slits": slits, "options": result.circuit.options(),
    }  # fmt: skip
    if output is not None:
        write_json(output, summary)
    if json_:
        typer.echo(json_text(summary))
        return
    rows = [
        (n, f"{v['value']:.4g}", v["unit"], f"{v['standard_error']:.2g}",
         f"{v['interval'][0]:.4g} .. {v['interval'][1]:.4g}")
        for n, v in summary["values"].items()
    ]  # fmt: skip
    kind = "profile" if profile else "linearised"
    _table(rows, ("parameter", "value", "unit", "standard error", f"95 % interval, {kind}"))
    line = result.line.misfit if result.line is not None else float("nan")
    typer.echo(
        f"misfit {result.misfit:.2%} of the rms current; transmission line (gamma = 0) "
        f"{line:.2%}; its BIC is {result.evidence:+.1f} against this fit"
    )
    for text in result.warnings:
        typer.echo(f"warning: {text}")


@app.command()
def scale(
    path: Annotated[Path, typer.Argument(metavar="RESULT.h5|LAW.json", show_default=False)],
    film_thickness: Annotated[str, typer.Option("--film-thickness", help='"10 um"')],
    sheet_length: Annotated[str, typer.Option("--sheet-length", help='"1 um"')],
    scan_rate: Annotated[
        str | None, typer.Option("--scan-rate", help='Of the film, "10 mV/s".')
    ] = None,
    upper: Annotated[
        str | None,
        typer.Option("--upper", help="Window 0 V .. this; default: that of the cell."),
    ] = None,
    voltage: Annotated[
        str, typer.Option("--voltage", help="electrochemical or mid.")
    ] = "electrochemical",
    result: Annotated[
        Path | None, typer.Option("--result", help="The cell, with a LAW.json.")
    ] = None,
    case: Annotated[str | None, typer.Option("--case", help="Data set of a LAW.json.")] = None,
    json_: Json = False,
) -> None:
    """Map a solved nanometre cell to a film of micrometres."""
    import numpy as np

    from nanoslit.circuit.film import VALIDITY, film_of
    from nanoslit.circuit.material import VOLTAGES
    from nanoslit.circuit.options import choose
    from nanoslit.estimates import CARBON_CAPACITANCE

    thickness = quantity("--film-thickness", film_thickness, "m")
    length = quantity("--sheet-length", sheet_length, "m")
    choose("voltage", voltage, VOLTAGES)
    film = film_of(_cell(path, result, case, voltage), thickness, length)
    window = film.q_max / film.c_slit if upper is None else quantity("--upper", upper, "V")
    middle = window / film.ladder_time
    rates = middle * np.logspace(-2, 1, 10)
    if scan_rate is not None:
        rates = np.sort(np.append(rates, quantity("--scan-rate", scan_rate, "V/s")))
    specific, asymmetry = film.capacitance(rates, window)
    summary = {
        "slits": film.slits, "r_path": film.r_path, "r_opening": film.r_opening,
        "gamma": film.cell.gamma, "c_slit": film.c_slit, "voltage": film.cell.voltage,
        "ladder_time": film.ladder_time, "cell_ladder_time": film.cell_ladder_time,
        "rate_ratio": film.equivalent_rate(1.0),
        "scan_rate": rates.tolist(), "F_per_g": (1e-3 * specific).tolist(),
        "theta": (film.ladder_time * rates / window).tolist(),
        "asymmetry": asymmetry.tolist(), "validity": list(VALIDITY),
        "wall_capacitance": film.wall_capacitance, "misfit_of_law": film.cell.residual,
    }  # fmt: skip
    if json_:
        typer.echo(json_text(summary))
        return
    typer.echo(
        f"{film.slits} slits; per depth of the half period: path {film.r_path:.4g} Ohm m, "
        f"opening {film.r_opening:.4g} Ohm m, gamma {film.cell.gamma:.3g}, C_slit "
        f"{film.c_slit:.4g} F/m ({film.cell.voltage} potential)"
    )
    typer.echo(
        f"ladder time N^2 R_c C_slit: film {film.ladder_time:.4g} s, solved cell "
        f"{film.cell_ladder_time:.4g} s; equal theta: film rate = "
        f"{film.equivalent_rate(1.0):.4g} x cell rate, cell rate = "
        f"{film.cell_rate(1.0):.4g} x film rate"
    )
    rows = [
        (f"{r:.4g}", f"{film.ladder_time * r / window:.3g}", f"{1e-3 * c:.4g}", f"{a:.3f}",
         f"{film.cell_rate(r):.3g}")
        for r, c, a in zip(rates, specific, asymmetry, strict=True)
    ]  # fmt: skip
    _table(rows, ("scan rate [V/s]", "theta", "F/g of dry sheets", "asymmetry", "cell [V/s]"))
    low, high = (100 * c for c in CARBON_CAPACITANCE)
    typer.echo(
        f"C_slit is {100 * film.wall_capacitance:.3g} uF/cm^2 of wall; measured carbons have "
        f"{low:g} to {high:g}, and F/g is as much larger (a Stern layer in the case lowers "
        f"it). Misfit of R_c (1 - gamma |Q|/Q_max) to the cell: {film.cell.residual:.1%}"
    )
    typer.echo("valid for: " + "; ".join(VALIDITY))


def _cell(path: Path, result: Path | None, case: str | None, voltage: str) -> CellParameters:
    """Return the cell's parameters, with the numbers of a law if one is given."""
    import numpy as np

    from nanoslit.circuit.material import cell_parameters

    if path.suffix.lower() != ".json":
        return cell_parameters(path, voltage)
    from nanoslit.circuit.film import with_law
    from nanoslit.circuit.laws import law_from

    law = law_from(path, case, None)
    if result is None:
        raise CaseError(
            f"{path}: a law holds no geometry and no capacitance; add --result RESULT.h5 of "
            "the cell that it belongs to"
        )
    form = law.linear
    scale_of = (
        None if form is None else (law.bulk_charge if form[0].startswith("X_") else law.q_max)
    )
    if form is None or scale_of is None:
        raise CaseError(
            f"{path}: only a law R_c (1 - gamma |Q|/Q_max) can be scaled; this one is "
            f"{law.expression!r}. Scale the result itself: nanoslit scale RESULT.h5"
        )
    numbers = {k: float(np.asarray(v)) for k, v in law.constants.items()}
    r_c, gamma = (float(x.subs({n: numbers[str(n)] for n in x.free_symbols})) for x in form[1:])
    kind = "mid" if law.voltage.startswith("mid") else "electrochemical"
    return with_law(cell_parameters(result, kind), r_c, gamma, float(np.asarray(scale_of)))
