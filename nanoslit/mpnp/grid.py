"""Graded tensor mesh of a cell: nodes with control volumes, edges, walls, cut lines.

Nodes are the crossings of the mesh lines that touch the electrolyte; solid ones do not
exist. Walls are mesh lines, so the conductor's surface carries nodes. The control volume
of a node is bounded by the mid-planes of its edges; every plane through which a current
is measured (mid-planes of sheets, the middle of the slits, distances in front of the
electrode) is such a mid-plane, so that currents are sums of edge fluxes and region
charges are sums over nodes, without interpolation.

The spacing follows ``h = min(wall * ell + growth * distance, largest * lambda_D)``
where the distance is that to the nearest sheet end (along slits, y) or wall plane (across
slits, x) and ``ell`` is the shortest screening length that the protocol can produce: the
Debye length, shortened by the field at the wall (closed form of Kilic, Bazant & Ajdari, PRE
75, 021502 (2007)), or the thickness of a sheet or a third of an opening if that is less.
Across slits, where the double layers lie, the growth is ``ACROSS`` times that along them:
errors of R_c and gamma of equal size then come from both directions, and lines across are
the cheaper ones (``analysis/mesh_study.py`` measures the errors).

Storage. The amount of ions of a node is not volume times concentration but the compact
(Numerov-type) combination with its neighbours for which the two-point Poisson equation
is of fourth order across a layer in which only one direction matters, as in every double
layer away from corners; see :func:`_compact_storage`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from nanoslit.case import Case, MeshSpacing
from nanoslit.errors import GeometryError
from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.equilibrium import screening_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["OPEN_SPACE_DISTANCES", "PRESETS", "Cut", "Grid", "Reading", "build_grid"]

PRESETS = {
    "coarse": MeshSpacing(wall=0.7, growth=0.75, largest=20.0),
    "standard": MeshSpacing(wall=0.3, growth=0.4, largest=10.0),
    "fine": MeshSpacing(wall=0.14, growth=0.13, largest=5.0),
}

WIDE = 7.0
"""Width of a slit in Debye lengths from which on the presets become finer, as the root of the
width: gamma falls towards zero there, as the difference of ever more equal resistances."""

PLANAR_PRESETS = {
    "coarse": MeshSpacing(wall=0.17, growth=0.8, largest=7.0),
    "standard": MeshSpacing(wall=0.07, growth=0.5, largest=3.3),
    "fine": MeshSpacing(wall=0.01, growth=0.24, largest=1.7),
}
"""One dimension is cheap: the capacitance of the diffuse layer is exact to 0.1 % at
``standard`` up to 0.5 V."""

ACROSS = 0.3
"""Growth of the spacing across slits over that along them."""

OPEN_SPACE_DISTANCES = (0.1e-9, 0.3e-9, 1e-9, 2e-9, 3e-9)

UNEVEN = 2.5
"""Ratio of neighbouring edges up to which the compact correction is used."""

BULK = -1
"""Number of the reservoir in ``Grid.k``: a node with phi = mu = 0."""


@dataclass(frozen=True)
class Cut:
    """A line across the electrolyte, as oriented edges.

    Attributes
    ----------
    name : str
        ``opening``, ``slit`` or ``open_space``.
    electrode : int
        0, or 1 for the negative electrode of a full cell.
    index : int
        Number of the sheet or slit (from 0), or of the distance.
    edges : ndarray of int, shape (n,)
        Indices into the edges of the grid.
    sign : float
        +1 if the edge direction k -> l is the positive direction of the current
        (towards the reservoir), -1 if it is the opposite one.
    position : float
        x (or, for slits, y) of the line [m].
    """

    name: str
    electrode: int
    index: int
    edges: Ints
    sign: float
    position: float


@dataclass(frozen=True)
class Reading:
    """A weighted mean over nodes: a point value or an average along a line."""

    name: str
    electrode: int
    index: int
    nodes: Ints
    weights: Floats


@dataclass(frozen=True)
class Grid:
    """Nodes of the simulated half period and what is measured on them.

    Lengths in m, areas per metre of depth (so m), volumes in m^2.

    Attributes
    ----------
    x_lines, y_lines : ndarray
        Mesh lines.
    node : ndarray of int, shape (nx, ny)
        Node number, -1 where solid or on the reservoir's line.
    ix, iy : ndarray of int, shape (n_nodes,)
        Line numbers of each node.
    volume : ndarray, shape (n_nodes,)
        Control volume.
    k, l : ndarray of int, shape (n_edges,)
        The two nodes of each edge, in rising x or y; k is ``BULK`` at the reservoir.
    area, face, distance : ndarray, shape (n_edges,)
        Area of the face that the edge crosses: compact (for ion fluxes) and that of the
        control volume (for the electric field); length of the edge.
    compact : csr_matrix, shape (n_nodes, n_nodes + 1)
        Weights of the neighbours in the compact storage [m^2]; rows sum to zero, the
        last column is the reservoir.
    wall_node, wall_area, wall_electrode : ndarray, shape (n_walls,)
        Nodes on conductors, the surface they stand for, and which electrode it is.
    region : ndarray of int, shape (n_nodes,)
        ``electrode * n_slits + slit`` inside a slit; -1 in the open space.
    cuts, readings : tuple
        Lines and points of measurement.
    n_electrodes, n_slits : int
    """

    x_lines: Floats
    y_lines: Floats
    node: Ints
    ix: Ints
    iy: Ints
    volume: Floats
    k: Ints
    l: Ints  # noqa: E741  the pair (k, l) of the flux formulas
    area: Floats
    face: Floats
    distance: Floats
    compact: sparse.csr_matrix
    wall_node: Ints
    wall_area: Floats
    wall_electrode: Ints
    region: Ints
    cuts: tuple[Cut, ...]
    readings: tuple[Reading, ...]
    n_electrodes: int
    n_slits: int

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return self.volume.size

    @property
    def x(self) -> Floats:
        """Position of each node in x [m]."""
        return self.x_lines[self.ix]

    @property
    def y(self) -> Floats:
        """Position of each node in y [m]."""
        return self.y_lines[self.iy]


def resolve_spacing(case: Case) -> MeshSpacing:
    """Return the explicit spacing of a case (preset names looked up)."""
    mesh = case.numerics.mesh
    if not isinstance(mesh, str):
        return mesh
    if not isinstance(case.geometry, NanoslitNetwork):
        return PLANAR_PRESETS[mesh]
    m, width = PRESETS[mesh], case.geometry.slit_size / case.electrolyte.debye_length
    finer = min(1.0, math.sqrt(WIDE / width))
    return MeshSpacing(finer * m.wall, finer * m.growth, m.largest)


# -- mesh lines -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Size:
    """Size function h(s) = min(h0 + growth * distance to attractors, largest)."""

    h0: float
    growth: float
    largest: float
    attractors: Floats

    def shares(self, a: float, b: float) -> tuple[Floats, Floats]:
        """Return points between a and b and the integral of 1/h up to each."""
        knots = [np.linspace(a, b, 401)]
        for p in self.attractors:
            reach = (b - a) * np.geomspace(1e-7, 1, 400)
            knots += [p + reach, p - reach]
        s = np.unique(np.concatenate(knots))
        s = s[(s >= a) & (s <= b)]
        distance = np.abs(s[:, None] - self.attractors[None, :]).min(axis=1)
        h = np.minimum(self.h0 + self.growth * distance, self.largest)
        return s, np.concatenate([[0.0], np.cumsum(np.diff(s) * 2 / (h[1:] + h[:-1]))])


def _piece(size: _Size, a: float, b: float, half_a: bool, half_b: bool) -> Floats:
    """Return the lines of one interval; a half end is the middle between two lines.

    Equal shares of the integral of 1/h place the lines, so the grading is smooth
    across intervals.
    """
    s, share = size.shares(a, b)
    offset_a, offset_b = 0.5 * half_a, 0.5 * half_b
    cells = max(1, math.ceil(share[-1] - offset_a - offset_b - 1e-9))
    total = cells + offset_a + offset_b
    count = np.arange(cells + 1) + offset_a
    lines = np.interp(count / total * share[-1], share, s)
    if not half_a:
        lines[0] = a
    if not half_b:
        lines[-1] = b
    return lines


def _mesh_lines(on: list[float], between: list[float], size: _Size) -> Floats:
    """Return lines through all positions ``on``, with ``between`` midway of two lines."""
    marks = sorted([(p, False) for p in set(on)] + [(p, True) for p in set(between)])
    pieces = [
        _piece(size, a, b, half_a, half_b)
        for (a, half_a), (b, half_b) in zip(marks[:-1], marks[1:], strict=True)
    ]
    for i, (p, half) in enumerate(marks[1:-1]):
        left, right = pieces[i], pieces[i + 1]
        if half:
            gap = min(0.5 * (right[0] - left[-1]), 0.6 * (p - left[-2]), 0.6 * (right[1] - p))
            left[-1], right[0] = p - gap, p + gap
        else:
            pieces[i] = left[:-1]
    return np.concatenate(pieces)


def open_space_distances(case: Case) -> list[float]:
    """Return the distances of the open-space cuts that fit into the reservoir [m]."""
    return [d for d in OPEN_SPACE_DISTANCES if d < 0.9 * case.geometry.reservoir]


def open_space_reading(case: Case) -> float:
    """Return the distance of the open-space potential from the first sheet [m].

    Three Debye lengths, or half the reservoir where that is shorter.
    """
    return min(3 * case.electrolyte.debye_length, 0.5 * case.geometry.reservoir)


def _lines(case: Case) -> tuple[Floats, Floats]:
    """Return x and y mesh lines of one electrode (half cell orientation)."""
    g, m = case.geometry, resolve_spacing(case)
    ell = screening_length(case.electrolyte, case.electrode, case.largest_wall_potential)
    if isinstance(g, NanoslitNetwork):  # in dilute salt the corners are the finest feature
        ell = min(ell, g.sheet_thickness, g.opening / 3)
    h0 = m.wall * ell
    largest, across = m.largest * case.electrolyte.debye_length, ACROSS * m.growth
    front = g.reservoir
    planes = [front - d for d in open_space_distances(case)]
    if not isinstance(g, NanoslitNetwork):
        size = _Size(h0, across, largest, np.array([front]))
        return _mesh_lines([0.0, front], planes, size), np.array([0.0, 1.0])
    on, walls = [0.0], []
    for k in range(1, g.sheets + 1):
        s = g.sheet_front(k)
        back = s + g.sheet_thickness
        planes.append(0.5 * (s + back))
        on += [s, back, back + 0.5 * g.slit_size]
        walls += [s, back]
    collector = front + g.thickness
    size = _Size(h0, across, largest, np.array([*walls, collector]))
    x = _mesh_lines([*on, collector], planes, size)
    half, H = 0.5 * g.opening, g.height
    ends = [H - half] + ([half] if g.arrangement == "staggered" and g.sheets > 1 else [])
    y = _mesh_lines([0.0, *ends, H], [0.5 * H], _Size(h0, m.growth, largest, np.array(ends)))
    return x, y


def _solid(g: NanoslitNetwork, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Return which rectangles of the tensor mesh are inside a sheet."""
    xc, yc = 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])
    solid = np.zeros((xc.size, yc.size), bool)
    half = 0.5 * g.opening
    for k in range(1, g.sheets + 1):
        s = g.sheet_front(k)
        rows = (xc > s) & (xc < s + g.sheet_thickness)
        wall = yc < g.height - half if g.opening_at_top(k) else yc > half
        solid[np.ix_(rows, wall)] = True
    return solid


