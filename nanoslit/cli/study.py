"""Commands ``study`` and ``report``: the whole chain, and the page that shows it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from nanoslit.cli import app

__all__ = ["report", "study"]


@app.command()
def study(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", show_default=False)],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Folder of the study; an existing one is continued.",
        ),
    ],
    evaluations: Annotated[int | None, typer.Option(help="Budget of the law search.")] = None,
    seed: Annotated[int | None, typer.Option(help="Key of the random numbers.")] = None,
    ranks: Annotated[int | None, typer.Option(help="MPI ranks of the search.")] = None,
    samples: Annotated[int | None, typer.Option(help="Circuits of the explorer.")] = None,
) -> None:
    """Sweep, law, circuits against the solved cells, design space, claims, report.

    Options replace those of the plan's table 'study'. Ended at any point (a signal gives
    exit code 85), the same command continues.
    """
    from nanoslit.study.pipeline import run_study

    given: dict[str, int | None] = {
        "evaluations": evaluations, "seed": seed, "ranks": ranks, "samples": samples
    }  # fmt: skip
    _print(run_study(plan, output, given, typer.echo))


def _print(found: dict[str, Any]) -> None:
    typer.echo(f"\nlaw found: trans-slit voltage = {found['law']}")
    for key in ("verdict", "remark"):
        if found.get(key):
            typer.echo(f"  {found[key]}")
    typer.echo("\nfit of R_c (1 - gamma |Q|/Q_max) to all openings, and circuit against cell:")
    cells = found["cells"]
    names = list(dict.fromkeys(n for c in cells for n in c["outcomes"]))
    width = max([9, *map(len, names)])
    typer.echo(
        "  d/nm  R_c/(Ohm m)  gamma   misfit | " + "  ".join(f"{n:>{width}}" for n in names)
    )
    for c in cells:
        pooled = c["parameters"]["pooled"]
        numbers = "  ".join(
            f"{_percent(c['outcomes'].get(n, {}).get('deviation')):>{width}}" for n in names
        )
        typer.echo(
            f"  {c['slit_size'] * 1e9:4.3g}  {pooled['r_c']:11.4g}  {pooled['gamma']:5.3f}  "
            f"{_percent(pooled['residual']):>7} | {numbers}"
        )
    typer.echo("  (L2 norm over the last cycle; refitted circuits were fitted to this curve)")
    words = [c["verdict"] for c in found["claims"]]
    counts = ", ".join(f"{w}: {words.count(w)}" for w in dict.fromkeys(words))
    typer.echo(f"\nclaims of the paper: {counts}")
    state = "everything was cached" if not found["computed"] else "done"
    typer.echo(f"\n{state}; report: {found['report']}")


def _percent(value: float | None) -> str:
    known = value is not None and math.isfinite(value)
    return f"{100 * (value or 0.0):.2f} %" if known else "none"


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
) -> None:
    """Write the report of a finished study anew."""
    from nanoslit.report import write_report

    typer.echo(f"wrote {write_report(folder)}")
