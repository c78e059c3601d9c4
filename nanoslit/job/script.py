"""Text of the job scripts. What stands in ``jobs/`` is written by the same functions."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanoslit.job.site import Site

__all__ = ["Job", "quoted", "submission", "text_of", "warning_time"]


@dataclass(frozen=True)
class Job:
    """One batch job.

    Parameters
    ----------
    title : str
        Comment at the top.
    name : str
        Shown in the queue.
    command : str
        What follows ``nanoslit``, quoted for bash.
    log : str
        Folder of the log; where the job is submitted if empty.
    tasks : int
        Cores.
    memory : float
        Of one core [byte].
    time : float
        Wall time [s].
    ranks : int
        Of the command itself, if it is an MPI program.
    cases : tuple of str
        Values of ``$case``, one for each task of an array.
    before : tuple of str
        Lines of bash that run first.
    remarks : tuple of str
        More comments.
    """

    title: str
    name: str
    command: str
    log: str
    tasks: int
    memory: float
    time: float
    ranks: int = 1
    cases: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def quoted(words: Sequence[str]) -> str:
    """Return words that bash reads as they are."""
    return shlex.join(words)


def warning_time(time: float) -> int:
    """Return how long before the limit a checkpoint is asked for [s]."""
    return int(min(300.0, max(30.0, 0.1 * time)))


def text_of(job: Job, site: Site, path: str, folder: str = "") -> str:
    """Return the script of a job.

    Parameters
    ----------
    job : Job
    site : Site
    path : str
        Where the script will stand.
    folder : str, optional
        Where it runs; by default where it is submitted.
    """
    submit = "sbatch" if site.scheduler == "slurm" else "qsub"
    lines = [
        "#!/usr/bin/env bash",
        f"# {job.title}:  {submit} {quoted([path])}",
        *(f"# {remark}" for remark in job.remarks),
        "# Before the time limit it writes a checkpoint, is requeued and goes on by itself.",
        *(_slurm(job, site) if site.scheduler == "slurm" else _pbs(job, site)),
        "trap '' USR1  # the last command listens, and watches the time itself",
        *_place(site, folder),
        *_setup(site),
        "set -euo pipefail  # not before: modules may use unset variables",
        *_array(job),
        *job.before,
        *_attempt(job, site, path),
    ]
    return "\n".join(lines) + "\n"


def _clock(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"


def _nodes(job: Job, site: Site) -> int:
    by_memory = job.tasks * job.memory / site.memory
    return max(1, math.ceil(job.tasks / site.cores), math.ceil(by_memory))


def _folder(job: Job) -> str:
    return f"{job.log}/" if job.log else ""


def _slurm(job: Job, site: Site) -> Iterator[str]:
    values = {
        "job-name": job.name, "nodes": _nodes(job, site), "ntasks": job.tasks,
        "mem-per-cpu": f"{math.ceil(job.memory / 1e6)}M", "time": _clock(job.time),
        "signal": f"B:USR1@{warning_time(job.time)}", "open-mode": "append",
        "output": f"{_folder(job)}%x-%{'A_%a' if job.cases else 'j'}.log",
        "array": f"0-{len(job.cases) - 1}" if job.cases else "",
        "partition": site.partition, "account": site.account,
    }  # fmt: skip
    yield "#SBATCH --requeue"
    yield from (f"#SBATCH --{key}={value}" for key, value in values.items() if value)
    if site.extra:
        yield f"#SBATCH {site.extra}"


def _pbs(job: Job, site: Site) -> Iterator[str]:
    nodes = _nodes(job, site)
    cores = math.ceil(job.tasks / nodes)
    memory = math.ceil(cores * job.memory / 1e6)
    yield f"#PBS -N {job.name}"
    yield f"#PBS -l select={nodes}:ncpus={cores}:mpiprocs={cores}:mem={memory}mb"
    yield f"#PBS -l walltime={_clock(job.time)}"
    yield f"#PBS -j oe -o {_folder(job)}{job.name}.log"
    if site.partition:
        yield f"#PBS -q {site.partition}"
    if site.account:
        yield f"#PBS -A {site.account}"
    if site.extra:
        yield f"#PBS {site.extra}"


def _place(site: Site, folder: str) -> Iterator[str]:
    variable = "SLURM_SUBMIT_DIR" if site.scheduler == "slurm" else "PBS_O_WORKDIR"
    yield (f"cd {quoted([folder])}" if folder else f'cd "${{{variable}:-.}}"') + " || exit"


def _setup(site: Site) -> Iterator[str]:
    if site.path is None:
        yield f'export PATH={quoted([str(Path(sys.executable).parent)])}:"$PATH"'
        return
    named = "$PWD/jobs/site.env" if site.path == SHIPPED else quoted([str(site.path)])
    yield f'export NANOSLIT_SITE="${{NANOSLIT_SITE:-{named}}}"'
    yield "set -a"
    yield "# shellcheck source=/dev/null"
    yield '. "$NANOSLIT_SITE" || exit  # jobs/site.env.example, edited'
    yield "set +a"
    yield "site_setup || exit"


SHIPPED = Path("jobs/site.env")
"""Stands for the site file in the scripts of ``jobs/``."""


def _array(job: Job) -> Iterator[str]:
    if job.cases:
        yield f"cases=({quoted(job.cases)})"
        yield "case=${cases[SLURM_ARRAY_TASK_ID]}"


def _attempt(job: Job, site: Site, path: str) -> Iterator[str]:
    limit = math.ceil(job.time / 60) * 60
    options = [f"--stop-after $(({limit - warning_time(job.time)} - SECONDS))"]
    if job.ranks > 1:
        options.insert(0, f"--ranks {job.ranks}")
    if site.scheduler == "pbs":
        options.append(f"--script {quoted([path])}")
    yield f"exec nanoslit job attempt {' '.join(options)} -- \\"
    yield f"  {job.command}"


def submission(scripts: Sequence[str], site: Site, title: str) -> str:
    """Return a program that submits scripts, each to start when the one before is done."""
    lines = ["#!/usr/bin/env bash", f"# {title}", "set -euo pipefail"]
    if site.scheduler == "slurm":
        lines.append(f"job=$(sbatch --parsable {quoted([scripts[0]])})")
        lines.append('echo "submitted job ${job%%;*}"')
        for script in scripts[1:]:
            lines.append(
                "job=$(sbatch --parsable --kill-on-invalid-dep=yes "
                f'--dependency="afterok:${{job%%;*}}" {quoted([script])})'
            )
            lines.append('echo "submitted job ${job%%;*}, which waits for it"')
    else:
        rest = quoted([":".join(scripts[1:])])
        lines.append("# each job submits the next: its own number changes when it is requeued")
        lines.append(f"qsub -v NANOSLIT_RESTARTS=0,NANOSLIT_THEN={rest} {quoted(scripts[:1])}")
    return "\n".join(lines) + "\n"
