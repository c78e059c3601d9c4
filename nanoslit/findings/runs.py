r"""The last cycle of a solved half cell, and the numbers that it shows, each with an error.

Errors. A number of one opening has the half difference between its fits to the rising and
to the falling half of the cycle: how far the law itself carries. A number of a cell is the
mean over its openings; its error adds, in quadrature, the scatter of the openings, the
mean of those half differences, and the error of the mesh (``MESH_ERRORS``).

Law of an opening (Zhan et al., eq. 1 and 2): least squares over the time-weighted cycle of
dphi = I R_c (1 - gamma |Q|/Q_max) with the charge Q of the slit behind the opening and its
maximum in the cycle (our choice; the paper does not say which slit).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.integrate import trapezoid

from nanoslit.errors import ResultFileError
from nanoslit.results.files import require_result
from nanoslit.results.last_cycle import HalfCell, read_last_cycle
from nanoslit.results.provenance import MESH_ERRORS
from nanoslit.results.summary import LEAST_CURRENT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "MESH_ERRORS",
    "VOLTAGES",
    "Laws",
    "Measured",
    "Run",
    "mesh_error",
    "numbers_of",
    "read_run",
    "read_runs",
    "wall_capacitance",
]

PARTS = ("migration", "diffusion", "steric")
VOLTAGES = {
    "counterion": "potential of the counter-ions",
    "electrochemical": "potential of charge",
    "mid": "potential in the middle of the slits",
}
"""Voltages of an opening: of the ions that the electrode attracts, of charge (the mean over
all ions), and the electrostatic one that the paper reads; the first ones drive ions."""

FULL_SIGNAL = 0.2
"""Fraction of the largest potential difference above which Q/u is read as a capacitance."""
NOISE = 0.01
"""Fraction of the largest current below which a part of it has no sign."""


@dataclass(frozen=True)
class Measured:
    """A number and its errors, all in one unit.

    Parameters
    ----------
    value : float
    error : float
        Half width of its own error bar.
    common : float
        Half width of what the description itself leaves open, alike in similar runs.
    """

    value: float
    error: float = 0.0
    common: float = 0.0

    @property
    def total(self) -> float:
        """Half width of the whole error bar."""
        return float(np.hypot(self.error, self.common))


@dataclass(frozen=True, kw_only=True)
class Run(HalfCell):
    """Last cycle of a solved half cell, as claims are checked on it.

    Parameters
    ----------
    mesh : str
        Preset, or "explicit".
    rising : ndarray of bool, shape (times,)
        Whether |applied potential| grows.
    slit_potential, charge_potential : ndarray, shape (times, slits)
        Potential at the middle of each slit, electrostatic and of charge [V].
    voltage : dict of str to ndarray, shape (times, slits - 1)
        Difference over each opening, by the names of :data:`VOLTAGES` [V].
    parts : dict of str to dict of str to ndarray, shape (times, places)
        Migration, diffusion and steric current: ``slit``, ``slit excess`` (minus the
        equilibrium of equal charge), ``opening``, ``mouth``, ``open space``.
    distances : ndarray
        Of the open-space planes from the first sheet [m].
    """

    mesh: str
    rising: NDArray[np.bool_]
    slit_potential: Array
    charge_potential: Array
    voltage: dict[str, Array]
    parts: dict[str, dict[str, Array]]
    distances: Array

    @property
    def slit_size(self) -> float:
        """Slit size d [m]."""
        return self.network.slit_size

    @property
    def name(self) -> str:
        """File name without extension: the data set's name in a law."""
        return self.path.stem

    @property
    def driving(self) -> str:
        """Name of the voltage that drives the current best known."""
        return next(iter(self.voltage))

    def large(self) -> NDArray[np.bool_]:
        """Return where an opening carries enough current to read dphi/I."""
        i = np.abs(self.opening_current)
        return np.asarray(i >= LEAST_CURRENT * i.max(axis=0))

    def columns(self, opening: int) -> dict[str, Array]:
        """Return the columns of a law for one opening, from 0.

        They are ``I``, ``X_*`` (charge over that of the bulk ions) and ``q_*`` (over its
        maximum in the cycle) of the outer and inner slit and their mean, and ``dIdt``.
        """
        charge = np.abs(self.slit_charge[:, opening : opening + 2])
        x = {"outer": charge[:, 0], "inner": charge[:, 1], "mean": charge.mean(axis=1)}
        out = {f"X_{k}": v / self.bulk_charge for k, v in x.items()}
        out |= {f"q_{k}": v / v.max() for k, v in x.items()}
        i = self.opening_current[:, opening]
        return out | {"I": i, "dIdt": np.gradient(i, self.time)}


