"""The last cycle of a solved half cell: what laws, circuits and findings are read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import ResultFileError
from nanoslit.geometry import NanoslitNetwork
from nanoslit.results.files import read_case_of, read_traces
from nanoslit.results.summary import time_weights
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.traces import Traces

    Array = NDArray[np.float64]

__all__ = ["HalfCell", "LastCycle", "read_last_cycle", "weighted_fit"]


@dataclass(frozen=True, kw_only=True)
class HalfCell:
    """Last cycle of a half cell of two slits or more, per metre of depth.

    Parameters
    ----------
    path : Path
    case : Case
    time, weight, applied, current : ndarray, shape (times,)
        Time from the start of the cycle [s]; trapezoidal weights of the mean over time,
        sum 1; potential [V]; current of the electrode [A/m].
    slit_charge : ndarray, shape (times, slits)
        [C/m]
    opening_current : ndarray, shape (times, slits - 1)
        [A/m]
    """

    path: Path
    case: Case
    time: Array
    weight: Array
    applied: Array
    current: Array
    slit_charge: Array
    opening_current: Array

    @property
    def network(self) -> NanoslitNetwork:
        """Geometry."""
        assert isinstance(self.case.geometry, NanoslitNetwork)
        return self.case.geometry

    @property
    def slits(self) -> int:
        """Number of slits."""
        return int(self.slit_charge.shape[1])

    @property
    def interior(self) -> slice:
        """All slits but the first and the last, or all of two."""
        return slice(1, -1) if self.slits > 2 else slice(None)

    @property
    def bulk_charge(self) -> float:
        """Charge of the ions of bulk electrolyte in a slit, F A sum |z| c [C/m]."""
        g = self.network
        content = sum(abs(i.charge) * i.concentration for i in self.case.electrolyte.ions)
        return float(FARADAY * content * g.slit_size * g.height)


@dataclass(frozen=True, kw_only=True)
class LastCycle(HalfCell):
    """A half cell with its file's other traces at hand."""

    traces: Traces
    rows: NDArray[np.int64]

    def base(self) -> dict[str, Any]:
        """Return the fields of a :class:`HalfCell` by name."""
        return {name: getattr(self, name) for name in HalfCell.__dataclass_fields__}

    def trace(self, name: str) -> Array:
        """Return a trace in the cycle.

        Raises
        ------
        ResultFileError
            If the file has none of that name.
        """
        if name not in self.traces:
            raise ResultFileError(f"{self.path}: has no traces {name}; run the case again")
        return np.asarray(self.traces[name][self.rows])

    def counterion(self, name: str) -> Array:
        """Return a trace of each ion, of the ions that the electrode attracts."""
        by_ion, charge = self.trace(name), self.trace("electrode_charge")
        return self.case.electrolyte.counterion_mean(by_ion, charge)


def read_last_cycle(path: str | Path) -> LastCycle:
    """Return the last cycle of a result file.

    Raises
    ------
    ResultFileError
        If it is no result of a half cell with at least two slits.
    """
    path = Path(path)
    case, traces = read_case_of(path), read_traces(path)
    g = case.geometry
    if case.cell != "half" or not isinstance(g, NanoslitNetwork) or g.sheets < 2:
        raise ResultFileError(
            f"{path}: this needs a half cell of two sheets or more; it is a {case.cell} cell "
            f"of {g.sheets}"
        )
    rows = traces.in_cycle()
    time = traces["time"][rows]
    return LastCycle(
        path=path, case=case, time=time - time[0], weight=time_weights(time),
        applied=traces["applied_potential"][rows], current=traces["electrode_current"][rows],
        slit_charge=traces["slit_charge"][rows],
        opening_current=traces["opening_current"][rows], traces=traces, rows=rows,
    )  # fmt: skip


def weighted_fit(columns: Array, target: Array, weight: Array) -> tuple[Array, float]:
    """Return coefficients and relative rms misfit of a weighted linear fit.

    Parameters
    ----------
    columns : ndarray, shape (times, coefficients) or (times, sets, coefficients)
    target : ndarray, shape (times,) or (times, sets)
    weight : ndarray, shape (times,)
    """
    w = np.sqrt(weight).reshape(-1, *([1] * (target.ndim - 1)))
    x = (columns * w[..., None]).reshape(-1, columns.shape[-1])
    y = (target * w).ravel()
    scale = np.linalg.norm(x, axis=0)
    c, *_ = np.linalg.lstsq(x / scale, y, rcond=None)
    misfit = np.linalg.norm(y - x / scale @ c) / np.linalg.norm(y)
    return c / scale, float(misfit)
