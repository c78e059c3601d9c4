"""``nanoslit discover``: a law from result files or from any table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanoslit.cli import app
from nanoslit.errors import LawError

if TYPE_CHECKING:
    from nanoslit.discovery.law import ResistanceLaw
    from nanoslit.discovery.problem import SearchSettings
    from nanoslit.parallel import Communicator


def _words(text: str | None) -> list[str]:
    return [w.strip() for w in (text or "").split(",") if w.strip()]


def _units(text: str | None) -> dict[str, str]:
    units = {}
    for word in _words(text):
        name, sign, unit = word.partition("=")
        if not sign:
            raise LawError(f"--units {word!r} must be NAME=UNIT, for example I=A/m")
        units[name.strip()] = unit.strip()
    return units


@app.command()
def discover(
    results: Annotated[
        list[Path] | None, typer.Argument(help="Result files of 'nanoslit run'.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Law file to write.")] = Path(
        "LAW.json"
    ),
    table: Annotated[
        Path | None, typer.Option(help="A table instead: .csv, .h5 or .parquet.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to be explained.")] = None,
    features: Annotated[
        str | None, typer.Option(help="Columns that may explain it: a,b,...")
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Units of features and target: a=m,b=1,y=V")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Column naming the data set of each row.")
    ] = None,
    sigma: Annotated[
        str | None, typer.Option(help="Column with the target's uncertainty.")
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(help="Data sets (groups or result names) that only test: a,b"),
    ] = None,
    evaluations: Annotated[int, typer.Option(help="Budget.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Key of the random numbers.")] = 1,
    islands: Annotated[int, typer.Option(help="Islands (not ranks).")] = 4,
    population: Annotated[int, typer.Option(help="Individuals per island.")] = 100,
    operators: Annotated[
        str | None,
        typer.Option(
            help="Out of + - * / pow sqrt square exp log sin cos tanh sinh cosh abs cube "
            "inv, separated by blanks."
        ),
    ] = None,
    constant_units: Annotated[
        str, typer.Option(help="dimensionless, scale or free.")
    ] = "dimensionless",
    loss: Annotated[
        str, typer.Option(help="squares, or huber: outliers count less.")
    ] = "squares",
    private_constants: Annotated[
        bool, typer.Option(help="Constants may be private to each group.")
    ] = True,
    topology: Annotated[str, typer.Option(help="ring, pairs or none.")] = "ring",
    migration_interval: Annotated[
        int, typer.Option(help="Generations between migrations.")
    ] = 10,
    max_size: Annotated[int, typer.Option(help="Largest number of nodes.")] = 30,
    voltage: Annotated[
        str, typer.Option(help="From results: mid, electrochemical or counterion.")
    ] = "mid",
    charge: Annotated[str, typer.Option(help="From results: auto, q or X.")] = "auto",
    salt: Annotated[
        bool,
        typer.Option("--salt", help="From results: offer the slits' ion content, too."),
    ] = False,
    checkpoint_generations: Annotated[
        int, typer.Option(help="Checkpoint every so many generations; 0: by time only.")
    ] = 0,
    checkpoint_minutes: Annotated[
        float, typer.Option(help="Checkpoint at least this often.")
    ] = 10.0,
    max_minutes: Annotated[
        float, typer.Option(help="Stop after this time; 0 for no limit.")
    ] = 0.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace law file and checkpoint.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Find the law behind result files or a table; also under mpirun."""
    from nanoslit.discovery.problem import SearchSettings
    from nanoslit.discovery.tokens import DEFAULT_OPERATORS
    from nanoslit.parallel import raise_together, world

    comm = world()
    prepared, error = None, None
    try:
        _check_output(output, overwrite, resume)
        settings = SearchSettings(
            evaluations=evaluations,
            seed=seed,
            islands=islands,
            population=population,
            constant_units=constant_units,
            loss=loss,
            private_constants=private_constants and group is not None,
            topology=topology,
            migration_interval=migration_interval,
            max_size=max_size,
            operators=tuple(operators.split()) if operators else DEFAULT_OPERATORS,
        )
        held = _words(hold_out)
        if table is not None:
            if results:
                raise LawError("give result files or --table, not both")
            if target is None:
                raise LawError("--table needs --target, the column to be explained")
            arguments = (table, target, _words(features), _units(units), group, sigma)
            prepared = _prepare_table(settings, held, *arguments)
        else:
            prepared = _prepare_results(settings, held, results or [], voltage, charge, salt)
    except Exception as e:
        error = e
    raise_together(comm, error)
    assert prepared is not None
    folder = output.with_name(output.name + ".checkpoint")
    if comm.rank == 0 and not resume and folder.exists():
        import shutil

        shutil.rmtree(folder)
    comm.barrier()
    law = _run(
        prepared,
        comm,
        quiet,
        folder=folder,
        resume=resume,
        checkpoint_generations=checkpoint_generations,
        checkpoint_seconds=60 * checkpoint_minutes,
        seconds=60 * max_minutes,
    )
    if law is not None:
        law.to_file(output)
        _show(law, output)


