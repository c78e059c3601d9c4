"""A run as a whole: start or resume, advance, checkpoints, snapshots, result file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import ConvergenceError, ResultFileError
from nanoslit.mpnp.excess import add_excess
from nanoslit.mpnp.simulation import Simulation
from nanoslit.results.checkpoint import Checkpoints
from nanoslit.results.files import require_result, write_result
from nanoslit.results.provenance import describe, describe_attempt
from nanoslit.results.snapshots import Snapshots, snapshot_times

if TYPE_CHECKING:
    from nanoslit.case import Case

__all__ = ["CHECKPOINT_EVERY", "Progress", "run_case"]

CHECKPOINT_EVERY = 600.0
"""Seconds of wall time between checkpoints."""

_WORTH_SAVING = 60.0  # a shorter run is quickly repeated


@dataclass(frozen=True)
class Progress:
    """How far a run is (what a progress bar, a log and a heartbeat show).

    Attributes
    ----------
    time, duration : float
        Simulated time and the protocol's length [s].
    potential : float
        Applied potential [V].
    step_size : float
        Last time step [s].
    steps, newton_iterations : int
    wall_time : float
        Since this process started the run [s].
    remaining : float
        Estimated wall time to the end [s]; NaN at the start.
    """

    time: float
    duration: float
    potential: float
    step_size: float
    steps: int
    newton_iterations: int
    wall_time: float
    remaining: float

    def as_dict(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


@dataclass
class _Run:
    """One run with its files; the same on every rank, files on rank 0."""

    simulation: Simulation
    path: Path
    key: str
    warn: Callable[[str], None]
    comm: Any = None
    attempts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.path, self.key)
        self.begin = time.monotonic()
        self.begin_time = 0.0
        self.root = self.simulation.cell.rank == 0
        self.file_time = 0.0

    def start(self, resume: bool) -> None:
        """Start at equilibrium or go on from the newest checkpoint (collective)."""
        s, state, error = self.simulation, None, None
        if resume and self.root:
            try:
                state = self.checkpoints.read(self.warn)
            except ResultFileError as problem:
                error = problem
        s.cell.fail_together(error)
        if s.cell.share(state is not None):
            s.restore(state["simulation"] if state else None)
            self.snapshots = Snapshots.restore(s, state["snapshots"] if state else None)
            if state and "attempts" in state:
                self.attempts = json.loads(bytes(state["attempts"]))
        else:
            s.start()
            self.snapshots = Snapshots(snapshot_times(s.case))
            self.snapshots(s)
        self.begin_time = s.time
        self.attempts.append(describe_attempt(self.comm, s.time))

    def save(self) -> None:
        """Write a checkpoint (collective).

        Raises
        ------
        ResultFileError
            On every rank, if it cannot be written.
        """
        begin, error = time.perf_counter(), None
        state = self.simulation.state()
        snapshots = self.snapshots.state(self.simulation)
        if state is not None and snapshots is not None:
            try:
                attempts = np.frombuffer(json.dumps(self.attempts).encode(), np.uint8)
                self.checkpoints.write(
                    {"simulation": state, "snapshots": snapshots, "attempts": attempts}
                )
            except OSError as problem:
                error = problem
        self.simulation.cell.fail_together(error)
        self.file_time += time.perf_counter() - begin

    def progress(self) -> Progress:
        """Return how far the run is."""
        s = self.simulation
        row, wall = s.recorder.rows[-1], time.monotonic() - self.begin
        end = s.case.protocol.duration
        done = s.time - self.begin_time
        return Progress(
            s.time,
            end,
            float(row["applied_potential"]),
            float(row["step_size"]),
            s.cost.accepted,
            s.solver_cost.newton_iterations,
            wall,
            wall * (end - s.time) / done if done > 0 else float("nan"),
        )

    def finish(self, provenance: dict[str, Any], comm: Any) -> None:
        """Write the result and remove the checkpoints (collective)."""
        s = self.simulation
        traces = s.traces()
        add_excess(s, traces)
        provenance["checkpoint_time"] = self.file_time
        provenance["attempts"] = json.dumps(self.attempts)
        write_result(self.path, s, traces, self.snapshots, provenance, comm)
        if self.root:
            self.checkpoints.remove()


def _require_free(path: Path, key: str, resume: bool, overwrite: bool) -> bool:
    """Return whether the result exists already; raise if it may not be written."""
    if not path.parent.is_dir():
        raise ResultFileError(f"{path}: folder {path.parent} does not exist; make it first")
    if path.is_dir():
        raise ResultFileError(f"{path}: is a folder; give the name of a file")
    checkpoints = Checkpoints(path, key)
    if overwrite:
        checkpoints.remove()
        return False
    if path.exists():
        if not resume:
            raise ResultFileError(
                f"{path}: exists already; choose another name, or add --overwrite"
            )
        with require_result(path) as file:
            if file.attrs["content_key"] != key:
                raise ResultFileError(
                    f"{path}: is the result of another case; choose another name, or add "
                    "--overwrite"
                )
        return True
    if checkpoints.exist() and not resume:
        raise ResultFileError(
            f"{path}: checkpoints of an interrupted run exist beside it; continue with "
            "--resume, or start again with --overwrite"
        )
    return False


def run_case(
    case: Case,
    path: str | Path,
    *,
    comm: Any = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_every: float = CHECKPOINT_EVERY,
    stop: Callable[[], bool] | None = None,
    report: Callable[[Progress], None] | None = None,
    warn: Callable[[str], None] = print,
) -> bool:
    """Run a case and write its result file (collective).

    Parameters
    ----------
    case : Case
    path : path
        The result; its checkpoints stand beside it until it is finished.
    comm : mpi4py communicator, optional
        One process alone by default.
    resume : bool
        Go on from the newest good checkpoint, if there is one.
    overwrite : bool
        Replace an existing result and forget its checkpoints.
    checkpoint_every : float
        Wall time between checkpoints [s].
    stop : callable, optional
        Asked after every step on every rank; True on any rank means: write a checkpoint
        and return.
    report : callable, optional
        Told the progress on rank 0 after every step.
    warn : callable
        Told on rank 0 about what went wrong but does not end the run.

    Returns
    -------
    bool
        True when the run is finished, False when it was stopped after a checkpoint.

    Raises
    ------
    ResultFileError
        If the result exists, or files cannot be written or read.
    ConvergenceError
        If the solver cannot go on.
    """
    from nanoslit.casefile import content_key
    from nanoslit.errors import CaseError

    path = Path(path)
    try:
        key = content_key(case)
    except CaseError:
        key = f"python-only:{case.name}"
    snapshot_times(case)  # complain before anything is computed
    if _finished_before(path, key, resume, overwrite, comm):
        return True
    with Simulation(case, comm) as simulation:  # which loads the libraries to be described
        provenance = describe(case, comm) if comm is None or comm.rank == 0 else {}
        run = _Run(simulation, path, key, warn, comm)
        run.start(resume)
        if not _advance(run, checkpoint_every, stop or (lambda: False), report):
            run.save()
            return False
        if run.progress().wall_time > _WORTH_SAVING:
            _save_or_warn(run)  # the last steps survive a full disk at the end
        run.finish(provenance, comm)
    return True


def _finished_before(path: Path, key: str, resume: bool, overwrite: bool, comm: Any) -> bool:
    """Return on every rank whether there is nothing to do, or raise on every rank."""
    outcome: bool | ResultFileError = False
    if comm is None or comm.rank == 0:
        try:
            outcome = _require_free(path, key, resume, overwrite)
        except ResultFileError as error:
            outcome = error
    if comm is not None:
        outcome = comm.bcast(outcome)
    if isinstance(outcome, ResultFileError):
        raise outcome
    return outcome


def _advance(
    run: _Run, every: float, stop: Callable[[], bool], report: Callable[[Progress], None] | None
) -> bool:
    """Advance to the end (True) or until a stop is asked for (False)."""
    s, last = run.simulation, time.monotonic()
    while not s.finished:
        if s.cost.accepted >= s.case.numerics.max_steps:
            _save_or_warn(run)
            raise _too_many_steps(run)
        s.advance()
        run.snapshots(s)
        if report is not None and run.root:
            report(run.progress())
        due = run.root and time.monotonic() - last >= every
        wish = s.cell.max(2.0 if stop() else float(due))
        if wish >= 2 and not s.finished:
            return False
        if wish >= 1 and not s.finished:
            _save_or_warn(run)
            last = time.monotonic()
    return True


def _too_many_steps(run: _Run) -> ConvergenceError:
    p = run.progress()
    return ConvergenceError(
        f"case {run.simulation.case.name!r}: {p.steps} steps were taken up to t = "
        f"{p.time:.4g} s of {p.duration:.4g} s, as many as numerics.max_steps allows; raise "
        "it and start again, or look at why steps are short (solver/step_size)"
    )


def _save_or_warn(run: _Run) -> None:
    """Write a checkpoint; the run is worth more than one checkpoint (collective)."""
    try:
        run.save()
    except ResultFileError as error:
        if run.root:
            run.warn(f"no checkpoint: {error}")
