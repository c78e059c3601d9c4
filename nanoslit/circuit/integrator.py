"""Time integration of many ladders: what a run is made of, and the choice of back end.

State: ``u`` = electrode minus local solution potential at the open space (node 0) and
at slits 1..N. ``C_k g(u_k) du_k/dt = J_k - J_{k+1}`` with ``J_k`` the current into
node k; ``J_0`` is driven by a potential through R_open, or given. RODAS4 with error
control for each circuit, restarted at every kink of the protocol. The error of every
resistor's current is held below a fraction of the circuit's largest electrode current.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.rodas import TOO_MANY_STEPS, UNDER_RESOLVED
from nanoslit.errors import CircuitError, ConvergenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.drive import Drive
    from nanoslit.circuit.resistor import Resistor

    Array = NDArray[np.float64]

__all__ = ["Job", "Outcome", "Tolerance", "current_floor", "integrate"]

BACKENDS = ("auto", "numba", "numpy")
# A step may straddle a kink of the law (zero charge, saturation) and underestimate its
# error there; where one can occur the tolerances are multiplied by this.
KINK_STRICTNESS = 0.3
FEW = 100_000  # nodes x pieces


@dataclass(frozen=True)
class Tolerance:
    """Bounds of the local error of a step.

    Parameters
    ----------
    current : float
        Error of every resistor's current over the largest electrode current [-].
    potential : float
        Error of every node's potential over the potential range [-].
    """

    current: float = 1e-5
    potential: float = 3e-5

    def __post_init__(self) -> None:
        for key in ("current", "potential"):
            value = getattr(self, key)
            if not 0 < value < 0.1:
                raise CircuitError(
                    f"tolerance of the {key} = {value!r} must be between 0 and 0.1"
                )


@dataclass
class Job:
    """Circuits, protocol and tolerances of one run.

    Parameters
    ----------
    start : ndarray, shape (circuits, nodes)
        Potentials of the nodes at time 0 [V].
    capacitance : ndarray, shape (circuits, nodes)
        C_open and the C_slit of each slit [F or F/m].
    law : Resistor
        Law of the resistors with its parameters, shape (parameters, circuits, nodes).
    g_open : ndarray, shape (circuits,)
        1/R_open [S or S/m].
    drive : Drive
        Protocol of each circuit.
    points : int
        Intervals between stored points of a piece.
    tolerance : Tolerance
    """

    start: Array
    capacitance: Array
    law: Resistor
    g_open: Array
    drive: Drive
    points: int
    tolerance: Tolerance = field(default_factory=Tolerance)
    g_first: Array = field(init=False)
    lower: Array = field(init=False)
    upper: Array = field(init=False)
    potential_scale: Array = field(init=False)
    current_scale: Array = field(init=False)
    strictness: Array = field(init=False)

    def __post_init__(self) -> None:
        slopes = np.abs(self.law.rest_conductance())
        self.g_first = np.ascontiguousarray(slopes[:, 0])
        lo, hi = self.drive.bounds()
        self.lower = np.minimum(lo, self.start.min(axis=1))
        self.upper = np.maximum(hi, self.start.max(axis=1))
        span = self.upper - self.lower
        largest = np.maximum(np.abs(self.lower), np.abs(self.upper))
        self.potential_scale = np.where(span > 0, span, np.where(largest > 0, largest, 1))
        self.current_scale = current_floor(self, slopes)
        kinked = self.law.kinked(self.lower, self.upper)
        self.strictness = np.where(kinked, KINK_STRICTNESS, 1.0)


@dataclass
class Outcome:
    """Results of a run.

    Stored points of all pieces lie one after the other. Where no piece starts with a jump,
    the end of one piece is the start of the next: the point is stored once, and the arrays
    can be handed out as they are. ``time``, ``signal`` and ``nodes`` are views by piece.
    """

    points: int  # intervals between stored points of a piece
    width: int  # distance of the first points of two pieces: points, or points + 1
    times: Array  # (circuits, stored points) [s]
    signals: Array  # same; current, or potential where the current is given
    ends: Array  # (circuits, pieces, nodes) potentials at the end of each piece [V]
    work: Array  # (circuits, pieces) integral of potential x current [J or J/m]
    steps: NDArray[np.int64]  # (circuits,) tried steps
    outside: Array  # (circuits,) how far a node left the range of the drive [V]
    status: NDArray[np.int64]  # (circuits,) 0 if solved
    potentials: Array  # (circuits, stored points, nodes) or empty [V]

    @classmethod
    def empty(cls, circuits: int, pieces: int, points: int, nodes: int, jumps: bool) -> Outcome:
        """Return an outcome to be filled; ``jumps``: whether a later piece starts so."""
        width = points + 1 if jumps else points
        stored = width * (pieces - 1) + points + 1
        return cls(
            points, width, np.empty((circuits, stored)), np.empty((circuits, stored)),
            np.empty((circuits, pieces, nodes)), np.empty((circuits, pieces)),
            np.zeros(circuits, np.int64), np.zeros(circuits), np.zeros(circuits, np.int64),
            np.empty((0, 0, 0)),
        )  # fmt: skip

    @property
    def time(self) -> Array:
        """Stored times, (circuits, pieces, points + 1) [s]."""
        return self._by_piece(self.times)

    @property
    def signal(self) -> Array:
        """Current, or potential where the current is given, like ``time`` [A or V]."""
        return self._by_piece(self.signals)

    @property
    def nodes(self) -> Array:
        """Potentials of the nodes, (circuits, pieces, points + 1, nodes) [V]."""
        return self._by_piece(self.potentials)

    def _by_piece(self, a: Array) -> Array:
        if a.shape[0] == 0 or a.shape[1] == 0:
            return a
        shape = (a.shape[0], self.ends.shape[1], self.points + 1, *a.shape[2:])
        strides = (a.strides[0], self.width * a.strides[1], *a.strides[1:])
        return np.lib.stride_tricks.as_strided(a, shape, strides)


def current_floor(job: Job, slopes: Array) -> Array:
    """Estimate each circuit's largest current: one implicit Euler step per piece.

    The uncharged ladder answers the potential change of a whole piece in one step,
    which gives the size of the current within a factor of two [A or A/m].
    """
    drive = job.drive
    floor = np.zeros(job.start.shape[0])
    for piece in range(min(drive.pieces, 8)):
        first, last = drive.ends_of(piece)
        if drive.kinds[piece] == 1:
            floor = np.maximum(floor, np.maximum(np.abs(first), np.abs(last)))
            continue
        change = last - job.start[:, 0] if piece == 0 else last - drive.ends_of(piece - 1)[1]
        share = _euler_share(job, slopes, drive.lengths[:, piece])
        floor = np.maximum(floor, np.abs(change) * job.g_open * (1 - share))
    tiny = 1e-9 * job.g_open * job.potential_scale
    return 0.5 * np.maximum(floor, tiny)


def _euler_share(job: Job, slopes: Array, length: Array) -> Array:
    """Return the change of u_0 per change of V after one implicit Euler step."""
    rate = job.capacitance / length[:, None]
    beyond = np.zeros(len(length))  # conductance seen into the ladder from node k
    for k in range(job.start.shape[1] - 1, 0, -1):
        inner = rate[:, k] + beyond
        beyond = slopes[:, k - 1] * inner / (slopes[:, k - 1] + inner)
    return np.asarray(job.g_open / (job.g_open + rate[:, 0] + beyond))


def choose_backend(name: str, job: Job) -> str:
    """Return "numba" or "numpy" for a request that may be "auto".

    A generated law is compiled anew in every process, which only pays for many
    circuits.
    """
    if name not in BACKENDS:
        raise CircuitError(f"backend = {name!r} must be one of {list(BACKENDS)}")
    small = job.start.size * job.drive.pieces < FEW
    if name == "numpy" or (name == "auto" and small and job.law.signature is not None):
        return "numpy"
    try:
        import numba  # noqa: F401
    except ImportError:
        if name == "numba":
            from nanoslit.errors import MissingExtraError

            raise MissingExtraError(
                "backend = 'numba' needs numba: install nanoslit[fast], or use 'numpy'"
            ) from None
        return "numpy"
    return "numba"


def integrate(
    job: Job,
    *,
    backend: str = "auto",
    threads: int | None = None,
    previous: Outcome | None = None,
) -> Outcome:
    """Integrate all circuits.

    Parameters
    ----------
    job : Job
    backend : {"auto", "numba", "numpy"}
        ``auto`` is numba where it is installed; both give the same results.
    threads : int, optional
        Threads of the compiled back end; all cores of the process by default.
    previous : Outcome, optional
        Result of the same job: the run is repeated and the potentials of all nodes are
        stored at the same times.

    Returns
    -------
    Outcome

    Raises
    ------
    ConvergenceError
        If a circuit could not be solved; the message names its index.
    """
    circuits, n = job.start.shape
    backend = choose_backend(backend, job)
    if previous is None:
        jumps = bool(job.drive.jumps[1:].any())
        out = Outcome.empty(circuits, job.drive.pieces, job.points, n, jumps)
    else:
        out = previous
        out.potentials = np.empty((*out.times.shape, n))
        out.steps[:] = 0
    run: Any
    if backend == "numba":
        from nanoslit.circuit.compiled import integrate as run
    else:
        from nanoslit.circuit.vectorised import integrate as run
    run(job, out, previous is not None, threads)
    check_outcome(job, out)
    return out


def check_outcome(job: Job, out: Outcome) -> None:
    """Raise if a circuit failed or is not finite; name the first one."""
    failed = np.flatnonzero((out.status != 0) | ~np.isfinite(out.ends).all(axis=(1, 2)))
    if failed.size:
        index = int(failed[0])
        reason = {
            UNDER_RESOLVED: "no step was short enough for the tolerance",
            TOO_MANY_STEPS: "it needs too many steps",
        }.get(int(out.status[index]), "the result is not finite")
        raise ConvergenceError(
            f"circuit {index} could not be integrated: {reason} ({failed.size} of "
            f"{len(out.status)} circuits failed); check its parameters or loosen the "
            "tolerance"
        )
