"""Commands on batch jobs: write and submit scripts for SLURM and PBS."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanoslit.cli import app
from nanoslit.cli.options import quantity, shared
from nanoslit.errors import CaseError, LaunchError

if TYPE_CHECKING:
    from nanoslit.job.kinds import Wish
    from nanoslit.job.script import Job
    from nanoslit.job.site import Site
    from nanoslit.sweep.plan import Plan

__all__ = ["job"]

job = typer.Typer(
    help="Batch jobs on a cluster: write a script, print or submit it.", no_args_is_help=True
)
app.add_typer(job, name="job")

PASSES_ON = {"ignore_unknown_options": True}

Output = Annotated[Path, typer.Option("--output", "-o", show_default=False)]
Plans = Annotated[Path, typer.Argument(metavar="PLAN.toml", show_default=False)]
Mode = Annotated[
    str,
    typer.Option(
        metavar="allocation|dask",
        help="One allocation with many solves, or worker jobs submitted by Dask.",
    ),
]


@dataclass(frozen=True)
class _Asked:
    """What is wished of a job, where it is to run, and what to do with its script."""

    site: Site
    wish: Wish
    submit: bool
    show: bool


def _asked(
    ranks: Annotated[
        int | None, typer.Option(help="MPI ranks; cores of a sweep. By default from the mesh.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="Of one rank, such as '2 GB'.")
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Limit of one attempt, such as '4 h'.")
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: $NANOSLIT_SITE, jobs/site.env."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="slurm|pbs", help="By default the site's.")
    ] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Write and submit.")] = False,
    show: Annotated[bool, typer.Option("--print", help="Print, write nothing.")] = False,
) -> Any:
    """Return what every job is asked for."""
    from nanoslit.job.kinds import Wish
    from nanoslit.job.site import read_site

    if submit and show:
        raise CaseError("--submit and --print are both given; keep one of them")
    wish = Wish(
        ranks,
        None if memory is None else quantity("--memory", memory, "byte"),
        None if time is None else quantity("--time", time, "s"),
    )
    return _Asked(read_site(site, scheduler), wish, submit, show)


asks = shared("asked", _asked)


def _mode(mode: str) -> str:
    if mode not in ("allocation", "dask"):
        raise CaseError(f"--mode {mode}: is neither allocation nor dask")
    return mode


def _plan(path: Path) -> Plan:
    """Return a plan whose points are all possible."""
    from nanoslit.sweep.plan import read_plan
    from nanoslit.sweep.points import Points, check_points

    plan = read_plan(path)
    check_points(Points(plan))
    return plan


def _finish(
    jobs: list[Job], scripts: list[Path], asked: _Asked, first: Path | None = None
) -> None:
    """Print, or write and perhaps submit scripts (``first`` submits them all)."""
    from nanoslit import atomic
    from nanoslit.job.script import quoted, submission, text_of

    site, here = asked.site, str(Path.cwd())
    texts = {
        path: text_of(one, site, str(path.absolute()), here)
        for one, path in zip(jobs, scripts, strict=True)
    }
    if first is not None:
        title = f"Submits the jobs of this folder:  bash {quoted([str(first)])}"
        paths = [str(path.absolute()) for path in scripts]
        texts[first] = submission(paths, site, title)
    if asked.show:
        for path, text in texts.items():
            typer.echo(f"# --- {path}" if len(texts) > 1 else text, nl=len(texts) > 1)
            if len(texts) > 1:
                typer.echo(text)
        return
    for one in jobs:
        Path(one.log or ".").mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, text)
    words = ["bash", str(first)] if first else [_submitter(site), str(scripts[0])]
    if asked.submit:
        _submit(words)
    else:
        typer.echo(f"wrote {', '.join(map(str, texts))}; submit with: {quoted(words)}")


def _submitter(site: Site) -> str:
    return "sbatch" if site.scheduler == "slurm" else "qsub"


def _submit(words: list[str]) -> None:
    import subprocess

    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError:
        raise LaunchError(
            f"{words[0]} is not on the PATH; log in to the cluster's front end, or use --print"
        ) from None
    except subprocess.TimeoutExpired:
        raise LaunchError(f"{shlex.join(words)}: no answer within 120 s") from None
    if done.returncode:
        raise LaunchError(f"{shlex.join(words)}: {(done.stderr or done.stdout).strip()}")
    typer.echo(done.stdout.strip())


@job.command()
@asks
def solve(
    cases: Annotated[list[Path], typer.Argument(metavar="CASE.toml...", show_default=False)],
    output: Output,
    *,
    asked: _Asked,
) -> None:
    """Solve a case on many ranks into RESULT.h5, or several in an array into a folder."""
    from nanoslit.casefile import read_case
    from nanoslit.job.kinds import solve_job

    read = [read_case(path) for path in cases]
    made = solve_job(read, [str(p) for p in cases], str(output), asked.site, asked.wish)
    script = output / "solve.job.sh" if len(cases) > 1 else output.with_suffix(".job.sh")
    _finish([made], [script], asked)


@job.command()
@asks
def sweep(
    plan: Plans,
    output: Output,
    mode: Mode = "allocation",
    *,
    asked: _Asked,
) -> None:
    """Compute the points of a plan into a sweep's folder."""
    from nanoslit.job.kinds import sweep_job

    made = sweep_job(_plan(plan), str(plan), str(output), asked.site, asked.wish, _mode(mode))
    script = output.with_name(f"{output.name}.job.sh")
    _finish([made], [script], asked)


