"""What a machine offers: PETSc, MUMPS, MPI, parallel HDF5, Dask, SLURM.

Everything that starts MPI is tried in a child program, so that the caller never becomes
an MPI rank and a crash there is a finding, not an end.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoslit.errors import LaunchError
from nanoslit.launch import clean_environment, prefix

__all__ = ["Finding", "examine"]

_BOOTSTRAP = "bash jobs/bootstrap.sh installs it on Debian; on a cluster see the README"
_IMPORT_PROBE = """
import json, {module}
print(json.dumps({module}.__version__))
"""

# run on every rank; rank 0 prints one JSON line
_RANK_PROBE = """
import json, sys
import mpi4py, petsc4py
from mpi4py import MPI
petsc4py.init([])
from petsc4py import PETSc
import h5py, numpy as np
comm = MPI.COMM_WORLD
libraries = set()
try:
    with open("/proc/self/maps") as maps:
        libraries = {line.split()[-1] for line in maps if "/libmpi.so" in line
                     or "/libmpich.so" in line or "/libmpi_intel" in line}
except OSError:
    pass
out = {
    "ranks": comm.size, "petsc_ranks": PETSc.COMM_WORLD.size,
    "mpi": MPI.Get_library_version().split(",")[0].strip("\\0 \\n"),
    "mpi4py": mpi4py.__version__, "petsc": ".".join(map(str, PETSc.Sys.getVersion())),
    "libraries": sorted(libraries), "h5py": h5py.__version__,
    "parallel_hdf5": bool(h5py.get_config().mpi),
}
try:
    A = PETSc.Mat().createAIJ([8, 8], nnz=3, comm=comm)
    A.setUp()
    for i in range(*A.getOwnershipRange()):
        A[i, i] = 2.0
        if i: A[i, i - 1] = -1.0
        if i < 7: A[i, i + 1] = -1.0
    A.assemble()
    b, x = A.createVecs()
    b.set(1.0)
    ksp = PETSc.KSP().create(comm)
    ksp.setOperators(A)
    ksp.setType("preonly")
    ksp.pc.setType("lu")
    ksp.pc.setFactorSolverType("mumps")
    ksp.solve(b, x)
    r = b.duplicate()
    A.mult(x, r)
    r.axpy(-1.0, b)
    out["mumps_residual"] = r.norm()
except Exception as error:
    out["mumps_error"] = str(error).splitlines()[-1]
if out["parallel_hdf5"]:
    try:
        with h5py.File(sys.argv[1], "w", driver="mpio", comm=comm) as file:
            file.create_dataset("rank", (comm.size,), "i4")[comm.rank] = comm.rank
        comm.Barrier()
        with h5py.File(sys.argv[1], "r", driver="mpio", comm=comm) as file:
            out["hdf5_written"] = file["rank"][:].tolist() == list(range(comm.size))
    except Exception as error:
        out["hdf5_error"] = str(error).splitlines()[-1]
if comm.rank == 0:
    print(json.dumps(out))
"""


@dataclass(frozen=True)
class Finding:
    """One part of the machine.

    Parameters
    ----------
    part : str
        What was looked for.
    state : {"ok", "missing", "absent"}
        ``absent`` is something optional that is not there.
    found : str
        Version, or what went wrong.
    remedy : str
        How to get it.
    """

    part: str
    state: str
    found: str
    remedy: str = ""


def examine(timeout: float = 60.0) -> list[Finding]:
    """Return the findings on every part, required ones first.

    Parameters
    ----------
    timeout : float
        How long the program on two ranks may take [s].
    """
    return [*_packages(), *_parallel(timeout), *_scheduler()]


def _run(command: list[str], timeout: float) -> tuple[Any, str]:
    """Return the JSON that a child prints last, or None and what went wrong."""
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=clean_environment(os.environ),
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout:g} s"
    except OSError as error:
        return None, str(error)
    last = child.stdout.strip().splitlines()[-1:]
    if child.returncode == 0 and last:
        return json.loads(last[0]), ""
    errors = [line for line in child.stderr.splitlines() if line.strip(" -")]
    named = [line for line in errors if "Error" in line]
    return None, (named or errors or [f"exit code {child.returncode}"])[-1].strip()


def _version(name: str) -> str | None:
    """Return the version of a package, empty if it does not tell, None if absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # Debian's h5py has no metadata
        found = importlib.util.find_spec(name.replace("-", "_"))
        return None if found is None else ""


