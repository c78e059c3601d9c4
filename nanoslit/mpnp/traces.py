"""What is measured during a run: charges, potentials, currents with their split, balances.

All extensive values are per metre of depth and belong to the simulated half period of
height H. Currents through openings, the mouth, open-space planes and slits are ionic and
positive towards the reservoir; a positive electrode that charges has a positive current.
Slit k reaches from the mid-plane of the opening in sheet k to that of sheet k + 1 (the
last to the collector).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.grid import open_space_distances, open_space_reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.grid import Grid
    from nanoslit.mpnp.residual import LocalEquations

    Floats = NDArray[np.float64]

__all__ = ["PARTS", "SPECS", "Observer", "TraceSpec", "Traces"]

PARTS = ("diffusion", "migration", "steric")


@dataclass(frozen=True)
class TraceSpec:
    """Dimensions, unit and description of one trace."""

    dims: tuple[str, ...]
    unit: str
    long_name: str


def _with_parts(name: str, dims: tuple[str, ...], text: str) -> dict[str, TraceSpec]:
    out = {name: TraceSpec(dims, "A m-1", f"ionic current {text}")}
    for part in PARTS:
        out[f"{name}_{part}"] = TraceSpec(dims, "A m-1", f"{part} current {text}")
    return out


_E, _S, _O = ("electrode",), ("electrode", "slit"), ("electrode", "opening")
SPECS: dict[str, TraceSpec] = {
    "time": TraceSpec((), "s", "time"),
    "cycle": TraceSpec((), "1", "number of the cycle"),
    "applied_potential": TraceSpec((), "V", "applied potential (full cell: cell voltage)"),
    "electrode_charge": TraceSpec(_E, "C m-1", "charge on the conductor"),
    "electrode_current": TraceSpec(
        _E, "A m-1", "time derivative of the electrode charge, displacement included"
    ),
    "slit_potential": TraceSpec(_S, "V", "electrostatic potential at the middle of the slit"),
    "slit_electrochemical_potential": TraceSpec(
        _S, "V", "mean over ions of (mu - mu_bulk)/(z e) at the middle of the slit"
    ),
    "slit_charge_potential": TraceSpec(
        _S, "V", "potential of charge averaged over the slit width at its middle line"
    ),
    "slit_ion_potential": TraceSpec(
        (*_S, "ion"), "V", "(mu - mu_bulk)/(z e) averaged over the slit width at its middle"
    ),
    "slit_charge": TraceSpec(_S, "C m-1", "stored charge: minus the net ionic charge"),
    "slit_ion_content": TraceSpec((*_S, "ion"), "mol m-1", "ions in the slit"),
    "trans_slit_voltage": TraceSpec(_O, "V", "slit potential of slit k+1 minus that of slit k"),
    "trans_slit_electrochemical_voltage": TraceSpec(
        _O, "V", "slit electrochemical potential of slit k+1 minus that of slit k"
    ),
    **_with_parts("opening_current", _O, "through the opening between slits k and k+1"),
    **_with_parts("mouth_current", _E, "through the opening of the first sheet"),
    "opening_ion_current": TraceSpec(
        (*_O, "ion"), "A m-1", "current of each ion through opening k"
    ),
    "mouth_ion_current": TraceSpec(
        (*_E, "ion"), "A m-1", "current of each ion through the opening of the first sheet"
    ),
    **_with_parts(
        "open_space_current",
        ("electrode", "distance"),
        "through a plane in front of the first sheet",
    ),
    **_with_parts("slit_current", _S, "along the slit, through the line across its middle"),
    "open_space_potential": TraceSpec(
        _E, "V", "potential of charge in front of the first sheet, mean over the plane"
    ),
    "open_space_ion_potential": TraceSpec(
        (*_E, "ion"), "V", "(mu - mu_bulk)/(z e) in front of the first sheet"
    ),
    "mouth_voltage": TraceSpec(
        _E, "V", "charge potential of slit 1 minus that of the open space"
    ),
    "exterior_charge": TraceSpec(
        _E, "C m-1", "stored charge in front of the mid-plane of the first sheet"
    ),
    "current_mismatch": TraceSpec(
        (), "A m-1", "largest difference of the total current between cuts"
    ),
    "ion_mismatch": TraceSpec(
        (), "A m-1", "largest error of the ion balance (times the Faraday constant)"
    ),
    "step_size": TraceSpec((), "s", "length of the time step"),
    "order": TraceSpec((), "1", "order of the time step"),
    "newton_iterations": TraceSpec((), "1", "Newton iterations of the step"),
}
for _part in PARTS:
    SPECS[f"slit_current_{_part}_excess"] = TraceSpec(
        _S,
        "A m-1",
        f"{_part} current along the slit minus its equilibrium value at the same charge",
    )


@dataclass
class Traces:
    """Time series of one run in SI units.

    Attributes
    ----------
    values : dict of str to ndarray
        By the names of :data:`SPECS`; first axis time, then the dimensions of the
        specification. A half cell has no ``electrode`` axis.
    distances : ndarray
        Distances of the open-space planes from the first sheet [m].
    n_electrodes : int
    """

    values: dict[str, Any]
    distances: Floats
    n_electrodes: int = 1

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def dims(self, name: str) -> tuple[str, ...]:
        """Return the dimensions of a trace, time first."""
        dims = SPECS[name].dims
        if self.n_electrodes == 1:
            dims = tuple(d for d in dims if d != "electrode")
        return ("time", *dims)

    def in_cycle(self, number: int | None = None) -> NDArray[np.int64]:
        """Return the time indices of a cycle (the last by default), ends included."""
        cycle = self.values["cycle"]
        number = int(cycle.max()) if number is None else number
        inside = np.flatnonzero(cycle == number)
        return np.concatenate([[max(inside[0] - 1, 0)], inside]) if inside.size else inside


class Observer:
    """Measures a state on the nodes of one rank.

    ``charges`` returns linear functionals of (c, phi), whose time derivative the stepper
    forms; ``instant`` returns currents and potentials of the present state. Both are
    partial sums: add them over ranks before use. Dimensionless.
    """

    def __init__(self, case: Case, grid: Grid, equations: LocalEquations) -> None:
        self.case, self.grid, self.eq = case, grid, equations
        self.sub = equations.sub
        self.n_regions = grid.n_electrodes * grid.n_slits
        self.cuts = grid.cuts
        self._region_sums()
        self._wall_sums()
        self._cut_sums()
        self._reading_sums()

    # -- operators ---------------------------------------------------------------

    def _region_sums(self) -> None:
        """Rows: slits, then the open space in front of each electrode, then all."""
        own = slice(self.sub.start, self.sub.stop)
        region, n = self.grid.region[own], self.sub.n_owned
        x = self.grid.x[own]
        # the mid-plane of a full cell belongs to both electrodes by half
        second = 0.5 * (1 - np.sign(x)) if self.grid.n_electrodes == 2 else np.zeros(n)
        rows = self.n_regions + self.grid.n_electrodes + 1
        dense = np.zeros((rows, n))
        inside = region >= 0
        dense[region[inside], np.flatnonzero(inside)] = 1.0
        dense[self.n_regions, ~inside] = 1.0 - second[~inside]
        if self.grid.n_electrodes == 2:
            dense[self.n_regions + 1, ~inside] = second[~inside]
        dense[-1] = 1.0
        self._regions = sparse.csr_matrix(dense)

    def _wall_sums(self) -> None:
        """Rows: electrodes, then the wall beyond each cut that crosses the stack."""
        g, walls = self.grid, self.eq.walls
        electrode, x = g.wall_electrode[walls], np.abs(g.x[g.wall_node[walls]])
        masks = [electrode == e for e in range(g.n_electrodes)]
        self.crossing = [i for i, c in enumerate(self.cuts) if c.name != "slit"]
        masks += [
            (electrode == c.electrode) & (x > c.position)
            for c in (self.cuts[i] for i in self.crossing)
        ]
        self._walls = sparse.csr_matrix(np.array(masks, float).reshape(len(masks), walls.size))

    def _cut_sums(self) -> None:
        edges, rows, signs = [], [], []
        reservoir = self.sub.k == self.sub.n_local
        self._reservoir_edges = np.flatnonzero(reservoir & self.sub.edge_owned)
        for i, cut in enumerate(self.cuts):
            local = self.sub.position[cut.edges]
            local = local[local >= 0]
            local = local[self.sub.edge_owned[local]]
            edges.append(local)
            rows.append(np.full(local.size, i))
            signs.append(np.full(local.size, cut.sign))
        self._cut_edges = np.concatenate([*edges, np.zeros(0, np.int64)]).astype(np.int64)
        self._measured = np.concatenate([self._cut_edges, self._reservoir_edges])
        n = self._cut_edges.size
        data, where = np.concatenate([*signs, []]), np.concatenate([*rows, []])
        self._cut = sparse.csr_matrix((data, (where, np.arange(n))), (len(self.cuts), n))

    def _reading_sums(self) -> None:
        rows, nodes, weights = [], [], []
        for i, r in enumerate(self.grid.readings):
            mine = self.sub.owns(r.nodes)
            rows.append(np.full(mine.sum(), i))
            nodes.append(r.nodes[mine] - self.sub.start)
            weights.append(r.weights[mine])
        self._reading = sparse.csr_matrix(
            (np.concatenate(weights), (np.concatenate(rows), np.concatenate(nodes))),
            (len(self.grid.readings), self.sub.n_owned),
        )

    # -- measurements --------------------------------------------------------------

    def charges(self, u: Floats, stored: Floats, voltage: float) -> Floats:
        """Return [contents (rows x ions), wall charges, displacement of cuts, outflow].

        Parameters
        ----------
        u : ndarray, shape (n_local + 1, fields)
        stored : ndarray, shape (n_owned, n_ions)
            Amounts S c.
        voltage : float
        """
        q = self.eq.wall_charge(u, voltage, stored)
        field_ = self.eq.field_flux(u)
        return np.concatenate(
            [
                (self._regions @ stored).ravel(),
                self._walls @ q,
                self._cut @ field_[self._cut_edges],
                [-field_[self._reservoir_edges].sum()],
            ]
        )

    def instant(self, u: Floats) -> Floats:
        """Return [cut currents, their parts and ions, readings of phi and mu, outflow].

        The current itself is not the sum of its parts, which nearly cancel close to
        equilibrium, but equal to it up to their rounding.
        """
        eq = self.eq
        n = self._cut_edges.size
        flux = eq.ion_flux(u, self._measured)
        parts = (flux[:n].T, *eq.flux_parts(u, self._cut_edges))
        currents = [self._cut @ (eq.z @ p) for p in parts]
        own = u[: self.sub.n_owned]
        return np.concatenate(
            [
                *currents,
                (self._cut @ (flux[:n] * eq.z)).ravel(),
                self._reading @ own[:, 0],
                (self._reading @ (own[:, 1:] / eq.z)).ravel(),
                -flux[n:].sum(axis=0),
            ]
        )

    # -- from sums to named traces --------------------------------------------------

    @cached_property
    def _layout(self) -> dict[str, Any]:
        """Index arrays that pick cuts and readings by name."""
        g = self.grid
        e, n = g.n_electrodes, g.n_slits

        def cuts(name: str) -> NDArray[np.int64]:
            return np.array(
                [i for i, c in enumerate(self.cuts) if c.name == name], dtype=np.int64
            ).reshape(e, -1)

        def readings(name: str) -> NDArray[np.int64]:
            return np.array(
                [i for i, r in enumerate(g.readings) if r.name == name], dtype=np.int64
            ).reshape(e, -1)

        return {
            "e": e,
            "n": n,
            "opening": cuts("opening"),
            "slit": cuts("slit"),
            "open": cuts("open_space"),
            "mid": readings("slit_mid"),
            "width": readings("slit_width"),
            "space": readings("open_space")[:, 0],
        }

    def unpack_charges(self, total: Floats) -> dict[str, Floats]:
        """Return named parts of ``charges`` (already added over ranks)."""
        rows = self.n_regions + self.grid.n_electrodes + 1
        m = self.eq.n_ions
        contents = total[: rows * m].reshape(rows, m)
        rest = total[rows * m :]
        e, x = self.grid.n_electrodes, len(self.crossing)
        return {
            "contents": contents,
            "electrode": rest[:e],
            "beyond": rest[e : e + x],
            "displacement": rest[e + x : e + x + len(self.cuts)],
            "outflow": rest[-1:],
        }

    def record(self, charges: Floats, rates: Floats, instant: Floats) -> dict[str, Any]:
        """Return one row of every trace in SI (with an electrode axis always).

        Parameters
        ----------
        charges, rates : ndarray
            Sums over ranks of ``charges`` and of its time derivative.
        instant : ndarray
            Sums over ranks of ``instant``.
        """
        s, L, z = self.eq.scales, self._layout, self.eq.z
        e, n, m = L["e"], L["n"], self.eq.n_ions
        q, dq = self.unpack_charges(charges), self.unpack_charges(rates)
        nc, nr = len(self.cuts), len(self.grid.readings)
        ends = np.cumsum([4 * nc, m * nc, nr, m * nr])
        ionic, by_ion, phi, mu_by_ion, outflow = np.split(instant, ends)
        ionic, *parts = ionic.reshape(4, nc) * s.current
        by_ion = by_ion.reshape(nc, m) * s.current
        phi = phi * s.potential
        mu_by_ion = mu_by_ion.reshape(nr, m) * s.potential
        mu = mu_by_ion.mean(axis=1)
        contents = q["contents"]
        slits = contents[: self.n_regions].reshape(e, n, m)
        open_space = contents[self.n_regions : self.n_regions + e]
        row: dict[str, Any] = {
            "electrode_charge": q["electrode"] * s.charge,
            "electrode_current": dq["electrode"] * s.current,
            "exterior_charge": -(open_space @ z) * s.charge,
            "open_space_potential": mu[L["space"]],
            "open_space_ion_potential": mu_by_ion[L["space"]],
            **self._cut_traces("open_space_current", L["open"], ionic, parts),
            **self._mismatch(dq, ionic / s.current, outflow),
        }
        if n:
            opening = L["opening"]
            row |= {
                "slit_charge": -(slits @ z) * s.charge,
                "slit_ion_content": slits * s.content,
                "slit_potential": phi[L["mid"]],
                "slit_electrochemical_potential": mu[L["mid"]],
                "slit_charge_potential": mu[L["width"]],
                "slit_ion_potential": mu_by_ion[L["width"]],
                "opening_ion_current": by_ion[opening[:, 1:]],
                "mouth_ion_current": by_ion[opening[:, 0]],
                "trans_slit_voltage": np.diff(phi[L["mid"]], axis=1),
                "trans_slit_electrochemical_voltage": np.diff(mu[L["mid"]], axis=1),
                "mouth_voltage": mu[L["width"][:, 0]] - mu[L["space"]],
                **self._cut_traces("opening_current", opening[:, 1:], ionic, parts),
                **self._cut_traces("mouth_current", opening[:, 0], ionic, parts),
                **self._cut_traces("slit_current", L["slit"], ionic, parts),
            }
        return row

    @staticmethod
    def _cut_traces(
        name: str, which: NDArray[np.int64], total: Floats, parts: list[Floats]
    ) -> dict[str, Floats]:
        out = {name: total[which]}
        for part, value in zip(PARTS, parts, strict=True):
            out[f"{name}_{part}"] = value[which]
        return out

    def _mismatch(
        self, dq: dict[str, Floats], ionic: Floats, outflow: Floats
    ) -> dict[str, float]:
        """Return the errors of current continuity and of the ion balance [A m^-1]."""
        s, z = self.eq.scales, self.eq.z
        through = ionic[self.crossing] + dq["displacement"][self.crossing]
        errors = [through - dq["beyond"]]
        if self.grid.n_electrodes == 1:
            errors.append(outflow @ z + dq["outflow"] - dq["electrode"])
        else:
            errors.append(dq["electrode"].sum(keepdims=True))
        ions = dq["contents"][-1] + outflow
        return {
            "current_mismatch": float(np.abs(np.concatenate(errors)).max()) * s.current,
            "ion_mismatch": float(np.abs(ions).max()) * s.current,
        }


@dataclass
class TraceRecorder:
    """Rows of a run, collected on every rank and turned into :class:`Traces`."""

    case: Case
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        """Append one accepted step."""
        self.rows.append(row)

    def columns(self) -> dict[str, Any]:
        """Return every recorded quantity over all rows, as the rows hold it."""
        return {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}

    def set_columns(self, columns: dict[str, Any]) -> None:
        """Replace the rows by those of which ``columns`` were made."""
        names, arrays = list(columns), list(columns.values())
        self.rows = [dict(zip(names, row, strict=True)) for row in zip(*arrays, strict=True)]

    def traces(self) -> Traces:
        """Return all rows as arrays; a half cell loses the electrode axis."""
        n_electrodes = 2 if self.case.cell == "full" else 1
        values: dict[str, Any] = {}
        for name, data in self.columns().items():
            if "electrode" in SPECS[name].dims and n_electrodes == 1:
                data = data[:, 0]
            values[name] = data
        return Traces(values, np.array(open_space_distances(self.case)), n_electrodes)


def reading_positions(case: Case) -> dict[str, float]:
    """Return where the potentials are read [m] (attributes of a result file)."""
    g = case.geometry
    out = {"open_space_reading_distance": open_space_reading(case)}
    if isinstance(g, NanoslitNetwork):
        out["reading_height"] = 0.5 * g.height
    return out
