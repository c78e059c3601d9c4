"""Expressions as postfix token rows, and their text on disk and on the wire.

A token is a small integer: a class of constant, an operator, or ``VARIABLE + column``.
The constant of a token stands at the same place of a second array, one value per data
set. Text is prefix notation, constants as hexadecimal floats, so that it is readable,
safe to load and exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nanoslit.errors import LawError

__all__ = [
    "ABS",
    "ADD",
    "ARITY",
    "BINARY",
    "COMPLEXITY",
    "CONSTANT",
    "COS",
    "COSH",
    "CUBE",
    "DEFAULT_OPERATORS",
    "DIV",
    "EXP",
    "FIXED",
    "INV",
    "LOG",
    "MAX_TOKENS",
    "MUL",
    "OPERATORS",
    "POW",
    "PRIVATE",
    "SIN",
    "SINH",
    "SQRT",
    "SQUARE",
    "SUB",
    "TANH",
    "VARIABLE",
    "complexity",
    "decode",
    "encode",
    "to_formula",
]

Tokens = NDArray[np.int16]
Constants = NDArray[np.float64]

MAX_TOKENS = 64
CONSTANT, PRIVATE, FIXED = 0, 1, 2
ADD, SUB, MUL, DIV, POW = 10, 11, 12, 13, 14
BINARY = 10
UNARY = 20
SQRT, SQUARE, EXP, LOG, SIN, COS, TANH, SINH, COSH, ABS, CUBE, INV = range(21, 33)
VARIABLE = 100

OPERATORS: dict[str, int] = {
    "+": ADD,
    "-": SUB,
    "*": MUL,
    "/": DIV,
    "pow": POW,
    "sqrt": SQRT,
    "square": SQUARE,
    "exp": EXP,
    "log": LOG,
    "sin": SIN,
    "cos": COS,
    "tanh": TANH,
    "sinh": SINH,
    "cosh": COSH,
    "abs": ABS,
    "cube": CUBE,
    "inv": INV,
}
NAMES = {code: name for name, code in OPERATORS.items()}
DEFAULT_OPERATORS = ("+", "-", "*", "/", "sqrt", "square", "exp", "log")

ARITY = np.zeros(VARIABLE + 1, dtype=np.int64)
ARITY[[ADD, SUB, MUL, DIV, POW]] = 2
ARITY[SQRT : INV + 1] = 1

# Our choice: a node costs 1; what is rarer in laws, or private to a data set, costs 2.
COMPLEXITY = np.ones(VARIABLE + 1, dtype=np.int64)
COMPLEXITY[[POW, EXP, LOG, SIN, COS, TANH, SINH, COSH, PRIVATE]] = 2


def arity(token: int) -> int:
    """Return the number of operands of a token."""
    return int(ARITY[min(token, VARIABLE)])


def complexity(tokens: Tokens) -> int:
    """Return the weighted number of nodes."""
    return int(COMPLEXITY[np.minimum(tokens, VARIABLE)].sum())


def encode(tokens: Tokens, constants: Constants, columns: Sequence[str]) -> str:
    """Return the prefix text of a postfix row.

    Parameters
    ----------
    tokens : ndarray of int16, shape (n,)
    constants : ndarray, shape (n, data sets)
    columns : sequence of str
        Column names; must not contain spaces.
    """
    stack: list[str] = []
    for token, row in zip(tokens.tolist(), constants, strict=True):
        if token >= VARIABLE:
            stack.append(columns[token - VARIABLE])
        elif token < BINARY:
            values = row if token == PRIVATE else row[:1]
            stack.append("#%="[token] + ";".join(float(v).hex() for v in values))
        else:
            operands = [stack.pop() for _ in range(arity(token))][::-1]
            stack.append(" ".join(["@" + NAMES[token], *operands]))
    return stack[0]


def decode(text: str, columns: Sequence[str], data_sets: int = 1) -> tuple[Tokens, Constants]:
    """Read :func:`encode`'s text.

    Raises
    ------
    LawError
        If the text is not a complete expression over these columns.
    """
    index = {name: i for i, name in enumerate(columns)}
    words = text.split(" ")
    tokens, rows = [], []

    def read(position: int) -> int:
        if position >= len(words):
            raise LawError(f"expression text ends early: {text!r}")
        word = words[position]
        row = np.zeros(data_sets)
        if word[:1] == "@" and word[1:] in OPERATORS:
            token = OPERATORS[word[1:]]
            position += 1
            for _ in range(arity(token)):
                position = read(position)
        else:
            position += 1
            if word and word[0] in "#%=":
                token = "#%=".index(word[0])
                row[:] = [float.fromhex(v) for v in word[1:].split(";")]
            elif word in index:
                token = VARIABLE + index[word]
            else:
                raise LawError(f"unknown word {word!r} in the expression text {text!r}")
        tokens.append(token)
        rows.append(row)
        return position

    if read(0) != len(words):
        raise LawError(f"expression text has a rest: {text!r}")
    return np.array(tokens, dtype=np.int16), np.array(rows)


_BINARY_FORM = {ADD: "({}+{})", SUB: "({}-{})", MUL: "({}*{})", DIV: "({}/{})"}
_BINARY_FORM[POW] = "({})**({})"
_UNARY_FORM = {ABS: "Abs({})", SQUARE: "({})**2", CUBE: "({})**3", INV: "(1/({}))"}


def to_formula(
    tokens: Tokens, leaves: Sequence[str] | None, constants: Constants, columns: Sequence[str]
) -> str:
    """Return infix text that Python and sympy read.

    Parameters
    ----------
    tokens, constants
        As in :func:`encode`.
    leaves : sequence of str or None
        Text for each constant leaf in order of appearance; by default its first value.
    columns : sequence of str
    """
    stack: list[str] = []
    seen = 0
    for token, row in zip(tokens.tolist(), constants, strict=True):
        if token >= VARIABLE:
            stack.append(columns[token - VARIABLE])
        elif token < BINARY:
            stack.append(f"({float(row[0])!r})" if leaves is None else leaves[seen])
            seen += 1
        elif token < UNARY:
            second = stack.pop()
            stack.append(_BINARY_FORM[token].format(stack.pop(), second))
        else:
            form = _UNARY_FORM.get(token, NAMES[token] + "({})")
            stack.append(form.format(stack.pop()))
    return stack[0]
