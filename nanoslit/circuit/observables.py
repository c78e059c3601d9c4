"""What users read off a circuit: areas, energies, shape numbers, Ragone, time constants.

Every function takes a batch and returns one number per circuit. The area in the
current-potential plane is charge swing times scan rate [A V]; it is not an energy, and
energies are named separately.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.circuit.drive import CURRENT, Drive
from nanoslit.errors import CircuitError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nanoslit.circuit.ladder import NanoCircuit
    from nanoslit.circuit.response import CircuitResponse

    Array = NDArray[np.float64]

__all__ = [
    "FEATURES",
    "Sweeps",
    "features",
    "last_cycle",
    "ragone",
    "resistance_range",
    "stored_charge",
    "stored_energy",
    "time_constants",
]

# name: (unit in the absolute basis, meaning)
FEATURES: dict[str, tuple[str, str]] = {
    "area": ("A V", "closed integral of current over potential; not an energy"),
    "relative_area": ("", "area over that of the total capacitance without resistance"),
    "capacitance": ("F", "area / (2 scan rate x window)"),
    "charge_swing": ("C", "electrode charge at the upper vertex minus that at the start"),
    "top_charge": ("C", "electrode charge at the upper vertex"),
    "relative_top_charge": ("", "top_charge over total capacitance x upper potential"),
    "stored_energy": ("J", "energy of the capacitors at the upper vertex minus at the start"),
    "supplied_energy": ("J", "integral of V I where it is positive"),
    "delivered_energy": ("J", "minus the integral of V I where it is negative"),
    "dissipated_energy": ("J", "integral of V I over the cycle minus the stored change"),
    "efficiency": ("", "delivered over supplied energy"),
    "asymmetry": (
        "",
        "integral of |I(t) + I(t + T)| over that of |I| on the rising sweep, T = half a period",
    ),
    "corner": ("", "current at the upper vertex / (scan rate x total capacitance)"),
    "contrast": ("", "current at the upper vertex / current at mid-sweep"),
    "half_rise": ("V", "potential at which the rising sweep passes half of its current rise"),
    "peak_potential": (
        "V",
        "potential of the largest current inside the rising sweep, else NaN",
    ),
    "peak_prominence": (
        "",
        "fall of the current from there to the vertex over that at the vertex, else 0",
    ),
    "peak_current": ("A", "largest |current|"),
}

_GAUSS = np.polynomial.legendre.leggauss(24)  # type: ignore[no-untyped-call]
PEAK_FLOOR = (
    3e-4  # of the corner current: smaller falls are within the error of the integration
)


@dataclass(frozen=True)
class Sweeps:
    """The two half sweeps of one cycle, (circuits, points) each."""

    time_up: Array
    current_up: Array
    time_down: Array
    current_down: Array
    lower: Array
    upper: Array
    scan_rate: Array


def last_cycle(response: CircuitResponse) -> Sweeps:
    """Return rising and falling sweep of the last cycle, times from their vertices.

    Raises
    ------
    CircuitError
        If the protocol is no cyclic voltammetry that starts at its lower vertex.
    """
    drive = response.drive
    slopes = drive.curves[:, :, 1]
    if (
        drive.pieces < 2
        or np.any(drive.kinds == CURRENT)
        or np.any(slopes[:, -2] <= 0)
        or np.any(np.abs(slopes[:, -1] + slopes[:, -2]) > 1e-9 * slopes[:, -2])
        or np.any(np.abs(drive.lengths[:, -1] / drive.lengths[:, -2] - 1) > 1e-9)
    ):
        raise CircuitError(
            "these observables need cyclic voltammetry that starts at its lower potential"
        )
    time, signal = response.outcome.time, response.outcome.signal
    lower, upper = drive.ends_of(drive.pieces - 2)
    return Sweeps(
        time[:, -2] - time[:, -2, :1], signal[:, -2],
        time[:, -1] - time[:, -1, :1], signal[:, -1], lower, upper, slopes[:, -2],
    )  # fmt: skip


def rows_at(x: Array, y: Array, where: Array) -> Array:
    """Interpolate each row of y(x) linearly at the same row of ``where``."""
    span = 2.0 * (x[:, -1:] - x[:, :1])
    rows = np.arange(len(x))[:, None]
    scaled = (x - x[:, :1]) / span + 2.0 * rows
    target = (where - x[:, :1]) / span + 2.0 * rows
    count = x.shape[1]
    i = np.searchsorted(scaled.ravel(), target.ravel(), side="right").reshape(target.shape)
    # positions in the flattened arrays, kept within the row
    np.maximum(i, rows * count + 1, out=i)
    np.minimum(i, rows * count + count - 1, out=i)
    x1, y1 = x.ravel()[i], y.ravel()[i]
    i -= 1
    x0, y0 = x.ravel()[i], y.ravel()[i]
    width = x1 - x0
    np.copyto(width, 1.0, where=width <= 0)
    share = np.subtract(where, x0, out=x1)
    share /= width
    np.maximum(share, 0.0, out=share)
    np.minimum(share, 1.0, out=share)
    y1 -= y0
    y1 *= share
    y1 += y0
    return np.asarray(y1)


def _integral(x: Array, y: Array) -> Array:
    return np.asarray((0.5 * (y[:, 1:] + y[:, :-1]) * np.diff(x, axis=1)).sum(axis=1))


def stored_charge(response: CircuitResponse, nodes: Array) -> Array:
    """Return the electrode's charge for potentials of the nodes, (circuits,) [C]."""
    p = response.job.law.parameters[:, :, 1:]
    c = response.job.capacitance
    slits = c[:, 1:] * response.job.law.charge(p, nodes[:, 1:])
    return np.asarray(c[:, 0] * nodes[:, 0] + slits.sum(axis=1))