# -- readings ---------------------------------------------------------------------------


def _lagrange(nodes: Floats, at: float) -> Floats:
    """Return the weights of polynomial interpolation at one point."""
    w = np.ones(nodes.size)
    for i in range(nodes.size):
        for j in range(nodes.size):
            if i != j:
                w[i] *= (at - nodes[j]) / (nodes[i] - nodes[j])
    return w


def _stencil(lines: Floats, at: float, low: float, high: float) -> tuple[Ints, Floats]:
    """Return up to four lines around ``at`` within [low, high] and cubic weights."""
    inside = np.flatnonzero((lines >= low - 1e-15) & (lines <= high + 1e-15))
    nearest = np.sort(inside[np.argsort(np.abs(lines[inside] - at), kind="stable")[:4]])
    return nearest, _lagrange(lines[nearest], at)


def _widths(lines: Floats) -> Floats:
    """Return the width of the control volume of each line."""
    h = np.diff(lines)
    return np.asarray(0.5 * (np.concatenate([[0.0], h]) + np.concatenate([h, [0.0]])))


def _slit_bounds(g: NanoslitNetwork, j: int) -> tuple[float, float]:
    """Return x of the two walls of slit j (from 0)."""
    low = g.sheet_front(j + 1) + g.sheet_thickness
    return low, low + g.slit_size


