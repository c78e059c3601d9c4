"""Dimensional analysis with exponent vectors over the seven SI base units.

Units are text for people; a search needs small integers. Each dimension that an
expression may pass through gets a number, and products, quotients, squares and roots
become table look-ups. Number 0 is dimensionless.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery.tokens import CUBE, DIV, INV, MUL, OPERATORS, SQRT, SQUARE
from nanoslit.errors import LawError

__all__ = ["CONSTANT_UNITS", "DimensionTable", "Exponents", "exponents", "unit_text"]

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
            parts.append(
                f"{base}**{power}"
                if power.denominator == 1
                else f"{base}**({power})"
            )
    return "*".join(parts)


def _times(a: Exponents, b: Exponents, sign: int = 1) -> Exponents:
    return tuple(x + sign * y for x, y in zip(a, b, strict=True))


def _power(a: Exponents, p: Fraction) -> Exponents:
    return tuple(x * p for x in a)


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
        sizes = _closure(columns, target, codes, constants)
        vectors = tuple(sizes)
        index = {v: i for i, v in enumerate(vectors)}

        def look(v: Exponents) -> int:
            return index.get(v, -1)

        product = np.array([[look(_times(a, b)) for b in vectors] for a in vectors])
        quotient = np.array([[look(_times(a, b, -1)) for b in vectors] for a in vectors])
        unary = {
            code: np.array([look(_power(v, p)) for v in vectors], dtype=np.int16)
            for code, p in _POWERS.items()
        }
        allowed = np.zeros(len(vectors), dtype=np.bool_)
        allowed[0] = True
        if constants == "free":
            allowed[:] = True
        smallest, witness = _smallest(
            vectors, columns, codes, allowed, product, quotient, unary
        )
        goal = -1 if constants == "scale" else look(target)
        if goal >= 0 and smallest[goal] >= UNREACHABLE or (
            goal < 0 and constants != "scale"
        ):
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
            product.astype(np.int16),
            quotient.astype(np.int16),
            unary[SQUARE],
            unary[SQRT],
            unary[CUBE],
            unary[INV],
            allowed,
            smallest,
            witness,
        )

    @property
    def count(self) -> int:
        """Number of dimensions."""
        return len(self.vectors)


_POWERS = {
    SQUARE: Fraction(2),
    SQRT: Fraction(1, 2),
    CUBE: Fraction(3),
    INV: Fraction(-1),
}
UNREACHABLE = 1000


def _closure(
    columns: Sequence[Exponents], target: Exponents, codes: set[int], constants: str
) -> dict[Exponents, int]:
    """Return dimensions in the order in which growing expressions reach them."""
    sizes: dict[Exponents, int] = {NONE: 1}
    for c in columns:
        sizes.setdefault(c, 1)
    if constants == "free":
        sizes.setdefault(target, 1)
    for size in range(2, 10):
        for new in _next(sizes, size, codes):
            if len(sizes) >= LARGEST_TABLE:
                break
            if max(abs(x) for x in new) <= LARGEST_EXPONENT:
                sizes.setdefault(new, size)
        if len(sizes) >= LARGEST_TABLE:
            break
    if constants == "dimensionless" and target not in sizes:
        sizes[target] = UNREACHABLE
    # Partial results on the way to the target and their counterparts must be there, too.
    for v in list(sizes)[:LARGEST_TABLE]:
        for c in columns:
            for new in (_times(target, c), _times(target, c, -1)):
                if len(sizes) < LARGEST_TABLE + 60:
                    sizes.setdefault(new, UNREACHABLE)
        del v
        break
    return sizes


def _next(sizes: dict[Exponents, int], size: int, codes: set[int]) -> list[Exponents]:
    by_size: dict[int, list[Exponents]] = {}
    for v, s in sizes.items():
        by_size.setdefault(s, []).append(v)
    found: list[Exponents] = []
    for code, p in _POWERS.items():
        if code in codes:
            found += [_power(v, p) for v in by_size.get(size - 1, [])]
    for left in range(1, size - 1):
        for a in by_size.get(left, []):
            for b in by_size.get(size - 1 - left, []):
                if MUL in codes:
                    found.append(_times(a, b))
                if DIV in codes:
                    found.append(_times(a, b, -1))
    return [v for v in found if all(x.denominator <= 12 for x in v)]


def _smallest(
    vectors: Sequence[Exponents],
    columns: Sequence[Exponents],
    codes: set[int],
    allowed: NDArray[np.bool_],
    product: NDArray[np.int_],
    quotient: NDArray[np.int_],
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
            for a, b in zip(*np.nonzero((table >= 0) & (total < 40)), strict=True):
                r = table[a, b]
                if total[a, b] < size[r]:
                    size[r] = total[a, b]
                    witness[r] = (code, a, b)
        for code, powers in unary.items():
            if code not in codes:
                continue
            for a in np.nonzero((powers >= 0) & (size < 40))[0]:
                if size[a] + 1 < size[powers[a]]:
                    size[powers[a]] = size[a] + 1
                    witness[powers[a]] = (code, a, -1)
        if np.array_equal(before, size):
            break
    return np.minimum(size, UNREACHABLE).astype(np.int16), witness
