"""Points of a plan: number, changes, case and content key of each, without a list of them.

Point i is the i-th combination of the rows of all groups, the last group running fastest.
A case is made of independent tables (``electrolyte``, ``geometry``, ...), so every table
is read, checked and written canonically once for each combination of the rows that touch
it, not once a point: a plan of a million points takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.casefile import (
    CASE,
    MODEL_VERSION,
    apply_overrides,
    canonical,
    case_from_document,
)
from nanoslit.errors import CaseError
from nanoslit.schema import Place
from nanoslit.sweep.axes import Group, label_text, targets
from nanoslit.sweep.tables import TableReader, canonical_json, compile_table, table_json
from nanoslit.units import round_significant

if TYPE_CHECKING:
    from nanoslit.case import Case
    from nanoslit.sweep.plan import Plan

__all__ = ["Points", "check_points"]

_SHOWN = 5  # mistakes told at once
_CHUNK = 10_000
_MOST_MESHES = 2_000  # points whose double layers are looked at
_SUSPECT = 1e-14  # a mesh spacing below which the mesh itself is tried [m]
_SHORT = 6
_SCREENING = ("electrolyte", "electrode", "protocol", "cell", "numerics")


@dataclass(frozen=True)
class _Table:
    """One table of the case and the groups that touch it."""

    name: str
    groups: tuple[int, ...]
    keys: tuple[tuple[str, ...], ...]
    sizes: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of variants."""
        return prod(self.sizes)


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a plan in their order."""

    plan: Plan
    shape: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(g.size for g in self.plan.groups))
        object.__setattr__(self, "_variant", lru_cache(maxsize=1 << 16)(self._read_variant))
        object.__setattr__(self, "_reader", lru_cache()(self._compile))

    def __len__(self) -> int:
        return self.plan.size

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of the plan."""
        return self.plan.groups

    def rows(self, index: int) -> tuple[int, ...]:
        """Return the row of each group at a point."""
        if not 0 <= index < len(self):
            raise IndexError(f"point {index} of {len(self)}")
        return tuple(int(i) for i in np.unravel_index(index, self.shape))

    def overrides(self, index: int) -> dict[str, Any]:
        """Return the changes of the base case that make a point."""
        out: dict[str, Any] = {}
        for group, row in zip(self.groups, self.rows(index), strict=True):
            out |= group.row(row)
        return out

    def label(self, index: int) -> str:
        """Return the values of a point in one line."""
        return ", ".join(
            f"{short(column.key)} = {label_text(column, row)}"
            for group, row in zip(self.groups, self.rows(index), strict=True)
            for column in group.columns
        )

    def document(self, index: int) -> dict[str, Any]:
        """Return the tables of the case of a point."""
        return apply_overrides(self.plan.base, self.overrides(index))

    def case(self, index: int) -> Case:
        """Return the case of a point."""
        return case_from_document(self.document(index), source=f"point {index}")

    # -- tables -----------------------------------------------------------------------

    @property
    def tables(self) -> list[_Table]:
        """The tables of the case that any group touches."""
        found: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
        for i, group in enumerate(self.groups):
            names = {key.split(".")[0] for key in group.keys}
            for name in names:
                keys = tuple(k for k in group.keys if k.split(".")[0] == name)
                found.setdefault(name, []).append((i, keys))
        return [
            _Table(
                name,
                tuple(i for i, _ in parts),
                tuple(keys for _, keys in parts),
                tuple(self.shape[i] for i, _ in parts),
            )
            for name, parts in found.items()
        ]

    def _variant_changes(self, table: _Table, rows: tuple[int, ...]) -> dict[str, Any]:
        return {
            key: value
            for i, keys, row in zip(table.groups, table.keys, rows, strict=True)
            for key, value in self.groups[i].row(row).items()
            if key in keys
        }

    def _changed(self, table: _Table, changes: dict[str, Any]) -> Any:
        """Return one table of the base case with changes."""
        raw = apply_overrides({table.name: self.plan.base.get(table.name, {})}, changes)
        return raw[table.name]

    def _compile(self, table: _Table) -> TableReader | None:
        at = Place(self.plan.source, (table.name,))
        holes = {
            tuple(path.split(".")[1:]): (place, column)
            for place, i in enumerate(table.groups)
            for column in self.groups[i].columns
            if column.key in table.keys[place]
            for path, _ in targets(self.plan.base, column.key, at)
        }
        first = self._variant_changes(table, (0,) * len(table.groups))
        return compile_table(CASE.keys[table.name], self._changed(table, first), holes, at)

    def read_rows(self, table: _Table, rows: tuple[int, ...]) -> Any:
        """Return what one variant of a table becomes.

        Raises
        ------
        CaseError
            If it is impossible.
        """
        reader = self._reader(table)  # type: ignore[attr-defined]
        if reader is not None:
            with suppress(CaseError, TypeError):  # the ordinary way says where and what
                return reader.make(rows)
        changes = self._variant_changes(table, rows)
        place = Place(self._where(changes), (table.name,))
        return CASE.keys[table.name].read(self._changed(table, changes), place)

    def _read_variant(self, table: _Table, variant: int) -> str:
        """Return the canonical JSON of one variant of a table; check it by reading."""
        rows = []
        for size in reversed(table.sizes):
            variant, row = divmod(variant, size)
            rows.append(row)
        at = tuple(reversed(rows))
        reader = self._reader(table)  # type: ignore[attr-defined]
        if reader is not None:
            with suppress(CaseError, TypeError):
                return str(reader.text(at))
        return table_json(CASE.keys[table.name], self.read_rows(table, at))

    def _where(self, changes: dict[str, Any]) -> str:
        told = ", ".join(f"{key} = {value}" for key, value in changes.items())
        return f"{self.plan.source}: the points with {told}"

    # -- keys -------------------------------------------------------------------------

    def keys(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the content keys (32 bytes) of points ``start`` to ``stop``."""
        stop = len(self) if stop is None else stop
        tables = {t.name: t for t in self.tables}
        fixed = {k: canonical_json(v) for k, v in canonical(self.case(0)).items()}
        assert fixed["model_version"] == str(MODEL_VERSION)
        variant = self._variant  # type: ignore[attr-defined]
        for begin in range(start, stop, _CHUNK):
            rows = np.unravel_index(np.arange(begin, min(begin + _CHUNK, stop)), self.shape)
            # the text between the varying tables is the same for every point
            pieces: list[Any] = []
            text = "{"
            for i, name in enumerate(sorted(fixed)):
                text += f'{"," if i else ""}"{name}":'
                if name in tables:
                    table = tables[name]
                    numbers = np.ravel_multi_index([rows[g] for g in table.groups], table.sizes)
                    pieces += [text, [variant(table, v) for v in numbers.tolist()]]
                    text = ""
                else:
                    text += fixed[name]
            tail = text + "}"
            heads, columns = pieces[0::2], pieces[1::2]
            for parts in zip(*columns, strict=True):
                joined = "".join(h + p for h, p in zip(heads, parts, strict=True)) + tail
                yield hashlib.sha256(joined.encode()).digest()


def short(key: str) -> str:
    """Return the last word of a dotted key."""
    return key.rpartition(".")[2]


def check_points(points: Points) -> None:
    """Raise unless every point of a plan is a possible case and no two are the same.

    Every combination of values within a table of the case is read; tables do not
    constrain each other. Up to five mistakes are told at once.

    Raises
    ------
    CaseError
        Naming the values of the points that are impossible or duplicates.
    """
    mistakes: list[str] = []
    bad = 0
    for table in points.tables:
        for rows in product(*(range(size) for size in table.sizes)):
            try:
                points.read_rows(table, rows)
            except CaseError as error:
                bad += 1
                if len(mistakes) < _SHOWN:
                    mistakes.append(str(error))
    if mistakes:
        more = f"\n... and {bad - len(mistakes)} more" if bad > len(mistakes) else ""
        raise CaseError("\n".join(mistakes) + more)
    points.case(0)
    _check_meshes(points)
    if not _surely_distinct(points):
        _check_distinct(points)


def _check_meshes(points: Points) -> None:
    """Raise if double layers of any point are too thin to be meshed.

    The one condition that ties tables together. The thickness is monotone in every number
    it depends on, so the ends of every axis are looked at, and all values of short ones.
    """
    from nanoslit.mpnp.equilibrium import screening_length
    from nanoslit.mpnp.grid import build_grid, resolve_spacing

    rows = [_telling_rows(group) for group in points.groups]
    for combination in islice(product(*rows), _MOST_MESHES):
        index = int(np.ravel_multi_index(combination, points.shape))
        case = points.case(index)
        thinnest = resolve_spacing(case).wall * screening_length(
            case.electrolyte, case.electrode, case.largest_wall_potential
        )
        if thinnest < _SUSPECT:
            try:
                build_grid(case)
            except CaseError as error:
                raise CaseError(
                    f"{points.plan.source}: point {index} ({points.label(index)}): {error}"
                ) from None


def _telling_rows(group: Group) -> list[int]:
    """Return the rows of a group that bound the screening length."""
    if not any(key.split(".")[0] in _SCREENING for key in group.keys):
        return [0]
    if group.size <= _SHORT:
        return list(range(group.size))
    ends = {0, group.size - 1}
    for column in group.columns:
        if column.numeric:
            ends |= {int(np.argmin(column.si)), int(np.argmax(column.si))}
    return sorted(ends)


def _surely_distinct(points: Points) -> bool:
    """Whether the values of every group alone tell its rows apart in the content key.

    A column counts if its values stand in the key as they are: looked up for the first and
    the last row.
    """
    texts: dict[tuple[str, bool], Any] = {}
    for table in points.tables:
        for last in (False, True):
            texts[table.name, last] = json.loads(
                points._variant(table, table.count - 1 if last else 0)  # type: ignore[attr-defined]
            )
    at = Place(points.plan.source)
    for group in points.groups:
        told = []
        for column in group.columns:
            values = [round_significant(v) if type(v) is float else v for v in column.si]
            name, *path = targets(points.plan.base, column.key, at)[0][0].split(".")
            ends = [_look_up(texts[name, last], path) for last in (False, True)]
            if column.numeric and ends == [values[0], values[-1]]:
                told.append(values)
        if len(set(zip(*told, strict=True))) != group.size:
            return False
    return True


def _look_up(data: Any, path: list[str]) -> Any:
    for word in path:
        try:
            data = data[int(word)] if isinstance(data, list) else data[word]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return data


def _check_distinct(points: Points) -> None:
    seen: dict[bytes, int] = {}
    for i, key in enumerate(points.keys()):
        if key in seen:
            raise CaseError(duplicate_text(points, seen[key], i))
        seen[key] = i


def duplicate_text(points: Points, first: int, second: int) -> str:
    """Return the message about two points that are the same case."""
    return (
        f"{points.plan.source}: duplicate points: number {first} ({points.label(first)}) and "
        f"number {second} ({points.label(second)}) are the same case; leave one out"
    )