def _reading_weights(
    case: Case, x: Floats, y: Floats
) -> list[tuple[str, int, Ints, Ints, Floats]]:
    """Return (name, index, ix, iy, weight) of every reading of one electrode."""
    g, out = case.geometry, []
    plane = g.reservoir - open_space_reading(case)
    inner = x[1] if case.cell == "half" else 0.0  # the reservoir's line has no nodes
    sx, wx = _stencil(x, plane, inner, g.reservoir)

    def add(name: str, j: int, cols: Ints, wx: Floats, rows: Ints, wy: Floats) -> None:
        out.append(
            (
                name,
                j,
                np.repeat(cols, rows.size),
                np.tile(rows, cols.size),
                np.outer(wx, wy).ravel(),
            )
        )

    add("open_space", 0, sx, wx, np.arange(y.size), _widths(y) / (y[-1] - y[0]))
    if isinstance(g, NanoslitNetwork):
        rows, wy = _stencil(y, 0.5 * g.height, 0.0, g.height)
        for j in range(g.sheets):
            low, high = _slit_bounds(g, j)
            add("slit_mid", j, *_stencil(x, 0.5 * (low + high), low, high), rows, wy)
            cols = np.flatnonzero((x >= low - 1e-15) & (x <= high + 1e-15))
            add("slit_width", j, cols, _widths(x[cols]) / (high - low), rows, wy)
    return out


