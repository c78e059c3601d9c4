"""Figures of a simulated run: CV, current parts, resistances, charges, fields."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import CaseError, MissingExtraError, ResultFileError, closest
from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.traces import PARTS
from nanoslit.results.basis import Basis, basis
from nanoslit.results.files import read_case_of, read_traces, require_result
from nanoslit.results.summary import LEAST_CURRENT

if TYPE_CHECKING:
    from nanoslit.case import Case
    from nanoslit.mpnp.traces import Traces

__all__ = ["FIGURES", "plot"]


def _figure(rows: int = 1, columns: int = 1, size: tuple[float, float] = (5.0, 4.0)) -> Any:
    """Return figure and axes without a window system."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("figures need matplotlib: install nanoslit[plot]") from error
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _side(traces: Traces, name: str, rows: Any) -> Any:
    """Return a trace in a cycle, of the positive electrode."""
    data = traces[name][rows]
    return data[:, 0] if traces.dims(name)[1:2] == ("electrode",) else data


def _cv(case: Case, traces: Traces, unit: Basis) -> Any:
    """Draw the electrode current against applied potential, every cycle."""
    figure, ((ax,),) = _figure()
    for n in np.unique(traces["cycle"]):
        rows = traces.in_cycle(int(n))
        ax.plot(
            traces["applied_potential"][rows],
            _side(traces, "electrode_current", rows) * unit.factor,
            label=f"cycle {n}",
        )
    ax.set_xlabel("cell voltage [V]" if case.cell == "full" else "applied potential [V]")
    ax.set_ylabel(f"current [{unit.unit('A')}]")
    ax.set_title(f"{case.name}\n{unit.label}", fontsize="small")
    ax.legend(frameon=False)
    return figure


def _charge(case: Case, traces: Traces, unit: Basis) -> Any:
    """Draw the charge of the slits and of the electrode over the last cycle."""
    figure, ((ax,),) = _figure()
    rows = traces.in_cycle()
    time = traces["time"][rows] * 1e6
    if "slit_charge" in traces:
        for k, q in enumerate(_side(traces, "slit_charge", rows).T, 1):
            ax.plot(time, q * unit.factor, label=f"slit {k}")
    ax.plot(time, _side(traces, "electrode_charge", rows) * unit.factor, "k", label="electrode")
    ax.set_xlabel("time [us]")
    ax.set_ylabel(f"stored charge [{unit.unit('C')}]")
    ax.set_title(f"{case.name}\n{unit.label}", fontsize="small")
    ax.legend(frameon=False, fontsize="small")
    return figure


def _fluxes(case: Case, traces: Traces, unit: Basis) -> Any:
    """Draw migration, diffusion, steric current along a slit and in front."""
    _require_slits(case)
    excess = "slit_current_migration_excess" in traces
    figure, axes = _figure(1, 3, (4.2, 3.6))
    rows = traces.in_cycle()
    time = traces["time"][rows] * 1e6
    panels = [
        ("slit_current", 0, "slit 1" + (", excess over equilibrium" if excess else "")),
        ("mouth_current", None, "mouth"),
        (
            "open_space_current",
            -1,
            f"{traces.distances[-1] * 1e9:g} nm in front" if traces.distances.size else "",
        ),
    ]
    for ax, (name, index, title) in zip(axes[0], panels, strict=True):
        for part in PARTS:
            key = f"{name}_{part}"
            key = f"{key}_excess" if name == "slit_current" and excess else key
            data = _side(traces, key, rows)
            data = data if index is None else data[:, index]
            ax.plot(time, data * unit.factor, label=part)
        ax.axhline(0, color="0.7", lw=0.7)
        ax.set_title(title, fontsize="small")
        ax.set_xlabel("time [us]")
    axes[0, 0].set_ylabel(f"current [{unit.unit('A')}]")
    axes[0, 0].legend(frameon=False)
    figure.suptitle(f"{case.name}: {unit.label}", fontsize="small")
    return figure


def _resistance(case: Case, traces: Traces, unit: Basis) -> Any:
    """Draw dphi/I of every opening against relative stored charge."""
    _require_slits(case)
    figure, ((left, right),) = _figure(1, 2, (4.5, 3.8))
    rows = traces.in_cycle()
    time = traces["time"][rows] * 1e6
    v, i = (_side(traces, n, rows) for n in ("trans_slit_voltage", "opening_current"))
    q = np.abs(_side(traces, "slit_charge", rows))
    for k in range(v.shape[1]):
        use = np.abs(i[:, k]) >= LEAST_CURRENT * np.abs(i[:, k]).max()
        r = np.where(use, v[:, k] / np.where(use, i[:, k], 1.0), np.nan)
        left.plot(time, r, label=f"opening {k + 1}")
        right.plot(q[:, k] / q[:, k].max(), r)
    left.set_xlabel("time [us]")
    left.set_ylabel("trans-slit resistance dphi/I [Ohm m]")
    right.set_xlabel("|Q| / Q_max of the slit nearer the reservoir")
    left.legend(frameon=False, fontsize="small")
    figure.suptitle(f"{case.name}: per metre of depth, half period", fontsize="small")
    return figure


