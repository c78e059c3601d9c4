"""Dependence of a diffusivity on the local composition: expression or table.

A factor maps the concentrations of all ions to a positive number and its gradient,
so that the solver's Jacobian stays exact. A learned local molar conductivity enters
here later: it only has to be another :class:`CompositionFactor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from nanoslit.errors import CaseError
from nanoslit.expressions import parse_expression
from nanoslit.units import molar

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["CompositionFactor", "ExpressionFactor", "TableFactor"]

_FUNCTIONS = ("exp", "log", "sqrt", "tanh")


@runtime_checkable
class CompositionFactor(Protocol):
    """Anything that returns a factor and its gradient with respect to composition."""

    def __call__(self, c: Array) -> tuple[Array, Array]:
        """Return factor and gradient.

        Parameters
        ----------
        c : ndarray, shape (n_ions, n)
            Concentrations [mol m^-3].

        Returns
        -------
        factor : ndarray, shape (n,)
            Dimensionless, positive.
        gradient : ndarray, shape (n_ions, n)
            Derivative with respect to each concentration [m^3 mol^-1].
        """
        ...


@dataclass(frozen=True)
class ExpressionFactor:
    """Factor given as text, differentiated by sympy.

    Parameters
    ----------
    expression : str
        In the variables ``c_total`` (sum over all ions) and ``c1``, ``c2``, ... (the ions
        in their order), all in mol/L; for instance ``"exp(-0.1*c_total)"``.
    n_ions : int
        Number of ions of the electrolyte.

    Raises
    ------
    CaseError
        If the text is not an expression in these variables.
    """

    expression: str
    n_ions: int

    def __post_init__(self) -> None:
        self._functions  # noqa: B018  fail at construction, not in the solver

    @cached_property
    def _functions(self) -> tuple[Callable[..., Any], list[Callable[..., Any]]]:
        import sympy

        ions = sympy.symbols([f"c{i + 1}" for i in range(self.n_ions)])
        named = {str(s): s for s in ions} | {"c_total": sum(ions)}
        try:
            f = parse_expression(self.expression, named, functions=_FUNCTIONS, only=True)
        except ValueError as error:
            raise CaseError(f"factor {error} (concentrations in mol/L)") from None
        if not f.is_finite and not f.free_symbols:
            raise CaseError(f"factor {self.expression!r} is not a finite number")
        make = sympy.lambdify
        return make(ions, f, "numpy"), [make(ions, f.diff(s), "numpy") for s in ions]

    def __call__(self, c: Array) -> tuple[Array, Array]:
        """Return factor and gradient; see :class:`CompositionFactor`."""
        import numpy as np

        value, slopes = self._functions
        x = c / molar
        factor = np.broadcast_to(np.asarray(value(*x), float), c.shape[1:]).copy()
        gradient = np.empty_like(c)
        for i, slope in enumerate(slopes):
            gradient[i] = slope(*x)
        return factor, gradient / molar


@dataclass(frozen=True)
class TableFactor:
    """Factor tabulated against the total ion concentration (monotone cubic between points).

    Beyond the table the end values hold.

    Parameters
    ----------
    concentration : tuple of float
        Sum of all ion concentrations, rising [mol m^-3].
    factor : tuple of float
        Dimensionless, positive; same length, at least 2.

    Raises
    ------
    CaseError
        If lengths differ, concentrations do not rise or a factor is not positive.
    """

    concentration: tuple[float, ...]
    factor: tuple[float, ...]

    def __post_init__(self) -> None:
        x, f = tuple(self.concentration), tuple(self.factor)
        object.__setattr__(self, "concentration", x)
        object.__setattr__(self, "factor", f)
        if len(x) != len(f) or len(x) < 2:
            raise CaseError(
                f"diffusivity table has {len(x)} concentrations and {len(f)} factors; "
                "give the same number of both, at least 2"
            )
        if any(b <= a for a, b in zip(x, x[1:], strict=False)):
            raise CaseError("concentrations of a diffusivity table must rise")
        if min(f) <= 0:
            raise CaseError(f"diffusivity factors must be positive; smallest is {min(f)}")

    @cached_property
    def _curve(self) -> Any:
        from scipy.interpolate import PchipInterpolator

        return PchipInterpolator(self.concentration, self.factor)

    def __call__(self, c: Array) -> tuple[Array, Array]:
        """Return factor and gradient; see :class:`CompositionFactor`."""
        import numpy as np

        total = c.sum(axis=0)
        lo, hi = self.concentration[0], self.concentration[-1]
        inside = (total >= lo) & (total <= hi)
        x = np.clip(total, lo, hi)
        slope = np.where(inside, self._curve(x, 1), 0.0)
        return self._curve(x), np.broadcast_to(slope, c.shape).copy()
