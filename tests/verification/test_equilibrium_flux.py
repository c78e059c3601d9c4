"""Exact discrete equilibrium, and how a held network gets there."""

import numpy as np
import pytest

from nanoslit.electrolyte import Electrolyte
from nanoslit.mpnp.simulation import Simulation
from nanoslit.units import nm
from solver_cases import case, decay_rates, hold, network, three_ions


def edge_fluxes(simulation, u):
    """Return ion fluxes (n_ions, n_edges) and their natural size, area D max(c)/h."""
    e = simulation.equations
    local = simulation.cell.with_ghosts(u)
    comp = e.compose(local)
    c = np.maximum(comp.c[:, e.sub.k], comp.c[:, e.sub.l])
    d = e.node_diffusivity(comp.c.T)[0].T
    d = 0.5 * (d[:, e.sub.k] + d[:, e.sub.l])
    return e.ion_flux(local).T, e.conductance * d * c


SALTS = {
    "hydrated": Electrolyte.symmetric(1000.0, ion_size=0.66 * nm),
    "three ions": three_ions(0.5 * nm),
}


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("volts", [0.1, 0.5, 1.0])
def test_no_flux_at_rest(volts, salt):
    with Simulation(case(network(2), hold(volts), electrolyte=SALTS[salt], mesh="coarse")) as s:
        u = s.equilibrium(volts / s.scales.potential)
        flux, size = edge_fluxes(s, u)
    assert (np.abs(flux) <= 1e-12 * size).all()


def test_held_network_decays_at_the_slowest_eigenvalue():
    volts = 0.2
    probe = case(network(2), hold(volts, 1e-9), mesh="coarse")
    with Simulation(probe) as s:
        rates, _ = decay_rates(s, s.equilibrium(volts / s.scales.potential))
    rate = rates[0]
    sizes, times = [], []

    def record(simulation):
        flux, size = edge_fluxes(simulation, simulation.history.states[0])
        sizes.append((np.abs(flux) / size).max())
        times.append(simulation.time)

    long = case(
        network(2), hold(volts, 32 / rate), mesh="coarse", tolerance=1e-6, max_step=0.25 / rate
    )
    with Simulation(long) as s:
        s.run(record)
    sizes, times = np.array(sizes), np.array(times)
    # one mode is left, and still large enough for the step control to follow it
    late = (times > 5 / rate) & (times < 10 / rate)
    slope = -np.polyfit(times[late], np.log(sizes[late]), 1)[0]
    assert slope == pytest.approx(rate, rel=1e-3)
    assert sizes[-1] < 1e-11  # twelve orders down: the tolerance of Newton's method
