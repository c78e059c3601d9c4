"""Discrete equations of one rank: Jacobian, ghosts, conservation of edges."""

import numpy as np
import pytest

from nanoslit.electrolyte import Electrolyte
from nanoslit.mpnp.fluxes import excess_flux
from nanoslit.mpnp.grid import build_grid
from nanoslit.mpnp.kernels import STEEP, compact_difference
from nanoslit.mpnp.residual import LocalEquations, Subdomain
from nanoslit.units import nm
from solver_cases import case, hold, network, planar, random_state, three_ions

CASES = {
    "network": case(electrolyte=three_ions()),
    "stern": case(electrolyte=three_ions(), stern=0.3),
    "full": case(electrolyte=three_ions(), cell="full", geometry=network(1)),
    "point ions": case(electrolyte=three_ions(size=0.0), geometry=network(1)),
    "constant D": case(electrolyte=Electrolyte.symmetric(1000.0)),
    "planar": planar(hold(0.1), electrolyte=three_ions(), stern=0.3),
}


def dense(equations, u, shift):
    """Jacobian (owned rows, local columns) from the blocks."""
    sub, b = equations.sub, equations.n_fields
    pattern, ghosts = sub.pattern, sub.globals()
    column = {node: i for i, node in enumerate(ghosts)}
    out = np.zeros((sub.n_owned, b, sub.n_local + 1, b))
    rows = np.repeat(np.arange(sub.n_owned), np.diff(pattern.start))
    columns = [column[node] for node in pattern.columns]
    out[rows, :, columns, :] = equations.jacobian(u, shift)
    return out[:, :, :-1]


