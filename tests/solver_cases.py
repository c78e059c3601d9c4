"""Cases and short cuts that the tests of the field solver share."""

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, eigs, splu

from nanoslit.case import Case, Electrode, MeshSpacing, Numerics
from nanoslit.electrolyte import Electrolyte, Ion
from nanoslit.geometry import NanoslitNetwork, Planar
from nanoslit.mobility import ExpressionFactor
from nanoslit.mpnp.simulation import Simulation
from nanoslit.protocol import CyclicVoltammetry, PotentialSteps
from nanoslit.units import nm

COARSE = MeshSpacing(0.6, 1.0, 20.0)


def hold(potential, duration=1e-9):
    """Return a step from rest that is held."""
    return PotentialSteps((potential,), (duration,))


def network(sheets=2, **changes):
    """Return a small stack."""
    values = {
        "slit_size": 1.5 * nm,
        "sheet_length": 5 * nm,
        "opening": 1 * nm,
        "sheets": sheets,
        "reservoir": 3 * nm,
    } | changes
    return NanoslitNetwork(**values)


def case(
    geometry=None,
    protocol=None,
    *,
    electrolyte=None,
    stern=None,
    cell="half",
    mesh=COARSE,
    tolerance=2e-3,
    **numerics,
):
    """Return a case: 1 M salt, small network, one fast cycle, very coarse mesh."""
    return Case(
        "test",
        electrolyte or Electrolyte.symmetric(1000.0),
        geometry or network(),
        protocol or CyclicVoltammetry(0.0, 0.2, 1e7, 1),
        electrode=Electrode(stern),
        cell=cell,
        numerics=Numerics(mesh=mesh, tolerance=tolerance, **numerics),
    )


def planar(protocol, reservoir=10 * nm, **changes):
    """Return a case with a flat wall."""
    return case(Planar(reservoir), protocol, **changes)


def three_ions(size=0.35 * nm):
    """Return a 2:1:1 mixture with unequal and composition-dependent diffusivities."""
    slow = ExpressionFactor("exp(-0.1*c_total)*(1 + 0.05*c1)", 3)
    return Electrolyte(
        (
            Ion("Ca2+", 2, 0.8e-9, 300.0, slow),
            Ion("K+", 1, 2.0e-9, 400.0),
            Ion("Cl-", -1, 2.1e-9, 1000.0, ExpressionFactor("1/(1 + 0.2*c_total)", 3)),
        ),
        ion_size=size,
    )


def equilibrium_charge(simulation, potential):
    """Return the total wall charge at rest [C/m] at a potential [V]."""
    v = potential / simulation.scales.potential
    u = simulation.equilibrium(v)
    charge = simulation.equations.wall_charge(simulation.cell.with_ghosts(u), v)
    return float(charge.sum()) * simulation.scales.charge


def run(a_case, on_step=None):
    """Run a case alone and return its traces and the simulation's grid."""
    with Simulation(a_case) as simulation:
        return simulation.run(on_step)


def random_state(equations, rng, amplitude=1.0):
    """Return a local state (n_local + 1, fields), zero at the reservoir."""
    u = amplitude * rng.standard_normal((equations.sub.n_local + 1, equations.n_fields))
    u[-1] = 0.0
    return np.asarray(u)


def _matrix(equations, u, shift):
    """Return the Jacobian of a cell on one rank as a sparse matrix."""
    pattern, n = equations.sub.pattern, equations.n_fields * equations.sub.n_owned
    blocks = equations.jacobian(u, shift).copy()
    return sparse.bsr_matrix((blocks, pattern.columns, pattern.start), (n, n)).tocsc()


def decay_rates(simulation, u, count=3):
    """Return the smallest rates [1/s] of deviations from rest, and their modes.

    Eigenvalues of steady Jacobian against storage matrix, by inverse iteration; modes
    have the shape (count, nodes, fields).
    """
    local = simulation.cell.with_ghosts(u)
    steady = _matrix(simulation.equations, local, 0.0)
    storage = _matrix(simulation.equations, local, 1.0) - steady
    lu, n = splu(steady), steady.shape[0]
    # from a fixed start: the default is random
    values, vectors = eigs(
        LinearOperator((n, n), lambda x: lu.solve(storage @ x)),
        k=count,
        v0=np.sin(np.arange(n) + 1.0),
        tol=1e-12,
    )
    order = np.argsort(-values.real)
    assert np.abs(values.imag).max() < 1e-6 * values.real.max()
    modes = vectors.real.T[order].reshape(count, -1, simulation.equations.n_fields)
    return 1.0 / values.real[order] / simulation.scales.time, modes
