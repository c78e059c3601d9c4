"""The ion-resolved circuit: equilibrium contents, the integrator, other salts, refusals."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import eig

from nanoslit.case import Electrode
from nanoslit.circuit import ion_kernel
from nanoslit.circuit.ions import OPEN_BOXES, IonCircuit, excess, grid_of, tables
from nanoslit.electrolyte import Electrolyte, Ion
from nanoslit.errors import CaseError, CircuitError, ConvergenceError
from nanoslit.mpnp.equilibrium import concentrations, slit_charge, slit_content, wall_excess
from nanoslit.protocol import CyclicVoltammetry, PotentialSteps, PotentialTable
from nanoslit.units import FARADAY

SALT = Electrolyte.symmetric(1000.0)
UNEQUAL = Electrolyte((Ion("Mg2+", 2, 1e-9, 500.0), Ion("Cl-", -1, 2e-9, 1000.0)))
BARE = Electrode()


def circuit(electrolyte=SALT, **changes):
    values = {
        "electrolyte": electrolyte, "electrode": BARE, "slit_size": 1.5e-9, "n_slits": 4,
        "length": [5.5e-9, 5.5e-9], "exterior": 5.3e-9, "opening": 1e-9, "path": 6e-9,
        "passage": 0.8e-9, "mouth": 5.6e-9, "access": 0.5e-9, "gap": 9e-9, "height": 5.5e-9,
        "space": 1e-9,
    }  # fmt: skip
    return IonCircuit(**(values | changes))


# -- equilibrium -----------------------------------------------------------------------------


@pytest.mark.parametrize("salt", [SALT, UNEQUAL, replace(SALT, ion_size=0.0)])
@pytest.mark.parametrize("d", [0.8e-9, 1.5e-9, 10e-9])
def test_contents_carry_the_charge_of_the_slit(salt, d):
    u = np.linspace(-0.2, 0.3, 51)
    n = slit_content(salt, BARE, d, u, np.array([0.0]))[:, 0]
    charge, _ = slit_charge(salt, BARE, d, u)
    z = np.array([ion.charge for ion in salt.ions])
    assert -FARADAY * (n @ z) == pytest.approx(charge, abs=2e-4 * np.abs(charge).max())
    bulk = np.array([ion.concentration for ion in salt.ions])
    assert n[20] == pytest.approx(bulk * d, rel=1e-9)


def test_contents_with_a_stern_layer():
    u, layer = np.linspace(-0.3, 0.3, 61), Electrode(stern_capacitance=0.5)
    n = slit_content(SALT, layer, 1.5e-9, u, np.array([0.0]))[:, 0]
    charge, _ = slit_charge(SALT, layer, 1.5e-9, u)
    assert FARADAY * (n[:, 1] - n[:, 0]) == pytest.approx(charge, abs=1e-4 * charge.max())


@pytest.mark.parametrize("salt", [SALT, UNEQUAL])
def test_contents_are_derivatives_of_one_potential(salt):
    """dN_1/dV_2 z_2 = dN_2/dV_1 z_1 at constant E: V_j = U + w/z_j (a Maxwell relation)."""
    u, w = np.linspace(-0.1, 0.15, 251), np.linspace(-0.02, 0.02, 41)
    n = slit_content(salt, BARE, 1.5e-9, u, w)
    by_u, by_w = np.gradient(n, u, w, axis=(0, 1), edge_order=2)
    z = np.array([ion.charge for ion in salt.ions], float)
    # U = (z1 V1 - z2 V2)/(z1 - z2), w = z1 z2 (V2 - V1)/(z1 - z2), u = E - U
    span = z[0] - z[1]
    by_v1 = (-by_u * z[0] - by_w * z[0] * z[1]) / span
    by_v2 = (by_u * z[1] + by_w * z[0] * z[1]) / span
    inner = (slice(2, -2), slice(2, -2))
    assert (z[0] * by_v2[..., 0])[inner] == pytest.approx(
        (z[1] * by_v1[..., 1])[inner], rel=2e-3, abs=1e-4 * np.abs(by_v1).max()
    )


def test_a_wide_slit_is_two_walls_and_bulk():
    u, w = np.linspace(-0.1, 0.2, 31), np.array([-0.02, 0.0, 0.03])
    d = 20e-9
    expected = 2 * wall_excess(SALT, BARE, u, w) + d * concentrations(SALT, w)
    assert slit_content(SALT, BARE, d, u, w) == pytest.approx(expected, rel=1e-9)


def test_solutions_of_any_salt_potential_are_neutral_and_fit():
    for salt in (SALT, UNEQUAL):
        c = concentrations(salt, np.linspace(-0.3, 0.3, 50))
        z = np.array([ion.charge for ion in salt.ions])
        assert c @ z == pytest.approx(0, abs=1e-9 * c.max())
        assert np.all(c.sum(axis=1) * salt.ion_volume < 1)


def test_table_follows_the_contents():
    values, by_u, by_w = np.empty(2), np.empty(2), np.empty(2)
    grid, slit, *_ = tables(SALT, BARE, 1.5e-9, 1e-9, 0.0, 0.2)
    u, w = np.linspace(-0.05, 0.25, 38), np.linspace(-0.1, 0.05, 7)
    exact = np.log(slit_content(SALT, BARE, 1.5e-9, u, w))
    for i, x in enumerate(u):
        for k, y in enumerate(w):
            assert ion_kernel._patch(slit, grid, x, y, values, by_u, by_w)
            assert values == pytest.approx(exact[i, k], abs=2e-5)
    assert not ion_kernel._patch(slit, grid, 5.0, 0.0, values, by_u, by_w)


# -- integrator ------------------------------------------------------------------------------


def test_constant_of_the_kernel():
    assert pytest.approx(FARADAY, rel=1e-12) == ion_kernel._FARADAY


@pytest.mark.parametrize("salt", [SALT, UNEQUAL])
def test_a_long_hold_ends_in_equilibrium(salt):
    found = circuit(salt).simulate(PotentialSteps((0.15,), (1e-3,)))
    assert abs(found.electrode_current[-1]) < 1e-9 * found.electrode_current.max()
    assert found.slit_ion_potential[-1] == pytest.approx(0, abs=1e-7)
    expected = (
        5.5e-9
        * slit_content(salt, BARE, 1.5e-9, np.linspace(0, 0.15, 16), np.array([0.0]))[-1, 0]
    )
    assert found.slit_ion_content[-1] == pytest.approx(
        np.broadcast_to(expected, (4, 2)), rel=1e-4
    )


def test_charge_is_conserved():
    """What flows in is what slits and exterior hold."""
    c = circuit()
    found = c.simulate(CyclicVoltammetry(0.0, 0.2, 1e5, 1), tolerance=1e-6)
    (u, w), wall = grid_of(SALT, 0.0, 0.2), excess(SALT, BARE, 0.0, 0.2)
    from scipy.interpolate import RectBivariateSpline

    state = found.state[:, OPEN_BOXES - 1]
    ions = [RectBivariateSpline(u, w, wall[..., s]).ev(*state.T) for s in (0, 1)]
    held = found.slit_charge.sum(axis=1) + c.exterior * FARADAY * (ions[1] - ions[0])
    assert found.electrode_charge == pytest.approx(held, abs=2e-4 * held.max())


@pytest.mark.parametrize("salt", [SALT, UNEQUAL])
def test_slowest_decay_of_a_small_step(salt):
    """Against the eigenvalues of the linear chain, charge and salt together."""
    c = circuit(salt, n_slits=3)
    z = c.valence
    bulk = np.array([ion.concentration for ion in salt.ions])
    h = 1e-4
    u, w = np.linspace(-h, h, 3), np.linspace(-h, h, 3)
    held = slit_content(salt, BARE, c.slit_size, u, w)
    face = wall_excess(salt, BARE, u, w)

    def slopes(n):
        return np.stack([-(n[2, 1] - n[0, 1]), n[1, 2] - n[1, 0]], axis=1) / (2 * h)

    solution = concentrations(salt, w)
    dc = np.stack([np.zeros(2), (solution[2] - solution[0]) / (2 * h)], axis=1)
    gate = slit_content(salt, BARE, c.opening, u, w)[1, 1]
    model = c._model(0.0, h)
    size, (path, passage, access, mobility, _) = model[1], model[8]
    n = OPEN_BOXES + c.n_slits
    storage, flow = np.zeros((2 * n, 2 * n)), np.zeros((2 * n, 2 * n))
    for j in range(n):
        own = slice(2 * j, 2 * j + 2)
        block = c.length[:, None] * slopes(held) if j >= OPEN_BOXES else size[j][:, None] * dc
        if j == OPEN_BOXES - 1:
            block = block + c.exterior * slopes(face)
        storage[own, own] = FARADAY * z[:, None] * block  # unknowns: U and w
        resistance = (
            path[j] / (c.length * held[1, 1]) + passage[j] / gate + access[j] / bulk
        ) / mobility
        link = np.stack([np.ones(2), 1 / z], axis=1) / resistance[:, None]
        flow[own, own] += link
        if j:
            before = slice(2 * j - 2, 2 * j)
            flow[own, before] -= link
            flow[before, own] -= link
            flow[before, before] += link
    rates, modes = eig(flow, storage)
    charged = np.abs(modes[0::2]).max(axis=0) > 1e-3 * np.abs(modes).max(axis=0)
    slowest = rates[charged & np.isfinite(rates) & (np.abs(rates) < 1e13)].real.min()
    found = c.simulate(PotentialSteps((1e-4,), (8 / slowest,)), tolerance=1e-8)
    when = np.array([5, 7]) / slowest
    charge = np.interp(when, found.time, found.electrode_charge[-1] - found.electrode_charge)
    charge += found.electrode_current[-1] / slowest  # what the tail still brings
    assert np.log(charge[0] / charge[1]) / np.diff(when)[0] == pytest.approx(slowest, rel=0.01)


def test_error_falls_with_the_tolerance():
    scan = CyclicVoltammetry(0.0, 0.2, 1e6, 1)
    best = circuit().simulate(scan, tolerance=1e-7)
    errors = []
    for tolerance in (1e-3, 1e-4, 1e-5):
        found = circuit().simulate(scan, tolerance=tolerance)
        at = np.interp(found.time, best.time, best.electrode_current)
        errors.append(np.abs(found.electrode_current - at).max() / np.abs(at).max())
    assert errors[0] < 0.02
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]


def test_jump_inside_a_table_and_negative_potentials():
    times, volts = (0.0, 1e-7, 1e-7, 2e-7), (0.0, 0.05, -0.1, -0.1)
    found = circuit().simulate(PotentialTable(times, volts))
    assert found.applied_potential[-1] == -0.1
    assert found.slit_charge[-1, 0] < 0


def test_opposite_sign_mirrors_equal_ions():
    up = circuit().simulate(CyclicVoltammetry(0.0, 0.2, 1e5, 1))
    down = circuit().simulate(
        PotentialTable((0.0, 2e-6, 4e-6), (0.0, -0.2, 0.0)), tolerance=1e-4
    )
    found = np.interp(up.time, down.time, down.electrode_current)
    assert -found == pytest.approx(
        up.electrode_current, abs=2e-3 * np.abs(up.electrode_current).max()
    )


# -- refusals --------------------------------------------------------------------------------


def test_what_it_is_not_for():
    three = Electrolyte(
        (*UNEQUAL.ions[:1], Ion("Cl-", -1, 2e-9, 600.0), Ion("F-", -1, 1e-9, 400.0))
    )
    with pytest.raises(CircuitError, match="two ions"):
        circuit(three)
    with pytest.raises(CaseError, match="two"):
        slit_content(three, BARE, 1e-9, np.linspace(-1, 1, 3), np.array([0.0]))
    with pytest.raises(CircuitError, match="mouth"):
        circuit(mouth=0.0)
    with pytest.raises(CircuitError, match="access"):
        circuit(access=-1e-9)
    with pytest.raises(CircuitError, match="length"):
        circuit(length=5e-9)
    with pytest.raises(CircuitError, match="n_slits"):
        circuit(n_slits=0)


def test_a_bath_used_up_is_told():
    scan = CyclicVoltammetry(0.0, 1.0, 1e9, 1)
    with pytest.raises(ConvergenceError, match="used up"):
        circuit(n_slits=20).simulate(scan)
