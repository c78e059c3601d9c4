"""Sweeps with real Dask workers and real solves: done once, resumed, shared, collected."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from nanoslit.sweep.folder import read_json
from sweep_plans import sweep_plan

LONG = (1, 2)
SLITS = (1, 1.25, 1.5, 2, 2.5, 3)


class Sweep:
    """A sweep's folder and the commands on it, each a child process.

    Every process of it carries a mark in its environment, so that one that has lost its
    parent is found too.
    """

    def __init__(self, folder: Path):
        folder.mkdir(exist_ok=True)
        self.folder, self.dir = folder, folder / "dir"
        self.mark = uuid.uuid4().hex
        self.children = []

    def environment(self):
        return {
            **os.environ,
            "COLUMNS": "200",
            "NANOSLIT_TEST_SWEEP": self.mark,
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
        }

    def plan(self, text, name="plan.toml"):
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *words, module=("nanoslit", "sweep")):
        child = subprocess.Popen(
            [sys.executable, "-m", *module, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            start_new_session=True,  # as in a terminal of its own
        )
        self.children.append(child)
        return child

    def end(self):
        """End what a failed test left behind."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for child in self.children:
            child.communicate()

    def do(self, *words, code=0):
        return self.finish(self.start(*words), code)

    def finish(self, child, code=0, timeout=240):
        """Wait for the end of a command and of its outputs; return what it said."""
        out, err = child.communicate(timeout=timeout)
        assert child.returncode == code, f"{child.args}: {child.returncode}\n{out}\n{err}"
        return out + err

    def run(self, plan, *words, code=0):
        return self.do("run", plan, "-o", self.dir, *words, code=code)

    def status(self):
        return json.loads(self.do("status", self.dir, "--json"))

    def done(self):
        return sorted(self.dir.glob("pts/*/*/result.h5"))

    def plans(self):
        return sorted(self.dir.glob("plans/*.toml"))

    def wait(self, condition, timeout=180.0):
        end = time.monotonic() + timeout
        while not (found := condition()):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.01)
        return found

    def data(self):
        """Return every array of the collected data set; provenance below its own key."""
        self.do("collect", self.dir)
        with h5py.File(self.dir / "collected" / "sweep.h5") as file:
            out = {n: item[()] for n, item in file.items() if isinstance(item, h5py.Dataset)}
            out["provenance"] = {n: item[()] for n, item in file["provenance"].items()}
        return out

    # -- processes --------------------------------------------------------------------

    def processes(self):
        """Return every living process of this sweep, whoever its parent is."""
        found = []
        for process in psutil.process_iter():
            try:
                mine = process.environ().get("NANOSLIT_TEST_SWEEP") == self.mark
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def solvers(self):
        """Return the solver processes (ranks, not their mpirun)."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if process.name().startswith("python") and "serve" in process.cmdline():
                    found.append(process)
        return found

    def freeze(self, condition, ranks=1):
        """Stop the solvers as soon as a condition holds, so that no point ends meanwhile."""
        self.wait(lambda: len(self.solvers()) >= ranks)
        self.wait(condition)
        stopped = []
        for process in self.solvers():
            with contextlib.suppress(psutil.Error):
                process.suspend()
                stopped.append(process)
        assert stopped, "all points ended before they could be disturbed"
        return stopped

    def some_done(self):
        return len(self.done()) >= 1

    def under_way(self):
        """Whether a point has made a step."""
        return any("step" in (read_json(p) or {}) for p in self.dir.glob("run/beat-*.json"))

    def assert_nothing_left(self):
        """No process may outlive its service, and no half-written file may stay."""
        self.wait(lambda: not self.processes(), timeout=60)


def thaw(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.resume()


def long_plan(slits):
    """Return a plan whose points take some seconds."""
    text = sweep_plan(slits).replace('mesh = "coarse"', 'mesh = "standard"')
    return text.replace("sheets = 1", "sheets = 12")


def assert_equal(a, b, tolerance=None):
    """Compare data sets of two sweeps over one axis.

    Bit by bit where a point was computed in one go in both, within 1e-10 of the largest
    value where one resumed from a checkpoint, or everywhere within a tolerance.
    """
    assert a.keys() == b.keys()
    n = len(a["slit_size"])
    resumed = (a["provenance"]["resumed"] == 1) | (b["provenance"]["resumed"] == 1)
    for name in a.keys() - {"provenance"}:
        x, y = a[name], b[name]
        if x.shape[:1] != (n,):
            np.testing.assert_array_equal(x, y, err_msg=name)
            continue
        if tolerance is None:
            np.testing.assert_array_equal(x[~resumed], y[~resumed], err_msg=name)
        if not name.startswith("sign") and y.size:  # signs of zero currents are rounding
            scale = 1.0 if "mismatch" in name else np.nanmax(np.abs(y), initial=0.0)
            np.testing.assert_allclose(
                x, y, rtol=0, atol=(tolerance or 1e-10) * scale, err_msg=name
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
    yield sweep, sweep.data()
    sweep.end()


@pytest.fixture(scope="module")
def long_reference(tmp_path_factory):
    """Return the data of an undisturbed sweep of long points."""
    sweep = Sweep(tmp_path_factory.mktemp("long"))
    sweep.run(sweep.plan(long_plan(LONG)))
    yield sweep.data()
    sweep.end()


def test_all_points_once_then_widened(reference):
    sweep, data = reference
    facts = sweep.status()
    assert facts["done"] == facts["total"] == len(SLITS)
    assert data["capacitance"].shape == (len(SLITS),)
    assert np.isfinite(data["capacitance"]).all()
    assert data["cv_current"].shape == (len(SLITS), 201)
    before = {path: path.stat().st_mtime_ns for path in sweep.done()}
    assert f"{len(SLITS)} done" in sweep.run(sweep.folder / "plan.toml")
    wider = sweep.plan(sweep_plan((*SLITS, 4)), "wider.toml")
    shown = sweep.do("plan", wider, "-o", sweep.dir)
    assert f"done {len(SLITS)}, new 1, failed 0" in shown
    sweep.run(wider)
    after = {path: path.stat().st_mtime_ns for path in sweep.done()}
    assert len(after) == len(SLITS) + 1
    assert before.items() <= after.items()


def test_open_sweep_is_lazy_and_has_units(reference):
    pytest.importorskip("h5netcdf")
    import nanoslit

    sweep, data = reference
    with nanoslit.open_sweep(sweep.dir) as dataset:
        assert dataset["capacitance"].chunks  # Dask arrays: nothing has been read
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


def test_folder_of_another_version_of_the_model(reference):
    """Its index names points by keys that no case has any more."""
    sweep, data = reference
    sweep.run(sweep.folder / "plan.toml")
    before = sorted((p, p.stat().st_mtime_ns) for p in sweep.done())
    with contextlib.closing(sqlite3.connect(sweep.dir / "catalogue.sqlite")) as db:
        db.execute("UPDATE points SET key = randomblob(32)")
        db.execute("UPDATE notes SET value = '0' WHERE name = 'model_version'")
        db.commit()
    assert "gives other numbers" in sweep.do("status", sweep.dir, code=2)
    sweep.run(sweep.folder / "plan.toml")
    assert sorted((p, p.stat().st_mtime_ns) for p in sweep.done()) == before
    assert_equal(sweep.data(), data)


@pytest.mark.parametrize(
    "victim",
    [
        "service",
        *(pytest.param(v, marks=pytest.mark.slow) for v in ("all", "worker", "solver")),
    ],
)
def test_killed_process_loses_nothing_and_leaves_nothing(sweep, reference, victim):
    """``all``: the service while its workers hang, as they do on a dead file system."""
    child = sweep.start("run", sweep.plan(sweep_plan(SLITS)), "-o", sweep.dir)
    solvers = sweep.freeze(sweep.some_done)
    before = {path: path.stat().st_mtime_ns for path in sweep.done()}
    worker = solvers[0].parent()
    if victim in ("service", "all"):
        if victim == "all":
            worker.suspend()
        child.kill()
        sweep.finish(child, code=-signal.SIGKILL, timeout=60)  # its pipes are closed too
        sweep.assert_nothing_left()
        facts = sweep.status()
        # the kernel lets stopped solvers go on when their group is orphaned: one may finish
        assert len(before) <= facts["done"] == len(sweep.done())
        assert facts["done"] + facts["planned"] + facts["checkpointed"] == len(SLITS)
        sweep.do("resume", sweep.dir)
    else:
        (worker if victim == "worker" else solvers[0]).kill()
        thaw(solvers)
        sweep.finish(child)
    assert sweep.status()["done"] == len(SLITS)
    after = {path: path.stat().st_mtime_ns for path in sweep.done()}
    assert before.items() <= after.items()
    assert_equal(sweep.data(), reference[1])
    sweep.assert_nothing_left()


def test_second_service_is_told_who_owns_the_folder(sweep):
    plan = sweep.plan(long_plan(SLITS))
    child = sweep.start("run", plan, "-o", sweep.dir)
    sweep.wait(lambda: any(sweep.dir.glob("pts/*")))  # its plan is entered, a solve begins
    assert f"process {child.pid} on {os.uname().nodename}" in sweep.run(plan, code=2)
    os.killpg(child.pid, signal.SIGINT)
    sweep.finish(child, code=85)
    assert sweep.status()["owner"] is None
    sweep.assert_nothing_left()


@pytest.mark.slow
def test_same_sweep_started_twice_at_once_is_computed_once(sweep, reference):
    plan = sweep.plan(sweep_plan(SLITS))
    both = [sweep.start("run", plan, "-o", sweep.dir) for _ in range(2)]
    told = [child.communicate(timeout=240) for child in both]
    codes = sorted(child.returncode for child in both)
    assert codes in ([0, 2], [0, 0]), told  # the second was refused, or came after the end
    assert all(json.loads(p.read_text())["attempt"] == 1 for p in sweep.dir.rglob("done.json"))
    assert_equal(sweep.data(), reference[1])
    sweep.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_checkpoints_and_resume_goes_on(sweep, long_reference, number):
    """The signal goes to every process of the terminal, as Ctrl-C and its closing do."""
    child = sweep.start("run", sweep.plan(long_plan(LONG)), "-o", sweep.dir)
    solvers = sweep.freeze(sweep.under_way)
    os.killpg(child.pid, number)
    thaw(solvers)
    assert "writing checkpoints" in sweep.finish(child, code=85)
    sweep.assert_nothing_left()
    facts = sweep.status()
    assert facts["checkpointed"] >= 1
    assert facts["checkpointed"] + facts["planned"] + facts["done"] == len(LONG)
    sweep.do("resume", sweep.dir)
    data = sweep.data()
    assert data["provenance"]["resumed"].sum() == facts["checkpointed"]
    assert_equal(data, long_reference)


@pytest.mark.slow
def test_ctrl_c_twice_ends_at_once(sweep, long_reference):
    child = sweep.start("run", sweep.plan(long_plan(LONG)), "-o", sweep.dir)
    sweep.freeze(sweep.under_way)  # solvers that never answer
    os.killpg(child.pid, signal.SIGINT)
    sweep.wait((sweep.dir / "run" / "stop.json").exists)
    os.killpg(child.pid, signal.SIGINT)
    assert "ending all solves now" in sweep.finish(child, code=85, timeout=60)
    sweep.assert_nothing_left()
    sweep.do("resume", sweep.dir)
    assert_equal(sweep.data(), long_reference)


@pytest.mark.slow
def test_detached_sweep_is_watched_cancelled_and_retried(sweep, long_reference):
    plan = sweep.plan(long_plan(LONG))
    bad = sweep.plan(long_plan(LONG).replace("sheets = 12", "sheets = 0"), "bad.toml")
    assert "sheets" in sweep.run(bad, "--detach", code=2)
    assert not sweep.dir.exists()
    pid = int(sweep.run(plan, "--detach").split()[1])
    solvers = sweep.freeze(sweep.under_way)
    assert sweep.status()["owner"]["pid"] == pid
    assert f"process {pid}" in sweep.run(plan, "--detach", code=2)
    watch = sweep.start("watch", sweep.dir)
    assert f"process {pid}" in watch.stdout.readline()
    cancel = sweep.start("cancel", sweep.dir)
    sweep.wait((sweep.dir / "run" / "stop.json").exists)
    thaw(solvers)
    sweep.finish(cancel)
    assert "cancelled" in sweep.finish(watch, timeout=60)
    sweep.assert_nothing_left()
    facts = sweep.status()
    assert facts["done"] + facts["cancelled"] == len(LONG)
    wrong = sweep.do("retry", sweep.dir, "--kind", "flood", code=2)
    assert "'flood': no point failed so; there are: " in wrong
    sweep.do("retry", sweep.dir)
    assert "done" in sweep.do("watch", sweep.dir)
    assert_equal(sweep.data(), long_reference)


def test_tables_hold_the_same_numbers(reference):
    """CSV and Parquet: a row a point, its values as in the HDF5 file."""
    pandas = pytest.importorskip("pandas")
    sweep, _ = reference
    data = sweep.data()
    csv = sweep.dir / "collected" / "sweep.csv"
    tables = [pandas.read_csv(csv, float_precision="round_trip")]
    if (parquet := sweep.dir / "collected" / "sweep.parquet").exists():
        tables.append(pandas.read_parquet(parquet))
    for table in tables:
        np.testing.assert_array_equal(table["capacitance"], data["capacitance"])
        np.testing.assert_array_equal(table["slit_size"], data["slit_size"])
        assert list(table["status"]) == ["done"] * len(data["slit_size"])


@pytest.mark.slow
def test_service_killed_before_its_points_were_entered(sweep):
    """Many points take long enough to enter; ``resume`` enters them anew."""
    points = "{ from = %s, to = %s, points = %d }"
    text = sweep_plan((1, 2)).replace(
        'geometry.slit_size = ["1 nm", "2 nm"]',
        f"""geometry.slit_size = {points % ('"1 nm"', '"5 nm"', 300)}
