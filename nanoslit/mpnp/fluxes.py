r"""Composition of the steric electrolyte and the excess-potential (SEDAN) flux.

Everything here is dimensionless: potentials phi in kT/e, electrochemical potentials mu
in kT, concentrations c relative to a common reference, lengths in Debye lengths.

Composition from potentials. With equal ion sizes the steric theory of Kilic, Bazant &
Ajdari (PRE 75, 021503 (2007)) has an explicit inverse,

    w_j = exp(mu_j - z_j phi),   S = 1 - nu + sum_j v_j w_j,
    c_j = c_j0 w_j / S,          ln gamma = ln S,

so 0 < c_j and sum_j a^3 c_j < 1 hold for any potentials: no iterate can leave the
physical range. mu_j = 0 and phi = 0 is the bulk.

Flux from cell k to cell l at distance h (Yu & Dutton's excess-potential form, written
for mu so that nothing cancels near equilibrium):

    N = -(D/h) c_k B(-eta) expm1(mu_l - mu_k),  B(x) = x / expm1(x),
    eta = z (phi_k - phi_l) + ln gamma_k - ln gamma_l.

N is zero exactly when mu_k == mu_l, and it splits exactly into diffusion, migration and
steric parts: with M = N h / (D (mu_k - mu_l)) > 0,

    N = (D/h) M [ (ln c_k - ln c_l) + z (phi_k - phi_l) + (ln gamma_k - ln gamma_l) ].

A vanishing mobility is added for ions that are practically absent,

    N += (D/h) MOBILITY_FLOOR c_0 (mu_k - mu_l),

which vanishes at equilibrium too. Without it the mu of a co-ion with c = exp(-30) c_0
next to a charged wall is beyond double precision, and so is the linear system.

Not done here: unequal ion sizes (they need a local solve), other activity models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "MOBILITY_FLOOR",
    "Composition",
    "bernoulli",
    "bernoulli_slope",
    "compose",
    "excess_flux",
    "excess_flux_slopes",
    "split_flux",
]


MOBILITY_FLOOR = 1e-10
"""Least mobility of an ion, as a fraction of its mobility in the bulk."""


def bernoulli(x: Floats) -> Floats:
    """Return B(x) = x / expm1(x), 1 at 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(x == 0, 1.0, x / np.expm1(x))


def bernoulli_slope(x: Floats) -> Floats:
    """Return B'(x) = B (1 - x - B) / x; Taylor series near 0, where this cancels."""
    b = bernoulli(x)
    small = np.abs(x) < 0.02
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slope = np.where(b == 0, 0.0, b * (1 - x - b) / x)
    series = -0.5 + x / 6 - x**3 / 180 + x**5 / 5040
    return np.where(small, series, slope)


@dataclass(frozen=True)
class Composition:
    """Local composition; arrays of shape (n_ions, n) except ``ln_gamma`` (n,).

    ``packing`` is a^3 c of each ion, which is also d ln gamma / d mu_j.
    """

    c: Floats
    ln_c: Floats
    ln_gamma: Floats
    packing: Floats


def compose(mu: Floats, phi: Floats, z: Floats, c_bulk: Floats, v: Floats) -> Composition:
    """Return the composition at given potentials.

    Parameters
    ----------
    mu : ndarray, shape (n_ions, n)
        Electrochemical potentials, 0 in the bulk [kT].
    phi : ndarray, shape (n,)
        Electrostatic potential [kT/e].
    z, c_bulk, v : ndarray, shape (n_ions,)
        Charge numbers, bulk concentrations, bulk packing of each ion.
    """
    exponent = mu - z[:, None] * phi
    w = np.exp(exponent)
    s = (1.0 - v.sum()) + v @ w
    ln_s = np.log(s)
    c = c_bulk[:, None] * w / s
    ln_c = np.log(c_bulk)[:, None] + exponent - ln_s
    return Composition(c, ln_c, ln_s, v[:, None] * w / s)


def excess_flux(c_k: Floats, eta: Floats, mu_k: Floats, mu_l: Floats) -> Floats:
    """Return -c_k B(-eta) expm1(mu_l - mu_k): the flux from k to l over D/h.

    Parameters
    ----------
    c_k, eta, mu_k, mu_l : ndarray, shape (n_ions, n_faces)
        Concentration in k, excess potential difference, electrochemical potentials.
    """
    return np.asarray(-c_k * bernoulli(-eta) * np.expm1(mu_l - mu_k))


def excess_flux_slopes(
    c_k: Floats, eta: Floats, mu_k: Floats, mu_l: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return the flux over D/h and its derivatives by eta and by mu_l (at fixed c_k).

    The derivative by mu_k at fixed c_k is minus that by mu_l; the flux is
    proportional to c_k.
    """
    b, e = bernoulli(-eta), np.expm1(mu_l - mu_k)
    return -c_k * b * e, c_k * bernoulli_slope(-eta) * e, -c_k * b * (e + 1.0)


def split_flux(
    k: Composition,
    l: Composition,  # noqa: E741
    phi: Floats,
    z: Floats,
    mu: Floats,  # noqa: E741
    floor: Floats,
) -> tuple[Floats, Floats, Floats]:
    """Return diffusion, migration and steric parts of the flux over D/h.

    Parameters
    ----------
    k, l : Composition
        On the two sides of each edge.
    phi : ndarray, shape (n_edges,)
        phi_k - phi_l.
    z : ndarray, shape (n_ions,)
    mu : ndarray, shape (n_ions, n_edges)
        mu_k - mu_l.
    floor : ndarray, shape (n_ions, 1)
        Least mobility times concentration.
    """
    steric = np.broadcast_to(k.ln_gamma - l.ln_gamma, mu.shape)
    drift = z[:, None] * phi
    with np.errstate(divide="ignore", invalid="ignore"):
        phi1 = np.where(mu == 0, 1.0, -np.expm1(-mu) / mu)
    mobility = k.c * bernoulli(-(drift + steric)) * phi1 + floor
    return mobility * (k.ln_c - l.ln_c), mobility * drift, mobility * steric
