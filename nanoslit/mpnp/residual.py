r"""Discrete equations of one rank: storage, fluxes, Poisson, boundaries, Jacobian blocks.

Unknowns per node are (phi, mu_1, ..., mu_n). In units of the Debye length, thermal
voltage, c_ref = sum_i z_i^2 c_i0 and the time lambda_D^2 / D_ref the equations are

    d(S c_i)/dt + sum over edges of  area N_i                      = 0
    sum over edges of  face (phi_k - phi_l)/h  - sum_i z_i (S c_i)  = wall charge

with the storage S c = volume c + sum over neighbours of compact (c_l - c_k), the compact
correction of the grid. A neighbour whose concentration is more than STEEP times that of
the node is left out (smoothly): across such a step the correction means nothing, and it
could make the amount of a nearly absent ion negative. The ion flux is zero at walls, and
phi = mu = 0 at the reservoir. Without a Stern
layer phi = V on walls, and the second line gives their charge (discrete Gauss law); with
one, wall charge = C_S area (V - phi). The time derivative is whatever linear formula the
stepper supplies for S c itself: ``shift * S c + history``, so ion content and charge are
conserved exactly by any multistep method.

Arrays have shape (fields, nodes) in "ion-major" order inside this module; the state
vector outside is (nodes, fields), the block order of the linear solver. Local nodes are
owned ones, ghosts, and last the reservoir.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import sparse

from nanoslit.mpnp import kernels
from nanoslit.mpnp.fluxes import MOBILITY_FLOOR, Composition, compose, split_flux
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.grid import Grid

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["LocalEquations", "Scales", "Subdomain"]


@dataclass(frozen=True)
class Scales:
    """Units of the dimensionless equations.

    Attributes
    ----------
    length : float
        Debye length [m].
    potential : float
        Thermal voltage [V].
    concentration : float
        sum z^2 c0 [mol m^-3].
    time : float
        length^2 / largest bulk diffusivity [s].
    """

    length: float
    potential: float
    concentration: float
    time: float

    @classmethod
    def of(cls, case: Case) -> Scales:
        """Return the scales of a case."""
        e = case.electrolyte
        d = max(i.diffusivity for i in e.ions)
        return cls(
            e.debye_length, e.thermal_voltage, 2 * e.ionic_strength, e.debye_length**2 / d
        )

    @property
    def charge(self) -> float:
        """Charge per metre of depth [C m^-1]."""
        return FARADAY * self.concentration * self.length**2

    @property
    def current(self) -> float:
        """Current per metre of depth [A m^-1]."""
        return self.charge / self.time

    @property
    def content(self) -> float:
        """Amount of ions per metre of depth [mol m^-1]."""
        return self.concentration * self.length**2


@dataclass(frozen=True)
class BlockPattern:
    """Block rows of the owned nodes in compressed form.

    Attributes
    ----------
    start : ndarray of int, shape (n_owned + 1,)
        First block of each row.
    columns : ndarray of int, shape (n_blocks,)
        Global node of each block.
    diagonal : ndarray of int, shape (n_owned,)
        Number of the diagonal block of each row.
    kl, lk : ndarray of int, shape (n_edges,)
        Number of the block in row k and column l of each edge, and of that in row l and
        column k; -1 where the row is not owned or the column is the reservoir.
    """

    start: Ints
    columns: Ints
    diagonal: Ints
    kl: Ints
    lk: Ints


class Graph(Protocol):
    """Edges between numbered nodes; a negative number is the reservoir."""

    @property
    def k(self) -> Ints:
        """First node of each edge (n_edges,)."""

    @property
    def l(self) -> Ints:  # noqa: E743
        """Second node of each edge (n_edges,)."""


class Subdomain:
    """The nodes and edges of one rank: owned nodes, then ghosts, last the reservoir.

    Parameters
    ----------
    grid : Grid, or another graph
    start, stop : int
        Range of owned nodes.
    """

    def __init__(self, grid: Graph, start: int, stop: int) -> None:
        self.start, self.stop, self.n_owned = start, stop, stop - start
        owned_k, owned_l = self.owns(grid.k), self.owns(grid.l)
        self.edges = np.flatnonzero(owned_k | owned_l)
        both = np.concatenate([grid.k[self.edges], grid.l[self.edges]])
        self.ghosts = np.unique(both[(both >= 0) & ~self.owns(both)])
        self.n_local = self.n_owned + self.ghosts.size
        self.k, self.l = self.local(grid.k[self.edges]), self.local(grid.l[self.edges])
        # an edge is measured by the rank that owns k (l at the reservoir)
        self.edge_owned = np.where(
            grid.k[self.edges] < 0, owned_l[self.edges], owned_k[self.edges]
        )
        self.position = np.full(grid.k.size, -1, dtype=np.int64)
        self.position[self.edges] = np.arange(self.edges.size)

    def owns(self, nodes: Ints) -> NDArray[np.bool_]:
        """Return which global nodes are owned here."""
        return np.asarray((nodes >= self.start) & (nodes < self.stop))

    def local(self, nodes: Ints) -> Ints:
        """Return local numbers of global nodes (owned, ghost or reservoir)."""
        ghost = self.n_owned + np.searchsorted(self.ghosts, nodes)
        local = np.where(self.owns(nodes), nodes - self.start, ghost)
        return np.where(nodes < 0, self.n_local, local)

    @cached_property
    def pattern(self) -> BlockPattern:
        """Where the blocks of the Jacobian's owned rows stand."""
        n, to_global = self.n_owned, self.globals()
        reservoir = self.n_local  # adds to diagonals only
        from_k = np.flatnonzero((self.k < n) & (self.l < reservoir))
        from_l = np.flatnonzero((self.l < n) & (self.k < reservoir))
        rows = np.concatenate([np.arange(n), self.k[from_k], self.l[from_l]])
        columns = np.concatenate(
            [to_global[:n], to_global[self.l[from_k]], to_global[self.k[from_l]]]
        )
        order = np.lexsort((columns, rows))
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        at_kl, at_lk = (np.full(self.k.size, -1, dtype=np.int64) for _ in range(2))
        at_kl[from_k] = place[n : n + from_k.size]
        at_lk[from_l] = place[n + from_k.size :]
        start = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
        return BlockPattern(start, columns[order], place[:n], at_kl, at_lk)

    def globals(self) -> Ints:
        """Return the global numbers of owned and ghost nodes."""
        return np.concatenate([np.arange(self.start, self.stop), self.ghosts])


