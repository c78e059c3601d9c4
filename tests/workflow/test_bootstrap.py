"""The set-up scripts: quick when nothing is to be done, repairing when something is."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [*sorted((ROOT / "jobs").rglob("*.sh")), ROOT / "tests/run.sh", ROOT / ".ci/run"]
ALLOCATIONS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")

in_its_environment = pytest.mark.skipif(
    Path(sys.prefix) != ROOT / ".venv" or not (ROOT / ".venv/.stamp").exists(),
    reason="needs the environment of jobs/bootstrap.sh (bash tests/run.sh)",
)
as_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root, to become a user without rights",
)


def outside():
    """Return the environment of a fresh shell."""
    dropped = ("OMPI_", "VIRTUAL_ENV", "PYTHON", "NANOSLIT_", *ALLOCATIONS)
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)}


def bash(script, cwd=ROOT, **variables):
    return subprocess.run(
        ["bash", "-c", script],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
        env=outside() | variables,
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_shellcheck(script):
    checked = subprocess.run(
        ["shellcheck", "-x", script], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@in_its_environment
def test_warm_start_takes_no_time():
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        done = bash("bash jobs/bootstrap.sh --tests")
        times.append(time.perf_counter() - begin)
        assert done.returncode == 0
        assert done.stderr == ""
    assert min(times) < 1.0


@in_its_environment
def test_run_environment():
    shown = bash(". jobs/bootstrap.sh && command -v nanoslit && env")
    assert shown.stdout.splitlines()[0] == str(ROOT / ".venv/bin/nanoslit")
    assert "OMPI_MCA_rmaps_base_oversubscribe=1" in shown.stdout
    assert ("OMPI_ALLOW_RUN_AS_ROOT=1" in shown.stdout) == (os.getuid() == 0)
    assert "OMP_NUM_THREADS=1" in shown.stdout


@in_its_environment
@pytest.mark.parametrize("variable", ALLOCATIONS)
def test_scheduler_decides_inside_an_allocation(variable):
    shown = bash(". jobs/bootstrap.sh && env", **{variable: "17"})
    assert shown.returncode == 0
    assert "OMPI_" not in shown.stdout


@in_its_environment
def test_quick_start(tmp_path):
    done = bash("bash jobs/quickstart.sh")
    assert done.returncode == 0, done.stderr
    assert "valid case 'example'" in done.stdout


def copy_of_the_checkout(folder):
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("nanoslit", "jobs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.mark.slow
@in_its_environment
def test_set_up_twice_at_once_then_half_removed(tmp_path):
    copy = copy_of_the_checkout(tmp_path / "copy")
    # one installs, the other waits, both end well
    twice = "bash jobs/bootstrap.sh & bash jobs/bootstrap.sh; code=$?; wait $! && exit $code"
    both = bash(twice, copy)
    assert both.returncode == 0, both.stderr
    assert both.stderr.count("installing Python packages") == 1
    assert both.stderr.count("waiting") == 1
    # whatever is lost is noticed and comes back
    site = next((copy / ".venv/lib").glob("python3.*/site-packages"))
    for victim in (site / "scipy" / "linalg" / "__init__.py", copy / ".venv/bin/python"):
        victim.unlink()
        repaired = bash("bash jobs/bootstrap.sh", copy)
        assert repaired.returncode == 0, repaired.stderr
        assert "installing Python packages" in repaired.stderr
        assert victim.exists()
    # a change of what is wanted keeps the environment and brings it up to date
    marker = copy / ".venv" / "marker"
    marker.touch()
    with (copy / "pyproject.toml").open("a") as file:
        file.write("\n# changed\n")
    assert bash("bash jobs/bootstrap.sh", copy).returncode == 0
    assert marker.exists()


@pytest.mark.slow
@in_its_environment
def test_interpreter_of_a_cluster(tmp_path):
    """NANOSLIT_PYTHON: its MPI packages are used, the rest goes into .venv."""
    copy = copy_of_the_checkout(tmp_path / "copy")
    done = bash("bash jobs/bootstrap.sh", copy, NANOSLIT_PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    probe = (
        "import petsc4py, mpi4py, nanoslit; print(petsc4py.__file__); print(nanoslit.__file__)"
    )
    command = f". jobs/bootstrap.sh && python -c '{probe}'"
    shown = bash(command, copy, NANOSLIT_PYTHON=sys.executable)
    petsc, package = shown.stdout.split()
    import petsc4py

    assert petsc == petsc4py.__file__
    assert Path(package).is_relative_to(copy)


@in_its_environment
def test_interpreter_without_petsc_is_refused(tmp_path):
    plain = tmp_path / "plain"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", plain], check=True)
    copy = copy_of_the_checkout(tmp_path / "copy")
    done = bash("bash jobs/bootstrap.sh", copy, NANOSLIT_PYTHON=str(plain / "bin/python"))
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "petsc4py" in done.stderr
    assert not (copy / ".venv").exists()


@as_root
def test_without_rights_one_line_names_the_packages(tmp_path):
    copy = copy_of_the_checkout(tmp_path / "copy")
    script = copy / "jobs/bootstrap.sh"
    script.write_text(script.read_text().replace("python3-venv ", "python3-venv no-such-pkg "))
    tmp_path.chmod(0o777)
    for folder in (copy, *tmp_path.parents[:-1]):
        folder.chmod(folder.stat().st_mode | 0o055)
    subprocess.run(["chown", "-R", "65534:65534", copy], check=True)
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    done = bash(f"{user} bash jobs/bootstrap.sh", copy, HOME=str(copy))
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get install" in done.stderr
    assert "no-such-pkg" in done.stderr
    assert "openmpi-bin" not in done.stderr  # only what is missing
