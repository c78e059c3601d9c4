r"""Numbers that sum up a run: resistances and law of every opening, CV area, balances.

Law of an opening between slits k and k+1 (Zhan et al., eq. 1 and 2), by least squares

    dphi = I R_c (1 - gamma |Q|/Q_max)

with Q the charge of slit k, the one nearer the reservoir, and Q_max its largest value in
the cycle; samples are weighted by time, so that step sizes do not matter, and r2 is taken
about the time-weighted mean. ``r_max`` and ``r_min`` are the extrema of dphi/I where |I|
is at least 5 % of its maximum. Everything belongs to the last cycle, ends included.

Integrals use what the run knows exactly: the applied potential is linear in time between
steps, so that I dphi adds up from charges without any quadrature,

    closed integral of I dphi = sum over steps of (dphi/dt) dQ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.traces import PARTS
from nanoslit.protocol import CyclicVoltammetry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.traces import Traces

    Floats = NDArray[np.float64]

__all__ = [
    "LEAST_CURRENT",
    "cv_area",
    "cycle_table",
    "dissipated_energy",
    "fit_opening",
    "geometry_numbers",
    "summarise",
    "time_weights",
]

LEAST_CURRENT = 0.05
"""Fraction of the largest current below which dphi/I is not read."""


def time_weights(time: Floats) -> Floats:
    """Return trapezoidal weights of samples at given times, sum 1."""
    h = np.diff(time)
    w = 0.5 * (np.concatenate([[0.0], h]) + np.concatenate([h, [0.0]]))
    return np.asarray(w / w.sum())


def fit_opening(
    voltage: Floats, current: Floats, charge: Floats, weights: Floats
) -> dict[str, float]:
    """Return ``r_c``, ``gamma``, ``r2``, ``r_max``, ``r_min`` of one opening.

    Parameters
    ----------
    voltage, current, charge, weights : ndarray, shape (n,)
        Trans-slit voltage [V], current [A m^-1], charge of the governing slit [C m^-1],
        weights of the samples.

    Returns
    -------
    dict
        Resistances in Ohm m; NaN where the data do not fix a number.
    """
    relative = np.abs(charge) / max(float(np.abs(charge).max()), 1e-300)
    root = np.sqrt(weights)
    columns = np.stack([current, current * relative], axis=1) * root[:, None]
    scale = np.linalg.norm(columns, axis=0)
    out = dict.fromkeys(("r_c", "gamma", "r2", "r_max", "r_min"), float("nan"))
    if not (scale > 0).all():
        return out
    (a, b), *_ = np.linalg.lstsq(columns / scale, voltage * root, rcond=None)
    a, b = a / scale[0], b / scale[1]
    rest = voltage - current * (a + b * relative)
    spread = weights @ (voltage - weights @ voltage) ** 2
    large = np.abs(current) >= LEAST_CURRENT * np.abs(current).max()
    r = voltage[large] / current[large]
    return {
        "r_c": float(a),
        "gamma": float(-b / a),
        "r2": float(1 - (weights @ rest**2) / spread) if spread > 0 else float("nan"),
        "r_max": float(r.max()),
        "r_min": float(r.min()),
    }


def cv_area(time: Floats, potential: Floats, charge: Floats) -> float:
    """Return the integral of I dphi [W m^-1] for a potential linear between samples."""
    dt = np.diff(time)
    moving = dt > 0
    slope = np.diff(potential)[moving] / dt[moving]
    return float(slope @ np.diff(charge)[moving])


def dissipated_energy(
    time: Floats, potential: Floats, charge: Floats, current: Floats, kinks: Floats
) -> float:
    """Return the integral of phi dQ [J m^-1] for a potential linear between samples.

    By parts: [phi Q] minus the sum of slopes times the integral of Q, which is taken with
    its end slopes I (cubic Hermite, fourth order); in the step after a kink, where the
    current jumps, with the trapezoidal rule.
    """
    dt = np.diff(time)
    area = 0.5 * dt * (charge[1:] + charge[:-1])
    smooth = ~np.isclose(time[:-1, None], kinks[None, :], rtol=1e-9, atol=0).any(axis=1)
    area += np.where(smooth, dt**2 / 12 * (current[:-1] - current[1:]), 0.0)
    slope = np.divide(np.diff(potential), dt, out=np.zeros_like(dt), where=dt > 0)
    product = potential * charge
    return float(product[-1] - product[0] - slope @ area)


def geometry_numbers(case: Case) -> dict[str, float]:
    """Return lengths, areas and masses that results are divided by (SI, per depth)."""
    g = case.geometry
    if not isinstance(g, NanoslitNetwork):
        return {"half_period_height": 1.0, "wall_area": 1.0, "reservoir": g.reservoir}
    return {
        "half_period_height": g.height,
        "electrode_thickness": g.thickness,
        "wall_area": g.wall_area,
        "sheet_mass": g.sheets * 0.5 * g.sheet_length * case.electrode.sheet_areal_mass,
        "path_length": g.path_length,
        "slit_size": g.slit_size,
        "sheet_thickness": g.sheet_thickness,
        "sheet_length": g.sheet_length,
        "opening": g.opening,
        "reservoir": g.reservoir,
    }


def cycle_table(traces: Traces) -> dict[str, Any]:
    """Return number, first and last time index (ends included) of every cycle."""
    numbers = np.unique(traces["cycle"])
    spans = [traces.in_cycle(int(n)) for n in numbers]
    return {
        "cycle": numbers.astype(np.int64),
        "first": np.array([i[0] for i in spans], dtype=np.int64),
        "last": np.array([i[-1] for i in spans], dtype=np.int64),
    }


def _pick(traces: Traces, name: str, rows: Any, electrode: int) -> Any:
    """Return a trace in a cycle, of one electrode."""
    data = traces[name][rows]
    return data[:, electrode] if traces.dims(name)[1:2] == ("electrode",) else data


def _openings(
    traces: Traces, case: Case, rows: Any, electrode: int, voltage: str
) -> list[dict[str, float]]:
    """Return the fit of every opening with one kind of voltage."""
    g = case.geometry
    if not isinstance(g, NanoslitNetwork) or voltage not in traces:
        return []
    w = time_weights(traces["time"][rows])
    v, i, q = (
        _pick(traces, name, rows, electrode)
        for name in (voltage, "opening_current", "slit_charge")
    )
    out = []
    for k in range(v.shape[1]):
        fit = fit_opening(v[:, k], i[:, k], q[:, k], w)
        scale = g.slit_size / g.path_length
        out.append(
            fit
            | {"resistivity_max": fit["r_max"] * scale, "resistivity_min": fit["r_min"] * scale}
        )
    return out


def _balances(traces: Traces) -> dict[str, float]:
    """Return the errors of the conservation laws over the whole run."""

    def largest(name: str) -> float:
        return float(np.abs(traces[name]).max())

    current, charge = largest("electrode_current"), largest("electrode_charge")
    out = {
        "current_mismatch": largest("current_mismatch"),
        "ion_mismatch": largest("ion_mismatch"),
        "largest_current": current,
        "current_mismatch_relative": largest("current_mismatch") / max(current, 1e-300),
        "ion_mismatch_relative": largest("ion_mismatch") / max(current, 1e-300),
    }
    if traces.n_electrodes == 1 and "slit_charge" in traces:
        stored = traces["slit_charge"].sum(axis=1) + traces["exterior_charge"]
        # what is missing is the charge that the field carries out into the reservoir
        difference = float(np.abs(stored - traces["electrode_charge"]).max())
        out["charge_outside_domain_relative"] = difference / max(charge, 1e-300)
    return out


def _flux_parts(traces: Traces, rows: Any, electrode: int) -> dict[str, Any]:
    """Return time means of the current parts while the potential rises and falls."""
    time, v = traces["time"][rows], traces["applied_potential"][rows]
    h, rising = np.diff(time), np.diff(v) > 0
    out: dict[str, Any] = {}
    for half, chosen in (("rising", rising), ("falling", ~rising)):
        span = h[chosen].sum()
        if span == 0:
            continue
        block = out[half] = {}
        for name in ("mouth_current", "opening_current", "slit_current", "open_space_current"):
            for part in PARTS:
                key = f"{name}_{part}"
                if name == "slit_current" and f"{key}_excess" in traces:
                    key += "_excess"
                if key not in traces:
                    continue
                data = _pick(traces, key, rows, electrode)
                middle = 0.5 * (data[1:] + data[:-1])
                mean = np.tensordot(h * chosen, middle, axes=(0, 0)) / span
                block[key] = mean.tolist()
    return out


def summarise(traces: Traces, case: Case, cost: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the summary of a run over its last cycle, ready for JSON.

    Parameters
    ----------
    traces : Traces
    case : Case
    cost : dict, optional
        Counters and times of the run, passed on.

    Returns
    -------
    dict
        ``openings`` and ``openings_electrochemical`` (and, for a full cell, the same of
        the negative electrode), ``cv_area`` [W m^-1], ``capacitance`` [F m^-1],
        ``dissipated_energy`` [J m^-1], ``flux_parts`` [A m^-1] (those of the open space at
        ``open_space_distances`` [m]), ``balances``, ``cost``.
    """
    rows = traces.in_cycle()
    time, v = traces["time"][rows], traces["applied_potential"][rows]
    q = _pick(traces, "electrode_charge", rows, 0)
    i = _pick(traces, "electrode_current", rows, 0)
    area = cv_area(time, v, q)
    out: dict[str, Any] = {
        "name": case.name,
        "cell": case.cell,
        "cycle": int(traces["cycle"].max()),
        "steps": int(time.size - 1),
        "cv_area": area,
        "capacitance": None,
        "dissipated_energy": dissipated_energy(time, v, q, i, case.protocol.breakpoints()),
        "largest_current": float(np.abs(i).max()),
        "largest_charge": float(np.abs(q).max()),
        "geometry": geometry_numbers(case),
        "open_space_distances": traces.distances.tolist(),
    }
    protocol = case.protocol
    if isinstance(protocol, CyclicVoltammetry):
        out["capacitance"] = area / (2 * protocol.scan_rate * protocol.window)
        out["scan_rate"], out["window"] = protocol.scan_rate, protocol.window
    for electrode, suffix in zip(range(traces.n_electrodes), ("", "_negative"), strict=False):
        for block, voltage in (
            ("openings", "trans_slit_voltage"),
            ("openings_electrochemical", "trans_slit_electrochemical_voltage"),
        ):
            out[block + suffix] = _openings(traces, case, rows, electrode, voltage)
    out["flux_parts"] = _flux_parts(traces, rows, 0)
    out["balances"] = _balances(traces)
    out["cost"] = dict(cost or {})
    return out
