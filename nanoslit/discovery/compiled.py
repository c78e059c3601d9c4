"""The one place where numba is imported for the search; typed, so that mypy sees through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from nanoslit.errors import MissingExtraError

__all__ = ["compiled", "compiled_exactly", "intrinsic"]

F = TypeVar("F", bound=Callable[..., Any])

# NaN and inf must survive: an expression that is not finite is rejected, never patched.
FAST = {"reassoc", "contract", "nsz"}


def compiled(function: F) -> F:
    """Compile a function with numba, cached on disk.

    Raises
    ------
    MissingExtraError
        If numba is not installed.
    """
    return _compile(function, FAST)


def compiled_exactly(function: F) -> F:
    """Compile without reordering: for sums whose rounding is the point.

    Raises
    ------
    MissingExtraError
        If numba is not installed.
    """
    return _compile(function, {"contract"})


def _compile(function: F, fastmath: set[str]) -> F:
    try:
        import numba
    except ImportError:
        raise MissingExtraError(
            "law discovery needs numba: pip install 'nanoslit[discovery]'"
        ) from None
    wrapped: F = numba.njit(cache=True, fastmath=fastmath, error_model="numpy")(function)
    return wrapped


def intrinsic(function: F) -> F:
    """Register a function that writes machine code (see ``numba.extending``)."""
    try:
        from numba.extending import intrinsic as register
    except ImportError:
        raise MissingExtraError(
            "law discovery needs numba: pip install 'nanoslit[discovery]'"
        ) from None
    wrapped: F = register(function)
    return wrapped