def _check_output(output: Path, overwrite: bool, resume: bool) -> None:
    if not output.parent.is_dir():
        raise LawError(f"no folder {str(output.parent)!r} for the law file; create it")
    if output.exists() and not (overwrite or resume):
        raise LawError(f"{str(output)!r} exists; give --overwrite or another name with -o")


def _prepare_table(
    settings: SearchSettings,
    held: list[str],
    path: Path,
    target: str,
    features: list[str],
    units: dict[str, str],
    group: str | None,
    sigma: str | None,
) -> Any:
    from nanoslit.discovery import tables

    return tables.TableTask.from_file(
        path, settings, target, features, units, group, sigma, held
    )


def _prepare_results(
    settings: SearchSettings,
    held: list[str],
    results: list[Path],
    voltage: str,
    charge: str,
    salt: bool,
) -> Any:
    from nanoslit.discovery import tables

    if not results:
        raise LawError("nothing to read: give result files, or --table with --target")
    return tables.ResultsTask.from_files(results, settings, held, voltage, charge, salt)


def _run(task: Any, comm: Communicator, quiet: bool, **options: Any) -> ResistanceLaw | None:
    from nanoslit.cli.discover_progress import Display
    from nanoslit.discovery.islands import RESUME_CODE, StopRequest

    with StopRequest() as stop, Display(task.settings, quiet or comm.rank > 0) as display:
        law: ResistanceLaw | None = task.run(comm, stop=stop, report=display.update, **options)
        interrupted = stop.raised
    if law is not None and law.extra.get("interrupted"):
        interrupted = True
    flag = comm.broadcast_text("1" if interrupted and law is not None else "")
    if flag and (law is None or law.extra.get("interrupted")):
        if comm.rank == 0:
            print(
                "stopped by a signal; a checkpoint is written: give the same command "
                "with --resume",
                file=sys.stderr,
            )
        raise typer.Exit(RESUME_CODE)
    return law


def _show(law: ResistanceLaw, output: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(title=f"Laws for {law.target}")
    for head in ("", "complexity", "error train", "error test", "description", "law"):
        table.add_column(head, justify="left" if head in ("", "law") else "right")
    rows = [("front", f) for f in law.front]
    rows += list(law.baselines.items())
    for name, form in rows:
        chosen = "->" if form.expression == law.best.expression else name
        test = "-" if form.error_test is None else f"{form.error_test:.3e}"
        table.add_row(
            chosen,
            str(form.complexity),
            f"{form.error_train or 0.0:.3e}",
            test,
            f"{form.extra['mdl']:.1f}",
            escape(form.extra["template"] if form.cases else form.expression),
        )
    console.print(table)
    print(f"best: {law.target} = {law.best.expression}")
    print(f"{law.extra['verdict']}; {law.evaluations} evaluations; written to {output}")
