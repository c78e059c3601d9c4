r"""Walls and slits in equilibrium with a steric electrolyte.

With v_j = a^3 N_A c_j0 (bulk packing of ion j, nu their sum) the first integral of the
modified Poisson-Boltzmann equation is (Kilic, Bazant & Ajdari, PRE 75, 021502 (2007))

    eps E^2 / 2 = (kT / a^3) ln(1 - nu + sum_j v_j exp(-z_j psi))

at a wall of potential psi (in kT/e); for a = 0 the right side is
kT N_A sum_j c_j0 (exp(-z_j psi) - 1).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import roots_legendre

from nanoslit.case import Electrode
from nanoslit.electrolyte import Electrolyte
from nanoslit.errors import CaseError
from nanoslit.units import FARADAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "concentrations",
    "diffuse_potential",
    "screening_length",
    "slit_charge",
    "slit_content",
    "wall_charge",
    "wall_excess",
]

_WIDE = 7.0  # half widths in Debye lengths beyond which the two walls know nothing of another
_BULK = 12.0  # distance from a wall in Debye lengths beyond which ions know nothing of it
_NODES = roots_legendre(96)
_ROOT_STEPS = 9


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
        below, _ = _side(electrolyte, half, psi[:200], -1)
        above, _ = _side(electrolyte, half, psi[201:], 1)
        charge = 2 * np.concatenate([below, [0.0], above])
    stern = electrode.stern_capacitance
    whole = psi if stern is None else psi + 0.5 * charge / stern
    curve = CubicSpline(whole, charge)
    return curve(potentials), curve(potentials, 1)


def concentrations(electrolyte: Electrolyte, salt: Array) -> Array:
    """Return concentrations of an electroneutral solution of two ions, (n, 2) [mol m^-3].

    Parameters
    ----------
    electrolyte : Electrolyte
    salt : ndarray, shape (n,)
        Common excess of z (mu - mu_bulk)/(z e) of both ions at zero potential [V]:
        c_j/(1 - nu) is exp(salt/V_T) times its value in the bulk, nu the packing.
    """
    bulk = np.array([ion.concentration for ion in electrolyte.ions])
    volume = electrolyte.ion_volume
    free = bulk / (1 - volume * bulk.sum())
    r = free * np.exp(np.asarray(salt, float) / electrolyte.thermal_voltage)[:, None]
    return np.asarray(r / (1 + volume * r.sum(axis=1, keepdims=True)))


def slit_content(
    electrolyte: Electrolyte,
    electrode: Electrode,
    slit_size: float,
    potentials: Array,
    salts: Array,
) -> Array:
    """Return what a long slit holds of both ions, in equilibrium with a neutral solution.

    Content = integral of c_j over the width, with dx = d psi/psi' from the first integral
    as in :func:`slit_charge`. The solution need not be the bulk: two ions whose potentials
    (mu - mu_bulk)/(z e) are V_j see one of potential U with V_j = U + salt/z_j.

    Parameters
    ----------
    electrolyte : Electrolyte
        Of two ions.
    electrode : Electrode
        Its Stern layer is in series.
    slit_size : float
        Clear distance of the walls [m].
    potentials : ndarray, shape (n,)
        Electrode minus U [V], rising, with zero inside.
    salts : ndarray, shape (m,)
        [V]; see :func:`concentrations`.

    Returns
    -------
    ndarray, shape (n, m, 2)
        Per length along the slit and per depth [mol m^-2].

    Raises
    ------
    CaseError
        If the electrolyte has not two ions.
    """
    columns = []
    for around in _solutions(electrolyte, salts):
        half = min(0.5 * slit_size, _BULK * around.debye_length)
        rest = slit_size - 2 * half
        bulk = np.array([ion.concentration for ion in around.ions])
        columns.append(2 * _content(around, electrode, half, potentials) + rest * bulk)
    return np.stack(columns, axis=1)


def wall_excess(
    electrolyte: Electrolyte, electrode: Electrode, potentials: Array, salts: Array
) -> Array:
    """Return the excess of both ions at a planar wall over the solution in front of it.

    Parameters as in :func:`slit_content`; per area [mol m^-2], shape (n, m, 2).
    """
    columns = []
    for around in _solutions(electrolyte, salts):
        half = _BULK * around.debye_length
        bulk = np.array([ion.concentration for ion in around.ions])
        columns.append(_content(around, electrode, half, potentials) - half * bulk)
    return np.stack(columns, axis=1)


def _solutions(electrolyte: Electrolyte, salts: Array) -> list[Electrolyte]:
    """Return the solutions that slits may be in equilibrium with."""
    if len(electrolyte.ions) != 2:
        raise CaseError(
            f"{len(electrolyte.ions)} ions given; contents of slits are known for two"
        )
    return [
        replace(
            electrolyte,
            ions=tuple(
                replace(ion, concentration=float(x))
                for ion, x in zip(electrolyte.ions, c, strict=True)
            ),
        )
        for c in concentrations(electrolyte, salts)
    ]


def _content(
    electrolyte: Electrolyte, electrode: Electrode, half: float, potentials: Array
) -> Array:
    """Return the content between a wall and a plane without field, (n, ions) [mol m^-2]."""
    from scipy.interpolate import CubicSpline

    unit = electrolyte.thermal_voltage
    top = 1.02 * max(np.abs(potentials).max(), unit)
    psi = np.sinh(np.linspace(-1, 1, 121) * np.arcsinh(top / unit)) * unit
    sides = [_side(electrolyte, half, psi[rows], sign) for rows, sign in
             ((slice(0, 60), -1), (slice(61, None), 1))]  # fmt: skip
    charge = np.concatenate([sides[0][0], [0.0], sides[1][0]])
    zero = half * np.array([[ion.concentration for ion in electrolyte.ions]])
    content = np.concatenate([sides[0][1], zero, sides[1][1]])
    stern = electrode.stern_capacitance
    whole = psi if stern is None else psi + charge / stern
    return np.asarray(np.exp(CubicSpline(whole, np.log(content))(potentials)))


def _side(electrolyte: Electrolyte, half: float, psi: Array, sign: int) -> tuple[Array, Array]:
    """Return charge [C m^-2] and ions [mol m^-2] of half a slit, potentials of one sign."""
    wall = np.abs(psi) / electrolyte.thermal_voltage
    length = half / electrolyte.debye_length
    x, weight = _NODES

    def profile(middle: Array, wall: Array) -> tuple[Array, Array]:
        """Return potentials and path elements dx from the middle to the wall."""
        span = np.arccosh(np.maximum(wall / middle, 1.0))
        t = 0.5 * span[:, None] * (1 + x)
        inside = middle[:, None] * np.cosh(t)
        field = np.sqrt(
            _pressure(electrolyte, sign * inside)
            - _pressure(electrolyte, sign * middle[:, None])
        )
        return inside, 0.5 * span[:, None] * (middle[:, None] * np.sinh(t) / field) * weight

    def missing(log_middle: Array, wall: Array) -> Array:
        return np.asarray(profile(np.exp(log_middle), wall)[1].sum(axis=1) - length)

    # false position with halved weights (Illinois): the width is nearly linear in ln psi_m
    low, high = np.log(0.1 * wall) - length, np.log(wall)
    at_low, at_high = missing(low, wall), np.full(wall.size, -length)
    side = np.zeros(wall.size)  # of the last root
    for _ in range(_ROOT_STEPS):
        root = (low * at_high - high * at_low) / (at_high - at_low)
        value = missing(root, wall)
        wide = value > 0
        at_low = np.where(wide, value, np.where(side < 0, 0.5, 1.0) * at_low)
        at_high = np.where(wide, np.where(side > 0, 0.5, 1.0) * at_high, value)
        low, high = np.where(wide, root, low), np.where(wide, high, root)
        side = np.where(wide, 1.0, -1.0)
    middle = np.exp(root)
    rise = _pressure(electrolyte, sign * wall) - _pressure(electrolyte, sign * middle)
    scale = electrolyte.eps * electrolyte.thermal_voltage / electrolyte.debye_length
    charge = sign * scale * np.sqrt(rise)
    inside, path = profile(middle, wall)
    boltzmann = [ion.concentration * np.exp(-ion.charge * sign * inside)
                 for ion in electrolyte.ions]  # fmt: skip
    bulk = sum(ion.concentration for ion in electrolyte.ions)
    crowding = 1 + electrolyte.ion_volume * (sum(boltzmann) - bulk)
    content = np.stack([(b / crowding * path).sum(axis=1) for b in boltzmann], axis=1)
    return charge, content * electrolyte.debye_length


def _pressure(electrolyte: Electrolyte, psi: Array) -> Array:
    """Return twice the osmotic pressure over eps (kT/e)^2/lambda_D^2, from 0 in the bulk."""
    volume, bulk = electrolyte.ion_volume, 2 * electrolyte.ionic_strength
    excess = sum(i.concentration * np.expm1(-i.charge * psi) for i in electrolyte.ions)
    return np.asarray(2 * (np.log1p(volume * excess) / volume if volume else excess) / bulk)
