"""The service: takes points from the catalogue, hands batches to Dask, books the outcomes.

Only a few batches are in flight, so that memory does not grow with the sweep. Everything
that must survive stands in the files; when the service, a worker, the scheduler or a rank
is killed, :func:`nanoslit.sweep.reconcile.restore_unfinished` finds where things stand.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from nanoslit.errors import CaseError, LaunchError
from nanoslit.sweep.catalogue import Catalogue, Claimed, Update
from nanoslit.sweep.cluster import Where, connect, usable_memory
from nanoslit.sweep.cost import mesh_nodes
from nanoslit.sweep.folder import Folder, write_json
from nanoslit.sweep.plan import RankRule
from nanoslit.sweep.points import Points
from nanoslit.sweep.worker import run_batch

__all__ = ["SOLVER", "Outcome", "Service"]

SOLVER = "nanoslit.sweep.serve:solve"
"""What computes a point; a benchmark of the dispatch puts something else here."""

_LARGEST_BATCH = 200
_STOCK = 5000  # points taken from the catalogue at once
_LOST_LIMIT = 10  # attempts a point may lose through no fault of its own
_GENTLE_LEVELS = 2
_LOOK_EVERY = 0.5
_SCHEDULER_GONE = 60.0  # a scheduler that is away for so long is gone [s]
_ALIKE = ("divergence", "error", "input-output", "crash", "launch", "bad-input", "hung")


@dataclass
class Outcome:
    """How a service ended."""

    stopped: bool = False
    reason: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    cpu: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 all done, 1 failures or paused, 85 stopped on request."""
        if self.stopped:
            return 85
        bad = self.counts.get("failed", 0) + self.counts.get("quarantined", 0)
        return 1 if self.reason or bad else 0


def decide(outcome: dict[str, Any], row: dict[str, Any], attempts: int) -> Update:
    """Return the new state of a point after an attempt: retry by kind of failure.

    Parameters
    ----------
    outcome : dict
        From :func:`nanoslit.sweep.worker.run_batch`.
    row : dict
        What the catalogue knows of the point.
    attempts : int
        Failures before a point is given up.
    """
    key, kind = bytes.fromhex(outcome["key"]), str(outcome["kind"])
    cpu, how = float(outcome["cpu"]), outcome["outcome"]
    if how == "done":
        return Update(key, "done", "", cpu)
    if how == "checkpointed":
        return Update(key, "checkpointed", kind, cpu)
    if how == "untouched":
        return Update(key, "checkpointed" if outcome.get("checkpoint") else "planned", kind)
    waits = "checkpointed" if outcome.get("checkpoint") else "planned"
    if kind in ("disk-full", "stopped") or how == "dropped":
        return Update(key, waits, kind, cpu)
    if how == "lost" and kind in ("killed", "worker"):
        if row["losses"] + 1 >= _LOST_LIMIT:
            return Update(key, "quarantined", kind, cpu, losses=1)
        return Update(key, waits, kind, cpu, losses=1)
    if kind == "bad-input":
        return Update(key, "failed", kind, cpu, failures=1)
    if kind == "divergence":
        if row["gentle"] < _GENTLE_LEVELS:
            return Update(key, "planned", kind, cpu, failures=1, gentle=1)
        return Update(key, "failed", kind, cpu, failures=1)
    if row["failures"] + 1 >= attempts:
        return Update(key, "quarantined" if how == "lost" else "failed", kind, cpu, failures=1)
    return Update(key, waits, kind, cpu, failures=1)