@job.command(context_settings=PASSES_ON)
@asks
def discover(
    results: Annotated[
        list[str],
        typer.Argument(
            metavar="RESULT.h5...", show_default=False,
            help="And options of 'nanoslit discover', which are passed on.",
        ),
    ],
    output: Output = Path("LAW.json"),
    *,
    asked: _Asked,
) -> None:  # fmt: skip
    """Search for the law behind result files, on islands spread over the ranks."""
    from nanoslit.job.kinds import discover_job
    from nanoslit.job.script import quoted

    for word in results:
        if word.endswith(".h5") and not Path(word).exists():
            raise CaseError(f"{word}: no such file")
    made = discover_job(quoted(results), str(output), asked.site, asked.wish)
    script = output.with_suffix(".job.sh")
    _finish([made], [script], asked)


@job.command()
@asks
def pipeline(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="PLAN.toml|CASE.toml...", show_default=False)
    ],
    output: Output,
    mode: Mode = "allocation",
    explore: Annotated[
        Path | None,
        typer.Option(metavar="STUDY.toml", help="Of the explorer; by default slit size and "
                     "theta over the cells."),
    ] = None,
    discover_options: Annotated[
        str, typer.Option("--discover", metavar="OPTIONS", help="More options of discover.")
    ] = "",
    *,
    asked: _Asked,
) -> None:  # fmt: skip
    """Solve, then discover, then explore: three jobs, each waiting for the one before.

    A plan is solved by a sweep, several cases by an array.
    """
    from nanoslit.casefile import read_case
    from nanoslit.job.pipeline import pipeline_of_cases, pipeline_of_plan
    from nanoslit.job.script import quoted

    if explore is not None and not explore.is_file():
        raise CaseError(f"--explore {explore}: no such file")
    try:
        more = quoted(shlex.split(discover_options))
    except ValueError as error:
        raise CaseError(f"--discover {discover_options!r}: {error}") from None
    study = None if explore is None else str(explore)
    if _is_plan(inputs):
        made = pipeline_of_plan(
            _plan(inputs[0]),
            str(inputs[0]),
            str(output),
            asked.site,
            asked.wish,
            _mode(mode),
            study,
            more,
        )
    else:
        cases = [read_case(path) for path in inputs]
        paths = [str(path) for path in inputs]
        made = pipeline_of_cases(cases, paths, str(output), asked.site, asked.wish, study, more)
    folder = output / "jobs"
    names = ("1-solve.sh", "2-discover.sh", "3-explore.sh")
    scripts = [folder / name for name in names]
    _finish(made, scripts, asked, folder / "submit.sh")


def _is_plan(paths: list[Path]) -> bool:
    """Whether one plan is given, not cases."""
    if len(paths) != 1:
        return False
    try:
        document: dict[str, Any] = tomllib.loads(paths[0].read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # read_case says what is wrong
    return bool({"axes", "zip", "sample", "base", "case"} & document.keys())


@job.command(hidden=True)
def cells(inputs: list[Path], output: Output) -> None:
    """Name the results of a pipeline, and write its study file (called by its scripts)."""
    from nanoslit.casefile import read_case
    from nanoslit.job.pipeline import cells_of_plan, write_explore
    from nanoslit.sweep.points import Points

    if _is_plan(inputs):
        points = Points(_plan(inputs[0]))
        links = cells_of_plan(points.plan, output)
        cases = [points.case(i) for i in range(len(points))]
    else:
        cases = [read_case(path) for path in inputs]
        links = [output / "cells" / f"{path.stem}.h5" for path in inputs]
    write_explore(cases, links, output / "explore.toml")


@job.command(context_settings=PASSES_ON)
def attempt(
    words: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", show_default=False)],
    ranks: Annotated[int, typer.Option(help="Of an MPI program (run, discover).")] = 1,
    stop_after: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Ask for a checkpoint then.")
    ] = None,
    script: Annotated[
        str, typer.Option(metavar="FILE", help="PBS: submitted again after a checkpoint.")
    ] = "",
) -> None:
    """Run a command of nanoslit inside a job, up to the time limit; then requeue the job.

    SIGUSR1 asks for a checkpoint, too. Exit codes: those of the command; 85 when the job
    has to be submitted again by hand.
    """
    from nanoslit.job.attempt import Attempt, run_attempt

    raise typer.Exit(run_attempt(Attempt(words, ranks, stop_after, script)))


@job.command(hidden=True)
def examples(root: Annotated[Path, typer.Argument()] = Path()) -> None:
    """Write the scripts of ``jobs/`` anew (for developers, in a checkout)."""
    from nanoslit import atomic
    from nanoslit.job.examples import example_scripts

    for path, text in example_scripts(root).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(root / path, text)
        typer.echo(f"wrote {root / path}")
