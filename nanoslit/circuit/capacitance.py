"""Slit capacitances that depend on potential: C = C_slit g(u), g an expression or a table.

The charge of a slit is C_slit G(u), G the integral of g from 0. Both, and the slope of g,
are needed as sympy expressions (for generated code and derivatives) and as functions of
arrays; a table appears in expressions as three functions that know their derivatives.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.errors import CircuitError
from nanoslit.expressions import parse_expression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.ladder import NanoCircuit

    Array = NDArray[np.float64]

__all__ = ["PREFIX", "CapacitanceTable", "SlitCapacitance", "capacitance_of", "own_symbol"]

PREFIX = "c_law constant "


def symbol(name: str) -> Any:
    """Return the real symbol of a name."""
    import sympy

    return sympy.Symbol(name, real=True)


def own_symbol(name: str) -> Any:
    """Return the symbol of a user's constant, apart from the names of the circuit."""
    return symbol(f"k_{name}")


@dataclass(frozen=True)
class CapacitanceTable:
    """g(u) through given points, by monotone cubic interpolation (PCHIP).

    Parameters
    ----------
    potential : tuple of float
        Electrode minus solution potential, rising, with 0 in the range [V].
    factor : tuple of float
        g there, positive [-].

    Raises
    ------
    CircuitError
        If the lists do not fit or hold impossible values.
    """

    potential: tuple[float, ...]
    factor: tuple[float, ...]

    def __post_init__(self) -> None:
        u, g = (np.atleast_1d(np.asarray(x, float)) for x in (self.potential, self.factor))
        if u.ndim != 1 or u.shape != g.shape or u.size < 2:
            raise CircuitError(
                "c_law: potential and factor must be lists of equal length, 2 or more; given "
                f"{u.size} and {g.size}"
            )
        if not (np.isfinite(u).all() and np.all(np.diff(u) > 0)):
            raise CircuitError("c_law: the potentials of the table must rise")
        if not (np.isfinite(g).all() and np.all(g > 0)):
            bad = int(np.flatnonzero(~(g > 0))[0]) if np.isfinite(g).all() else 0
            raise CircuitError(f"c_law: factor {bad} of the table must be positive and finite")
        if not u[0] <= 0 <= u[-1]:
            raise CircuitError(
                f"c_law: the table, {u[0]:g}..{u[-1]:g} V, must include 0 V, where the charge "
                "is zero"
            )
        object.__setattr__(self, "potential", tuple(u.tolist()))
        object.__setattr__(self, "factor", tuple(g.tolist()))

    @cached_property
    def pieces(self) -> tuple[Array, Array]:
        """Return knots and, for each interval, 5 coefficients of G (powers 0..4)."""
        from scipy.interpolate import PchipInterpolator

        if len(self.potential) == 2:  # PCHIP of two points is the line through them
            (a, b), (g, h) = self.potential, self.factor
            cubic = np.array([[0.0], [0.0], [(h - g) / (b - a)], [g]])
        else:
            cubic = PchipInterpolator(self.potential, self.factor).c
        knots = np.array(self.potential)
        width = np.diff(knots)
        powers = np.zeros((len(width), 5))
        for order in range(4):
            powers[:, order + 1] = cubic[3 - order] / (order + 1)
        rise = sum(powers[:, m] * width**m for m in range(1, 5))
        powers[1:, 0] = np.cumsum(rise)[:-1]
        i = int(np.clip(np.searchsorted(knots, 0.0, side="right") - 1, 0, len(width) - 1))
        zero = sum(powers[i, m] * (0.0 - knots[i]) ** m for m in range(5))
        powers[:, 0] -= zero
        return knots, np.ascontiguousarray(powers)

    def functions(self, compile_: Any = None) -> dict[str, Any]:
        """Return the functions that generated code calls: G, g and g' of u.

        Parameters
        ----------
        compile_ : callable, optional
            numba's ``njit`` with its options, for functions of one number.
        """
        knots, powers = self.pieces
        last = len(knots) - 2

        def find(u):  # type: ignore[no-untyped-def]
            return np.minimum(np.maximum(np.searchsorted(knots, u, side="right") - 1, 0), last)

        place: Any = find if compile_ is None else compile_(find)

        def table_charge(u):  # type: ignore[no-untyped-def]
            i = place(u)
            x = u - knots[i]
            c1, c2 = powers[i, 1], powers[i, 2]
            return powers[i, 0] + x * (c1 + x * (c2 + x * (powers[i, 3] + x * powers[i, 4])))

        def table_factor(u):  # type: ignore[no-untyped-def]
            i = place(u)
            x = u - knots[i]
            c2, c3 = 2.0 * powers[i, 2], 3.0 * powers[i, 3]
            return powers[i, 1] + x * (c2 + x * (c3 + x * 4.0 * powers[i, 4]))

        def table_slope(u):  # type: ignore[no-untyped-def]
            i = place(u)
            x = u - knots[i]
            return 2.0 * powers[i, 2] + x * (6.0 * powers[i, 3] + x * 12.0 * powers[i, 4])

        made = [table_charge, table_factor, table_slope]
        if compile_ is not None:
            made = [compile_(f) for f in made]
        return dict(zip(("table_charge", "table_factor", "table_slope"), made, strict=True))


