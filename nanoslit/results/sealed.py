"""HDF5 files with a seal: whole and unchanged, or recognised as damaged.

A sealed file is an ordinary HDF5 file followed by a trailer of 128 bytes with its length
and the sha256 of everything before the trailer. HDF5 ignores bytes behind its end, so
every reader opens the file; :func:`check` finds truncation and any flipped bit.

Files are written under a temporary name beside their place, flushed to the disk, and
renamed. What one process writes is built in memory first, if it is not large, because the
HDF5 library does not survive a full disk (it crashes when it closes the file).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from nanoslit.errors import (
    DamagedFileError,
    NanoslitError,
    ResultFileError,
    WriteFailedError,
)

__all__ = [
    "LIBVER",
    "check",
    "new_sealed",
    "open_sealed",
    "part_name",
    "publish",
    "seal",
    "write_sealed",
]

LIBVER = ("earliest", "v110")
"""HDF5 format versions: readable by every library since 1.10."""

_MAGIC = b"\x89HDF\r\n\x1a\n"
_MARK = b"nanoslit-seal"
_TRAILER = 128
_LARGE = 1 << 28  # bytes; of a file that is built on the disk


def part_name(path: Path) -> Path:
    """Return the temporary name of a file that is being written."""
    return path.with_name(f".{path.name}.part-{os.getpid()}")


def write_sealed(path: Path, fill: Callable[[Any], None], size: int = 0) -> int:
    """Build an HDF5 file in memory, seal it and put it in its place; return its size.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    fill : callable
        Writes into the open ``h5py.File``.
    size : int
        Bytes of its arrays, if they may be many: a large file is built on the disk, after a
        look whether there is room.

    Raises
    ------
    WriteFailedError
        If the disk is full or the folder cannot be written; nothing is left behind.
    """
    with new_sealed(path, size) as file:
        fill(file)
    return path.stat().st_size


@contextmanager
def new_sealed(path: Path, size: int = 0) -> Iterator[Any]:
    """Give an open ``h5py.File`` that gets its name when it is whole (:func:`write_sealed`)."""
    part = part_name(path)
    if size > _LARGE:
        try:
            with part.open("wb") as room:  # a full disk is an error now: HDF5 would crash
                os.posix_fallocate(room.fileno(), 0, size + size // 8)
            with h5py.File(part, "w", libver=LIBVER) as file:
                yield file
            seal(part)
            publish(part, path)
        except OSError as error:
            raise WriteFailedError(cannot_write(path, error, size)) from None
        finally:
            part.unlink(missing_ok=True)
        return
    with h5py.File(path.name, "w", driver="core", backing_store=False, libver=LIBVER) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    try:
        with part.open("wb") as out:
            out.write(image)
            out.write(_trailer(len(image), hashlib.sha256(image).hexdigest()))
            out.flush()
            os.fsync(out.fileno())
        publish(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WriteFailedError(cannot_write(path, error, len(image))) from None


def seal(path: Path) -> None:
    """Append the trailer to a closed HDF5 file and flush it to the disk."""
    size, digest = path.stat().st_size, _digest(path)
    with path.open("ab") as out:
        out.write(_trailer(size, digest))
        out.flush()
        os.fsync(out.fileno())


def publish(part: Path, path: Path) -> None:
    """Rename a finished file into its place and flush the folder."""
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check(path: Path) -> None:
    """Raise unless a file is whole and as it was written.

    Raises
    ------
    ResultFileError
        If it is missing, no HDF5 file, or without a seal.
    DamagedFileError
        If it was truncated or a bit changed.
    """
    _require_hdf5(path)
    length = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(length - _TRAILER, 0))
        words = file.read().split()
    if len(words) != 3 or words[0] != _MARK or not words[1].isdigit():
        raise DamagedFileError(
            f"{path}: the seal at the end is missing: the file was truncated, or changed by "
            "another program after nanoslit wrote it; repeat the run, or resume it"
        )
    size, digest = int(words[1]), words[2].decode("ascii", "replace")
    if size + _TRAILER != length:
        raise DamagedFileError(
            f"{path}: has {length} bytes where {size + _TRAILER} were written; repeat the run"
        )
    if _digest(path, size) != digest:
        raise DamagedFileError(
            f"{path}: its sha256 differs from that of the file that was written: bits "
            "changed on the disk or in a copy; take another copy or repeat the run"
        )


@contextmanager
def open_sealed(path: Path) -> Iterator[Any]:
    """Give an HDF5 file open for reading, with a readable error if it is none.

    Raises
    ------
    ResultFileError
        If it is missing or no HDF5 file.
    DamagedFileError
        If HDF5 cannot open it, or cannot read what is asked for.
    """
    _require_hdf5(path)
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise DamagedFileError(f"{path}: HDF5 cannot open it ({_first(error)})") from None
    with file:
        try:
            yield file
        except Exception as error:
            if isinstance(error, NanoslitError) or not _of_hdf5(error):
                raise
            raise DamagedFileError(
                f"{path}: HDF5 cannot read it ({_first(error)}); `nanoslit verify` tells "
                "whether it is damaged"
            ) from None


def _of_hdf5(error: BaseException) -> bool:
    """Whether an error comes from inside the HDF5 library: each has another type."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        last = trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
    return last.split(".")[0] == "h5py"


def cannot_write(path: Path, error: Exception, size: int) -> str:
    """Return the message of a file that could not be written."""
    text = f"{path}: cannot be written ({getattr(error, 'strerror', None) or _first(error)})"
    try:
        free = shutil.disk_usage(path.parent).free
    except OSError:
        return text
    if free < size:
        text += f"; it needs {size} bytes and {free} are free: make room"
    return text


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _require_hdf5(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be read ({error.strerror})") from None
    if start != _MAGIC:
        raise ResultFileError(f"{path}: is not an HDF5 file; give a result of `nanoslit run`")


def _digest(path: Path, size: int | None = None) -> str:
    """Return the sha256 of the first ``size`` bytes of a file."""
    left = path.stat().st_size if size is None else size
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0:
            block = file.read(min(left, 1 << 22))
            if not block:
                break
            sha.update(block)
            left -= len(block)
    return sha.hexdigest()


def _trailer(size: int, digest: str) -> bytes:
    text = b" ".join([_MARK, str(size).encode(), digest.encode()])
    return text.ljust(_TRAILER - 1) + b"\n"