class LocalEquations:
    """Residual and Jacobian on one rank's nodes.

    Parameters
    ----------
    case : Case
    grid : Grid
        The whole mesh.
    sub : Subdomain
        This rank's part of it.
    """

    def __init__(self, case: Case, grid: Grid, sub: Subdomain) -> None:
        self.sub, self.scales = sub, Scales.of(case)
        s = self.scales
        ions = case.electrolyte.ions
        self.n_ions = len(ions)
        self.n_fields = self.n_ions + 1
        self.charges = tuple(float(i.charge) for i in ions)
        self.z = np.array(self.charges)
        self.c_bulk = np.array([i.concentration for i in ions]) / s.concentration
        self.v = case.electrolyte.ion_volume * self.c_bulk * s.concentration
        self.floor = MOBILITY_FLOOR * self.c_bulk
        d_ref = max(i.diffusivity for i in ions)
        self.diffusivity = np.array([i.diffusivity / d_ref for i in ions])
        self.factors = [i.diffusivity_factor for i in ions]
        self.variable = any(f is not None for f in self.factors)
        m = self.n_ions
        everywhere = np.broadcast_to(self.diffusivity, (sub.n_local + 1, m))
        self._constant = everywhere, np.zeros((0, m, m))
        e = sub.edges
        self.conductance = grid.area[e] / grid.distance[e]  # area / h for ions
        self.permittance = grid.face[e] / grid.distance[e]  # area / h for the field
        self.volume = grid.volume[sub.start : sub.stop] / s.length**2
        self._set_walls(case, grid)
        self._set_sums(grid)

    def _set_walls(self, case: Case, grid: Grid) -> None:
        sub = self.sub
        self.walls = np.flatnonzero(sub.owns(grid.wall_node))
        self.wall_node = grid.wall_node[self.walls] - sub.start
        sign = 0.5 if case.cell == "full" else 1.0
        self.wall_factor = np.where(grid.wall_electrode[self.walls] == 1, -sign, sign)
        stern = case.electrode.stern_capacitance
        self.stern = (
            None
            if stern is None
            else (grid.wall_area[self.walls] * stern / case.electrolyte.eps)
        )

    def _set_sums(self, grid: Grid) -> None:
        """Set the weights of the compact storage and the scale of the wall rows."""
        sub = self.sub
        compact = grid.compact.tocsr() / self.scales.length**2
        self.compact_kl = self._entries(compact, sub.k, sub.l)
        self.compact_lk = self._entries(compact, sub.l, sub.k)
        # rows phi = V on walls are scaled like their neighbours
        n = sub.n_local + 1
        diagonal = np.bincount(sub.k, self.permittance, n)
        diagonal += np.bincount(sub.l, self.permittance, n)
        self.wall_scale = diagonal[self.wall_node]

    def _entries(self, matrix: sparse.csr_matrix, row: Ints, column: Ints) -> Floats:
        """Return entries of a global matrix by local numbers, 0 in rows not owned."""
        number = np.append(self.sub.globals(), matrix.shape[0])  # last: the reservoir
        out = np.zeros(row.size)
        mine = np.flatnonzero(row < self.sub.n_owned)
        out[mine] = np.asarray(matrix[number[row[mine]], number[column[mine]]]).ravel()
        return out

    # -- state ---------------------------------------------------------------

    def compose(self, u: Floats) -> Composition:
        """Return the composition of a state of shape (n, fields)."""
        return compose(u[:, 1:].T, u[:, 0], self.z, self.c_bulk, self.v)

    def concentrations(self, u: Floats) -> Floats:
        """Return the concentrations (n, n_ions) of a state."""
        return self._nodes(u)[0]

    def stored(self, u: Floats) -> Floats:
        """Return S c of the owned nodes (n_owned, n_ions) in a local state."""
        return self._stored(self._nodes(u)[0])

    def _stored(self, c: Floats) -> Floats:
        sub = self.sub
        return np.asarray(
            kernels.stored_amounts(
                c, self.volume, sub.k, sub.l, self.compact_kl, self.compact_lk
            )
        )

    def _nodes(self, u: Floats) -> tuple[Floats, Floats, Floats]:
        """Return c, ln gamma, packing of a state, nodes first."""
        c, ln_gamma, packing = kernels.compose_nodes(u, self.charges, self.c_bulk, self.v)
        return c, ln_gamma, packing

    def node_diffusivity(self, c: Floats) -> tuple[Floats, Floats]:
        """Return D at nodes (n, n_ions) and dD_i/dc_j (n, n_ions, n_ions).

        The gradient has length 0 where every diffusivity is a constant. D on an edge is
        the mean of its two nodes.
        """
        n, m = c.shape
        if not self.variable:
            if n == self._constant[0].shape[0]:
                return self._constant
            return np.broadcast_to(self.diffusivity, (n, m)), self._constant[1]
        values = np.broadcast_to(self.diffusivity, (n, m)).copy()
        gradient = np.zeros((n, m, m))
        scale = self.scales.concentration
        for i, factor in enumerate(self.factors):
            if factor is not None:
                value, slope = factor(c.T * scale)
                gradient[:, i, :] = (values[:, i] * slope).T * scale
                values[:, i] *= value
        return values, gradient

    # -- residual --------------------------------------------------------------

    def residual(
        self,
        u: Floats,
        voltage: float,
        shift: float,
        history: Floats | float,
        source: Floats | None = None,
    ) -> Floats:
        """Return the residual of the owned nodes.

        Parameters
        ----------
        u : ndarray, shape (n_local + 1, fields)
            phi and mu of owned, ghost and reservoir nodes.
        voltage : float
            Applied potential [kT/e].
        shift : float
            Coefficient of the new S c in the time derivative; 0 for a steady state.
        history : ndarray, shape (n_owned, n_ions)
            Contribution of earlier steps to the time derivative of S c.
        source : ndarray, shape (n_owned, fields), optional
            Subtracted; for manufactured solutions.

        Returns
        -------
        ndarray, shape (n_owned, fields)
        """
        sub = self.sub
        c, ln_gamma, _ = self._nodes(u)
        out = kernels.residual_sums(
            u,
            self._fluxes(u, c, ln_gamma),
            self._stored(c),
            self.charges,
            self.permittance,
            sub.k,
            sub.l,
            shift,
            np.broadcast_to(np.asarray(history, float), (sub.n_owned, self.n_ions)),
        )
        drop = self.wall_factor * voltage - u[self.wall_node, 0]
        if self.stern is None:
            out[self.wall_node, 0] = -self.wall_scale * drop
        else:
            out[self.wall_node, 0] -= self.stern * drop
        if source is not None:
            out -= source
        return np.asarray(out)

    def field_flux(self, u: Floats) -> Floats:
        """Return area (phi_k - phi_l)/h on every edge."""
        return np.asarray(self.permittance * (u[self.sub.k, 0] - u[self.sub.l, 0]))

    def ion_flux(self, u: Floats, edges: Ints | None = None) -> Floats:
        """Return area times flux from k to l on every edge, or some (n_edges, n_ions)."""
        c, ln_gamma, _ = self._nodes(u)
        return self._fluxes(u, c, ln_gamma, edges)

    def _fluxes(
        self, u: Floats, c: Floats, ln_gamma: Floats, edges: Ints | None = None
    ) -> Floats:
        d, _ = self.node_diffusivity(c)
        chosen = slice(None) if edges is None else edges
        g, k, l = self.conductance[chosen], self.sub.k[chosen], self.sub.l[chosen]  # noqa: E741
        return np.asarray(
            kernels.ion_fluxes(u, c, ln_gamma, self.charges, self.floor, d, g, k, l)
        )

    def flux_scale(self, u: Floats) -> float:
        """Return the sum of squares over edges and ions that rounding of fluxes scales with."""
        sub = self.sub
        c, ln_gamma, _ = self._nodes(u)
        g = self.conductance
        return float(
            kernels.flux_scale(u, c, ln_gamma, self.charges, self.diffusivity, g, sub.k, sub.l)
        )

    def wall_charge(self, u: Floats, voltage: float, stored: Floats | None = None) -> Floats:
        """Return the charge of each wall node of this rank (n_walls,).

        ``stored`` spares the calculation of S c where it is known.
        """
        if self.stern is not None:
            return np.asarray(self.stern * (self.wall_factor * voltage - u[self.wall_node, 0]))
        sub = self.sub
        stored = self.stored(u) if stored is None else stored
        none = np.zeros((sub.k.size, self.n_ions))
        gauss = kernels.residual_sums(
            u,
            none,
            stored,
            self.charges,
            self.permittance,
            sub.k,
            sub.l,
            0.0,
            np.zeros_like(stored),
        )
        return np.asarray(gauss[self.wall_node, 0])

    # -- Jacobian ----------------------------------------------------------------

    def jacobian(self, u: Floats, shift: float) -> Floats:
        """Return the Jacobian of the owned rows.

        Returns
        -------
        ndarray, shape (n_blocks, fields, fields)
            In the order of ``sub.pattern``; overwritten by the next call.
        """
        sub = self.sub
        pattern = sub.pattern
        c, ln_gamma, packing = self._nodes(u)
        d, gradient = self.node_diffusivity(c)
        blocks = self._blocks
        blocks[:] = 0.0
        kernels.jacobian_blocks(
            u,
            c,
            ln_gamma,
            packing,
            self.charges,
            self.floor,
            d,
            gradient,
            self.conductance,
            self.permittance,
            self.volume,
            sub.k,
            sub.l,
            self.compact_kl,
            self.compact_lk,
            shift,
            pattern.diagonal,
            pattern.kl,
            pattern.lk,
            blocks,
        )
        diagonal = pattern.diagonal[self.wall_node]
        if self.stern is not None:
            blocks[diagonal, 0, 0] += self.stern
        else:
            blocks[self._wall_blocks, 0, :] = 0.0
            blocks[diagonal, 0, 0] = self.wall_scale
        return blocks

    @cached_property
    def _blocks(self) -> Floats:
        return np.zeros((self.sub.pattern.columns.size, self.n_fields, self.n_fields))

    @cached_property
    def _wall_blocks(self) -> Ints:
        """All blocks in the rows of wall nodes."""
        start = self.sub.pattern.start
        rows = np.repeat(np.arange(self.sub.n_owned), np.diff(start))
        return np.flatnonzero(np.isin(rows, self.wall_node))

    # -- parts of the flux on chosen edges ----------------------------------------

    def flux_parts(self, u: Floats, edges: Ints) -> tuple[Floats, Floats, Floats]:
        """Return diffusion, migration, steric (n_ions, n) on local edges, times area."""
        k, l = self.sub.k[edges], self.sub.l[edges]  # noqa: E741
        side_k, side_l = self.compose(u[k]), self.compose(u[l])
        d = 0.5 * sum(self.node_diffusivity(side.c.T)[0].T for side in (side_k, side_l))
        parts = split_flux(
            side_k,
            side_l,
            u[k, 0] - u[l, 0],
            self.z,
            u[k, 1:].T - u[l, 1:].T,
            self.floor[:, None],
        )
        g = self.conductance[edges] * d
        return g * parts[0], g * parts[1], g * parts[2]
