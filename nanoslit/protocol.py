"""Applied potential against time: cyclic voltammetry, steps, tables, callables.

A protocol is a piecewise smooth function. ``breakpoints()`` lists the times where it
has a kink or a jump; the integrators of this package restart there. In a half cell the
potential is that of the electrode against the bulk; in a full cell it is the cell
voltage. Potentials are relative to the potential of zero charge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import ProtocolError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CallablePotential",
    "CyclicVoltammetry",
    "PotentialSteps",
    "PotentialTable",
    "Protocol",
]


class Protocol:
    """Potential as a function of time, piecewise smooth between breakpoints."""

    def __call__(self, t: ArrayLike, side: str = "right") -> NDArray[np.float64]:
        """Return the potential [V] at times t [s].

        Parameters
        ----------
        t : array_like
            Times [s].
        side : {"right", "left"}
            Which limit to take where the potential jumps.
        """
        raise NotImplementedError

    def breakpoints(self) -> NDArray[np.float64]:
        """Return the times of start, kinks, jumps and end, rising [s]."""
        raise NotImplementedError

    def cycle(self, t: ArrayLike) -> NDArray[np.int64]:
        """Return the cycle number (from 1) that times t belong to."""
        return np.ones(np.shape(t), dtype=np.int64)

    @property
    def start_potential(self) -> float:
        """Potential at which the system rests before time 0 [V]."""
        return float(self(0.0))

    @property
    def duration(self) -> float:
        """Length of the protocol [s]."""
        return float(self.breakpoints()[-1])

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest potential [V]."""
        t = self.breakpoints()
        v = np.concatenate([self(t), self(t, "left"), [self.start_potential]])
        return float(v.min()), float(v.max())


def _finite(**values: float) -> None:
    for key, value in values.items():
        if not math.isfinite(value):
            raise ProtocolError(f"{key} = {value!r} must be finite")


@dataclass(frozen=True)
class CyclicVoltammetry(Protocol):
    """Triangle wave between two potentials; the first sweep goes up.

    Parameters
    ----------
    lower, upper : float
        Vertex potentials [V].
    scan_rate : float
        Absolute slope [V s^-1].
    cycles : int
        Number of returns to ``start``.
    start : float, optional
        Potential at time 0, in [lower, upper); ``lower`` by default [V]. A cycle runs
        from one return to ``start`` (on the rising branch) to the next.

    Raises
    ------
    ProtocolError
        If upper <= lower, the rate is not positive, or start lies outside the window.
    """

    lower: float
    upper: float
    scan_rate: float
    cycles: int = 2
    start: float | None = None

    def __post_init__(self) -> None:
        _finite(lower=self.lower, upper=self.upper, scan_rate=self.scan_rate)
        if self.upper <= self.lower:
            raise ProtocolError(
                f"upper = {self.upper:g} V must be above lower = {self.lower:g} V"
            )
        if self.scan_rate <= 0:
            raise ProtocolError(f"scan_rate = {self.scan_rate:g} V/s must be positive")
        if isinstance(self.cycles, bool) or self.cycles != int(self.cycles) or self.cycles < 1:
            raise ProtocolError(f"cycles = {self.cycles!r} must be a whole number >= 1")
        start = self.lower if self.start is None else self.start
        _finite(start=start)
        if not self.lower <= start < self.upper:
            raise ProtocolError(
                f"start = {start:g} V must be >= lower = {self.lower:g} V and < upper = "
                f"{self.upper:g} V (the first sweep goes up)"
            )
        object.__setattr__(self, "start", float(start))

    @property
    def window(self) -> float:
        """Difference upper - lower [V]."""
        return self.upper - self.lower

    @property
    def period(self) -> float:
        """Duration of one cycle, 2 window / scan rate [s]."""
        return 2 * self.window / self.scan_rate

    @property
    def _rise(self) -> float:  # time from start to the first upper vertex
        assert self.start is not None
        return (self.upper - self.start) / self.scan_rate

    def breakpoints(self) -> NDArray[np.float64]:
        """Return start, every vertex and the end [s]."""
        half = 0.5 * self.period
        vertices = self._rise + half * np.arange(2 * self.cycles)
        end = self.cycles * self.period
        inner = vertices[vertices < end * (1 - 1e-12)]
        return np.concatenate([[0.0], inner, [end]])

    def __call__(self, t: ArrayLike, side: str = "right") -> NDArray[np.float64]:
        """Return the potential [V]; continuous, so ``side`` does not matter."""
        phase = np.mod(np.asarray(t, float) - self._rise, self.period) / self.period
        return np.asarray(self.upper - self.window * (1 - np.abs(1 - 2 * phase)))

    def cycle(self, t: ArrayLike) -> NDArray[np.int64]:
        """Return the cycle number; the end of a cycle belongs to it."""
        n = np.ceil(np.asarray(t, float) / self.period - 1e-9).astype(np.int64)
        return np.asarray(np.clip(n, 1, self.cycles))