def read_run(path: str | Path) -> Run:
    """Return the last cycle of a result file.

    Raises
    ------
    ResultFileError
        If it is no result of a half cell with at least two slits.
    """
    c = read_last_cycle(path)
    charge_potential = c.trace("slit_charge_potential")
    voltage = {
        "electrochemical": np.diff(charge_potential, axis=1),
        "mid": c.trace("trans_slit_voltage"),
    }
    if "slit_ion_potential" in c.traces:
        voltage = {"counterion": np.diff(c.counterion("slit_ion_potential"), axis=1)} | voltage
    parts = {}
    for place in ("slit", "opening", "mouth", "open space"):
        trace = place.replace(" ", "_") + "_current"
        parts[place] = {p: _columns(c.trace(f"{trace}_{p}")) for p in PARTS}
    if "slit_current_migration_excess" in c.traces:
        parts["slit excess"] = {p: c.trace(f"slit_current_{p}_excess") for p in PARTS}
    mesh = c.case.numerics.mesh
    return Run(
        **c.base(), mesh=mesh if isinstance(mesh, str) else "explicit",
        rising=np.gradient(np.abs(c.applied)) > 0, slit_potential=c.trace("slit_potential"),
        charge_potential=charge_potential, voltage=voltage, parts=parts,
        distances=c.traces.distances,
    )  # fmt: skip


def read_runs(folder: str | Path) -> list[Run]:
    """Return the runs of a study, by rising slit size.

    Raises
    ------
    ResultFileError
        If the folder has none.
    """
    paths = sorted((Path(folder) / "cells").glob("*.h5"))
    if not paths:
        raise ResultFileError(
            f"{folder}: has no results in its folder cells; run `nanoslit study PLAN.toml -o "
            f"{folder}`"
        )
    return sorted((read_run(path) for path in paths), key=lambda r: (r.slit_size, r.name))


def _columns(values: Array) -> Array:
    return values[:, None] if values.ndim == 1 else values


def mesh_error(run: Run, name: str) -> float:
    """Return the error of the mesh (gamma: absolute, else relative), NaN if explicit."""
    return MESH_ERRORS.get(run.mesh, {}).get(name, float("nan"))


# -- laws of the openings ------------------------------------------------------------------


@dataclass(frozen=True)
class Laws:
    """Law and resistances of every opening of a run, each of shape (openings,).

    Parameters
    ----------
    r_c, gamma : ndarray
        [Ohm m], [-]
    r_c_halves, gamma_halves : ndarray, shape (2, openings)
        The same fitted to the rising and to the falling half of the cycle.
    misfit : ndarray
        Rms deviation of the law over the rms voltage [-].
    misfit_constant : ndarray
        The same of the best constant resistance [-].
    r_max, r_min : ndarray
        Extremes of dphi/I where the current is large enough [Ohm m].
    r_max_phase, r_min_phase : ndarray
        When, as fraction of the half cycle since the start of the rising (falling) half;
        NaN if it happens in the other half.
    """

    r_c: Array
    gamma: Array
    r_c_halves: Array
    gamma_halves: Array
    misfit: Array
    misfit_constant: Array
    r_max: Array
    r_min: Array
    r_max_phase: Array
    r_min_phase: Array


def laws_of(run: Run, voltage: str) -> Laws:
    """Return the fit of every opening with one kind of voltage."""
    i, v = run.opening_current, run.voltage[voltage]
    charge = np.abs(run.slit_charge[:, 1:])
    q = charge / charge.max(axis=0)
    r_c, gamma, misfit = _linear_law(v, i, q, run.weight)
    halves = [_linear_law(v[h], i[h], q[h], run.weight[h]) for h in (run.rising, ~run.rising)]
    w = run.weight[:, None]
    constant = (w * v * i).sum(axis=0) / (w * i**2).sum(axis=0)
    rest = np.sqrt((w * (v - constant * i) ** 2).sum(axis=0) / (w * v**2).sum(axis=0))
    ratio = np.divide(v, i, out=np.full_like(v, np.nan), where=run.large())
    top, low = np.nanargmax(ratio, axis=0), np.nanargmin(ratio, axis=0)
    columns = np.arange(i.shape[1])
    return Laws(
        r_c, gamma, np.stack([h[0] for h in halves]), np.stack([h[1] for h in halves]),
        misfit, rest, ratio[top, columns], ratio[low, columns],
        _phase(run, top, rising=True), _phase(run, low, rising=False),
    )  # fmt: skip


