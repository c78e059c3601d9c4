"""The block LU against dense algebra; where a mesh is cut for ranks."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from nanoslit.mpnp.blocklu import BlockLU
from nanoslit.mpnp.chain import IMBALANCE, ChainLU, is_chain, partition
from nanoslit.mpnp.grid import build_grid
from nanoslit.mpnp.petsc import PetscCell
from nanoslit.mpnp.residual import Subdomain
from nanoslit.mpnp.twolevel import ASIDE, TwoLevel, _aggregate
from solver_cases import case, network


def chain_matrix(rng, width, length, size):
    """Return pattern, blocks and dense form of a strip of nodes."""
    steps = [sparse.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(n, n)) for n in (width, length)]
    pattern = (sparse.kronsum(*steps) != 0).tocsr()
    pattern.sort_indices()
    n = width * length
    blocks = rng.normal(size=(pattern.nnz, size, size))
    rows = np.repeat(np.arange(n), np.diff(pattern.indptr))
    blocks[rows == pattern.indices] += 10.0 * np.eye(size)
    form = (blocks, pattern.indices, pattern.indptr)
    return pattern, blocks, sparse.bsr_matrix(form, shape=(n * size, n * size)).toarray()


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("kept", [0, 5, 39, 40])
def test_lu_with_schur_complement_solves(size, kept):
    rng = np.random.default_rng(size)
    pattern, blocks, dense = chain_matrix(rng, 4, 10, size)
    n = 40
    order = rng.permutation(n)
    lu = BlockLU(pattern.indptr, pattern.indices, order, kept, size)
    for scale in (1.0, 3.0):  # a second matrix overwrites the first
        schur = lu.factor(scale * blocks)
        last = (size * order[n - kept :, None] + np.arange(size)).ravel()
        inside = np.delete(np.arange(n * size), last)
        a = scale * dense
        exact = a[np.ix_(last, last)] - a[np.ix_(last, inside)] @ np.linalg.solve(
            a[np.ix_(inside, inside)], a[np.ix_(inside, last)]
        )
        assert np.abs(schur - exact).max(initial=0.0) < 1e-5
        x, out = rng.normal(size=(n, size)), np.empty((n, size))
        rows = rng.uniform(0.5, 2.0, size=(n, size))
        known = np.linalg.solve(schur, lu.forward(x, rows).ravel())
        lu.backward(known.reshape(-1, size), out)
        assert np.abs(a @ out.ravel() - (rows * x).ravel()).max() < 2e-5


def test_a_vanishing_pivot_is_seen():
    pattern, blocks, _ = chain_matrix(np.random.default_rng(0), 2, 5, 3)
    lu = BlockLU(pattern.indptr, pattern.indices, np.arange(10), 0, 3)
    lu.factor(0.0 * blocks)
    out = np.empty((10, 3))
    lu.forward(np.ones((10, 3)), np.ones((10, 3)))
    lu.backward(np.zeros((0, 3)), out)
    assert not np.isfinite(out).any()


def test_kept_lu_follows_rows_that_grow():
    small = case(network(2), None)
    with PetscCell(small, build_grid(small)) as cell:
        sub, size = cell.sub, cell.equations.n_fields
        blocks = cell.equations.jacobian(cell.with_ghosts(np.zeros((sub.n_owned, size))), 1.0)
        cell.kept.factor(blocks)
        rng = np.random.default_rng(1)
        x, out, again = rng.normal(size=(3, sub.n_owned, size))
        cell.kept.lu.solve(x, cell.kept.scale, out)
        rows = 10.0 ** rng.uniform(-2, 2, size=(sub.n_owned, size))
        grown = blocks * np.repeat(rows, np.diff(sub.pattern.start), axis=0)[:, :, None]
        cell.kept.follow(grown)
        cell.kept.lu.solve(rows * x, cell.kept.scale, again)
        assert np.allclose(again, out, rtol=1e-4, atol=1e-5 * np.abs(out).max())


@pytest.mark.parametrize("arrangement", ["staggered", "aligned"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_pieces_are_balanced_and_cut_where_the_stack_is_narrow(arrangement, ranks):
    grid = build_grid(case(network(24, arrangement=arrangement), None, mesh="standard"))
    bounds = partition(grid, ranks)
    sizes = np.diff(bounds)
    assert sizes.sum() == grid.n_nodes
    assert np.abs(sizes / sizes.mean() - 1).max() <= 2 * IMBALANCE + 1e-3
    assert is_chain(grid, bounds)
    opening = (grid.node >= 0).sum(axis=1)[1:].min()
    for r in range(1, ranks):
        sub = Subdomain(grid, bounds[r - 1], bounds[r])
        assert (sub.ghosts >= sub.stop).sum() == opening


@pytest.mark.parametrize("size", [2, 3])
def test_incomplete_lu_is_exact_on_its_pattern(size):
    """The product of its factors is the matrix itself wherever that has a block."""
    rng = np.random.default_rng(size)
    pattern, blocks, dense = chain_matrix(rng, 4, 10, size)
    lu = BlockLU(pattern.indptr, pattern.indices, np.arange(40), 0, size, fill=False)
    lu.factor(blocks)
    assert lu.blocks == pattern.nnz
    ones, columns = np.ones((40, size)), np.empty((40 * size, 40, size))
    for unit, out in zip(np.eye(40 * size), columns, strict=True):
        lu.backward(lu.forward(unit.reshape(40, size), ones), out)
    product = np.linalg.inv(columns.reshape(40 * size, -1).T)
    there = np.kron(pattern.toarray(), np.ones((size, size))) > 0
    assert np.abs(product - dense)[there].max() < 1e-4
    assert np.abs(product - dense)[~there].max() > 1e-2  # incomplete indeed


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_aggregates_are_small_connected_and_of_one_rank(ranks):
    grid = build_grid(case(network(3), None, mesh="standard"))
    bounds = partition(grid, ranks)
    coarse = _aggregate(grid, bounds)
    assert grid.n_nodes / ASIDE**2 < coarse.first[-1] < 2 * grid.n_nodes / ASIDE**2
    nodes = np.arange(grid.n_nodes)
    owner = np.searchsorted(bounds, nodes, side="right")
    assert (owner == np.searchsorted(coarse.first, coarse.of, side="right")).all()
    assert np.bincount(coarse.of).max() <= ASIDE**2
    inner = (grid.k >= 0) & (grid.l >= 0)
    joined = coarse.of[grid.k[inner]] == coarse.of[grid.l[inner]]
    k, l = grid.k[inner][joined], grid.l[inner][joined]  # noqa: E741
    links = sparse.coo_matrix((np.ones(k.size), (k, l)), shape=(grid.n_nodes,) * 2)
    # joining within aggregates gives the aggregates: none has parts without a link
    assert sparse.csgraph.connected_components(links, directed=False)[0] == coarse.first[-1]
    assert is_chain(coarse_graph(coarse), coarse.first)


def coarse_graph(coarse):
    """Return aggregates with what the partition of a grid needs."""
    return SimpleNamespace(k=coarse.k, l=coarse.l, n_nodes=int(coarse.first[-1]))


def test_pieces_thinner_than_a_line_are_no_chain():
    grid = build_grid(case(network(1), None))
    assert not is_chain(grid, partition(grid, grid.n_nodes // 4))


def test_options_of_one_cell_do_not_reach_the_next():
    """Once, those of an iterative case made blocks of every later case of the process."""
    small = case(network(1), None, linear_solver="iterative")
    with PetscCell(small, build_grid(small)) as first:
        assert first.ksp.getType() == "gmres"
        assert isinstance(first.kept.lu, TwoLevel)
        assert not any(key.startswith("mpnp_") for key in first.PETSc.Options().getAll())
    small = case(network(1), None)
    with PetscCell(small, build_grid(small)) as second:
        assert second.ksp.getType() == "fgmres"
        assert isinstance(second.kept.lu, ChainLU)


def test_options_of_the_user_replace_the_chain():
    small = case(network(1), None)
    grid = build_grid(small)
    with PetscCell(small, grid) as cell:
        options = cell.PETSc.Options()
    options["mpnp_pc_type"] = "lu"
    try:
        with PetscCell(small, grid) as cell:
            assert cell.pc.getType() == "lu"
            assert cell.kept is None
    finally:
        options.delValue("mpnp_pc_type")