# -- assembly ---------------------------------------------------------------------------


def build_grid(case: Case) -> Grid:
    """Return the mesh of a case.

    Raises
    ------
    GeometryError
        If a feature is too thin to be meshed in double precision.
    """
    x, y = _lines(case)
    g = case.geometry
    solid = (
        _solid(g, x, y)
        if isinstance(g, NanoslitNetwork)
        else np.zeros((x.size - 1, y.size - 1), bool)
    )
    smallest = min(np.diff(x).min(), np.diff(y).min())
    if smallest < 1e-15:
        raise GeometryError(
            f"smallest mesh spacing {smallest:.3g} m is too small; lower the potential, "
            "raise ion_size, or give numerics.mesh explicitly"
        )
    n = x.size
    readings = _reading_weights(case, x, y)
    if case.cell == "full":  # negative electrode at x < 0, positive at x > 0
        lines = np.concatenate([-x[:0:-1], x])
        solid = np.concatenate([solid[::-1], solid])
        columns = [np.arange(n) + n - 1, n - 1 - np.arange(n)]  # of electrode 0 and 1
    else:
        lines, columns = x, [np.arange(n)]
    node, ix, iy = _number(case, solid)
    hx, hy = np.diff(lines), np.diff(y)
    edges, edge_x, edge_y = _edges(case, node, solid, hx, hy)
    return Grid(
        x_lines=lines,
        y_lines=y,
        node=node,
        ix=ix,
        iy=iy,
        volume=_volumes(solid, hx, hy)[ix, iy],
        **edges,
        compact=_compact_storage(node, ix, iy, solid, hx, hy),
        **_walls(case, node, solid, lines, hx, hy),
        region=_regions(case, lines, columns)[ix],
        cuts=_cuts(case, x, y, columns, edge_x, edge_y),
        readings=tuple(
            Reading(name, e, j, node[columns[e][cx], cy], w)
            for e in range(len(columns))
            for name, j, cx, cy, w in readings
        ),
        n_electrodes=len(columns),
        n_slits=g.sheets,
    )


