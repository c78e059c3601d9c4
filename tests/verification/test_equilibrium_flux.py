"""Exact discrete equilibrium, and how a held network gets there."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import eigs

from nanoslit.electrolyte import Electrolyte
from nanoslit.mpnp.simulation import Simulation
from nanoslit.units import nm
from solver_cases import case, hold, network, three_ions


def edge_fluxes(simulation, u):
    """Return ion fluxes (n_ions, n_edges) and their natural size, area D max(c)/h."""
    e = simulation.equations
    local = simulation.cell.with_ghosts(u)
    comp = e.compose(local)
    c = np.maximum(comp.c[:, e.sub.k], comp.c[:, e.sub.l])
    d, _ = e.edge_diffusivity(comp)
    return e.ion_flux(local, comp), e.conductance * d * c


SALTS = {"hydrated": Electrolyte.symmetric(1000.0, ion_size=0.66 * nm),
         "three ions": three_ions(0.5 * nm)}


@pytest.mark.parametrize("salt", SALTS)
@pytest.mark.parametrize("volts", [0.1, 0.5, 1.0])
def test_no_flux_at_rest(volts, salt):
    with Simulation(case(network(2), hold(volts), electrolyte=SALTS[salt],
                         mesh="coarse")) as s:
        u = s.equilibrium(volts / s.scales.potential)
        flux, size = edge_fluxes(s, u)
    assert (np.abs(flux) <= 1e-12 * size).all()


def operators(simulation, u, shift_probe=1.0):
    """Return the steady Jacobian and the storage matrix at a state, ions and Poisson."""
    e = simulation.equations
    sub, b = e.sub, e.n_fields
    local = simulation.cell.with_ghosts(u)

    def matrix(shift):
        diagonal, to_l, to_k = e.jacobian(local, shift)
        rows = [np.arange(sub.n_owned)]
        columns, blocks = [np.arange(sub.n_owned)], [diagonal]
        inner = (sub.k < sub.n_owned) & (sub.l < sub.n_owned)
        rows += [sub.k[inner], sub.l[inner]]
        columns += [sub.l[inner], sub.k[inner]]
        blocks += [to_l[inner], to_k[inner]]
        r, c, x = (np.concatenate(a) for a in (rows, columns, blocks))
        i = (b * r[:, None, None] + np.arange(b)[None, :, None]) + np.zeros((1, 1, b), int)
        j = (b * c[:, None, None] + np.arange(b)[None, None, :]) + np.zeros((1, b, 1), int)
        n = b * sub.n_owned
        return sparse.csc_matrix((x.ravel(), (i.ravel(), j.ravel())), (n, n))

    steady = matrix(0.0)
    return steady, (matrix(shift_probe) - steady) / shift_probe


def slowest_rate(simulation, u):
    """Return the smallest decay rate of small deviations from a steady state."""
    steady, storage = operators(simulation, u)
    # steady w = rate storage w; largest 1/rate by inverse iteration
    lu = sparse.linalg.splu(steady)
    n = steady.shape[0]
    inverse = sparse.linalg.LinearOperator((n, n), lambda x: lu.solve(storage @ x))
    values = eigs(inverse, k=3, return_eigenvectors=False)
    slowest = values[np.argmax(values.real)]
    assert abs(slowest.imag) < 1e-8 * slowest.real
    return 1.0 / slowest.real


def test_held_network_decays_at_the_slowest_eigenvalue():
    volts = 0.2
    probe = case(network(2), hold(volts, 1e-9), mesh="coarse")
    with Simulation(probe) as s:
        rate = slowest_rate(s, s.equilibrium(volts / s.scales.potential)) / s.scales.time
    sizes, times = [], []

    def record(simulation):
        flux, size = edge_fluxes(simulation, simulation.history.states[0])
        sizes.append((np.abs(flux) / size).max())
        times.append(simulation.time)

    long = case(network(2), hold(volts, 32 / rate), mesh="coarse", tolerance=1e-6,
                max_step=0.25 / rate)
    with Simulation(long) as s:
        s.run(record)
    sizes, times = np.array(sizes), np.array(times)
    late = (times > 5 / rate) & (times < 16 / rate)
    slope = -np.polyfit(times[late], np.log(sizes[late]), 1)[0]
    assert slope == pytest.approx(rate, rel=2e-3)
    assert sizes[-1] < 1e-11  # twelve orders down: the tolerance of Newton's method
