"""Islands over MPI ranks: the same law, to the last digit, on any number of ranks.

The number of islands is a setting; island k lives on rank k modulo the number of ranks.
Migrants sent at the end of epoch e are used at the start of epoch e + 2, so that a
message travels while both sides compute, and a receiver waits for exactly the message
that it expects. Epochs end with a non-blocking maximum over a few flags, read one epoch
later: stop requests, checkpoints and the end act at the same epoch on every rank.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from nanoslit.discovery import checkpoint
from nanoslit.discovery.island import Individual, Island, Laboratory
from nanoslit.parallel import Communicator, SerialCommunicator, raise_together

__all__ = ["Progress", "RESUME_CODE", "SearchResult", "StopRequest", "search"]

RESUME_CODE = 85
FLAGS = 4
UNFINISHED, SAVE, STOP, OVERDUE = range(FLAGS)
TAGS = 64

logger = logging.getLogger("nanoslit.discovery")


@dataclass(frozen=True)
class Progress:
    """State of a run at the end of an epoch, for people."""

    epoch: int
    generation: int
    evaluations: int
    rate: float
    best: dict[int, tuple[float, str]]
    migrants: int
    duplicates: int
    rejected: int


@dataclass(frozen=True)
class SearchResult:
    """Archive of a run: the best individual of each complexity, on rank 0.

    Parameters
    ----------
    front : tuple of Individual
        By rising complexity; empty on other ranks.
    evaluations : int
        Of all islands.
    generations : int
        Of the longest island.
    interrupted : bool
        Whether a signal ended the run; it can be continued.
    """

    front: tuple[Individual, ...]
    evaluations: int
    generations: int
    interrupted: bool


class StopRequest:
    """Context in which SIGTERM, SIGINT and SIGUSR1 only raise a flag."""

    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self) -> None:
        self.raised = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for s in self.signals:
            self._before[s] = signal.signal(s, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for s, handler in self._before.items():
            signal.signal(s, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.raised = True


class Archipelago:
    """The islands of one rank, their mail, and the agreement with other ranks."""

    def __init__(self, laboratory: Laboratory, comm: Communicator, folder: Path | None) -> None:
        self.laboratory = laboratory
        self.comm = comm
        self.folder = folder
        self.count = laboratory.settings.islands
        mine = range(comm.rank, self.count, comm.size)
        self.islands = {k: Island(laboratory, k) for k in mine}
        self.outbox: dict[int, dict[int, str]] = {k: {} for k in mine}
        self.mailbox: dict[tuple[int, int], str] = {}
        self.epoch = 0

    def resume(self) -> bool:
        """Continue from the newest checkpoint, if there is one; collective."""
        assert self.folder is not None
        epoch = -1
        error: Exception | None = None
        try:
            found = checkpoint.newest(self.folder, self.laboratory)
            epoch = -1 if found is None else found
        except Exception as caught:
            error = caught
        raise_together(self.comm, error)
        epoch = int(self.comm.broadcast_text(str(epoch)))
        if epoch < 0:
            return False
        for k in self.islands:
            self.islands[k], self.outbox[k] = checkpoint.load(
                self.folder, epoch, k, self.laboratory
            )
        self.epoch = epoch
        for k, messages in self.outbox.items():
            for e, text in messages.items():
                self._deliver(e, k, text)
        return True

    def save(self) -> None:
        """Write a checkpoint of the boundary before ``self.epoch``; collective."""
        assert self.folder is not None
        error: Exception | None = None
        try:
            for k, island in self.islands.items():
                checkpoint.write_island(self.folder, self.epoch, island, self.outbox[k])
        except OSError as caught:
            error = caught
        raise_together(self.comm, error)
        if self.comm.rank == 0:
            checkpoint.write_manifest(self.folder, self.epoch, self.laboratory)
        self.comm.barrier()

    def target(self, epoch: int, source: int) -> int:
        """Return the island that gets the migrants of ``source``."""
        if self.laboratory.settings.topology == "ring":
            return (source + 1) % self.count
        order = self._order(epoch)
        at = int(np.flatnonzero(order == source)[0])
        return int(order[(at + 1) % self.count])

    def source(self, epoch: int, target: int) -> int:
        """Return the island whose migrants ``target`` gets."""
        if self.laboratory.settings.topology == "ring":
            return (target - 1) % self.count
        order = self._order(epoch)
        at = int(np.flatnonzero(order == target)[0])
        return int(order[at - 1])

    def _order(self, epoch: int) -> Any:
        key = [self.laboratory.settings.seed, (1 << 62) | epoch]
        return np.random.Generator(np.random.Philox(key=key)).permutation(self.count)

    @property
    def migrates(self) -> bool:
        """Whether there is anybody to exchange migrants with."""
        return self.count > 1 and self.laboratory.settings.topology != "none"

    def run_epoch(self) -> None:
        """Receive, evolve and send on every island of this rank."""
        for k, island in self.islands.items():
            if self.migrates and self.epoch >= 2:
                self._receive(island)
            for _ in range(self.laboratory.settings.migration_interval):
                if island.finished:
                    break
                island.step()
            if self.migrates:
                self._send(k, island)
        self.epoch += 1

    def _send(self, k: int, island: Island) -> None:
        people = [] if not island.population else island.emigrants()
        lines = [self.laboratory.write(i) for i in people]
        text = json.dumps({"solved": island.solved, "migrants": lines})
        self.outbox[k] = {e: t for e, t in self.outbox[k].items() if e >= self.epoch - 1}
        self.outbox[k][self.epoch] = text
        self._deliver(self.epoch, k, text)

    def _deliver(self, epoch: int, k: int, text: str) -> None:
        target = self.target(epoch, k)
        if target % self.comm.size == self.comm.rank:
            self.mailbox[epoch, target] = text
        else:
            tag = k + self.count * (epoch % TAGS)
            self.comm.send_text(text, target % self.comm.size, tag)

    def _receive(self, island: Island) -> None:
        epoch = self.epoch - 2
        source = self.source(epoch, island.number)
        if source % self.comm.size == self.comm.rank:
            text = self.mailbox.pop((epoch, island.number))
        else:
            tag = source + self.count * (epoch % TAGS)
            text = self.comm.receive_text(source % self.comm.size, tag)
        message = json.loads(text)
        if island.finished:
            return
        island.receive([self.laboratory.read(line) for line in message["migrants"]])
        island.solved = island.solved or message["solved"]

    def drain(self) -> None:
        """Receive what is still under way, so that no message stays unmatched."""
        if self.migrates:
            for epoch in (self.epoch - 2, self.epoch - 1):
                for k in self.islands:
                    source = self.source(epoch, k)
                    if epoch >= 0 and source % self.comm.size != self.comm.rank:
                        tag = source + self.count * (epoch % TAGS)
                        self.comm.receive_text(source % self.comm.size, tag)
        self.comm.barrier()

    def gather(self) -> list[Individual]:
        """Return the best of each complexity over all islands on rank 0."""
        mine = {
            k: [self.laboratory.write(i.archive[c]) for c in sorted(i.archive)]
            for k, i in self.islands.items()
        }
        everyone: dict[int, list[str]] = {}
        for text in self.comm.gather_text(json.dumps(mine)):
            everyone |= {int(k): v for k, v in json.loads(text).items()}
        best: dict[int, Individual] = {}
        for k in sorted(everyone):
            for line in everyone[k]:
                i = self.laboratory.read(line)
                if i.size not in best or i.error < best[i.size].error:
                    best[i.size] = i
        return [best[c] for c in sorted(best)]

    def total(self, key: str) -> int:
        """Sum a counter over all islands; on rank 0."""
        mine = sum(int(getattr(i, key)) for i in self.islands.values())
        return sum(int(t) for t in self.comm.gather_text(str(mine)))


def search(
    laboratory: Laboratory,
    comm: Communicator | None = None,
    *,
    folder: Path | None = None,
    resume: bool = False,
    checkpoint_generations: int = 0,
    checkpoint_seconds: float = 600.0,
    seconds: float = 0.0,
    stop: StopRequest | None = None,
    report: Callable[[Progress], None] | None = None,
) -> SearchResult:
    """Run the islands until their budget is used up; collective.

    Parameters
    ----------
    laboratory : Laboratory
        Problem and settings; equal on every rank.
    comm : Communicator, optional
        By default this process alone.
    folder : Path, optional
        Of checkpoints; none are written without it.
    resume : bool
        Continue from the newest checkpoint if there is one.
    checkpoint_generations, checkpoint_seconds : int, float
        Write one every so many generations, and at least every so many seconds.
    seconds : float
        Stop after this wall time, at the end of an epoch (then the result depends on
        the speed of the machine); 0 for no limit.
    stop : StopRequest, optional
        Asks for a checkpoint and an early end.
    report : callable, optional
        Called on rank 0 with the state of its islands after each epoch.

    Raises
    ------
    ResultFileError
        If the checkpoint belongs to other data or settings.
    """
    comm = comm or SerialCommunicator()
    world = Archipelago(laboratory, comm, folder)
    if resume and folder is not None:
        world.resume()
    interval = laboratory.settings.migration_interval
    every = max(1, -(-checkpoint_generations // interval)) if checkpoint_generations else 0
    begin = saved = time.monotonic()
    first = sum(i.evaluations for i in world.islands.values())
    request, interrupted = None, False
    while True:
        world.run_epoch()
        now = time.monotonic()
        if report is not None and comm.rank == 0:
            report(_progress(world, now - begin, first))
        agreed = np.zeros(FLAGS, dtype=np.int64) if request is None else comm.finish(request)
        started = request is not None
        flags = np.zeros(FLAGS, dtype=np.int64)
        flags[UNFINISHED] = any(not i.finished for i in world.islands.values())
        flags[SAVE] = comm.rank == 0 and now - saved > checkpoint_seconds
        flags[STOP] = stop is not None and stop.raised
        flags[OVERDUE] = comm.rank == 0 and 0 < seconds < now - begin
        ends = started and (not agreed[UNFINISHED] or agreed[STOP] or agreed[OVERDUE])
        due = agreed[SAVE] or agreed[STOP] or (every and world.epoch % every == 0)
        if folder is not None and (due or ends):
            world.save()
            saved = now
        if ends:
            interrupted = bool(agreed[STOP]) and bool(agreed[UNFINISHED])
            break
        request = comm.start_maximum(flags)
    world.drain()
    front = world.gather()
    evaluations, generations = world.total("evaluations"), world.total("generation")
    return SearchResult(
        tuple(front), evaluations, generations // max(world.count, 1), interrupted
    )


def _progress(world: Archipelago, elapsed: float, first: int) -> Progress:
    from nanoslit.discovery.tokens import to_formula

    islands = list(world.islands.values())
    best: dict[int, tuple[float, str]] = {}
    columns = world.laboratory.problem.columns
    for island in islands:
        for size, i in island.archive.items():
            if size not in best or i.error < best[size][0]:
                best[size] = i.error, to_formula(i.tokens, None, i.constants, columns)
    done = sum(i.evaluations for i in islands)
    return Progress(
        epoch=world.epoch,
        generation=max((i.generation for i in islands), default=0),
        evaluations=done,
        rate=(done - first) / max(elapsed, 1e-9),
        best=dict(sorted(best.items())),
        migrants=sum(i.accepted_migrants for i in islands),
        duplicates=sum(i.duplicates for i in islands),
        rejected=sum(i.rejected for i in islands),
    )
