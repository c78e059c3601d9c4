"""The jobs of a case or a plan: what they run, on how many cores, with how much memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanoslit.errors import CaseError
from nanoslit.job.script import Job, quoted
from nanoslit.job.site import Site

if TYPE_CHECKING:
    from nanoslit.case import Case
    from nanoslit.sweep.plan import Plan

__all__ = ["Wish", "discover_job", "explore_job", "solve_job", "sweep_job"]

NODES_PER_RANK = 25_000
"""Mesh nodes from which one more rank is worth its communication (our choice)."""

_PROGRAM = 200e6  # of every process: interpreter and libraries [byte]
_MARGIN = 1.5  # of memory over the estimate
_SLACK = 3.0  # of time over the estimate
_EFFICIENCY = 0.7  # of ranks beyond the first
_SHORTEST = 1800.0


@dataclass(frozen=True)
class Wish:
    """What the user decides instead of the estimates.

    Parameters
    ----------
    ranks : int, optional
        Of a solve or a search; cores of a sweep.
    memory : float, optional
        Of one core [byte].
    time : float, optional
        Wall time of one attempt [s].
    """

    ranks: int | None = None
    memory: float | None = None
    time: float | None = None

    def __post_init__(self) -> None:
        if self.ranks is not None and self.ranks < 1:
            raise CaseError(f"--ranks {self.ranks} must be at least 1")
        if self.memory is not None and self.memory < 1e6:
            raise CaseError(f"--memory of {self.memory:g} byte is less than 1 MB")
        if self.time is not None and self.time < 60:
            raise CaseError(f"--time of {self.time:g} s is less than a minute")


def _limits(job: Job, wish: Wish, site: Site) -> Job:
    """Put in what the user wants, and keep within what the site allows.

    Raises
    ------
    CaseError
        If one core needs more than a node has.
    """
    time = wish.time or min(max(job.time, _SHORTEST), site.max_time)
    memory = wish.memory or 50e6 * math.ceil(job.memory / 50e6)
    if memory > site.memory:
        raise CaseError(
            f"{job.name}: {memory / 1e9:.3g} GB for one rank is more than the "
            f"{site.memory / 1e9:.3g} GB of a node (SITE_MEMORY_PER_NODE); give more --ranks"
        )
    return replace(job, time=600 * math.ceil(time / 600) if not wish.time else time,
                   memory=memory)  # fmt: skip


def _cost(case: Case) -> tuple[int, float, float]:
    """Return mesh nodes, memory [byte] and time on one core [s] of a case."""
    from nanoslit.estimates import memory_estimate
    from nanoslit.mpnp.grid import build_grid
    from nanoslit.sweep.cost import SECONDS_PER_NODE

    grid, ions = build_grid(case), len(case.electrolyte.ions)
    nodes, lines = int(grid.n_nodes), min(grid.node.shape)
    memory = memory_estimate(nodes, ions, lines, case.numerics.linear_solver)
    cycles = getattr(case.protocol, "cycles", 2)
    seconds = SECONDS_PER_NODE * nodes * max(cycles, 1) / 2
    return nodes, memory, seconds


def solve_job(
    cases: Sequence[Case], paths: Sequence[str], output: str, site: Site, wish: Wish
) -> Job:
    """Return the job that solves one case, or an array that solves several.

    Parameters
    ----------
    cases : sequence of Case
    paths : sequence of str
        Their files.
    output : str
        The result file; for several cases a folder.
    site : Site
    wish : Wish

    Raises
    ------
    CaseError
        If two cases would write the same result, or there is no array here.
    """
    costs = [_cost(case) for case in cases]
    nodes = max(cost[0] for cost in costs)
    ranks = wish.ranks or min(max(1, round(nodes / NODES_PER_RANK)), site.cores)
    seconds = max(cost[2] for cost in costs)
    job = Job(
        title="Solve one case",
        name=_name(Path(paths[0]).stem),
        command=quoted(["run", paths[0], "-o", output, "--resume"]),
        log=parent(output), tasks=ranks, ranks=ranks,
        memory=_MARGIN * max(cost[1] for cost in costs) / ranks + _PROGRAM,
        time=_SLACK * seconds / (1 + _EFFICIENCY * (ranks - 1)),
        remarks=(f"estimate: {nodes} mesh nodes, {seconds:.3g} s on one core",),
    )  # fmt: skip
    if len(paths) == 1:
        return _limits(job, wish, site)
    if site.scheduler != "slurm":
        raise CaseError("an array of cases is written for SLURM only; give one case, or a plan")
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        raise CaseError("two cases have the same file name: their results would, too")
    command = f'run "$case" -o {quoted([output])}/"$(basename "$case" .toml)".h5 --resume'
    job = replace(
        job, title="Solve several cases, each in one task of an array", name="ns-solve",
        command=command, cases=tuple(paths), log=output,
    )  # fmt: skip
    return _limits(job, wish, site)


def _name(text: str) -> str:
    """Return a name for the queue: without blanks and signs that a shell would read."""
    return "ns-" + "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def parent(path: str) -> str:
    """Return the folder of a path, empty if it names none."""
    folder = str(Path(path).parent)
    return "" if folder == "." else folder


def sweep_job(plan: Plan, path: str, output: str, site: Site, wish: Wish, mode: str) -> Job:
    """Return the job of a sweep.

    Parameters
    ----------
    plan : Plan
    path, output : str
        File of the plan, folder of the sweep.
    site : Site
    wish : Wish
        ``ranks`` are the cores for all points at work.
    mode : {"allocation", "dask"}
        One allocation in which all points are solved, or a small job whose service lets
        Dask submit jobs of workers.

    Raises
    ------
    CaseError
        If the mode and the scheduler do not go together.
    """
    from nanoslit.sweep.cost import total_cost
    from nanoslit.sweep.points import Points

    if mode == "dask" and site.scheduler != "slurm":
        raise CaseError("--mode dask is for SLURM; on PBS use --mode allocation")
    need, seconds = plan.resources, total_cost(Points(plan))
    each = need.most_ranks
    cores = wish.ranks or max(each, min(plan.size * each, site.cores))
    if cores < each:
        raise CaseError(f"--ranks {cores}: a point of this plan takes {each}")
    # where points differ in ranks, the service counts cores instead of points
    workers = cores if len(need.ranks) > 1 else cores // each
    memory = need.memory / min(rule.ranks for rule in need.ranks) + _PROGRAM
    time = _SLACK * seconds / cores
    points = f"{plan.size} points, {seconds / 3600:.3g} core-hours on {cores} cores"
    words = ["sweep", "run", path, "-o", output, "--cluster"]
    if mode == "allocation":
        title = "Sweep in one allocation, many solves side by side"
        words += ["local", "--workers", str(workers)]
        tasks = cores
    else:
        title = "Service of a sweep; Dask submits its workers as jobs"
        words += [
            "slurm",
            "--workers",
            str(max(1, cores // max(each, plan.execution.slurm.cores))),
        ]
        tasks, memory, time = 1, 2e9, site.max_time
    job = Job(
        title, _name(plan.name), quoted(words), parent(output), tasks, memory, time,
        remarks=(f"estimate: {points}",),
    )  # fmt: skip
    return _limits(job, wish, site)


def discover_job(arguments: str, output: str, site: Site, wish: Wish) -> Job:
    """Return the job that searches for a law.

    Parameters
    ----------
    arguments : str
        Result files and options of ``nanoslit discover``, quoted for bash.
    output : str
        The law file.
    site : Site
    wish : Wish
    """
    ranks = wish.ranks or min(4, site.cores)
    job = Job(
        "Search for the law on islands", _name(Path(output).stem),
        f"discover {arguments} -o {quoted([output])} --quiet --resume", parent(output),
        ranks, 1e9, 4 * 3600.0, ranks=ranks,
    )  # fmt: skip
    return _limits(job, wish, site)


def explore_job(study: str, output: str, site: Site, wish: Wish) -> Job:
    """Return the job that explores circuits (threads of one process)."""
    cores = wish.ranks or min(4, site.cores)
    command = quoted(["explore", study, "-o", output, "--overwrite", "--threads", str(cores)])
    name, log = _name(Path(output).stem), parent(output)
    job = Job("Explore circuits", name, command, log, cores, 1e9, 3600.0)
    return _limits(job, wish, site)