@dataclass
class Service:
    """One run of the service on one plan of a folder.

    Parameters
    ----------
    folder : Folder
        Owned by the caller (:class:`nanoslit.sweep.owner.Ownership`).
    catalogue : Catalogue
    plan : int
        Number of the plan in the catalogue.
    points : Points
    where : Where
    tell : callable, optional
        Told the counts now and then.
    solver : str
    """

    folder: Folder
    catalogue: Catalogue
    plan: int
    points: Points
    where: Where = field(default_factory=Where)
    tell: Callable[[Service], None] | None = None
    solver: str = SOLVER

    def __post_init__(self) -> None:
        self.name = f"{os.uname().nodename}-{os.getpid()}-{time.time_ns()}"
        self.results: queue.SimpleQueue[tuple[Any, list[Claimed]]] = queue.SimpleQueue()
        self.in_flight: dict[str, list[Claimed]] = {}
        self.weights: dict[str, RankRule] = {}
        self.stock: deque[Claimed] = deque()  # claimed, not yet in a batch
        self.held: list[tuple[RankRule, list[Claimed]]] = []
        self.left, self.mean = 0, 0.0  # points that wait, expected cost of one
        self.unwritten: list[Update] = []
        self.outcome = Outcome()
        self.mode = ""
        self.pause = ""
        self.scale = 1.0  # measured over expected cost
        self._spent = self._foreseen = 0.0
        self._firsts: dict[bytes, str] = {}  # how the first points ended
        self.slots = 1

    # -- the loop ---------------------------------------------------------------------

    def run(self) -> Outcome:
        """Compute every point that waits; return how it ended.

        Raises
        ------
        LaunchError
            If the scheduler is lost for good.
        """
        (self.folder.run / "stop.json").unlink(missing_ok=True)
        for beat in self.folder.run.glob("beat-*.json"):
            beat.unlink(missing_ok=True)
        if self._waiting() == 0:  # nothing to do: no workers either
            self.outcome.counts = self.catalogue.counts(self.plan)
            return self.outcome
        execution, resources = self.points.plan.execution, self.points.plan.resources
        with self._signals(), ExitStack() as stack:
            logs = self.folder.run / "logs"
            self.client, expected = connect(self.where, execution, resources, stack, logs)
            self.slots = expected or 1
            try:
                self._loop()
            finally:
                self._leave()
        self.outcome.counts = self.catalogue.counts(self.plan)
        self.outcome.stopped = bool(self.mode) and self._waiting() > 0
        self.outcome.reason = self.pause
        return self.outcome

    def _waiting(self) -> int:
        counts = self.catalogue.counts(self.plan)
        return counts["planned"] + counts["checkpointed"]

    def _loop(self) -> None:
        told = gone = 0.0
        while True:
            self._slots_now()
            if not (self.mode or self.pause):
                self._refill()
            idle = not (self.in_flight or self.unwritten)
            # a scheduler that is away may come back: points that wait are no end
            if idle and (self._alive() or self.mode or self.pause or not self._waiting()):
                return
            self._collect()
            self._requests()
            now = time.monotonic()
            if self.tell is not None and now - told > _LOOK_EVERY:
                told = now
                self.tell(self)
            gone = 0.0 if self._alive() else gone or now
            if gone and now - gone > _SCHEDULER_GONE or self.client.status == "closed":
                raise LaunchError(
                    f"the Dask scheduler is gone; nothing is lost, go on with "
                    f"`nanoslit sweep resume {self.folder.root}`"
                )
            if self.mode == "kill":
                return

    def _alive(self) -> bool:
        return str(self.client.status) == "running"

    def _slots_now(self) -> None:
        with contextlib.suppress(Exception):
            threads = (
                self.client.nthreads()
                if self.where.external or (self.where.cluster == "slurm")
                else None
            )
            if threads:
                self.slots = max(1, sum(threads.values()))

    def _leave(self) -> None:
        """Give back what was not computed and end the solver processes."""
        left = [
            Update(
                c.key, "checkpointed" if self.folder.point(c.key).has_checkpoint else "planned"
            )
            for batch in [*self.in_flight.values(), *(p for _, p in self.held), self.stock]
            for c in batch
            if not self.folder.point(c.key).done
        ]
        with contextlib.suppress(sqlite3.Error):
            self.catalogue.update(left)
        if self._alive() and self.mode != "kill":
            from nanoslit.sweep.worker import end_solvers

            with contextlib.suppress(Exception):
                self.client.run(end_solvers, nanny=False, on_error="ignore")

    # -- handing out ------------------------------------------------------------------

    def _refill(self) -> None:
        if not self._alive():
            return
        mixed = len(self.points.plan.resources.ranks) > 1
        while len(self.in_flight) < 2 * self.slots:
            if not self.held:
                claimed = self._take()
                by_rule: dict[RankRule, list[Claimed]] = {}
                for point in claimed:
                    by_rule.setdefault(self._rule(point), []).append(point)
                self.held = list(by_rule.items())
            if not self.held:
                return
            rule, points = self.held[0]
            # where points differ, a worker is a core and a point takes several
            if mixed and self.weights and not self._fits(rule):
                return
            self.held.pop(0)
            self._submit(rule, points)

    def _fits(self, rule: RankRule) -> bool:
        """Whether ranks and, on this machine, memory are free for one more batch."""
        resources, rules = self.points.plan.resources, [*self.weights.values(), rule]
        if sum(r.ranks for r in rules) > self.slots:
            return False
        here = self.where.cluster == "local" and not self.where.external
        return not here or sum(map(resources.memory_of, rules)) <= usable_memory()

    def _take(self) -> list[Claimed]:
        """Return the points of the next batch: fewer and fewer towards the end."""
        if not self.stock:  # many at once: the catalogue is asked seldom
            self.left = self._waiting()
            self.mean = self.catalogue.mean_cost()
            self.stock.extend(self.catalogue.claim(self.plan, _STOCK))
            self.left -= len(self.stock)
        n = min(len(self.stock), self._batch_size())
        return [self.stock.popleft() for _ in range(n)]

    def _batch_size(self) -> int:
        by_time = int(self.points.plan.execution.batch_time / max(self.mean * self.scale, 1e-6))
        fair = -(-(self.left + len(self.stock)) // (4 * self.slots))
        return max(1, min(by_time, fair, _LARGEST_BATCH))

    def _rule(self, point: Claimed) -> RankRule:
        resources = self.points.plan.resources
        if len(resources.ranks) == 1:
            return resources.ranks[0]
        try:
            return resources.rule_for(mesh_nodes(self.points, point.number))
        except CaseError:  # told when the point is computed
            return resources.ranks[0]

    def _request(self, point: Claimed) -> dict[str, Any]:
        from nanoslit.sweep.serve import gentler

        plan, document = self.points.plan, self.points.document(point.number)
        return {
            "key": point.key.hex(), "folder": str(self.folder.point(point.key).path.resolve()),
            "attempt": point.attempt, "case": document,
            "changes": gentler(document, point.gentle), "resume": point.resume,
            "retry_fresh": point.attempt > 1, "time_limit": plan.resources.time_limit,
            "checkpoint_every": plan.execution.checkpoint_every,
        }  # fmt: skip

    def _submit(self, rule: RankRule, claimed: list[Claimed]) -> None:
        execution = self.points.plan.execution
        batch = {
            "root": str(self.folder.root.resolve()), "service": self.name,
            "solver": self.solver, "ranks": rule.ranks, "launcher": execution.launcher,
            "stale_after": execution.stale_after,
            "points": [self._request(c) for c in claimed],
        }  # fmt: skip
        name = f"batch-{claimed[0].key.hex()[:12]}-a{claimed[0].attempt}"
        self.in_flight[name] = claimed
        self.weights[name] = rule
        self.outcome.started = self.outcome.started or time.time()
        future = self.client.submit(run_batch, batch, key=name, pure=False)
        future.add_done_callback(lambda f, c=claimed: self.results.put((f, c)))

    # -- booking ----------------------------------------------------------------------

    def _collect(self) -> None:
        """Book what has come back; wait a little if nothing has."""
        with contextlib.suppress(queue.Empty):
            future, claimed = self.results.get(timeout=_LOOK_EVERY)
            self._book(future, claimed)
            while True:
                future, claimed = self.results.get_nowait()
                self._book(future, claimed)
        self._write()

    def _book(self, future: Any, claimed: list[Claimed]) -> None:
        self.in_flight.pop(future.key, None)
        self.weights.pop(future.key, None)
        if future.status == "finished":
            outcomes = future.result()
        else:  # the worker died: what it had finished stands in the files
            scheduler = future.status == "cancelled" or not self._alive()
            outcomes = [self._after_death(c, scheduler) for c in claimed]
        future.release()
        by_key = {c.key: c for c in claimed}
        self.outcome.ended = time.time()
        for outcome in outcomes:
            point = by_key[bytes.fromhex(outcome["key"])]
            files = self.folder.point(point.key)
            if outcome["outcome"] not in ("done", "failed"):
                outcome["checkpoint"] = files.has_checkpoint
            update = decide(
                outcome,
                self.catalogue.row(point.key) or {},
                self.points.plan.execution.attempts,
            )
            if update.state in ("failed", "quarantined") and files.failed is None:
                self._record_failure(point, outcome)
            self.unwritten.append(update)
            self._learn(point, outcome)

    def _after_death(self, point: Claimed, scheduler: bool) -> dict[str, Any]:
        """Return how a point of a batch that never came back ended."""
        files = self.folder.point(point.key)
        base = {"key": point.key.hex(), "attempt": point.attempt, "cpu": 0.0, "message": ""}
        record = files.done
        if record is not None and files.result.exists():
            return {**base, "outcome": "done", "kind": "", "cpu": record.get("cpu", 0.0)}
        if scheduler:  # no fault of the point or of its worker
            return {**base, "outcome": "untouched", "kind": "scheduler"}
        begun = files.leased_to() == point.attempt
        return {**base, "outcome": "lost" if begun else "untouched", "kind": "worker",
                "message": "its Dask worker was killed"}  # fmt: skip

    def _record_failure(self, point: Claimed, outcome: dict[str, Any]) -> None:
        files = self.folder.point(point.key)
        with contextlib.suppress(OSError):
            files.path.mkdir(parents=True, exist_ok=True)
            write_json(files.path / "failed.json", outcome)

    def _learn(self, point: Claimed, outcome: dict[str, Any]) -> None:
        """Take the measured cost, and notice when everything fails alike."""
        self.outcome.cpu += float(outcome["cpu"])
        if outcome["kind"] == "disk-full":
            self.pause = (
                f"the disk is full: {self.folder.free} bytes are free at {self.folder.root}; "
                f"make room, then `nanoslit sweep resume {self.folder.root}`"
            )
        if outcome["outcome"] == "done":
            self._note_first(point, "done", "")
            if not point.resume and point.expected > 0:
                self._spent += float(outcome["cpu"])
                self._foreseen += point.expected
                self.scale = max(self._spent, 1e-9) / self._foreseen
        elif outcome["kind"] in _ALIKE:
            self._note_first(point, outcome["kind"], outcome["message"])

    def _note_first(self, point: Claimed, kind: str, message: str) -> None:
        """Notice when the first points all fail alike: something basic is wrong."""
        k = self.points.plan.execution.pause_after
        if len(self._firsts) >= k:
            return
        self._firsts[point.key] = kind
        if len(self._firsts) == k and set(self._firsts.values()) == {kind} != {"done"}:
            self.pause = (
                f"the first {k} points all failed alike ({kind}): {gist(message)}; when it is "
                f"mended, `nanoslit sweep retry {self.folder.root}`"
            )

    def _write(self) -> None:
        """Write the outcomes; on a full disk keep them and try again later."""
        if not self.unwritten:
            return
        try:
            self.catalogue.update(self.unwritten)
            self.unwritten = []
        except sqlite3.OperationalError as error:
            self.pause = self.pause or f"the catalogue cannot be written: {error}"
            if not self.in_flight:
                raise LaunchError(
                    f"{self.folder.catalogue}: cannot be written ({error}); the results are "
                    f"safe; make room, then `nanoslit sweep resume {self.folder.root}`"
                ) from None
            time.sleep(_LOOK_EVERY)

    # -- requests to stop -------------------------------------------------------------

    def _signals(self) -> Any:
        stack = ExitStack()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            old = signal.signal(number, self._note)
            stack.callback(signal.signal, number, old)
        return stack

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.mode = "kill" if self.mode else "checkpoint"
        if self.mode == "kill":
            text = "ending all solves now"
        else:
            text = "writing checkpoints and stopping; once more to end at once"
        os.write(2, f"\n{text}\n".encode())

    def _requests(self) -> None:
        """Pass on a request to stop; take one from ``sweep cancel``."""
        path = self.folder.run / "stop.json"
        if self.mode:
            with contextlib.suppress(OSError):
                write_json(path, {"service": self.name, "mode": self.mode})
        if (self.folder.run / "cancel.json").exists() and not self.mode:
            self.mode = "checkpoint"


def gist(message: str) -> str:
    """Return what a failure says in one line: its first words and its last."""
    lines = [line.strip() for line in message.splitlines() if line.strip(" -=*\t")]
    if not lines:
        return "no message"
    return lines[0] if len(lines) == 1 else f"{lines[0]} | ... {lines[-1]}"


def say(text: str) -> None:
    """Print a line for people."""
    print(text, file=sys.stderr, flush=True)
