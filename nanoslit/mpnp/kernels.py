"""Compiled loops over nodes and edges: composition, residual and Jacobian blocks.

The formulas are those of :mod:`nanoslit.mpnp.fluxes` (which the tests compare them
with); here they are written per edge and compiled with numba, because array expressions
over a few thousand edges cost ten times more in Python than in arithmetic.

Arrays: ``u`` (n, fields) with phi first; ``c`` and ``packing`` (n, ions); edges ``k``,
``l`` as local node numbers; the reservoir is the last local node. ``z`` is a tuple, whose
length the compiler knows: loops over two ions are then unrolled, four times faster.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

try:
    from numba import njit
except ImportError as error:  # the solver's extra brings it
    from nanoslit.errors import MissingExtraError

    raise MissingExtraError(
        "the field solver needs numba: run jobs/bootstrap.sh, or install nanoslit[mpi]"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Charges = tuple[float, ...]

__all__ = [
    "STEEP",
    "compiled",
    "compose_nodes",
    "flux_scale",
    "fused",
    "ion_fluxes",
    "jacobian_blocks",
    "residual_sums",
    "stored_amounts",
]

STEEP = 8.0
"""Ratio of neighbouring concentrations above which the compact correction fades."""

_TINY = 1e-280  # concentrations may underflow

_F = TypeVar("_F", bound="Callable[..., Any]")


def compiled(function: _F) -> _F:
    """Compile on first use; the machine code is kept beside the module."""
    machine_code: _F = njit(cache=True, error_model="numpy")(function)
    return machine_code


def fused(function: _F) -> _F:
    """Compile like ``compiled`` with fused multiply-adds, for sums that round anyhow."""
    options = {"cache": True, "error_model": "numpy", "fastmath": {"contract"}}
    machine_code: _F = njit(**options)(function)
    return machine_code


@compiled
def _bernoulli(x: float) -> float:
    return 1.0 if x == 0.0 else x / math.expm1(x)


@compiled
def _bernoulli_slope(x: float, b: float) -> float:
    if abs(x) < 0.02:
        return -0.5 + x / 6.0 - x**3 / 180.0 + x**5 / 5040.0
    return 0.0 if b == 0.0 else b * (1.0 - x - b) / x


@compiled
def compact_difference(c: float, other: float) -> tuple[float, float, float]:
    """Return (other - c) / (1 + x^4), x = other / (STEEP c), and both derivatives."""
    a, b = c + _TINY, other + _TINY
    inverse = 1.0 / a
    ratio = b * inverse
    x = min(ratio / STEEP, 1e60)
    x3 = x * x * x
    fade = 1.0 / (1.0 + x3 * x)
    value = (b - a) * fade
    steepness = (4.0 / STEEP) * x3 * fade * value * inverse
    return value, steepness * ratio - fade, fade - steepness


@compiled
def compose_nodes(
    u: Floats, z: Charges, c_bulk: Floats, v: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return c (n, ions), ln gamma (n,) and packing (n, ions) of a state."""
    n, m = u.shape[0], len(z)
    c, packing = np.empty((n, m)), np.empty((n, m))
    ln_gamma = np.empty(n)
    free = 1.0 - v.sum()
    for i in range(n):
        s = free
        for j in range(m):
            w = math.exp(u[i, 1 + j] - z[j] * u[i, 0])
            c[i, j] = w
            s += v[j] * w
        ln_gamma[i] = math.log(s)
        for j in range(m):
            w = c[i, j] / s
            packing[i, j] = v[j] * w
            c[i, j] = c_bulk[j] * w
    return c, ln_gamma, packing


@compiled
def stored_amounts(
    c: Floats,
    volume: Floats,
    k: Any,
    l: Any,  # noqa: E741
    w_kl: Floats,
    w_lk: Floats,  # noqa: E741
) -> Floats:
    """Return the amounts S c of the owned nodes (n_owned, ions)."""
    n, m = volume.size, c.shape[1]
    out = np.empty((n, m))
    for i in range(n):
        for j in range(m):
            out[i, j] = volume[i] * c[i, j]
    for e in range(k.size):
        a, b = k[e], l[e]
        for j in range(m):
            if a < n:
                out[a, j] += w_kl[e] * compact_difference(c[a, j], c[b, j])[0]
            if b < n:
                out[b, j] += w_lk[e] * compact_difference(c[b, j], c[a, j])[0]
    return out


