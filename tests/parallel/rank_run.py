"""Run cases of rank_cases on all ranks; rank 0 writes traces. Usage: FOLDER CASE..."""

import sys
from pathlib import Path

import numpy as np
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from nanoslit.errors import NanoslitError
from nanoslit.mpnp.simulation import simulate
from rank_cases import CASES, breaking_on_last_rank


def main(folder, *names):
    comm = MPI.COMM_WORLD
    for name in names:
        case = CASES[name] if name in CASES else breaking_on_last_rank(comm)
        try:
            traces = simulate(case, comm)
        except NanoslitError as error:
            # every rank says so: none may wait for the others in a collective call
            words = comm.gather(f"rank {comm.rank}: {error}")
            if comm.rank == 0:
                (Path(folder) / f"{name}-{comm.size}.txt").write_text("\n".join(words))
            return error.exit_code
        if comm.rank == 0:
            np.savez(Path(folder) / f"{name}-{comm.size}.npz", **traces.values)
    return 0


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)
    sys.exit(code)
