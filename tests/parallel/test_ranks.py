"""The same answers on any number of ranks; a failure of one rank ends them all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nanoslit.mpnp.simulation import simulate
from rank_cases import CASES

HERE = Path(__file__).resolve().parent
pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(shutil.which("mpiexec") is None, reason="no mpiexec"),
]


def start(ranks, folder, *names, timeout=1200):
    """Run cases in child processes."""
    environment = {
        **os.environ,
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    return subprocess.run(
        [
            "mpiexec",
            "-n",
            str(ranks),
            sys.executable,
            str(HERE / "rank_run.py"),
            str(folder),
            *names,
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture(scope="module")
def launch(tmp_path_factory):
    """Return a function that runs everything on some ranks, in one launch for them all.

    One rank is this process itself: starting costs more than all the cases.
    """
    folder, done = tmp_path_factory.mktemp("ranks"), {}

    def run(ranks):
        if ranks not in done:
            if ranks == 1:
                for name in CASES:
                    np.savez(folder / f"{name}-1.npz", **simulate(CASES[name]).values)
                done[ranks] = None
            else:
                done[ranks] = start(ranks, folder, *CASES, "breaking")
        return folder, done[ranks]

    return run


NUMERICAL = {"newton_iterations", "current_mismatch", "ion_mismatch"}  # not physics


def compare(one, many):
    assert one.keys() == many.keys()
    assert np.array_equal(one["order"], many["order"])
    for name in one.keys() - NUMERICAL:
        family = name  # parts that cancel are compared on the scale of their sum
        for ending in ("_excess", "_diffusion", "_migration", "_steric"):
            family = family.replace(ending, "")
        scale = max(np.abs(one[n]).max(initial=0.0) for n in (name, family))
        assert np.abs(many[name] - one[name]).max(initial=0.0) <= 1e-8 * scale, name


RANKS = [2, 3, pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", CASES)
def test_ranks_agree_with_one(launch, name, ranks):
    """Two, three and four ranks are more than the slits of the smallest case."""
    launch(1)
    folder, child = launch(ranks)
    path = folder / f"{name}-{ranks}.npz"
    assert path.exists(), child.stdout + child.stderr
    compare(dict(np.load(folder / f"{name}-1.npz")), dict(np.load(path)))


@pytest.mark.parametrize("ranks", RANKS)
def test_failure_of_one_rank_ends_all_with_a_message(launch, ranks):
    """The last rank alone fails; each of them ends with the message and the exit code."""
    folder, child = launch(ranks)
    assert child.returncode == 2, child.stdout + child.stderr
    words = (folder / f"breaking-{ranks}.txt").read_text().splitlines()
    said = "factor 'sqrt(-1)' cannot be evaluated here"
    assert len(words) == ranks
    assert all(said in line for line in words)
    assert not (folder / f"breaking-{ranks}.npz").exists()
