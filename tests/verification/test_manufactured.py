"""Manufactured transient 2D solution: order in space and in time.

A rectangle between reservoir (x = 0), conductor (x = X) and two mirror lines, a 2:1 salt
with steric repulsion, unequal diffusivities of which one depends on the composition. The
forcing comes from sympy and the differential equations alone.
"""

from functools import cache

import numpy as np
import pytest
import sympy as sp

from nanoslit.case import Case
from nanoslit.electrolyte import Electrolyte, Ion
from nanoslit.geometry import Planar
from nanoslit.mobility import ExpressionFactor
from nanoslit.mpnp import grid as mesh
from nanoslit.mpnp.petsc import PetscCell
from nanoslit.mpnp.residual import Scales
from nanoslit.mpnp.stepper import bdf_weights
from nanoslit.units import nm
from solver_cases import hold

FACTOR = "exp(-0.2*c_total)*(1 + 0.1*c1)"
SALT = Electrolyte(
    (
        Ion("Mg2+", 2, 0.7e-9, 500.0, ExpressionFactor(FACTOR, 2)),
        Ion("Cl-", -1, 2.0e-9, 1000.0),
    ),
    ion_size=0.5 * nm,
)
X, Y = 3.0, 2.0  # Debye lengths
CASE = Case("manufactured", SALT, Planar(X * SALT.debye_length), hold(0.05))
SCALES = Scales.of(CASE)
x, y, t = sp.symbols("x y t")


@cache
def solution():
    """Return functions (x, y, t) of phi, mu, c, and of the forcing of each equation."""
    s, eta = x / X, y / Y
    v = sp.Rational(6, 5) * sp.sin(sp.Rational(3, 2) * t + sp.Rational(3, 10))
    phi = v * s + sp.cos(t) / 2 * sp.sin(sp.pi * s) * sp.cos(sp.pi * eta)
    rise = sp.sin(sp.pi * s / 2)
    mu = [
        rise
        * (
            sp.Rational(3, 5) * sp.cos(2 * t)
            + sp.Rational(3, 10) * sp.sin(t) * sp.cos(sp.pi * eta)
        ),
        rise
        * (
            sp.Rational(2, 5) * sp.sin(2 * t)
            - sp.Rational(1, 4) * sp.cos(t) * sp.cos(sp.pi * eta)
        ),
    ]
    z = [i.charge for i in SALT.ions]
    bulk = [i.concentration / SCALES.concentration for i in SALT.ions]
    packing = [SALT.ion_volume * i.concentration for i in SALT.ions]
    w = [sp.exp(m - q * phi) for m, q in zip(mu, z, strict=True)]
    free = 1 - sum(packing) + sum(p * a for p, a in zip(packing, w, strict=True))
    c = [b * a / free for b, a in zip(bulk, w, strict=True)]
    molar = [a * SCALES.concentration / 1000 for a in c]
    slow = sp.sympify(FACTOR).subs({"c_total": sum(molar), "c1": molar[0]})
    largest = max(i.diffusivity for i in SALT.ions)
    d = [SALT.ions[0].diffusivity / largest * slow, SALT.ions[1].diffusivity / largest]

    forcing = [
        -sp.diff(phi, x, 2) - sp.diff(phi, y, 2) - sum(q * a for q, a in zip(z, c, strict=True))
    ]
    for a, m, e in zip(c, mu, d, strict=True):
        flow = [-e * a * sp.diff(m, r) for r in (x, y)]
        forcing.append(sp.diff(a, t) + sp.diff(flow[0], x) + sp.diff(flow[1], y))

    def function(expressions):
        f = sp.lambdify((x, y, t), expressions, "numpy", cse=True)
        return lambda at_x, at_y, at_t: np.stack(
            [np.broadcast_to(a, np.shape(at_x)) for a in f(at_x, at_y, at_t)], axis=-1
        )

    packed = SALT.ion_volume * SCALES.concentration * sum(c)
    return {
        "state": function([phi, *mu]),
        "forcing": function(forcing),
        "packing": function([packed]),
        "potential": sp.lambdify(t, v, "numpy"),
    }


def lines(cells, length, stretch):
    """Return graded lines from 0 to a length; finer at the far end."""
    u = np.linspace(0, 1, cells + 1)
    return length * (1 - np.expm1(stretch * (1 - u)) / np.expm1(stretch))


