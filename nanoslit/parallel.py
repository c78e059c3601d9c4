"""Communicator or rank-0-of-1 stand-in, shared errors, rank-aware logging.

A serial run is the case ``size == 1`` of the parallel one. mpi4py is imported only
inside a program that an MPI launcher started, so that a laptop needs no MPI.
"""

from __future__ import annotations

import logging
import os
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nanoslit.errors import MissingExtraError, NanoslitError

__all__ = [
    "Communicator",
    "SerialCommunicator",
    "log_to",
    "mpi_world",
    "raise_together",
    "under_launcher",
    "world",
]

LAUNCHER_VARIABLES = (
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "PMIX_RANK",
    "MPI_LOCALNRANKS",
    "MV2_COMM_WORLD_SIZE",
)


class Communicator(Protocol):
    """What the package asks of a communicator; text and small arrays only."""

    rank: int
    size: int

    def send_text(self, text: str, rank: int, tag: int) -> None:
        """Send without waiting for the receiver."""

    def receive_text(self, rank: int, tag: int) -> str:
        """Wait for one message."""

    def start_maximum(self, values: NDArray[np.int64]) -> Any:
        """Start an element-wise maximum over all ranks; see :meth:`finish`."""

    def finish(self, request: Any) -> NDArray[np.int64]:
        """Wait for the maximum and return it."""

    def gather_text(self, text: str) -> list[str]:
        """Return the texts of all ranks on rank 0, an empty list elsewhere."""

    def broadcast_text(self, text: str) -> str:
        """Return rank 0's text on every rank."""

    def barrier(self) -> None:
        """Wait for all ranks."""


class SerialCommunicator:
    """Rank 0 of 1."""

    rank = 0
    size = 1

    def send_text(self, text: str, rank: int, tag: int) -> None:
        """Refuse: there is nobody else."""
        raise NotImplementedError("one rank does not send messages to itself")

    def receive_text(self, rank: int, tag: int) -> str:
        """Refuse: there is nobody else."""
        raise NotImplementedError("one rank does not receive messages from itself")

    def start_maximum(self, values: NDArray[np.int64]) -> Any:
        """Keep the values."""
        return values.copy()

    def finish(self, request: Any) -> NDArray[np.int64]:
        """Return them."""
        return np.asarray(request)

    def gather_text(self, text: str) -> list[str]:
        """Return the text in a list."""
        return [text]

    def broadcast_text(self, text: str) -> str:
        """Return the text."""
        return text

    def barrier(self) -> None:
        """Do nothing."""


class MpiCommunicator:
    """mpi4py's communicator; messages are bytes, never pickles."""

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = comm.Dup()
        self.rank = int(comm.Get_rank())
        self.size = int(comm.Get_size())
        self._sent: list[tuple[Any, bytes]] = []

    def send_text(self, text: str, rank: int, tag: int) -> None:
        """Send without waiting for the receiver."""
        data = text.encode()
        request = self._comm.Isend([data, self._mpi.BYTE], dest=rank, tag=tag)
        # the buffer must live until the message has left
        self._sent = [(r, d) for r, d in self._sent if not r.Test()]
        self._sent.append((request, data))

    def receive_text(self, rank: int, tag: int) -> str:
        """Wait for one message."""
        status = self._mpi.Status()
        self._comm.Probe(source=rank, tag=tag, status=status)
        data = bytearray(status.Get_count(self._mpi.BYTE))
        self._comm.Recv([data, self._mpi.BYTE], source=rank, tag=tag)
        return data.decode()

    def start_maximum(self, values: NDArray[np.int64]) -> Any:
        """Start an element-wise maximum over all ranks."""
        send, result = values.copy(), np.empty_like(values)
        return self._comm.Iallreduce(send, result, op=self._mpi.MAX), send, result

    def finish(self, request: Any) -> NDArray[np.int64]:
        """Wait for the maximum and return it."""
        handle, _, result = request
        handle.Wait()
        return np.asarray(result)

    def gather_text(self, text: str) -> list[str]:
        """Return the texts of all ranks on rank 0."""
        data = np.frombuffer(text.encode(), dtype=np.uint8)
        sizes = np.array(self._comm.allgather(len(data)))
        target = np.empty(int(sizes.sum()), dtype=np.uint8) if self.rank == 0 else None
        self._comm.Gatherv(data, [target, sizes] if self.rank == 0 else None, root=0)
        if target is None:
            return []
        ends = np.cumsum(sizes)
        return [target[e - s : e].tobytes().decode() for s, e in zip(sizes, ends, strict=True)]

    def broadcast_text(self, text: str) -> str:
        """Return rank 0's text on every rank."""
        data = np.frombuffer(text.encode(), dtype=np.uint8).copy()
        size = np.array([len(data)])
        self._comm.Bcast(size, root=0)
        if self.rank:
            data = np.empty(int(size[0]), dtype=np.uint8)
        self._comm.Bcast(data, root=0)
        return data.tobytes().decode()

    def barrier(self) -> None:
        """Wait for all ranks."""
        self._comm.Barrier()


