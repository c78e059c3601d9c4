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
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from nanoslit.mpnp.fluxes import (
    MOBILITY_FLOOR,
    Composition,
    compose,
    excess_flux,
    excess_flux_slopes,
    split_flux,
)
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.mpnp.grid import Grid

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["STEEP", "LocalEquations", "Scales", "Subdomain", "compact_difference"]

STEEP = 8.0
"""Ratio of neighbouring concentrations above which the compact correction fades."""


def compact_difference(c: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (other - c) / (1 + x^4), x = other / (STEEP c), and its two derivatives.

    Parameters
    ----------
    c, other : ndarray
        Concentrations of the node and of its neighbour, positive.

    Returns
    -------
    value, by_c, by_other : ndarray
    """
    c, other = c + 1e-280, other + 1e-280  # concentrations may underflow
    x = np.minimum(other / (STEEP * c), 1e60)
    fade = 1.0 / (1.0 + x**4)
    value = (other - c) * fade
    steepness = 4.0 * x**3 * fade * value / (STEEP * c)
    return value, steepness * (other / c) - fade, fade - steepness


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


class Subdomain:
    """The nodes and edges of one rank: owned nodes, then ghosts, last the reservoir.

    Parameters
    ----------
    grid : Grid
    start, stop : int
        Range of owned nodes.
    """

    def __init__(self, grid: Grid, start: int, stop: int) -> None:
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
        self.z = np.array([i.charge for i in ions], float)
        self.c_bulk = np.array([i.concentration for i in ions]) / s.concentration
        self.v = case.electrolyte.ion_volume * self.c_bulk * s.concentration
        self.floor = MOBILITY_FLOOR * self.c_bulk[:, None]
        d_ref = max(i.diffusivity for i in ions)
        self.diffusivity = np.array([i.diffusivity / d_ref for i in ions])
        self.factors = [i.diffusivity_factor for i in ions]
        self.variable = any(f is not None for f in self.factors)
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
        """Build the sums over the edges of a node and the storage, for owned nodes."""
        sub, n = self.sub, self.sub.edges.size
        edge = np.arange(n)
        here_k, here_l = sub.k < sub.n_owned, sub.l < sub.n_owned
        shape = (sub.n_owned, n)
        self.out_k = sparse.csr_matrix(
            (np.ones(here_k.sum()), (sub.k[here_k], edge[here_k])), shape
        )
        self.out_l = sparse.csr_matrix(
            (np.ones(here_l.sum()), (sub.l[here_l], edge[here_l])), shape
        )
        self.divergence = (self.out_k - self.out_l).tocsr()
        compact = grid.compact.tocsr() / self.scales.length**2
        self.compact_kl = self._entries(compact, sub.k, sub.l)
        self.compact_lk = self._entries(compact, sub.l, sub.k)
        # scale of the rows phi = V on walls: like their neighbours
        diagonal = (self.out_k + self.out_l) @ self.permittance
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

    def stored(self, comp: Composition) -> Floats:
        """Return S c of the owned nodes (n_owned, n_ions)."""
        k, l = self.sub.k, self.sub.l  # noqa: E741
        c_k, c_l = comp.c[:, k], comp.c[:, l]
        at_k = self.compact_kl * compact_difference(c_k, c_l)[0]
        at_l = self.compact_lk * compact_difference(c_l, c_k)[0]
        own = self.volume[:, None] * comp.c[:, : self.sub.n_owned].T
        return np.asarray(own + self.out_k @ at_k.T + self.out_l @ at_l.T)

    def edge_diffusivity(self, comp: Composition) -> tuple[Floats, list[Floats] | None]:
        """Return D on edges (n_ions, n_edges or 1) and gradients by composition.

        The gradients (one array (n_ions, n_nodes) per ion: dD_i/dc_j) are None where
        every diffusivity is a constant. D on an edge is the mean of its two nodes.
        """
        if not self.variable:
            return self.diffusivity[:, None], None
        c = comp.c * self.scales.concentration
        values, gradients = [], []
        for d, factor in zip(self.diffusivity, self.factors, strict=True):
            if factor is None:
                values.append(np.full(c.shape[1], d))
                gradients.append(np.zeros_like(c))
                continue
            value, gradient = factor(c)
            values.append(d * value)
            gradients.append(d * gradient * self.scales.concentration)
        node = np.array(values)
        return 0.5 * (node[:, self.sub.k] + node[:, self.sub.l]), gradients

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
        comp = self.compose(u)
        flux = np.empty((sub.edges.size, self.n_fields))
        flux[:, 0] = self.field_flux(u)
        flux[:, 1:] = self.ion_flux(u, comp).T
        out = self.divergence @ flux
        stored = self.stored(comp)
        out[:, 0] -= stored @ self.z
        out[:, 1:] += shift * stored + history
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

    def ion_flux(self, u: Floats, comp: Composition) -> Floats:
        """Return area times flux from k to l on every edge (n_ions, n_edges)."""
        sub = self.sub
        d, _ = self.edge_diffusivity(comp)
        mu_k, mu_l = u[sub.k, 1:].T, u[sub.l, 1:].T
        n = excess_flux(comp.c[:, sub.k], self._eta(u, comp), mu_k, mu_l)
        return np.asarray(self.conductance * d * (n + self.floor * (mu_k - mu_l)))

    def _eta(self, u: Floats, comp: Composition) -> Floats:
        k, l = self.sub.k, self.sub.l  # noqa: E741
        return np.asarray(
            self.z[:, None] * (u[k, 0] - u[l, 0]) + (comp.ln_gamma[k] - comp.ln_gamma[l])
        )

    def wall_charge(self, u: Floats, voltage: float) -> Floats:
        """Return the charge of each wall node of this rank (n_walls,)."""
        if self.stern is not None:
            return np.asarray(self.stern * (self.wall_factor * voltage - u[self.wall_node, 0]))
        gauss = self.divergence @ self.field_flux(u) - (self.stored(self.compose(u)) @ self.z)
        return np.asarray(gauss[self.wall_node])

    # -- Jacobian ----------------------------------------------------------------

    def jacobian(self, u: Floats, shift: float) -> tuple[Floats, Floats, Floats]:
        """Return the blocks of the Jacobian.

        Returns
        -------
        diagonal : ndarray, shape (n_owned, fields, fields)
        to_l, to_k : ndarray, shape (n_edges, fields, fields)
            Derivative of row block k by the state in l, and of row block l by k.
        """
        sub, b, n = self.sub, self.n_fields, self.sub.n_owned
        comp = self.compose(u)
        by_k = np.zeros((sub.edges.size, b, b))
        by_l = np.zeros((sub.edges.size, b, b))
        by_k[:, 0, 0] = self.permittance
        by_l[:, 0, 0] = -self.permittance
        slope = self._concentration_slopes(comp)
        self._flux_slopes(u, comp, slope, by_k, by_l)
        flat = (sub.edges.size, b * b)
        diagonal = self.out_k @ by_k.reshape(flat) - self.out_l @ by_l.reshape(flat)
        diagonal = diagonal.reshape(n, b, b)
        to_l, to_k = by_l, -by_k
        diagonal += self.volume[:, None, None] * self._storage_rows(slope[:, :, :n], shift)
        k, l = sub.k, sub.l  # noqa: E741
        for out, weight, here, there, block in (
            (self.out_k, self.compact_kl, k, l, to_l),
            (self.out_l, self.compact_lk, l, k, to_k),
        ):
            _, own, other = compact_difference(comp.c[:, here], comp.c[:, there])
            by_here = self._storage_rows((weight * own)[:, None] * slope[:, :, here], shift)
            diagonal += (out @ by_here.reshape(flat)).reshape(n, b, b)
            block += self._storage_rows((weight * other)[:, None] * slope[:, :, there], shift)
        self._wall_rows(diagonal, to_l, to_k)
        return diagonal, to_l, to_k

    def _storage_rows(self, slope: Floats, shift: float) -> Floats:
        """Return the rows (Poisson, ions) that a derivative of amounts enters (n, b, b)."""
        out = np.empty((slope.shape[2], self.n_fields, self.n_fields))
        out[:, 1:, :] = shift * np.moveaxis(slope, 2, 0)
        out[:, 0, :] = -np.einsum("imn,i->nm", slope, self.z)
        return out

    def _wall_rows(self, diagonal: Floats, to_l: Floats, to_k: Floats) -> None:
        if self.stern is not None:
            diagonal[self.wall_node, 0, 0] += self.stern
            return
        wall = np.zeros(self.sub.n_local + 1, bool)
        wall[self.wall_node] = True
        diagonal[self.wall_node, 0, :] = 0.0
        diagonal[self.wall_node, 0, 0] = self.wall_scale
        to_l[wall[self.sub.k], 0, :] = 0.0
        to_k[wall[self.sub.l], 0, :] = 0.0

    def _excess_slopes(self, comp: Composition) -> Floats:
        """Return d ln gamma / d (phi, mu_j) per node (fields, n)."""
        out = np.empty((self.n_fields, comp.ln_gamma.size))
        out[0] = -(self.z @ comp.packing)
        out[1:] = comp.packing
        return out

    def _concentration_slopes(self, comp: Composition) -> Floats:
        """Return d c_i / d (phi, mu_j) (n_ions, fields, n)."""
        out = -comp.c[:, None, :] * self._excess_slopes(comp)[None]
        out[:, 0] -= self.z[:, None] * comp.c
        i = np.arange(self.n_ions)
        out[i, i + 1] += comp.c
        return out

    def _flux_slopes(
        self, u: Floats, comp: Composition, slope: Floats, by_k: Floats, by_l: Floats
    ) -> None:
        """Fill rows 1.. of the derivative of the edge fluxes by the two states."""
        sub = self.sub
        k, l = sub.k, sub.l  # noqa: E741
        d, gradients = self.edge_diffusivity(comp)
        f, f_eta, f_mu = excess_flux_slopes(
            comp.c[:, k], self._eta(u, comp), u[k, 1:].T, u[l, 1:].T
        )
        g = self.conductance * d
        excess = self._excess_slopes(comp)
        for i in range(self.n_ions):
            # ln c_i = const + mu_i - z_i phi - ln gamma; eta = z dphi + d ln gamma
            a, e, m = g[i] * f[i], g[i] * f_eta[i], g[i] * f_mu[i]
            by_k[:, 1 + i, :] = ((e - a) * excess[:, k]).T
            by_l[:, 1 + i, :] = (-e * excess[:, l]).T
            by_k[:, 1 + i, 0] += self.z[i] * (e - a)
            by_l[:, 1 + i, 0] -= self.z[i] * e
            m = m - g[i] * self.floor[i]
            by_k[:, 1 + i, 1 + i] += a - m
            by_l[:, 1 + i, 1 + i] += m
        if gradients is not None:
            for i, gradient in enumerate(gradients):
                by_state = np.einsum("jn,jmn->mn", gradient, slope)
                whole = f[i] + self.floor[i] * (u[k, 1 + i] - u[l, 1 + i])
                a = 0.5 * self.conductance * whole
                by_k[:, 1 + i, :] += (a * by_state[:, k]).T
                by_l[:, 1 + i, :] += (a * by_state[:, l]).T

    # -- parts of the flux on chosen edges ----------------------------------------

    def flux_parts(
        self, u: Floats, comp: Composition, edges: Ints
    ) -> tuple[Floats, Floats, Floats]:
        """Return diffusion, migration, steric (n_ions, n) on local edges, times area."""
        k, l = self.sub.k[edges], self.sub.l[edges]  # noqa: E741
        if self.variable:
            d = self.edge_diffusivity(comp)[0][:, edges]
        else:
            d = self.diffusivity[:, None]
        side_k, side_l = _take(comp, k), _take(comp, l)
        parts = split_flux(
            side_k, side_l, u[k, 0] - u[l, 0], self.z, u[k, 1:].T - u[l, 1:].T, self.floor
        )
        g = self.conductance[edges] * d
        return g * parts[0], g * parts[1], g * parts[2]


def _take(comp: Composition, nodes: Ints) -> Composition:
    return Composition(
        comp.c[:, nodes], comp.ln_c[:, nodes], comp.ln_gamma[nodes], comp.packing[:, nodes]
    )
