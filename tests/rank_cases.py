"""Cases that are run on several ranks."""

from dataclasses import dataclass, replace

import numpy as np

from nanoslit.electrolyte import Electrolyte
from nanoslit.errors import CaseError
from nanoslit.protocol import CyclicVoltammetry, PotentialSteps
from solver_cases import case, network, planar, three_ions

CV = CyclicVoltammetry(0.0, 0.2, 2e7, 1)

CASES = {
    "one slit": case(network(1), PotentialSteps((0.1,), (3e-9,))),
    "full": case(network(1), CV, cell="full", electrolyte=three_ions(), stern=0.3),
    "half": case(network(3), CV),
    "iterative": case(network(2), CV, linear_solver="iterative"),
    "standard mesh": case(network(2), CV, mesh="standard"),
    "planar": planar(CV),
    "aligned": case(network(2, arrangement="aligned"), CV, tolerance=1e-4),
}


@dataclass(frozen=True)
class Breaking:
    """A diffusivity that becomes impossible to evaluate on one rank."""

    broken: bool

    def __call__(self, c):
        if self.broken and abs(c[0].max() / c[0].min() - 1) > 0.2:
            raise CaseError("factor 'sqrt(-1)' cannot be evaluated here")
        return np.ones(c.shape[1]), np.zeros_like(c)


def breaking_on_last_rank(comm):
    """Return a case that fails on the last rank alone, some steps into the run."""
    salt = Electrolyte.symmetric(1000.0)
    factor = Breaking(comm.rank == comm.size - 1)
    ions = tuple(replace(i, diffusivity_factor=factor) for i in salt.ions)
    return case(network(2), CV, electrolyte=replace(salt, ions=ions))
