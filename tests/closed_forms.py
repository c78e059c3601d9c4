"""Reference formulas of the model, written without using the package.

Scaled quantities: potentials in kT/e, lengths in Debye lengths, surface charge in
eps kT/(e Debye length), times as stated. ``nu`` is the bulk packing fraction 2 a^3 c0 of a
1:1 salt. Formula sources: Kilic, Bazant & Ajdari, PRE 75, 021502 (2007) for the double
layer; Bazant, Thornton & Ajdari, PRE 70, 021506 (2004) for charging.
"""

import math

import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

# CODATA 2018, exact except the last
E_CHARGE, K_B, N_A = 1.602176634e-19, 1.380649e-23, 6.02214076e23
EPS_0 = 8.8541878128e-12


def ion_size(nu: float, concentration: float) -> float:
    """Size of the ions [m] of a 1:1 salt [mol/m^3] whose bulk packing fraction is nu."""
    return (nu / (2 * concentration * N_A)) ** (1 / 3)


def debye_length(
    concentration: float, permittivity: float = 78.5, temperature: float = 298.15
) -> float:
    """Debye length of a 1:1 salt [m]."""
    number = concentration * N_A
    return math.sqrt(permittivity * EPS_0 * K_B * temperature / (2 * number * E_CHARGE**2))


def surface_charge(psi: float, nu: float) -> float:
    """Charge of a wall at diffuse-layer drop psi."""
    y = 2 * math.sinh(psi / 2) ** 2
    if nu == 0:
        return 2 * math.sinh(psi / 2)
    return math.copysign(math.sqrt(2 / nu * math.log1p(nu * y)), psi)


def capacitance(psi: float, nu: float) -> float:
    """Differential capacitance dq/dpsi of the diffuse layer."""
    if psi == 0:
        return 1.0
    y = 2 * math.sinh(psi / 2) ** 2
    return math.sinh(psi) / ((1 + nu * y) * surface_charge(psi, nu))


def behind_stern(total: float, nu: float, stern: float) -> float:
    """Diffuse-layer drop for a total drop; stern: Stern over Debye capacitance."""
    if total == 0:
        return 0.0
    low, high = sorted((0.0, total))
    return brentq(
        lambda p: p + surface_charge(p, nu) / stern - total, low, high, xtol=1e-15, rtol=1e-14
    )


def total_capacitance(total: float, nu: float, stern: float) -> float:
    """Differential capacitance of Stern and diffuse layer in series."""
    return 1 / (1 / stern + 1 / capacitance(behind_stern(total, nu, stern), nu))


def slowest_charging_time(epsilon: float) -> float:
    """Slowest time constant of a linear cell over the Debye time.

    Root X of tanh u = u/X, u = sqrt(1 - 1/X)/epsilon, epsilon = Debye length over the
    half gap: the pole of the charge of a 1D cell with odd symmetry.
    """

    def pole(x: float) -> float:
        u = math.sqrt(1 - 1 / x) / epsilon
        return math.tanh(u) - u / x

    return brentq(pole, 0.5 / epsilon, 1.0 / epsilon, xtol=1e-12)


def rc_charge(v: float, nu: float, times: np.ndarray) -> np.ndarray:
    """Charge at times [Debye length times half gap over D] after a step to +-v.

    Bulk resistance in series with the nonlinear double layer: dq/dt = v - psi(q).
    """
    solution = solve_ivp(
        lambda t, psi: (v - psi) / capacitance(psi[0], nu),
        (0, times[-1]),
        [0.0],
        t_eval=times,
        rtol=1e-10,
        atol=1e-12,
        method="LSODA",
    )
    return np.array([surface_charge(p, nu) for p in solution.y[0]])


def diffusive_share(width: float) -> float:
    """Diffusive share of the current along a slit of small potential; width d."""
    x = width / 2
    return math.tanh(x) / x


def slit_profile(psi: float, width: float, position: np.ndarray) -> np.ndarray:
    """Small potential across a slit, position from its middle."""
    return psi * np.cosh(position) / math.cosh(width / 2)
