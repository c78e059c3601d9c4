"""The robustness ladder and the mesh study, run as the programs that they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def program(*arguments, timeout=280):
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


@pytest.mark.parametrize("solver", ["direct", "iterative"])
def test_a_few_rungs_of_the_ladder(solver):
    done = program("analysis.robustness", "--quick", "--solver", solver)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 silent wrong answers" in done.stdout


def test_point_ions_do_not_make_it_crawl():
    """Rounding of their huge concentrations once cut the step at nearly every point."""
    done = program("analysis.robustness", "--rungs", "point ions, 0.3 V", "1.0 V")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["direct", "iterative"])
def test_the_whole_ladder(solver):
    done = program("analysis.robustness", "--solver", solver)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_presets_keep_their_promises(tmp_path):
    done = program(
        "analysis.mesh_study", "--cases", "d0.8_a0.4_0.2V", "--json", tmp_path / "errors.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    errors = json.loads((tmp_path / "errors.json").read_text())["d0.8_a0.4_0.2V"]
    for quantity in ("R_c", "gamma", "CV area"):
        assert errors["fine"][quantity] <= errors["standard"][quantity] < 0.01
