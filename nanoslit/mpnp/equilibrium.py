r"""Closed forms of a wall in equilibrium with a steric electrolyte.

With v_j = a^3 N_A c_j0 (bulk packing of ion j, nu their sum) the first integral of the
modified Poisson-Boltzmann equation is (Kilic, Bazant & Ajdari, PRE 75, 021502 (2007))

    eps E^2 / 2 = (kT / a^3) ln(1 - nu + sum_j v_j exp(-z_j psi))

at a wall of potential psi (in kT/e); for a = 0 the right side is
kT N_A sum_j c_j0 (exp(-z_j psi) - 1).
"""

from __future__ import annotations

import math

from scipy.optimize import brentq

from nanoslit.case import Electrode
from nanoslit.electrolyte import Electrolyte
from nanoslit.units import FARADAY

__all__ = ["diffuse_potential", "screening_length", "wall_charge"]


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
