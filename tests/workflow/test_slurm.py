"""Jobs on a real SLURM (slurmctld, slurmd, munged of our own): time limits, crashes, chains."""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from local_slurm import LocalSlurm, missing
from run_cases import SMALL, largest_difference, run, traces
from sweep_plans import sweep_plan

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(missing()), reason=f"SLURM is not installed: no {', '.join(missing())}"
    ),
]
SRUN = "srun --mpi=pmix --exact --kill-on-bad-exit=1 --nodes={nodes} --ntasks={ranks}"
ALLOWED = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
TINY = SMALL.replace("cycles = 3", "cycles = 1")
LONG = SMALL.replace("cycles = 3", "cycles = 12")
SLITS = (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3)


class Here:
    """A folder, and the commands in it that speak to the local SLURM."""

    def __init__(self, slurm, folder):
        self.slurm, self.folder = slurm, folder

    def do(self, *words, timeout=200, check=True, **variables):
        return self.slurm.do(
            sys.executable, "-m", "nanoslit", *words,
            cwd=self.folder, timeout=timeout, check=check, **(ALLOWED | variables),
        )  # fmt: skip

    def submit(self, *words, **variables):
        """Return the numbers of the jobs that a command submits."""
        told = self.do("job", *words, "--submit", **variables)
        return [int(word.strip(",")) for word in told.split() if word.strip(",").isdigit()]

    def log(self):
        return "".join(p.read_text() for p in sorted(self.folder.rglob("ns-*.log")))

    def finish(self, *jobs, seconds=400):
        for job in jobs:
            assert self.slurm.end_of(job, seconds) == "COMPLETED", self.log()

    def processes(self):
        """Return what runs here."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def solvers(self):
        return [p for p in self.processes() if "run" in p.cmdline() and "-m" in p.cmdline()]

    def wait(self, condition, seconds=200.0):
        try:
            return self.slurm.wait(condition, seconds)
        except AssertionError:
            raise AssertionError(f"waited in vain\n{self.log()}") from None


def go_on(stopped):
    """Let stopped processes go on, those that have not been killed meanwhile."""
    for process in stopped:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def slurm():
    with LocalSlurm(cpus=8) as made:
        yield made


@pytest.fixture
def here(slurm, tmp_path):
    (tmp_path / "case.toml").write_text(SMALL)
    yield Here(slurm, tmp_path)
    for job in slurm.jobs():
        slurm.do("scancel", job)
    slurm.wait(lambda: not slurm.jobs())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a function that gives the traces of an undisturbed run of a case."""
    known = {}

    def undisturbed(text):
        if text not in known:
            folder = tmp_path_factory.mktemp("whole")
            (folder / "case.toml").write_text(text)
            done = run(folder, "run", "case.toml", "-o", "r.h5")
            assert done.returncode == 0, done.stderr
            known[text] = traces(folder / "r.h5")
        return known[text]

    return undisturbed


def attempts(path):
    """Return the attempts that the provenance of a result tells."""
    import h5py

    with h5py.File(path) as file:
        return json.loads(file["provenance"].attrs["attempts"])


@pytest.mark.mpi
def test_solves_on_two_ranks_in_the_same_second(here, whole):
    """Each mpirun has its own session folder, whatever else starts on the node."""
    (here.folder / "case.toml").write_text(TINY)
    names = ("a", "b", "c")
    for name in names:
        here.do("job", "solve", "case.toml", "-o", f"{name}.h5", "--ranks", "2")
    held = [
        here.slurm.submit("--hold", f"{n}.job.sh", cwd=here.folder, **ALLOWED) for n in names
    ]
    here.slurm.do("scontrol", "release", ",".join(map(str, held)))
    here.finish(*held)
    starts = {here.slurm.job(job)["StartTime"] for job in held}
    assert len(starts) <= 2
    for name in names:
        found = traces(here.folder / f"{name}.h5")
        assert largest_difference(whole(TINY), found) < 1e-8
    (one,) = attempts(here.folder / "a.h5")
    assert one["job"] == str(held[0])
    assert one["ranks"] == 2


@pytest.mark.mpi
@pytest.mark.slow
def test_srun_starts_the_ranks(here, whole):
    (job,) = here.submit(
        "solve", "case.toml", "-o", "r.h5", "--ranks", "2", NANOSLIT_LAUNCHER=SRUN
    )
    here.finish(job)
    assert largest_difference(whole(SMALL), traces(here.folder / "r.h5")) < 1e-8


