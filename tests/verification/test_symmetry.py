"""Symmetries that the equations have and the results must keep."""

import numpy as np
import pytest

from nanoslit.electrolyte import Electrolyte
from nanoslit.mpnp.simulation import Simulation
from nanoslit.protocol import PotentialTable
from solver_cases import case, network

ODD = (
    "electrode_charge",
    "electrode_current",
    "slit_charge",
    "slit_potential",
    "trans_slit_voltage",
    "opening_current",
    "opening_current_migration",
    "opening_current_diffusion",
    "opening_current_steric",
    "slit_current",
    "exterior_charge",
    "mouth_voltage",
    "open_space_potential",
)


def triangle(volts):
    return PotentialTable((0.0, 1e-8, 2e-8), (0.0, volts, 0.0))


@pytest.mark.parametrize("stern", [None, 0.3])
def test_reversed_potential_swaps_equal_ions(stern):
    up, down = ({}, {})
    for sign, out in ((1, up), (-1, down)):
        with Simulation(case(network(2), triangle(sign * 0.25), stern=stern)) as s:
            out.update(s.run().values)
    assert up["time"] == pytest.approx(down["time"], rel=1e-6)  # steps follow rounding
    for name in ODD:
        scale = np.abs(up[name]).max()
        assert np.abs(up[name] + down[name]).max() <= 1e-6 * scale, name
    content = up["slit_ion_content"]
    assert down["slit_ion_content"] == pytest.approx(content[..., ::-1], rel=1e-7)


def test_unequal_ions_break_the_symmetry():
    """The check above is not blind: a slower cation charges differently."""
    salt = Electrolyte.symmetric(1000.0)
    ions = (salt.ions[0], type(salt.ions[1])("Cl-", -1, 1e-9, 1000.0))
    charges = []
    for sign in (1, -1):
        c = case(network(2), triangle(sign * 0.25), electrolyte=Electrolyte(ions))
        with Simulation(c) as s:
            charges.append(s.run()["electrode_charge"].min() * sign)
    assert charges[0] != pytest.approx(charges[1], rel=1e-3)


def test_electrodes_of_a_symmetric_full_cell_mirror_each_other():
    with Simulation(case(network(2), triangle(0.4), cell="full")) as s:
        t = s.run()
    for name in ODD:
        scale = np.abs(t[name]).max()
        assert np.abs(t[name][:, 0] + t[name][:, 1]).max() <= 1e-8 * scale, name
    assert t["slit_ion_content"][:, 0] == pytest.approx(
        t["slit_ion_content"][:, 1, :, ::-1], rel=1e-8
    )


def test_half_of_a_small_signal_full_cell_is_a_half_cell():
    """Odd symmetry keeps the bulk at the mid-plane when the salt does not move."""
    v = 1e-4
    with Simulation(case(network(2), triangle(2 * v), cell="full")) as s:
        full = s.run()
    with Simulation(case(network(2), triangle(v))) as s:
        half = s.run()
    top = [
        np.interp(1e-8, r["time"], q)
        for r, q in ((full, full["electrode_charge"][:, 0]), (half, half["electrode_charge"]))
    ]
    assert top[0] == pytest.approx(top[1], rel=2e-3)
