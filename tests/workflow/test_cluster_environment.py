"""The cluster guide of the README, against this machine's MPI, PETSc and HDF5.

mpi4py, petsc4py and h5py are compiled as a cluster's user would, in an environment that
sees none of Debian's Python packages; then the first jobs of the guide run there.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from example_case import EXAMPLE
from local_slurm import LocalSlurm, missing
from sweep_plans import sweep_plan

ROOT = Path(__file__).resolve().parents[2]
PETSC = sorted(Path("/usr/lib/petscdir").glob("petsc3.*/*-real"))
HDF5 = sorted(Path("/usr/lib").glob("*-linux-gnu/hdf5/openmpi"))
HEADERS = [*(p / "include/petsc.h" for p in PETSC[-1:]), *(p / "include/hdf5.h" for p in HDF5)]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mpi,
    pytest.mark.slurm,
    pytest.mark.skipif(
        shutil.which("mpicc") is None or len(HEADERS) < 2 or not all(map(Path.exists, HEADERS)),
        reason="needs headers: libopenmpi-dev, libpetsc-real-dev, libhdf5-openmpi-dev",
    ),
    pytest.mark.skipif(
        bool(missing()), reason=f"SLURM is not installed: no {', '.join(missing())}"
    ),
]


def guide():
    """Return the commands of the guide that build the environment."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("### From `module load`")[2]
    block = re.search(r"```bash\n(module load.*?)```", section, re.DOTALL).group(1)
    return "\n".join(line for line in block.splitlines() if not line.startswith("module"))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Build the environment; return the user's home and environment variables."""
    home = tmp_path_factory.mktemp("home")
    version = re.search(r"petsc(\d+\.\d+)", str(PETSC[-1])).group(1)
    dropped = ("PYTHON", "VIRTUAL_ENV", "OMPI_", "SLURM_", "PETSC", "NANOSLIT")
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(dropped)},
        "HOME": str(home), "PIP_CACHE_DIR": str(home / "cache"), "PETSC_DIR": str(PETSC[-1]),
        "PETSC_ARCH": "", "PETSC_VERSION": version, "HDF5_DIR": str(HDF5[-1]),
        "PATH": "/usr/local/bin:/usr/bin:/bin", "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }  # fmt: skip
    for name in ("pip.conf", ".config/pip/pip.conf"):  # where the package index is
        source = Path.home() / name
        if source.exists():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, home / name)
    source = home / "source"
    source.mkdir()
    for name in ("nanoslit", "jobs"):
        shutil.copytree(
            ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    built = subprocess.run(
        ["bash", "-e", "-c", guide()], cwd=source, env=environment, capture_output=True,
        text=True, timeout=3000, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    return home, environment


def test_the_stack_is_the_clusters(home):
    folder, environment = home
    environment = environment | {"OMPI_MCA_rmaps_base_oversubscribe": "1"}
    shown = subprocess.run(
        [folder / "nanoslit/bin/nanoslit", "doctor"], env=environment, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout
    probe = (
        "import mpi4py, petsc4py, h5py; print(*(m.__file__ for m in (mpi4py, petsc4py, h5py)))"
    )
    found = subprocess.run(
        [folder / "nanoslit/bin/python", "-c", probe], env=environment, capture_output=True,
        text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert all(Path(name).is_relative_to(folder) for name in found)


def test_first_solve_and_first_sweep_as_jobs(home):
    folder, environment = home
    source = folder / "source"
    site = (source / "jobs/site.env.example").read_text()
    site = site.replace(
        '# . "$HOME/nanoslit/bin/activate"', f". {folder}/nanoslit/bin/activate"
    )
    site = site.replace("  . jobs/bootstrap.sh ", "  #")
    site = site.replace("SITE_CORES_PER_NODE=32", "SITE_CORES_PER_NODE=2")
    (source / "jobs/site.env").write_text(site)
    (source / "case.toml").write_text(EXAMPLE + '[numerics]\nmesh = "coarse"\n')
    (source / "plan.toml").write_text(sweep_plan((1, 2)))
    with LocalSlurm() as slurm:
        variables = {k: environment[k] for k in environment if k != "PATH"}
        variables["PATH"] = f"{folder}/nanoslit/bin:{slurm.environment['PATH']}"
        for words in (
            ("solve", "case.toml", "-o", "r.h5", "--ranks", "2"),
            ("sweep", "plan.toml", "-o", "dir"),
        ):
            told = slurm.do(
                folder / "nanoslit/bin/nanoslit", "job", *words, "--submit", cwd=source,
                **variables,
            )  # fmt: skip
            number = int(told.split()[-1])
            logs = "".join(p.read_text() for p in source.glob("ns-*.log"))
            assert slurm.end_of(number, 400) == "COMPLETED", logs
    assert (source / "r.h5").exists()
    assert len(list(source.glob("dir/pts/*/*/result.h5"))) == 2
