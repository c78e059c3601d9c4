"""Exceptions of the package: every message says what was given, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CaseError",
    "CircuitError",
    "ConvergenceError",
    "DamagedFileError",
    "GeometryError",
    "LaunchError",
    "LauncherError",
    "LawError",
    "MissingExtraError",
    "NanoslitError",
    "OutOfMemoryError",
    "ProtocolError",
    "ResultFileError",
    "SweepError",
    "WriteFailedError",
    "closest",
    "explain",
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


class DamagedFileError(ResultFileError):
    """A result or checkpoint file was truncated or changed since it was written."""

    exit_code = 1


class WriteFailedError(ResultFileError):
    """A result or checkpoint file could not be written: full disk, lost folder."""

    exit_code = 1


class OutOfMemoryError(NanoslitError, MemoryError):
    """The memory does not suffice for what was asked."""

    exit_code = 1


class SweepError(NanoslitError, RuntimeError):
    """A sweep's folder, service or request is not what it must be."""


class MissingExtraError(NanoslitError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


class ConvergenceError(NanoslitError, RuntimeError):
    """The solver could not reach its tolerance."""

    exit_code = 1


class StoppedError(NanoslitError, RuntimeError):
    """A signal ended the work early; the same command continues it."""

    exit_code = 85


class LaunchError(NanoslitError, RuntimeError):
    """A child program could not be started or ended in an unexpected way."""

    exit_code = 1


class LauncherError(LaunchError):
    """The launcher or the number of ranks that was asked for is impossible."""

    exit_code = 2


def explain(
    where: str,
    problem: str,
    *,
    given: str | None = None,
    allowed: str | None = None,
    hint: str | None = None,
) -> str:
    """Return the message of a mistake in a file: where, what, given, allowed, remedy.

    Parameters
    ----------
    where : str
        File and key, for instance ``"case.toml: geometry.slit_size"``.
    problem : str
        What is wrong, in a few words.
    given, allowed, hint : str, optional
        What the file says, what it may say, and what to do; each takes a line.
    """
    lines = [f"{where}: {problem}"]
    for label, text in (("given:  ", given), ("allowed:", allowed), ("hint:   ", hint)):
        if text:
            lines.append(f"  {label} {text}")
    return "\n".join(lines)


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return ``did you mean 'x'?`` for the known name nearest to a misspelt one."""
    names = {name.lower(): name for name in known}
    match = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=0.6)
    return f"did you mean {names[match[0]]!r}?" if match else None
