"""Expressions in files: arithmetic and nothing else.

sympy evaluates text as Python, and a file may be anybody's: it could name a program to run.
The text is therefore looked through before sympy gets it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["FUNCTIONS", "parse_expression"]

FUNCTIONS = (
    "exp", "log", "sqrt", "abs", "Abs", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh",
)  # fmt: skip
_SYNTAX = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.UAdd, ast.USub, ast.Load,
)  # fmt: skip


def parse_expression(
    text: str,
    symbols: Mapping[str, Any],
    *,
    functions: Collection[str] = FUNCTIONS,
    only: bool = False,
) -> Any:
    """Return text as a sympy expression.

    Parameters
    ----------
    text : str
        Numbers, names, ``+ - * / **``, parentheses and calls of the functions.
    symbols : mapping of str to sympy expression
        What names stand for; another name becomes a symbol.
    functions : collection of str
        Functions that may be called.
    only : bool
        Whether other names are refused.

    Raises
    ------
    ValueError
        If the text is anything else; the message says what may stand there.
    """
    import sympy

    _require_arithmetic(text, sorted(symbols) if only else None, functions)
    try:
        return sympy.sympify(text.strip(), locals=dict(symbols))
    except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
        raise ValueError(f"{text!r} is not an expression: {error}") from None


def _require_arithmetic(text: str, names: list[str] | None, functions: Collection[str]) -> None:
    known = "" if names is None else f"{', '.join(names)}, "
    allowed = f"allowed are numbers, {known}{', '.join(functions)}, + - * / **"
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"{text!r} is not an expression; {allowed}") from None
    called = {id(n.func) for n in nodes if isinstance(n, ast.Call)}
    for node in nodes:
        good = isinstance(node, _SYNTAX)
        if isinstance(node, ast.Name):
            places = functions if id(node) in called else names
            good = places is None or node.id in places
        elif isinstance(node, ast.Call):
            good = isinstance(node.func, ast.Name) and not node.keywords
        elif isinstance(node, ast.Constant):
            good = isinstance(node.value, int | float) and not isinstance(node.value, bool)
        if not good:
            part = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
            raise ValueError(f"{text!r} uses {part!r}; {allowed}")
