"""Exceptions of the package: every message says what was given, what is allowed, what to do."""

from __future__ import annotations

__all__ = [
    "CaseError",
    "CircuitError",
    "ConvergenceError",
    "GeometryError",
    "LaunchError",
    "LawError",
    "MissingExtraError",
    "NanoslitError",
    "ProtocolError",
    "ResultFileError",
]


class NanoslitError(Exception):
    """Root of the family.

    ``exit_code`` is what the command line ends with: 2 for wrong input that the
    user can mend, 1 for a run that failed.
    """

    exit_code = 2


class CaseError(NanoslitError, ValueError):
    """A case, plan or study file or object says something impossible."""


class GeometryError(CaseError):
    """The geometry cannot be built or meshed."""


class ProtocolError(CaseError):
    """The applied potential is not a valid function of time."""


class CircuitError(NanoslitError, ValueError):
    """Circuit parameters are impossible; the message names the circuit index."""


class LawError(NanoslitError, ValueError):
    """A law, its data or its file is unusable."""


class ResultFileError(NanoslitError, OSError):
    """A result or checkpoint file is missing, damaged or of another version."""


class MissingExtraError(NanoslitError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


class ConvergenceError(NanoslitError, RuntimeError):
    """The solver could not reach its tolerance."""

    exit_code = 1


class LaunchError(NanoslitError, RuntimeError):
    """A child program could not be started or ended in an unexpected way."""

    exit_code = 1
