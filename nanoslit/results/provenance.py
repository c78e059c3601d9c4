"""What makes a number repeatable: case, key, versions, host, ranks, times, errors."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanoslit.case import Case

__all__ = ["ERROR_ESTIMATES", "MESH_ERRORS", "describe", "describe_attempt"]

MESH_ERRORS: dict[str, dict[str, float]] = {
    "coarse": {
        "cv_area": 0.0045,
        "r_c": 0.0092,
        "gamma": 0.018,
        "r_c_electrochemical": 0.021,
        "gamma_electrochemical": 0.037,
    },
    "standard": {
        "cv_area": 0.002,
        "r_c": 0.0018,
        "gamma": 0.0041,
        "r_c_electrochemical": 0.0089,
        "gamma_electrochemical": 0.021,
    },
    "fine": {
        "cv_area": 0.00039,
        "r_c": 0.00042,
        "gamma": 0.00067,
        "r_c_electrochemical": 0.0017,
        "gamma_electrochemical": 0.0044,
    },
}
"""What each mesh preset is worth with its own step tolerance: largest deviation from the
extrapolated limit over the eleven cases of ``analysis/mesh_study.py`` (slits of 0.8 to 5 nm,
ions of 0.3 to 0.66 nm, 0.1 to 1 mol/L, 0.2 and 0.5 V), relative for area and R_c, absolute
for gamma, which is small in wide slits. ``r_c`` and ``gamma`` are those of the potential at the
middle of the slits."""

ERROR_ESTIMATES = {
    preset: f"mesh preset {preset}: R_c to {100 * e['r_c']:.2g} %, "
    f"gamma to {e['gamma']:.2g}, CV area to {100 * e['cv_area']:.2g} %"
    for preset, e in MESH_ERRORS.items()
} | {"explicit": "explicit mesh spacing: compare with a finer one"}
"""The same in words, for result files."""

_LIBRARIES = ("numpy", "scipy", "h5py", "petsc4py", "mpi4py")


def describe(case: Case, comm: Any = None) -> dict[str, Any]:
    """Return what is known of a run before it starts, as flat attributes.

    Parameters
    ----------
    case : Case
    comm : mpi4py communicator, optional
    """
    from nanoslit import __version__
    from nanoslit.casefile import MODEL_VERSION, content_key
    from nanoslit.errors import CaseError

    try:
        key = content_key(case)
    except CaseError:  # a protocol that exists in Python only
        key = ""
    mesh = case.numerics.mesh if isinstance(case.numerics.mesh, str) else "explicit"
    estimate = ERROR_ESTIMATES[mesh]
    if case.numerics.tolerance is not None and mesh != "explicit":
        estimate += f"; but with step tolerance {case.numerics.tolerance:g}"
    out: dict[str, Any] = {
        "case_name": case.name,
        "content_key": key,
        "model_version": MODEL_VERSION,
        "code_version": __version__,
        **_revision(),
        "python": platform.python_version(),
        "ranks": 1 if comm is None else comm.size,
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "command": " ".join(sys.argv),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID", ""),
        "error_estimate": estimate,
    }
    for name in _LIBRARIES:
        try:
            out[f"version_{name}"] = version(name)
        except PackageNotFoundError:
            # Debian's h5py has no metadata
            out[f"version_{name}"] = getattr(sys.modules.get(name), "__version__", "none")
    return out | _libraries()


def describe_attempt(comm: Any, time: float) -> dict[str, Any]:
    """Return who continues a run, and from where.

    Parameters
    ----------
    comm : mpi4py communicator, optional
    time : float
        Simulated time at the start [s].
    """
    job = os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or ""
    count = os.environ.get("SLURM_RESTART_COUNT") or os.environ.get("NANOSLIT_RESTARTS") or "0"
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "from_time": time,
        "ranks": 1 if comm is None else comm.size,
        "host": socket.gethostname(),
        "job": job,
        "restart": int(count) if count.isdigit() else 0,
    }


def _libraries() -> dict[str, str]:
    """Return the versions of the compiled libraries that are already loaded."""
    out = {}
    if "h5py" in sys.modules:
        out["version_hdf5"] = sys.modules["h5py"].version.hdf5_version
    if "petsc4py.PETSc" in sys.modules:
        numbers = sys.modules["petsc4py.PETSc"].Sys.getVersion()
        out["version_petsc"] = ".".join(map(str, numbers))
    if "mpi4py.MPI" in sys.modules:
        text = sys.modules["mpi4py.MPI"].Get_library_version()
        out["version_mpi"] = text.split(",")[0].strip("\0 \n")
    return out


def _revision() -> dict[str, str]:
    """Return the git revision of the source tree, if the package runs from one."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return {"revision": "", "revision_state": "installed package"}

    words = ["status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", "nanoslit"]
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {"revision": "", "revision_state": "unknown"}
    lines = done.stdout.splitlines()
    commits = [line.split()[-1] for line in lines if line.startswith("# branch.oid")]
    changed = any(not line.startswith("#") for line in lines)
    return {
        "revision": commits[0] if commits else "",
        "revision_state": "modified" if changed else "clean" if commits else "unknown",
    }
