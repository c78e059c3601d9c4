"""Run one of the cases of test_ranks on all ranks; rank 0 writes the traces.

Usage: rank_run.py CASE OUTPUT
"""

import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rank_cases import CASES, breaking_on_last_rank

from nanoslit.errors import NanoslitError
from nanoslit.mpnp.simulation import simulate


def main(name, output):
    comm = MPI.COMM_WORLD
    case = CASES[name] if name in CASES else breaking_on_last_rank(comm)
    try:
        traces = simulate(case, comm)
    except NanoslitError as error:
        # each rank says so: none may hang in a collective call
        print(f"rank {comm.rank}: {error}", flush=True)
        return error.exit_code
    if comm.rank == 0:
        np.savez(output, **traces.values)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