def _linear_law(v: Array, i: Array, q: Array, w: Array) -> tuple[Array, Array, Array]:
    """Return R_c, gamma and relative misfit of all openings by the normal equations."""
    a, b = i, -i * q

    def dot(x: Array, y: Array) -> Array:
        return np.asarray((w[:, None] * x * y).sum(axis=0))

    aa, ab, bb, av, bv = dot(a, a), dot(a, b), dot(b, b), dot(a, v), dot(b, v)
    det = aa * bb - ab**2
    r_c, slope = (bb * av - ab * bv) / det, (aa * bv - ab * av) / det
    rest = v - r_c * a - slope * b
    return r_c, slope / r_c, np.sqrt(dot(rest, rest) / dot(v, v))


def _phase(run: Run, rows: NDArray[np.intp], rising: bool) -> Array:
    """Return when rows happen, as fraction of their half of the cycle."""
    inside = run.time[run.rising == rising]
    start, end = inside.min(), inside.max()
    phase = (run.time[rows] - start) / (end - start)
    return np.where(run.rising[rows] == rising, phase, np.nan)


def _of_cell(values: Array, errors: Array, relative: float) -> Measured:
    """Return the mean over openings with the error that this module's text says."""
    mean = float(values.mean())
    own = np.hypot(values.std(), np.nan_to_num(relative) * abs(mean))
    return Measured(mean, float(own), float(errors.mean()))


# -- numbers -------------------------------------------------------------------------------


def numbers_of(run: Run) -> dict[str, Measured]:
    """Return every number of a run by name; a place or voltage follows after ``:``.

    ``r_c:V``, ``gamma:V``, ``misfit:V``, ``misfit_constant:V``, ``r_max:V``, ``r_min:V``,
    ``resistivity_max:V``, ``resistivity_min:V``, ``resistivity_range:V`` [Ohm m],
    ``spread_r_c:V``, ``spread_gamma:V`` (over the openings), ``phase_max:V``,
    ``phase_min:V``, ``start_ratio:V`` (r_max / R_c) and ``end_ratio:V`` (r_min over
    (1 - gamma) R_c) for each voltage V; ``c_slit`` [F/m], ``c_slit_area`` [F/m^2],
    ``c_time``, ``c_slits`` (relative spreads); ``asymmetry``; ``same:PLACE:A:B`` (share
    of time in which parts A and B have one sign); ``lower_potential``;
    ``diffusion_share``; ``surface_share`` and ``surface_area`` if fields were kept.
    """
    out: dict[str, Measured] = {}
    for v in run.voltage:
        out |= {f"{k}:{v}": m for k, m in _resistances(run, v).items()}
    out |= _capacitances(run) | _signs(run) | _surface(run)
    if (a := _asymmetry(run)) is not None:
        out["asymmetry"] = a
    return out


