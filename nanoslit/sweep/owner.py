"""One service at a time works on a sweep's folder.

A lock on ``owner.lock`` is held as long as the service lives, whatever ends it;
``owner.json`` says who it is, for the message to others.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from nanoslit.errors import SweepError
from nanoslit.sweep.folder import Folder, read_json, write_json

__all__ = ["Ownership", "owner_of"]


class Ownership:
    """Holds the lock of a folder; use as a context manager.

    Raises
    ------
    SweepError
        On entry, if another service works there; the message says who.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._fd = -1

    def __enter__(self) -> Ownership:
        path = self.folder.root / "owner.lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            owner = read_json(self.folder.root / "owner.json") or {}
            raise SweepError(
                f"{self.folder.root}: a service works here already: process "
                f"{owner.get('pid', '?')} on {owner.get('host', '?')}, started "
                f"{owner.get('started', '?')} by `{owner.get('command', '?')}`; look with "
                f"`nanoslit sweep watch {self.folder.root}`, or stop it with Ctrl-C there"
            ) from None
        write_json(
            self.folder.root / "owner.json",
            {"pid": os.getpid(), "host": os.uname().nodename,
             "started": time.strftime("%Y-%m-%d %H:%M:%S"), "command": _command()},
        )  # fmt: skip
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            (self.folder.root / "owner.json").unlink(missing_ok=True)
        os.close(self._fd)


def _command() -> str:
    return " ".join(["nanoslit", *sys.argv[1:]])


def owner_of(root: Path) -> dict[str, Any] | None:
    """Return who works on a folder, None if nobody does."""
    try:
        fd = os.open(root / "owner.lock", os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return read_json(root / "owner.json") or {}
    finally:
        os.close(fd)
    return None
