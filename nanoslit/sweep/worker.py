"""What a Dask worker does: hands points to a solver process, watches it, reports.

No solve and no MPI happens in the worker itself. The solver process is started through
:mod:`nanoslit.launch` and lives as long as there is work for it on this worker; when it
dies, the point at hand is reported as lost and the next one gets a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoslit.launch import Child, explain_exit, start
from nanoslit.sweep.folder import Folder, read_json, write_json

__all__ = ["end_solvers", "run_batch", "stop_request"]

_LOOK_EVERY = 0.25
_SHOW_EVERY = 2.0
_PATIENCE = 30.0  # for the checkpoint of a point that is asked to stop [s]
_LEAVE_WITHIN = 10.0
_START_WITHIN = 120.0

_PR_SET_PDEATHSIG = 1  # number in the system call prctl

_solvers: dict[int, _Solver] = {}
_lock = threading.Lock()


def stop_request(root: Path, service: str) -> str:
    """Return what the service asks of its workers: "", "checkpoint" or "kill"."""
    request = read_json(root / "run" / "stop.json")
    if request is None or request.get("service") != service:
        return ""
    return str(request.get("mode", ""))


@dataclass
class _Solver:
    """A running solver process and what it was started for."""

    child: Child
    purpose: tuple[Any, ...]
    log: Path
    buffer: bytes = b""
    heard: bool = False  # it has begun to compute

    @classmethod
    def launch(cls, batch: dict[str, Any]) -> _Solver:
        logs = Path(batch["root"]) / "run" / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{os.uname().nodename}-{os.getpid()}-{threading.get_ident() % 10**6}.log"
        environment = {**os.environ, "OMPI_MCA_odls_base_sigkill_timeout": "5"}
        with log.open("ab") as file:
            child = start(
                ["sweep", "serve", "--solver", batch["solver"]],
                ranks=batch["ranks"], launcher=batch["launcher"], environment=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
            )  # fmt: skip
        return cls(child, _purpose(batch), log)

    def ask(self, request: dict[str, Any]) -> None:
        stdin = self.child.process.stdin
        assert stdin is not None
        stdin.write((json.dumps(request) + "\n").encode())
        stdin.flush()

    def answers(self, seconds: float) -> Iterator[dict[str, Any] | None]:
        """Yield what the process says; None whenever it said nothing for some seconds.

        Raises
        ------
        EOFError
            When it has ended.
        """
        stdout = self.child.process.stdout
        assert stdout is not None
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                with contextlib.suppress(ValueError):
                    yield dict(json.loads(line))
                continue
            if not select.select([stdout], [], [], seconds)[0]:
                yield None
                continue
            data = os.read(stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError
            self.buffer += data

    def end(self, *, kill: bool) -> int:
        """End the process and all its ranks; return its exit code."""
        if kill:
            _kill_tree(self.child.pid)
        for pipe in (self.child.process.stdin, self.child.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            # ranks that share cores take a while to leave MPI, and an mpirun that is told
            # to end them would wait for its full time-out even if they have left
            code = self.child.wait(_LEAVE_WITHIN)
        except subprocess.TimeoutExpired:
            code = self.child.end(_PATIENCE)
        self.child.__exit__(None, None, None)
        return code

    def tail(self, size: int = 2000) -> str:
        """Return the end of the log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - size))
                return file.read().decode(errors="replace")
        except OSError:
            return ""


