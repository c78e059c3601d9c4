"""Job scripts: what stands in jobs/ is what the command writes; sizes, sites, attempts."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from example_case import EXAMPLE
from nanoslit.casefile import case_from_toml
from nanoslit.errors import CaseError
from nanoslit.job.examples import example_scripts
from nanoslit.job.kinds import Wish, solve_job, sweep_job
from nanoslit.job.script import text_of
from nanoslit.job.site import Site, read_site
from nanoslit.sweep.plan import plan_from_toml
from run_cases import SMALL, largest_difference, run, traces
from sweep_plans import sweep_plan

ROOT = Path(__file__).resolve().parents[2]


def test_scripts_of_the_checkout_are_those_of_the_command():
    """After a change: nanoslit job examples (in the root of the checkout)."""
    expected = example_scripts(ROOT)
    found = {
        str(p.relative_to(ROOT)): p.read_text()
        for name in ("slurm", "pbs")
        for p in (ROOT / "jobs" / name).glob("*")
    }
    assert found == expected


def test_a_script_of_the_checkout_and_one_of_the_command_differ_in_paths_only(tmp_path):
    (tmp_path / "case.toml").write_text(EXAMPLE)
    (tmp_path / "jobs").mkdir()
    shutil.copy(ROOT / "jobs/site.env.example", tmp_path / "jobs/site.env")
    command = [sys.executable, "-m", "nanoslit", "job", "solve", "case.toml", "-o", "result.h5"]
    shown = subprocess.run(
        [*command, "--ranks", "4", "--print"],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    expected = (ROOT / "jobs/slurm/solve.sh").read_text()
    expected = expected.replace("jobs/slurm/solve.sh", f"{tmp_path}/result.job.sh")
    expected = expected.replace('"${SLURM_SUBMIT_DIR:-.}"', str(tmp_path))
    expected = expected.replace("$PWD/jobs", f"{tmp_path}/jobs")
    lines = [
        (a, b)
        for a, b in zip(shown.splitlines(), expected.splitlines(), strict=True)
        if not a.startswith("# estimate")
    ]
    assert [a for a, _ in lines] == [b for _, b in lines]
    assert not (tmp_path / "result.job.sh").exists()


def test_sizes_follow_the_mesh():
    small = case_from_toml(EXAMPLE)
    large = case_from_toml(EXAMPLE.replace("sheets = 3", "sheets = 56"))
    jobs = [solve_job([c], ["c.toml"], "r.h5", Site(), Wish()) for c in (small, large)]
    assert jobs[0].ranks == 1
    assert 1 < jobs[1].ranks <= 32
    for job in jobs:
        assert 1800 <= job.time <= 24 * 3600
        assert 0.2e9 < job.memory < 2e9
    with pytest.raises(CaseError, match="more --ranks"):
        solve_job([large], ["c.toml"], "r.h5", Site(memory=0.2e9), Wish(ranks=1))


def test_sweep_fills_its_allocation():
    plan = plan_from_toml(sweep_plan((1, 2, 3, 4), more="[resources]\nranks = 2"))
    job = sweep_job(plan, "p.toml", "dir", Site(cores=6), Wish(), "allocation")
    assert job.tasks == 6
    assert "--workers 3" in job.command
    mixed = "[resources]\nranks = [{ nodes_up_to = 10, ranks = 1 }, { ranks = 4 }]"
    plan = plan_from_toml(sweep_plan((1, 2, 3, 4), more=mixed))
    job = sweep_job(plan, "p.toml", "dir", Site(), Wish(ranks=64), "allocation")
    assert "--workers 64" in job.command
    assert "#SBATCH --nodes=2\n" in text_of(job, Site(), "x.sh")
    with pytest.raises(CaseError, match="takes 4"):
        sweep_job(plan, "p.toml", "dir", Site(), Wish(ranks=2), "allocation")
    with pytest.raises(CaseError, match="for SLURM"):
        sweep_job(plan, "p.toml", "dir", Site(scheduler="pbs"), Wish(), "dask")


def test_site_file(tmp_path):
    path = tmp_path / "site.env"
    path.write_text(
        "SITE_SCHEDULER=pbs\nSITE_PARTITION=long\nSITE_ACCOUNT=$USER-x\n"
        "SITE_CORES_PER_NODE=8\nSITE_MEMORY_PER_NODE='16 GB'\nSITE_MAX_TIME='2 h'\n"
        "SITE_EXTRA='-l place=excl'\nsite_setup() { exit 3; }\n"
    )
    os.environ.setdefault("USER", "me")
    site = read_site(path)
    assert site.scheduler == "pbs"
    assert site.account == f"{os.environ['USER']}-x"
    assert (site.cores, site.memory, site.max_time) == (8, 16e9, 7200)
    text = text_of(
        solve_job([case_from_toml(EXAMPLE)], ["c.toml"], "r.h5", site, Wish(ranks=12)),
        site,
        "x.sh",
    )
    for line in (
        "#PBS -q long", "#PBS -l place=excl",
        "#PBS -l select=2:ncpus=6:mpiprocs=6:mem=1500mb",
    ):  # fmt: skip
        assert line in text.splitlines()
    path.write_text("SITE_SCHEDULER=lsf\n")
    with pytest.raises(CaseError, match="slurm or pbs"):
        read_site(path)
    path.write_text("SITE_MAX_TIME='2 parsecs'\n")
    with pytest.raises(CaseError, match="SITE_MAX_TIME"):
        read_site(path)
    with pytest.raises(CaseError, match=r"site\.env\.example"):
        read_site(tmp_path / "none")


def test_names_and_paths_with_blanks_and_quotes(tmp_path):
    path = "it's a case.toml"
    job = solve_job([case_from_toml(EXAMPLE)], [path], "my r.h5", Site(), Wish())
    script = tmp_path / "x.sh"
    script.write_text(text_of(job, Site(), str(script), str(tmp_path)))
    assert subprocess.run(["bash", "-n", script], check=True).returncode == 0
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", script], check=True)
    tail = script.read_text().split("-- \\\n")[1]
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s|' {tail}"], capture_output=True, text=True, check=True
    ).stdout
    assert shown == f"run|{path}|-o|my r.h5|--resume|"
    assert "\n#SBATCH --job-name=ns-it_s_a_case\n" in script.read_text()


# -- PBS: its commands are played, the scripts and the runs are real -------------------------


@pytest.fixture
def pbs(tmp_path):
    """Return a function that runs a script as PBS would; submissions are written down."""
    programs = tmp_path / "bin"
    programs.mkdir()
    qsub = programs / "qsub"
    qsub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/submitted\necho 17.server\n')
    qsub.chmod(0o755)

    def play(script, **variables):
        environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PBS_JOBID": "16.server",
            "PBS_O_WORKDIR": str(tmp_path),
            **variables,
        }
        environment.pop("SLURM_JOB_ID", None)
        return subprocess.run(
            ["bash", script], env=environment, cwd=tmp_path, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    return play


def test_pbs_stops_in_time_submits_itself_again_and_then_the_next(tmp_path, pbs):
    (tmp_path / "case.toml").write_text(SMALL)
    site = Site(scheduler="pbs")
    job = solve_job([case_from_toml(SMALL)], ["case.toml"], "r.h5", site, Wish(ranks=1))
    script = tmp_path / "solve.sh"
    text = text_of(job, site, str(script), str(tmp_path))
    script.write_text(re.sub(r"--stop-after \S+ - SECONDS\)\)", "--stop-after 0", text))
    done = pbs(script, NANOSLIT_THEN="b.sh:c.sh")
    assert done.returncode == 0, done.stderr
    assert "the time runs out" in done.stderr
    submitted = tmp_path / "submitted"
    assert submitted.read_text() == (
        f"-v NANOSLIT_RESTARTS=1,NANOSLIT_THEN=b.sh:c.sh {script}\n"
    )
    assert not (tmp_path / "r.h5").exists()
    submitted.unlink()
    script.write_text(text)
    done = pbs(script, NANOSLIT_RESTARTS="1", NANOSLIT_THEN="b.sh:c.sh")
    assert done.returncode == 0, done.stderr
    assert "attempt 2" in done.stderr
    assert submitted.read_text() == "-v NANOSLIT_RESTARTS=0,NANOSLIT_THEN=c.sh b.sh\n"
    whole = run(tmp_path, "run", "case.toml", "-o", "whole.h5")
    assert whole.returncode == 0
    difference = largest_difference(traces(tmp_path / "whole.h5"), traces(tmp_path / "r.h5"))
    assert difference < 1e-10


def test_ended_by_the_batch_system_it_does_not_come_back(tmp_path):
    (tmp_path / "case.toml").write_text(SMALL.replace("cycles = 3", "cycles = 500"))
    log = (tmp_path / "log").open("w+")
    words = ["job", "attempt", "--script", "x.sh", "--", "run", "case.toml", "-o", "r.h5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "nanoslit", *words], cwd=tmp_path, stderr=log,
        env={**os.environ, "PBS_JOBID": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 60
    while not (found := children.read_text().split()):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # a batch system tells every process
    os.kill(int(found[0]), signal.SIGTERM)
    assert process.wait(120) != 0
    log.seek(0)
    text = log.read()
    log.close()
    assert "the batch system ends this job" in text
    assert "qsub" not in text
    assert not Path(f"/proc/{found[0]}").exists()


def test_outside_of_a_batch_system_the_attempt_says_so(tmp_path):
    (tmp_path / "case.toml").write_text(SMALL)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "PBS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "nanoslit", "job", "attempt", "--stop-after", "0", "--",
         "run", "case.toml", "-o", "r.h5"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 85
    assert "no batch system here" in done.stderr
