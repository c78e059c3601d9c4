"""Private temporary folders that do not outlive their owners for long.

A folder is deleted by its owner. An owner killed by SIGKILL cannot do so; the next one to
make a folder on this host then deletes it. An owner is whoever keeps the lock of the folder
open: the process that made it, and the program to which it hands the lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

__all__ = ["Scratch"]

_PREFIX = "ns-"
_LOCK = "owner"  # in the folder: the name of the host; locked as long as an owner lives


class Scratch:
    """A private temporary folder; use as a context manager, or call :meth:`close`.

    Parameters
    ----------
    base : path, optional
        Where to make it, the system's temporary folder by default.

    Attributes
    ----------
    path : Path
    lock : int
        File descriptor; a child program that inherits it owns the folder, too.

    Raises
    ------
    OSError
        If there is no room, or no folder can be made there.
    """

    def __init__(self, base: str | Path | None = None) -> None:
        home = Path(tempfile.gettempdir() if base is None else base)
        _sweep(home)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        self.lock = -1
        try:
            young = self.path / f".{_LOCK}"
            self.lock = os.open(young, os.O_RDWR | os.O_CREAT, 0o600)
            os.write(self.lock, os.uname().nodename.encode())
            with contextlib.suppress(OSError):  # no locks on this disk: never swept
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                young.rename(self.path / _LOCK)  # seen by others only when it is locked
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _sweep(home: Path) -> None:
    """Delete the folders of this user and host whose owners are dead."""
    for path in home.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):  # deleted meanwhile, or of another user
            if path.stat().st_uid != os.getuid():
                continue
            with path.open("r+b") as file:
                if file.read() != os.uname().nodename.encode():
                    continue  # on a shared disk: locks need not reach other hosts
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