def test_signal_requeues_and_the_run_goes_on(here, whole):
    (here.folder / "case.toml").write_text(LONG)
    (job,) = here.submit("solve", "case.toml", "-o", "r.h5", "--ranks", "1")
    here.wait(lambda: here.solvers())
    # as SLURM does before the limit; perhaps before the solver can listen
    here.slurm.do("scancel", "--batch", "--signal=USR1", job)
    here.wait(lambda: here.slurm.job(job)["Restarts"] == "1")
    here.wait(lambda: "attempt 2" in here.log())
    here.finish(job)
    assert "SIGUSR1 came" in here.log()
    assert largest_difference(whole(LONG), traces(here.folder / "r.h5")) < 1e-10


@pytest.mark.mpi
def test_cancelled_job_leaves_nothing(here):
    (here.folder / "case.toml").write_text(SMALL.replace("cycles = 3", "cycles = 500"))
    (job,) = here.submit("solve", "case.toml", "-o", "r.h5", "--ranks", "2")
    here.wait(lambda: len(here.solvers()) >= 2)
    here.slurm.do("scancel", job)
    assert here.slurm.end_of(job) == "CANCELLED"
    here.wait(lambda: not here.processes(), 60)
    assert here.slurm.job(job)["Restarts"] == "0"


@pytest.mark.slow
@pytest.mark.mpi
def test_time_limit_three_times(here, whole):
    """The limit of a minute is SLURM's shortest; a stopped solver makes it pass for certain."""
    (here.folder / "case.toml").write_text(LONG)
    here.do("job", "solve", "case.toml", "-o", "r.h5", "--ranks", "2", "--time", "1 min")
    script = here.folder / "r.job.sh"
    text, n = script.read_text(), 3
    assert "--signal=B:USR1@30" in text
    before, _, after = text.partition("--stop-after")
    script.write_text(before + after.partition("))")[2])  # SLURM's signal alone
    job = here.slurm.submit(script, cwd=here.folder, **ALLOWED)
    for i in range(n):
        here.wait(lambda i=i: f"attempt {i + 1}:" in here.log())
        here.wait(lambda: here.solvers())
        time.sleep(2.0)
        stopped = here.solvers()
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        here.wait(lambda i=i: here.log().count("SIGUSR1 came") == i + 1, 100)
        go_on(stopped)
        here.wait(lambda i=i: here.slurm.job(job)["Restarts"] == str(i + 1))
    here.slurm.do("scontrol", "update", f"jobid={job}", "timelimit=20")
    here.finish(job)
    assert largest_difference(whole(LONG), traces(here.folder / "r.h5")) < 1e-8
    told = attempts(here.folder / "r.h5")
    assert {entry["job"] for entry in told} == {str(job)}
    assert [entry["restart"] for entry in told][-1] == n


# -- chains --------------------------------------------------------------------------------


def explored(folder):
    import h5py

    with h5py.File(folder / "explored.h5") as file:
        return len(file.keys())


def test_array_then_law_then_design_space(here):
    for d in (1.5, 3):
        (here.folder / f"d{d}.toml").write_text(SMALL.replace("1.5 nm", f"{d} nm"))
    jobs = here.submit(
        "pipeline", "d1.5.toml", "d3.toml", "-o", "study", "--ranks", "1",
        "--discover", "--evaluations 400 --islands 2 --population 20",
    )  # fmt: skip
    assert len(jobs) == 3
    assert here.slurm.job_state(jobs[2]) == "PENDING"
    here.finish(*jobs)
    study = here.folder / "study"
    assert sorted(p.name for p in study.glob("cells/*.h5")) == ["d1.5.h5", "d3.h5"]
    assert json.loads((study / "LAW.json").read_text())["best"]["expression"]
    assert explored(study)


def test_failed_stage_ends_the_chain(here):
    """SLURM removes what waits for it, instead of keeping it for ever."""
    (here.folder / "case.toml").write_text(SMALL + "max_steps = 3\n")
    (here.folder / "study.toml").write_text("")
    jobs = here.submit(
        "pipeline", "case.toml", "-o", "study", "--explore", "study.toml", "--ranks", "1"
    )
    assert here.slurm.end_of(jobs[0]) == "FAILED"
    here.wait(lambda: not here.slurm.jobs())
    assert "max_steps" in here.log()
    assert not list(here.folder.glob("study/cells/*.h5"))


