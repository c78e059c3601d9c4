"""Start a command of this package as a child program, on any number of MPI ranks.

Every child that may be an MPI program is started here, whoever asks (``run --ranks``, a
sweep's worker, a test). :func:`start` takes care of what otherwise goes wrong:

- a launcher prefix, chosen by :func:`choose_launcher` or given as a template, also for all
  launches by the variable ``NANOSLIT_LAUNCHER``;
- the environment (:func:`clean_environment`): a child of an MPI rank or of a SLURM step
  must not see its parent's rank (a nested mpirun would end with 1 and no message), SLURM's
  contradictory settings are removed, and each rank gets one thread;
- a private, short temporary directory, because two mpirun that start at the same moment
  delete each other's session folder;
- a death signal: when the parent is killed, mpirun gets SIGTERM and ends all ranks
  (needs ``setpriv``, so Linux; the signal comes when the parent *thread* ends);
- a process group of its own: a signal to the parent's group does not reach the ranks, and
  :meth:`Child.end` reaches all of them.

The child is asked to write a checkpoint and stop by SIGUSR1, which mpirun forwards, and
then ends with :data:`CHECKPOINTED`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from nanoslit.errors import LauncherError, LaunchError
from nanoslit.scratch import Scratch

__all__ = [
    "CHECKPOINTED",
    "LAUNCHER",
    "Child",
    "choose_launcher",
    "clean_environment",
    "command_line",
    "explain_exit",
    "prefix",
    "start",
]

CHECKPOINTED = 85
"""Exit code of a run that wrote a checkpoint on request: start it again with --resume."""

LAUNCHER = "mpirun --bind-to none -n {ranks}"
"""Default prefix of a launch on more than one rank.

