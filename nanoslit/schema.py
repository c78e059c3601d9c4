"""Declarative description of a TOML file: what each key may hold, and how it is read.

A schema is a tree of small nodes. Each node reads a TOML value into an SI value
(:meth:`Node.read`) and exports it again (:meth:`Node.export`), either as plain SI data
(for the content key) or as text with units (for a file). Which keys exist is said once,
in the schema; defaults live in the records that are built, never here. Every complaint
goes through :meth:`Place.fail`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from nanoslit.errors import CaseError, closest, explain
from nanoslit.units import parse_quantity, round_significant

__all__ = [
    "Choice",
    "Either",
    "Flag",
    "ListOf",
    "Node",
    "Number",
    "Place",
    "Quantity",
    "Record",
    "Text",
    "Variants",
    "Whole",
    "show",
]

Leaf = Callable[["Quantity", float], Any]


def show(value: Any) -> str:
    """Return a TOML value as the user would write it, shortened."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, Mapping):
        text = "a table with " + (", ".join(map(str, value)) or "nothing in it")
    elif isinstance(value, list):
        text = "[" + ", ".join(map(show, value)) + "]"
    else:
        text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _holds_tables(value: Any) -> bool:
    """Whether a value is a table or a list of tables: too long to quote."""
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, Mapping) for item in items)


@dataclass(frozen=True)
class Place:
    """Where in which file a value stands; the one source of complaints about it."""

    source: str
    path: tuple[str, ...] = ()

    def __truediv__(self, key: str) -> Place:
        """Return the place of a key inside this table."""
        return Place(self.source, (*self.path, key))

    def __str__(self) -> str:
        """Return file and dotted key."""
        return ": ".join(filter(None, (self.source, ".".join(self.path))))

    def fail(
        self,
        problem: str,
        *,
        given: str | None = None,
        allowed: str | None = None,
        hint: str | None = None,
        error: type[CaseError] = CaseError,
    ) -> NoReturn:
        """Raise the complaint: file, key, what is wrong, given, allowed, hint."""
        message = explain(str(self), problem, given=given, allowed=allowed, hint=hint)
        raise error(message) from None


class Node:
    """One kind of value."""

    def read(self, raw: Any, at: Place) -> Any:
        """Return the SI value or record; complain at ``at``."""
        raise NotImplementedError

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return plain data; ``leaf`` turns a quantity into number or text."""
        return value

    def describe(self) -> str:
        """Say what is allowed."""
        raise NotImplementedError


@dataclass(frozen=True)
class Quantity(Node):
    """A dimensional quantity: text with a unit.

    ``unit`` is the SI unit of the value, ``example`` what a user would write (its unit
    is also used when a file is written), ``sign`` one of ``">0"``, ``">=0"``, ``""``.
    """

    what: str
    unit: str
    example: str
    sign: str = ">0"

    def read(self, raw: Any, at: Place) -> float:
        """Return the SI value of text such as ``"1.5 nm"``."""
        allowed = self.describe()
        if not isinstance(raw, str):
            bare = isinstance(raw, int | float) and not isinstance(raw, bool)
            problem = "a bare number has no unit" if bare else "must be text with a unit"
            hint = None
            if bare:
                hint = f'put it in quotes with its unit, for instance "{raw} {self.file_unit}"'
            at.fail(problem, given=show(raw), allowed=allowed, hint=hint)
        try:
            value = parse_quantity(raw, self.unit)
        except CaseError as error:
            at.fail(str(error), given=show(raw), allowed=allowed)
        if (self.sign == ">0" and value <= 0) or (self.sign == ">=0" and value < 0):
            at.fail("impossible value", given=show(raw), allowed=allowed)
        return value

    @property
    def file_unit(self) -> str:
        """Unit used when a file is written."""
        return self.example.partition(" ")[2]

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return number or text; nothing for an absent value."""
        return None if value is None else leaf(self, float(value))

    def describe(self) -> str:
        """Say what is allowed."""
        bound = {">0": ", above 0", ">=0": ", 0 or above", "": ""}[self.sign]
        return f'{self.what} with its unit, such as "{self.example}"{bound}'