@lru_cache(maxsize=1)
def table_symbols() -> tuple[Any, Any, Any]:
    """Return the sympy functions G, g and g' of a table, linked by their derivatives."""
    import sympy

    class Table(sympy.Function):  # type: ignore[misc]
        nargs = 1

        def _eval_is_real(self) -> bool:
            return True

    class table_slope(Table):  # noqa: N801  printed under this name
        pass

    class table_factor(Table):  # noqa: N801
        def fdiff(self, argindex: int = 1) -> Any:
            return table_slope(self.args[0])

    class table_charge(Table):  # noqa: N801
        def fdiff(self, argindex: int = 1) -> Any:
            return table_factor(self.args[0])

    return table_charge, table_factor, table_slope


@dataclass(frozen=True)
class SlitCapacitance:
    """g and G of a circuit.

    Parameters
    ----------
    factor, charge : sympy expression
        g and its integral from 0 in the symbol ``u`` and those of ``names``.
    names : tuple of str
        Constants of the expression.
    table : CapacitanceTable, optional
    """

    factor: Any
    charge: Any
    names: tuple[str, ...] = ()
    table: CapacitanceTable | None = None

    def charge_at(self, u: Array, values: list[Array]) -> Array:
        """Return G at potentials u for the values of ``names``."""
        import sympy

        modules: list[Any] = ["numpy"]
        if self.table is not None:
            modules.insert(0, self.table.functions())
        names = [symbol("u"), *map(own_symbol, self.names)]
        function = sympy.lambdify(names, self.charge, modules)
        return np.asarray(function(u, *values) + 0.0 * u)

    def check_range(self, lower: Array, upper: Array) -> None:
        """Raise if potentials lie outside the table, naming the first circuit."""
        if self.table is None:
            return
        first, last = self.table.potential[0], self.table.potential[-1]
        slack = 1e-9 * (last - first)
        bad = np.flatnonzero((lower < first - slack) | (upper > last + slack))
        if bad.size:
            k = bad[0]
            raise CircuitError(
                f"c_law: the table goes from {first:g} to {last:g} V, but the potential of "
                f"circuit {k} from {lower[k]:g} to {upper[k]:g} V; extend the table or make "
                "the window smaller"
            )


def table_from(c_law: Any) -> CapacitanceTable:
    """Return the table that a mapping with ``potential`` and ``factor`` describes."""
    if isinstance(c_law, CapacitanceTable):
        return c_law
    if not isinstance(c_law, Mapping) or set(c_law) != {"potential", "factor"}:
        raise CircuitError(
            f"c_law = {c_law!r} must be an expression in u [V] as text, or a table: "
            '{"potential": [...], "factor": [...]}'
        )
    try:
        potential, factor = (np.asarray(c_law[k], float) for k in ("potential", "factor"))
    except (TypeError, ValueError):
        raise CircuitError("c_law: potential and factor must be lists of numbers") from None
    return CapacitanceTable(tuple(potential), tuple(factor))


def capacitance_of(circuit: NanoCircuit) -> SlitCapacitance:
    """Return g, its integral and their constants for the ``c_law`` of a circuit.

    Raises
    ------
    CircuitError
        If ``c_law`` is no expression in u, or one without closed integral.
    """
    names = tuple(k.removeprefix(PREFIX) for k in circuit._values if k.startswith(PREFIX))
    if isinstance(circuit.c_law, CapacitanceTable):
        charge, factor, _ = table_symbols()
        u = symbol("u")
        return SlitCapacitance(factor(u), charge(u), (), circuit.c_law)
    return _from_text(circuit.c_law, names)


@lru_cache(maxsize=64)
def _from_text(text: str | None, names: tuple[str, ...]) -> SlitCapacitance:
    import sympy

    u = symbol("u")
    if text is None:
        return SlitCapacitance(sympy.Integer(1), u)
    known = {"u": u} | {n: own_symbol(n) for n in names}
    try:
        g = parse_expression(text, known)
    except ValueError as error:
        raise CircuitError(f"c_law = {error}") from None
    unknown = sorted(str(s) for s in g.free_symbols - set(known.values()))
    if unknown:
        raise CircuitError(
            f"c_law = {text!r} uses {unknown}; it may use u [V] and the names given in "
            "c_law_constants"
        )
    v = symbol("v")
    charge = sympy.integrate(g.subs(u, v), (v, 0, u))
    if charge.has(sympy.Integral):
        raise CircuitError(
            f"c_law = {text!r} has no closed integral over u; give it as a table"
        )
    return SlitCapacitance(g, charge, names)
