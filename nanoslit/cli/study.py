"""Commands ``study`` and ``report``: the whole chain, and the page that shows it."""

from __future__ import annotations

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
    evaluations: Annotated[int, typer.Option(help="Budget of the law search.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Key of the search's random numbers.")] = 1,
    ranks: Annotated[int, typer.Option(help="MPI ranks of the search.")] = 2,
    samples: Annotated[int, typer.Option(help="Circuits of the explorer.")] = 1024,
) -> None:
    """Sweep, law, circuits against the solved cells, design space, report."""
    from nanoslit.study.pipeline import run_study, settings_of

    given: dict[str, int | None] = {
        "evaluations": evaluations, "seed": seed, "ranks": ranks, "samples": samples
    }  # fmt: skip
    _print(run_study(plan, output, settings_of(given), typer.echo))


def _print(found: dict[str, Any]) -> None:
    typer.echo(f"\nlaw found: trans-slit voltage = {found['law']}")
    typer.echo(f"  {found['verdict']}")
    if found["remark"]:
        typer.echo(f"  {found['remark']}")
    typer.echo("\nfit of R_c (1 - gamma |Q|/Q_max) to all openings, and circuit against cell:")
    names = [k for k in found["models"] if k in found["cells"][0]["outcomes"]]
    typer.echo("  d/nm  R_c/(Ohm m)  gamma   misfit | " + "  ".join(f"{n:>13}" for n in names))
    for c in found["cells"]:
        pooled = c["parameters"]["pooled"]
        numbers = "  ".join(f"{100 * c['outcomes'][n]['deviation']:>11.2f} %" for n in names)
        typer.echo(
            f"  {c['slit_size'] * 1e9:4.3g}  {pooled['r_c']:11.4g}  {pooled['gamma']:5.3f}  "
            f"{100 * pooled['residual']:5.1f} % | {numbers}"
        )
    typer.echo("  (L2 norm over the last cycle; refitted circuits were fitted to this curve)")
    state = "everything was cached" if not found["computed"] else "done"
    typer.echo(f"\n{state}; report: {found['report']}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
) -> None:
    """Write the report of a finished study anew."""
    from nanoslit.report import write_report

    typer.echo(f"wrote {write_report(folder)}")
