"""Runs the compiled kernel on all cores: blocks of circuits dealt to threads."""

from __future__ import annotations

import os
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nanoslit.circuit.integrator import Job, Outcome
    from nanoslit.circuit.resistor import Resistor

__all__ = ["integrate"]

BLOCK = 1024  # circuits a thread takes at a time

_Lane = namedtuple("_Lane", "who piece count stored start records")
_Out = namedtuple(
    "_Out", "time signal ends work steps outside status nodes second width points"
)

_lock = threading.Lock()
_specialised: dict[tuple[Any, ...], Any] = {}


def _kernel(law: Resistor) -> tuple[Any, int]:
    from nanoslit.circuit import kernel

    key = law.signature
    if key is None:
        return kernel.advance, kernel.N_PAR
    with _lock:
        if key not in _specialised:
            _specialised[key] = kernel.specialise(law.compiled_parts())
    return _specialised[key], law.parameters.shape[0]


def _scratch(n: int, parameters: int) -> tuple[Any, Any, Any]:
    from nanoslit.circuit import kernel

    lanes = kernel.LANES
    w = np.zeros((n + 2) * (kernel.ROWS + parameters) * lanes)
    s = np.zeros(kernel.STATE_ROWS * lanes)
    who, piece, count, stored = np.zeros((4, lanes), np.int64)
    lane = _Lane(
        who,
        piece,
        count,
        stored,
        np.zeros(lanes),
        np.empty((lanes, kernel.MAX_RECORDS, kernel.RECORD)),
    )
    return w, s, lane


def integrate(job: Job, out: Outcome, second: bool, threads: int | None) -> None:
    """Fill ``out`` for all circuits of ``job``.

    Parameters
    ----------
    job : Job
    out : Outcome
    second : bool
        Whether to repeat the run and store all nodes at the times found before.
    threads : int, optional
        Number of threads; by default one per core that this process may use.
    """
    advance, n_par = _kernel(job.law)
    circuits, n = job.start.shape
    arrays = (
        job.start, job.capacitance, job.law.parameters, job.g_open, job.g_first,
        job.lower, job.upper, job.potential_scale, job.current_scale,
        job.strictness,
    )  # fmt: skip
    drive = job.drive.arrays()
    tolerance = (job.tolerance.current, job.tolerance.potential)
    nodes = out.potentials if second else np.empty((1, 1, 1))
    result = _Out(
        out.times, out.signals, out.ends, out.work, out.steps, out.outside, out.status,
        nodes, second, out.width, out.points + 1,
    )  # fmt: skip
    if threads is None:
        threads = len(os.sched_getaffinity(0))
    threads = max(1, min(threads, -(-circuits // 16)))
    block = max(16, min(BLOCK, -(-circuits // threads)))
    starts = range(0, circuits, block)

    def run(first: int) -> None:
        w, s, lane = _scratch(n, n_par)
        advance(
            first, min(first + block, circuits), w, s, n, lane, arrays, drive, tolerance,
            result,
        )  # fmt: skip

    if threads == 1:
        for first in starts:
            run(first)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, starts))