@compiled
def ion_fluxes(
    u: Floats,
    c: Floats,
    ln_gamma: Floats,
    z: Charges,
    floor: Floats,
    diffusivity: Floats,
    conductance: Floats,
    k: Any,
    l: Any,  # noqa: E741
) -> Floats:
    """Return area times flux from k to l (n_edges, ions)."""
    m = len(z)
    out = np.empty((k.size, m))
    for e in range(k.size):
        a, b = k[e], l[e]
        for j in range(m):
            eta = z[j] * (u[a, 0] - u[b, 0]) + ln_gamma[a] - ln_gamma[b]
            d = u[b, 1 + j] - u[a, 1 + j]
            g = conductance[e] * 0.5 * (diffusivity[a, j] + diffusivity[b, j])
            out[e, j] = -g * (c[a, j] * _bernoulli(-eta) * math.expm1(d) + floor[j] * d)
    return out


@compiled
def flux_scale(
    u: Floats,
    c: Floats,
    ln_gamma: Floats,
    z: Charges,
    diffusivity: Floats,
    conductance: Floats,
    k: Any,
    l: Any,  # noqa: E741
) -> float:
    """Return the sum over edges and ions of (dN/dmu max(0.03, |mu|))^2.

    Fluxes N follow from differences of mu, whose rounding is relative to mu.
    """
    total = 0.0
    for e in range(k.size):
        p, q = k[e], l[e]
        for j in range(len(z)):
            eta = z[j] * (u[p, 0] - u[q, 0]) + ln_gamma[p] - ln_gamma[q]
            mu = max(0.03, abs(u[p, 1 + j]), abs(u[q, 1 + j]))
            size = c[p, j] * _bernoulli(-eta) * diffusivity[j] * conductance[e] * mu
            total += size * size
    return total


@compiled
def residual_sums(
    u: Floats,
    fluxes: Floats,
    stored: Floats,
    z: Charges,
    permittance: Floats,
    k: Any,
    l: Any,  # noqa: E741
    shift: float,
    history: Floats,
) -> Floats:
    """Return the residual of the owned nodes before boundary conditions."""
    n, m = stored.shape[0], len(z)
    out = np.empty((n, m + 1))
    for i in range(n):
        charge = 0.0
        for j in range(m):
            charge += z[j] * stored[i, j]
            out[i, 1 + j] = shift * stored[i, j] + history[i, j]
        out[i, 0] = -charge
    for e in range(k.size):
        a, b = k[e], l[e]
        field = permittance[e] * (u[a, 0] - u[b, 0])
        if a < n:
            out[a, 0] += field
            for j in range(m):
                out[a, 1 + j] += fluxes[e, j]
        if b < n:
            out[b, 0] -= field
            for j in range(m):
                out[b, 1 + j] -= fluxes[e, j]
    return out


@compiled
def _concentration_slopes(c: Floats, packing: Floats, z: Charges) -> Floats:
    """Return dc_j/du at every node (n, ions, fields)."""
    n, m = c.shape[0], len(z)
    out = np.empty((n, m, m + 1))
    for i in range(n):
        mean = 0.0
        for a in range(m):
            mean += z[a] * packing[i, a]
        for j in range(m):
            out[i, j, 0] = c[i, j] * (mean - z[j])
            for a in range(m):
                out[i, j, 1 + a] = c[i, j] * ((1.0 if a == j else 0.0) - packing[i, a])
    return out


@compiled
def _add_row(row: Floats, sign: float, values: Floats, z: Charges) -> None:
    for i in range(len(z) + 1):
        row[i] += sign * values[i]


@compiled
def _add_storage(
    out: Floats,
    at: int,
    weight: float,
    slopes: Floats,
    i: int,
    z: Charges,
    j: int,
    shift: float,
) -> None:
    """Add weight * dc_j/du of node i to row 1 + j (times shift) and the Poisson row."""
    by_time, by_charge = weight * shift, weight * z[j]
    for a in range(len(z) + 1):
        out[at, 1 + j, a] += by_time * slopes[i, j, a]
        out[at, 0, a] -= by_charge * slopes[i, j, a]


@compiled
def _add_diffusivity(
    row: Floats, factor: float, gradient: Floats, c: Floats, packing: Floats, z: Charges
) -> None:
    """Add factor * dD/du to a row of a block; gradient is dD/dc_i."""
    m = len(z)
    mean, total = 0.0, 0.0
    for i in range(m):
        mean += z[i] * packing[i]
        total += gradient[i] * c[i]
    for i in range(m):
        row[0] += factor * gradient[i] * c[i] * (mean - z[i])
        row[1 + i] += factor * (gradient[i] * c[i] - total * packing[i])


