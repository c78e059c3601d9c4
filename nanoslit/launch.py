"""Start a command of this package as a child program, on any number of MPI ranks.

Every child that may be an MPI program is started here, whoever asks (``run --ranks``, a
sweep's worker, a test). :func:`start` takes care of what otherwise goes wrong:

- a launcher prefix from a template, ``mpirun --bind-to none -n {ranks}`` by default
  (without binding, because two programs on one host would share the same first cores);
- the environment: a child of an MPI rank must not see its parent's rank (a nested mpirun
  would end with 1 and no message), and each rank gets one thread;
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

from nanoslit.errors import LaunchError

__all__ = [
    "CHECKPOINTED",
    "LAUNCHER",
    "Child",
    "clean_environment",
    "command_line",
    "explain_exit",
    "start",
    "under_launcher",
]

CHECKPOINTED = 85
"""Exit code of a run that wrote a checkpoint on request: start it again with --resume."""

LAUNCHER = "mpirun --bind-to none -n {ranks}"
"""Default prefix of a launch on more than one rank."""

# variables by which a launcher tells a process its rank: a nested launch must not see them
_RANK_PREFIXES = (
    "OMPI_COMM", "OMPI_UNIVERSE", "OMPI_FIRST", "OMPI_FILE", "OMPI_COMMAND", "OMPI_ARGV",
    "OMPI_APP", "OMPI_NUM", "OMPI_MCA_orte", "OMPI_MCA_ess", "OMPI_MCA_initial",
    "OMPI_MCA_shmem", "PMIX_", "OPAL_", "PRTE_", "HYDI_", "PMI_",
)  # fmt: skip
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "MPI_LOCALNRANKS")
_IS_RANK = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK")
_SOCKET_PATH = 40  # longest folder below which Open MPI's socket names still fit


def clean_environment(
    environment: Mapping[str, str], temporary: str | Path | None = None
) -> dict[str, str]:
    """Return the environment for a program that starts MPI afresh, one thread a rank.

    Parameters
    ----------
    environment : mapping
        Usually ``os.environ``. Nothing is dropped unless it belongs to an MPI rank, so
        settings of the user (``OMPI_MCA_*``, ``OMPI_ALLOW_*``) stay.
    temporary : path, optional
        Private temporary directory of the launch.
    """
    kept = dict(environment)
    if any(name in environment for name in _IS_RANK):
        kept = {k: v for k, v in kept.items() if not k.startswith(_RANK_PREFIXES)}
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


def under_launcher() -> bool:
    """Whether a launcher started this process as one of several ranks."""
    return any(name in os.environ for name in _SIZES)


def command_line(
    arguments: Sequence[str | os.PathLike[str]], ranks: int = 1, launcher: str | None = None
) -> list[str]:
    """Return the words of the launch of ``nanoslit ARGUMENTS`` on some ranks.

    Parameters
    ----------
    arguments : sequence of str or path
        What follows ``nanoslit``.
    ranks : int
        Number of MPI ranks.
    launcher : str, optional
        Prefix with ``{ranks}``, such as ``srun --mpi=pmix -n {ranks} --exact``. By
        default :data:`LAUNCHER`, and none at all for one rank.

    Raises
    ------
    LaunchError
        If the number of ranks or the prefix is impossible, or its program is missing.
    """
    if ranks < 1:
        raise LaunchError(f"ranks = {ranks} must be at least 1")
    if launcher is None:
        launcher = LAUNCHER if ranks > 1 else ""
    try:
        prefix = shlex.split(launcher.format(ranks=ranks))
    except (KeyError, ValueError, IndexError) as error:
        raise LaunchError(
            f"launcher {launcher!r} is no template ({error}); write for instance {LAUNCHER!r}"
        ) from None
    if prefix and shutil.which(prefix[0]) is None:
        raise LaunchError(
            f"{prefix[0]} is not on the PATH; load or install MPI (`nanoslit doctor` says "
            "how), or give another launcher"
        )
    return [*prefix, sys.executable, "-m", "nanoslit", *(os.fspath(a) for a in arguments)]


@dataclass
class Child:
    """A started program; use as a context manager, which ends it if it still runs.

    Attributes
    ----------
    process : subprocess.Popen
        mpirun, or the program itself on one rank.
    command : list of str
        The launch line, for logs.
    temporary : Path
        Its private temporary directory, deleted at the end.
    """

    process: subprocess.Popen[Any]
    command: list[str]
    temporary: Path

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
        self._clean()
        return code

    def _clean(self) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)

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
        self._clean()


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
    command = command_line(arguments, ranks, launcher)
    if shutil.which("setpriv"):
        command = ["setpriv", "--pdeathsig", "TERM", *command]
    base = tempfile.gettempdir()
    folder = base if len(base) <= _SOCKET_PATH else "/tmp"  # noqa: S108
    temporary = Path(tempfile.mkdtemp(prefix="ns-", dir=folder))
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=clean_environment(
                os.environ if environment is None else environment, temporary
            ),
            process_group=0,
        )
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise LaunchError(f"{shlex.join(command)}: cannot be started ({error})") from None
    return Child(process, command, temporary)


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