def _voltage(case: Case, traces: Traces, unit: Basis) -> Any:
    """Draw the trans-slit voltage against current of every opening."""
    _require_slits(case)
    figure, ((ax,),) = _figure()
    rows = traces.in_cycle()
    v, i = (_side(traces, n, rows) for n in ("trans_slit_voltage", "opening_current"))
    for k in range(v.shape[1]):
        ax.plot(i[:, k] * unit.factor, v[:, k] * 1e3, label=f"opening {k + 1}")
    ax.set_xlabel(f"current through the opening [{unit.unit('A')}]")
    ax.set_ylabel("trans-slit voltage [mV]")
    ax.set_title(f"{case.name}\n{unit.label}", fontsize="small")
    ax.legend(frameon=False, fontsize="small")
    return figure


def _require_slits(case: Case) -> None:
    if not isinstance(case.geometry, NanoslitNetwork) or case.geometry.sheets < 2:
        raise CaseError("this figure shows openings between slits; the case has fewer than 2")


_FROM_TRACES: dict[str, Callable[[Case, Traces, Basis], Any]] = {
    "cv": _cv,
    "charge": _charge,
    "fluxes": _fluxes,
    "resistance": _resistance,
    "voltage": _voltage,
}
FIGURES = (*_FROM_TRACES, "fields")
"""What :func:`plot` draws."""


def _read_fields(path: Path, snapshot: int | None) -> dict[str, Any]:
    """Return one snapshot, by default that of the largest |potential|."""
    with require_result(path) as file:
        if "fields" not in file:
            raise ResultFileError(f"{path}: keeps no fields; run with --snapshots")
        group = file["fields"]
        volts = group["applied_potential"][()]
        index = int(np.argmax(np.abs(volts))) if snapshot is None else snapshot
        if not 0 <= index < volts.size:
            raise ResultFileError(
                f"{path}: snapshot {index} does not exist; give 0 to {volts.size - 1}"
            )
        out = {
            name: group[name][index]
            for name in ("phi", "concentration", "current_density_x", "current_density_y")
        }
        return out | {
            "x": group["x"][()],
            "y": group["y"][()],
            "volt": float(volts[index]),
            "time": float(group["time"][index]),
            "ions": list(group["ion"].asstr()[()]),
        }


def _fields(case: Case, path: Path, snapshot: int | None) -> Any:
    """Draw potential with current arrows, and concentrations, of one snapshot."""
    f = _read_fields(path, snapshot)
    figure, axes = _figure(1 + len(f["ions"]), 1, (9.0, 2.3))
    x, y = f["x"] * 1e9, f["y"] * 1e9
    panels = [("potential [V]", f["phi"], "viridis")]
    panels += [
        (f"{ion} [mol/L]", c / 1e3, "magma")
        for ion, c in zip(f["ions"], f["concentration"], strict=True)
    ]
    for ax, (title, data, colours) in zip(axes[:, 0], panels, strict=True):
        picture = ax.pcolormesh(x, y, data.T, cmap=colours, shading="nearest", rasterized=True)
        figure.colorbar(picture, ax=ax, label=title)
        ax.set_ylabel("y [nm]")
        ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        ax.set_facecolor("0.6")
    _arrows(axes[0, 0], x, y, f)
    axes[-1, 0].set_xlabel("x [nm]; sheets grey, reservoir at x = 0")
    figure.suptitle(
        f"{case.name}: t = {f['time']:.4g} s, V = {f['volt']:.4g} V", fontsize="small"
    )
    return figure


def _arrows(ax: Any, x: Any, y: Any, f: dict[str, Any]) -> None:
    """Draw the direction of the current on a regular raster, length by its logarithm."""
    grid_x, grid_y = np.linspace(x[0], x[-1], 45), np.linspace(y[0], y[-1], 9)[1:-1]
    i = np.abs(x[:, None] - grid_x).argmin(axis=0)
    j = np.abs(y[:, None] - grid_y).argmin(axis=0)
    jx, jy = (f[f"current_density_{d}"][np.ix_(i, j)] for d in "xy")
    size = np.hypot(jx, jy)
    if not np.nanmax(size) > 0:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.clip(1 + np.log10(size / np.nanmax(size)) / 3, 0, 1) / size
    u, v = np.nan_to_num(jx * scale), np.nan_to_num(jy * scale)
    ax.quiver(
        x[i][:, None] + 0 * jx,
        y[j][None, :] + 0 * jx,
        u,
        v,
        color="white",
        scale=40,
        width=0.0015,
    )


def plot(
    path: str | Path, what: str = "cv", per: str = "depth", snapshot: int | None = None
) -> Any:
    """Return a figure of a result file.

    Parameters
    ----------
    path : path
    what : str
        One of :data:`FIGURES`.
    per : str
        Basis of currents and charges; see :func:`nanoslit.results.basis.basis`.
    snapshot : int, optional
        For ``fields``: which one, from 0.

    Raises
    ------
    CaseError
        If the figure or the basis is unknown, or the case has nothing to show.
    ResultFileError
        If the file is no result or keeps no fields.
    MissingExtraError
        If matplotlib is not installed.
    """
    path = Path(path)
    if what not in FIGURES:
        guess = closest(what, FIGURES)
        raise CaseError(
            f"--what {what}: unknown figure; choose among {', '.join(FIGURES)}"
            + (f" ({guess})" if guess else "")
        )
    case = read_case_of(path)
    if what == "fields":
        return _fields(case, path, snapshot)
    return _FROM_TRACES[what](case, read_traces(path), basis(case, per))