def _packages() -> Iterator[Finding]:
    """Yield the Python packages that can be looked up without starting anything."""
    yield Finding("Python", "ok", f"{sys.version.split()[0]} ({sys.executable})")
    for part, names, extra in (
        ("NumPy, SciPy, h5py", ("numpy", "scipy", "h5py"), ""),
        ("Dask", ("dask", "distributed", "dask-jobqueue"), "sweep"),
        ("DEAP", ("deap",), "discovery"),
        ("Numba", ("numba",), "fast"),
        ("Matplotlib", ("matplotlib",), "plot"),
    ):
        versions, lacking = [], []
        for name in names:
            version = _version(name)
            if version is None:
                lacking.append(name)
            else:
                versions.append(f"{name} {version}".strip())
        state = "missing" if lacking else "ok"
        wanted = f"nanoslit[{extra}]" if extra else "nanoslit"
        found = "no " + ", ".join(lacking) if lacking else ", ".join(versions)
        yield Finding(part, state, found, f"pip install '{wanted}'")


def _parallel(timeout: float) -> Iterator[Finding]:
    """Yield MPI, PETSc, MUMPS and HDF5 as seen by a program on two ranks."""
    launcher: list[str] = []
    try:
        launcher = prefix(2)
        yield Finding("MPI launcher", "ok", " ".join(launcher))
    except LaunchError as error:
        yield Finding("MPI launcher", "missing", str(error), _BOOTSTRAP)
    for module in ("mpi4py", "petsc4py"):
        version, why = _run([sys.executable, "-c", _IMPORT_PROBE.format(module=module)], 30)
        state = "ok" if version else "missing"
        yield Finding(module, state, version or why, _BOOTSTRAP)
        launcher = launcher if version else []
    if not launcher:
        for part in ("two ranks", "one MPI library", "MUMPS", "parallel HDF5"):
            yield Finding(part, "missing", "not tried", "install the parts above first")
        return
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.py"
        probe.write_text(_RANK_PROBE)
        data = str(Path(folder) / "probe.h5")
        command = [*launcher, sys.executable, str(probe), data]
        seen, why = _run(command, timeout)
    yield from _two_ranks(seen, why)


def _two_ranks(seen: dict[str, Any] | None, why: str) -> Iterator[Finding]:
    if seen is None:
        yield Finding(
            "two ranks",
            "missing",
            why,
            "this launcher must work here; as root OpenMPI wants "
            "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, on few cores "
            "OMPI_MCA_rmaps_base_oversubscribe=1 (sourcing jobs/bootstrap.sh sets them)",
        )
        return
    good = seen["ranks"] == seen["petsc_ranks"] == 2
    found = f"mpi4py sees {seen['ranks']}, PETSc sees {seen['petsc_ranks']}; {seen['mpi']}"
    remedy = (
        "launcher, mpi4py, petsc4py and h5py must use the same MPI: rebuild them with "
        "the mpicc of this mpirun (README, cluster)"
    )
    yield Finding("two ranks", "ok" if good else "missing", found, remedy)
    one = len(seen["libraries"]) <= 1
    found = ", ".join(seen["libraries"]) or "not told by this system"
    yield Finding("one MPI library", "ok" if one else "missing", found, remedy)
    solved = seen.get("mumps_residual", 1.0) < 1e-10
    found = seen.get("mumps_error") or f"PETSc {seen['petsc']}, solved on two ranks"
    yield Finding("MUMPS", "ok" if solved else "missing", found, "use a PETSc built with MUMPS")
    written = bool(seen.get("hdf5_written"))
    found = f"h5py {seen['h5py']}, parallel: {seen['parallel_hdf5']}"
    yield Finding(
        "parallel HDF5",
        "ok" if written else "missing",
        seen.get("hdf5_error") or found,
        "Debian: apt-get install python3-h5py-mpi; cluster: build h5py with HDF5_MPI=ON",
    )


def _scheduler() -> Iterator[Finding]:
    """Yield the SLURM client, which a single machine does without."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        yield Finding(
            "SLURM client",
            "absent",
            "no sbatch on PATH (optional)",
            "needed only to submit to a cluster; log in to its front end",
        )
    else:
        yield Finding("SLURM client", "ok", sbatch)
