"""Data for a search: tables of any kind, and traces of simulated cases.

Traces (group ``traces`` of a result file, SI units, per metre of depth) become one data
set per opening. Opening k lies between slit k, the *outer* one, and slit k + 1, the
*inner* one. Charges enter as q = |Q|/Q_max, with Q_max the slit's largest |Q| of the
analysed cycle, and as X = |Q|/(F A sum |z| c), the charge over that of all ions in the
slit at bulk composition (A = slit width times height of the half period), which needs no
Q_max and is comparable between windows, scan rates and slit widths.

Charge and current alone do not fix the voltage: the salt in the slits lags behind. If the
file holds the ion content, S and the diffusion current are columns, too. For equal
diffusivities and slits in equilibrium across their width the fluxes of both ions give
``dphi = R_c (I + X G dphi_salt)/S`` with dphi_salt the difference of (mu+ + mu-)/(2 e) and
G the bulk conductance: conduction by all S, diffusion along the wall by the excess X.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery.dimensions import exponents
from nanoslit.discovery.law import RESISTANCE_COLUMNS
from nanoslit.discovery.problem import Problem
from nanoslit.errors import LawError, MissingExtraError, ResultFileError
from nanoslit.geometry import Planar
from nanoslit.units import FARADAY

__all__ = [
    "CaseTraces",
    "OpeningData",
    "opening_data",
    "problem_from_table",
    "read_table",
    "read_traces",
]

Array = NDArray[np.float64]
Table = dict[str, NDArray[Any]]


def read_table(path: str | Path) -> Table:
    """Return the columns of a ``.csv``, ``.h5``/``.hdf5`` or ``.parquet`` file.

    Raises
    ------
    LawError
        If the file is missing, of another kind, or has no rows.
    """
    path = Path(path)
    readers = {
        ".csv": _read_csv,
        ".h5": _read_hdf5,
        ".hdf5": _read_hdf5,
        ".parquet": _read_parquet,
    }
    if path.suffix.lower() not in readers:
        raise LawError(
            f"cannot tell the kind of the table {str(path)!r}; known endings: "
            f"{' '.join(readers)}"
        )
    if not path.is_file():
        raise LawError(f"no table {str(path)!r}")
    try:
        table = readers[path.suffix.lower()](path)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        if isinstance(error, LawError):
            raise
        raise LawError(f"cannot read the table {str(path)!r}: {error}") from None
    if not table or min(len(c) for c in table.values()) == 0:
        raise LawError(f"the table {str(path)!r} has no rows")
    return table


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = [r for r in csv.reader(stream) if r and not r[0].startswith("#")]
    if not rows:
        raise LawError(f"the table {str(path)!r} is empty")
    head = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(head):
            raise LawError(
                f"row {number} of {str(path)!r} has {len(row)} fields, the head has {len(head)}"
            )
    if len(rows) == 1:
        return {name: np.zeros(0) for name in head}
    return {name: _numbers([row[j] for row in rows[1:]]) for j, name in enumerate(head)}


def _numbers(cells: list[str]) -> NDArray[Any]:
    try:
        return np.array([float(c) if c.strip() else np.nan for c in cells])
    except ValueError:
        return np.array(cells)


def _read_hdf5(path: Path) -> Table:
    import h5py

    from nanoslit.results.sealed import open_sealed

    with open_sealed(path) as file:
        sets = {k: v for k, v in file.items() if isinstance(v, h5py.Dataset)}
        table = {k: np.asarray(v) for k, v in sets.items() if v.ndim == 1}
    if len({len(c) for c in table.values()}) > 1:
        raise LawError(
            f"the one-dimensional data sets of {str(path)!r} differ in length: "
            f"{ {k: len(v) for k, v in table.items()} }"
        )
    return {k: v.astype(str) if v.dtype.kind in "SO" else v for k, v in table.items()}


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingExtraError("Parquet needs pyarrow: pip install 'nanoslit[data]'") from None
    table = parquet.read_table(path)
    return {n: np.asarray(table[n].to_numpy()) for n in table.column_names}


def _column(table: Table, name: str, role: str) -> Array:
    if name not in table:
        raise LawError(f"no column {name!r} ({role}); the table has {list(table)}")
    try:
        return np.asarray(table[name], dtype=np.float64)
    except (TypeError, ValueError):
        raise LawError(
            f"column {name!r} ({role}) holds text, for example "
            f"{str(table[name][0])!r}; numbers are needed"
        ) from None


def problem_from_table(
    table: Table,
    target: str,
    features: Sequence[str] = (),
    units: Mapping[str, str] | None = None,
    group: str | None = None,
    sigma: str | None = None,
) -> tuple[Problem, tuple[str, ...]]:
    """Return a problem and the names of its data sets.

    Parameters
    ----------
    table : dict of str to ndarray
    target : str
        Column to be explained.
    features : sequence of str
        Columns that may explain it; by default all other numeric ones.
    units : mapping of str to str, optional
        Units; with any unit given, every feature and the target need one.
    group : str, optional
        Column that names the data set of each row.
    sigma : str, optional
        Column with the standard uncertainty of the target.

    Raises
    ------
    LawError
        If a column is missing, not numeric, not finite or constant, or a unit is
        missing or unknown.
    """
    special = {target, group, sigma}
    names = tuple(features) or tuple(
        n for n, c in table.items() if n not in special and c.dtype.kind in "fiub"
    )
    if not names:
        raise LawError(f"no features: the table has only {list(table)}")
    for name in names:
        if not name.isidentifier():
            raise LawError(
                f"column name {name!r} cannot stand in a formula; rename it to letters, "
                "digits and underscores"
            )
    y = _column(table, target, "target")
    X = np.stack([_column(table, n, "feature") for n in names], axis=1)
    weights = None if sigma is None else _weights(_column(table, sigma, "uncertainty"))
    cases: tuple[str, ...] = ("all",)
    groups = np.zeros(len(y), dtype=np.int64)
    if group is not None:
        if group not in table:
            raise LawError(f"no column {group!r} (group); the table has {list(table)}")
        labels = np.array([_label(v) for v in table[group]])
        unique, groups = np.unique(labels, return_inverse=True)
        cases = tuple(unique.tolist())
    return (
        Problem(
            names,
            X,
            y,
            np.asarray(groups, dtype=np.int64),
            weights,
            *_units_of(names, target, units),
            target=target,
        ),
        cases,
    )


def _weights(sigma: Array) -> Array:
    if not np.all(np.isfinite(sigma) & (sigma > 0)):
        raise LawError("uncertainties must be positive and finite")
    return 1.0 / sigma**2


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


def _units_of(
    names: Sequence[str], target: str, units: Mapping[str, str] | None
) -> tuple[Any, Any]:
    if not units:
        return None, exponents("")
    unknown = set(units) - {*names, target}
    if unknown:
        raise LawError(
            f"units given for {sorted(unknown)}, which is no column; columns are "
            f"{[*names, target]}"
        )
    missing = [n for n in (*names, target) if n not in units]
    if missing:
        raise LawError(
            f"units are given, but not of {missing}; write for example "
            f"{missing[0]}=1 for a plain number"
        )
    return tuple(exponents(units[n]) for n in names), exponents(units[target])


@dataclass(frozen=True)
class CaseTraces:
    """The traces of one result file that the search uses.

    Parameters
    ----------
    name : str
        File name without its ending.
    time, cycle, applied_potential : ndarray, shape (time,)
    slit_charge, slit_virtual_potential : ndarray, shape (time, slit)
        [C m^-1] and electrochemical potential [V].
    slit_counterion_potential : ndarray, shape (time, slit)
        (mu - mu_bulk)/(z e) of the ions that the electrode attracts [V].
    voltage, current : ndarray, shape (time, opening)
        [V] and [A m^-1].
    slit_size, height : float
        [m].
    bulk_charge : float
        F A sum |z| c of a slit [C m^-1].
    bulk_conductance : float
        Conductivity times slit size over the length of a path through a slit [S m^-1].
    thermal_voltage : float
        kT/e [V].
    ion_content : ndarray, shape (time, slit), optional
        F sum |z| N [C m^-1].
    """

    name: str
    time: Array
    cycle: NDArray[np.int64]
    applied_potential: Array
    slit_charge: Array
    slit_virtual_potential: Array
    slit_counterion_potential: Array
    voltage: Array
    current: Array
    slit_size: float
    height: float
    bulk_charge: float
    bulk_conductance: float
    thermal_voltage: float
    ion_content: Array | None = None


TRACE_NAMES = (
    "time",
    "cycle",
    "applied_potential",
    "slit_charge",
    "slit_electrochemical_potential",
    "slit_ion_potential",
    "electrode_charge",
    "trans_slit_voltage",
    "opening_current",
)


def read_traces(path: str | Path) -> CaseTraces:
    """Read what the search needs from a result file.

    Raises
    ------
    ResultFileError
        If the file is missing, not HDF5, or lacks traces.
    LawError
        If the case has no openings between slits, or two electrodes.
    """
    from nanoslit.results.sealed import open_sealed

    path = Path(path)
    if not path.is_file():
        raise ResultFileError(f"no result file {str(path)!r}")
    with open_sealed(path) as file:
        if "traces" not in file:
            raise ResultFileError(
                f"{str(path)!r} has no group 'traces': it is not a result of "
                "'nanoslit run'; for other tables use --table"
            )
        group = file["traces"]
        missing = [n for n in TRACE_NAMES if n not in group]
        if missing:
            raise ResultFileError(f"the traces of {str(path)!r} lack {missing}")
        data = {n: np.asarray(group[n]) for n in TRACE_NAMES}
        if "slit_ion_content" in group:
            data["slit_ion_content"] = np.asarray(group["slit_ion_content"])
        case = _case_text(file, path)
    if data["trans_slit_voltage"].ndim != 2 or data["trans_slit_voltage"].shape[1] == 0:
        raise LawError(
            f"{str(path)!r} has no opening between two slits of one electrode (shape of "
            f"trans_slit_voltage: {data['trans_slit_voltage'].shape}); a law needs a "
            "half cell with at least two slits"
        )
    return _case_traces(path.stem, data, case, path)


def _case_text(file: Any, path: Path) -> str:
    """Return the canonical case stored under /provenance (attribute or data set)."""
    group = file.get("provenance")
    if group is not None:
        for name in ("case", "case_toml", "canonical_case"):
            if name in group.attrs:
                return _text(group.attrs[name])
            if name in group:
                return _text(group[name][()])
    raise ResultFileError(
        f"{str(path)!r} does not hold its case under /provenance; run it again"
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _case_traces(name: str, data: dict[str, NDArray[Any]], text: str, path: Path) -> CaseTraces:
    from nanoslit.casefile import case_from_toml

    case = case_from_toml(text, f"case stored in {path}")
    geometry = case.geometry
    if isinstance(geometry, Planar):
        raise LawError(f"{str(path)!r} is a planar case: it has no slits")
    electrolyte = case.electrolyte
    content = sum(abs(i.charge) * i.concentration for i in electrolyte.ions)
    area = geometry.slit_size * geometry.height
    ions = data.get("slit_ion_content")
    if ions is not None:
        valences = np.array([abs(i.charge) for i in electrolyte.ions], dtype=float)
        ions = FARADAY * (np.asarray(ions, dtype=float) @ valences)
    return CaseTraces(
        name,
        np.asarray(data["time"], dtype=float),
        np.asarray(data["cycle"], dtype=np.int64),
        np.asarray(data["applied_potential"], dtype=float),
        np.asarray(data["slit_charge"], dtype=float),
        np.asarray(data["slit_electrochemical_potential"], dtype=float),
        case.electrolyte.counterion_mean(data["slit_ion_potential"], data["electrode_charge"]),
        np.asarray(data["trans_slit_voltage"], dtype=float),
        np.asarray(data["opening_current"], dtype=float),
        geometry.slit_size,
        geometry.height,
        FARADAY * content * area,
        electrolyte.conductivity * geometry.slit_size / geometry.path_length,
        electrolyte.thermal_voltage,
        ions,
    )


@dataclass(frozen=True)
class OpeningData:
    """One data set: the last cycle at one opening of one case.

    Parameters
    ----------
    case : str
        ``"<file>:<opening>"``.
    table : dict of str to ndarray, shape (rows,)
        Columns of :data:`~nanoslit.discovery.law.RESISTANCE_COLUMNS`, and the
        targets ``mid``, ``electrochemical`` and ``counterion`` [V].
    charging : ndarray of bool, shape (rows,)
        Where |applied potential| rises.
    charge_outer : ndarray
        |Q| of the outer slit [C m^-1]; likewise inner.
    q_max : dict
        Q_max of ``outer``, ``inner`` and their mean [C m^-1].
    """

    case: str
    table: dict[str, Array]
    charging: NDArray[np.bool_]
    charge: dict[str, Array]
    q_max: dict[str, float]
    slit_size: float
    file: str
    current_sign: int


def opening_data(traces: CaseTraces, points: int = 150) -> list[OpeningData]:
    """Return the data sets of a case: one per opening, thinned.

    Parameters
    ----------
    traces : CaseTraces
    points : int
        Rows kept per half cycle, spaced evenly in the arc length of the scaled traces
        (a time series of one cycle is redundant, and neighbours are not independent).

    Raises
    ------
    LawError
        If the last cycle has too few points, or a slit never charges.
    """
    rows = traces.cycle == traces.cycle.max()
    if rows.sum() < 16:
        raise LawError(
            f"{traces.name}: the last cycle has {int(rows.sum())} points; at least 16 "
            "are needed"
        )
    t = traces.time[rows]
    V = traces.applied_potential[rows]
    Q = np.abs(traces.slit_charge[rows])
    top = Q.max(axis=0)
    if not np.all(top > 0):
        raise LawError(f"{traces.name}: a slit holds no charge in the last cycle")
    rate = np.gradient(np.abs(traces.slit_charge[rows]), t, axis=0)
    charging = np.gradient(np.abs(V), t) > 0
    sets = []
    for k in range(traces.voltage.shape[1]):
        current = traces.current[rows, k]
        mid = traces.voltage[rows, k]
        virtual = np.diff(traces.slit_virtual_potential[rows], axis=1)[:, k]
        counterion = np.diff(traces.slit_counterion_potential[rows], axis=1)[:, k]
        # the law is stated with R > 0; which way counts as forward is the solver's choice
        sign = 1 if float(current @ mid) >= 0 else -1
        virtual, counterion = (v if float(mid @ v) >= 0 else -v for v in (virtual, counterion))
        table = {
            "I": sign * current,
            "V": V,
            "dQdt_outer": rate[:, k],
            "dQdt_inner": rate[:, k + 1],
            "dIdt": sign * np.gradient(current, t),
            "t": t - t[0],
            "mid": mid,
            "electrochemical": virtual,
            "counterion": counterion,
        }
        for kind, scale in (("q", top[k : k + 2]), ("X", [traces.bulk_charge] * 2)):
            outer, inner = Q[:, k] / scale[0], Q[:, k + 1] / scale[1]
            table |= {
                f"{kind}_outer": outer,
                f"{kind}_inner": inner,
                f"{kind}_mean": 0.5 * (outer + inner),
            }
        if traces.ion_content is not None:
            table |= _salt(traces, rows, k, sign)
        keep = np.zeros(len(t), dtype=bool)
        for half in (charging, ~charging):
            keep[_thin(table, half, points)] = True
        sets.append(
            OpeningData(
                f"{traces.name}:{k + 1}",
                {n: np.asarray(c)[keep] for n, c in table.items()},
                charging[keep],
                {
                    "outer": Q[keep, k],
                    "inner": Q[keep, k + 1],
                    "mean": 0.5 * (Q[keep, k] + Q[keep, k + 1]),
                },
                {
                    "outer": float(top[k]),
                    "inner": float(top[k + 1]),
                    "mean": float(0.5 * (top[k] + top[k + 1])),
                },
                traces.slit_size,
                traces.name,
                sign,
            )
        )
    return sets


def _salt(traces: CaseTraces, rows: NDArray[np.bool_], k: int, sign: int) -> dict[str, Array]:
    """Return the columns of the ion content and of the diffusion along the charged walls."""
    assert traces.ion_content is not None
    charge = traces.slit_charge[rows, k : k + 2] / traces.bulk_charge
    S = traces.ion_content[rows, k : k + 2] / traces.bulk_charge
    # more charge than ions of one sign cannot be; rounding may say so in a full slit
    salt = np.log(np.maximum(S**2 - charge**2, 1e-12 * S**2))
    voltage = 0.5 * traces.thermal_voltage * (salt[:, 1] - salt[:, 0])
    return {
        "S_outer": S[:, 0],
        "S_inner": S[:, 1],
        "S_mean": S.mean(axis=1),
        "I_salt": sign * traces.bulk_conductance * voltage * np.sign(charge.sum(axis=1)),
    }


def _thin(table: dict[str, Array], half: NDArray[np.bool_], points: int) -> Any:
    index = np.flatnonzero(half)
    if len(index) <= points:
        return index
    path = np.stack([table[n][index] / np.ptp(table[n]) for n in ("I", "mid", "t")])
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path), axis=0))])
    wanted = np.linspace(0, length[-1], points)
    return index[np.unique(np.searchsorted(length, wanted).clip(0, len(index) - 1))]


def resistance_unit(column: str) -> Any:
    """Return the exponents of a column of the resistance problem."""
    return exponents(RESISTANCE_COLUMNS[column]["unit"])
