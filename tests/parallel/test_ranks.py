"""The same answers on any number of ranks; a failure of one rank ends them all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rank_cases import CASES

HERE = Path(__file__).resolve().parent
pytestmark = [pytest.mark.mpi, pytest.mark.skipif(
    shutil.which("mpiexec") is None, reason="no mpiexec")]


def start(ranks, name, output, timeout=180):
    """Run the case in child processes."""
    environment = {
        **os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(HERE.parents[1]),
    }
    return subprocess.run(
        ["mpiexec", "-n", str(ranks), sys.executable, str(HERE / "rank_run.py"), name,
         str(output)], env=environment, capture_output=True, text=True, timeout=timeout)


def traces(ranks, name, folder):
    output = folder / f"{name}-{ranks}.npz"
    done = start(ranks, name, output)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(np.load(output))


EXACT = {"newton_iterations", "current_mismatch", "ion_mismatch"}  # not physics


def compare(one, many):
    assert one.keys() == many.keys()
    assert np.array_equal(one["order"], many["order"])
    for name in one.keys() - EXACT:
        scale = np.abs(one[name]).max(initial=0.0)
        family = name
        for part in ("_diffusion", "_migration", "_steric"):
            family = family.replace(part, "")
        # parts that cancel are compared on the scale of their family
        scale = max(scale, np.abs(one[family]).max(initial=0.0))
        assert np.abs(many[name] - one[name]).max(initial=0.0) <= 1e-8 * scale, name


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_agree_with_one(name, tmp_path):
    compare(traces(1, name, tmp_path), traces(2, name, tmp_path))


@pytest.mark.parametrize("name", ["half", "full"])
def test_three_ranks_agree_with_one(name, tmp_path):
    compare(traces(1, name, tmp_path), traces(3, name, tmp_path))


def test_more_ranks_than_slits(tmp_path):
    compare(traces(1, "one slit", tmp_path), traces(4, "one slit", tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_four_ranks_agree_with_one(name, tmp_path):
    compare(traces(1, name, tmp_path), traces(4, name, tmp_path))


def test_failure_of_one_rank_ends_all_with_a_message(tmp_path):
    done = start(3, "breaking", tmp_path / "none.npz", timeout=60)
    assert done.returncode not in (0, None)
    assert "cannot be evaluated here" in done.stdout + done.stderr
    assert not (tmp_path / "none.npz").exists()
