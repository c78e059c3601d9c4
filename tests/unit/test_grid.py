"""Mesh of any cell: lines where they must be, cuts midway, volumes and areas that add up."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoslit.case import MeshSpacing
from nanoslit.errors import GeometryError
from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.grid import (
    OPEN_SPACE_DISTANCES,
    PRESETS,
    build_grid,
    open_space_distances,
)
from nanoslit.units import nm
from solver_cases import COARSE, case, hold, network, planar

lengths = st.floats(0.4, 12.0)


@st.composite
def cases(draw):
    opening = draw(st.floats(0.4, 4.0))
    g = NanoslitNetwork(
        slit_size=draw(st.floats(0.4, 6.0)) * nm,
        sheet_length=draw(st.floats(1.2, 12.0)) * opening * nm,
        opening=opening * nm,
        sheets=draw(st.integers(1, 4)),
        sheet_thickness=draw(st.floats(0.1, 2.0)) * nm,
        reservoir=draw(lengths) * nm,
        arrangement=draw(st.sampled_from(["staggered", "aligned"])),
    )
    mesh = draw(st.sampled_from([COARSE, PRESETS["coarse"], MeshSpacing(0.3, 2.0, 100.0)]))
    return case(
        g,
        hold(draw(st.sampled_from([0.05, 0.4]))),
        mesh=mesh,
        cell=draw(st.sampled_from(["half", "full"])),
    )


every_case = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def fluid_area(c):
    g = c.geometry
    solid = g.sheets * g.sheet_thickness * 0.5 * g.sheet_length
    return g.height * (g.reservoir + g.thickness) - solid


def tensor(c, grid):
    """Lines of one electrode in the orientation of a half cell."""
    return grid.x_lines[grid.x_lines >= -1e-20], grid.y_lines


@every_case
@given(cases())
def test_lines_rise_and_pass_through_every_surface(c):
    grid, g = build_grid(c), c.geometry
    x, y = tensor(c, grid)
    assert (np.diff(grid.x_lines) > 0).all()
    assert (np.diff(y) > 0).all()
    fronts = [g.sheet_front(k) for k in range(1, g.sheets + 1)]
    surfaces = [0.0, g.reservoir + g.thickness]
    surfaces += [s + o for s in fronts for o in (0.0, g.sheet_thickness)]
    surfaces += [s + g.sheet_thickness + 0.5 * g.slit_size for s in fronts]  # readings
    for p in surfaces:
        assert np.abs(x - p).min() < 1e-15
    ends = [0.0, g.height, g.height - 0.5 * g.opening]
    if g.arrangement == "staggered" and g.sheets > 1:
        ends.append(0.5 * g.opening)
    for p in ends:
        assert np.abs(y - p).min() < 1e-15


@every_case
@given(cases())
def test_cuts_lie_midway_between_two_lines(c):
    grid, g = build_grid(c), c.geometry
    x, y = tensor(c, grid)
    middles = [(x, g.sheet_front(k) + 0.5 * g.sheet_thickness) for k in range(1, g.sheets + 1)]
    middles += [(x, g.reservoir - d) for d in open_space_distances(c)]
    middles.append((y, 0.5 * g.height))
    for lines, p in middles:
        assert np.abs(0.5 * (lines[1:] + lines[:-1]) - p).min() < 1e-15
    for cut in grid.cuts:
        across = grid.x if cut.name != "slit" else grid.y
        k, l = grid.k[cut.edges], grid.l[cut.edges]  # noqa: E741
        low, high = np.where(k < 0, 0.0, across[k]), across[l]
        at = cut.position if cut.name == "slit" or cut.electrode == 0 else -cut.position
        assert 0.5 * (low + high) == pytest.approx(np.full(k.size, at), abs=1e-15)


@every_case
@given(cases())
def test_volumes_and_areas_add_up(c):
    grid, g = build_grid(c), c.geometry
    x, _ = tensor(c, grid)
    electrodes = 2 if c.cell == "full" else 1
    at_reservoir = 0.0 if c.cell == "full" else 0.5 * (x[1] - x[0]) * g.height
    assert (grid.volume > 0).all()
    assert grid.volume.sum() == pytest.approx(electrodes * fluid_area(c) - at_reservoir)
    assert (grid.area > 0).all()
    assert (grid.face > 0).all()
    assert (grid.distance > 0).all()
    # both sheet faces and ends, and the collector (its corners included)
    for e in range(electrodes):
        assert grid.wall_area[grid.wall_electrode == e].sum() == pytest.approx(g.wall_area)
    for cut in grid.cuts:
        width = {"opening": 0.5 * g.opening, "slit": g.slit_size, "open_space": g.height}[
            cut.name
        ]
        assert grid.face[cut.edges].sum() == pytest.approx(width)
        assert grid.area[cut.edges].sum() == pytest.approx(width)


@every_case
@given(cases())
def test_storage_of_a_uniform_solution_is_its_volume(c):
    grid = build_grid(c)
    assert np.abs(np.asarray(grid.compact.sum(axis=1))).max() < 1e-12 * grid.volume.max()
    off = grid.compact.tocoo()
    neighbours = off.data[off.row != off.col]
    assert np.isfinite(neighbours).all()
    # what stays at the node itself
    assert (grid.volume + grid.compact.diagonal() > 0).all()


@every_case
@given(cases())
def test_regions_and_readings(c):
    grid, g = build_grid(c), c.geometry
    pitch_area = g.slit_size * g.height
    for e in range(2 if c.cell == "full" else 1):
        for j in range(g.sheets):
            region = grid.volume[grid.region == e * g.sheets + j].sum()
            halves = 0.5 * g.opening * g.sheet_thickness * (0.5 if j == g.sheets - 1 else 1.0)
            assert region == pytest.approx(pitch_area + halves)
    for r in grid.readings:
        assert r.weights.sum() == pytest.approx(1.0)
        assert (r.nodes >= 0).all()
        if r.name == "slit_mid":
            middle = g.sheet_front(r.index + 1) + g.sheet_thickness + 0.5 * g.slit_size
            assert r.weights @ np.abs(grid.x[r.nodes]) == pytest.approx(middle)
            assert r.weights @ grid.y[r.nodes] == pytest.approx(0.5 * g.height)


def test_mirrored_halves_of_a_full_cell():
    grid = build_grid(case(network(2), cell="full"))
    assert grid.x_lines == pytest.approx(-grid.x_lines[::-1], abs=1e-24)
    assert grid.node[::-1].astype(bool).sum() == grid.node.astype(bool).sum()
    assert ((grid.node >= 0) == (grid.node[::-1] >= 0)).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_smallest_cell_follows_the_preset(preset):
    c = case(network(2), hold(0.2), mesh=preset)
    grid = build_grid(c)
    length = c.electrolyte.debye_length
    finest = grid.distance.min() / length
    assert 0.05 * PRESETS[preset].wall < finest <= PRESETS[preset].wall
    assert grid.distance.max() <= PRESETS[preset].largest * length * 1.001


def test_open_space_planes_fit_into_the_reservoir():
    for reservoir in (0.2, 1.0, 2.5, 10.0):
        distances = open_space_distances(case(network(1, reservoir=reservoir * nm)))
        assert set(distances) <= set(OPEN_SPACE_DISTANCES)
        assert all(d < reservoir * nm for d in distances)


def test_sum_across_a_layer_is_of_third_order():
    """Areas of the edges along a wall integrate a smooth profile."""

    def error(factor):
        c = planar(
            hold(0.02),
            reservoir=4 * nm,
            mesh=MeshSpacing(0.2 / factor, 0.8 / factor, 3.0 / factor),
        )
        grid = build_grid(c)
        length, wall = c.electrolyte.debye_length, c.geometry.reservoir
        along = np.flatnonzero((grid.k >= 0) & (grid.ix[grid.k] == grid.ix[grid.l]))
        x = grid.x[grid.k[along]]
        total = grid.area[along] @ np.exp((x - wall) / length)
        return abs(total / length / (1 - np.exp(-wall / length)) - 1)

    e = [error(f) for f in (1, 4)]
    assert np.log2(e[0] / e[1]) / 2 > 2.7


def test_impossibly_thin_feature_is_refused():
    with pytest.raises(GeometryError, match="too small"):
        build_grid(case(network(1), hold(0.1), mesh=MeshSpacing(1e-7, 1.0, 10.0)))
