"""The same answers on any number of ranks; a failure of one rank ends them all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rank_cases import CASES, SMALL

HERE = Path(__file__).resolve().parent
pytestmark = [
    pytest.mark.mpi,
    pytest.mark.skipif(shutil.which("mpiexec") is None, reason="no mpiexec"),
]


def start(ranks, folder, *names, timeout=300):
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
def traces(tmp_path_factory):
    """Return a function that gives the traces of a case on some ranks."""
    folder, done = tmp_path_factory.mktemp("ranks"), set()

    def run(ranks, name):
        group = SMALL if name in SMALL else tuple(n for n in CASES if n not in SMALL)
        if (ranks, group) not in done:  # one launch for all cases: starting costs most
            child = start(ranks, folder, *group)
            assert child.returncode == 0, child.stdout + child.stderr
            done.add((ranks, group))
        return dict(np.load(folder / f"{name}-{ranks}.npz"))

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


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_ranks_agree_with_one(traces, name, ranks):
    """Three ranks are more than the slits of two of these cases."""
    compare(traces(1, name), traces(ranks, name))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("name", CASES)
def test_more_ranks_agree_with_one(traces, name, ranks):
    compare(traces(1, name), traces(ranks, name))


def test_failure_of_one_rank_ends_all_with_a_message(tmp_path):
    child = start(2, tmp_path, "breaking", timeout=120)
    assert child.returncode == 2
    for rank in (0, 1):
        assert f"rank {rank}: factor 'sqrt(-1)' cannot be evaluated here" in child.stdout
    assert not list(tmp_path.iterdir())
