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
    from nanoslit.findings.verdict import FAILS, HOLDS, IN_PART, NOT_TESTED
    from nanoslit.study.compare import MODELS

    typer.echo(f"\nlaw found: trans-slit voltage = {found['law']}")
    for key in ("verdict", "remark"):
        if found.get(key):
            typer.echo(f"  {found[key]}")
    cells = found["cells"]
    measured = {n["labels"]["slit_size"]: n["numbers"] for n in found["numbers"]}
    numbers = [measured[c["slit_size"]] for c in cells]
    rows = {
        "R_c [Ohm m]": [_bar(n["r_c:counterion"]) for n in numbers],
        "gamma": [_bar(n["gamma:counterion"]) for n in numbers],
        "voltage missed": [_percent(n["misfit:counterion"]["value"]) for n in numbers],
    }
    sizes = [f"{c['slit_size'] * 1e9:.3g} nm" for c in cells]
    typer.echo(
        "\nR_c (1 - gamma |Q|/Q_max), potential of the counter-ions, mean over the openings:"
    )
    _echo_rows({"slit size": sizes, **rows})
    names = list(dict.fromkeys(n for c in cells for n in c["outcomes"]))
    off = {
        n: [_percent(c["outcomes"].get(n, {}).get("deviation")) for c in cells] for n in names
    }
    typer.echo(
        "\nhow far the current of each circuit is off the solved one (L2 norm, last cycle):"
    )
    _echo_rows({"circuit": sizes, **off}, MODELS)
    words = [c["verdict"] for c in found["claims"]]
    order = (HOLDS, IN_PART, FAILS, NOT_TESTED)
    counts = ", ".join(f"{words.count(w)} {w}" for w in order if w in words)
    typer.echo(f"\nclaims of the paper: {counts}")
    state = "everything was cached" if not found["computed"] else "done"
    typer.echo(f"\n{state}; report: {found['report']}")


def _echo_rows(rows: dict[str, list[str]], meaning: dict[str, str] | None = None) -> None:
    """Print a table: a line for each name, a column for each slit size."""
    names = max(map(len, rows))
    width = max(len(text) for row in rows.values() for text in row)
    for name, row in rows.items():
        line = f"  {name:<{names}}  " + "  ".join(f"{text:>{width}}" for text in row)
        typer.echo(f"{line}  {(meaning or {}).get(name, '')}".rstrip())


def _bar(number: dict[str, float]) -> str:
    total = math.hypot(number["error"], number["common"])
    return f"{number['value']:.3g} +- {total:.1g}"


def _percent(value: float | None) -> str:
    known = value is not None and math.isfinite(value)
    return f"{100 * (value or 0.0):.2f} %" if known else "-"


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False)],
) -> None:
    """Write the report of a finished study anew."""
    from nanoslit.report import write_report

    typer.echo(f"wrote {write_report(folder)}")