Without binding, because two programs on one host would share the same first cores.
"""

_BOUND = "mpirun --bind-to core --map-by core -n {ranks}"
_STEP = "srun{mpi} --exact --kill-on-bad-exit=1 --nodes={{nodes}} --ntasks={{ranks}}"

# variables by which a launcher tells a process its rank: a nested launch must not see them
_RANK_PREFIXES = (
    "OMPI_COMM", "OMPI_UNIVERSE", "OMPI_FIRST", "OMPI_FILE", "OMPI_COMMAND", "OMPI_ARGV",
    "OMPI_APP", "OMPI_NUM", "OMPI_MCA_orte", "OMPI_MCA_ess", "OMPI_MCA_initial",
    "OMPI_MCA_shmem", "PMIX_", "OPAL_", "PRTE_", "HYDI_", "PMI_",
)  # fmt: skip
_IS_RANK = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
# of a SLURM step: inside, Open MPI takes any program for a rank of the step and fails, and
# a nested srun would inherit the binding of the step
_STEP_PREFIXES = (
    "SLURM_STEP", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_GTIDS", "SLURM_CPU_BIND",
    "SLURM_MEM_BIND", "SLURM_TRES_PER_TASK", "SLURM_DISTRIBUTION",
)  # fmt: skip
_MEMORY = ("SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU", "SLURM_MEM_PER_NODE")
_SOCKET_PATH = 40  # longest folder below which Open MPI's socket names still fit


def clean_environment(
    environment: Mapping[str, str], temporary: str | Path | None = None
) -> dict[str, str]:
    """Return the environment for a program that starts MPI afresh, one thread a rank.

    Parameters
    ----------
    environment : mapping
        Usually ``os.environ``. Settings of the user (``OMPI_MCA_*``, ``OMPI_ALLOW_*``) and
        the allocation of a batch system stay. Dropped is what belongs to an MPI rank or to
        a SLURM step, ``SLURM_EXPORT_ENV=NONE`` (of ``sbatch --export=NONE``: srun, and
        mpirun through it, would start ranks without PATH), and memory limits that
        contradict each other (of a job that another job submitted: srun refuses them).
    temporary : path, optional
        Private temporary directory of the launch.
    """
    kept = dict(environment)
    if any(name in environment for name in _IS_RANK):
        kept = {k: v for k, v in kept.items() if not k.startswith(_RANK_PREFIXES)}
    if "SLURM_STEP_ID" in environment or "SLURM_STEPID" in environment:
        kept = {k: v for k, v in kept.items() if not k.startswith(_STEP_PREFIXES)}
    if kept.get("SLURM_EXPORT_ENV") == "NONE":
        kept["SLURM_EXPORT_ENV"] = "ALL"
    if sum(name in kept for name in _MEMORY) > 1:
        kept = {k: v for k, v in kept.items() if k not in _MEMORY}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        kept.setdefault(name, "1")
    if temporary is not None:
        kept |= {
            "TMPDIR": str(temporary),
            "OMPI_MCA_orte_tmpdir_base": str(temporary),
            "PRTE_MCA_prte_tmpdir_base": str(temporary),
        }
    # ranks that wait give way: programs that share cores would otherwise crawl
    kept.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    # mpirun that has to end its ranks waits this long before SIGTERM, and again before
    # SIGKILL [s]: time to finish a step and save, but not to hang about
    kept.setdefault("OMPI_MCA_odls_base_sigkill_timeout", "3")
    return kept


def choose_launcher(ranks: int, environment: Mapping[str, str] | None = None) -> str:
    """Return the template of the prefix for a launch here, empty for a plain program.

    The first that applies:

    1. the variable ``NANOSLIT_LAUNCHER`` (site settings), for any number of ranks;
    2. several programs in a SLURM allocation of several nodes: a step each, because every
       mpirun would begin on the first node, and on as few nodes as hold the ranks;
    3. one rank: no launcher;
    4. mpirun, which SLURM and PBS tell about their nodes; bound to cores if the program
       alone has all of its nodes; with PBS's list of nodes where there is one;
    5. mpiexec, or srun inside an allocation, whichever there is.

    Parameters
    ----------
    ranks : int
    environment : mapping, optional
        ``os.environ`` by default.
    """
    env = os.environ if environment is None else environment
    if env.get("NANOSLIT_LAUNCHER"):
        return env["NANOSLIT_LAUNCHER"]
    tasks, nodes = _number(env, "SLURM_NTASKS"), _number(env, "SLURM_JOB_NUM_NODES")
    if nodes > 1 and ranks < tasks and shutil.which("srun"):
        return _STEP.format(mpi=_srun_mpi())
    if ranks == 1:
        return ""
    if shutil.which("mpirun"):
        whole = nodes > 1 and _number(env, "SLURM_CPUS_ON_NODE") == os.cpu_count()
        hosts = env.get("PBS_NODEFILE", "")
        template = _BOUND if whole else LAUNCHER
        return f"{template} --hostfile {shlex.quote(hosts)}" if hosts else template
    if shutil.which("mpiexec"):
        return "mpiexec -n {ranks}"
    if shutil.which("srun") and "SLURM_JOB_ID" in env:
        return _STEP.format(mpi=_srun_mpi())
    return LAUNCHER


def _number(environment: Mapping[str, str], name: str) -> int:
    """Return a variable as a number, 0 if it is none."""
    text = environment.get(name, "")
    return int(text) if text.isdigit() else 0


@functools.cache
def _srun_mpi() -> str:
    """Return the option by which srun tells Open MPI its ranks, if this srun has it."""
    try:
        listed = subprocess.run(
            ["srun", "--mpi=list"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return " --mpi=pmix" if "pmix" in listed.stdout + listed.stderr else ""


def _nodes(ranks: int, environment: Mapping[str, str]) -> int:
    """Return the fewest nodes of the allocation that hold so many ranks."""
    tasks = _number(environment, "SLURM_NTASKS")
    nodes = _number(environment, "SLURM_JOB_NUM_NODES")
    return 1 if not tasks or not nodes else min(nodes, -(-ranks * nodes // tasks))


def prefix(
    ranks: int = 1,
    launcher: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the words that stand before a program to start it on some ranks.

    Parameters
    ----------
    ranks : int
        Number of MPI ranks.
    launcher : str, optional
        Prefix with ``{ranks}`` (and, for steps of an allocation, ``{nodes}``), such as
        ``srun --mpi=pmix -n {ranks} --exact``; empty for a program that is no MPI program.
        By default :func:`choose_launcher` decides.
    environment : mapping, optional
        ``os.environ`` by default.

    Raises
    ------
    LaunchError
        If the number of ranks or the prefix is impossible, or its program is missing.
    """
    if ranks < 1:
        raise LauncherError(f"ranks = {ranks} must be at least 1")
    env = os.environ if environment is None else environment
    if launcher is None:
        launcher = choose_launcher(ranks, env)
    try:
        words = shlex.split(launcher.format(ranks=ranks, nodes=_nodes(ranks, env)))
    except (KeyError, ValueError, IndexError) as error:
        raise LauncherError(
            f"launcher {launcher!r} is no template ({error}); write for instance {LAUNCHER!r}"
        ) from None
    if words and shutil.which(words[0]) is None:
        raise LaunchError(
            f"{words[0]} is not on the PATH; load or install MPI (`nanoslit doctor` says "
            "how), or give another launcher"
        )
    return words


