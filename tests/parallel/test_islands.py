import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nanoslit.discovery import checkpoint
from nanoslit.discovery.island import Laboratory
from nanoslit.discovery.islands import search
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.errors import ResultFileError

ROOT = Path(__file__).resolve().parents[2]
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


def laboratory(evaluations=6000, **more):
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 3, (120, 3))
    y = X[:, 0] * X[:, 1] / (1 + X[:, 2]) + 0.05 * rng.normal(size=120)
    settings = SearchSettings(
        evaluations=evaluations, islands=3, population=40, migration_interval=4, **more
    )
    return Laboratory(Problem(("a", "b", "c"), X, y), settings)


def lines(lab, result):
    return [lab.write(i) for i in result.front]


@pytest.mark.parametrize("topology", ["ring", "pairs"])
def test_a_restarted_run_equals_an_undisturbed_one(tmp_path, topology):
    lab = laboratory(topology=topology)
    whole = lines(lab, search(lab))
    search(lab, folder=tmp_path, checkpoint_generations=4)
    sets = sorted(tmp_path.glob("epoch-*"))
    assert len(sets) == 2
    # as if killed: the newest set torn in the middle of a file
    victim = sets[-1] / "island-0001.txt"
    victim.write_text(victim.read_text()[:500])
    assert checkpoint.newest(tmp_path, lab) == int(sets[0].name.split("-")[1])
    assert lines(lab, search(lab, folder=tmp_path, resume=True)) == whole


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    search(laboratory(1500), folder=tmp_path, checkpoint_generations=4)
    with pytest.raises(ResultFileError, match="other settings"):
        search(laboratory(1500, seed=9), folder=tmp_path, resume=True)


def write_table(path):
    rng = np.random.default_rng(1)
    a, b, c = rng.uniform(1, 3, (3, 150))
    y = a * np.exp(-b) / (1 + c) * (1 + 0.02 * rng.normal(size=150))
    rows = [f"{w!r},{x!r},{v!r},{z!r}" for w, x, v, z in zip(a, b, c, y, strict=True)]
    path.write_text(
        "\n".join(["a,b,c,y", *(r.replace("np.float64(", "").replace(")", "") for r in rows)])
    )
    return path


def command(table, law, *more, ranks=0):
    start = ["mpirun", "-n", str(ranks)] if ranks else []
    return [
        *start, sys.executable, "-m", "nanoslit", "discover", "--table", str(table),
        "--target", "y", "-o", str(law), "--population", "40", "--quiet", *map(str, more),
    ]  # fmt: skip


def run(words, **more):
    environment = {**os.environ, **MPI_ENVIRONMENT}
    return subprocess.run(
        words, capture_output=True, text=True, timeout=300, env=environment, check=False, **more
    )


@pytest.mark.mpi
def test_the_law_does_not_depend_on_the_number_of_ranks(tmp_path):
    table = write_table(tmp_path / "t.csv")
    texts = []
    for ranks in (0, 4):
        law = tmp_path / f"L{ranks}.json"
        done = run(command(table, law, "--evaluations", 6000, ranks=ranks))
        assert done.returncode == 0, done.stderr
        texts.append(law.read_text())
    assert texts[0] == texts[1]


def start_and_wait_for_checkpoint(words, law):
    child = subprocess.Popen(
        words, env={**os.environ, **MPI_ENVIRONMENT}, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    folder = law.with_name(law.name + ".checkpoint")
    limit = time.monotonic() + 240
    while not list(folder.glob("epoch-*/manifest.json")):
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < limit
        time.sleep(0.02)
    return child


@pytest.mark.mpi
def test_kill_9_and_restart_on_other_ranks_gives_the_same_law(tmp_path):
    table = write_table(tmp_path / "t.csv")
    size = ("--evaluations", 30_000, "--checkpoint-generations", 10)
    whole = tmp_path / "whole.json"
    assert run(command(table, whole, *size)).returncode == 0
    law = tmp_path / "killed.json"
    child = start_and_wait_for_checkpoint(command(table, law, *size, ranks=2), law)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    child.stderr.close()
    assert not law.exists()
    again = run(command(table, law, *size, "--resume", ranks=3))
    assert again.returncode == 0, again.stderr
    assert law.read_text() == whole.read_text()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_signal_writes_a_checkpoint_and_exits_85(tmp_path, number):
    table = write_table(tmp_path / "t.csv")
    size = ("--evaluations", 40_000, "--checkpoint-generations", 10)
    law = tmp_path / "L.json"
    child = start_and_wait_for_checkpoint(command(table, law, *size), law)
    child.send_signal(number)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 85, errors
    assert "--resume" in errors
    assert run(command(table, law, *size, "--resume")).returncode == 0
    assert law.exists()