def stored_energy(response: CircuitResponse, nodes: Array) -> Array:
    """Return the energy of the capacitors, (circuits,) [J]: int u dQ from u = 0."""
    p = response.job.law.parameters[:, :, 1:]
    c = response.job.capacitance
    if not response.job.law.varies:
        return np.asarray(0.5 * (c * nodes**2).sum(axis=1))
    x, weight = _GAUSS
    u = nodes[:, 1:]
    charge = response.job.law.charge(p, u)
    below = np.zeros_like(u)
    for z, w in zip(x, weight, strict=True):
        below += w * response.job.law.charge(p, 0.5 * (z + 1) * u)
    slits = c[:, 1:] * (u * charge - 0.5 * u * below)
    return np.asarray(0.5 * c[:, 0] * nodes[:, 0] ** 2 + slits.sum(axis=1))


def features(response: CircuitResponse) -> dict[str, Array]:
    """Return all of :data:`FEATURES` of the last cycle, each of shape (circuits,).

    Charges, the area and the dissipated energy come from the states at the vertices and
    the work integrated with the steps; the shape numbers from the stored points. In a
    symmetric cell potentials and energies are those of the cell, capacitance too.
    """
    s = last_cycle(response)
    outcome = response.outcome
    top, end = outcome.ends[:, -2], outcome.ends[:, -1]
    first = outcome.ends[:, -3] if outcome.ends.shape[1] > 2 else response.job.start
    q_first, q_top, q_end = (stored_charge(response, x) for x in (first, top, end))
    e_first, e_top, e_end = (stored_energy(response, x) for x in (first, top, end))
    capacity = response.circuit.total_capacitance
    window = s.upper - s.lower
    area = s.scan_rate * (2 * q_top - q_first - q_end)
    up, down = _power(s)
    supplied = np.maximum(up, 0), np.maximum(down, 0)
    given = np.maximum(-up, 0), np.maximum(-down, 0)
    put_in = _integral(s.time_up, supplied[0]) + _integral(s.time_down, supplied[1])
    taken = _integral(s.time_up, given[0]) + _integral(s.time_down, given[1])
    cells = 2.0 if response.circuit.cell == "symmetric" else 1.0
    work = outcome.work[:, -2:].sum(axis=1)
    ideal = 2 * s.scan_rate * capacity * window
    largest = np.maximum(np.abs(s.lower), np.abs(s.upper))
    return {
        "area": cells * area,
        "relative_area": area / ideal,
        "capacitance": area / (2 * s.scan_rate * window) / cells,
        "charge_swing": q_top - q_first,
        "top_charge": q_top,
        "relative_top_charge": q_top / (capacity * np.where(s.upper != 0, s.upper, largest)),
        "stored_energy": cells * (e_top - e_first),
        "supplied_energy": cells * put_in,
        "delivered_energy": cells * taken,
        "dissipated_energy": cells * (work - (e_end - e_first)),
        "efficiency": taken / put_in,
        **_shape(s, capacity, cells),
    }