def command_line(
    arguments: Sequence[str | os.PathLike[str]],
    ranks: int = 1,
    launcher: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Return the words of the launch of ``nanoslit ARGUMENTS`` (see :func:`prefix`)."""
    program = [sys.executable, "-m", "nanoslit", *(os.fspath(a) for a in arguments)]
    return [*prefix(ranks, launcher, environment), *program]


@dataclass
class Child:
    """A started program; use as a context manager, which ends it if it still runs.

    Attributes
    ----------
    process : subprocess.Popen
        mpirun, or the program itself on one rank.
    command : list of str
        The launch line, for logs.
    scratch : Scratch
        Its private temporary directory, deleted at the end.
    """

    process: subprocess.Popen[Any]
    command: list[str]
    scratch: Scratch

    @property
    def pid(self) -> int:
        """Number of the process, which also names its process group."""
        return self.process.pid

    def poll(self) -> int | None:
        """Return the exit code, None while the program runs."""
        return self.process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code, negative for a signal.

        Raises
        ------
        subprocess.TimeoutExpired
            If it still runs after ``timeout`` seconds.
        """
        return self.process.wait(timeout)

    def request_checkpoint(self) -> None:
        """Ask for a checkpoint and the end (SIGUSR1; mpirun forwards it to the ranks)."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def end(self, patience: float = 10.0) -> int:
        """End the whole process group: SIGTERM, wait, SIGKILL; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                if self.process.poll() is None or number == signal.SIGKILL:
                    os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
                if number == signal.SIGTERM:
                    continue  # ranks that outlived their mpirun get the second signal
        code = self.process.wait(patience)
        self.scratch.close()
        return code

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.end()
        self.scratch.close()


def start(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    ranks: int = 1,
    launcher: str | None = None,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] | None = None,
    stderr: int | IO[Any] | None = None,
    cwd: str | Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start ``nanoslit ARGUMENTS`` on some ranks and return at once.

    Parameters
    ----------
    arguments, ranks, launcher
        See :func:`command_line`.
    stdin, stdout, stderr
        As for ``subprocess.Popen``; no input, and the parent's outputs, by default.
    cwd : path, optional
        Working directory.
    environment : mapping, optional
        Starting point of the child's environment, ``os.environ`` by default.

    Returns
    -------
    Child

    Raises
    ------
    LaunchError
        If the program cannot be started.
    """
    command = command_line(arguments, ranks, launcher, environment)
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "TERM", *command]
    base = tempfile.gettempdir()
    folder = base if len(base) <= _SOCKET_PATH else "/tmp"  # noqa: S108
    scratch = Scratch(folder)
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=clean_environment(
                os.environ if environment is None else environment, scratch.path
            ),
            process_group=0,
            pass_fds=(scratch.lock,),  # the program may outlive this process
        )
    except OSError as error:
        scratch.close()
        raise LaunchError(f"{shlex.join(command)}: cannot be started ({error})") from None
    return Child(process, command, scratch)


def explain_exit(code: int) -> str:
    """Return in words what an exit code of a run means and what to do."""
    if code == 0:
        return "finished"
    if code == CHECKPOINTED:
        return "stopped on request after writing a checkpoint; continue with --resume"
    if code == 1:
        return "failed; its own message says why"
    if code == 2:
        return "the input is wrong; its own message says what"
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"ended with code {code}"
    cause = " (out of memory, or killed by hand)" if number == signal.SIGKILL else ""
    return (
        f"a rank or its launcher was ended by {name}{cause}; --resume continues from the "
        "last checkpoint"
    )
