"""Commands on case files: ``new`` writes a template, ``check`` validates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nanoslit.cli import app
from nanoslit.errors import CaseError

if TYPE_CHECKING:
    from nanoslit.case import Case
    from nanoslit.estimates import Estimates

__all__ = ["check", "new"]

CasePath = Annotated[Path, typer.Argument(metavar="CASE.toml", show_default=False)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key; may be repeated."),
]


KINDS = {
    "case": "nanoslit check {}",
    "plan": "nanoslit sweep plan {}",
    "circuit": "nanoslit circuit {} -o CV.h5",
    "study": "nanoslit explore {} -o STUDY.h5",
}
"""Files that a template exists for, and what is done with them first."""


@app.command()
def new(
    path: Annotated[Path, typer.Argument(metavar="FILE.toml", show_default=False)],
    kind: Annotated[
        str,
        typer.Option(
            metavar="case|plan|circuit|study",
            help="One simulation, a sweep, one circuit, or a design study of circuits.",
        ),
    ] = "case",
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a commented case file, plan, circuit or design study to start from."""
    from importlib.resources import files

    from nanoslit.atomic import write_text

    if kind not in KINDS:
        raise CaseError(f"--kind {kind}: must be one of {', '.join(KINDS)}")
    if path.exists() and not force:
        raise CaseError(f"{path}: exists already; choose another name or add --force")
    if not path.parent.is_dir():
        raise CaseError(f"{path}: folder {path.parent} does not exist; make it first")
    template = files("nanoslit.cli").joinpath(f"{kind}_template.toml")
    write_text(path, template.read_text(encoding="utf-8"))
    typer.echo(f"wrote {path}; next: {KINDS[kind].format(path)}")


@app.command()
def check(path: CasePath, set_: Changes = None) -> None:
    """Validate a case file and print the numbers that follow from it."""
    from rich.console import Console
    from rich.table import Table

    from nanoslit.casefile import content_key, read_case
    from nanoslit.estimates import estimate

    case = read_case(path, set_ or ())
    numbers = estimate(case)
    table = Table(box=None, pad_edge=False)
    for heading in ("quantity", "value", "meaning"):
        table.add_column(heading, overflow="fold")
    for row in (*_physics_rows(case, numbers), *_mesh_rows(case)):
        table.add_row(*row)
    console = Console()
    console.print(table)
    for warning in numbers.warnings:
        console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    typer.echo(f"{path}: valid case {case.name!r}, key {content_key(case)[:12]}")


def _physics_rows(case: Case, e: Estimates) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and meaning of each derived number."""
    from nanoslit.units import format_quantity as text

    yield "Debye length", text(e.debye_length, "m", "nm"), "lambda_D"
    if e.overlap is not None:
        yield "overlap ratio", f"{e.overlap:.4g}", "2 lambda_D / d; layers overlap from 1"
    yield "steric fraction", f"{e.steric_fraction:.4g}", "nu, volume of ions in the bulk"
    yield "conductivity", text(e.conductivity, "S/m"), "bulk, ideal"
    yield (
        "wall capacitance",
        text(e.wall_capacitance, "F/m^2", "uF/cm^2"),
        "at low voltage; measured carbons: 5-20 uF/cm^2",
    )
    if e.R_c is not None and e.C_slit is not None:
        yield "R_c (estimate)", text(e.R_c, "Ohm m"), "of a slit, per depth"
        yield "C_slit (estimate)", text(e.C_slit, "F/m"), "of a slit, per depth"
    yield "RC time (estimate)", text(e.rc_time, "s"), "of a slit, or of a planar cell"
    yield "sweep time", text(e.sweep_time, "s"), "of the potential through its window"
    yield "theta (estimate)", f"{e.theta:.4g}", "N^2 RC / sweep time; slow sweep << 1"
    lo, hi = case.protocol.bounds
    yield "potential window", f"{lo:g} V to {hi:g} V", f"{case.cell} cell"


def _mesh_rows(case: Case) -> Iterator[tuple[str, str, str]]:
    """Yield the size of the mesh and the memory that a run takes."""
    from nanoslit.estimates import memory_estimate
    from nanoslit.mpnp.grid import build_grid

    grid, ions = build_grid(case), len(case.electrolyte.ions)
    nodes, solver = grid.n_nodes, case.numerics.linear_solver
    yield "cells", f"{nodes}", f"control volumes; {(ions + 1) * nodes} unknowns"
    memory = memory_estimate(nodes, ions, min(grid.node.shape), solver)
    yield "memory (estimate)", f"{memory / 1e6:.0f} MB", f"{solver} solver, one process"
