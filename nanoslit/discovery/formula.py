"""Formulas as text: parsed into a tree, evaluated over NumPy columns, never by ``eval``.

The grammar is the part of Python's expression syntax that sympy reads as well:
numbers, names, ``+ - * / **``, parentheses and the functions of :data:`FUNCTIONS`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.errors import LawError

__all__ = ["FUNCTIONS", "evaluate", "names_of", "parse"]

Array = NDArray[np.float64]

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "Abs": np.abs,
    "abs": np.abs,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "tan": np.tan,
}

NUMBERS = {"pi": float(np.pi), "E": float(np.e)}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}


def parse(text: str) -> ast.expr:
    """Return the syntax tree of a formula.

    Raises
    ------
    LawError
        If the text is not a formula of the grammar above.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise LawError(f"cannot read the expression {text!r}: {error}") from None
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    match node:
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, text)
            _check(right, text)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, text)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            if name not in FUNCTIONS:
                raise LawError(
                    f"unknown function {name!r} in {text!r}; known: {sorted(FUNCTIONS)}"
                )
            _check(argument, text)
        case ast.Constant(value=bool()):
            raise LawError(f"{text!r} contains a truth value")
        case ast.Constant(value=int() | float()) | ast.Name():
            return
        case _:
            raise LawError(
                f"{ast.unparse(node)!r} in {text!r} is not arithmetic; allowed are numbers, "
                f"names, + - * / **, parentheses and {sorted(FUNCTIONS)}"
            )


def names_of(tree: ast.expr) -> set[str]:
    """Return the names of columns and constants in a formula."""
    called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called}


def evaluate(tree: ast.expr, values: Mapping[str, Any]) -> Any:
    """Evaluate a formula over arrays that broadcast with one another.

    Parameters
    ----------
    tree : ast.expr
        Result of :func:`parse`.
    values : mapping of str to array_like
        Columns and constants by name.

    Returns
    -------
    ndarray or float
        May hold nan or inf where the formula has no real value.

    Raises
    ------
    LawError
        If a name has no value.
    """
    with np.errstate(all="ignore"):
        return _value(tree, values)


def _value(node: ast.expr, values: Mapping[str, Any]) -> Any:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            value = _value(operand, values)
            return -value if isinstance(op, ast.USub) else value
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return FUNCTIONS[name](_value(argument, values))
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in values:
            return np.asarray(values[name], dtype=np.float64)
        case ast.Name(id=name) if name in NUMBERS:
            return NUMBERS[name]
        case ast.Name(id=name):
            raise LawError(f"no value for {name!r}; given: {sorted(values)}")
    raise LawError(f"{ast.unparse(node)!r} cannot be evaluated")
