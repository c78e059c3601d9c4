"""Planar double layer against the closed form of the steric theory."""

import numpy as np
import pytest

import closed_forms as exact
from nanoslit.electrolyte import Electrolyte
from nanoslit.mpnp.grid import PLANAR_PRESETS
from nanoslit.mpnp.simulation import Simulation
from nanoslit.units import nm
from solver_cases import equilibrium_charge, hold, planar

C0 = 1000.0
POTENTIALS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
PACKING = (0.0, 0.03, 0.15, 0.35)
STERN = 0.5  # F/m^2


def electrolyte(nu):
    return Electrolyte.symmetric(C0, ion_size=exact.ion_size(nu, C0))


def errors(nu, potentials, mesh, stern=None):
    """Relative errors of charge and differential capacitance, shape (potentials, 2)."""
    salt = electrolyte(nu)
    thermal, unit = salt.thermal_voltage, salt.eps / salt.debye_length
    out = []
    for v in potentials:
        with Simulation(planar(hold(v), electrolyte=salt, stern=stern, mesh=mesh)) as s:
            q, up, down = (equilibrium_charge(s, x) for x in (v, v + 1e-4, v - 1e-4))
        psi = v / thermal
        if stern is None:
            charge, slope = exact.surface_charge(psi, nu), exact.capacitance(psi, nu)
        else:
            ratio = stern / unit
            charge = exact.surface_charge(exact.behind_stern(psi, nu, ratio), nu)
            slope = exact.total_capacitance(psi, nu, ratio)
        out.append([q / (unit * thermal * charge) - 1, (up - down) / (2e-4 * unit * slope) - 1])
    return np.array(out)


@pytest.mark.parametrize("stern", [None, STERN])
@pytest.mark.parametrize("nu", PACKING)
def test_charge_and_capacitance_at_the_standard_mesh(nu, stern):
    assert np.abs(errors(nu, POTENTIALS, "standard", stern)).max() < 1e-3


ORDER = 1.9


@pytest.mark.parametrize("stern", [None, STERN])
@pytest.mark.parametrize("nu", PACKING)
def test_order_of_convergence(nu, stern):
    # point ions: finer cells at 0.5 V would be smaller than rounding of their positions
    factors = (1, 4) if nu else (0.5, 1)
    meshes = [PLANAR_PRESETS["standard"].finer(f) for f in factors]
    # root mean square over potentials: single ones cross zero on their way
    coarse, fine = (
        np.sqrt((errors(nu, POTENTIALS, mesh, stern) ** 2).mean(axis=0)) for mesh in meshes
    )
    order = np.log2(coarse / fine) / np.log2(factors[1] / factors[0])
    assert (order >= ORDER).all(), (coarse, fine)


@pytest.mark.parametrize(
    ("volts", "charge"), [(0.1, 20.98775), (0.3, 44.44121), (0.5, 59.36659), (1.0, 86.01066)]
)
def test_charge_of_hydrated_ions(volts, charge):
    """uC/cm^2 at 1 M, eps_r = 78.5, a = 0.66 nm; the closed form evaluated elsewhere."""
    salt = Electrolyte.symmetric(C0, ion_size=0.66 * nm)
    psi, unit = volts / salt.thermal_voltage, salt.debye_capacitance * salt.thermal_voltage
    nu = 2 * C0 * exact.N_A * (0.66e-9) ** 3
    assert exact.surface_charge(psi, nu) * unit * 100 == pytest.approx(charge, rel=1e-6)
    with Simulation(planar(hold(volts), electrolyte=salt, mesh="fine")) as s:
        assert equilibrium_charge(s, volts) * 100 == pytest.approx(charge, rel=1e-3)


@pytest.mark.parametrize(
    ("nu", "psi", "charge", "slope"),
    [
        (0.05, 10, 15.8906819, 1.25643),
        (0.346, 10, 6.9038432, 0.41856),
        (0.05, 1, None, 1.10521),
        (0.05, 5, None, 2.02920),
        (0.05, 20, None, 0.78299),
        (0.346, 1, None, 0.99162),
        (0.346, 5, None, 0.64813),
        (0.346, 20, None, 0.28143),
    ],
)
def test_scaled_charge_and_capacitance(nu, psi, charge, slope):
    salt = electrolyte(nu)
    v = psi * salt.thermal_voltage
    with Simulation(planar(hold(v), electrolyte=salt, mesh="fine")) as s:
        unit = salt.debye_capacitance * salt.thermal_voltage
        q, up, down = (equilibrium_charge(s, x) / unit for x in (v, v + 1e-4, v - 1e-4))
    if charge is not None:
        assert q == pytest.approx(charge, rel=5e-4)
    assert (up - down) / (2e-4 / salt.thermal_voltage) == pytest.approx(slope, rel=1e-3)


def test_scales_of_the_reference_salt():
    salt = Electrolyte.symmetric(C0)
    assert salt.debye_length == pytest.approx(exact.debye_length(C0), rel=1e-9)
    assert salt.debye_length == pytest.approx(0.304186e-9, rel=1e-5)
    assert salt.debye_capacitance == pytest.approx(2.285, rel=1e-3)
    assert salt.conductivity == pytest.approx(15.0215098, rel=1e-8)
    dilute = Electrolyte.symmetric(10.0, permittivity=78.49)
    assert dilute.debye_capacitance == pytest.approx(0.22846691848825, rel=1e-8)


def test_slit_potential_of_small_signal():
    """Across a long uniform slit: cosh profile and tanh charge."""
    from nanoslit.mpnp.grid import _slit_bounds
    from solver_cases import case, network

    g = network(1, sheet_length=16 * nm, slit_size=1 * nm)
    v = 1e-5
    with Simulation(case(g, hold(v), mesh="standard")) as s:
        u = s.equilibrium(v / s.scales.potential)
        low, high = _slit_bounds(g, 0)
        row = np.argmin(np.abs(s.grid.y_lines - 0.3 * g.height))  # far from the opening
        inside = (s.grid.iy == row) & (s.grid.x >= low - 1e-15) & (s.grid.x <= high + 1e-15)
        x = (s.grid.x[inside] - 0.5 * (low + high)) / s.scales.length
        expected = exact.slit_profile(v / s.scales.potential, g.slit_size / s.scales.length, x)
    assert u[inside, 0] == pytest.approx(expected, rel=2e-3)