protocol.scan_rate = {points % ('"1e5 V/s"', '"1e6 V/s"', 300)}""",
    )
    child = sweep.start("run", sweep.plan(text), "-o", sweep.dir)
    sweep.wait(lambda: len(sweep.plans()) == 1)
    child.kill()
    sweep.finish(child, code=-signal.SIGKILL)
    assert "no plan has been entered" in sweep.do("status", sweep.dir, code=2)
    child = sweep.start("resume", sweep.dir)
    sweep.wait(sweep.under_way)
    os.killpg(child.pid, signal.SIGINT)
    sweep.finish(child, code=85)
    assert sweep.status()["total"] == 90_000
    sweep.assert_nothing_left()


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
def test_missing_points_are_nan(sweep):
    text = sweep_plan((1, 2), more="[execution]\nattempts = 1").replace(
        "geometry.slit_size", "numerics.max_steps = [3, 100000]\ngeometry.slit_size"
    )
    sweep.run(sweep.plan(text), code=1)
    facts = sweep.status()
    assert (facts["done"], facts["failed"]) == (2, 2)
    assert facts["kinds"] == {"divergence": 2}
    data = sweep.data()
    assert np.isnan(data["capacitance"][0]).all()
    assert np.isfinite(data["capacitance"][1]).all()


@pytest.mark.slow
def test_stopped_rank_is_noticed_and_the_point_computed_again(sweep, reference):
    text = sweep_plan(SLITS, more='[execution]\nstale_after = "10 s"\nworkers = 1')
    child = sweep.start("run", sweep.plan(text), "-o", sweep.dir)
    sweep.freeze(sweep.some_done)
    sweep.finish(child)
    assert_equal(sweep.data(), reference[1])
    sweep.assert_nothing_left()


@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.parametrize("how", ["killed", "hangs"])
def test_one_of_two_ranks(sweep, reference, how):
    more = '[resources]\nranks = 2\n[execution]\nstale_after = "20 s"'
    child = sweep.start("run", sweep.plan(sweep_plan(SLITS, more=more)), "-o", sweep.dir)
    ranks = sweep.freeze(sweep.some_done, ranks=2)
    if how == "killed":
        ranks[-1].kill()
        thaw(ranks)
    else:
        thaw(ranks[:-1])
    sweep.finish(child)
    sweep.assert_nothing_left()
    data = sweep.data()
    assert (data["provenance"]["ranks"] == 2).all()
    assert_equal(data, reference[1], tolerance=1e-8)


@pytest.mark.slow
def test_killed_scheduler_loses_nothing(sweep, reference):
    def cluster(name):
        file = sweep.folder / name
        place = ["--scheduler-file", file, "--no-dashboard"]
        scheduler = sweep.start(
            *place, "--host", "127.0.0.1", "--port", "0",
            "--dashboard-address", "127.0.0.1:0", module=["distributed.cli.dask_scheduler"],
        )  # fmt: skip
        sweep.wait(file.exists)
        worker = sweep.start(
            *place, "--nthreads", "1", "--nworkers", "1", "--death-timeout", "10",
            module=["distributed.cli.dask_worker"],
        )  # fmt: skip
        return file, scheduler, worker

    file, scheduler, _ = cluster("first.json")
    plan = sweep.plan(sweep_plan(SLITS))
    child = sweep.start("run", plan, "-o", sweep.dir, "--scheduler-file", file)
    solvers = sweep.freeze(sweep.some_done)
    scheduler.kill()
    thaw(solvers)
    assert "scheduler is gone" in sweep.finish(child, code=1)
    sweep.assert_nothing_left()  # the worker leaves when it finds no scheduler
    file, *others = cluster("second.json")
    address = json.loads(file.read_text())["address"]
    sweep.do("resume", sweep.dir, "--address", address)
    assert sweep.status()["done"] == len(SLITS)
    for process in reversed(others):
        process.terminate()
    sweep.assert_nothing_left()
    assert_equal(sweep.data(), reference[1])


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
    assert_equal(sweep.data(), reference[1])


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
    before = sweep.done()
    sweep.do("resume", sweep.dir)
    assert sweep.done() == before
    other = Sweep(sweep.folder / "other")  # killed in the middle of the refinement
    child = other.start("run", other.plan(sweep_plan((1, 2, 5), more=more)), "-o", other.dir)
    other.wait(lambda: len(other.plans()) >= 2 and other.solvers())
    child.kill()
    other.finish(child, code=-signal.SIGKILL)
    other.do("resume", other.dir)
    assert_equal(other.data(), first)