def _padded(solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rectangles around each node are electrolyte (2 more per axis)."""
    fluid = np.zeros((solid.shape[0] + 2, solid.shape[1] + 2), bool)
    fluid[1:-1, 1:-1] = ~solid
    return fluid


def _number(case: Case, solid: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Return node numbers, along the longer direction: thin strips to ranks."""
    f = _padded(solid)
    exists = f[1:, 1:] | f[1:, :-1] | f[:-1, 1:] | f[:-1, :-1]
    if case.cell == "half":
        exists[0] = False  # the reservoir: known values
    node = np.full(exists.shape, -1, dtype=np.int64)
    ix, iy = np.nonzero(exists)
    if exists.shape[1] > exists.shape[0]:
        order = np.lexsort((ix, iy))
        ix, iy = ix[order], iy[order]
    node[ix, iy] = np.arange(ix.size)
    return node, ix.astype(np.int64), iy.astype(np.int64)


def _volumes(solid: NDArray[np.bool_], hx: Floats, hy: Floats) -> Floats:
    """Return the control volume of every crossing: a quarter of each fluid rectangle."""
    quarter = np.zeros((hx.size + 2, hy.size + 2))
    quarter[1:-1, 1:-1] = 0.25 * np.outer(hx, hy) * ~solid
    return np.asarray(quarter[1:, 1:] + quarter[1:, :-1] + quarter[:-1, 1:] + quarter[:-1, :-1])


def _faces(solid: NDArray[np.bool_], hx: Floats, hy: Floats) -> tuple[Floats, Floats]:
    """Return the face areas of x-edges (nx-1, ny) and y-edges (nx, ny-1)."""
    f = _padded(solid)[1:-1, 1:-1]
    ax = np.zeros((hx.size, hy.size + 2))
    ax[:, 1:-1] = 0.5 * hy * f
    ay = np.zeros((hx.size + 2, hy.size))
    ay[1:-1] = 0.5 * hx[:, None] * f
    return ax[:, 1:] + ax[:, :-1], ay[1:] + ay[:-1]


def _edges(
    case: Case, node: Ints, solid: NDArray[np.bool_], hx: Floats, hy: Floats
) -> tuple[dict[str, Any], Ints, Ints]:
    """Return the edges, and their numbers by mesh position (-1 where none)."""
    fluid = ~solid
    ax, ay = _faces(solid, hx, hy)
    # currents along a layer are sums across it: the storage's quadrature, not volumes
    compact_x = _compact_areas(fluid.T, hy, (1 / 12, 1 / 12)).T
    compact_y = _compact_areas(fluid, hx, (1 / 6, 1 / 6))
    if case.cell == "half":
        ay[0] = 0.0  # along the reservoir
    i, j = np.nonzero(ax)
    i2, j2 = np.nonzero(ay)
    edge_x, edge_y = np.full(ax.shape, -1), np.full(ay.shape, -1)
    edge_x[i, j] = np.arange(i.size)
    edge_y[i2, j2] = i.size + np.arange(i2.size)
    return (
        {
            "k": np.concatenate([node[i, j], node[i2, j2]]),
            "l": np.concatenate([node[i + 1, j], node[i2, j2 + 1]]),
            "area": np.concatenate([compact_x[i, j], compact_y[i2, j2]]),
            "face": np.concatenate([ax[i, j], ay[i2, j2]]),
            "distance": np.concatenate([hx[i], hy[j2]]),
        },
        edge_x,
        edge_y,
    )


def _compact(
    area_a: Floats, area_b: Floats, a: Floats, b: Floats, end: Floats | float
) -> tuple[Floats, Floats]:
    r"""Return the weights of the two neighbours in the compact rule along one line.

    Across a layer the equation is phi'' = -rho. With edges of length a (left) and b
    (right), Taylor expansion of the two-point differences about the node gives

        (phi_0 - phi_-)/a + (phi_0 - phi_+)/b
            = rho (a + b)/2 + rho' (b^2 - a^2)/6 + rho'' (a^3 + b^3)/24 + O(h^4),

    so the right side, with three-point differences for rho' and rho'', is the charge
    that makes the two-point scheme accurate to fourth order (1/12, 10/12, 1/12 on equal
    spacing: Numerov's weights). At a wall only one side exists and rho' is the one-sided
    difference (``end`` = 1/6); at a mirror line rho' = 0 and half of the symmetric
    formula holds (``end`` = 1/12). Where one edge is more than ``UNEVEN`` times the other
    the weights could leave a node a negative width: no correction there.

    Parameters
    ----------
    area_a, area_b : ndarray
        Face areas of the two edges, 0 where there is none.
    a, b : ndarray
        Lengths of the edges.
    end : float or ndarray
        Weight of the single neighbour at an end of the line.
    """
    first = area_b * b**2 - area_a * a**2
    second = area_a * a**3 + area_b * b**3
    has_a, has_b = area_a > 0, area_b > 0
    both = has_a & has_b & (np.maximum(a, b) <= UNEVEN * np.minimum(a, b))
    to_a = np.where(both, (-first / 6 * b / a + second / 12 / a) / (a + b), 0.0)
    to_b = np.where(both, (first / 6 * a / b + second / 12 / b) / (a + b), 0.0)
    to_a += np.where(has_a & ~has_b, area_a * a * end, 0.0)
    to_b += np.where(has_b & ~has_a, area_b * b * end, 0.0)
    return to_a, to_b


def _compact_areas(fluid: NDArray[np.bool_], h: Floats, ends: tuple[float, float]) -> Floats:
    """Return the widths of the lines of a mesh for sums across them, by rows.

    The column sums of the compact rule: a quadrature of third order at walls and fourth
    inside, where plain control-volume widths (trapezoidal rule) would be of second.

    Parameters
    ----------
    fluid : ndarray of bool, shape (n_lines - 1, rows)
        Which intervals are electrolyte.
    h : ndarray, shape (n_lines - 1,)
    ends : tuple of float
        Weights of :func:`_compact` at the first and last line of the mesh.
    """
    rows = fluid.shape[1]
    none = np.zeros((1, rows))
    left = np.vstack([none, fluid])
    right = np.vstack([fluid, none])
    a = np.concatenate([h[:1], h])[:, None] * np.ones(rows)
    b = np.concatenate([h, h[-1:]])[:, None] * np.ones(rows)
    end = np.full(left.shape, 1 / 6)
    end[0], end[-1] = ends
    to_a, to_b = _compact(left, right, a, b, end)
    width = 0.5 * (left * a + right * b) - to_a - to_b
    width[1:] += to_b[:-1]
    width[:-1] += to_a[1:]
    return np.asarray(width)


def _compact_storage(
    node: Ints, ix: Ints, iy: Ints, solid: NDArray[np.bool_], hx: Floats, hy: Floats
) -> sparse.csr_matrix:
    """Return the correction of the compact storage, see :func:`_compact`.

    Ions use the same storage as the charge of Poisson's equation, hence charge is
    conserved exactly. The corrections of both directions are added; what they miss is
    the mixed derivative phi_xxyy, of second order and absent where one direction rules.
    """
    ax, ay = _faces(solid, hx, hy)
    n = ix.size
    left = np.vstack([np.zeros((1, ax.shape[1])), ax])[ix, iy]
    right = np.vstack([ax, np.zeros((1, ax.shape[1]))])[ix, iy]
    below = np.hstack([np.zeros((ay.shape[0], 1)), ay])[ix, iy]
    above = np.hstack([ay, np.zeros((ay.shape[0], 1))])[ix, iy]
    hx_, hy_ = np.concatenate([hx[:1], hx, hx[-1:]]), np.concatenate([hy[:1], hy, hy[-1:]])
    padded = np.pad(node, 1, constant_values=-1)
    mirror = np.where((iy == 0) | (iy == hy.size), 1 / 12, 1 / 6)
    rows, columns, data = [], [], []
    for area_a, area_b, a, b, di, dj, end in (
        (left, right, hx_[ix], hx_[ix + 1], 1, 0, 1 / 6),
        (below, above, hy_[iy], hy_[iy + 1], 0, 1, mirror),
    ):
        to_a, to_b = _compact(area_a, area_b, a, b, end)
        at_a = padded[ix + 1 - di, iy + 1 - dj]
        at_b = padded[ix + 1 + di, iy + 1 + dj]
        for weight, other in ((to_a, at_a), (to_b, at_b)):
            at = np.flatnonzero(weight)
            neighbour = np.where(other[at] < 0, n, other[at])  # BULK: last column
            rows += [at, at]
            columns += [neighbour, at]
            data += [weight[at], -weight[at]]
    return sparse.coo_matrix(
        (np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))), (n, n + 1)
    ).tocsr()


