"""Where Dask workers come from: this machine, SLURM jobs, or a scheduler that runs already."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoslit.errors import MissingExtraError, SweepError

if TYPE_CHECKING:
    from nanoslit.sweep.plan import Execution, Resources, Slurm

__all__ = ["Where", "connect", "cores", "local_workers", "slurm_job_script", "usable_memory"]

_DEATH_TIMEOUT = 60
_KEEP_EVERY = 15.0  # jobs of workers that were lost are replaced that often [s]
_ASK = 60.0  # for SLURM to answer [s]
_AGAIN = (5.0, 10.0, 15.0)  # seconds before SLURM is asked again
_NOT_AVAILABLE = "configuration is not available"
_QUIET = {
    # the service decides itself what happens to points of a worker that died
    "distributed.scheduler.allowed-failures": 0,
    # a batch waits at the scheduler for the first free worker, not in a worker's queue
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.logging.distributed": "critical",
    "distributed.admin.tick.limit": "1h",
    "distributed.comm.timeouts.connect": "30s",
    # a solver process may start while the worker has much memory: no limits of Dask
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.pause": False,
    # the scheduler must not keep the history of a million points, least of all the last
    # messages to each worker: they hold the cases of a batch
    "distributed.admin.log-length": 100,
    "distributed.admin.low-level-log-length": 10,
    "distributed.diagnostics.computations.max-history": 10,
}


@dataclass(frozen=True)
class Where:
    """How to reach workers; from the plan and the command line."""

    cluster: str = "local"
    workers: int | None = None
    scheduler_file: Path | None = None
    address: str | None = None
    dashboard: bool = False

    @property
    def external(self) -> bool:
        """Whether the scheduler is not ours."""
        return bool(self.scheduler_file or self.address)


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


def usable_memory() -> float:
    """Return the memory of this machine that solves may use [byte]."""
    return 0.9 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def local_workers(where: Where, resources: Resources) -> int:
    """Return how many points run at once on this machine: cores and memory bound it."""
    if where.workers is not None:
        return where.workers
    cheapest = min(map(resources.memory_of, resources.ranks))
    fits = int(usable_memory() // cheapest)
    one = resources.most_ranks if len(resources.ranks) == 1 else 1
    return max(1, min(cores() // one, fits))


def _dask() -> Any:
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError:
        raise MissingExtraError("a sweep needs Dask: pip install 'nanoslit[sweep]'") from None
    return dask


def connect(
    where: Where,
    execution: Execution,
    resources: Resources,
    stack: ExitStack,
    logs: Path | None = None,
) -> tuple[Any, int | None]:
    """Return a Dask client and the number of workers to expect (None: whoever comes).

    Everything that is started is entered into ``stack``, which ends it. Jobs write their
    logs into ``logs``.

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    SweepError
        If there is no scheduler at the given address, or SLURM would refuse the jobs.
    """
    dask = _dask()
    from distributed import Client, LocalCluster

    dask.config.set(_QUIET)
    if where.external:
        return _join(where, stack), None
    if where.cluster == "slurm":
        cluster = stack.enter_context(_slurm_cluster(execution, resources, logs))
        n = where.workers or 1
        _require_acceptable(cluster)
        cluster.scale(jobs=n)
        stack.enter_context(_Keeper(cluster, n))
    else:
        n = local_workers(where, resources)
        with _deaf_to_terminal():
            local = LocalCluster(
                n_workers=n,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": where.dashboard},
                worker_dashboard_address=None,
                preload=["nanoslit.sweep.worker"],
                silence_logs=50,
            )
        cluster = stack.enter_context(local)
    client = stack.enter_context(Client(cluster))
    if where.dashboard:
        print(
            f"dashboard: {client.dashboard_link} (from elsewhere: ssh -L "
            f"8787:{client.dashboard_link.split('/')[2]} {os.uname().nodename})",
            file=sys.stderr,
        )
    return client, n


@contextmanager
def _deaf_to_terminal() -> Iterator[None]:
    """Start workers that do not hear Ctrl-C and the closing of the terminal.

    A terminal sends both to all processes in it; only the service shall act, else the
    workers end before a checkpoint is written. Threads and programs started here inherit
    the blocked signals, also a worker that the cluster starts later in place of a dead one.
    """
    from multiprocessing import resource_tracker

    from_terminal = {signal.SIGINT, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, from_terminal)
    try:
        resource_tracker.ensure_running()  # also a child, and it unblocks SIGINT here
        signal.pthread_sigmask(signal.SIG_BLOCK, from_terminal)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _join(where: Where, stack: ExitStack) -> Any:
    from distributed import Client

    try:
        if where.scheduler_file is not None:
            if not where.scheduler_file.exists():
                raise SweepError(
                    f"{where.scheduler_file}: no such scheduler file; start one with "
                    f"`dask scheduler --scheduler-file {where.scheduler_file}`"
                )
            return stack.enter_context(
                Client(scheduler_file=str(where.scheduler_file), timeout=30)
            )
        return stack.enter_context(Client(where.address, timeout=30))
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: no address at all
        name = where.address or where.scheduler_file
        raise SweepError(
            f"no Dask scheduler answers at {name} ({error}); start it, then "
            "`nanoslit sweep resume`"
        ) from None


def slurm_settings(
    slurm: Slurm, resources: Resources, logs: Path | None = None
) -> dict[str, Any]:
    """Return what dask-jobqueue is asked for.

    It would ask SLURM for one task with many cores, in which mpirun sees one slot; a task
    for each rank is asked for instead. What the plan leaves open is taken from the site
    settings (``jobs/site.env``) of the job in which the service runs.
    """
    n = max(slurm.cores, resources.most_ranks)
    memory = slurm.memory or resources.most_memory * (n // resources.most_ranks)
    hours, rest = divmod(int(slurm.walltime), 3600)
    site = os.environ.get("NANOSLIT_SITE")
    setup = [f". {shlex.quote(site)}", "site_setup"] if site else []
    settings = {
        "queue": slurm.queue or os.environ.get("SITE_PARTITION") or None,
        "account": slurm.account or os.environ.get("SITE_ACCOUNT") or None,
        "interface": slurm.interface,
        "cores": n // resources.most_ranks, "processes": 1, "memory": f"{int(memory)} B",
        "walltime": f"{hours:02d}:{rest // 60:02d}:{rest % 60:02d}",
        "job_directives_skip": ["-n 1", "--cpus-per-task"],
        "job_extra_directives": [
            f"-n {n}", "-N 1", *shlex.split(os.environ.get("SITE_EXTRA", "")), *slurm.extra,
        ],
        "job_script_prologue": [
            *setup, "export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1", *slurm.prologue,
        ],
        "job_name": "nanoslit-sweep", "death_timeout": _DEATH_TIMEOUT,
        "log_directory": None if logs is None else str(logs.absolute()),
        # workers leave before the job is killed, so that their points are checkpointed;
        # the memory is that of the solves, which Dask does not see
        "worker_extra_args": [
            "--lifetime", f"{int(max(60, 0.9 * slurm.walltime))}", "--lifetime-stagger", "30",
            "--memory-limit", "0",
        ],
    }  # fmt: skip
    return {k: v for k, v in settings.items() if v is not None}


def _slurm_cluster(execution: Execution, resources: Resources, logs: Path | None = None) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise MissingExtraError(
            "a sweep on SLURM needs dask-jobqueue: pip install 'nanoslit[sweep]'"
        ) from None
    return SLURMCluster(
        **slurm_settings(execution.slurm, resources, logs),
        scheduler_options={"dashboard_address": None},
    )


def _require_acceptable(cluster: Any) -> None:
    """Let SLURM look at the jobs: dask-jobqueue would keep a refusal to itself."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(cluster.job_script())
        file.flush()
        try:
            for wait in (*_AGAIN, None):
                tested = subprocess.run(
                    ["sbatch", "--test-only", file.name],
                    capture_output=True, text=True, timeout=_ASK, check=False,
                )  # fmt: skip
                # a controller that has just started says so until its nodes have told it
                # what they have
                if wait is None or _NOT_AVAILABLE not in tested.stderr:
                    break
                time.sleep(wait)
        except FileNotFoundError:
            raise SweepError(
                "sbatch is not on the PATH: log in to the cluster's front end, or use "
                "--cluster local"
            ) from None
        except subprocess.TimeoutExpired:
            raise SweepError(
                f"SLURM does not answer within {_ASK:g} s; try again later"
            ) from None
    if tested.returncode:
        raise SweepError(
            f"SLURM refuses the jobs of workers: {tested.stderr.strip()}; mend "
            "[execution.slurm] of the plan (`nanoslit sweep plan` prints the script)"
        )


