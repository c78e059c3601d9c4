"""A simulation that goes on from a saved state is the one that was saved."""

import numpy as np
import pytest

from nanoslit.mpnp.simulation import Simulation
from nanoslit.protocol import CyclicVoltammetry
from solver_cases import case, network


@pytest.mark.parametrize("solver", ["direct", "iterative"])
def test_resumed_run_is_the_same_to_the_last_bit(solver):
    """Also the kept factorisation is made anew, so that every iteration is the same."""
    c = case(network(1), CyclicVoltammetry(0.0, 0.2, 1e7, 1), linear_solver=solver)
    with Simulation(c) as run:
        run.start()
        for _ in range(23):
            run.advance()
        saved = run.state()
        kept_for_long = run.solver_cost.factorisations < run.cost.accepted
        whole = run.run()
    with Simulation(c) as run:
        run.restore(saved)
        resumed = run.run()
    assert kept_for_long
    assert whole["time"].size > 30
    for name in whole.values:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)