def _resistances(run: Run, voltage: str) -> dict[str, Measured]:
    laws = laws_of(run, voltage)
    kind = "" if voltage == "mid" else "_electrochemical"
    r_error = mesh_error(run, f"r_c{kind}")
    g_error = mesh_error(run, f"gamma{kind}") / float(np.abs(laws.gamma).mean())
    scale = run.slit_size / run.network.path_length
    zero = np.zeros_like(laws.r_c)
    r_c_error, gamma_error = (
        0.5 * np.abs(np.diff(h, axis=0))[0] for h in (laws.r_c_halves, laws.gamma_halves)
    )

    def spread(values: Array, halves: Array) -> Measured:
        ranges = np.ptp(halves, axis=1) / np.abs(halves.mean(axis=1))
        whole = float(np.ptp(values) / abs(values.mean()))
        return Measured(whole, float(0.5 * abs(ranges[1] - ranges[0])))

    step = float(np.diff(run.time).max() / np.ptp(run.time) * 2)
    end = (1 - laws.gamma) * laws.r_c
    return {
        "r_c": _of_cell(laws.r_c, r_c_error, r_error),
        "gamma": _of_cell(laws.gamma, gamma_error, g_error),
        "misfit": _of_cell(laws.misfit, zero, 0.0),
        "misfit_constant": _of_cell(laws.misfit_constant, zero, 0.0),
        "r_max": _of_cell(laws.r_max, zero, r_error),
        "r_min": _of_cell(laws.r_min, zero, r_error),
        "resistivity_max": _of_cell(scale * laws.r_max, zero, r_error),
        "resistivity_min": _of_cell(scale * laws.r_min, zero, r_error),
        "resistivity_range": _of_cell(scale * (laws.r_max - laws.r_min), zero, r_error),
        "spread_r_c": spread(laws.r_c, laws.r_c_halves),
        "spread_gamma": spread(laws.gamma, laws.gamma_halves),
        "phase_max": Measured(_late(laws.r_max_phase), step),
        "phase_min": Measured(_late(laws.r_min_phase), step),
        "start_ratio": _of_cell(laws.r_max / laws.r_c, r_c_error / laws.r_c, r_error),
        "end_ratio": _of_cell(
            laws.r_min / end, (gamma_error + r_c_error / laws.r_c) * laws.r_c / end,
            r_error,
        ),
    }  # fmt: skip


def _late(phases: Array) -> float:
    """Return the latest phase; 1 if some opening has it in the other half of the cycle."""
    return 1.0 if np.isnan(phases).any() else float(phases.max())


def wall_capacitance(run: Run) -> Measured:
    """Return the slope of slit charge against potential per wall area [F/m^2].

    The potential is applied minus that of charge in the slit; interior slits, whose wall
    is that of two half sheets and half of each sheet end. The error is half the spread of
    the capacitance over the cycle.
    """
    return _capacitances(run)["c_slit_area"]


def _capacitances(run: Run) -> dict[str, Measured]:
    inner = slice(0, -1) if run.slit_charge.shape[1] > 2 else slice(None)
    u = (run.applied[:, None] - run.charge_potential)[:, inner]
    q = run.slit_charge[:, inner]
    w = run.weight[:, None]
    slope = (w * q * u).sum(axis=0) / (w * u**2).sum(axis=0)
    full = np.abs(u) >= FULL_SIGNAL * np.abs(u).max(axis=0)
    momentary = np.divide(q, u, out=np.full_like(q, np.nan), where=full)
    low, high = np.nanmin(momentary, axis=0), np.nanmax(momentary, axis=0)
    in_time = (high - low) / slope
    c = Measured(float(slope.mean()), float(slope.std()), float(0.5 * (high - low).mean()))
    g = run.network
    area = g.sheet_length + g.sheet_thickness
    return {
        "c_slit": c,
        "c_slit_area": Measured(c.value / area, c.error / area, c.common / area),
        "c_time": Measured(float(in_time.mean()), float(np.ptp(in_time) / 2)),
        "c_slits": Measured(float(np.ptp(slope) / slope.mean())),
    }


def _asymmetry(run: Run) -> Measured | None:
    """Return A = int |I(t) + I(t+T)| / int |I| of two equal halves, None without them."""
    half = 0.5 * run.time[-1]
    turn = run.time[int(np.argmax(np.abs(run.applied)))]
    if abs(turn - half) > 1e-6 * half:
        return None
    up = run.time <= half * (1 + 1e-12)
    t = np.union1d(run.time[up], run.time[~up] - half)
    first = np.interp(t, run.time[up], run.current[up])
    second = np.interp(t, run.time[~up] - half, run.current[~up])
    # the current jumps at the vertex: the falling half starts one sample late
    inside = t >= (run.time[~up][0] - half)
    t, first, second = t[inside], first[inside], second[inside]

    def value(step: int) -> float:
        at = slice(None, None, step)
        both = trapezoid(np.abs(first + second)[at], t[at])
        return float(both / trapezoid(np.abs(first)[at], t[at]))

    error = np.nan_to_num(mesh_error(run, "cv_area"))
    return Measured(value(1), abs(value(2) - value(1)) + 2 * float(error))


