"""Commands on sweeps, from plan to report."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanoslit.cli import app

if TYPE_CHECKING:
    from nanoslit.sweep.cluster import Where
    from nanoslit.sweep.engine import Outcome, Service

__all__ = ["sweep"]

sweep = typer.Typer(
    help="Many cases: plan, compute, watch, resume, collect.", no_args_is_help=True
)
app.add_typer(sweep, name="sweep")

_LOG_EVERY = 60.0  # seconds between lines where no terminal shows them

PlanPath = Annotated[Path, typer.Argument(metavar="PLAN.toml", show_default=False)]
Dir = Annotated[Path, typer.Argument(metavar="DIR", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Workers = Annotated[
    int | None,
    typer.Option(help="Points at a time (SLURM: jobs); default: the plan's, or cores."),
]
Cluster = Annotated[
    str | None, typer.Option(metavar="local|slurm", help="Where workers come from.")
]
SchedulerFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Use the Dask scheduler that wrote this file."),
]
Address = Annotated[
    str | None, typer.Option(metavar="TCP", help="Use the Dask scheduler at this address.")
]
Dashboard = Annotated[bool, typer.Option("--dashboard", help="Serve Dask's dashboard locally.")]


def _where(
    plan_cluster: str,
    cluster: str | None,
    workers: int | None,
    scheduler_file: Path | None,
    address: str | None,
    dashboard: bool,
) -> Where:
    from nanoslit.errors import SweepError
    from nanoslit.sweep.cluster import Where

    chosen = cluster or plan_cluster
    if chosen not in ("local", "slurm"):
        raise SweepError(f"--cluster {chosen}: is neither local nor slurm")
    if scheduler_file and address:
        raise SweepError("--scheduler-file and --address are both given; keep one of them")
    if workers is not None and workers < 1:
        raise SweepError(f"--workers {workers} must be at least 1")
    return Where(chosen, workers, scheduler_file, address, dashboard)


@sweep.command()
def plan(
    path: PlanPath,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Compare with what is done in this folder."
        ),
    ] = None,
    as_json: Json = False,
    cluster: Cluster = None,
) -> None:
    """Check a plan and say what it would cost; nothing is started or written."""
    from nanoslit.sweep.dryrun import dry_run, render
    from nanoslit.sweep.plan import read_plan

    read = read_plan(path)
    where = _where(read.execution.cluster, cluster, None, None, None, False)
    facts = dry_run(read, output, where.cluster)
    typer.echo(json.dumps(facts) if as_json else render(facts))


@sweep.command()
def run(
    path: PlanPath,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            show_default=False,
            help="Folder of the sweep; may hold other plans.",
        ),
    ],
    workers: Workers = None,
    cluster: Cluster = None,
    scheduler_file: SchedulerFile = None,
    address: Address = None,
    dashboard: Dashboard = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Like plan.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
) -> None:
    """Compute the points of a plan that are not done yet.

    Exit codes: 0 all done, 1 some failed or paused, 2 wrong input, 85 stopped on request.
    """
    from nanoslit.sweep import control
    from nanoslit.sweep.plan import read_plan

    if dry_run:
        plan(path, output, cluster=cluster)
        return
    read = read_plan(path)
    where = _where(read.execution.cluster, cluster, workers, scheduler_file, address, dashboard)
    if detach:
        control.check(read)
        _detach(output, ["run", str(path), "-o", str(output)], where)
        return
    _end(lambda: control.run(read, output, where, _Progress(output)), output)


@sweep.command()
def resume(
    folder: Dir,
    workers: Workers = None,
    cluster: Cluster = None,
    scheduler_file: SchedulerFile = None,
    address: Address = None,
    dashboard: Dashboard = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
    name: Annotated[str | None, typer.Option("--plan", help="Name of a plan.")] = None,
) -> None:
    """Go on with an interrupted sweep; returns when it is finished."""
    from nanoslit.sweep import control

    where = _folder_where(folder, cluster, workers, scheduler_file, address, dashboard)
    if detach:
        words = ["resume", str(folder), *(["--plan", name] if name else [])]
        _detach(folder, words, where)
        return
    _end(lambda: control.resume(folder, where, _Progress(folder), name), folder)


@sweep.command()
def retry(
    folder: Dir,
    kind: Annotated[
        str | None, typer.Option(help="Only failures of this kind, such as divergence.")
    ] = None,
    workers: Workers = None,
    cluster: Cluster = None,
    scheduler_file: SchedulerFile = None,
    address: Address = None,
) -> None:
    """Compute failed, quarantined and cancelled points again."""
    from nanoslit.sweep import control

    where = _folder_where(folder, cluster, workers, scheduler_file, address, False)
    _end(lambda: control.retry(folder, where, _Progress(folder), kind=kind), folder)


def _folder_where(
    folder: Path,
    cluster: str | None,
    workers: int | None,
    scheduler_file: Path | None,
    address: str | None,
    dashboard: bool,
) -> Where:
    """Take the cluster of the plan used last unless the command line says otherwise."""
    from nanoslit.sweep.folder import Folder
    from nanoslit.sweep.plan import read_plan

    plans = Folder.open(folder).plans()
    default = read_plan(plans[-1]).execution.cluster if plans else "local"
    return _where(default, cluster, workers, scheduler_file, address, dashboard)


@sweep.command()
def status(
    folder: Dir,
    as_json: Json = False,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="End with 0 all done, 1 failures, 3 not finished."),
    ] = False,
) -> None:
    """Say how far a sweep is."""
    from nanoslit.sweep.status import sweep_status

    facts = sweep_status(folder)
    typer.echo(json.dumps(facts) if as_json else _status_text(facts))
    if exit_code:
        raise typer.Exit(_status_code(facts))


def _status_code(facts: dict[str, Any]) -> int:
    if any(facts[s] for s in ("planned", "queued", "running", "checkpointed")):
        return 3
    return 1 if facts["failed"] or facts["quarantined"] else 0


def _status_text(facts: dict[str, Any]) -> str:
    from nanoslit.sweep.catalogue import STATES

    owner = facts["owner"]
    who = (
        f"process {owner.get('pid')} on {owner.get('host')}" if owner else "no service at work"
    )
    lines = [f"plan {facts['plan']}: {facts['total']} points, {who}"]
    lines += [f"  {name:12} {facts[name]:8}" for name in STATES if facts[name]]
    lines += [f"    failed by {kind or 'unknown'}: {n}" for kind, n in facts["kinds"].items()]
    lines.append(
        f"  core-hours   {facts['core_hours_spent']:8.3g} spent, "
        f"{facts['core_hours_left']:.3g} left"
    )
    if facts["eta_s"]:
        lines.append(f"  ETA          {_duration(facts['eta_s'])}")
    if facts["reason"]:
        lines.append(f"  paused: {facts['reason']}")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"


@sweep.command()
def watch(
    folder: Dir,
    every: Annotated[float, typer.Option(help="Seconds between looks.")] = 2.0,
) -> None:
    """Follow a sweep until no service works on it; exit code as status --exit-code."""
    from nanoslit.sweep.status import sweep_status

    live = sys.stdout.isatty()
    told = -math.inf
    while True:
        facts = sweep_status(folder)
        over = facts["owner"] is None
        if live or over or time.monotonic() - told > _LOG_EVERY:
            told = time.monotonic()
            text = _status_text(facts)
            for beat in facts["at_work"]:
                text += f"\n    {beat['key'][:12]}  {100 * beat.get('share', 0):5.1f} %"
            typer.echo(("\x1b[2J\x1b[H" if live else "") + text)
        if over:
            raise typer.Exit(_status_code(facts))
        time.sleep(max(every, 0.1))


@sweep.command()
def cancel(folder: Dir) -> None:
    """Cancel every point that is not finished (checkpoints stay; retry takes them up)."""
    from nanoslit.sweep.control import cancel as cancel_sweep

    n = cancel_sweep(folder)
    typer.echo(f"{folder}: {n} points cancelled; `nanoslit sweep retry {folder}` takes them up")


@sweep.command()
def verify(
    folder: Dir,
    quick: Annotated[bool, typer.Option("--quick", help="Sizes only.")] = False,
    as_json: Json = False,
) -> None:
    """Re-read every result; damaged ones are put aside and planned again."""
    from nanoslit.sweep.control import verify_sweep

    facts = verify_sweep(folder, deep=not quick)
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        for item in facts["damaged"]:
            typer.echo(f"{item['key'][:12]}: {item['reason']}")
        typer.echo(
            f"{folder}: {facts['good']} of {facts['checked']} results are good"
            + (
                f"; compute the others with `nanoslit sweep resume {folder}`"
                if facts["damaged"]
                else ""
            )
        )
    if facts["damaged"]:
        raise typer.Exit(1)


@sweep.command()
def collect(
    folder: Dir,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.h5", help="By default DIR/collected/sweep.h5."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--plan", help="Name of a plan.")] = None,
) -> None:
    """Put the observables of all points into one HDF5/netCDF4 file, CSV and Parquet."""
    from nanoslit.sweep.collect import collect as collect_sweep

    for path in collect_sweep(folder, output, name):
        typer.echo(f"wrote {path}")


@sweep.command()
def report(
    folder: Dir,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="By default DIR/report.html."),
    ] = None,
) -> None:
    """Write one HTML page: states, failures with logs, voltammograms, cost."""
    from nanoslit.sweep.report import write_report

    typer.echo(f"wrote {write_report(folder, output)}")


@sweep.command(hidden=True)
def serve(
    solver: Annotated[str, typer.Option()] = "nanoslit.sweep.serve:solve",
) -> None:
    """Compute points that a worker hands over (started by the service itself)."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from nanoslit.sweep.serve import serve as serve_points

    serve_points(solver)


