"""Runs that are killed, stopped, starved of disk or damaged: real processes and signals.

Nothing half-written is taken for a result, a resumed run equals the undisturbed one, and
the message says what to do.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

import nanoslit
from nanoslit.casefile import case_from_toml
from nanoslit.errors import ResultFileError
from run_cases import (
    SMALL,
    finish,
    largest_difference,
    run,
    start,
    traces,
    wait_for,
)

RESUMED = 85
EVERY_STEP = ("--checkpoint-every", "0 s")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Run the small case without disturbance; return its folder."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "case.toml").write_text(SMALL)
    done = run(folder, "run", "case.toml", "-o", "r.h5")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in folder.glob("*checkpoint*")] == []
    return folder


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "case.toml").write_text(SMALL)
    return tmp_path


def beats(folder):
    """Whether the run has taken a step (its heartbeat says so)."""
    try:
        return json.loads((folder / "hb").read_text())["state"] == "running"
    except (OSError, ValueError):
        return False


def resume(folder, *more):
    done = run(folder, "run", "case.toml", "-o", "r.h5", "--resume", *more)
    assert done.returncode == 0, done.stderr
    assert not list(folder.glob("*checkpoint*"))
    return traces(folder / "r.h5")


@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGUSR1, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_signal_writes_a_checkpoint(folder, whole, number):
    process = start(folder, "run", "case.toml", "-o", "r.h5", "--heartbeat", "hb")
    wait_for(lambda: beats(folder), process)
    process.send_signal(number)
    code, errors = finish(process)
    assert code == RESUMED
    assert "--resume" in errors
    assert not (folder / "r.h5").exists()
    if number != signal.SIGTERM:
        return
    with pytest.raises(ResultFileError, match="--resume"):
        nanoslit.run(case_from_toml(SMALL), folder / "r.h5")
    other = case_from_toml(SMALL, overrides=["geometry.slit_size=2 nm"])
    with pytest.raises(ResultFileError, match="another case"):
        nanoslit.run(other, folder / "r.h5", resume=True)
    assert largest_difference(traces(whole / "r.h5"), resume(folder)) < 1e-10


def test_killed_process_resumes_from_the_older_slot_if_the_newer_is_torn(folder, whole):
    process = start(folder, "run", "case.toml", "-o", "r.h5", *EVERY_STEP)
    wait_for(lambda: (folder / "r.h5.checkpoint-1").exists(), process)
    time.sleep(0.5)
    process.kill()
    finish(process)
    assert not (folder / "r.h5").exists()
    slots = sorted(folder.glob("r.h5.checkpoint-?"), key=lambda p: p.stat().st_mtime)
    with slots[-1].open("r+b") as file:
        file.truncate(slots[-1].stat().st_size - 1000)
    done = run(folder, "run", "case.toml", "-o", "r.h5", "--resume")
    assert done.returncode == 0
    assert "is damaged and left out" in done.stderr
    assert largest_difference(traces(whole / "r.h5"), traces(folder / "r.h5")) < 1e-10
    assert not list(folder.glob(".*part*"))


@pytest.mark.slow
def test_no_good_checkpoint_is_an_error(folder):
    process = start(folder, "run", "case.toml", "-o", "r.h5", "--heartbeat", "hb")
    wait_for(lambda: beats(folder), process)
    process.send_signal(signal.SIGUSR1)
    assert finish(process)[0] == RESUMED
    slot = folder / "r.h5.checkpoint-0"
    data = bytearray(slot.read_bytes())
    data[len(data) // 2] ^= 4
    slot.write_bytes(data)
    done = run(folder, "run", "case.toml", "-o", "r.h5", "--resume")
    assert done.returncode == 1
    assert "--overwrite" in done.stderr
    assert run(folder, "run", "case.toml", "-o", "r.h5", "--overwrite").returncode == 0


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a disk of its own and a function that sets its size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(place)], capture_output=True).returncode

    if os.geteuid() or mount("-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        pytest.skip("mounting a small disk needs root and the right to mount")
    yield place, lambda size: mount("-o", f"remount,size={size}")
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize(
    "ranks", [1, pytest.param(2, marks=[pytest.mark.mpi, pytest.mark.slow])]
)
def test_full_disk(folder, whole, small_disk, ranks):
    disk, resize = small_disk
    words = ("run", "case.toml", "-o", disk / "r.h5", "--ranks", ranks)
    done = run(folder, *words, *EVERY_STEP)
    assert done.returncode == 1
    assert "warning: no checkpoint" in done.stderr
    assert "cannot be written" in done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (disk / "r.h5").exists()
    assert not list(disk.glob(".*"))
    resize("60m")
    assert run(folder, *words, "--resume").returncode == 0
    assert largest_difference(traces(whole / "r.h5"), traces(disk / "r.h5")) < 1e-8


# -- ranks ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.mpi
def test_killed_rank_ends_the_run_and_resumes_on_other_rank_counts(folder, whole):
    words = ("run", "case.toml", "-o", "r.h5", "--ranks", 2, "--heartbeat", "hb", *EVERY_STEP)
    process = start(folder, *words)
    wait_for(lambda: (folder / "r.h5.checkpoint-1").exists() and beats(folder), process)
    os.kill(json.loads((folder / "hb").read_text())["pid"], signal.SIGKILL)
    code, errors = finish(process)
    assert code == 1
    assert "SIGKILL" in errors
    assert "--resume" in errors
    assert not (folder / "r.h5").exists()
    saved = {p: p.read_bytes() for p in folder.glob("*checkpoint-?")}
    for ranks in (1, 3, 2):
        for path, data in saved.items():
            path.write_bytes(data)
        difference = largest_difference(
            traces(whole / "r.h5"), resume(folder, "--ranks", ranks)
        )
        assert difference < 1e-8, ranks
        (folder / "r.h5").unlink()


@pytest.mark.mpi
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_signal_to_the_whole_group_reaches_the_ranks_as_a_request(folder, number):
    process = start(
        folder,
        "run",
        "case.toml",
        "-o",
        "r.h5",
        "--ranks",
        2,
        "--heartbeat",
        "hb",
        new_group=True,
    )
    wait_for(lambda: beats(folder), process)
    os.killpg(process.pid, number)
    code, errors = finish(process)
    assert code == RESUMED, errors
    assert (folder / "r.h5.checkpoint-0").exists()


@pytest.mark.slow
@pytest.mark.mpi
def test_killed_launcher_leaves_no_rank(folder):
    process = start(
        folder,
        "run",
        "case.toml",
        "--set",
        "protocol.cycles=500",
        "-o",
        "r.h5",
        "--ranks",
        2,
        "--heartbeat",
        "hb",
    )
    wait_for(lambda: beats(folder), process)
    rank = json.loads((folder / "hb").read_text())["pid"]
    process.kill()
    finish(process)
    wait_for(lambda: not Path(f"/proc/{rank}").exists(), seconds=30)
    assert not (folder / "r.h5").exists()


@pytest.mark.slow
@pytest.mark.mpi
def test_bare_mpirun_stops_on_usr1(folder):
    process = start(
        folder,
        "run",
        "case.toml",
        "-o",
        "r.h5",
        "--heartbeat",
        "hb",
        prefix=("mpirun", "-n", "2"),
    )
    wait_for(lambda: beats(folder), process)
    process.send_signal(signal.SIGUSR1)
    assert finish(process)[0] == RESUMED
    assert (folder / "r.h5.checkpoint-0").exists()


def children(number):
    """Return a process and all that descend from it."""
    lists = Path(f"/proc/{number}/task").glob("*/children")
    below = [int(word) for listed in lists for word in listed.read_text().split()]
    return [number, *(n for child in below for n in children(child))]


@pytest.mark.slow
@pytest.mark.mpi
def test_all_ranks_killed(folder, whole):
    process = start(
        folder, "run", "case.toml", "-o", "r.h5", "--ranks", 2, *EVERY_STEP, "--heartbeat", "hb"
    )
    wait_for(lambda: (folder / "r.h5.checkpoint-0").exists(), process)
    ours = [number for number in children(process.pid) if number != process.pid]
    assert len(ours) >= 3
    for number in ours:
        os.kill(number, signal.SIGKILL)
    finish(process)
    assert not (folder / "r.h5").exists()
    assert largest_difference(traces(whole / "r.h5"), resume(folder)) < 1e-8
