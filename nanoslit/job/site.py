"""Site settings: the shell file that job scripts source, as far as their writing needs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nanoslit.errors import CaseError
from nanoslit.units import parse_quantity

__all__ = ["SCHEDULERS", "Site", "read_site"]

SCHEDULERS = ("slurm", "pbs")
_NAMES = (
    "SITE_SCHEDULER", "SITE_PARTITION", "SITE_ACCOUNT", "SITE_CORES_PER_NODE",
    "SITE_MEMORY_PER_NODE", "SITE_MAX_TIME", "SITE_EXTRA",
)  # fmt: skip
_PRINT = '. "$1" > /dev/null || exit 1; shift; for n; do printf "%s\\0" "${!n-}"; done'


@dataclass(frozen=True)
class Site:
    """What a cluster offers and wants to be told.

    Parameters
    ----------
    path : Path, optional
        The file; without one, jobs use the Python that wrote them.
    scheduler : {"slurm", "pbs"}
    partition, account : str
        Empty: the site's default.
    cores : int
        Of one node.
    memory : float
        Of one node [byte].
    max_time : float
        Longest wall time of a job [s].
    extra : str
        Further directives, in one line.
    """

    path: Path | None = None
    scheduler: str = "slurm"
    partition: str = ""
    account: str = ""
    cores: int = 32
    memory: float = 120e9
    max_time: float = 24 * 3600.0
    extra: str = ""

    def __post_init__(self) -> None:
        where = self.path or "site"
        if self.scheduler not in SCHEDULERS:
            raise CaseError(
                f"{where}: SITE_SCHEDULER = {self.scheduler!r} must be "
                f"{' or '.join(SCHEDULERS)}"
            )
        if self.cores < 1 or self.memory <= 0 or self.max_time < 600:
            raise CaseError(
                f"{where}: a node needs at least 1 core and some memory, a job 10 minutes; "
                f"given {self.cores} cores, {self.memory:g} byte, {self.max_time:g} s"
            )


def read_site(path: Path | None = None, scheduler: str | None = None) -> Site:
    """Return the settings of a file, else of ``NANOSLIT_SITE``, else of ``jobs/site.env``.

    Parameters
    ----------
    path : Path, optional
    scheduler : str, optional
        Instead of the file's; without any, that whose submit command is on the PATH.

    Raises
    ------
    CaseError
        If the file is missing or says something impossible.
    """
    if path is None and os.environ.get("NANOSLIT_SITE"):
        path = Path(os.environ["NANOSLIT_SITE"])
    if path is None and Path("jobs/site.env").exists():
        path = Path("jobs/site.env")
    found = {} if path is None else _variables(path)
    default = "pbs" if shutil.which("qsub") and not shutil.which("sbatch") else "slurm"
    try:
        return Site(
            path=None if path is None else path.resolve(),
            scheduler=scheduler or found.get("SITE_SCHEDULER") or default,
            partition=found.get("SITE_PARTITION", ""),
            account=found.get("SITE_ACCOUNT", ""),
            cores=int(found.get("SITE_CORES_PER_NODE") or Site.cores),
            memory=_quantity(found, "SITE_MEMORY_PER_NODE", "byte", Site.memory),
            max_time=_quantity(found, "SITE_MAX_TIME", "s", Site.max_time),
            extra=found.get("SITE_EXTRA", ""),
        )
    except ValueError as error:
        raise error if isinstance(error, CaseError) else CaseError(f"{path}: {error}") from None


def _quantity(found: dict[str, str], name: str, unit: str, default: float) -> float:
    text = found.get(name)
    try:
        return parse_quantity(text, unit) if text else default
    except CaseError as error:
        raise CaseError(f"{name}: {error}") from None


def _variables(path: Path) -> dict[str, str]:
    """Return the variables that a site file sets, as bash reads it."""
    if not path.is_file():
        raise CaseError(f"{path}: no such file; copy jobs/site.env.example there and edit it")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SITE_")}
    done = subprocess.run(
        ["bash", "-c", _PRINT, "bash", str(path.resolve()), *_NAMES],
        capture_output=True, text=True, timeout=60, check=False, env=clean,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode:
        raise CaseError(f"{path}: bash cannot read it: {done.stderr.strip()}")
    return dict(zip(_NAMES, done.stdout.split("\0"), strict=False))
