"""Axes of a plan: lists, ranges and samples of any key of a case file, as columns of values.

A :class:`Group` is a table of values, one row per step along it: one key for an axis,
several for keys that move together (zip) or are sampled together. The points of a plan
are the product of its groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nanoslit.casefile import CASE
from nanoslit.errors import closest
from nanoslit.schema import (
    Choice,
    Either,
    ListOf,
    Node,
    Number,
    Place,
    Quantity,
    Record,
    Variants,
    Whole,
    show,
)
from nanoslit.units import parse_quantity, round_significant

__all__ = ["Column", "Group", "flatten", "read_axis", "read_sample", "read_zip", "targets"]

_RANGE = ("from", "to", "points", "spacing")
_SAMPLING = ("method", "points", "seed")
_SPACINGS = ("lin", "log")
_METHODS = ("latin-hypercube", "sobol")
_MOST = 10_000_000


@dataclass(frozen=True)
class Column:
    """Values of one key along a group.

    Attributes
    ----------
    key : str
        Dotted key of the case file.
    raw : tuple
        Values as a case file holds them (text with unit, number, word, table).
    si : tuple
        The same as read: numbers in SI units where they are numbers.
    unit : str
        SI unit, "1" for numbers without, "" for anything else.
    shown_unit : str
        Unit in which the user would write them.
    log : bool
        Whether the values are meant on a logarithmic scale.
    """

    key: str
    raw: tuple[Any, ...]
    si: tuple[Any, ...]
    unit: str
    shown_unit: str = ""
    log: bool = False

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return bool(self.unit)


@dataclass(frozen=True)
class Group:
    """Columns of equal length that move together."""

    columns: tuple[Column, ...]
    kind: str = "axis"

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.columns[0].raw)

    @property
    def keys(self) -> tuple[str, ...]:
        """Dotted keys of the columns."""
        return tuple(c.key for c in self.columns)

    def row(self, index: int) -> dict[str, Any]:
        """Return the changes of a case file that one row stands for."""
        return {c.key: c.raw[index] for c in self.columns}


def flatten(table: Mapping[str, Any], at: Place) -> Iterator[tuple[str, Any]]:
    """Yield dotted key and value of nested tables; a range is a value."""
    for key, value in table.items():
        if isinstance(value, Mapping) and not set(value) & {"from", "to", "points"}:
            if not value:
                (at / key).fail("empty table", allowed='values, such as ["1 nm", "2 nm"]')
            yield from ((f"{key}.{k}", v) for k, v in flatten(value, at / key))
        else:
            yield key, value


# --- which schema node a key names --------------------------------------------------


def targets(document: Mapping[str, Any], key: str, at: Place) -> list[tuple[str, Node]]:
    """Return the concrete keys and schema nodes that a dotted key names.

    ``*`` names every item of a list; an item may be named by its number or its ``name``.

    Raises
    ------
    CaseError
        If there is no such key; the message lists those that exist.
    """
    words = key.split(".")
    if words[0] in ("name", "output"):
        at.fail(
            f"{words[0]} does not change what is computed: it cannot be an axis",
            allowed=", ".join(k for k in CASE.keys if k not in ("name", "output")),
        )
    return [(".".join(path), node) for path, node in _walk(CASE, document, words, at, ())]


def _walk(
    node: Node, raw: Any, words: list[str], at: Place, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Node]]:
    if not words:
        yield path, node
        return
    word, rest = words[0], words[1:]
    if isinstance(node, Either):
        node = node.table
    if isinstance(node, Variants):
        kind = raw.get(node.tag) if isinstance(raw, Mapping) else None
        if word == node.tag and not rest:
            yield (*path, word), Choice(tuple(node.records))
            return
        if kind not in node.records:
            at.fail(
                f"{'.'.join(path)}.{node.tag} of the base case decides which keys there are",
                given=show(kind),
                allowed=" or ".join(node.records),
            )
        node = node.records[str(kind)]
    if isinstance(node, Record):
        if word not in node.keys:
            at.fail(
                f"unknown key {'.'.join((*path, word))}",
                allowed=", ".join(".".join((*path, k)) for k in node.keys),
                hint=closest(word, node.keys),
            )
        inner = raw.get(word) if isinstance(raw, Mapping) else None
        yield from _walk(node.keys[word], inner, rest, at, (*path, word))
    elif isinstance(node, ListOf):
        items = raw if isinstance(raw, list) else []
        names = [i.get("name") if isinstance(i, Mapping) else None for i in items]
        chosen = [
            i for i in range(len(items)) if word == "*" or word == names[i] or word == str(i)
        ]
        if not chosen:
            named = ", ".join(str(name) for name in names if name)
            at.fail(
                f"the list {'.'.join(path)} has no item {word!r}",
                allowed=f"a number from 0 to {len(items) - 1}, * for all, or a name: {named}",
            )
        for i in chosen:
            yield from _walk(node.item, items[i], rest, at, (*path, str(i)))
    else:
        at.fail(f"{'.'.join(path)} is a value and has no key {word!r}")


def _node(document: Mapping[str, Any], key: str, at: Place) -> Node:
    node = targets(document, key, at)[0][1]
    if isinstance(node, Record | Variants) or (
        isinstance(node, ListOf) and isinstance(node.item, Record | Variants)
    ):
        at.fail(f"{key} is a table", allowed=f"one of its keys: {node.describe()}")
    return node


# --- values ----------------------------------------------------------------------------


def read_axis(document: Mapping[str, Any], key: str, raw: Any, at: Place) -> Group:
    """Return the group of one axis: a list of values or a range."""
    return Group((_column(document, key, raw, at),))


def read_zip(document: Mapping[str, Any], table: Any, at: Place) -> Group:
    """Return the group of keys that move together: lists or ranges of equal length."""
    if not isinstance(table, Mapping) or not table:
        at.fail("must be a table of keys", given=show(table), allowed="two or more keys")
    columns = tuple(_column(document, key, raw, at / key) for key, raw in flatten(table, at))
    lengths = {c.key: len(c.raw) for c in columns}
    if len(set(lengths.values())) > 1:
        at.fail(
            "keys that move together need equally many values",
            given=", ".join(f"{k}: {n}" for k, n in lengths.items()),
        )
    return Group(columns, "zip")


def read_sample(document: Mapping[str, Any], table: Any, at: Place) -> Group:
    """Return the group of a Latin hypercube or Sobol sample of several ranges."""
    if not isinstance(table, Mapping):
        at.fail("must be a table", given=show(table))
    method = Choice(_METHODS).read(table.get("method", _METHODS[0]), at / "method")
    if "points" not in table:
        (at / "points").fail("missing key", allowed="the number of points of the sample")
    n = Whole("the number of points", 1, _MOST).read(table["points"], at / "points")
    seed = Whole("a seed of the random numbers", 0).read(table.get("seed", 0), at / "seed")
    ranges = {k: v for k, v in table.items() if k not in _SAMPLING}
    found = list(flatten(ranges, at))
    if not found:
        at.fail("no key is sampled", allowed='key = { from = "1 nm", to = "5 nm" }')
    unit = _unit_sample(method, len(found), n, seed, at)
    columns = []
    for j, (key, raw) in enumerate(found):
        place = at / key
        node = _node(document, key, place)
        low, high, log = _ends(node, raw, place, points=False)
        columns.append(_numbers(node, key, _between(low, high, unit[:, j], log), log, place))
    return Group(tuple(columns), "sample")


def _unit_sample(method: str, d: int, n: int, seed: int, at: Place) -> Any:
    """Return n points in the unit cube of d dimensions, shape (n, d)."""
    from scipy.stats import qmc

    if method == "sobol":
        if n & (n - 1):
            (at / "points").fail(
                "a Sobol sequence is balanced for powers of two only",
                given=str(n),
                allowed=f"{1 << (n.bit_length() - 1)} or {1 << n.bit_length()}",
            )
        return qmc.Sobol(d, scramble=True, seed=seed).random(n)
    return qmc.LatinHypercube(d, seed=seed).random(n)


def _column(document: Mapping[str, Any], key: str, raw: Any, at: Place) -> Column:
    node = _node(document, key, at)
    if isinstance(raw, Mapping) and set(raw) & set(_RANGE):
        low, high, log = _ends(node, raw, at)
        if "points" not in raw:
            (at / "points").fail("missing key", allowed="the number of values, 2 or more")
        n = Whole("the number of values", 2, _MOST).read(raw["points"], at / "points")
        return _numbers(node, key, _between(low, high, np.linspace(0, 1, n), log), log, at)
    if not isinstance(raw, list):
        at.fail(
            "is neither a list of values nor a range",
            given=show(raw),
            allowed='["1 nm", "2 nm"], or { from = "1 nm", to = "5 nm", points = 5, '
            'spacing = "log" }',
        )
    if not raw:
        at.fail("empty axis", allowed="at least one value")
    values = tuple(node.read(value, at / str(i)) for i, value in enumerate(raw))
    unit, shown = _units(node, values)
    column = Column(key, tuple(raw), values, unit, shown)
    _require_distinct(column, at)
    return column


def _ends(node: Node, raw: Any, at: Place, points: bool = True) -> tuple[float, float, bool]:
    """Return both ends of a range in SI units and whether it is logarithmic."""
    allowed = [*_RANGE] if points else [k for k in _RANGE if k != "points"]
    if not isinstance(raw, Mapping):
        at.fail("must be a range", given=show(raw), allowed=", ".join(allowed))
    for key in raw:
        if key not in allowed:
            (at / key).fail(
                "unknown key", allowed=", ".join(allowed), hint=closest(key, allowed)
            )
    if isinstance(node, Either):
        node = node.plain
    if not isinstance(node, Quantity | Number | Whole):
        at.fail("a range needs a key that holds numbers", allowed=node.describe())
    for key in ("from", "to"):
        if key not in raw:
            (at / key).fail("missing key", allowed=node.describe())
    low, high = (float(node.read(raw[k], at / k)) for k in ("from", "to"))
    log = Choice(_SPACINGS).read(raw.get("spacing", "lin"), at / "spacing") == "log"
    if log and not (low > 0 and high > 0):
        at.fail("a logarithmic range needs both ends above 0", given=show(dict(raw)))
    if low == high:
        at.fail("both ends of the range are equal", given=show(raw["from"]))
    return low, high, log


def _between(low: float, high: float, share: Any, log: bool) -> Any:
    """Return values between two ends at shares 0..1."""
    if log:
        return np.exp(np.log(low) + (np.log(high) - np.log(low)) * share)
    return low + (high - low) * share


def _numbers(node: Node, key: str, si: Any, log: bool, at: Place) -> Column:
    """Return the column of numbers in SI units, written as a case file would."""
    if isinstance(node, Either):
        node = node.plain
    raw: list[Any]
    if isinstance(node, Quantity):
        raw = [_text(node, value) for value in si.tolist()]
    elif isinstance(node, Whole):
        raw = [round(value) for value in si.tolist()]
        if np.abs(np.asarray(raw) - si).max() > 1e-9 * np.abs(si).max():
            at.fail("the range hits no whole numbers", allowed=node.describe())
    else:
        raw = [round_significant(value) for value in si.tolist()]
    values = tuple(node.read(value, at) for value in raw)
    unit, shown = _units(node, values)
    column = Column(key, tuple(raw), values, unit, shown, log)
    _require_distinct(column, at)
    return column


def _text(node: Quantity, value: float) -> str:
    unit = node.file_unit
    number = parse_quantity(f"{round_significant(value)!r} {node.unit}", unit)
    return f"{number:.12g} {unit}"


def _units(node: Node, values: tuple[Any, ...]) -> tuple[str, str]:
    """Return SI unit and the unit a user would write; empty for what is no number."""
    if isinstance(node, Either):
        node = node.plain
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        return "", ""
    if isinstance(node, Quantity):
        return node.unit, node.file_unit
    return ("1", "1") if isinstance(node, Number | Whole) else ("", "")


def _require_distinct(column: Column, at: Place) -> None:
    """Complain about a value that stands twice on an axis."""
    seen: dict[Any, Any] = {}
    for raw, value in zip(column.raw, column.si, strict=True):
        mark = value if isinstance(value, int | float | str) else repr(value)
        if mark in seen:
            at.fail(
                f"duplicate points: {show(seen[mark])} and {show(raw)} are the same value",
                allowed="each value once",
            )
        seen[mark] = raw


def label_text(column: Column, index: int) -> str:
    """Return a value for tables and messages."""
    raw = column.raw[index]
    return raw if isinstance(raw, str) else show(raw)
