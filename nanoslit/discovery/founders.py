"""What a regression of logarithms suggests: power laws, and groups of columns.

The most frequent law is a product of powers, P, and the next frequent P f(g) with a group g
of columns, such as t/(R C). If columns vary independently, the regression sees f as about
g^a, whatever f is: each exponent is a whole number, from P, plus a times a whole number,
from g. Chance would have to hit all of them at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery.dimensions import monomial_tokens
from nanoslit.discovery.problem import Problem
from nanoslit.discovery.tokens import (
    ADD,
    CONSTANT,
    DIV,
    EXP,
    INV,
    MUL,
    SQRT,
    SQUARE,
    SUB,
    UNARY,
)

__all__ = ["Suggestions", "suggest"]

LARGEST_POWER = 4
SMALLEST_POWER = 0.12  # what is less may be chance
ALIKE = 0.12  # what exponents of one group may differ by: it depends on f
SPLITS = 3  # that founders are made of

ONE, MINUS = -1, -2  # instead of a token: the plain numbers 1 and -1

Row = list[int]


@dataclass(frozen=True)
class Suggestions:
    """Postfix rows to begin with, ``ONE`` and ``MINUS`` among their tokens.

    Parameters
    ----------
    laws : list
        Power laws, and power laws times functions of a group.
    groups : list
        Groups and their inverses.
    """

    laws: list[Row]
    groups: list[Row]


def suggest(problem: Problem, codes: set[int]) -> Suggestions:
    """Fit exponents and return what they suggest; nothing if no column suits.

    Parameters
    ----------
    problem : Problem
    codes : set of int
        Operators.

    Notes
    -----
    Least squares of log|y| on log|x|, weighted by y^2: an error of y is one of y log y.
    Columns with zeros are left out.
    """
    used = np.flatnonzero(np.all(problem.X != 0, axis=0))
    rows = problem.y != 0
    y = np.abs(problem.y[rows])
    if used.size == 0 or len(y) <= used.size + 1 or not {MUL, DIV} <= codes:
        return Suggestions([], [])
    A = np.column_stack([np.log(np.abs(problem.X[rows][:, used])), np.ones(len(y))])
    fitted, *_ = np.linalg.lstsq(A * y[:, None], np.log(y) * y, rcond=1e-10)
    p = np.zeros(problem.X.shape[1])
    p[used] = np.clip(fitted[:-1], -LARGEST_POWER, LARGEST_POWER)
    halves = [2, 1] if SQRT in codes else [1]
    laws = [_tokens(np.rint(p * s).astype(np.int64) * (2 // s), codes) for s in halves]
    groups = []
    for whole, shared in _splits(p):
        prefactor = _tokens(2 * whole, codes)
        for g in (_tokens(2 * shared, codes), _tokens(-2 * shared, codes)):
            groups.append(g)
            laws += _functions(prefactor, g, codes)
    return Suggestions([r for r in laws if r], [g for g in groups if ONE not in g])


def _splits(p: NDArray[np.float64]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the simplest whole n and s with p = n + a s, a being the same for all columns."""
    n, s = (x.ravel() for x in np.meshgrid(np.arange(-2, 3), np.arange(-2, 3)))
    cost = np.abs(n) + np.abs(s) + 0.01 * np.abs(n)
    found: dict[tuple[int, ...], tuple[float, NDArray[np.int64], NDArray[np.int64]]] = {}
    for a in np.abs(p[:, None] - np.array([0, 1, -1])).ravel():
        if not SMALLEST_POWER < a < LARGEST_POWER:
            continue
        missed = np.abs(p[:, None] - n - a * s) > ALIKE
        price = np.where(missed, np.inf, cost)
        best = np.argmin(price, axis=1)
        whole, shared = n[best], s[best]
        if np.any(missed[np.arange(len(p)), best]) or not shared.any():
            continue
        key = tuple(np.concatenate([whole, shared * np.sign(shared[shared != 0][0])]).tolist())
        found.setdefault(key, (float(price.min(axis=1).sum()), whole, shared))
    simplest = sorted(found.values(), key=lambda f: f[0])[:SPLITS]
    return [(whole, shared) for _, whole, shared in simplest]


def _functions(prefactor: Row, group: Row, codes: set[int]) -> list[Row]:
    """Return the prefactor times and over f(g), 1 +- f(g), sqrt(1 +- g), sqrt(1 +- g^2).

    And, with a constant to be fitted, exp(c g), exp(c g^2), 1 + c g and 1 + c g^2.
    """
    plain = [group, *([*group, f] for f in sorted(codes) if f >= UNARY)]
    if EXP in codes:
        plain.append([MINUS, *group, MUL, EXP])
    values = plain[1:]
    scaled = [[CONSTANT, *group, MUL], [CONSTANT, *group, SQUARE, MUL]]
    if EXP in codes:
        values += [[*v, EXP] for v in scaled]
    if ADD in codes:
        values += [[ONE, *v, ADD] for v in scaled]
    for sign in {ADD, SUB} & codes:
        values += [[ONE, *v, sign] for v in plain]
        if SQRT in codes:
            values += [[ONE, *v, sign, SQRT] for v in (group, [*group, SQUARE])]
    values = [v for v in values if SQUARE in codes or SQUARE not in v]
    if not prefactor:
        return values
    return [[*prefactor, *v, o] for v in values for o in (MUL, DIV)]


def _tokens(twice: NDArray[np.int64], codes: set[int]) -> Row:
    """Return the product of powers of all columns, given twice the exponents."""
    whole = np.fix(twice / 2).astype(np.int64)
    plain = _product(whole.tolist(), codes)
    root = _product((twice - 2 * whole).tolist(), codes)
    if not root:
        return plain
    return [*plain, *root, SQRT, MUL] if plain else [*root, SQRT]


def _product(powers: list[int], codes: set[int]) -> Row:
    tokens = monomial_tokens(powers, codes)
    if tokens or not any(powers) or INV in codes:
        return tokens
    return [ONE, *monomial_tokens([-p for p in powers], codes), DIV]
