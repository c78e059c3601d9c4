"""Resistors whose law is an expression, turned once into code.

The code gives the current through a resistor and its derivatives for NumPy arrays and for
the compiled kernel. A law ``dphi = F(I, Q)`` that is proportional to the current gives
``J = (a - b)/R``; any other is solved for J by Newton's method.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.capacitance import symbol
from nanoslit.circuit.resistor import Resistor
from nanoslit.circuit.rodas import KINK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.capacitance import SlitCapacitance

    Array = NDArray[np.float64]

__all__ = ["ExpressionResistor", "Source"]


class ExpressionResistor(Resistor):
    """A resistor whose law is generated code."""

    def __init__(self, parameters: Array, source: Source) -> None:
        self.parameters = parameters
        self.source = source
        self.varies = source.varies
        self.signature = (source.text, source.table)

    def current(self, p: Array, a: Array, b: Array) -> Array:
        """Return J; see :meth:`Resistor.current`."""
        return np.asarray(self.source.numpy["resistor"](p, a, b))

    def slopes(self, p: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return J and its derivatives; see :meth:`Resistor.slopes`."""
        shape = np.broadcast_shapes(a.shape, b.shape, p.shape[1:])
        values = self.source.numpy["resistor_slopes"](p, a, b)
        j, da, db = (np.broadcast_to(np.asarray(x, float), shape) for x in values)
        return j, da, db

    def capacity(self, p: Array, u: Array) -> tuple[Array, Array]:
        """Return 1/g and (1/g)'; see :meth:`Resistor.capacity`."""
        shape = np.broadcast_shapes(u.shape, p.shape[1:])
        ig, slope = self.source.numpy["capacity"](p, u)
        return (
            np.broadcast_to(np.asarray(ig, float), shape),
            np.broadcast_to(np.asarray(slope, float), shape),
        )

    def charge(self, p: Array, u: Array) -> Array:
        """Return the integral of g; see :meth:`Resistor.charge`."""
        return np.asarray(self.source.numpy["charge"](p, u)) + np.zeros_like(u)

    def compiled_parts(self) -> dict[str, Any]:
        """Return the functions for the compiled kernel."""
        return self.source.compiled()