def _purpose(batch: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(batch[k] for k in ("root", "solver", "ranks", "launcher"))


def _kill_tree(pid: int) -> None:
    """Kill a process and everything below it: a stopped or hung rank hears nothing else."""
    import psutil

    try:
        parent = psutil.Process(pid)
        family = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def dask_setup(worker: Any) -> None:
    """Tie this worker to its service (Dask calls this when the worker starts).

    A worker watches the pipe to its parent, but one that is stopped or hangs would outlive
    a killed service and keep the caller's pipes open: the kernel kills it then.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_solvers() -> None:
    """End the solver processes of this worker."""
    with _lock:
        solvers = list(_solvers.values())
        _solvers.clear()
    for solver in solvers:
        solver.end(kill=False)


def run_batch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Compute some points one after another; return how each ended.

    Parameters
    ----------
    batch : dict
        ``root``, ``service``, ``solver``, ``ranks``, ``launcher``, ``stale_after`` and
        ``points``, a list of requests (see :func:`nanoslit.sweep.serve.serve`).

    Returns
    -------
    list of dict
        ``key``, ``outcome`` ("done", "failed", "checkpointed", "dropped", "lost", or
        "untouched" for points that were not begun), ``kind``, ``message``, ``cpu``.
    """
    root = Path(batch["root"])
    out = []
    for request in batch["points"]:
        if stop_request(root, batch["service"]):
            out.append(_outcome(request, "untouched", "stopped"))
        else:
            out.append(_compute(batch, request))
    return out


def _outcome(
    request: dict[str, Any], outcome: str, kind: str, message: str = ""
) -> dict[str, Any]:
    return {"key": request["key"], "attempt": request["attempt"], "outcome": outcome,
            "kind": kind, "message": message, "cpu": 0.0}  # fmt: skip


def _solver(batch: dict[str, Any]) -> _Solver:
    """Return the solver process of this thread, a new one if there is none that fits."""
    me = threading.get_ident()
    solver = _solvers.get(me)
    if solver is not None and (
        solver.purpose != _purpose(batch) or solver.child.poll() is not None
    ):
        _drop(kill=False)
        solver = None
    if solver is None:
        solver = _Solver.launch(batch)
        with _lock:
            _solvers[me] = solver
    return solver


def _drop(*, kill: bool) -> int:
    with _lock:
        solver = _solvers.pop(threading.get_ident())
    return solver.end(kill=kill)


def _compute(batch: dict[str, Any], request: dict[str, Any]) -> dict[str, Any]:
    """Compute one point in the solver process and watch it."""
    from nanoslit.errors import LaunchError

    try:
        solver = _solver(batch)
        try:
            solver.ask(request)
        except OSError:  # it went home in this moment
            _drop(kill=True)
            solver = _solver(batch)
            solver.ask(request)
    except (LaunchError, OSError) as error:
        return _outcome(request, "failed", "launch", str(error))
    try:
        answer = _wait(solver, batch, request)
    except EOFError:
        tail, code = solver.tail(), _drop(kill=False)
        kind = "killed" if code in (-9, -15, 137, 143) else "crash"
        return _outcome(request, "lost", kind, f"{explain_exit(code)}\n{tail}")
    if answer is not None:
        return answer
    _drop(kill=True)
    if stop_request(Path(batch["root"]), batch["service"]):
        return _outcome(request, "lost", "stopped", "ended before its next step")
    return _outcome(
        request,
        "lost",
        "hung",
        f"no step for {batch['stale_after']:g} s; ended\n{solver.tail()}",
    )


def _wait(
    solver: _Solver, batch: dict[str, Any], request: dict[str, Any]
) -> dict[str, Any] | None:
    """Return the answer to a request; None if the solver must be ended by force."""
    root = Path(batch["root"])
    heard = time.monotonic()
    shown = stopping = looked = 0.0
    beat: dict[str, Any] = {}
    for said in solver.answers(_LOOK_EVERY):
        now = time.monotonic()
        if said is not None:
            heard = now
            solver.heard |= said["event"] != "ready"  # libraries are loaded after that
            if said["event"] == "end" and said["key"] == request["key"]:
                said.pop("event")
                return said
            if "step" in said and "step" not in beat:
                shown = 0.0
            beat = said
        if now - looked < _LOOK_EVERY and shown:
            continue
        looked = now
        mode = stop_request(root, batch["service"])
        if mode == "kill" or (stopping and now - stopping > _PATIENCE):
            return None
        if mode and not stopping:
            stopping = now
            solver.child.request_checkpoint()
        if now - heard > max(batch["stale_after"], 0.0 if solver.heard else _START_WITHIN):
            return None
        if not shown or now - shown > _SHOW_EVERY:
            shown = now
            _show(root, request, beat)
    return None


def _show(root: Path, request: dict[str, Any], beat: dict[str, Any]) -> None:
    """Write how far the point at hand is, for ``watch``; a full disk must not matter."""
    name = f"beat-{os.uname().nodename}-{os.getpid()}-{threading.get_ident() % 10**6}.json"
    with contextlib.suppress(OSError):
        write_json(
            Folder(root).run / name,
            {"key": request["key"], "written": time.time(), **beat},
        )