@compiled
def _add_compact(
    out: Floats,
    here: int,
    there: int,
    weight: float,
    c: Floats,
    slopes: Floats,
    p: int,
    q: int,
    z: Charges,
    shift: float,
) -> None:
    """Add the compact storage that node p takes from its neighbour q."""
    for j in range(len(z)):
        _, own, other = compact_difference(c[p, j], c[q, j])
        _add_storage(out, here, weight * own, slopes, p, z, j, shift)
        if there >= 0:
            _add_storage(out, there, weight * other, slopes, q, z, j, shift)


@compiled
def jacobian_blocks(
    u: Floats,
    c: Floats,
    ln_gamma: Floats,
    packing: Floats,
    z: Charges,
    floor: Floats,
    diffusivity: Floats,
    gradient: Floats,
    conductance: Floats,
    permittance: Floats,
    volume: Floats,
    k: Any,
    l: Any,  # noqa: E741
    w_kl: Floats,
    w_lk: Floats,
    shift: float,
    at: Any,
    at_kl: Any,
    at_lk: Any,
    out: Floats,
) -> None:
    """Add the blocks of the Jacobian to ``out`` (blocks, fields, fields), zero before.

    ``at`` (n_owned,) and ``at_kl``, ``at_lk`` (n_edges,) say where the diagonal blocks and
    those of row k by l and of row l by k belong; -1 where this rank has no such row, or
    the column is the reservoir. ``gradient`` (n, ions, ions) holds dD_i/dc_j, with length 0
    where D is constant.
    """
    n, m = volume.size, len(z)
    by_k, by_l = np.empty(m + 1), np.empty(m + 1)
    variable = gradient.shape[0] > 0
    slopes = _concentration_slopes(c, packing, z)
    for i in range(n):
        for j in range(m):
            _add_storage(out, at[i], volume[i], slopes, i, z, j, shift)
    for e in range(k.size):
        p, q = k[e], l[e]
        at_pq, at_qp = at_kl[e], at_lk[e]
        mean_k, mean_l = 0.0, 0.0
        for i in range(m):
            mean_k += z[i] * packing[p, i]
            mean_l += z[i] * packing[q, i]
        if p < n:
            out[at[p], 0, 0] += permittance[e]
        if at_pq >= 0:
            out[at_pq, 0, 0] -= permittance[e]
        if q < n:
            out[at[q], 0, 0] += permittance[e]
        if at_qp >= 0:
            out[at_qp, 0, 0] -= permittance[e]
        for j in range(m):
            eta = z[j] * (u[p, 0] - u[q, 0]) + ln_gamma[p] - ln_gamma[q]
            d = u[q, 1 + j] - u[p, 1 + j]
            e1 = math.expm1(d)
            bern = _bernoulli(-eta)
            g = conductance[e] * 0.5 * (diffusivity[p, j] + diffusivity[q, j])
            f = -c[p, j] * bern * e1
            by_eta = g * c[p, j] * _bernoulli_slope(-eta, bern) * e1
            by_mu = -g * (c[p, j] * bern * (e1 + 1.0) + floor[j])
            rest = by_eta - g * f
            # ln c_j = const + mu_j - z_j phi - ln gamma; eta = z dphi + d ln gamma
            by_k[0] = rest * (z[j] - mean_k)
            by_l[0] = by_eta * (mean_l - z[j])
            for i in range(m):
                by_k[1 + i] = rest * packing[p, i]
                by_l[1 + i] = -by_eta * packing[q, i]
            by_k[1 + j] += g * f - by_mu
            by_l[1 + j] += by_mu
            if variable:
                whole = 0.5 * conductance[e] * (f - floor[j] * d)
                _add_diffusivity(by_k, whole, gradient[p, j], c[p], packing[p], z)
                _add_diffusivity(by_l, whole, gradient[q, j], c[q], packing[q], z)
            if p < n:
                _add_row(out[at[p], 1 + j], 1.0, by_k, z)
            if at_pq >= 0:
                _add_row(out[at_pq, 1 + j], 1.0, by_l, z)
            if q < n:
                _add_row(out[at[q], 1 + j], -1.0, by_l, z)
            if at_qp >= 0:
                _add_row(out[at_qp, 1 + j], -1.0, by_k, z)
        if p < n and w_kl[e] != 0.0:
            _add_compact(out, at[p], at_pq, w_kl[e], c, slopes, p, q, z, shift)
        if q < n and w_lk[e] != 0.0:
            _add_compact(out, at[q], at_qp, w_lk[e], c, slopes, q, p, z, shift)
