"""A slit in equilibrium: limits, the field equations in one dimension, the solver's slits."""

import numpy as np
import pytest
from scipy.integrate import solve_bvp

from nanoslit.case import Electrode
from nanoslit.electrolyte import Electrolyte, Ion
from nanoslit.mpnp.equilibrium import slit_charge, wall_charge

POTENTIALS = np.linspace(-0.3, 0.3, 121)


@pytest.mark.parametrize("d", [0.6e-9, 1.5e-9, 3e-9, 10e-9])
def test_small_potentials_give_debye_hueckel(d):
    e = Electrolyte.symmetric(1000.0)
    charge, capacitance = slit_charge(e, Electrode(), d, POTENTIALS)
    expected = 2 * e.eps / e.debye_length * np.tanh(0.5 * d / e.debye_length)
    assert capacitance[60] == pytest.approx(expected, rel=1e-6)
    assert charge == pytest.approx(-charge[::-1], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("size", [0.0, 0.4e-9, 0.66e-9])
def test_walls_far_apart_are_planar(size):
    e = Electrolyte.symmetric(1000.0, ion_size=size)
    charge, _ = slit_charge(e, Electrode(), 8e-9, POTENTIALS)
    walls = [2 * wall_charge(e, float(v)) for v in POTENTIALS]
    assert charge == pytest.approx(np.array(walls), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("potential", [-0.2, 0.05, 0.2])
def test_agrees_with_a_boundary_value_solver(potential):
    """Two ions of unequal charge; the equation is solved across half the slit."""
    salt = Electrolyte((Ion("Mg2+", 2, 1e-9, 500.0), Ion("Cl-", -1, 2e-9, 1000.0)))
    d, v, nu = 1.2e-9, salt.ion_volume, salt.bulk_packing
    unit, length = salt.thermal_voltage, salt.debye_length

    def slope(y, s):
        weights = [i.concentration * np.exp(-i.charge * s[0]) for i in salt.ions]
        rho = sum(i.charge * w for i, w in zip(salt.ions, weights, strict=True))
        rho = rho / (1 - nu + v * sum(weights))
        return np.stack([s[1], -rho / (2 * salt.ionic_strength)])

    top = potential / unit
    y = np.linspace(0, 0.5 * d / length, 200)
    guess = np.stack([top * np.exp(y - y[-1]), top * np.exp(y - y[-1])])
    found = solve_bvp(
        slope, lambda a, b: np.array([a[1], b[0] - top]), y, guess, tol=1e-8, max_nodes=100_000
    )
    assert found.success
    expected = 2 * salt.eps * unit / length * found.y[1, -1]
    charge, _ = slit_charge(salt, Electrode(), d, POTENTIALS)
    assert np.interp(potential, POTENTIALS, charge) == pytest.approx(expected, rel=2e-3)


def test_stern_layer_is_in_series():
    e = Electrolyte.symmetric(1000.0)
    bare, _ = slit_charge(e, Electrode(), 1.5e-9, POTENTIALS)
    layer = Electrode(stern_capacitance=0.5)
    with_layer, _ = slit_charge(e, layer, 1.5e-9, POTENTIALS)
    drop = POTENTIALS - 0.5 * with_layer / 0.5  # each wall holds half of the charge
    assert with_layer == pytest.approx(np.interp(drop, POTENTIALS, bare), rel=3e-3, abs=1e-6)
