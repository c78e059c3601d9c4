"""Units that the constants of a law need, from the places where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from nanoslit.discovery.dimensions import NONE, Exponents
from nanoslit.discovery.forms import Form
from nanoslit.discovery.tokens import (
    ABS,
    ADD,
    BINARY,
    CUBE,
    DIV,
    FIXED,
    INV,
    MUL,
    SQRT,
    SQUARE,
    SUB,
    UNARY,
    VARIABLE,
)

__all__ = ["constant_units"]


def constant_units(
    form: Form, columns: Sequence[Exponents], target: Exponents
) -> list[Exponents]:
    """Return the unit that its place gives to each constant.

    Consistency is a linear system over the unknown exponents; what it leaves open is
    dimensionless. An inconsistent form gives the least-squares answer's nearest halves,
    so callers check consistency during the search, not here.
    """
    k = len(form.names)
    rows: list[tuple[list[Fraction], Exponents]] = []
    stack: list[tuple[list[Fraction], Exponents]] = []
    none = [Fraction(0)] * k
    seen = 0

    def combine(
        a: tuple[list[Fraction], Exponents], b: tuple[list[Fraction], Exponents], s: int
    ) -> tuple[list[Fraction], Exponents]:
        return (
            [x + s * y for x, y in zip(a[0], b[0], strict=True)],
            tuple(x + s * y for x, y in zip(a[1], b[1], strict=True)),
        )

    def power(
        a: tuple[list[Fraction], Exponents], p: Fraction
    ) -> tuple[list[Fraction], Exponents]:
        return [x * p for x in a[0]], tuple(x * p for x in a[1])

    powers = {
        SQUARE: Fraction(2),
        CUBE: Fraction(3),
        INV: Fraction(-1),
        SQRT: Fraction(1, 2),
        ABS: Fraction(1),
    }
    values = form.constants[:, 0]
    for t, token in enumerate(form.tokens.tolist()):
        if token >= VARIABLE:
            stack.append((none, columns[token - VARIABLE]))
        elif token == FIXED:
            stack.append((none, NONE))
        elif token < BINARY:
            one = list(none)
            one[seen] = Fraction(1)
            seen += 1
            stack.append((one, NONE))
        elif token < UNARY:
            b, a = stack.pop(), stack.pop()
            if token in (ADD, SUB):
                rows.append(combine(a, b, -1))
                stack.append(a)
            elif token in (MUL, DIV):
                stack.append(combine(a, b, 1 if token == MUL else -1))
            elif form.tokens[t - 1] == FIXED:
                stack.append(power(a, Fraction(values[t - 1]).limit_denominator(12)))
            else:
                rows += [a, b]
                stack.append((none, NONE))
        elif token in powers:
            stack.append(power(stack.pop(), powers[token]))
        else:
            rows.append(stack.pop())
            stack.append((none, NONE))
    rows.append(combine(stack.pop(), (none, target), -1))
    return _solve(rows, k)


def _solve(rows: list[tuple[list[Fraction], Exponents]], k: int) -> list[Exponents]:
    """Gaussian elimination of A x = -b over fractions, free unknowns zero."""
    table = [list(a) + [-v for v in b] for a, b in rows]
    pivots: list[int] = []
    at = 0
    for column in range(k):
        hit = next((r for r in range(at, len(table)) if table[r][column]), None)
        if hit is None:
            continue
        table[at], table[hit] = table[hit], table[at]
        lead = table[at][column]
        table[at] = [x / lead for x in table[at]]
        for r in range(len(table)):
            if r != at and table[r][column]:
                factor = table[r][column]
                table[r] = [x - factor * y for x, y in zip(table[r], table[at], strict=True)]
        pivots.append(column)
        at += 1
    result = [NONE] * k
    for r, column in enumerate(pivots):
        result[column] = tuple(table[r][k:])
    return result
