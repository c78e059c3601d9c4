"""A protocol as the ladder integrator needs it: smooth pieces, one set per circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.errors import ProtocolError
from nanoslit.protocol import (
    CallablePotential,
    CyclicVoltammetry,
    PotentialTable,
    Protocol,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["POTENTIAL", "CURRENT", "Drive"]

POTENTIAL, CURRENT = 0, 1

# Shortest step over the length of a piece. After the vertex of a sweep the current of
# the open space relaxes within a layer that need not be resolved if it is shorter.
SWEEP_LAYER = 5e-5
JUMP_LAYER = 1e-12


@dataclass
class Drive:
    """Smooth pieces of the protocols of all circuits.

    Parameters
    ----------
    kinds : ndarray of int, shape (pieces,)
        POTENTIAL or CURRENT: what is given.
    lengths : ndarray, shape (circuits, pieces)
        Duration of each piece [s]; a bound of it if there is a limit.
    curves : ndarray, shape (circuits, pieces, 4)
        Coefficients of 1, t, t^2, t^3 of the given signal from the piece's start.
    limits : ndarray, shape (circuits, pieces)
        Potential at which a piece of given current ends [V]; NaN for none.
    smallest : ndarray, shape (pieces,)
        Shortest step over the length of the piece.
    start : ndarray, shape (circuits,)
        Potential of the rest state before time 0 [V].
    jumps : ndarray of bool, shape (pieces,)
        Whether the signal may jump where the piece starts.
    cycles : ndarray of int, shape (pieces,)
        Cycle number (from 1) of each piece.
    """

    kinds: NDArray[np.int64]
    lengths: Array
    curves: Array
    limits: Array
    smallest: Array
    start: Array
    jumps: NDArray[np.bool_]
    cycles: NDArray[np.int64]

    @property
    def pieces(self) -> int:
        """Number of pieces."""
        return len(self.kinds)

    @property
    def circuits(self) -> int:
        """Number of circuits."""
        return len(self.start)

    def arrays(self) -> tuple[NDArray[np.int64], Array, Array, Array, Array]:
        """Return what the back ends read, contiguous."""
        c = np.ascontiguousarray
        return (
            c(self.kinds), c(self.lengths), c(self.curves), c(self.limits), c(self.smallest)
        )  # fmt: skip

    def ends_of(self, piece: int) -> tuple[Array, Array]:
        """Return the given signal at the start and the end of a piece [V or A]."""
        c, t = self.curves[:, piece], self.lengths[:, piece]
        return c[:, 0], c[:, 0] + t * (c[:, 1] + t * (c[:, 2] + t * c[:, 3]))

    def bounds(self) -> tuple[Array, Array]:
        """Return the smallest and largest given potential of each circuit [V]."""
        lo, hi = self.start.copy(), self.start.copy()
        grid = np.linspace(0, 1, 9)
        for p in range(self.pieces):
            if self.kinds[p] == CURRENT:
                known = np.where(np.isnan(self.limits[:, p]), self.start, self.limits[:, p])
                lo, hi = np.minimum(lo, known), np.maximum(hi, known)
                continue
            cubic = bool(np.any(self.curves[:, p, 2:]))
            for x in grid if cubic else (0.0, 1.0):
                v = self.at(p, x * self.lengths[:, p])
                lo, hi = np.minimum(lo, v), np.maximum(hi, v)
        return lo, hi

    def at(self, piece: int, t: Array) -> Array:
        """Return the given signal at times t from the start of a piece, (circuits, ...)."""
        c = self.curves[:, piece]
        c = c.reshape(c.shape[0], *([1] * (t.ndim - 1)), 4)
        return np.asarray(c[..., 0] + t * (c[..., 1] + t * (c[..., 2] + t * c[..., 3])))

    def select(self, rows: slice | Array | NDArray[np.int64]) -> Drive:
        """Return the drive of some circuits."""
        return Drive(
            self.kinds, self.lengths[rows], self.curves[rows], self.limits[rows],
            self.smallest, self.start[rows], self.jumps, self.cycles,
        )  # fmt: skip

    def take(self, pieces: NDArray[np.int64]) -> Drive:
        """Return the drive with some pieces only."""
        return Drive(
            self.kinds[pieces], self.lengths[:, pieces], self.curves[:, pieces],
            self.limits[:, pieces], self.smallest[pieces], self.start,
            self.jumps[pieces], self.cycles[pieces],
        )  # fmt: skip

    def halved(self) -> Drive:
        """Return the drive of one electrode of a symmetric cell: half the potentials."""
        given = np.where(self.kinds[None, :, None] == POTENTIAL, 0.5, 1.0)
        return Drive(
            self.kinds, self.lengths, self.curves * given, 0.5 * self.limits,
            self.smallest, 0.5 * self.start, self.jumps, self.cycles,
        )  # fmt: skip

    @classmethod
    def sweeps(
        cls, lower: Array, upper: Array, scan_rate: Array, cycles: int, start: Array
    ) -> Drive:
        """Return triangle waves, all arguments but ``cycles`` of shape (circuits,)."""
        inside = bool(np.any(start > lower))
        if inside and np.any(start <= lower):
            raise ProtocolError(
                "either all or none of a batch of cyclic voltammetries may start above "
                "their lower potential; simulate them separately"
            )
        if inside:  # a break at start, so that cycles consist of whole pieces
            corners = np.stack([start, upper, lower, start], axis=1)
        else:
            corners = np.stack([lower, upper, lower], axis=1)
        corners = np.concatenate([corners[:, :1], np.tile(corners[:, 1:], cycles)], axis=1)
        change = np.diff(corners, axis=1)
        count = change.shape[1]
        curves = np.zeros((len(lower), count, 4))
        curves[:, :, 0] = corners[:, :-1]
        curves[:, :, 1] = np.sign(change) * scan_rate[:, None]
        lengths = np.abs(change) / scan_rate[:, None]
        return cls(
            np.zeros(count, np.int64), lengths, curves, np.full(lengths.shape, np.nan),
            np.full(count, SWEEP_LAYER), start.copy(), np.zeros(count, bool),
            1 + np.arange(count) // (count // cycles),
        )  # fmt: skip

    @classmethod
    def of(cls, protocol: Protocol | Sequence[Protocol], circuits: int) -> Drive:
        """Return the drive of one protocol for all circuits, or of one for each.

        Raises
        ------
        ProtocolError
            If the number of protocols is not that of the circuits or they differ in
            kind or number of pieces.
        """
        given = [protocol] if isinstance(protocol, Protocol) else list(protocol)
        if len(given) not in (1, circuits):
            raise ProtocolError(
                f"{len(given)} protocols given for {circuits} circuits; give one, or one "
                "for each"
            )
        if all(isinstance(p, CyclicVoltammetry) for p in given):
            drive = cls._of_sweeps([p for p in given if isinstance(p, CyclicVoltammetry)])
        else:
            drive = _joined([_single(p) for p in given])
        if len(given) == 1 and circuits > 1:
            drive = drive.select(np.zeros(circuits, np.int64))
        return drive

    @classmethod
    def _of_sweeps(cls, given: list[CyclicVoltammetry]) -> Drive:
        if len({p.cycles for p in given}) > 1:
            raise ProtocolError("all protocols of a batch must have the same cycles")
        columns = np.array([(p.lower, p.upper, p.scan_rate, p.start) for p in given], float)
        return cls.sweeps(
            columns[:, 0], columns[:, 1], columns[:, 2], given[0].cycles, columns[:, 3]
        )


def _single(protocol: Protocol) -> Drive:
    if isinstance(protocol, CyclicVoltammetry):
        return Drive._of_sweeps([protocol])
    if isinstance(protocol, CallablePotential):
        return _of_callable(protocol)
    pieces = getattr(protocol, "pieces", None)
    if callable(pieces):
        return _of_pieces(*pieces())
    if isinstance(protocol, PotentialTable):
        return _of_table(protocol)
    raise ProtocolError(
        f"{type(protocol).__name__} is not a protocol that a circuit can follow"
    )


def _joined(parts: list[Drive]) -> Drive:
    first = parts[0]
    if any(not np.array_equal(p.kinds, first.kinds) for p in parts):
        raise ProtocolError(
            "all protocols of a batch must have the same number and kinds of pieces"
        )
    return Drive(
        first.kinds,
        np.concatenate([p.lengths for p in parts]),
        np.concatenate([p.curves for p in parts]),
        np.concatenate([p.limits for p in parts]),
        np.min([p.smallest for p in parts], axis=0),
        np.concatenate([p.start for p in parts]),
        np.any([p.jumps for p in parts], axis=0),
        first.cycles,
    )


def _of_pieces(
    kinds: Sequence[int],
    lengths: Sequence[float],
    values: Sequence[float],
    limits: Sequence[float],
    cycles: Sequence[int],
    start: float,
) -> Drive:
    """Return a drive whose pieces hold a constant potential or current."""
    count = len(kinds)
    curves = np.zeros((1, count, 4))
    curves[0, :, 0] = values
    return Drive(
        np.asarray(kinds, np.int64), np.asarray([lengths], float), curves,
        np.asarray([limits], float), np.full(count, JUMP_LAYER), np.array([start]),
        np.ones(count, bool), np.asarray(cycles, np.int64),
    )  # fmt: skip


def _of_table(protocol: PotentialTable) -> Drive:
    t = protocol.breakpoints()
    right, left = protocol(t[:-1], "right"), protocol(t[1:], "left")
    lengths = np.diff(t)
    curves = np.zeros((1, len(lengths), 4))
    curves[0, :, 0] = right
    curves[0, :, 1] = (left - right) / lengths
    before = np.concatenate([[protocol.start_potential], left[:-1]])
    jumps = np.abs(right - before) > 1e-12 * max(1e-300, np.ptp(np.r_[left, right, before]))
    return Drive(
        np.zeros(len(lengths), np.int64), lengths[None], curves,
        np.full((1, len(lengths)), np.nan), np.where(jumps, JUMP_LAYER, SWEEP_LAYER),
        np.array([protocol.start_potential]), jumps, np.ones(len(lengths), np.int64),
    )  # fmt: skip


def _of_callable(protocol: CallablePotential) -> Drive:
    """Return cubic pieces that follow a function to 1e-7 of its range."""
    lo, hi = protocol.bounds
    bound = 1e-7 * max(hi - lo, 1e-300)
    edges = list(protocol.kinks)
    x = np.linspace(0, 1, 4)
    inverse = np.linalg.inv(np.vander(x, increasing=True))
    fine = np.linspace(0, 1, 13)
    powers = np.vander(fine, 4, increasing=True)
    lengths, curves = [], []
    todo = list(zip(edges[:-1], edges[1:], strict=True))[::-1]
    while todo:
        a, b = todo.pop()
        c = inverse @ protocol(a + (b - a) * x)
        if np.abs(powers @ c - protocol(a + (b - a) * fine)).max() > bound:
            if b - a < 1e-6 * edges[-1]:
                raise ProtocolError(
                    f"the potential near t = {a:g} s is not smooth; declare its kinks"
                )
            middle = 0.5 * (a + b)
            todo += [(middle, b), (a, middle)]
            continue
        lengths.append(b - a)
        curves.append(c / (b - a) ** np.arange(4))
    count = len(lengths)
    return Drive(
        np.zeros(count, np.int64), np.array([lengths]), np.array([curves]),
        np.full((1, count), np.nan), np.full(count, SWEEP_LAYER),
        np.array([protocol.start_potential]), np.zeros(count, bool),
        np.ones(count, np.int64),
    )  # fmt: skip
