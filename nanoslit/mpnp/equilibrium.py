r"""Walls and slits in equilibrium with a steric electrolyte.

With v_j = a^3 N_A c_j0 (bulk packing of ion j, nu their sum) the first integral of the
modified Poisson-Boltzmann equation is (Kilic, Bazant & Ajdari, PRE 75, 021502 (2007))

    eps E^2 / 2 = (kT / a^3) ln(1 - nu + sum_j v_j exp(-z_j psi))

at a wall of potential psi (in kT/e); for a = 0 the right side is
kT N_A sum_j c_j0 (exp(-z_j psi) - 1).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import roots_legendre

from nanoslit.case import Electrode
from nanoslit.electrolyte import Electrolyte
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["diffuse_potential", "screening_length", "slit_charge", "wall_charge"]

_WIDE = 7.0  # half widths in Debye lengths beyond which the two walls know nothing of another
_NODES = roots_legendre(96)


def wall_charge(electrolyte: Electrolyte, potential: float) -> float:
    """Return the surface charge of a planar wall without Stern layer [C m^-2].

    Parameters
    ----------
    electrolyte : Electrolyte
    potential : float
        Drop over the diffuse layer [V].
    """
    psi = potential / electrolyte.thermal_voltage
    volume = electrolyte.ion_volume
    if volume > 0:
        excess = sum(
            volume * i.concentration * math.expm1(-i.charge * psi) for i in electrolyte.ions
        )
        pressure = math.log1p(excess) / volume
    else:
        pressure = sum(i.concentration * math.expm1(-i.charge * psi) for i in electrolyte.ions)
    energy = FARADAY * electrolyte.thermal_voltage * max(pressure, 0.0)
    return math.copysign(math.sqrt(2 * electrolyte.eps * energy), psi)


def diffuse_potential(
    electrolyte: Electrolyte, electrode: Electrode, potential: float
) -> float:
    """Return the drop over the diffuse layer behind an optional Stern layer [V]."""
    stern = electrode.stern_capacitance
    if stern is None or potential == 0:
        return potential
    low, high = sorted((0.0, potential))
    return float(
        brentq(
            lambda p: p + wall_charge(electrolyte, p) / stern - potential, low, high, xtol=1e-12
        )
    )


def screening_length(electrolyte: Electrolyte, electrode: Electrode, potential: float) -> float:
    """Return the shortest screening length at a wall [m].

    The Debye length, or twice the thermal voltage over the wall field, the length on
    which a nonlinear double layer decays, whichever is shorter. Both signs of the
    potential are considered.
    """
    length = electrolyte.debye_length
    for v in (potential, -potential):
        drop = diffuse_potential(electrolyte, electrode, v)
        field = abs(wall_charge(electrolyte, drop)) / electrolyte.eps
        if field > 0:
            length = min(length, 2 * electrolyte.thermal_voltage / field)
    return length


def slit_charge(
    electrolyte: Electrolyte, electrode: Electrode, slit_size: float, potentials: Array
) -> tuple[Array, Array]:
    """Return the charge of both walls of a long slit in equilibrium, and its slope.

    The first integral from the middle of the slit (potential psi_m) to the wall,
    psi'^2 = 2 [P(psi) - P(psi_m)], is integrated over the half width, with
    psi = psi_m cosh t, which makes the integrand smooth; psi_m follows by bisection.

    Parameters
    ----------
    electrolyte : Electrolyte
    electrode : Electrode
        Its Stern layer is in series.
    slit_size : float
        Clear distance of the walls [m].
    potentials : ndarray, shape (n,)
        Electrode minus reservoir-equivalent potential [V].

    Returns
    -------
    charge : ndarray, shape (n,)
        Per length along the slit and per depth, both walls [C m^-2].
    capacitance : ndarray, shape (n,)
        Its derivative [F m^-2].
    """
    from scipy.interpolate import CubicSpline

    unit = electrolyte.thermal_voltage
    top = 1.02 * max(np.abs(potentials).max(), unit)
    psi = np.sinh(np.linspace(-1, 1, 401) * np.arcsinh(top / unit)) * unit
    half = 0.5 * slit_size
    if half > _WIDE * electrolyte.debye_length:
        charge = 2 * np.array([wall_charge(electrolyte, float(p)) for p in psi])
    else:
        below = _side(electrolyte, half, psi[:200], -1)
        above = _side(electrolyte, half, psi[201:], 1)
        charge = 2 * np.concatenate([below, [0.0], above])
    stern = electrode.stern_capacitance
    whole = psi if stern is None else psi + 0.5 * charge / stern
    curve = CubicSpline(whole, charge)
    return curve(potentials), curve(potentials, 1)


def _side(electrolyte: Electrolyte, half: float, psi: Array, sign: int) -> Array:
    """Return the charge of one wall at potentials of one sign [C m^-2]."""
    wall = np.abs(psi) / electrolyte.thermal_voltage
    length = half / electrolyte.debye_length
    x, weight = _NODES
    low, high = np.log(0.1 * wall) - length, np.log(wall)  # bounds of ln psi_m
    for _ in range(45):
        middle = np.exp(0.5 * (low + high))
        span = np.arccosh(np.maximum(wall / middle, 1.0))
        t = 0.5 * span[:, None] * (1 + x)
        field = np.sqrt(
            _pressure(electrolyte, sign * middle[:, None] * np.cosh(t))
            - _pressure(electrolyte, sign * middle[:, None])
        )
        width = 0.5 * span * ((middle[:, None] * np.sinh(t) / field) @ weight)
        low, high = (
            np.where(width > length, np.log(middle), low),
            np.where(width > length, high, np.log(middle)),
        )
    middle = np.exp(0.5 * (low + high))
    rise = _pressure(electrolyte, sign * wall) - _pressure(electrolyte, sign * middle)
    scale = electrolyte.eps * electrolyte.thermal_voltage / electrolyte.debye_length
    return np.asarray(sign * scale * np.sqrt(rise))


def _pressure(electrolyte: Electrolyte, psi: Array) -> Array:
    """Return twice the osmotic pressure over eps (kT/e)^2/lambda_D^2, from 0 in the bulk."""
    volume, bulk = electrolyte.ion_volume, 2 * electrolyte.ionic_strength
    excess = sum(i.concentration * np.expm1(-i.charge * psi) for i in electrolyte.ions)
    return np.asarray(2 * (np.log1p(volume * excess) / volume if volume else excess) / bulk)