def _walls(
    case: Case, node: Ints, solid: NDArray[np.bool_], x: Floats, hx: Floats, hy: Floats
) -> dict[str, Any]:
    """Return the nodes on conductors and their shares of surface."""
    fluid = ~solid
    conductor = np.zeros((solid.shape[0] + 2, solid.shape[1]), bool)
    conductor[1:-1] = solid
    conductor[-1] = True  # collector (or the planar wall) at the end of the stack
    conductor[0] = case.cell == "full"
    inside = np.zeros_like(conductor)
    inside[1:-1] = fluid
    # surface across x: between rectangles i-1 and i; across y: between j-1 and j
    across_x = (conductor[1:] & inside[:-1]) | (inside[1:] & conductor[:-1])
    across_y = (solid[:, 1:] & fluid[:, :-1]) | (fluid[:, 1:] & solid[:, :-1])
    area = np.zeros(node.shape)
    area[:, :-1] += 0.5 * hy * across_x
    area[:, 1:] += 0.5 * hy * across_x
    area[:-1, 1:-1] += 0.5 * hx[:, None] * across_y
    area[1:, 1:-1] += 0.5 * hx[:, None] * across_y
    i, j = np.nonzero(area)
    return {
        "wall_node": node[i, j],
        "wall_area": area[i, j],
        "wall_electrode": ((x[i] < 0) & (case.cell == "full")).astype(np.int64),
    }


