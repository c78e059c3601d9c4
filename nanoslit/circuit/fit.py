"""Fit of a circuit to measured or simulated voltammograms.

Levenberg-Marquardt from many starts at once: all starts and all finite differences of an
iteration are one batch of circuits. Parameters are fitted as logarithms (gamma as a
logit-like variable); intervals come from the Jacobian at the best fit, so what the data
cannot tell apart has wide ones. Slow scans identify only R0 and gamma R_c S: give several
scan rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.drive import JUMP_LAYER, SWEEP_LAYER, Drive
from nanoslit.circuit.integrator import Tolerance
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.circuit.observables import rows_at
from nanoslit.errors import CircuitError, ConvergenceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.measurement import Measurement

    Array = NDArray[np.float64]

__all__ = ["FitResult", "fit"]

GAMMA_LIMIT = 0.985  # of |gamma|
STATES = ("rest", "periodic")
WIDE = {"gamma": 0.25, "log": 0.25}  # a standard error beyond this is not identified
STUDENT = 1.96
POOR = 0.1  # misfit beyond which the model does not describe the data
PROFILE_ROUNDS, PROFILE_STEPS = 8, 6
FARTHEST = 5.0  # of a fit variable from the best: a factor of 150; an interval then is open


@dataclass(frozen=True)
class _Model:
    """Which parameters are free, and how a vector becomes circuits."""

    n_slits: int
    data: Sequence[Measurement]
    names: tuple[str, ...]
    pzc: float
    cell: str
    state: str
    options: dict[str, Any] = field(default_factory=dict)

    def values(self, p: Array) -> dict[str, Array]:
        """Return physical values from rows of fit variables (starts, variables)."""
        out = {}
        for k, name in enumerate(self.names):
            if name == "gamma":
                out[name] = GAMMA_LIMIT * np.tanh(p[:, k])
            elif name == "pzc":
                out[name] = p[:, k]
            else:
                out[name] = np.exp(np.clip(p[:, k], -90, 90))
        return out

    def slope(self, name: str, value: float) -> float:
        """Return d value / d fit variable."""
        if name == "gamma":
            return GAMMA_LIMIT * (1 - (value / GAMMA_LIMIT) ** 2)
        return 1.0 if name == "pzc" else value

    def circuit(self, v: dict[str, Array]) -> NanoCircuit:
        gamma = v.get("gamma", np.zeros_like(v["r_c"]))
        return NanoCircuit(
            self.n_slits, v["r_c"], gamma, v["c_slit"], v["r_open"], v["c_open"],
            cell=self.cell, **self.options,
        )  # fmt: skip

    def currents(self, p: Array) -> list[Array]:
        """Return the current of each start at the times of each data set."""
        v = self.values(p)
        circuit = self.circuit(v)
        zero = v.get("pzc", np.full(len(p), self.pzc))
        out = []
        for data in self.data:
            drive = _drive(data, zero, jump=self.state == "rest" and "pzc" in v)
            response = circuit.simulate(
                drive, points=max(24, min(200, 6000 // drive.pieces)),
                tolerance=Tolerance(2e-6, 1e-5),
                cycle="periodic" if self.state == "periodic" else None,
            )  # fmt: skip
            when = np.broadcast_to(data.time - data.time[0], (len(p), len(data.time)))
            current = rows_at(response.time, response.electrode_current, when)
            if "leak" in v:
                current = current + data.potential / v["leak"][:, None]
            out.append(current)
        return out

    def residuals(self, p: Array) -> Array:
        """Return misfits over the rms current of each data set, (starts, points)."""
        parts = []
        for data, current in zip(self.data, self.currents(p), strict=True):
            scale = np.sqrt(np.mean(data.current**2)) * np.sqrt(len(data.time))
            parts.append((current - data.current) / scale)
        return np.concatenate(parts, axis=1)


def _drive(data: Measurement, zero: Array, *, jump: bool) -> Drive:
    """Return the measured drive for circuits with their potentials of zero charge."""
    t, v = data.knots
    lengths = np.diff(t)
    count = len(lengths)
    curves = np.zeros((len(zero), count, 4))
    curves[:, :, 0] = v[None, :-1] - zero[:, None]
    curves[:, :, 1] = np.diff(v) / lengths
    layer = np.full(count, SWEEP_LAYER)
    jumps = np.zeros(count, bool)
    if jump:
        layer[0] = JUMP_LAYER
    return Drive(
        np.zeros(count, np.int64), np.tile(lengths, (len(zero), 1)), curves,
        np.full((len(zero), count), np.nan), layer, v[0] - zero, jumps,
        np.ones(count, np.int64),
    )  # fmt: skip


@dataclass
class FitResult:
    """Outcome of a fit.

    Attributes
    ----------
    values, standard_errors : dict of float
        r_c [Ohm], gamma, c_slit [F], r_open [Ohm], c_open [F], and pzc [V], leak [Ohm].
    intervals : dict of (float, float)
        95 % intervals, from the logarithm where one was fitted.
    correlation : ndarray
        Of the fitted variables, in the order of ``names``.
    misfit : float
        Rms of the residual over the rms of the data [-].
    line : FitResult, optional
        The transmission line (gamma = 0) fitted to the same data.
    evidence : float
        Bayesian information criterion of the line minus that of this fit; positive
        speaks for gamma.
    warnings : tuple of str
        What the data do not identify.
    """

    names: tuple[str, ...]
    values: dict[str, float]
    standard_errors: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    correlation: Array
    misfit: float
    information: float
    circuit: NanoCircuit
    currents: list[Array]
    warnings: tuple[str, ...] = ()
    line: FitResult | None = None
    evidence: float = float("nan")


def fit(
    data: Measurement | Sequence[Measurement],
    n_slits: int,
    *,
    cell: str = "half",
    pzc: float | str = 0.0,
    leak: bool = False,
    state: str = "rest",
    starts: int = 12,
    seed: int = 1,
    points: int = 300,
    iterations: int = 60,
    transmission_line: bool = True,
    profile: bool = False,
    **options: Any,
) -> FitResult:
    """Fit one circuit to all data sets together.

    Parameters
    ----------
    data : Measurement or sequence of Measurement
        Several scan rates at once; each starts from rest (or is one periodic cycle).
    n_slits : int
        Number of slits of the model.
    cell : {"half", "symmetric"}
    pzc : float or "fit"
        Potential of zero charge, fixed or fitted [V].
    leak : bool
        Fit a resistance parallel to the electrode.
    state : {"rest", "periodic"}
        Whether the data start from rest or are one cycle of the periodic state.
    starts : int
        Starting points of the search.
    seed : int
    points : int
        Most points used of each data set.
    iterations : int
    transmission_line : bool
        Whether to fit gamma = 0 beside it.
    profile : bool
        Intervals by profile likelihood instead of linearisation: right where the misfit is
        no parabola, in some seconds more.
    **options
        Further options of :class:`NanoCircuit` (governor, charge, saturation, ...).

    Returns
    -------
    FitResult

    Raises
    ------
    CircuitError
        If an option is unknown.
    ConvergenceError
        If no start gives a finite misfit.
    """
    from nanoslit.circuit.measurement import Measurement as OneSet
    from nanoslit.circuit.options import CELLS, choose

    sets = [data] if isinstance(data, OneSet) else list(data)
    if n_slits < 1:
        raise CircuitError(f"n_slits = {n_slits} must be at least 1")
    choose("cell", cell, CELLS)
    choose("state", state, STATES)
    if isinstance(pzc, str):
        choose("pzc", pzc, ("fit",))
    sets = [d.thinned(points) for d in sets]
    names = ["r_c", "gamma", "c_slit", "r_open", "c_open"]
    names += ["pzc"] * (pzc == "fit") + ["leak"] * leak
    fixed = 0.0 if isinstance(pzc, str) else float(pzc)
    model = _Model(n_slits, sets, tuple(names), fixed, cell, state, options)
    result = _best(model, starts, seed, iterations, profile)
    if transmission_line:
        line = _Model(
            n_slits, sets, tuple(n for n in names if n != "gamma"), fixed, cell, state, options
        )
        result.line = _best(line, starts, seed, iterations)
        result.evidence = result.line.information - result.information
    return result


def _start(model: _Model, starts: int, seed: int) -> Array:
    """Return starting points around estimates from the data."""
    rng = np.random.default_rng(seed)
    span = max(np.ptp(d.potential) for d in model.data)
    cells = 2.0 if model.cell == "symmetric" else 1.0
    slow = min(model.data, key=lambda d: d.scan_rate)
    fast = max(model.data, key=lambda d: d.scan_rate)
    total = cells * np.sqrt(np.mean(slow.current**2)) / slow.scan_rate
    window = span / fast.scan_rate
    p = np.empty((starts, len(model.names)))
    theta = np.exp(rng.uniform(np.log(0.03), np.log(3.0), starts))
    c_slit = total / model.n_slits * np.exp(rng.normal(0, 0.3, starts))
    r_c = theta * window / (model.n_slits**2 * c_slit)
    guess = {
        "c_slit": np.log(c_slit), "r_c": np.log(r_c),
        "r_open": np.log(r_c) + rng.uniform(-2, 1.5, starts),
        "c_open": np.log(c_slit) + rng.uniform(-1.5, 0.7, starts),
        "gamma": rng.uniform(-0.5, 1.2, starts),
        "pzc": rng.uniform(-0.2, 0.2, starts) * span,
        "leak": np.log(30 * span / np.abs(slow.current).max()) + rng.normal(0, 1, starts),
    }  # fmt: skip
    for k, name in enumerate(model.names):
        p[:, k] = guess[name]
    return p


def _safe(model: _Model, p: Array) -> Array:
    """Return residuals; circuits that cannot be computed count as infinitely bad."""
    try:
        return model.residuals(p)
    except (CircuitError, ConvergenceError):
        rows = []
        for one in p:
            try:
                rows.append(model.residuals(one[None])[0])
            except (CircuitError, ConvergenceError):
                rows.append(np.full(sum(len(d.time) for d in model.data), 1e6))
        return np.stack(rows)


def _jacobian(model: _Model, p: Array, r: Array) -> Array:
    """Return central differences for every start in one batch, (starts, points, n)."""
    starts, n = p.shape
    h = 3e-3 * np.ones(n)
    span = max(np.ptp(d.potential) for d in model.data)
    h[[k for k, name in enumerate(model.names) if name == "pzc"]] *= span
    moved = p[:, None, None, :] + np.array([1, -1])[:, None, None] * np.diag(h)
    values = _safe(model, moved.reshape(-1, n)).reshape(starts, 2, n, -1)
    change = (values[:, 0] - values[:, 1]) / (2 * h[:, None])
    return np.asarray(change.transpose(0, 2, 1))


def _search(
    model: _Model, p: Array, iterations: int, held: Array | None = None
) -> tuple[Array, Array]:
    """Levenberg-Marquardt of all starts together; return the best rows and residuals.

    With ``held``, bool (starts, variables), those variables stay and all rows are kept.
    """
    r = _safe(model, p)
    damping = np.full(len(p), 1e-2)
    for step in range(iterations):
        cost = (r**2).sum(axis=1)
        if step in (6, 12) and held is None:  # keep the better half
            keep = np.argsort(cost)[: max(2, len(p) // 2)]
            p, r, damping, cost = p[keep], r[keep], damping[keep], cost[keep]
        jac = _jacobian(model, p, r)
        if held is not None:
            jac = np.where(held[:, None, :], 0.0, jac)
        normal = np.einsum("smi,smj->sij", jac, jac)
        down = np.einsum("smi,sm->si", jac, r)
        diagonal = np.einsum("sii->si", normal)
        eye = np.eye(p.shape[1])
        loaded = normal + (damping[:, None] * (diagonal + 1e-10))[:, :, None] * eye
        move = -np.linalg.solve(loaded, down[..., None])[..., 0]
        move = np.clip(move, -1.5, 1.5)
        trial = p + move
        new = _safe(model, trial)
        better = (new**2).sum(axis=1) < cost
        p = np.where(better[:, None], trial, p)
        r = np.where(better[:, None], new, r)
        damping = np.where(better, damping * 0.25, np.minimum(damping * 5, 1e8))
        best = int(np.argmin((r**2).sum(axis=1)))
        gain = 1 - (r[best] ** 2).sum() / cost.min()
        settled = np.abs(move[best]).max() < 1e-4 or damping[best] > 1e6
        if step > 12 and gain < 1e-7 and settled:
            break
    return p, r


def _profile(
    model: _Model, best: Array, cost: float, variance: float, error: Array
) -> list[tuple[float, float]]:
    """Return the 95 % interval of each parameter by profile likelihood.

    A parameter is moved and held, the others are fitted anew, until the sum of squares has
    grown by 1.96^2 variances (Venzon & Moolgavkar, Appl. Stat. 37, 87, 1988). All ends are
    sought together. Both ends of the range of a parameter mean that it is open there.
    """
    n = len(best)
    side, which = np.repeat([-1.0, 1.0], n), np.tile(np.arange(n), 2)
    held = np.eye(n, dtype=bool)[which]
    p = np.tile(best, (2 * n, 1))
    inside, outside = np.zeros(2 * n), np.full(2 * n, FARTHEST)
    t = np.clip(STUDENT * error[which], 1e-6, FARTHEST)
    for _ in range(PROFILE_ROUNDS):
        start = p.copy()
        start[np.arange(2 * n), which] = best[which] + side * t
        p, r = _search(model, start, PROFILE_STEPS, held)
        grown = np.maximum(((r**2).sum(axis=1) - cost) / variance, 1e-12)
        within = grown < STUDENT**2
        inside = np.where(within, t, inside)
        outside = np.where(within, outside, t)
        # it grows like the square near the best; elsewhere halve what is left
        guess = t * STUDENT / np.sqrt(grown)
        fits = (guess > inside) & (guess < outside)
        t = np.where(fits, guess, 0.5 * (inside + outside))
    ends = []
    for i, name in enumerate(model.names):
        pair = np.tile(best, (2, 1))
        pair[:, i] += np.array([-1, 1]) * t[[i, n + i]]
        low, high = (float(x) for x in model.values(pair)[name])
        if name not in ("gamma", "pzc"):
            low = 0.0 if t[i] > 0.99 * FARTHEST else low
            high = np.inf if t[n + i] > 0.99 * FARTHEST else high
        ends.append((low, high))
    return ends


def _best(
    model: _Model, starts: int, seed: int, iterations: int, profile: bool = False
) -> FitResult:
    p, r = _search(model, _start(model, starts, seed), iterations)
    cost = (r**2).sum(axis=1)
    k = int(np.argmin(cost))
    if not np.isfinite(cost[k]) or cost[k] > 1e6:
        raise ConvergenceError("no start of the fit gave a finite misfit; check the units")
    best = p[k : k + 1]
    jac = _jacobian(model, best, r[k : k + 1])[0]
    points, n = jac.shape
    variance = cost[k] / max(points - n, 1)
    left, size, right = np.linalg.svd(jac, full_matrices=False)
    floor = 1e-9 * size[0]
    inverse = (right.T / np.maximum(size, floor) ** 2) @ right
    error = np.sqrt(variance * np.diag(inverse))
    values = {name: float(v[0]) for name, v in model.values(best).items()}
    scale = {name: model.slope(name, values[name]) for name in model.names}
    errors = {name: float(error[i] * abs(scale[name])) for i, name in enumerate(model.names)}
    ends = {}
    for i, name in enumerate(model.names):
        pair = best.repeat(2, axis=0)
        pair[:, i] += STUDENT * np.array([-1, 1]) * error[i]
        low, high = model.values(pair)[name]
        ends[name] = float(low), float(high)
    if profile:
        found = _profile(model, best[0], cost[k], variance, error)
        ends = {name: found[i] for i, name in enumerate(model.names)}
    deviation = np.sqrt(np.diag(inverse))
    return FitResult(
        model.names, values, errors, ends,
        inverse / np.outer(deviation, deviation),
        float(np.sqrt(cost[k] / len(model.data))),
        float(points * np.log(cost[k] / points) + n * np.log(points)),
        model.circuit({k: np.array([v]) for k, v in values.items()}),
        [c[0] for c in model.currents(best)],
        _warnings(model, values, error, errors, float(np.sqrt(cost[k] / len(model.data)))),
    )  # fmt: skip


def _warnings(
    model: _Model,
    values: dict[str, float],
    error: Array,
    errors: dict[str, float],
    misfit: float,
) -> tuple[str, ...]:
    """Say whether the model describes the data, and which parameters they do not identify."""
    out = []
    if misfit > POOR:
        other = "periodic" if model.state == "rest" else "rest"
        out.append(
            f"the circuit misses {misfit:.0%} of the current: do not use its numbers. Do the "
            f"data begin in another state (--state {other}), with another potential of zero "
            "charge (--pzc fit), or do they have another number of slits?"
        )
    for i, name in enumerate(model.names):
        wide = errors[name] > WIDE["gamma"] if name == "gamma" else error[i] > WIDE["log"]
        if name != "pzc" and wide:
            out.append(
                f"{name} is not identified by these data (standard error "
                f"{errors[name]:.2g}, value {values[name]:.3g})"
            )
    window = max(np.ptp(d.potential) for d in model.data)
    fastest = max(d.scan_rate for d in model.data)
    theta = model.n_slits**2 * values["r_c"] * values["c_slit"] * fastest / window
    at_limit = abs(values.get("gamma", 0.0)) > 0.97 * GAMMA_LIMIT
    if at_limit:
        out.append(
            f"gamma = {values['gamma']:.3g} is at the limit of what can be fitted: its "
            "interval means nothing, and r_c may be far off"
        )
    if (theta < 0.05 or at_limit) and not any(text.startswith("r_c ") for text in out):
        # the linearised interval is that of one place in a long, bent valley
        out.append(
            f"r_c is not identified by these data (value {values['r_c']:.3g}), whatever its "
            "interval says: other pairs of r_c and gamma fit as well"
        )
    if theta < 0.05:
        out.append(
            f"the fastest scan has theta = {theta:.2g}: slow voltammograms identify only "
            "the products R0 and gamma R_c; add a faster scan"
        )
    return tuple(out)
