"""How programs are started in allocations: the choice of launcher, the environment."""

import os
import subprocess
import sys

import pytest

from nanoslit import launch
from nanoslit.errors import LaunchError
from nanoslit.launch import choose_launcher, clean_environment, command_line


@pytest.fixture
def programs(monkeypatch):
    """Set which launchers this machine has."""

    def have(*names):
        monkeypatch.setattr(
            launch.shutil, "which", lambda name: f"/bin/{name}" if name in names else None
        )
        monkeypatch.setattr(launch, "_srun_mpi", lambda: " --mpi=pmix")

    return have


def allocation(nodes, tasks, **more):
    return {"SLURM_JOB_ID": "1", "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_NTASKS": str(tasks),
            **more}  # fmt: skip


def test_one_program_gets_mpirun_many_get_steps(programs):
    programs("mpirun", "srun")
    assert choose_launcher(4, {}) == launch.LAUNCHER
    assert choose_launcher(1, {}) == ""
    assert choose_launcher(2, allocation(1, 8)) == launch.LAUNCHER
    assert choose_launcher(64, allocation(2, 64)) == launch.LAUNCHER
    # mpirun would put every program on the first node
    for ranks in (1, 4):
        words = command_line(["run"], ranks, None, allocation(2, 64))
        assert words[:4] == ["srun", "--mpi=pmix", "--exact", "--kill-on-bad-exit=1"]
        assert words[4:6] == ["--nodes=1", f"--ntasks={ranks}"]
    assert "--nodes=2" in command_line(["run"], 33, None, allocation(3, 96))


def test_ranks_are_bound_where_whole_nodes_are_ours_alone(programs):
    programs("mpirun")
    whole = allocation(2, 64, SLURM_CPUS_ON_NODE=str(os.cpu_count()))
    assert "--bind-to core" in choose_launcher(64, whole)
    part = allocation(2, 64, SLURM_CPUS_ON_NODE=str(os.cpu_count() + 1))
    assert "--bind-to none" in choose_launcher(64, part)


def test_whichever_launcher_there_is(programs):
    programs("mpiexec")
    assert choose_launcher(2, {}) == "mpiexec -n {ranks}"
    programs("srun")
    assert choose_launcher(2, allocation(1, 2)).startswith("srun --mpi=pmix")
    programs()
    with pytest.raises(LaunchError, match="not on the PATH"):
        command_line(["run"], 2, None, {})


def test_the_site_decides_unless_the_program_is_no_mpi_program(programs):
    programs("aprun")
    site = {"NANOSLIT_LAUNCHER": "aprun -n {ranks}"}
    assert command_line(["run"], 3, None, site)[:3] == ["aprun", "-n", "3"]
    assert command_line(["run"], 1, None, site)[0] == "aprun"
    assert command_line(["sweep"], 1, "", site)[0] == sys.executable
    with pytest.raises(LaunchError, match="template"):
        command_line(["run"], 1, "aprun {cores}", site)


@pytest.mark.mpi
def test_mpirun_uses_the_hosts_of_pbs(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{os.uname().nodename}\n" * 3)
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    environment = {**os.environ, **allowed, "PBS_NODEFILE": str(hosts)}
    for name in ("OMPI_MCA_rmaps_base_oversubscribe", "NANOSLIT_LAUNCHER"):
        environment.pop(name, None)
    prefix = command_line([], 3, None, environment)[:-3]
    assert prefix[-2:] == ["--hostfile", str(hosts)]
    for ranks, code in ((3, 0), (4, 1)):  # as many slots as PBS gave
        words = [w if w != "3" else str(ranks) for w in prefix]
        done = subprocess.run(
            [*words, "true"], env=clean_environment(environment), capture_output=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code


def test_traps_of_the_environment():
    kept = clean_environment(
        {
            "PATH": "/bin", "OMPI_MCA_btl": "self", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0",
            "SLURM_STEPID": "0", "SLURM_PROCID": "0", "SLURM_CPU_BIND": "mask",
            "SLURM_EXPORT_ENV": "NONE", "SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "2",
        },
        "/tmp/ns-x",
    )  # fmt: skip
    assert kept["OMPI_MCA_btl"] == "self"
    assert kept["SLURM_JOB_ID"] == "7"
    assert kept["SLURM_EXPORT_ENV"] == "ALL"
    assert kept["TMPDIR"] == kept["OMPI_MCA_orte_tmpdir_base"] == "/tmp/ns-x"
    gone = ("SLURM_STEP", "SLURM_PROCID", "SLURM_CPU_BIND", "SLURM_MEM")
    assert not [name for name in kept if name.startswith(gone)]
    assert "OMP_NUM_THREADS" in kept


def test_one_memory_limit_is_no_contradiction():
    assert clean_environment({"SLURM_MEM_PER_CPU": "1"})["SLURM_MEM_PER_CPU"] == "1"


@pytest.mark.mpi
def test_launches_of_the_same_moment_do_not_collide(monkeypatch):
    for name in ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("OMPI_MCA_rmaps_base_oversubscribe", "1")
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [launch.start(["--version"], ranks=2, **quiet) for _ in range(6)]
    assert len({child.scratch.path for child in started}) == len(started)
    for child in started:
        with child:
            out, err = child.process.communicate(timeout=120)
            assert child.poll() == 0, err
            assert out.count(b"nanoslit") == 2
        assert not child.scratch.path.exists()