class Source:
    """Generated code of the resistors of a circuit.

    Parameters
    ----------
    voltage : sympy expression
        F of the symbols ``I`` (current), ``a``, ``b`` and those of ``names``.
    names : list of str
        Parameters in the order of their rows.
    capacitance : SlitCapacitance
    mouth : sympy expression, optional
        Voltage of the first resistor, for which the parameter ``is_mouth`` is 1.
    """

    def __init__(
        self, voltage: Any, names: list[str], capacitance: SlitCapacitance, mouth: Any = None
    ) -> None:
        import sympy

        self.names = names
        self.table = capacitance.table
        self.varies = capacitance.factor != 1
        current, a, b, u = (symbol(s) for s in ("I", "a", "b", "u"))
        laws = [voltage] if mouth is None else [voltage, mouth]
        ratios = [sympy.simplify(v / current) for v in laws]
        proportional = not any(current in r.free_symbols for r in ratios)
        shares = _shares(ratios if proportional else laws)
        lines: list[str] = []
        self.resistance = shares if proportional else None
        if proportional:
            j = (a - b) / shares
            lines += self._function("resistor", "a, b", [j])
            lines += self._function("resistor_slopes", "a, b", [j, j.diff(a), j.diff(b)])
        else:
            f = shares
            lines += self._newton(f, f.diff(current), f.diff(a), f.diff(b))
        inverse = 1 / capacitance.factor
        lines += self._function("capacity", "u", [inverse, sympy.diff(inverse, u)])
        lines += self._function("charge", "u", [capacitance.charge])
        self.text = "\n".join(lines)

    def _body(self, values: list[Any], indent: str) -> tuple[list[str], list[str]]:
        """Return assignments of common parts and the text of each value."""
        import sympy

        printer = _printer()
        parts, results = sympy.cse(
            [v.rewrite(sympy.Piecewise) if v.has(sympy.DiracDelta) else v for v in values],
            symbols=sympy.numbered_symbols("c_"),
        )
        lines = [f"{indent}{s} = {printer.doprint(e)}" for s, e in parts]
        return lines, [printer.doprint(r) for r in results]

    def _head(self, name: str, arguments: str) -> list[str]:
        loads = [f"    {n} = {{p[{m}]}}" for m, n in enumerate(self.names)]
        return [f"def {name}({{head}}{arguments}):", *loads]

    def _function(self, name: str, arguments: str, values: list[Any]) -> list[str]:
        lines, results = self._body(values, "    ")
        return [*self._head(name, arguments), *lines, f"    return {', '.join(results)}", ""]

    def _newton(self, f: Any, f_i: Any, f_a: Any, f_b: Any) -> list[str]:
        """Return functions that solve F(J) = a - b for J."""
        start, (slope,) = self._body([f_i.subs(symbol("I"), 0)], "    ")
        parts, (value, d_i) = self._body([f, f_i], "        ")
        solve = [
            *start,
            f"    I = (a - b) / ({slope})",
            "    for _ in range(60):",
            *parts,
            f"        move = (({value}) - (a - b)) / ({d_i})",
            "        I = I - move",
            "        if {all}(numpy.abs(move) <= 1e-14 * numpy.abs(I)):",
            "            break",
        ]
        lines = [*self._head("resistor", "a, b"), *solve, "    return I", ""]
        ends, (d_i, d_a, d_b) = self._body([f_i, f_a, f_b], "    ")
        return [
            *lines,
            *self._head("resistor_slopes", "a, b"),
            *solve,
            *ends,
            f"    return I, (1.0 - ({d_a})) / ({d_i}), (-1.0 - ({d_b})) / ({d_i})",
            "",
        ]

    def _written(self, head: str, load: str, every: str) -> str:
        text = self.text.replace("{head}", head).replace("{all}", every)
        for m in range(len(self.names)):
            text = text.replace(f"{{p[{m}]}}", load.format(m=m))
        return text

    @cached_property
    def numpy(self) -> dict[str, Any]:
        """Functions of parameter arrays (parameters, ...) and potentials (...)."""
        scope: dict[str, Any] = {"numpy": np}
        if self.table is not None:
            scope |= self.table.functions()
        exec(self._written("p, ", "p[{m}]", "numpy.all"), scope)  # noqa: S102  our own generated code
        return scope

    def compiled(self) -> dict[str, Any]:
        """Return what the compiled kernel is specialised with."""
        from numba import njit

        from nanoslit.circuit import kernel

        scope: dict[str, Any] = {"numpy": np}
        rows = {f"row_{m}": np.uint64(m * kernel.LANES) for m in range(len(self.names))}
        scope |= rows
        options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
        if self.table is not None:
            scope |= self.table.functions(njit(**options))
        exec(self._written("w, i, ", "w[i + row_{m}]", ""), scope)  # noqa: S102
        made = {
            name: njit(**options)(scope[name])
            for name in ("resistor", "resistor_slopes", "capacity")
        }

        def crossing(w, i, a, b, new_a, new_b):  # type: ignore[no-untyped-def]
            return factor if (a * new_a < 0.0) | (b * new_b < 0.0) else 1.0

        factor = KINK
        made["kink"] = njit(**options)(crossing)
        count = len(self.names)
        record = np.uint64((kernel.ROWS + count) * kernel.LANES)
        return made | {"N_PAR": count, "R": record, "VARIES": self.varies}


def _shares(values: list[Any]) -> Any:
    """Return the law of all resistors, or its value at the mouth where ``is_mouth`` is 1."""
    if len(values) == 1:
        return values[0]
    mouth = symbol("is_mouth")
    return (1 - mouth) * values[0] + mouth * values[1]


def _printer() -> Any:
    from sympy.printing.numpy import NumPyPrinter

    class Printer(NumPyPrinter):  # type: ignore[misc]
        """NumPy code that numba compiles for numbers, too."""

        def _print_Min(self, expr: Any) -> str:
            return self._nested("minimum", expr)

        def _print_Max(self, expr: Any) -> str:
            return self._nested("maximum", expr)

        def _nested(self, name: str, expr: Any) -> str:
            text = self._print(expr.args[0])
            for other in expr.args[1:]:
                text = f"numpy.{name}({text}, {self._print(other)})"
            return str(text)

        def _print_Heaviside(self, expr: Any) -> str:
            return f"(1.0*(({self._print(expr.args[0])}) > 0))"

        def _print_table(self, expr: Any) -> str:
            return f"{type(expr).__name__}({self._print(expr.args[0])})"

        _print_table_charge = _print_table_factor = _print_table_slope = _print_table

        def _print_Abs(self, expr: Any) -> str:
            return f"numpy.abs({self._print(expr.args[0])})"

        def _print_sign(self, expr: Any) -> str:
            return f"numpy.sign({self._print(expr.args[0])})"

    return Printer({"fully_qualified_modules": True})
