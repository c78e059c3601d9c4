"""A sweep's folder: what lies where, and the small files that hold its state.

::

    DIR/sweep.json                 what this folder is
    DIR/plans/NAME-HASH.toml       every plan that was run here, standing alone
    DIR/catalogue.sqlite           index; can be rebuilt from the files
    DIR/owner.json, owner.lock     the service that works here
    DIR/run/                       requests to the service, progress of solves, logs
    DIR/pts/ab/cdef.../            one folder a point, named by its content key:
        result.h5                  the result; its presence means done
        done.json                  digest, cost and numbers of the result
        lease.json                 number of the attempt that may write the result
        failed.json, case.toml     why the last attempt failed, and the case
        work.h5.checkpoint-*       checkpoints of an unfinished run

A result is linked into its place, which fails where one exists already: no point is
written twice, and a reader never sees half a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoslit.atomic import write_text
from nanoslit.errors import SweepError

__all__ = ["Folder", "Point", "read_json", "write_json"]

_FORMAT = 1


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a JSON file, None if it is missing or torn."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Replace a JSON file in one piece (not flushed to the disk: it can be rebuilt)."""
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        part.write_text(json.dumps(data, allow_nan=True), encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


@dataclass(frozen=True)
class Point:
    """The folder of one point."""

    path: Path

    @property
    def result(self) -> Path:
        """The result file."""
        return self.path / "result.h5"

    @property
    def work(self) -> Path:
        """Where a run writes before its result is put in place; names its checkpoints."""
        return self.path / "work.h5"

    @property
    def done(self) -> dict[str, Any] | None:
        """What is known of the result."""
        return read_json(self.path / "done.json")

    @property
    def failed(self) -> dict[str, Any] | None:
        """Why the last attempt failed."""
        return read_json(self.path / "failed.json")

    @property
    def has_checkpoint(self) -> bool:
        """Whether an interrupted run can be continued."""
        return any(self.path.glob("work.h5.checkpoint-*"))

    # -- lease and fence --------------------------------------------------------------

    def take_lease(self, attempt: int) -> bool:
        """Take the right to write the result; False if a newer attempt has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.leased_to() > attempt:
            return False
        write_json(
            self.path / "lease.json",
            {"attempt": attempt, "pid": os.getpid(), "host": os.uname().nodename,
             "taken": time.time()},
        )  # fmt: skip
        return True

    def leased_to(self) -> int:
        """Return the number of the attempt that may write the result, 0 for none."""
        lease = read_json(self.path / "lease.json")
        return int(lease["attempt"]) if lease else 0

    def publish(self, attempt: int) -> bool:
        """Put the work file in place as the result; False if this attempt lost its lease.

        The link fails where a result exists, so that it is written once.
        """
        if self.leased_to() > attempt:
            self.work.unlink(missing_ok=True)
            return False
        try:
            os.link(self.work, self.result)
        except FileExistsError:
            self.work.unlink(missing_ok=True)
            return False
        except OSError:  # a file system without hard links
            if self.result.exists():
                return False
            self.work.replace(self.result)
        self.work.unlink(missing_ok=True)
        return True

    def sweep_up(self) -> None:
        """Remove what killed attempts left (half-written files)."""
        for part in self.path.glob(".*.part-*"):
            part.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove everything but the folder, so that the point is computed again."""
        for item in list(self.path.iterdir()) if self.path.is_dir() else []:
            item.unlink(missing_ok=True)


@dataclass(frozen=True)
class Folder:
    """A sweep's folder."""

    root: Path

    @classmethod
    def create(cls, root: Path) -> Folder:
        """Make the folder, or open it if it is one of ours.

        Raises
        ------
        SweepError
            If something else is there, or the folder cannot be written.
        """
        folder = cls(root)
        if root.exists() and not root.is_dir():
            raise SweepError(f"{root}: is a file; give the folder of a sweep")
        if root.is_dir() and any(root.iterdir()) and not folder.marker.exists():
            raise SweepError(
                f"{root}: is a folder with other things in it; give an empty or new one"
            )
        try:
            for name in ("plans", "pts", "run"):
                (root / name).mkdir(parents=True, exist_ok=True)
            if not folder.marker.exists():
                write_text(folder.marker, json.dumps({"format": _FORMAT}) + "\n")
        except OSError as error:
            raise SweepError(f"{root}: cannot be written ({error.strerror})") from None
        return folder.checked()

    @classmethod
    def open(cls, root: Path) -> Folder:
        """Return an existing sweep's folder.

        Raises
        ------
        SweepError
            If it is none, or was made by another version.
        """
        if not (root / "sweep.json").exists():
            raise SweepError(
                f"{root}: is no folder of a sweep; start one with "
                f"`nanoslit sweep run PLAN.toml -o {root}`"
            )
        return cls(root).checked()

    def checked(self) -> Folder:
        """Return this folder if its format is known."""
        found = (read_json(self.marker) or {}).get("format")
        if found != _FORMAT:
            raise SweepError(
                f"{self.root}: has format {found}, this version reads format {_FORMAT}"
            )
        return self

    @property
    def marker(self) -> Path:
        """The file that says what this folder is."""
        return self.root / "sweep.json"

    @property
    def catalogue(self) -> Path:
        """The index."""
        return self.root / "catalogue.sqlite"

    @property
    def run(self) -> Path:
        """Requests, progress and logs."""
        return self.root / "run"

    def point(self, key: bytes | str) -> Point:
        """Return the folder of a point (it may not exist yet)."""
        name = key.hex() if isinstance(key, bytes) else key
        return Point(self.root / "pts" / name[:2] / name[2:])

    def found(self) -> Iterator[tuple[bytes, Point]]:
        """Yield every point that has a folder."""
        for outer in sorted((self.root / "pts").iterdir()):
            for inner in sorted(outer.iterdir()) if outer.is_dir() else []:
                with contextlib.suppress(ValueError):
                    yield bytes.fromhex(outer.name + inner.name), Point(inner)

    # -- plans ------------------------------------------------------------------------

    def add_plan(self, name: str, text: str) -> Path:
        """Keep the text of a plan and return its file."""
        path = self.plan_file(name, text)
        if not path.exists():
            write_text(path, text)
        return path

    def plan_file(self, name: str, text: str) -> Path:
        """Return where the text of a plan is kept."""
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.root / "plans" / f"{name}-{digest}.toml"

    def plans(self) -> list[Path]:
        """Return the plans, oldest first."""
        return sorted((self.root / "plans").glob("*.toml"), key=lambda p: p.stat().st_mtime_ns)

    @property
    def free(self) -> int:
        """Bytes free on the disk."""
        return shutil.disk_usage(self.root).free