def under_launcher() -> bool:
    """Whether an MPI launcher started this process as a rank."""
    return any(name in os.environ for name in LAUNCHER_VARIABLES)


def mpi_world() -> Any:
    """Return mpi4py's communicator of all ranks, for the field solver.

    Raises
    ------
    MissingExtraError
        If mpi4py is not installed.
    """
    try:
        from mpi4py import MPI
    except ImportError:
        raise MissingExtraError(
            "the field solver needs petsc4py and mpi4py: run jobs/bootstrap.sh, or "
            "install nanoslit[mpi] into an environment with PETSc"
        ) from None
    return MPI.COMM_WORLD


def world() -> Communicator:
    """Return the communicator of all ranks that the launcher started.

    Raises
    ------
    MissingExtraError
        If a launcher started several ranks and mpi4py is missing: each would
        believe itself alone and all would write the same files.
    """
    if not under_launcher():
        return SerialCommunicator()
    try:
        from mpi4py import MPI
    except ImportError:
        raise MissingExtraError(
            "an MPI launcher started this program, but mpi4py is missing: "
            "pip install 'nanoslit[mpi]', or start it without the launcher"
        ) from None
    comm = MPI.COMM_WORLD
    return SerialCommunicator() if comm.Get_size() == 1 else MpiCommunicator(comm)


def raise_together(comm: Communicator, error: Exception | None) -> None:
    """Raise the same error on every rank if any rank has one; collective.

    Parameters
    ----------
    comm : Communicator
    error : Exception or None
        This rank's error. Errors of the package keep their class everywhere.

    Raises
    ------
    NanoslitError or RuntimeError
        The first rank's error, its message on every rank.
    """
    if comm.size == 1:
        if error is not None:
            raise error
        return
    mine = "" if error is None else f"{type(error).__name__}\n{error}"
    flags = comm.finish(comm.start_maximum(np.array([comm.size - comm.rank if mine else 0])))
    if not flags[0]:
        return
    first = comm.size - int(flags[0])
    texts = comm.gather_text(mine)
    text = comm.broadcast_text(texts[first] if texts else "")
    if error is not None and comm.rank == first:
        raise error
    kind, _, message = text.partition("\n")
    raise _error_class(kind)(message)


def _error_class(name: str) -> type[Exception]:
    import nanoslit.errors as errors

    found = getattr(errors, name, None)
    is_ours = isinstance(found, type) and issubclass(found, NanoslitError)
    return found if is_ours else RuntimeError  # type: ignore[return-value]


def log_to(stream: Any, comm: Communicator, level: int = logging.INFO) -> logging.Logger:
    """Return the package's logger writing to a stream, each line with its rank.

    Only rank 0 speaks below the level WARNING.
    """
    logger = logging.getLogger("nanoslit")
    handler = logging.StreamHandler(stream)
    tag = f"[{comm.rank}/{comm.size}] " if comm.size > 1 else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s {tag}%(message)s", "%H:%M:%S"))
    logger.handlers = [handler]
    logger.setLevel(level if comm.rank == 0 else logging.WARNING)
    logger.propagate = False
    return logger
