"""One attempt of a batch job: run a command until it ends or the time runs out, requeue.

The last line of every job script is ``exec nanoslit job attempt ... -- COMMAND``. Before
the time limit the command is asked for a checkpoint, ends with 85, and the job goes back
into the queue, where the next attempt of the same script continues:

- SLURM sends SIGUSR1 to the script (``--signal=B:USR1@SECONDS``), and the script says after
  which time to stop; whichever comes first counts. The job is requeued under its number,
  so that jobs that depend on it go on waiting.
- PBS knows neither: the time counts, and the script is submitted again.

SIGTERM means that the batch system ends the job (cancelled, preempted): it reaches every
process of the job by itself, so it is not passed on, and nothing is requeued.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from nanoslit.launch import CHECKPOINTED, Child, explain_exit, start

__all__ = ["Attempt", "run_attempt"]

MPI_COMMANDS = ("run", "discover")
"""Commands that are MPI programs; the others start their own."""

_LOOK_EVERY = 0.2
_PATIENCE = 60.0  # for a command to end by itself once the job is being ended [s]
_ASK = 60.0  # for the batch system to answer [s]
_KILLED_EARLY = (-signal.SIGUSR1, 128 + signal.SIGUSR1)


@dataclass
class Attempt:
    """What one attempt runs, and how it goes on after a checkpoint.

    Parameters
    ----------
    words : sequence of str
        What follows ``nanoslit``.
    ranks : int
        Of a command that is an MPI program.
    stop_after : float, optional
        Ask for a checkpoint after so many seconds.
    script : str, optional
        Submitted again on PBS.
    then : sequence of str
        Scripts to submit one after the other when this one is done, on PBS, where a job
        that was submitted again is no longer the one that others wait for.
    limit : int
        Restarts after which a job that still is not done is given up.
    """

    words: Sequence[str]
    ranks: int = 1
    stop_after: float | None = None
    script: str = ""
    then: Sequence[str] = ()
    limit: int = 200

    def __post_init__(self) -> None:
        self.asked, self.ending = "", False

    # -- the command ------------------------------------------------------------------

    def run(self) -> int:
        """Run the command and what follows; return the exit code of the job."""
        old = {n: signal.signal(n, self._note) for n in (signal.SIGUSR1, signal.SIGTERM)}
        try:
            code = self._run()
            if self.ending:
                say("the batch system ends this job; start it again to go on")
                return code
            if code == CHECKPOINTED:
                return self._again()
            if code == 0:
                return self._next()
            say(explain_exit(code))
            return code if 0 < code < 128 else 1
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.ending = True
        else:
            self.asked = "SIGUSR1 came"

    def _run(self) -> int:
        launcher = None if self.words[0] in MPI_COMMANDS else ""
        say(f"attempt {restarts() + 1}: nanoslit {' '.join(self.words)}")
        begin, passed_on, ended = time.monotonic(), False, 0.0
        with start(self.words, ranks=self.ranks, launcher=launcher) as child:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = child.wait(_LOOK_EVERY)
                    break
                now = time.monotonic()
                if self.stop_after is not None and now - begin > self.stop_after:
                    self.asked = self.asked or "the time runs out"
                if self.asked and not passed_on and not self.ending:
                    passed_on = True
                    say(f"{self.asked}: asking for a checkpoint")
                    self._ask(child)
                ended = ended or (now if self.ending else 0.0)
                if ended and now - ended > _PATIENCE:
                    code = child.end()
                    break
        if passed_on and code in _KILLED_EARLY:  # before it could listen: nothing is lost
            return CHECKPOINTED
        return code

    def _ask(self, child: Child) -> None:
        """Ask for a checkpoint: a sweep's service listens to SIGTERM, solvers to SIGUSR1."""
        if self.words[0] in MPI_COMMANDS:
            child.request_checkpoint()
        else:
            child.process.terminate()

    # -- the batch system --------------------------------------------------------------

    def _again(self) -> int:
        """Put the job back into the queue."""
        if restarts() >= self.limit:
            say(f"not done after {restarts() + 1} attempts; submit it again to go on")
            return CHECKPOINTED
        if "SLURM_JOB_ID" in os.environ:
            words = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
        elif "PBS_JOBID" in os.environ and self.script:
            words = self._qsub([self.script, *self.then], restarts() + 1)
        else:
            say("no batch system here: the same command goes on")
            return CHECKPOINTED
        if not batch_system(words):
            return CHECKPOINTED
        if words[0] == "scontrol":  # ends this process; the job starts again later
            self._wait_for_the_end()
            return CHECKPOINTED
        return 0

    def _wait_for_the_end(self) -> None:
        end = time.monotonic() + _PATIENCE
        while not self.ending and time.monotonic() < end:
            time.sleep(_LOOK_EVERY)

    def _next(self) -> int:
        """Submit what waits for this job (PBS); SLURM knows by itself."""
        if not self.then:
            return 0
        return 0 if batch_system(self._qsub(self.then, 0)) else 1

    @staticmethod
    def _qsub(scripts: Sequence[str], count: int) -> list[str]:
        rest = ":".join(scripts[1:])
        return ["qsub", "-v", f"NANOSLIT_RESTARTS={count},NANOSLIT_THEN={rest}", scripts[0]]


def batch_system(words: list[str]) -> bool:
    """Give a command to the batch system, patiently; say if it fails."""
    if shutil.which(words[0]) is None:
        say(f"{words[0]} is not on the PATH of this node; submit the script again to go on")
        return False
    why = ""
    for wait in (0.0, 5.0, 20.0):
        time.sleep(wait)
        try:
            done = subprocess.run(
                words, capture_output=True, text=True, timeout=_ASK, check=False
            )
        except subprocess.TimeoutExpired:
            why = f"no answer within {_ASK:g} s"
            continue
        if done.returncode == 0:
            say(f"{' '.join(words)} {done.stdout.strip()}".strip())
            return True
        why = done.stderr.strip()
    say(f"{' '.join(words)}: {why}; submit the script again to go on")
    return False


def restarts() -> int:
    """Return how often this job was put back into the queue."""
    for name in ("SLURM_RESTART_COUNT", "NANOSLIT_RESTARTS"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


def run_attempt(attempt: Attempt) -> int:
    """Run an attempt in this job; return its exit code."""
    if not attempt.then and os.environ.get("NANOSLIT_THEN"):
        attempt.then = [s for s in os.environ["NANOSLIT_THEN"].split(":") if s]
    if attempt.script:
        attempt.script = str(Path(attempt.script).resolve())
    return attempt.run()


def say(text: str) -> None:
    """Print a line for the job's log."""
    print(f"nanoslit job: {text}", file=sys.stderr, flush=True)