class _Keeper:
    """Replaces jobs whose workers were lost: dask-jobqueue alone would not.

    A job is lost when its worker has gone (time limit, cancelled, dead node), when SLURM
    no longer knows it, or when it could not be submitted.
    """

    def __init__(self, cluster: Any, n: int) -> None:
        self.cluster, self.n = cluster, n
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(2 * _ASK)

    def _run(self) -> None:
        while not self._end.wait(_KEEP_EVERY):
            here = {w["name"] for w in self.cluster.scheduler_info["workers"].values()}
            waiting = {k: w for k, w in dict(self.cluster.workers).items() if k not in here}
            known = _known_jobs() if waiting else set()
            if known is None or self._end.is_set():
                continue  # SLURM does not answer: nothing is known
            for name, worker in waiting.items():
                if worker.job_id not in known:
                    self.cluster.loop.add_callback(self.cluster.workers.pop, name, None)
            self.cluster.scale(jobs=self.n)


def _known_jobs() -> set[str] | None:
    """Return the jobs that wait or run; None if SLURM does not answer."""
    try:
        shown = subprocess.run(
            ["squeue", "--noheader", "--user", str(os.getuid()), "--format", "%A"],
            capture_output=True, text=True, timeout=_ASK, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if shown.returncode else set(shown.stdout.split())


def slurm_job_script(execution: Execution, resources: Resources) -> str:
    """Return the script of the jobs that carry the workers."""
    _dask()
    with _slurm_cluster(execution, resources) as cluster:
        return str(cluster.job_script())


def with_overrides(where: Where, execution: Execution) -> Where:
    """Fill in from the plan what the command line leaves open."""
    return replace(where, workers=where.workers or execution.workers)


def quoted(words: list[str]) -> str:
    """Return a command line that can be pasted into a shell."""
    return shlex.join(words)