@dataclass(frozen=True)
class Number(Node):
    """A dimensionless number, written bare."""

    what: str = "a number without unit"
    sign: str = ">0"

    def read(self, raw: Any, at: Place) -> float:
        """Return the number."""
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            at.fail("must be a bare number", given=show(raw), allowed=self.describe())
        try:
            value = float(raw)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value) or (self.sign and value <= 0):
            at.fail("impossible value", given=show(raw), allowed=self.describe())
        return round_significant(value)

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return the number rounded as when it is read."""
        return None if value is None else round_significant(float(value))

    def describe(self) -> str:
        """Say what is allowed."""
        return self.what + (", above 0" if self.sign else "")


@dataclass(frozen=True)
class Whole(Node):
    """A whole number."""

    what: str
    lowest: int | None = None
    highest: int = 10**9

    def read(self, raw: Any, at: Place) -> int:
        """Return the whole number."""
        if isinstance(raw, bool) or not isinstance(raw, int):
            at.fail("must be a whole number", given=show(raw), allowed=self.describe())
        low = -self.highest if self.lowest is None else self.lowest
        if not low <= raw <= self.highest:
            at.fail("out of range", given=show(raw), allowed=self.describe())
        return raw

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return the number."""
        return None if value is None else int(value)

    def describe(self) -> str:
        """Say what is allowed."""
        low = -self.highest if self.lowest is None else self.lowest
        return f"{self.what}, {low} to {self.highest}"


@dataclass(frozen=True)
class Flag(Node):
    """True or false."""

    def read(self, raw: Any, at: Place) -> bool:
        """Return the value."""
        if not isinstance(raw, bool):
            at.fail("is neither true nor false", given=show(raw), allowed=self.describe())
        return bool(raw)

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return the value."""
        return bool(value)

    def describe(self) -> str:
        """Say what is allowed."""
        return "true or false"


@dataclass(frozen=True)
class Text(Node):
    """Any text that is not empty."""

    what: str

    def read(self, raw: Any, at: Place) -> str:
        """Return the text."""
        if not isinstance(raw, str) or not raw.strip():
            at.fail("must be text", given=show(raw), allowed=self.describe())
        return raw

    def describe(self) -> str:
        """Say what is allowed."""
        return f"{self.what} in quotes"


@dataclass(frozen=True)
class Choice(Node):
    """One of a few words."""

    options: tuple[str, ...]

    def read(self, raw: Any, at: Place) -> str:
        """Return the word."""
        if raw not in self.options or not isinstance(raw, str):
            hint = closest(raw, self.options) if isinstance(raw, str) else None
            at.fail(
                "not one of the choices",
                given=show(raw),
                allowed=self.describe(),
                hint=hint,
            )
        return raw

    def describe(self) -> str:
        """Say what is allowed."""
        return " or ".join(f'"{option}"' for option in self.options)


@dataclass(frozen=True)
class ListOf(Node):
    """A list whose items are alike."""

    item: Node
    fewest: int = 0

    def read(self, raw: Any, at: Place) -> tuple[Any, ...]:
        """Return the items."""
        if not isinstance(raw, list):
            at.fail("must be a list", given=show(raw), allowed=self.describe())
        if len(raw) < self.fewest:
            at.fail("too few items", given=f"{len(raw)}", allowed=self.describe())
        return tuple(self.item.read(r, at / str(i)) for i, r in enumerate(raw))

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return the exported items."""
        return [self.item.export(v, leaf) for v in value]

    def describe(self) -> str:
        """Say what is allowed."""
        few = f"{self.fewest} or more " if self.fewest else ""
        return f"a list of {few}entries, each {self.item.describe()}"


