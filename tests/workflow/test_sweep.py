"""Sweeps with real Dask workers and real solves: done once, resumed, shared, collected."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from sweep_plans import sweep_plan

SLITS = (1, 1.5, 2, 3)


def environment():
    return {
        **os.environ,
        "COLUMNS": "200",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }


class Sweep:
    """A sweep's folder and the commands on it, each a child process."""

    def __init__(self, folder: Path):
        self.folder, self.dir = folder, folder / "dir"
        self.children = []

    def plan(self, text, name="plan.toml"):
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *words, **settings):
        child = subprocess.Popen(
            [sys.executable, "-m", "nanoslit", "sweep", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            **settings,
        )
        self.children.append(child)
        return child

    def end(self):
        """End what a failed test left behind."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.communicate()

    def do(self, *words, code=0):
        child = self.start(*words)
        out, err = child.communicate(timeout=240)
        assert child.returncode == code, f"{words}: {child.returncode}\n{out}\n{err}"
        return out + err

    def run(self, plan, *words, code=0):
        return self.do("run", plan, "-o", self.dir, *words, code=code)

    def status(self):
        return json.loads(self.do("status", self.dir, "--json"))

    def done(self):
        return sorted(self.dir.glob("pts/*/*/result.h5"))

    def wait(self, condition, timeout=90.0):
        end = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)
        return found

    def data(self):
        """Return every array of the collected data set but the provenance."""
        self.do("collect", self.dir)
        out = {}
        with h5py.File(self.dir / "collected" / "sweep.h5") as file:
            for name, item in file.items():
                if isinstance(item, h5py.Dataset):
                    out[name] = item[()]
        return out

    def solvers(self):
        """Return the solver processes that work below this folder."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline()
                if "serve" in words and "nanoslit" in words and "-m" in words:
                    parents = [" ".join(p.cmdline()) for p in process.parents()]
                    if any(str(self.dir) in text for text in parents):
                        found.append(process)
            except psutil.Error:
                continue
        return found


def long_plan(slits):
    """Return a plan whose points take some seconds."""
    text = sweep_plan(slits).replace('mesh = "coarse"', 'mesh = "standard"')
    return text.replace("sheets = 1", "sheets = 12")


def assert_equal(a, b, tolerance=0.0):
    """Compare data sets; with a tolerance relative to the largest value of each array."""
    assert a.keys() == b.keys()
    for name in a:
        if not tolerance:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        elif not name.startswith("sign") and a[name].size:
            scale = 1.0 if "mismatch" in name else np.nanmax(np.abs(b[name]), initial=0.0)
            np.testing.assert_allclose(
                a[name], b[name], rtol=0, atol=tolerance * scale, err_msg=name
            )


@pytest.fixture
def sweep(tmp_path):
    made = Sweep(tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Return the data of an undisturbed sweep."""
    sweep = Sweep(tmp_path_factory.mktemp("reference"))
    sweep.run(sweep.plan(sweep_plan(SLITS)))
    return sweep, sweep.data()


def code_of(child, timeout):
    """Wait for a command and return its exit code."""
    child.communicate(timeout=timeout)
    return child.returncode


def gone(processes):
    return not psutil.wait_procs(processes, timeout=20)[1]


def test_all_points_once_then_widened(reference):
    sweep, data = reference
    facts = sweep.status()
    assert facts["done"] == facts["total"] == len(SLITS)
    assert data["capacitance"].shape == (len(SLITS),)
    assert np.isfinite(data["capacitance"]).all()
    assert data["cv_current"].shape == (len(SLITS), 201)
    before = {path: path.stat().st_mtime_ns for path in sweep.done()}
    assert "4 done" in sweep.run(sweep.folder / "plan.toml")
    wider = sweep.plan(sweep_plan((*SLITS, 4)), "wider.toml")
    assert "done 4, new 1, failed 0" in sweep.do("plan", wider, "-o", sweep.dir)
    sweep.run(wider)
    after = {path: path.stat().st_mtime_ns for path in sweep.done()}
    assert len(after) == len(SLITS) + 1
    assert before.items() <= after.items()


def test_open_sweep_is_lazy_and_has_units(reference):
    pytest.importorskip("h5netcdf")
    import nanoslit

    sweep, data = reference
    with nanoslit.open_sweep(sweep.dir) as dataset:
        assert dataset["slit_size"].attrs["units"] == "m"
        chosen = dataset["capacitance"].sel(slit_size=[float(f"{s}e-9") for s in SLITS])
        np.testing.assert_array_equal(chosen, data["capacitance"])


def test_report_is_one_page_without_links(reference):
    sweep, _ = reference
    sweep.do("report", sweep.dir)
    page = (sweep.dir / "report.html").read_text()
    assert "Voltammograms" in page
    assert "http" not in page


def test_corrupt_result_is_found_and_computed_again(reference):
    sweep, data = reference
    sweep.run(sweep.folder / "plan.toml")
    victim = sweep.done()[1]
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 4
    victim.write_bytes(raw)
    assert "sha256 differs" in sweep.do("verify", sweep.dir, code=1)
    sweep.do("resume", sweep.dir)
    assert "results are good" in sweep.do("verify", sweep.dir)
    assert_equal(sweep.data(), data)


@pytest.mark.slow
def test_catalogue_is_rebuilt_from_the_files(reference):
    sweep, data = reference
    sweep.run(sweep.folder / "plan.toml")
    before = sorted((p, p.stat().st_mtime_ns) for p in sweep.done())
    for path in sweep.dir.glob("catalogue.sqlite*"):
        path.unlink()
    sweep.done()[0].with_name("done.json").unlink()
    sweep.do("resume", sweep.dir, "--plan", "tiny")
    assert sorted((p, p.stat().st_mtime_ns) for p in sweep.done()) == before
    sweep.run(sweep.folder / "plan.toml")
    assert_equal(sweep.data(), data)


@pytest.mark.parametrize(
    "victim",
    ["service", *(pytest.param(v, marks=pytest.mark.slow) for v in ("worker", "solver"))],
)
def test_killed_process_loses_nothing(sweep, reference, victim):
    child = sweep.start("run", sweep.plan(sweep_plan(SLITS)), "-o", sweep.dir)
    sweep.wait(lambda: len(sweep.done()) >= 1)
    solvers = sweep.solvers()
    assert solvers
    if victim == "service":
        child.kill()
    elif victim == "worker":
        solvers[0].parent().kill()
    else:
        solvers[0].kill()
    out, err = child.communicate(timeout=200)
    if victim == "service":
        assert gone(solvers), "a solver outlived its service"
        assert sum(sweep.status()[s] for s in ("done", "planned", "checkpointed")) == 4
        sweep.do("resume", sweep.dir)
    else:
        assert child.returncode == 0, out + err
    assert sweep.status()["done"] == len(SLITS)
    # a solver that was asked to end by its parent's death left a checkpoint
    assert_equal(sweep.data(), reference[1], tolerance=1e-10)
    assert not sweep.solvers()


def test_second_service_is_told_who_owns_the_folder(sweep):
    plan = sweep.plan(long_plan(SLITS))
    child = sweep.start("run", plan, "-o", sweep.dir)
    sweep.wait(lambda: (sweep.dir / "owner.json").exists())
    told = sweep.run(plan, code=2)
    assert f"process {child.pid} on {os.uname().nodename}" in told
    child.send_signal(signal.SIGINT)
    assert code_of(child, 120) == 85
    assert sweep.status()["owner"] is None


@pytest.mark.slow
def test_ctrl_c_checkpoints_and_resume_goes_on(sweep):
    fine = long_plan((1, 2))
    child = sweep.start("run", sweep.plan(fine), "-o", sweep.dir)
    sweep.wait(
        lambda: any(
            json.loads(p.read_text()).get("step", 0) > 20
            for p in sweep.dir.glob("run/beat-*.json")
        )
    )
    child.send_signal(signal.SIGINT)
    assert code_of(child, 120) == 85
    facts = sweep.status()
    assert facts["checkpointed"] >= 1
    assert facts["checkpointed"] + facts["planned"] + facts["done"] == 2
    sweep.do("resume", sweep.dir)
    records = [json.loads(p.read_text()) for p in sweep.dir.glob("pts/*/*/done.json")]
    assert any(r["resumed"] for r in records)
    other = Sweep(sweep.folder / "other")
    other.folder.mkdir()
    other.run(other.plan(fine))
    assert_equal(sweep.data(), other.data(), tolerance=1e-10)


@pytest.mark.slow
def test_cancel_and_retry(sweep):
    child = sweep.start("run", sweep.plan(long_plan(SLITS)), "-o", sweep.dir)
    sweep.wait(lambda: sweep.solvers())
    sweep.do("cancel", sweep.dir)
    assert code_of(child, 60) == 85
    facts = sweep.status()
    assert facts["done"] + facts["cancelled"] == len(SLITS)
    sweep.do("retry", sweep.dir)
    assert sweep.status()["done"] == len(SLITS)


def test_bad_plan_starts_nothing(sweep):
    text = sweep_plan((1, 2)).replace("sheets = 1", "sheets = 0")
    assert "sheets" in sweep.run(sweep.plan(text), code=2)
    assert not sweep.dir.exists()


@pytest.mark.slow
def test_points_that_all_fail_alike_pause_the_sweep(sweep):
    text = sweep_plan((1, 1.5, 2), more="[execution]\npause_after = 2\nattempts = 1").replace(
        "[case.numerics]", "[case.numerics]\nmax_steps = 3"
    )
    told = sweep.run(sweep.plan(text), code=1)
    assert "failed alike (divergence)" in told
    assert "failed alike" in sweep.status()["reason"]


@pytest.mark.slow
def test_stopped_rank_is_noticed_and_the_point_computed_again(sweep, reference):
    text = sweep_plan(SLITS, more='[execution]\nstale_after = "4 s"\nworkers = 1')
    child = sweep.start("run", sweep.plan(text), "-o", sweep.dir)
    sweep.wait(lambda: len(sweep.done()) >= 1)
    (solver,) = sweep.solvers()
    solver.send_signal(signal.SIGSTOP)
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, out + err
    assert gone([solver])
    assert_equal(sweep.data(), reference[1])


@pytest.mark.slow
@pytest.mark.mpi
def test_two_ranks_and_a_killed_rank(sweep, reference):
    text = sweep_plan(SLITS, more="[resources]\nranks = 2")
    child = sweep.start("run", sweep.plan(text), "-o", sweep.dir)
    sweep.wait(lambda: len(sweep.done()) >= 1)
    ranks = [p for p in sweep.solvers() if "python" in p.name()]
    ranks[-1].kill()
    out, err = child.communicate(timeout=200)
    assert child.returncode == 0, out + err
    data = sweep.data()
    assert_equal(data, reference[1], tolerance=1e-8)
    assert gone(ranks)


@pytest.mark.slow
def test_killed_scheduler_loses_nothing(sweep, reference):
    def cluster(name):
        file = sweep.folder / name
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        place = ["--scheduler-file", file, "--no-dashboard"]
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", *place]
            + ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"],
            **quiet,
        )
        worker = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", *place]
            + ["--nthreads", "1", "--nworkers", "1", "--death-timeout", "10"],
            env=environment(),
            **quiet,
        )
        sweep.wait(file.exists)
        return file, scheduler, worker

    file, *processes = cluster("first.json")
    try:
        plan = sweep.plan(long_plan(SLITS))
        child = sweep.start("run", plan, "-o", sweep.dir, "--scheduler-file", file)
        sweep.wait(lambda: len(sweep.done()) >= 1)
        processes[0].kill()
        out, err = child.communicate(timeout=200)
        assert child.returncode == 1, out + err
        assert "scheduler is gone" in err
        file, *more = cluster("second.json")
        processes += more
        sweep.do("resume", sweep.dir, "--scheduler-file", file)
        assert sweep.status()["done"] == len(SLITS)
    finally:
        for process in processes:
            process.terminate()
            process.wait(30)
    other = Sweep(sweep.folder / "other")
    other.folder.mkdir()
    other.run(other.plan(long_plan(SLITS)))
    assert_equal(sweep.data(), other.data(), tolerance=1e-10)


@pytest.fixture
def small_disk(tmp_path):
    """Return a folder on a file system of 3 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_full_disk_pauses_and_resume_completes(sweep, reference, small_disk):
    sweep.dir = small_disk / "dir"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_300_000))
    told = sweep.run(sweep.plan(sweep_plan(SLITS)), code=1)
    assert "disk is full" in told or "cannot be written" in told
    assert not list(sweep.dir.glob("pts/*/*/.*part*"))
    ballast.unlink()
    sweep.do("resume", sweep.dir)
    assert_equal(sweep.data(), reference[1], tolerance=1e-10)


@pytest.mark.slow
def test_refinement_adds_points_where_they_matter_and_resumes(sweep):
    more = """[adaptive]
axes = ["geometry.slit_size"]
observable = "largest_charge"
tolerance = 0.01
budget = 3
"""
    sweep.run(sweep.plan(sweep_plan((1, 2, 5), more=more)))
    first = sweep.data()
    assert 4 <= first["slit_size"].size <= 6
    assert np.isfinite(first["largest_charge"]).all()
    before = sorted(sweep.done())
    sweep.do("resume", sweep.dir)
    assert sorted(sweep.done()) == before
