"""Variants of one table of the case, read fast: only what an axis touches is made anew.

A table is compiled once into a tree: parts that no axis touches are read once and for
all, values of axes are taken as they were read with their axis, and the records above them
are made again for every variant, so that every check of a record sees every combination.
Whatever this does not cover is read in the ordinary way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from nanoslit.errors import CaseError
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
)
from nanoslit.sweep.axes import Column
from nanoslit.units import round_significant

__all__ = ["TableReader", "canonical_json", "compile_table", "table_json"]

Rows = tuple[int, ...]
Hole = tuple[int, Column]
Make = Callable[[Rows], Any]


class _UncoveredError(Exception):
    """The table must be read in the ordinary way."""


def table_json(node: Node, value: Any) -> str:
    """Return the canonical JSON of a table that has been read."""
    return canonical_json(node.export(value, _leaf))


def canonical_json(data: Any) -> str:
    """Return JSON text that is the same for the same data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _leaf(_: Quantity, value: float) -> float:
    return round_significant(value)


class TableReader:
    """Makes and writes the variants of one table.

    Parameters
    ----------
    node : Record
        Of the table.
    make : callable
        Object of the rows of the groups that touch the table.
    tag : tuple of str, optional
        Key that chose the record and its JSON, None if there is none.
    """

    def __init__(self, node: Record, make: Make, tag: tuple[str, str] | None) -> None:
        self.make = make
        parts = []
        for key, inner in node.keys.items():
            source = node.attributes.get(key, key)
            if source is not None:
                parts.append((key, inner, source))
        self._tag = tag
        self._parts = sorted(parts, key=lambda part: part[0])
        self._last: dict[str, tuple[Any, str]] = {}  # values that do not change from before

    def text(self, rows: Rows) -> str:
        """Return the canonical JSON of one variant.

        Raises
        ------
        CaseError
            If it is impossible (without its place: read it in the ordinary way for that).
        """
        value = self.make(rows)
        pieces = []
        tag = self._tag
        for key, node, source in self._parts:
            if tag is not None and tag[0] < key:
                pieces.append(f'"{tag[0]}":{tag[1]}')
                tag = None
            part = source(value) if callable(source) else getattr(value, source)
            last = self._last.get(key)
            if last is not None and last[0] is part:
                pieces.append(last[1])
                continue
            data = None if part is None else node.export(part, _leaf)
            text = f'"{key}":{canonical_json(data)}'
            self._last[key] = (part, text)
            pieces.append(text)
        if tag is not None:
            pieces.append(f'"{tag[0]}":{tag[1]}')
        return "{" + ",".join(pieces) + "}"


def compile_table(
    node: Node, raw: Mapping[str, Any], holes: Mapping[tuple[str, ...], Hole], at: Place
) -> TableReader | None:
    """Return the reader of a table, None if it must be read in the ordinary way.

    Parameters
    ----------
    node : Node
        Of the table.
    raw : mapping
        The table with the values of the first variant.
    holes : dict
        Path below the table to (which of the rows, column).
    at : Place
    """
    tag = None
    if isinstance(node, Variants):
        kind = raw.get(node.tag)
        if kind not in node.records or (node.tag,) in holes:
            return None
        tag, node = (node.tag, json.dumps(kind)), node.records[str(kind)]
    if not isinstance(node, Record):
        return None
    try:
        make = _compile(node, raw, (), holes, at)
    except (_UncoveredError, CaseError):  # the ordinary way says what is wrong
        return None
    return TableReader(node, make, tag)


def _compile(
    node: Node,
    raw: Any,
    path: tuple[str, ...],
    holes: Mapping[tuple[str, ...], Hole],
    at: Place,
) -> Make:
    if path in holes:
        place, column = holes[path]
        inner = node.plain if isinstance(node, Either) else node
        if not isinstance(inner, Quantity | Number | Whole | Choice):
            raise _UncoveredError
        values = column.si
        return lambda rows: values[rows[place]]
    n = len(path)
    below = [hole for hole in holes if hole[:n] == path]
    if not below:
        value = node.read(raw, at)
        return lambda rows: value
    if isinstance(node, Record):
        if not isinstance(raw, Mapping):
            raise _UncoveredError
        parts = [
            (key, _compile(inner, raw.get(key), (*path, key), holes, at))
            for key, inner in node.keys.items()
            if key in raw
        ]
        make = node.make
        return lambda rows: make(**{key: part(rows) for key, part in parts})
    if isinstance(node, ListOf) and isinstance(raw, list) and len(raw) >= node.fewest:
        items = [_compile(node.item, r, (*path, str(i)), holes, at) for i, r in enumerate(raw)]
        return lambda rows: tuple([item(rows) for item in items])
    raise _UncoveredError