@pytest.mark.parametrize("part", ["all", "middle"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_jacobian_against_finite_differences(name, part, shift):
    grid = build_grid(CASES[name])
    n = grid.n_nodes
    start, stop = (0, n) if part == "all" else (n // 3, 2 * n // 3)
    equations = LocalEquations(CASES[name], grid, Subdomain(grid, start, stop))
    rng = np.random.default_rng(1)
    u = random_state(equations, rng, 0.6)
    jacobian = dense(equations, u, shift)
    assert part == "all" or equations.sub.ghosts.size
    h, v = 1e-6, 2.0
    for _ in range(6):
        d = random_state(equations, rng)
        change = (
            equations.residual(u + h * d, v, shift, 0.0)
            - equations.residual(u - h * d, v, shift, 0.0)
        ) / (2 * h)
        expected = np.einsum("nalb,lb->na", jacobian, d[:-1])
        size = np.einsum("nalb,lb->na", np.abs(jacobian), np.abs(d[:-1]))
        assert (np.abs(change - expected) <= 1e-7 * size + 1e-8).all()


@pytest.mark.parametrize("name", CASES)
def test_parts_of_a_cell_give_the_rows_of_the_whole(name):
    grid = build_grid(CASES[name])
    n = grid.n_nodes
    whole = LocalEquations(CASES[name], grid, Subdomain(grid, 0, n))
    u = random_state(whole, np.random.default_rng(2))
    expected = whole.residual(u, 1.5, 2.0, 0.1)
    cuts = [0, n // 5, n // 2, n]
    for start, stop in zip(cuts, cuts[1:], strict=False):
        part = LocalEquations(CASES[name], grid, Subdomain(grid, start, stop))
        local = np.vstack([u[part.sub.globals()], np.zeros((1, part.n_fields))])
        got = part.residual(local, 1.5, 2.0, 0.1)
        assert got == pytest.approx(expected[start:stop], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_every_edge_belongs_to_one_rank(name):
    grid = build_grid(CASES[name])
    n, owners = grid.n_nodes, np.zeros(grid.k.size, int)
    cuts = [0, n // 7, n // 3, n // 2, n]
    for start, stop in zip(cuts, cuts[1:], strict=False):
        sub = Subdomain(grid, start, stop)
        owners[sub.edges[sub.edge_owned]] += 1
    assert (owners == 1).all()


def test_fluxes_cancel_in_the_sum():
    """A closed cell at any state: the sum of all ion rows is the storage alone."""
    c = CASES["full"]
    grid = build_grid(c)
    e = LocalEquations(c, grid, Subdomain(grid, 0, grid.n_nodes))
    u = random_state(e, np.random.default_rng(3))
    flux = e.ion_flux(u)
    assert np.abs(e.residual(u, 1.0, 0.0, 0.0)[:, 1:].sum(axis=0)).max() < (
        1e-13 * np.abs(flux).sum()
    )


def test_the_parts_add_up_on_every_edge():
    c = CASES["network"]
    grid = build_grid(c)
    e = LocalEquations(c, grid, Subdomain(grid, 0, grid.n_nodes))
    u = random_state(e, np.random.default_rng(4))
    parts = e.flux_parts(u, np.arange(grid.k.size))
    size = sum(np.abs(p) for p in parts)
    assert (np.abs(sum(parts) - e.ion_flux(u).T) <= 1e-13 * size).all()


def test_bulk_solves_the_equations_at_zero_potential():
    for c in CASES.values():
        grid = build_grid(c)
        e = LocalEquations(c, grid, Subdomain(grid, 0, grid.n_nodes))
        u = np.zeros((grid.n_nodes + 1, e.n_fields))
        stored = e.stored(u)
        assert np.abs(e.residual(u, 0.0, 1.0, -stored)).max() < 1e-14 * stored.max()


def test_compiled_fluxes_are_the_documented_formula():
    c = CASES["network"]
    grid = build_grid(c)
    e = LocalEquations(c, grid, Subdomain(grid, 0, grid.n_nodes))
    u = random_state(e, np.random.default_rng(5))
    comp, k, l = e.compose(u), e.sub.k, e.sub.l  # noqa: E741
    mu = u[:, 1:].T
    eta = e.z[:, None] * (u[k, 0] - u[l, 0]) + comp.ln_gamma[k] - comp.ln_gamma[l]
    ions = c.electrolyte.ions
    d = np.array(
        [
            i.diffusivity
            * (
                1.0
                if i.diffusivity_factor is None
                else i.diffusivity_factor(comp.c * e.scales.concentration)[0]
            )
            * np.ones(comp.c.shape[1])
            for i in ions
        ]
    )
    d = 0.5 * (d[:, k] + d[:, l]) / max(i.diffusivity for i in ions)
    flux = excess_flux(comp.c[:, k], eta, mu[:, k], mu[:, l])
    expected = e.conductance * d * (flux + e.floor[:, None] * (mu[:, k] - mu[:, l]))
    assert pytest.approx(expected, rel=1e-12) == e.ion_flux(u).T


def test_compact_difference_and_its_slopes():
    h, other = 1e-6, 1.0
    for c in np.geomspace(1e-3, 1e3, 60):
        value, by_c, by_other = compact_difference(c, other)
        up, down = (compact_difference(c * (1 + s), other)[0] for s in (h, -h))
        assert by_c == pytest.approx((up - down) / (2 * h * c), rel=1e-6, abs=1e-9)
        up, down = (compact_difference(c, other * (1 + s))[0] for s in (h, -h))
        assert by_other == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-9)
        if abs(np.log(c)) < 0.3:
            assert value == pytest.approx(other - c, rel=2e-3)
        if 1 / c > 20 * STEEP:
            assert abs(value) < 1e-2 * (other - c)


def test_amounts_stay_positive_across_a_steep_layer():
    """The least ratio of amount to volume times concentration, over any steepness."""
    c = case(planar(hold(0.5), reservoir=10 * nm).geometry, hold(0.5), mesh="coarse")
    grid = build_grid(c)
    e = LocalEquations(c, grid, Subdomain(grid, 0, grid.n_nodes))
    x = grid.x / e.scales.length
    for slope in np.geomspace(0.1, 50, 30):
        u = np.zeros((grid.n_nodes + 1, 3))
        u[:-1, 0] = np.minimum(slope * np.maximum(x - x.max() + 5, 0), 60)
        assert (e.stored(u) > 0).all()