@dataclass(frozen=True)
class PotentialTable(Protocol):
    """Piecewise linear potential; a repeated time is a jump.

    Parameters
    ----------
    times : tuple of float
        Not falling, starting at 0 [s]; a time may occur twice.
    potentials : tuple of float
        Potential at each time [V].
    start : float, optional
        Potential of the rest state before time 0; the first potential by default [V].

    Raises
    ------
    ProtocolError
        If lengths differ, times fall or do not start at 0, or nothing has a duration.
    """

    times: tuple[float, ...]
    potentials: tuple[float, ...]
    start: float | None = None

    def __post_init__(self) -> None:
        t, v = np.asarray(self.times, float), np.asarray(self.potentials, float)
        if t.ndim != 1 or t.shape != v.shape or t.size < 2:
            raise ProtocolError(
                f"{t.size} times and {v.size} potentials given; give the same number of "
                "both, at least 2"
            )
        if not (np.isfinite(t).all() and np.isfinite(v).all()):
            raise ProtocolError("times and potentials must be finite")
        if t[0] != 0 or np.any(np.diff(t) < 0) or t[-1] <= 0:
            raise ProtocolError("times must start at 0, must not fall and must not end at 0")
        if np.any(t[2:] == t[:-2]):
            raise ProtocolError("a time may occur twice (a jump), not three times")
        object.__setattr__(self, "times", tuple(t.tolist()))
        object.__setattr__(self, "potentials", tuple(v.tolist()))
        if self.start is not None:
            _finite(start=self.start)

    def breakpoints(self) -> NDArray[np.float64]:
        """Return the distinct times of the table [s]."""
        return np.asarray(np.unique(self.times))

    @property
    def start_potential(self) -> float:
        """Potential of the rest state before time 0 [V]."""
        return self.potentials[0] if self.start is None else self.start

    def __call__(self, t: ArrayLike, side: str = "right") -> NDArray[np.float64]:
        """Return the potential [V]; see :meth:`Protocol.__call__`."""
        x, v = np.asarray(self.times), np.asarray(self.potentials)
        s = np.clip(np.asarray(t, float), x[0], x[-1])
        i = np.searchsorted(x, s, side="right" if side == "right" else "left")
        i = np.clip(i, 1, len(x) - 1)
        # at the ends the segment may be a jump of zero width: step to the limit asked for
        width = x[i] - x[i - 1]
        fraction = np.divide(s - x[i - 1], width, out=np.ones_like(s), where=width > 0)
        return np.asarray(v[i - 1] + fraction * (v[i] - v[i - 1]))


def PotentialSteps(
    levels: tuple[float, ...], durations: tuple[float, ...], start: float = 0.0
) -> PotentialTable:
    """Return a protocol that jumps to each level and holds it.

    Parameters
    ----------
    levels : tuple of float
        Potentials [V].
    durations : tuple of float
        How long each is held [s], positive.
    start : float
        Potential of the rest state before the first jump [V].

    Raises
    ------
    ProtocolError
        If lengths differ or a duration is not positive.
    """
    if len(levels) != len(durations) or not levels:
        raise ProtocolError(
            f"{len(levels)} levels and {len(durations)} durations given; give the same "
            "number of both, at least 1"
        )
    if any(not (math.isfinite(d) and d > 0) for d in durations):
        raise ProtocolError(f"durations = {list(durations)} s must be positive")
    edges = np.concatenate([[0.0], np.cumsum(durations)])
    times = np.repeat(edges, 2)[1:-1]
    return PotentialTable(tuple(times.tolist()), tuple(np.repeat(levels, 2).tolist()), start)


@dataclass(frozen=True)
class CallablePotential(Protocol):
    """Any function of time (Python only; not available in case files).

    Parameters
    ----------
    function : callable
        Maps times [s] to potentials [V], vectorised, continuous.
    kinks : tuple of float
        0, the times of kinks, and the end, rising [s].
    """

    function: Callable[[Any], Any]
    kinks: tuple[float, ...]

    def __post_init__(self) -> None:
        k = np.asarray(self.kinks, float)
        if k.ndim != 1 or k.size < 2 or k[0] != 0 or np.any(np.diff(k) <= 0):
            raise ProtocolError("kinks must start at 0, rise, and end with the duration")

    def breakpoints(self) -> NDArray[np.float64]:
        """Return the declared kinks [s]."""
        return np.asarray(self.kinks, float)

    def __call__(self, t: ArrayLike, side: str = "right") -> NDArray[np.float64]:
        """Return the potential [V]."""
        return np.asarray(self.function(np.asarray(t, float)), float)

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest potential on 1000 points per piece [V]."""
        t = np.concatenate(
            [np.linspace(a, b, 1001) for a, b in zip(self.kinks, self.kinks[1:], strict=False)]
        )
        v = self(t)
        return float(v.min()), float(v.max())
