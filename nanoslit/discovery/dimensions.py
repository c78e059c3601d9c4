"""Dimensional analysis with exponent vectors over the seven SI base units.

Units are text for people; a search needs small integers. Each dimension that an
expression may pass through gets a number, and products, quotients, squares and roots
become table look-ups. Number 0 is dimensionless.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery.tokens import (
    BINARY,
    CUBE,
    DIV,
    INV,
    MUL,
    OPERATORS,
    SQRT,
    SQUARE,
    VARIABLE,
)
from nanoslit.errors import LawError

__all__ = [
    "CONSTANT_UNITS",
    "DimensionTable",
    "Exponents",
    "exponents",
    "monomial_tokens",
    "unit_text",
]

Exponents = tuple[Fraction, ...]
BASE = ("m", "kg", "s", "A", "K", "mol", "cd")
PINT_BASE = (
    "[length]",
    "[mass]",
    "[time]",
    "[current]",
    "[temperature]",
    "[substance]",
    "[luminosity]",
)
NONE: Exponents = (Fraction(0),) * len(BASE)
CONSTANT_UNITS = ("dimensionless", "scale", "free")
LARGEST_EXPONENT = 8
LARGEST_TABLE = 240


@lru_cache(maxsize=1)
def _registry() -> object:
    import pint

    return pint.UnitRegistry()


@lru_cache(maxsize=512)
def exponents(unit: str) -> Exponents:
    """Return the exponents of m, kg, s, A, K, mol, cd of a unit text.

    Factors (``mV`` against ``V``) do not matter to consistency and are left alone.

    Raises
    ------
    LawError
        If pint does not know the unit.
    """
    if unit.strip() in ("", "1", "-", "dimensionless"):
        return NONE
    try:
        dims = _registry().parse_units(unit).dimensionality  # type: ignore[attr-defined]
    except Exception as error:  # pint raises many kinds, tokenizer errors among them
        raise LawError(
            f"unit {unit!r} is not understood ({error}); write for example 'm', 'A/m', "
            "'kg*m/s**2', or '1' for a plain number"
        ) from None
    unknown = set(dims) - set(PINT_BASE)
    if unknown:
        raise LawError(f"unit {unit!r} has the dimension {sorted(unknown)}, not SI")
    return tuple(Fraction(dims.get(b, 0)).limit_denominator(12) for b in PINT_BASE)


_NAMED = {
    "V": "V",
    "Ohm": "ohm",
    "Ohm*m": "ohm*m",
    "Ohm*m**2/C": "ohm*m**2/C",
    "A/m": "A/m",
    "C/m": "C/m",
    "F/m": "F/m",
    "H*m": "H*m",
}


@lru_cache(maxsize=1)
def _named() -> dict[Exponents, str]:
    return {exponents(u): name for name, u in _NAMED.items()}


def unit_text(dims: Exponents) -> str:
    """Return a unit for an exponent vector: a common name, or base units."""
    if dims == NONE:
        return ""
    if dims in _named():
        return _named()[dims]
    parts = []
    for base, power in zip(BASE, dims, strict=True):
        if power == 1:
            parts.append(base)
        elif power:
            parts.append(f"{base}**{power}" if power.denominator == 1 else f"{base}**({power})")
    return "*".join(parts)


@dataclass(frozen=True)
class DimensionTable:
    """Numbered dimensions and the tables that the compiled operators use.

    Parameters
    ----------
    vectors : tuple of Exponents
        Dimension of each number; number 0 is dimensionless.
    variables : ndarray of int16, shape (columns,)
        Dimension of each column.
    target : int
        Dimension of the target; -1 if any will do (a scale with a unit is fitted).
    product, quotient : ndarray of int16, shape (K, K)
    square, root, cube, inverse : ndarray of int16, shape (K,)
        -1 where the result is not in the table.
    constant_allowed : ndarray of bool, shape (K,)
        Whether a constant leaf may have this dimension.
    smallest : ndarray of int16, shape (K,)
        Fewest tokens of an expression of this dimension.
    witness : ndarray of int16, shape (K, 3)
        Operator and operand dimensions of such a smallest expression; -1 for a leaf.
    monomials : ndarray of int16, shape (M, tokens)
        Products of powers of the columns in postfix order, sorted by dimension.
    monomial_sizes : ndarray of int16, shape (M,)
        Their number of tokens.
    monomial_range : ndarray of int64, shape (K, 2)
        First and last + 1 of those of each dimension.
    """

    vectors: tuple[Exponents, ...]
    variables: NDArray[np.int16]
    target: int
    product: NDArray[np.int16]
    quotient: NDArray[np.int16]
    square: NDArray[np.int16]
    root: NDArray[np.int16]
    cube: NDArray[np.int16]
    inverse: NDArray[np.int16]
    constant_allowed: NDArray[np.bool_]
    smallest: NDArray[np.int16]
    witness: NDArray[np.int16]
    monomials: NDArray[np.int16]
    monomial_sizes: NDArray[np.int16]
    monomial_range: NDArray[np.int64]

    @classmethod
    def build(
        cls,
        columns: Sequence[Exponents],
        target: Exponents,
        operators: Sequence[str],
        constants: str,
        names: Sequence[str] = (),
    ) -> DimensionTable:
        """Close the columns' dimensions under the operators, smallest trees first.

        Raises
        ------
        LawError
            If no expression of the columns can have the target's dimension.
        """
        codes = {OPERATORS[o] for o in operators}
        scaled = _closure(columns, target, codes, constants)
        vectors = tuple(tuple(Fraction(int(x), UNIT) for x in v) for v in scaled)
        index = {v: i for i, v in enumerate(vectors)}
        keys = _keys(scaled)
        product = _look(keys, keys[:, None] + keys[None, :])
        quotient = _look(keys, keys[:, None] - keys[None, :])
        unary = {SQUARE: _look(keys, 2 * keys), CUBE: _look(keys, 3 * keys)}
        unary[INV] = _look(keys, -keys)
        even = np.all(scaled % 2 == 0, axis=1)
        unary[SQRT] = np.where(even, _look(keys, _keys(scaled // 2)), -1).astype(np.int16)
        allowed = np.zeros(len(vectors), dtype=np.bool_)
        allowed[0] = True
        if constants == "free":
            allowed[:] = True
        smallest, witness = _smallest(
            vectors, columns, codes, allowed, product, quotient, unary
        )
        goal = -1 if constants == "scale" else index.get(target, -1)
        if goal >= 0 and smallest[goal] >= UNREACHABLE or (goal < 0 and constants != "scale"):
            listed = ", ".join(
                f"{n} [{unit_text(v) or '1'}]" for n, v in zip(names, columns, strict=False)
            )
            raise LawError(
                f"no combination of the features ({listed}) has the target's unit "
                f"[{unit_text(target) or '1'}] with dimensionless constants; correct the "
                "units, add a feature, or allow constants with units "
                "(constant units 'scale' or 'free')"
            )
        return cls(
            vectors,
            np.array([index[c] for c in columns], dtype=np.int16),
            goal,
            product,
            quotient,
            unary[SQUARE],
            unary[SQRT],
            unary[CUBE],
            unary[INV],
            allowed,
            smallest,
            witness,
            *_monomials(columns, keys, codes),
        )

    def with_products(
        self, rows: Sequence[Sequence[int]]
    ) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
        """Return the monomials with more of them, in postfix order, put first."""
        by_dimension: list[list[Sequence[int]]] = []
        for d, (a, b) in enumerate(self.monomial_range.tolist()):
            more = [r for r in rows if self._dimension(r) == d] * SUGGESTED_WEIGHT
            known = [self.monomials[k, : self.monomial_sizes[k]].tolist() for k in range(a, b)]
            by_dimension.append([*more, *known])
        return _packed(by_dimension)

    def _dimension(self, row: Sequence[int]) -> int:
        """Return the dimension of a product in postfix order; -1 if not in the table."""
        stack: list[int] = []
        unary = {SQUARE: self.square, CUBE: self.cube, INV: self.inverse, SQRT: self.root}
        for token in row:
            if token >= VARIABLE:
                d = int(self.variables[token - VARIABLE])
            elif token < BINARY:
                d = 0
            elif token in unary:
                d = int(unary[token][stack.pop()])
            else:
                b, a = stack.pop(), stack.pop()
                d = int((self.product if token == MUL else self.quotient)[a, b])
            if d < 0:
                return -1
            stack.append(d)
        return stack[0] if stack else -1

    @property
    def count(self) -> int:
        """Number of dimensions."""
        return len(self.vectors)


UNREACHABLE = 1000
UNIT = 12  # exponents are counted in twelfths
BASE_OF_KEY = 500


def _keys(scaled: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one number per exponent vector; sums of vectors have sums of numbers."""
    return scaled @ BASE_OF_KEY ** np.arange(scaled.shape[1], dtype=np.int64)