@dataclass(frozen=True)
class Record(Node):
    """A table that becomes an object.

    Parameters
    ----------
    make : callable
        Class or function that takes the keys as keyword arguments; an argument without
        default is a required key.
    keys : dict
        Schema of each key.
    attributes : dict
        Where the exported value of a key comes from, if not the attribute of the same
        name: an attribute name, a function of the object, or None (never exported).
    of : type, optional
        Class whose instances this record exports; ``make`` itself by default.
    """

    make: Callable[..., Any]
    keys: Mapping[str, Node]
    attributes: Mapping[str, str | Callable[[Any], Any] | None] = field(default_factory=dict)
    of: type | None = None

    @property
    def required(self) -> list[str]:
        """Keys that must be given."""
        parameters = inspect.signature(self.make).parameters
        return [k for k in self.keys if parameters[k].default is inspect.Parameter.empty]

    def read(self, raw: Any, at: Place, tag: str | None = None) -> Any:
        """Return the object made from a table."""
        if not isinstance(raw, Mapping):
            at.fail("must be a table", given=show(raw), allowed=self.describe())
        self._check_names(raw, at, tag)
        values = {
            key: node.read(raw[key], at / key) for key, node in self.keys.items() if key in raw
        }
        try:
            return self.make(**values)
        except CaseError as error:
            message = str(error)
            if message.startswith(at.source + ": "):  # already says where
                raise
            named = [
                f"{k} = {show(raw[k])}"
                for k in self.keys
                if k in message and not _holds_tables(raw.get(k, {}))
            ]
            at.fail(message, given=", ".join(named) or None, error=type(error))

    def _check_names(self, raw: Mapping[str, Any], at: Place, tag: str | None) -> None:
        known = [*([tag] if tag else []), *self.keys]
        for key in raw:
            if key not in known:
                (at / key).fail(
                    "unknown key",
                    given=f"{key} = {show(raw[key])}",
                    allowed=", ".join(known),
                    hint=closest(key, known),
                )
        for key in self.required:
            if key not in raw:
                (at / key).fail(
                    "missing key",
                    given=", ".join(raw) or "an empty table",
                    allowed=self.keys[key].describe(),
                )

    def export(self, value: Any, leaf: Leaf) -> dict[str, Any]:
        """Return the exported keys of an object."""
        out: dict[str, Any] = {}
        for key, node in self.keys.items():
            source = self.attributes.get(key, key)
            if source is None:
                continue
            part = source(value) if callable(source) else getattr(value, source)
            out[key] = None if part is None else node.export(part, leaf)
        return out

    def describe(self) -> str:
        """Say what is allowed."""
        return "a table with the keys " + ", ".join(self.keys)


@dataclass(frozen=True)
class Variants(Node):
    """A table whose ``kind`` decides which record it is."""

    records: Mapping[str, Record]
    tag: str = "kind"
    python_only: str = "an object that only Python code can make"

    def read(self, raw: Any, at: Place) -> Any:
        """Return the object made by the record that ``kind`` names."""
        if not isinstance(raw, Mapping):
            at.fail("must be a table", given=show(raw), allowed=self.describe())
        if self.tag not in raw:
            (at / self.tag).fail(
                "missing key",
                given=", ".join(raw) or "an empty table",
                allowed=self._kinds.describe(),
            )
        kind = self._kinds.read(raw[self.tag], at / self.tag)
        return self.records[kind].read(raw, at, self.tag)

    @property
    def _kinds(self) -> Choice:
        return Choice(tuple(self.records))

    def export(self, value: Any, leaf: Leaf) -> dict[str, Any]:
        """Return the exported table with its ``kind``."""
        for kind, record in self.records.items():
            if type(value) is (record.of or record.make):
                return {self.tag: kind, **record.export(value, leaf)}
        raise CaseError(
            f"{type(value).__name__} is {self.python_only}; a file can hold "
            f"{self._kinds.describe()}"
        )

    def describe(self) -> str:
        """Say what is allowed."""
        return f"a table with {self.tag} = {self._kinds.describe()}"


@dataclass(frozen=True)
class Either(Node):
    """A plain value, or a table that says more."""

    plain: Node
    table: Record

    def read(self, raw: Any, at: Place) -> Any:
        """Return whichever fits the type of the value."""
        node = self.table if isinstance(raw, Mapping) else self.plain
        return node.read(raw, at)

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return a table if the value is the table's object, else the plain value."""
        node: Node = self.plain
        if dataclasses.is_dataclass(value) and type(value) is self.table.make:
            node = self.table
        return node.export(value, leaf)

    def describe(self) -> str:
        """Say what is allowed."""
        return f"{self.plain.describe()}, or {self.table.describe()}"