def rectangle(cells):
    """Return the mesh of the rectangle."""
    size = SCALES.length
    xs, ys = lines(cells, X * size, 1.0), lines(cells * 2 // 3, Y * size, -0.8)
    solid = np.zeros((xs.size - 1, ys.size - 1), bool)
    node, ix, iy = mesh._number(CASE, solid)
    hx, hy = np.diff(xs), np.diff(ys)
    edges, _, _ = mesh._edges(CASE, node, solid, hx, hy)
    return mesh.Grid(
        x_lines=xs,
        y_lines=ys,
        node=node,
        ix=ix,
        iy=iy,
        volume=mesh._volumes(solid, hx, hy)[ix, iy],
        **edges,
        compact=mesh._compact_storage(node, ix, iy, solid, hx, hy),
        **mesh._walls(CASE, node, solid, xs, hx, hy),
        region=np.full(ix.size, -1),
        cuts=(),
        readings=(),
        n_electrodes=1,
        n_slits=0,
    )


class Problem:
    """The discrete equations on one mesh, with forcing."""

    def __init__(self, cells):
        self.grid = rectangle(cells)
        self.cell = PetscCell(CASE, self.grid)
        self.at = self.grid.x / SCALES.length, self.grid.y / SCALES.length
        self.exact = solution()["state"]
        self.equations = self.cell.equations

    def state(self, time):
        return self.exact(*self.at, time)

    def stored(self, time):
        e = self.equations
        return e.stored(self.cell.with_ghosts(self.state(time)))

    def source(self, time):
        """Return the forcing per node, by the same storage rule as the amounts."""
        f = solution()["forcing"]
        inside, compact = f(*self.at, time), self.grid.compact / SCALES.length**2
        beyond = f(np.zeros_like(self.at[0]), self.at[1], time)  # on the reservoir's line
        n = self.grid.n_nodes
        out = (
            self.grid.volume[:, None] / SCALES.length**2 * inside
            + compact[:, :n] @ inside
            + compact[:, [n]].toarray() * beyond
        )
        out[self.equations.wall_node, 0] = 0.0  # there the potential is given
        return out

    def discrete_source(self, time, d=1e-3):
        """Return the forcing that makes the nodal values exact: no error in space."""
        u = self.cell.with_ghosts(self.state(time))
        weights = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
        rate = sum(
            w * (self.stored(time + i * d) - self.stored(time - i * d)) / d
            for i, w in weights.items()
        )
        v = float(solution()["potential"](time))
        return self.equations.residual(u, v, 0.0, rate)

    def advance(self, start, steps, dt, order, source):
        """Return the state after fixed steps of a BDF formula from exact old values."""
        times = [start - i * dt for i in range(order)]
        amounts = [self.stored(a) for a in times]
        u = self.state(start)
        for _ in range(steps):
            now = times[0] + dt
            w = bdf_weights(np.array([now, *times[:order]]))
            old = sum(a * b for a, b in zip(w[1:], amounts, strict=False))
            u = self.cell.solve(
                u,
                voltage=float(solution()["potential"](now)),
                shift=w[0],
                history=old,
                source=source(now),
                atol=1e-12,
            )
            e = self.equations
            times.insert(0, now)
            amounts.insert(0, e.stored(self.cell.with_ghosts(u)))
        return u, times[0]


def weighted(problem, error):
    """Root mean square over the rectangle, and maximum, by field."""
    v = problem.grid.volume / problem.grid.volume.sum()
    return np.sqrt(v @ error**2), np.abs(error).max(axis=0)


def test_the_packing_is_physical():
    at = np.meshgrid(np.linspace(0, X, 30), np.linspace(0, Y, 30), np.linspace(0, 1, 9))
    packing = solution()["packing"](*at)
    assert 0.05 < packing.min() < packing.max() < 0.9
    assert packing.max() > 2 * SALT.bulk_packing


def test_order_in_space():
    errors = []
    for cells in (12, 24, 48):
        p = Problem(cells)
        # the fifth-order formula with small steps leaves the error of space alone
        u, end = p.advance(0.4, 12, 0.01, 5, p.source)
        errors.append(weighted(p, u - p.state(end)))
        p.cell.destroy()
    for kind in (0, 1):
        e = np.array([a[kind] for a in errors])
        assert (np.log2(e[:-1] / e[1:]) >= 1.9).all(), e


@pytest.mark.parametrize("order", [2, 3, 4])
def test_order_in_time(order):
    p = Problem(9)
    errors = []
    for steps in (10, 20, 40):
        u, end = p.advance(0.5, steps, 0.6 / steps, order, p.discrete_source)
        errors.append(np.linalg.norm(weighted(p, u - p.state(end))[0]))
    p.cell.destroy()
    e = np.array(errors)
    assert (np.log2(e[:-1] / e[1:]) >= 0.95 * order).all(), e


@pytest.mark.slow
def test_order_in_space_on_fine_meshes():
    errors = []
    for cells in (48, 96, 192):
        p = Problem(cells)
        u, end = p.advance(0.4, 6, 0.01, 5, p.source)
        errors.append(weighted(p, u - p.state(end))[0])
        p.cell.destroy()
    e = np.array(errors)
    assert (np.log2(e[:-1] / e[1:]) >= 1.9).all(), e