def _look(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int16]:
    order = np.argsort(keys)
    at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    found = order[at]
    return np.where(keys[found] == wanted, found, -1).astype(np.int16)


def _scaled(v: Exponents) -> NDArray[np.int64]:
    return np.array([int(x * UNIT) for x in v], dtype=np.int64)


def _closure(
    columns: Sequence[Exponents], target: Exponents, codes: set[int], constants: str
) -> NDArray[np.int64]:
    """Return dimensions in the order in which growing expressions reach them."""
    found: dict[int, NDArray[np.int64]] = {}

    def add(vectors: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
        near = vectors[np.abs(vectors).max(axis=1) <= LARGEST_EXPONENT * UNIT]
        new = []
        for key, v in zip(_keys(near).tolist(), near, strict=True):
            if key not in found and len(found) < limit:
                found[key] = v
                new.append(v)
        return np.array(new, dtype=np.int64).reshape(-1, len(BASE))

    C = np.array([_scaled(c) for c in columns])
    start = [_scaled(NONE)[None], C]
    if constants == "free":
        start.append(_scaled(target)[None])
    by_size = {1: add(np.concatenate(start), LARGEST_TABLE)}
    for size in range(2, 10):
        new = []
        last = by_size[size - 1]
        new += [last * 2] if SQUARE in codes else []
        new += [last * 3] if CUBE in codes else []
        new += [-last] if INV in codes else []
        new += [last[np.all(last % 2 == 0, axis=1)] // 2] if SQRT in codes else []
        for left in range(1, size - 1):
            A, B = by_size[left][:, None], by_size[size - 1 - left][None]
            new += [(A + B).reshape(-1, len(BASE))] if MUL in codes else []
            new += [(A - B).reshape(-1, len(BASE))] if DIV in codes else []
        by_size[size] = add(np.concatenate([*new, last[:0]]), LARGEST_TABLE)
    # Partial results on the way to the target and their counterparts must be there, too.
    goal = _scaled(target)[None]
    add(np.concatenate([goal, goal - C, goal + C, goal - 2 * C]), LARGEST_TABLE + 60)
    return np.array(list(found.values()), dtype=np.int64)


def _smallest(
    vectors: Sequence[Exponents],
    columns: Sequence[Exponents],
    codes: set[int],
    allowed: NDArray[np.bool_],
    product: NDArray[np.int16],
    quotient: NDArray[np.int16],
    unary: dict[int, NDArray[np.int16]],
) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Relax the fewest tokens per dimension until nothing changes."""
    K = len(vectors)
    size = np.full(K, UNREACHABLE, dtype=np.int64)
    witness = np.full((K, 3), -1, dtype=np.int16)
    size[allowed] = 1
    have = set(columns)
    size[[v in have for v in vectors]] = 1
    for _ in range(12):
        before = size.copy()
        for code, table in ((MUL, product), (DIV, quotient)):
            if code not in codes:
                continue
            total = size[:, None] + size[None, :] + 1
            better = (table >= 0) & (total < 40)
            better[better] = total[better] < size[table[better]]
            pairs = np.argwhere(better)
            for a, b in pairs[np.argsort(total[better], kind="stable")].tolist():
                r = table[a, b]
                if total[a, b] < size[r]:
                    size[r] = total[a, b]
                    witness[r] = (code, a, b)
        for code, powers in unary.items():
            if code not in codes:
                continue
            for a in np.nonzero((powers >= 0) & (size < 40))[0].tolist():
                if size[a] + 1 < size[powers[a]]:
                    size[powers[a]] = size[a] + 1
                    witness[powers[a]] = (code, a, -1)
        if np.array_equal(before, size):
            break
    return np.minimum(size, UNREACHABLE).astype(np.int16), witness


LARGEST_MONOMIALS = 64  # of one dimension
LONGEST_MONOMIAL = 13
SUGGESTED_WEIGHT = 3  # a suggested product stands for so many


def _monomials(
    columns: Sequence[Exponents], keys: NDArray[np.int64], codes: set[int]
) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
    """Return products of powers of columns, shortest first, for each dimension.

    Laws are full of dimensionless groups (Buckingham, Phys. Rev. 4, 345 (1914)); drawing
    one at once is far likelier than growing it factor by factor.
    """
    steps = [-1, 1, -2, 2] if DIV in codes else [1, 2]
    column_keys = _keys(np.array([_scaled(c) for c in columns]))
    order = {int(k): d for d, k in enumerate(keys)}
    found: dict[int, list[tuple[int, ...]]] = {}
    level: list[tuple[tuple[int, ...], int]] = [((0,) * len(columns), 0)]
    for _ in range(6 if MUL in codes else 0):
        new: dict[tuple[int, ...], int] = {}
        for powers, key in level:
            last = max((j for j, p in enumerate(powers) if p), default=-1)
            for j in range(last + 1, len(columns)):
                for p in steps:
                    grown = (*powers[:j], p, *powers[j + 1 :])
                    new[grown] = key + p * int(column_keys[j])
        for powers, key in new.items():
            kept = found.setdefault(order.get(key, -1), [])
            if sum(map(abs, powers)) >= 2 and len(kept) < 4 * LARGEST_MONOMIALS:
                kept.append(powers)
        level = list(new.items())
        if len(level) > 60_000:
            break
    by_dimension: list[list[Sequence[int]]] = []
    for d in range(len(keys)):
        best = sorted(found.get(d, []), key=lambda p: sum(map(abs, p)))
        texts = [monomial_tokens(p, codes) for p in best[:LARGEST_MONOMIALS]]
        by_dimension.append([t for t in texts if 0 < len(t) <= LONGEST_MONOMIAL])
    return _packed(by_dimension)


def _packed(
    by_dimension: Sequence[Sequence[Sequence[int]]],
) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int64]]:
    """Return rows, their lengths, and first and last + 1 of each dimension."""
    rows = [row for group in by_dimension for row in group]
    ends = np.cumsum([len(group) for group in by_dimension])
    ranges = np.stack([ends - [len(group) for group in by_dimension], ends], axis=1)
    table = np.zeros((max(len(rows), 1), max(map(len, rows), default=1)), dtype=np.int16)
    for k, row in enumerate(rows):
        table[k, : len(row)] = row
    sizes = np.array([len(r) for r in rows] or [0], dtype=np.int16)
    return table, sizes, ranges.astype(np.int64)


def monomial_tokens(powers: Sequence[int], codes: Collection[int]) -> list[int]:
    """Return postfix tokens of a product of powers; empty if it needs a constant."""

    def power(variable: int, p: int) -> list[int]:
        if p == 1:
            return [variable]
        if p % 2 == 0 and SQUARE in codes:
            return [*power(variable, p // 2), SQUARE]
        return [*power(variable, p - 1), variable, MUL]

    def product(sign: int) -> list[int]:
        tokens: list[int] = []
        for j, p in enumerate(powers):
            if p * sign > 0:
                factor = power(VARIABLE + j, abs(p))
                tokens += [*factor, MUL] if tokens else factor
        return tokens

    top, bottom = product(1), product(-1)
    if not top:
        return [*bottom, INV] if bottom and INV in codes else []
    return [*top, *bottom, DIV] if bottom else top