def _power(s: Sweeps) -> tuple[Array, Array]:
    v_up = s.lower[:, None] + s.scan_rate[:, None] * s.time_up
    v_down = s.upper[:, None] - s.scan_rate[:, None] * s.time_down
    return v_up * s.current_up, v_down * s.current_down


def _shape(s: Sweeps, capacity: Array, cells: float) -> dict[str, Array]:
    """Return what the form of the curve says."""
    half = (s.upper - s.lower) / s.scan_rate
    together = np.sort(np.concatenate([s.time_up, s.time_down], axis=1), axis=1)
    rise = rows_at(s.time_up, s.current_up, together)
    fall = rows_at(s.time_down, s.current_down, together)
    total = _integral(together, np.abs(rise))
    corner = s.current_up[:, -1]
    middle = rows_at(s.time_up, s.current_up, 0.5 * half[:, None])[:, 0]
    peak = s.current_up.argmax(axis=1)
    rows = np.arange(len(peak))
    top = s.current_up[rows, peak]
    drop = (top - corner) / np.abs(corner)
    inside = drop > PEAK_FLOOR
    at_peak = cells * (s.lower + s.scan_rate * s.time_up[rows, peak])
    return {
        "asymmetry": _integral(together, np.abs(rise + fall)) / total,
        "corner": corner / (s.scan_rate * capacity),
        "contrast": corner / middle,
        "half_rise": cells * (s.lower + s.scan_rate * _half_rise(s)),
        "peak_potential": np.where(inside, at_peak, np.nan),
        "peak_prominence": np.where(inside, drop, 0.0),
        "peak_current": np.maximum(
            np.abs(s.current_up).max(axis=1), np.abs(s.current_down).max(axis=1)
        ),
    }


def _half_rise(s: Sweeps) -> Array:
    """Return the last time at which the rising sweep passes half of its rise [s]."""
    current = s.current_up
    half = 0.5 * (current[:, :1] + current.max(axis=1, keepdims=True))
    below = current < half
    last = current.shape[1] - 1 - below[:, ::-1].argmax(axis=1)
    last = np.clip(last, 0, current.shape[1] - 2)
    rows = np.arange(len(last))
    i0, i1 = current[rows, last], current[rows, last + 1]
    t0, t1 = s.time_up[rows, last], s.time_up[rows, last + 1]
    rise = np.where(i1 != i0, i1 - i0, 1.0)
    return np.asarray(t0 + (t1 - t0) * np.clip((half[:, 0] - i0) / rise, 0, 1))


def resistance_range(response: CircuitResponse) -> dict[str, Array]:
    """Return extremes of each resistor over the response and when they occur.

    Returns
    -------
    dict
        ``r_min``, ``r_max`` [Ohm, Ohm m, ...] and ``time_of_min``, ``time_of_max`` [s],
        each of shape (circuits, slits).
    """
    r = response.slit_resistance
    low, high = r.argmin(axis=1), r.argmax(axis=1)
    time = response.time[:, :, None]
    return {
        "r_min": np.take_along_axis(r, low[:, None], 1)[:, 0],
        "r_max": np.take_along_axis(r, high[:, None], 1)[:, 0],
        "time_of_min": np.take_along_axis(time, low[:, None], 1)[:, 0],
        "time_of_max": np.take_along_axis(time, high[:, None], 1)[:, 0],
    }