def _share_of_one_sign(run: Run, a: Array, b: Array, current: Array) -> Measured | None:
    """Return the share of time with a b > 0 where both are large enough, None if nowhere.

    The error is the time between the samples around each change of sign.
    """
    floor = NOISE * np.abs(current).max()
    clear = (np.abs(a) >= floor) & (np.abs(b) >= floor) & (np.abs(current) >= 5 * floor)
    if not clear.any():
        return None
    w = run.weight[clear] / run.weight[clear].sum()
    same = (a * b > 0)[clear]
    switches = np.flatnonzero(np.diff(same.astype(int)))
    return Measured(min(float(w[same].sum()), 1.0), float(0.5 * w[switches].sum()))


def _signs(run: Run) -> dict[str, Measured]:
    out: dict[str, Measured] = {}
    totals = {p: np.sum(list(v.values()), axis=0) for p, v in run.parts.items()}
    slit = "slit excess" if "slit excess" in run.parts else "slit"
    labels = {
        slit: [f"slit {k}" for k in range(1, run.slit_charge.shape[1] + 1)],
        "opening": [f"opening {k}" for k in range(1, run.opening_current.shape[1] + 1)],
        "mouth": ["mouth"],
        "open space": [f"{1e9 * x:.3g} nm in front" for x in run.distances],
    }
    totals["slit excess"] = totals["slit"]
    for place, names in labels.items():
        p, total = run.parts[place], totals[place]
        for k, name in enumerate(names):
            for a, b in (("migration", "diffusion"), ("migration", "steric")):
                share = _share_of_one_sign(run, p[a][:, k], p[b][:, k], total[:, k])
                if share is not None:
                    out[f"same:{name}:{a}:{b}"] = share
    more = np.diff(run.slit_charge, axis=1) * np.sign(run.applied + 1e-300)[:, None]
    lower = np.diff(run.slit_potential, axis=1) * np.sign(run.applied + 1e-300)[:, None]
    clear = np.abs(more) >= NOISE * np.abs(run.slit_charge).max()
    w = np.where(clear, run.weight[:, None], 0.0)
    if w.sum() > 0:
        below = float(w[more * lower < 0].sum() / w.sum())
        out["lower_potential"] = Measured(below, float(run.weight.max()))
    parts = {p: (run.weight[:, None] * np.abs(v)).sum() for p, v in run.parts[slit].items()}
    diffusion = float(parts["diffusion"] / sum(parts.values()))
    spread = run.parts[slit]["diffusion"][:, 0] / np.where(
        np.abs(totals["slit"][:, 0]) > 0, totals["slit"][:, 0], np.nan
    )
    large = np.abs(totals["slit"][:, 0]) >= LEAST_CURRENT * np.abs(totals["slit"]).max()
    out["diffusion_share"] = Measured(diffusion, float(np.nanstd(spread[large])))
    return out


def _surface(run: Run) -> dict[str, Measured]:
    """Return which share of the current along slits flows within a Debye length of a wall.

    The line across the slit midway between its openings, mean over slits and snapshots;
    ``surface_area`` is the share of the width. Nothing if no fields were kept, or if the
    slit is narrower than two Debye lengths.
    """
    g, debye = run.network, run.case.electrolyte.debye_length
    if 2 * debye >= g.slit_size:
        return {}
    with require_result(run.path) as file:
        if "fields" not in file or file["fields/phi"].shape[0] == 0:
            return {}
        f = file["fields"]
        x, y, density = f["x"][()], f["y"][()], f["current_density_y"][()]
    at = int(np.clip(np.searchsorted(y, 0.5 * g.height), 1, y.size - 1))
    part = (0.5 * g.height - y[at - 1]) / (y[at] - y[at - 1])
    line = (1 - part) * density[:, :, at - 1] + part * density[:, :, at]
    shares = []
    for k in range(1, g.sheets + 1):
        left = g.sheet_front(k) + g.sheet_thickness
        s = np.linspace(left, left + g.slit_size, 401)
        inside = (x >= left - 1e-13) & (x <= s[-1] + 1e-13)
        j = np.array([np.interp(s, x[inside], row[inside]) for row in line])
        near = (s - left <= debye) | (s[-1] - s <= debye)
        total = j.sum(axis=1)
        used = np.abs(total) >= LEAST_CURRENT * np.abs(total).max()
        shares.append(j[used][:, near].sum(axis=1) / total[used])
    values = np.concatenate(shares)
    return {
        "surface_share": Measured(float(values.mean()), float(values.std())),
        "surface_area": Measured(2 * debye / g.slit_size),
    }
