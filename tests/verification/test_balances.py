"""Ions and current are balanced at every step, whatever the cell and the protocol."""

import numpy as np
import pytest

from nanoslit.mpnp.simulation import Simulation
from nanoslit.protocol import (
    CallablePotential,
    CyclicVoltammetry,
    PotentialSteps,
    PotentialTable,
)
from nanoslit.units import nm
from solver_cases import case, network, planar, three_ions

CV = CyclicVoltammetry(0.0, 0.2, 1e7, 2)
BIPOLAR = CyclicVoltammetry(-0.15, 0.25, 2e7, 1, start=0.0)
STEPS = PotentialSteps((0.2, -0.1, 0.0), (2e-9, 1e-9, 3e-9))
TABLE = PotentialTable((0.0, 1e-9, 1e-9, 4e-9), (0.05, 0.1, 0.25, 0.0))
SINE = CallablePotential(lambda t: 0.1 * np.sin(2 * np.pi * t / 2e-8), (0.0, 2e-8))

CASES = {
    "half": case(network(3), CV),
    "full": case(network(2), CV, cell="full"),
    "full, three ions, from charge": case(
        network(1), BIPOLAR, cell="full", electrolyte=three_ions()
    ),
    "aligned": case(network(2, arrangement="aligned"), BIPOLAR),
    "stern": case(network(2), STEPS, stern=0.3),
    "stern, full": case(network(1), TABLE, stern=0.3, cell="full"),
    "planar": planar(STEPS, 5 * nm),
    "planar, full": planar(SINE, 5 * nm, cell="full"),
    "three ions": case(network(2), CV, electrolyte=three_ions()),
    "point ions": case(network(2), TABLE, electrolyte=three_ions(0.0)),
    "steps, no stern": case(network(1), STEPS),
    "sine": case(network(1), SINE),
    "full, iterative": case(network(2), CV, cell="full", linear_solver="iterative"),
    # once, what its equilibrium left unsolved was current in a first step of 1e-12 s
    "point ions, iterative": case(
        network(2), TABLE, electrolyte=three_ions(0.0), linear_solver="iterative"
    ),
}


def largest_current(traces):
    return np.abs(traces["electrode_current"]).max()


@pytest.fixture(scope="module")
def runs():
    done = {}

    def run(name):
        if name not in done:
            with Simulation(CASES[name]) as s:
                done[name] = s.run()
        return done[name]

    return run


@pytest.mark.parametrize("name", CASES)
def test_current_is_the_same_on_every_cut(runs, name):
    t = runs(name)
    assert t["current_mismatch"].max() <= 1e-9 * largest_current(t)


@pytest.mark.parametrize("name", CASES)
def test_ions_are_conserved(runs, name):
    t = runs(name)
    assert t["ion_mismatch"].max() <= 1e-9 * largest_current(t)


@pytest.mark.parametrize("name", CASES)
def test_parts_add_up_and_charges_close(runs, name):
    t = runs(name)
    scale = np.abs(t["open_space_current"]).max()
    parts = sum(t[f"open_space_current_{p}"] for p in ("diffusion", "migration", "steric"))
    assert parts == pytest.approx(t["open_space_current"], rel=1e-9, abs=1e-9 * scale)
    charge = t["electrode_charge"]
    stored = t["exterior_charge"] + (
        t["slit_charge"].sum(axis=-1) if "slit_charge" in t else 0.0
    )
    if "full" in name:
        # the layers hold what the conductor holds but for the field across the mid-plane
        assert charge.sum(axis=1) == pytest.approx(
            np.zeros(charge.shape[0]), abs=1e-9 * np.abs(charge).max()
        )
        assert stored.sum(axis=1) == pytest.approx(
            np.zeros(charge.shape[0]), abs=1e-9 * np.abs(charge).max()
        )


def test_slit_charge_is_the_integral_of_its_currents(runs):
    """Region balance between two openings, rebuilt from traces by the trapezoidal rule."""
    with Simulation(
        case(network(3), CyclicVoltammetry(0.0, 0.2, 1e7, 1), tolerance=1e-4, max_step=2e-10)
    ) as s:
        t = s.run()
    inflow = np.concatenate([t["mouth_current"][:, None], t["opening_current"]], axis=1)
    # positive towards the reservoir: slit k gains stored charge when current leaves it
    net = inflow - np.concatenate([inflow[:, 1:], np.zeros((len(inflow), 1))], axis=1)
    dt = np.diff(t["time"])[:, None]
    gained = (0.5 * (net[1:] + net[:-1]) * dt).cumsum(axis=0)
    change = t["slit_charge"][1:] - t["slit_charge"][0]
    assert gained == pytest.approx(change, abs=3e-3 * np.abs(change).max())


def test_total_ions_of_a_closed_cell_never_change(runs):
    """Content of the whole cell over the run, not only its rate.

    What a step leaves unsolved is bounded relative to the current (_UNSOLVED), so what adds
    up is relative to the charge that was moved.
    """
    contents = []

    def record(s):
        stored = s.history.stored[0].sum(axis=0)
        contents.append(stored)

    with Simulation(CASES["full"]) as s:
        s.run(record)
        charge = s.charge_scale
    contents = np.array(contents)
    assert np.abs(contents - contents[0]).max() < 2e-11 * charge
