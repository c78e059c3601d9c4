"""Commands on result files: ``show``, ``plot``, ``export``, ``verify``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanoslit.cli import app
from nanoslit.cli.options import require_free

if TYPE_CHECKING:
    from nanoslit.results.basis import Basis

__all__ = ["export", "plot", "show", "verify"]

ResultPath = Annotated[Path, typer.Argument(metavar="RESULT.h5", show_default=False)]
Per = Annotated[
    str,
    typer.Option(
        "--per", metavar="BASIS", help="depth, area, volume, mass or surface (of the wall)."
    ),
]


@app.command()
def show(
    path: ResultPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    per: Per = "depth",
) -> None:
    """Summarise a result: CV area, capacitance, law of every opening, balances, cost."""
    from nanoslit.atomic import json_text
    from nanoslit.results.basis import basis
    from nanoslit.results.files import read_case_of, read_summary

    summary = read_summary(path)
    case = read_case_of(path)
    chosen = basis(case, per)
    summary["per"] = {
        "basis": per,
        "label": chosen.label,
        "factor": chosen.factor,
        **{
            name: {"value": _scaled(summary[name], chosen), "unit": chosen.unit(symbol)}
            for name, symbol in _EXTENSIVE.items()
        },
    }
    if as_json:
        typer.echo(json_text(summary, indent=1))
        return
    _print(path, summary, chosen)
    if per != "depth" and case.electrode.stern_capacitance is None:
        typer.echo(
            f"no Stern layer: charges per {per} are several times those of real electrodes; "
            "give electrode.stern_capacitance"
        )


_EXTENSIVE = {
    "capacitance": "F",
    "largest_charge": "C",
    "largest_current": "A",
    "cv_area": "W",
    "dissipated_energy": "J",
}


def _scaled(value: float | None, chosen: Basis) -> float | None:
    return None if value is None else value * chosen.factor


def _print(path: Path, summary: dict[str, Any], chosen: Basis) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False)
    for heading in ("quantity", "value", "meaning"):
        table.add_column(heading, overflow="fold")
    for row in _rows(summary, chosen):
        table.add_row(*row)
    console.print(table)
    for title, block in (
        ("Openings, potential at the middle of the slits", "openings"),
        ("Openings, electrochemical potential", "openings_electrochemical"),
    ):
        for side in ("", "_negative"):
            if summary.get(block + side):
                console.print(_openings(title + side.replace("_", ", "), summary[block + side]))
    if any(row["r_min"] <= 0 for row in summary["openings"]):
        console.print("R_max and R_min spike where the current reverses: voltage lags behind")
    if summary["flux_parts"]:
        console.print(_fluxes(summary["flux_parts"], summary["open_space_distances"]))
    typer.echo(
        f"{path}: case {summary['name']!r}, key "
        f"{summary['provenance'].get('content_key', '')[:12]}"
    )


def _rows(s: dict[str, Any], chosen: Basis) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and meaning of every number of the run."""

    def value(name: str) -> str:
        number = _scaled(s[name], chosen)
        unit = chosen.unit(_EXTENSIVE[name])
        return "not a cyclic voltammetry" if number is None else f"{number:.5g} {unit}"

    yield "values", chosen.label, f"cycle {s['cycle']}, {s['steps']} steps"
    yield "capacitance", value("capacitance"), "CV area / (2 scan rate window)"
    yield "CV area", value("cv_area"), "closed integral of I dphi; not an energy"
    yield "dissipated energy", value("dissipated_energy"), "closed integral of phi dQ"
    yield "largest charge", value("largest_charge"), "on the electrode"
    yield "largest current", value("largest_current"), "into the electrode"
    b = s["balances"]
    yield (
        "current balance",
        f"{b['current_mismatch_relative']:.2g}",
        "largest difference between cuts / largest current",
    )
    yield (
        "ion balance",
        f"{b['ion_mismatch_relative']:.2g}",
        "largest error of ion conservation / largest current",
    )
    c, p = s["cost"], s["provenance"]
    yield (
        "cost",
        f"{c['wall_time']:.1f} s",
        f"{c['accepted']} steps, "
        f"{c['rejected_error'] + c['rejected_newton']} rejected, "
        f"{c['newton_iterations']} Newton, {c['factorisations']} factorisations, "
        f"{p['mesh_nodes']} nodes, {p['ranks']} rank(s)",
    )
    yield "accuracy", s["provenance"]["error_estimate"], ""


def _openings(title: str, rows: list[dict[str, float]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    heads = {
        "r_c": "R_c",
        "gamma": "gamma",
        "r2": "R2",
        "r_max": "R_max",
        "r_min": "R_min",
        "resistivity_max": "rho_max",
        "resistivity_min": "rho_min",
    }
    table.add_column("opening")
    for key, text in heads.items():
        table.add_column(text + ("" if key in ("gamma", "r2") else " [Ohm m]"))
    for k, row in enumerate(rows, 1):
        table.add_row(str(k), *(f"{row[key]:.4g}" for key in heads))
    return table


def _fluxes(parts: dict[str, Any], distances: list[float]) -> Any:
    """Return the table of mean current parts: which way each drives the current."""
    from rich.table import Table

    table = Table(
        title="Mean current parts while the potential rises [A/m]",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for heading in ("where", "migration", "diffusion", "steric"):
        table.add_column(heading)
    half = parts.get("rising") or parts["falling"]
    names = {
        "open_space_current": "open space,",
        "mouth_current": "mouth",
        "opening_current": "opening",
        "slit_current": "slit",
    }
    for name, text in names.items():
        columns = [
            half.get(f"{name}_{part}_excess", half.get(f"{name}_{part}"))
            for part in ("migration", "diffusion", "steric")
        ]
        if columns[0] is None:
            continue
        lists = [c if isinstance(c, list) else [c] for c in columns]
        for k, values in enumerate(zip(*lists, strict=True), 1):
            number = f" {k}" if isinstance(columns[0], list) else ""
            if name == "open_space_current":
                number = f" {1e9 * distances[k - 1]:g} nm in front"
            table.add_row(text + number, *(f"{v:+.3g}" for v in values))
    return table


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False)],
) -> None:
    """Check that result files are whole and unchanged since they were written."""
    from nanoslit.results.verify import verify_file

    for path in paths:
        typer.echo(f"{path}: {verify_file(path)}")


@app.command()
def plot(
    path: ResultPath,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FIG.png",
            show_default=False,
            help="Figure: .png, .svg or .pdf.",
        ),
    ],
    what: Annotated[
        str,
        typer.Option(help="cv, charge, fluxes, resistance, voltage or fields."),
    ] = "cv",
    per: Per = "depth",
    snapshot: Annotated[
        int | None, typer.Option(help="For fields: which snapshot, from 0.")
    ] = None,
) -> None:
    """Draw a result: CV, current parts, resistances, fields."""
    from nanoslit.plotting import simulation
    from nanoslit.plotting.files import require_ending, save

    require_ending(output)
    require_free(output, overwrite=True)
    save(simulation.plot(path, what, per, snapshot), output)
    typer.echo(f"wrote {output}")


@app.command()
def export(
    path: ResultPath,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            show_default=False,
            help="vtk (fields, for ParaView), csv or parquet.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Beside the result by default.")
    ] = None,
    per: Per = "depth",
) -> None:
    """Write the traces as a table, or the fields for ParaView."""
    from nanoslit.results import export as exporting

    typer.echo(f"wrote {exporting.export(path, to, output, per)}")