class _Progress:
    """Live line on a terminal; a line a minute elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.live = sys.stderr.isatty()
        self.folder, self.last = folder, 0.0
        self.first = True

    def __call__(self, service: Service) -> None:
        """Show the counts."""
        now = time.monotonic()
        if not self.first and now - self.last < (0.5 if self.live else _LOG_EVERY):
            return
        self.first, self.last = False, now
        counts = service.catalogue.counts(service.plan)
        shown = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
        text = f"{self.folder}: {shown}"
        if self.live:
            sys.stderr.write(f"\r\x1b[K{text}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()


def _end(work: Callable[[], Outcome], folder: Path) -> None:
    """Let the service work, say how it ended and leave with its exit code."""
    from nanoslit.sweep.engine import Outcome, say

    try:
        outcome = work()
    except KeyboardInterrupt:  # before the first or between two rounds of solves
        outcome = Outcome(stopped=True)
    shown = ", ".join(f"{n} {name}" for name, n in outcome.counts.items() if n)
    if shown:
        say(f"{chr(10) if sys.stderr.isatty() else ''}{folder}: {shown}")
    if outcome.reason:
        say(f"paused: {outcome.reason}")
    if outcome.stopped:
        say(f"stopped; go on with `nanoslit sweep resume {folder}`")
    elif outcome.exit_code == 0:
        say(f"next: nanoslit sweep collect {folder}")
    elif not outcome.reason:
        say(f"failures: nanoslit sweep report {folder}; again: nanoslit sweep retry {folder}")
    raise typer.Exit(outcome.exit_code)


def _detach(root: Path, words: list[str], where: Where) -> None:
    """Start the same command in the background, free of this terminal.

    Returns when the service owns the folder; if it ends before, its last words are told.
    """
    import subprocess

    from nanoslit.errors import SweepError
    from nanoslit.sweep.folder import Folder
    from nanoslit.sweep.owner import Ownership, owner_of

    options = ["--cluster", where.cluster]
    options += ["--workers", str(where.workers)] if where.workers else []
    options += ["--address", where.address] if where.address else []
    options += ["--scheduler-file", str(where.scheduler_file)] if where.scheduler_file else []
    options += ["--dashboard"] if where.dashboard else []
    folder = Folder.create(root)
    with Ownership(folder):  # refused here, where the user sees it
        pass
    log = folder.run / "service.log"
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "nanoslit", "sweep", *words, *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    while (owner_of(root) or {}).get("pid") != child.pid:
        code = child.poll()
        if code is not None:
            told = log.read_bytes()[begin:].decode(errors="replace").strip()
            if code:
                raise SweepError(f"the service ended with {code}:\n{told}")
            typer.echo(told)
            return
        time.sleep(0.05)
    typer.echo(f"process {child.pid} works on {root}; its log is {log}")
