"""Command ``doctor``: what this machine has, what is missing, how to get it."""

from __future__ import annotations

from typing import Annotated

import typer

from nanoslit.cli import app

__all__ = ["doctor"]


@app.command()
def doctor(
    timeout: Annotated[
        float, typer.Option(help="Seconds to wait for the two-rank program.")
    ] = 60.0,
) -> None:
    """Check PETSc, MPI, parallel HDF5, Dask and SLURM; say how to get what is missing."""
    from rich.console import Console
    from rich.table import Table

    from nanoslit.machine import examine

    marks = {"ok": "[green]ok[/]", "missing": "[red]missing[/]", "absent": "[dim]absent[/]"}
    findings = examine(timeout)
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "found"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        table.add_row(finding.part, marks[finding.state], finding.found)
    console = Console()
    console.print(table)
    for finding in findings:
        if finding.state != "ok":
            console.print(f"{finding.part}: {finding.remedy}", highlight=False, markup=False)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)
    console.print("everything that is required is here")