@pytest.mark.slow
def test_plan_then_law_then_design_space(here):
    (here.folder / "plan.toml").write_text(
        sweep_plan((1.5, 3)).replace("sheets = 1", "sheets = 3")
    )
    jobs = here.submit(
        "pipeline", "plan.toml", "-o", "study", "--ranks", "2",
        "--discover", "--evaluations 400 --islands 2 --population 20",
    )  # fmt: skip
    here.finish(*jobs)
    assert explored(here.folder / "study")


# -- sweeps --------------------------------------------------------------------------------


def dask_plan(ranks=2):
    return sweep_plan(
        SLITS,
        more=f'[resources]\nranks = {ranks}\nmemory = "600 MB"\n[execution]\n'
        'cluster = "slurm"\nworkers = 1\n[execution.slurm]\nwalltime = "30 min"\n',
    )


def collected(here, folder):
    """Return every array of the collected data but the provenance."""
    import h5py

    here.do("sweep", "collect", folder)
    with h5py.File(here.folder / folder / "collected" / "sweep.h5") as file:
        return {k: v[()] for k, v in file.items() if isinstance(v, h5py.Dataset)}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name, values in a.items():
        if values.dtype.kind == "f" and not name.startswith("sign"):
            scale = 1.0 if "mismatch" in name else np.nanmax(np.abs(b[name]), initial=0.0)
            np.testing.assert_allclose(values, b[name], rtol=0, atol=1e-8 * scale, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(slurm, tmp_path_factory):
    """Return the data of the sweep on this machine, one rank a point."""
    here = Here(slurm, tmp_path_factory.mktemp("undisturbed"))
    (here.folder / "plan.toml").write_text(sweep_plan(SLITS))
    here.do("sweep", "run", "plan.toml", "-o", "dir", "--cluster", "local")
    return collected(here, "dir")


@pytest.mark.mpi
@pytest.mark.slow
def test_dask_on_slurm_solves_points_on_two_ranks(here, undisturbed):
    (here.folder / "plan.toml").write_text(dask_plan())
    here.do("sweep", "run", "plan.toml", "-o", "dir", timeout=500)
    assert_same(collected(here, "dir"), undisturbed)
    records = [json.loads(p.read_text()) for p in here.folder.glob("dir/pts/*/*/done.json")]
    assert [r["ranks"] for r in records] == [2] * len(SLITS)
    here.wait(lambda: not here.slurm.jobs())  # the workers' jobs end with the service
    assert not list(here.folder.glob("*.out"))


def test_jobs_that_slurm_would_refuse_are_told_at_once(here):
    text = dask_plan().replace("[execution.slurm]", '[execution.slurm]\nqueue = "nowhere"')
    (here.folder / "plan.toml").write_text(text)
    with pytest.raises(AssertionError, match="SLURM refuses the jobs of workers: .*partition"):
        here.do("sweep", "run", "plan.toml", "-o", "dir")


@pytest.mark.slow
def test_sweep_service_as_a_job_is_requeued_and_finishes(here, undisturbed):
    (here.folder / "plan.toml").write_text(dask_plan(1))
    (job,) = here.submit("sweep", "plan.toml", "-o", "dir", "--mode", "dask", "--ranks", "1")
    here.wait(lambda: done(here))
    here.slurm.do("scancel", "--batch", "--signal=USR1", job)
    here.finish(job)
    assert_same(collected(here, "dir"), undisturbed)


@pytest.mark.slow
def test_sweep_in_one_allocation(here, undisturbed):
    (here.folder / "plan.toml").write_text(sweep_plan(SLITS))
    (job,) = here.submit("sweep", "plan.toml", "-o", "dir", "--ranks", "2")
    here.finish(job)
    assert_same(collected(here, "dir"), undisturbed)


@pytest.fixture
def doomed(tmp_path):
    """Return a folder with a SLURM of its own: what a crash leaves harms no other test."""
    with LocalSlurm(cpus=8) as made:
        yield Here(made, tmp_path)


@pytest.fixture
def service(doomed):
    """Start a sweep whose workers are jobs; wait for its first point."""
    (doomed.folder / "plan.toml").write_text(dask_plan(1))
    process = psutil.Popen(
        [sys.executable, "-m", "nanoslit", "sweep", "run", "plan.toml", "-o", "dir"],
        cwd=doomed.folder, env=doomed.slurm.environment | ALLOWED,
    )  # fmt: skip
    try:
        doomed.wait(lambda: done(doomed))
        yield process
    finally:
        if process.is_running():
            process.kill()


def done(here):
    return list(here.folder.glob("dir/pts/*/*/result.h5"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["slurmd-node1", "slurmctld"])
def test_killed_daemon_and_service_then_resume(doomed, undisturbed, service, victim):
    stopped = [p for p in doomed.processes() if "serve" in p.cmdline()]
    assert stopped
    for process in stopped:  # no point ends while the service dies
        process.send_signal(signal.SIGSTOP)
    doomed.slurm.kill(victim)
    time.sleep(2.0)
    service.kill()
    service.wait(30)
    assert len(done(doomed)) < len(SLITS)
    go_on(stopped)
    doomed.slurm.start()
    try:
        doomed.do("sweep", "resume", "dir", timeout=500)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{doomed.slurm.story()}") from None
    assert_same(collected(doomed, "dir"), undisturbed)


@pytest.mark.slow
def test_sweep_survives_killed_daemons(doomed, undisturbed, service):
    """Daemons that are killed and come back do not even stop the service."""
    doomed.slurm.kill("slurmd-node1")
    doomed.slurm.kill("slurmctld")
    doomed.slurm.start()
    assert service.wait(400) == 0
    assert_same(collected(doomed, "dir"), undisturbed)


@pytest.mark.slow
def test_lost_worker_job_is_replaced(doomed, undisturbed, service):
    for job in doomed.slurm.jobs("R"):
        doomed.slurm.do("scancel", job)
    assert service.wait(400) == 0
    assert_same(collected(doomed, "dir"), undisturbed)


# -- two pretended nodes -------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_nodes():
    with LocalSlurm(cpus=2, nodes=2) as made:
        yield made


@pytest.fixture
def small_nodes(two_nodes, tmp_path):
    (tmp_path / "site.env").write_text("SITE_CORES_PER_NODE=2\nsite_setup() { :; }\n")
    return Here(two_nodes, tmp_path)


@pytest.mark.slow
@pytest.mark.mpi
def test_solves_of_a_large_allocation_spread_over_its_nodes(small_nodes, undisturbed):
    here = small_nodes
    (here.folder / "plan.toml").write_text(sweep_plan(SLITS))
    (job,) = here.submit(
        "sweep", "plan.toml", "-o", "dir", "--ranks", "4", "--site", "site.env",
        PATH=f"{Path(sys.executable).parent}:{here.slurm.environment['PATH']}",
    )  # fmt: skip
    seen = set()

    def ended():
        steps = here.slurm.do(
            "squeue", "-h", "--steps", "-o", "%i %N", "--job", job, check=False
        )
        seen.update(line.split()[1] for line in steps.splitlines() if ".batch" not in line)
        return here.slurm.job_state(job) != "RUNNING" and not here.slurm.jobs()

    here.wait(ended, 400)
    here.finish(job)
    assert seen == {"node1", "node2"}
    assert_same(collected(here, "dir"), undisturbed)


@pytest.mark.slow
@pytest.mark.mpi
def test_one_solve_on_two_nodes(small_nodes, whole):
    here = small_nodes
    (here.folder / "case.toml").write_text(TINY)
    (job,) = here.submit(
        "solve", "case.toml", "-o", "r.h5", "--ranks", "3", "--site", "site.env",
        PATH=f"{Path(sys.executable).parent}:{here.slurm.environment['PATH']}",
        # both nodes are this host, which Open MPI's shared memory does not expect
        OMPI_MCA_btl="self,tcp", OMPI_MCA_btl_tcp_if_include="lo",
    )  # fmt: skip
    assert here.slurm.job(job)["NumNodes"].startswith("2")
    here.finish(job)
    assert largest_difference(whole(TINY), traces(here.folder / "r.h5")) < 1e-8


def test_environment_of_a_step_does_not_reach_a_solve(here, whole):
    """Inside a step Open MPI would take a lone process for a rank, and fail."""
    told = here.slurm.do(
        "srun", "--ntasks=1", sys.executable, "-m", "nanoslit", "job", "attempt", "--",
        "run", "case.toml", "-o", "r.h5", cwd=here.folder, timeout=200, **ALLOWED,
    )  # fmt: skip
    assert told == ""
    assert largest_difference(whole(SMALL), traces(here.folder / "r.h5")) < 1e-10
    assert os.getuid() == (here.folder / "r.h5").stat().st_uid