def time_constants(
    circuit: NanoCircuit, potential: float = 0.0, window: float | None = None
) -> Array:
    """Return the relaxation times of the ladder at rest at a potential.

    Parameters
    ----------
    circuit : NanoCircuit
    potential : float
        Potential of the electrode [V].
    window : float, optional
        Largest |potential| that Q_max refers to if ``q_max = "window"`` [V].

    Returns
    -------
    ndarray, shape (circuits, slits + 1)
        Longest first [s].
    """
    from nanoslit.circuit.impedance import at_rest

    g, c = at_rest(circuit, potential, window)
    go = 1.0 / circuit.value("r_open")
    n = circuit.n_slits + 1
    k = np.zeros((circuit.circuits, n, n))
    i = np.arange(n)
    k[:, i, i] = np.concatenate([go[:, None], g], axis=1)
    k[:, i[:-1], i[:-1]] += g
    k[:, i[:-1], i[1:]] = k[:, i[1:], i[:-1]] = -g
    scale = 1.0 / np.sqrt(c)
    rates = np.linalg.eigvalsh(k * scale[:, :, None] * scale[:, None, :])
    return np.asarray(1.0 / rates)


def ragone(
    circuit: NanoCircuit,
    currents: ArrayLike,
    *,
    upper: float,
    lower: float = 0.0,
    backend: str = "auto",
) -> dict[str, Array]:
    """Return energy against power of constant-current discharges.

    Definition: rest at ``upper``, discharge with constant current until the potential
    (with its ohmic step) is ``lower``; E = integral of V I dt, P = E / time.

    Parameters
    ----------
    circuit : NanoCircuit
        One circuit for all currents, or a batch; results have both axes.
    currents : array_like, shape (currents,)
        Positive [A, A/m or A/m^2].
    upper, lower : float
        Potentials [V], of the cell if ``cell = "symmetric"``.

    Returns
    -------
    dict
        ``current`` (currents,), ``energy``, ``power``, ``time``, ``charge``, each of shape
        (circuits, currents). A current whose ohmic step ends the discharge at once has
        energy 0 and power 0.

    Raises
    ------
    CircuitError
        If a current is not positive or the window is empty.
    """
    given = np.atleast_1d(np.asarray(currents, float))
    if not (np.all(given > 0) and np.all(np.isfinite(given))):
        raise CircuitError("currents must be positive and finite")
    if not upper > lower:
        raise CircuitError(f"upper = {upper!r} V must be above lower = {lower!r} V")
    cells = 2.0 if circuit.cell == "symmetric" else 1.0
    batch = circuit.select(np.repeat(np.arange(circuit.circuits), len(given)))
    current = np.tile(given, circuit.circuits)
    longest = 2 * batch.total_capacitance * (upper - lower) / current
    curves = np.zeros((len(current), 1, 4))
    curves[:, 0, 0] = -current
    drive = Drive(
        np.array([CURRENT]), longest[:, None], curves, np.full((len(current), 1), lower),
        np.array([1e-12]), np.full(len(current), float(upper)), np.array([True]),
        np.array([1]),
    )  # fmt: skip
    response = batch.simulate(drive, backend=backend)
    shape = (circuit.circuits, len(given))
    time = np.ptp(response.outcome.time[:, 0], axis=1).reshape(shape)
    energy = (-cells * response.outcome.work[:, 0]).reshape(shape)
    real = time > 1e-9 * longest.reshape(shape)
    energy = np.where(real, energy, 0.0)
    power = np.where(real, energy / np.where(real, time, 1.0), 0.0)
    return {
        "current": given, "energy": energy, "power": power,
        "time": np.where(real, time, 0.0),
        "charge": np.where(real, time, 0.0) * given,
    }  # fmt: skip
