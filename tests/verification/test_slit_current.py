"""How a slit's current splits, against the closed forms of transverse equilibrium."""

import pytest

import closed_forms as exact
from nanoslit.mpnp.simulation import Simulation
from nanoslit.protocol import CyclicVoltammetry
from nanoslit.units import nm
from solver_cases import case, network

PARTS = ("diffusion", "migration", "steric")


def shares(slit, *, mesh="standard", length=60.0, volts=1e-3, **changes):
    """Shares of diffusion, migration, steric in a long slit while it charges slowly.

    One sheet: a slit from the opening to the symmetry line. The sweep lasts some times
    the slit's own time constant, many times the relaxation across it.
    """
    g = network(
        1,
        slit_size=slit * nm,
        sheet_length=length * slit * nm,
        opening=2 * slit * nm,
        reservoir=2 * nm,
    )
    path = g.height / 0.304e-9
    sweep = 0.5 * path**2 * 0.304e-9**2 / 2e-9 * 0.3 / (slit * 0.5)
    c = case(
        g, CyclicVoltammetry(0.0, volts, volts / sweep, 1), mesh=mesh, tolerance=1e-3, **changes
    )
    with Simulation(c) as s:
        while s.segment == 0 or not s.history.times:
            s.advance() if s.history.times else s.start()
        traces = s.traces()
    total = traces["slit_current"][-1, 0]
    return [traces[f"slit_current_{p}"][-1, 0] / total for p in PARTS], total


@pytest.mark.parametrize("slit", [0.8, 1.5, 2.0, 5.0])
def test_diffusive_share_of_small_potentials(slit):
    (diffusion, migration, steric), _ = shares(slit)
    width = slit * nm / exact.debye_length(1000.0)
    assert diffusion == pytest.approx(exact.diffusive_share(width), rel=0.01)
    assert migration == pytest.approx(1 - exact.diffusive_share(width), rel=0.01)
    assert abs(steric) < 0.01


@pytest.mark.parametrize(("slit", "share"), [(1.5, 0.3998), (2.0, 0.303), (5.0, 0.122)])
def test_closed_form_of_the_share(slit, share):
    assert exact.diffusive_share(slit * nm / exact.debye_length(1000.0)) == pytest.approx(
        share, abs=2e-3
    )
