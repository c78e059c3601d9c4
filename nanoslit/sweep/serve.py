"""The solver process of a sweep: computes one point after another, each with its own fate.

It is started by the launcher on some ranks, reads requests as JSON lines from its standard
input (rank 0) and answers on its standard output, so that small points do not pay for the
start of a program. A point that raises is one failed point; a process that dies takes only
the point at hand with it (:mod:`nanoslit.sweep.worker`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from nanoslit.errors import CaseError, ConvergenceError, NanoslitError
from nanoslit.sweep.folder import Point, write_json

__all__ = ["gentler", "serve"]

_BEAT_EVERY = 0.5
_LEASE_EVERY = 5.0
_IDLE_RANKS = 10.0  # ranks that wait for work spin; they go home after this time [s]
_LOW_DISK = 1_000_000


def gentler(document: dict[str, Any], level: int) -> dict[str, Any]:
    """Return the changes of a case that make a diverging solve more careful.

    Each level divides the tolerance of a time step by 10 and at least halves the longest
    step that the protocol would allow. What was changed is kept with the result.
    """
    from nanoslit.casefile import case_from_document
    from nanoslit.mpnp.simulation import TOLERANCES

    if not level:
        return {}
    case = case_from_document(document)
    mesh = case.numerics.mesh if isinstance(case.numerics.mesh, str) else "standard"
    tolerance = (case.numerics.tolerance or TOLERANCES[mesh]) * 0.1**level
    longest = case.protocol.duration / (100 * 4**level)
    if case.numerics.max_step is not None:
        longest = min(longest, case.numerics.max_step / 2**level)
    return {"numerics.tolerance": tolerance, "numerics.max_step": f"{longest:.6g} s"}


@dataclass
class _Signals:
    """SIGUSR1, SIGTERM, SIGINT: write a checkpoint of the point at hand, then end."""

    asked: bool = False

    def watch(self) -> None:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: Any) -> None:
        self.asked = True


@dataclass
class _Channel:
    """Lines to and from the Dask worker; only rank 0 has one."""

    out: int
    buffer: bytes = b""

    def say(self, event: str, **values: Any) -> None:
        line = json.dumps({"event": event, **values}, default=str) + "\n"
        data = line.encode()
        with contextlib.suppress(BrokenPipeError):
            while data:
                data = data[os.write(self.out, data) :]

    def hear(self, signals: _Signals, idle: float | None) -> dict[str, Any] | None:
        """Return the next request; None at the end, when asked to stop or idle too long."""
        since = time.monotonic()
        while b"\n" not in self.buffer:
            if signals.asked or (idle is not None and time.monotonic() - since > idle):
                return None
            if select.select([0], [], [], 0.2)[0]:
                data = os.read(0, 1 << 16)
                if not data:
                    return None
                self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return dict(json.loads(line))


def serve(solver: str) -> None:
    """Answer requests until the input ends (collective over the ranks).

    Parameters
    ----------
    solver : str
        ``module:function`` that computes a point; see :func:`solve`.
    """
    signals = _Signals()
    signals.watch()
    module, _, name = solver.partition(":")
    function = getattr(import_module(module), name)
    comm = _communicator()
    channel = None
    if comm is None or comm.rank == 0:
        # whatever a library prints must not be taken for an answer
        channel = _Channel(os.dup(1))
        os.dup2(2, 1)
        channel.say("ready", pid=os.getpid(), host=os.uname().nodename)
    while True:
        idle = None if comm is None else _IDLE_RANKS
        request = channel.hear(signals, idle) if channel else None
        if comm is not None:
            request = comm.bcast(request)
        if request is None:
            return
        answer = _attempt(request, function, comm, channel, signals)
        if channel:
            channel.say("end", **answer)


def _communicator() -> Any:
    """Return the communicator, None for one process alone."""
    from nanoslit.parallel import mpi_world, under_launcher

    if not under_launcher():
        return None
    os.environ.setdefault("H5PY_ALWAYS_USE_MPI", "1")
    comm = mpi_world()
    return comm if comm.size > 1 else None


def _attempt(
    request: dict[str, Any],
    function: Callable[..., Any],
    comm: Any,
    channel: _Channel | None,
    signals: _Signals,
) -> dict[str, Any]:
    """Compute one point and say how it ended (collective)."""
    point, attempt = Point(Path(request["folder"])), int(request["attempt"])
    begin, cpu = time.time(), time.process_time()
    watch = _Watch(point, attempt, begin, float(request["time_limit"]), signals, channel)
    outcome, kind, text, extra = "failed", "", "", {}
    try:
        mine = True
        if channel:
            mine = point.take_lease(attempt)
            point.sweep_up()
        if comm is not None:
            mine = comm.bcast(mine)
        if not mine:
            outcome, kind = "dropped", "superseded"
        else:
            extra = function(request, point, comm, watch)
            outcome, kind = ("done", "") if extra.pop("finished") else watch.why()
    except BaseException as error:
        if not isinstance(error, Exception) and comm is not None:
            comm.Abort(1)
        kind, text = _classify(error, point), f"{type(error).__name__}: {error}"
        if not isinstance(error, NanoslitError):
            text += "\n" + traceback.format_exc()
        if comm is not None and not isinstance(error, NanoslitError):
            print(text, file=sys.stderr, flush=True)  # perhaps on this rank alone
            comm.Abort(1)
    spent = time.process_time() - cpu
    if comm is not None:
        spent = comm.allreduce(spent)
    answer = {
        "key": request["key"], "attempt": attempt, "outcome": outcome, "kind": kind,
        "message": text, "cpu": spent, "started": begin, "ended": time.time(),
        "ranks": 1 if comm is None else comm.size,
    }  # fmt: skip
    if channel:
        try:
            _settle(point, request, answer, extra)
        except OSError as error:
            answer |= {"outcome": "failed", "kind": _classify(error, point),
                       "message": f"{type(error).__name__}: {error}"}  # fmt: skip
    return answer


def _settle(
    point: Point, request: dict[str, Any], answer: dict[str, Any], extra: dict[str, Any]
) -> None:
    """Put the result in place and write down how the attempt ended."""
    if answer["outcome"] == "done":
        if not point.publish(answer["attempt"]) and not point.result.exists():
            answer |= {"outcome": "dropped", "kind": "superseded"}
            return
        record = {k: answer[k] for k in ("attempt", "cpu", "started", "ended", "ranks")}
        write_json(
            point.path / "done.json",
            {
                "key": answer["key"],
                **record,
                "host": os.uname().nodename,
                "changes": request.get("changes", {}),
                **extra,
            },
        )
        for name in ("lease.json", "failed.json", "case.toml"):
            (point.path / name).unlink(missing_ok=True)
    elif answer["outcome"] == "failed":
        from nanoslit.tomltext import toml_text

        write_json(point.path / "failed.json", answer)
        (point.path / "case.toml").write_text(toml_text(request["case"]), encoding="utf-8")


@dataclass
class _Watch:
    """Asked by a run after every step whether to stop; tells how far it is."""

    point: Point
    attempt: int
    begin: float
    limit: float
    signals: _Signals
    channel: _Channel | None
    told: float = 0.0
    looked: float = 0.0
    superseded: bool = False

    def stop(self) -> bool:
        """Whether the run must write a checkpoint and end."""
        now = time.time()
        if self.channel and now - self.looked > _LEASE_EVERY:
            self.looked = now
            self.superseded = self.point.leased_to() > self.attempt
        return self.signals.asked or self.superseded or now - self.begin > self.limit

    def why(self) -> tuple[str, str]:
        """Return outcome and kind of a run that was stopped."""
        if self.superseded:
            return "dropped", "superseded"
        return "checkpointed", "stopped" if self.signals.asked else "time-limit"

    def report(self, progress: Any) -> None:
        """Tell the progress of the run."""
        now = time.time()
        if self.channel and now - self.told > _BEAT_EVERY:
            self.told = now
            share = progress.time / progress.duration
            self.channel.say("beat", step=progress.steps, share=share)


def _classify(error: BaseException, point: Point) -> str:
    """Return the kind of a failure, which decides what is tried next."""
    if isinstance(error, ConvergenceError):
        return "divergence"
    if isinstance(error, CaseError):
        return "bad-input"
    if isinstance(error, MemoryError):
        return "out-of-memory"
    if isinstance(error, OSError):
        full = error.errno == errno.ENOSPC or "No space left" in str(error)
        with contextlib.suppress(OSError):
            full = full or shutil.disk_usage(point.path.parent.parent).free < _LOW_DISK
        return "disk-full" if full else "input-output"
    return "error"


def solve(request: dict[str, Any], point: Point, comm: Any, watch: _Watch) -> dict[str, Any]:
    """Run the case of a request; return whether it finished and what to remember of it."""
    from nanoslit.casefile import apply_overrides, case_from_document
    from nanoslit.errors import ResultFileError
    from nanoslit.results.running import run_case
    from nanoslit.sweep.record import record_of

    case = case_from_document(
        apply_overrides(request["case"], request.get("changes", {})), source=request["key"][:12]
    )
    settings: dict[str, Any] = {
        "comm": comm, "checkpoint_every": request["checkpoint_every"],
        "stop": watch.stop, "report": watch.report,
    }  # fmt: skip
    resumed = point.has_checkpoint
    try:
        finished = run_case(case, point.work, resume=True, **settings)
    except ResultFileError:
        if watch.channel and point.work.exists():  # torn, or of other numerics
            point.work.unlink()
        if not request["retry_fresh"]:
            raise
        resumed = False
        finished = run_case(case, point.work, overwrite=True, **settings)
    if not finished or watch.channel is None:
        return {"finished": finished}
    return {"finished": True, "resumed": resumed, **record_of(point.work)}