def _regions(case: Case, x: Floats, columns: list[Ints]) -> Ints:
    """Return the slit of each mesh line (mid-plane to mid-plane of openings)."""
    g = case.geometry
    by_line = np.full(x.size, -1, dtype=np.int64)
    if isinstance(g, NanoslitNetwork):
        mid = np.array(
            [g.sheet_front(k) + 0.5 * g.sheet_thickness for k in range(1, g.sheets + 1)]
        )
        for e, lines in enumerate(columns):
            slit = np.searchsorted(mid, np.abs(x[lines])) - 1
            by_line[lines[slit >= 0]] = e * g.sheets + slit[slit >= 0]
    return by_line


def _cuts(
    case: Case, x: Floats, y: Floats, columns: list[Ints], edge_x: Ints, edge_y: Ints
) -> tuple[Cut, ...]:
    g, cuts = case.geometry, []
    for e, lines in enumerate(columns):
        towards = -1.0 if e == 0 else 1.0  # towards the reservoir is -x, or +x if mirrored

        def vertical(
            name: str,
            index: int,
            at: float,
            e: int = e,
            lines: Ints = lines,
            towards: float = towards,
        ) -> Cut:
            i = int(np.searchsorted(x, at))  # between local lines i-1 and i
            edges = edge_x[min(lines[i - 1], lines[i])]
            return Cut(name, e, index, edges[edges >= 0], towards, at)

        cuts += [
            vertical("open_space", i, g.reservoir - d)
            for i, d in enumerate(open_space_distances(case))
        ]
        if not isinstance(g, NanoslitNetwork):
            continue
        row = int(np.searchsorted(y, 0.5 * g.height)) - 1
        for j in range(g.sheets):
            cuts.append(vertical("opening", j, g.sheet_front(j + 1) + 0.5 * g.sheet_thickness))
            low, high = _slit_bounds(g, j)
            inside = np.flatnonzero((x >= low - 1e-15) & (x <= high + 1e-15))
            # towards the opening of sheet j + 1, on the slit's reservoir side
            sign = 1.0 if g.opening_at_top(j + 1) else -1.0
            cuts.append(Cut("slit", e, j, edge_y[lines[inside], row], sign, 0.5 * g.height))
    return tuple(cuts)


def with_mesh(case: Case, spacing: MeshSpacing | str) -> Case:
    """Return the case with another mesh."""
    return replace(case, numerics=replace(case.numerics, mesh=spacing))
