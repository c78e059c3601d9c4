"""The catalogue: an SQLite index of all points of a sweep's folder; one writer.

The files are the truth (:mod:`nanoslit.sweep.folder`); the catalogue answers fast what
they say, and is rebuilt from them by :mod:`nanoslit.sweep.reconcile`. A point is known by
its content key and belongs to any number of plans.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from nanoslit.casefile import MODEL_VERSION

__all__ = ["Catalogue", "Claimed", "DuplicatePointError", "STATES", "Update"]

STATES = (
    "planned", "queued", "running", "checkpointed",
    "done", "failed", "quarantined", "cancelled",
)  # fmt: skip
"""States of a point, in the order of their numbers in the catalogue."""

CODE = {name: i for i, name in enumerate(STATES)}
_BATCH = 20_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS points (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    state INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,   -- starts, the fence of the result
    failures INTEGER NOT NULL DEFAULT 0,  -- attempts that count
    losses INTEGER NOT NULL DEFAULT 0,    -- attempts lost without fault of the point
    gentle INTEGER NOT NULL DEFAULT 0,    -- level of gentler numerics
    expected REAL NOT NULL DEFAULT 0,     -- cost [s of one core], relative until measured
    cpu REAL NOT NULL DEFAULT 0,          -- spent [s]
    kind TEXT                             -- why the last attempt ended
);
CREATE INDEX IF NOT EXISTS points_by_state ON points(state, failures, expected);
CREATE TABLE IF NOT EXISTS plans (
    id INTEGER PRIMARY KEY,
    file TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    filled INTEGER NOT NULL DEFAULT 0,
    used INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS members (
    plan INTEGER NOT NULL,
    number INTEGER NOT NULL,
    point INTEGER NOT NULL,
    PRIMARY KEY (plan, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS members_by_point ON members(point, plan);
CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT);
"""


class DuplicatePointError(Exception):
    """Two points of one plan have the same key; holds their numbers."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")
        self.first, self.second = first, second


@dataclass(frozen=True)
class Claimed:
    """A point taken to be computed."""

    id: int
    key: bytes
    plan: int
    number: int
    attempt: int
    gentle: int
    resume: bool
    expected: float


@dataclass(frozen=True)
class Update:
    """New state of a point after an attempt."""

    key: bytes
    state: str
    kind: str = ""
    cpu: float = 0.0
    failures: int = 0
    losses: int = 0
    gentle: int = 0


class Catalogue:
    """An open catalogue; use as a context manager.

    Parameters
    ----------
    path : Path
    writable : bool
        Readers may look while the service writes.
    """

    def __init__(self, path: Path, writable: bool = True) -> None:
        if writable:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.execute("PRAGMA cache_size = -65536")
            self.db.executescript(_SCHEMA)
        else:
            self.db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30.0)

    def __enter__(self) -> Catalogue:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.db.close()

    # -- filling ----------------------------------------------------------------------

    def plan_id(self, file: str, name: str, size: int) -> tuple[int, bool]:
        """Return the number of a plan and whether its points have been filled in."""
        self.db.execute(
            "INSERT OR IGNORE INTO plans(file, name, size) VALUES (?, ?, ?)",
            (file, name, size),
        )
        row = self.db.execute("SELECT id, filled FROM plans WHERE file = ?", (file,)).fetchone()
        return int(row[0]), bool(row[1])

    def fill(self, plan: int, rows: Iterable[tuple[bytes, float]], first: int = 0) -> int:
        """Enter the points of a plan, known or new; return how many are new.

        Parameters
        ----------
        plan : int
        rows : iterable of (key, expected cost)
            In the order of their numbers from ``first``.

        Raises
        ------
        DuplicatePointError
            If a key stands twice; the plan's points are taken out again.
        """
        before = self._count()
        source = iter(rows)
        number = first
        self.db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS incoming "
            "(number INTEGER PRIMARY KEY, key BLOB, expected REAL)"
        )
        while chunk := list(islice(source, _BATCH)):
            self.db.execute("BEGIN")
            self.db.execute("DELETE FROM incoming")
            self.db.executemany(
                "INSERT INTO incoming VALUES (?, ?, ?)",
                ((number + i, key, cost) for i, (key, cost) in enumerate(chunk)),
            )
            self.db.execute(
                "INSERT OR IGNORE INTO points(key, expected) SELECT key, expected FROM incoming"
            )
            try:
                self.db.execute(
                    "INSERT INTO members SELECT ?, number, points.id "
                    "FROM incoming JOIN points USING (key)",
                    (plan,),
                )
            except sqlite3.IntegrityError:
                clash = self._clash(plan)
                self.db.execute("ROLLBACK")
                self.remove_plan(plan)
                raise DuplicatePointError(*clash) from None
            self.db.execute("COMMIT")
            number += len(chunk)
        self.db.execute("UPDATE plans SET filled = 1 WHERE id = ?", (plan,))
        return self._count() - before

    def _count(self) -> int:
        return int(self.db.execute("SELECT COUNT(*) FROM points").fetchone()[0])

    def _clash(self, plan: int) -> tuple[int, int]:
        row = self.db.execute(
            "SELECT MIN(number), MAX(number) FROM incoming GROUP BY key HAVING COUNT(*) > 1"
        ).fetchone()
        if row is None:
            row = self.db.execute(
                "SELECT members.number, incoming.number FROM incoming JOIN points USING (key) "
                "JOIN members ON members.point = points.id AND members.plan = ?",
                (plan,),
            ).fetchone()
        return int(row[0]), int(row[1])

    def remove_plan(self, plan: int) -> None:
        """Take out a plan and the points that belong to no other."""
        self.db.execute("BEGIN")
        self.db.execute("DELETE FROM members WHERE plan = ?", (plan,))
        self.db.execute("DELETE FROM plans WHERE id = ?", (plan,))
        self.db.execute(
            "DELETE FROM points WHERE state = 0 AND id NOT IN (SELECT point FROM members)"
        )
        self.db.execute("COMMIT")

    def use(self, plan: int) -> None:
        """Note that this plan is the current one."""
        self.db.execute(
            "UPDATE plans SET used = (SELECT MAX(used) + 1 FROM plans) WHERE id = ?", (plan,)
        )

    # -- dispatch ---------------------------------------------------------------------

    def claim(self, plan: int, count: int) -> list[Claimed]:
        """Take points of a plan that wait to be computed.

        Those with a checkpoint first, those that failed before last, dear ones before
        cheap ones.
        """
        rows = self.db.execute(
            "SELECT points.id, key, number, attempt, gentle, state, expected FROM points "
            "JOIN members ON members.point = points.id AND members.plan = ? "
            "WHERE state IN (0, 3) ORDER BY state DESC, failures, expected DESC, "
            "points.id LIMIT ?",
            (plan, count),
        ).fetchall()
        self.db.execute("BEGIN")
        self.db.executemany(
            "UPDATE points SET state = 1, attempt = attempt + 1 WHERE id = ?",
            ((row[0],) for row in rows),
        )
        self.db.execute("COMMIT")
        return [
            Claimed(i, key, plan, number, attempt + 1, gentle, state == 3, expected)
            for i, key, number, attempt, gentle, state, expected in rows
        ]

    def mean_cost(self) -> float:
        """Return the mean expected cost of the points that wait, 0 for none."""
        row = self.db.execute("SELECT AVG(expected) FROM points WHERE state IN (0, 3)")
        return float(row.fetchone()[0] or 0.0)

    def update(self, changes: Sequence[Update]) -> None:
        """Write the outcome of attempts."""
        self.db.execute("BEGIN")
        try:
            self.db.executemany(
                "UPDATE points SET state = ?, kind = ?, cpu = cpu + ?, "
                "failures = failures + ?, losses = losses + ?, "
                "gentle = gentle + ? WHERE key = ?",
                (
                    (
                        CODE[u.state],
                        u.kind or None,
                        u.cpu,
                        u.failures,
                        u.losses,
                        u.gentle,
                        u.key,
                    )
                    for u in changes
                ),
            )
            self.db.execute("COMMIT")
        except sqlite3.Error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    def set_state(self, keys: Iterable[bytes], state: str, *, fresh: bool = False) -> None:
        """Set the state of points; ``fresh`` also forgets their failures."""
        extra = ", failures = 0, losses = 0, gentle = 0, kind = NULL" if fresh else ""
        self.db.execute("BEGIN")
        self.db.executemany(
            f"UPDATE points SET state = ?{extra} WHERE key = ?",
            ((CODE[state], key) for key in keys),
        )
        self.db.execute("COMMIT")

    def raise_attempts(self, attempts: Iterable[tuple[int, bytes]]) -> None:
        """Make sure that the next attempt of a point is above one seen in its files."""
        self.db.executemany(
            "UPDATE points SET attempt = MAX(attempt, ?) WHERE key = ?", attempts
        )

    # -- looking ----------------------------------------------------------------------

    def current_plan(self, name: str | None = None) -> tuple[int, str]:
        """Return number and file of the plan used last (of that name).

        Raises
        ------
        LookupError
            If there is none.
        """
        row = self.db.execute(
            "SELECT id, file FROM plans WHERE filled = 1 AND (?1 IS NULL OR name = ?1) "
            "ORDER BY used DESC, id DESC",
            (name,),
        ).fetchone()
        if row is None:
            raise LookupError(name)
        return int(row[0]), str(row[1])

    def plan_names(self) -> list[str]:
        """Return the names of all plans."""
        return [r[0] for r in self.db.execute("SELECT DISTINCT name FROM plans ORDER BY id")]

    def counts(self, plan: int) -> dict[str, int]:
        """Return the number of points of a plan in each state."""
        rows = self.db.execute(
            f"SELECT state, COUNT(*) FROM {self._of_plan(plan)} GROUP BY state"
        )
        found = dict(rows.fetchall())
        return {name: int(found.get(i, 0)) for i, name in enumerate(STATES)}

    def failures(self, plan: int) -> dict[str, int]:
        """Return the number of failed points of a plan by kind."""
        rows = self.db.execute(
            f"SELECT kind, COUNT(*) FROM {self._of_plan(plan)} "
            f"WHERE state IN ({CODE['failed']}, {CODE['quarantined']}) GROUP BY kind"
        )
        return {str(kind or "unknown"): int(n) for kind, n in rows}

    def _whole(self, plan: int) -> bool:
        """Whether a plan holds all points of the folder."""
        return self.size(plan) == self._count()

    def size(self, plan: int) -> int:
        """Return the number of points of a plan."""
        row = self.db.execute("SELECT COUNT(*) FROM members WHERE plan = ?", (plan,))
        return int(row.fetchone()[0])

    def _of_plan(self, plan: int) -> str:
        """Return the tables to ask about the points of a plan."""
        if self._whole(plan):
            return "points"
        return f"members JOIN points ON points.id = members.point AND plan = {int(plan)}"

    def work(self, plan: int) -> dict[str, tuple[float, float]]:
        """Return expected and spent cost of the points of a plan in each state."""
        rows = self.db.execute(
            f"SELECT state, SUM(expected), SUM(cpu) FROM {self._of_plan(plan)} GROUP BY state"
        )
        found = {state: (float(e), float(c)) for state, e, c in rows}
        return {name: found.get(i, (0.0, 0.0)) for i, name in enumerate(STATES)}

    def members(
        self, plan: int, states: Sequence[str] = STATES
    ) -> Iterator[tuple[int, bytes, str, str | None]]:
        """Yield number, key, state and kind of the points of a plan in their order."""
        codes = ",".join(str(CODE[s]) for s in states)
        rows = self.db.execute(
            "SELECT number, key, state, kind FROM members JOIN points ON points.id = "
            f"members.point WHERE plan = ? AND state IN ({codes}) ORDER BY number",
            (plan,),
        )
        for number, key, state, kind in rows:
            yield int(number), key, STATES[state], kind

    def in_state(self, *states: str) -> list[tuple[bytes, int]]:
        """Return key and attempt of all points in these states."""
        codes = ",".join(str(CODE[s]) for s in states)
        rows = self.db.execute(f"SELECT key, attempt FROM points WHERE state IN ({codes})")
        return [(key, int(attempt)) for key, attempt in rows]

    def row(self, key: bytes) -> dict[str, Any] | None:
        """Return everything known of a point."""
        names = ("state", "attempt", "failures", "losses", "gentle", "expected", "cpu", "kind")
        row = self.db.execute(
            f"SELECT {', '.join(names)} FROM points WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        return {**dict(zip(names, row, strict=True)), "state": STATES[row[0]]}

    def known(self, keys: Iterable[bytes]) -> dict[str, int]:
        """Return how many of the keys are in each state ("new" for unknown ones)."""
        found: dict[str, int] = {}
        source = iter(keys)
        while chunk := list(islice(source, 500)):
            marks = ",".join("?" * len(chunk))
            rows = self.db.execute(
                f"SELECT state, COUNT(*) FROM points WHERE key IN ({marks}) GROUP BY state",
                chunk,
            ).fetchall()
            new = len(chunk) - sum(n for _, n in rows)
            for name, n in [*((STATES[state], n) for state, n in rows), ("new", new)]:
                found[name] = found.get(name, 0) + n
        return found

    def filled_plan(self, file: str) -> int | None:
        """Return the number of a plan whose points have all been entered, else None."""
        row = self.db.execute(
            "SELECT id FROM plans WHERE file = ? AND filled = 1", (file,)
        ).fetchone()
        return None if row is None else int(row[0])

    @property
    def current(self) -> bool:
        """Whether its points have the keys that this version of the model gives them."""
        known = self.note("model_version") == str(MODEL_VERSION)
        return known or self.db.execute("SELECT 1 FROM plans").fetchone() is None

    def renew(self) -> None:
        """Forget everything if the points are those of another version of the model."""
        if not self.current:
            for table in ("members", "points", "plans"):
                self.db.execute(f"DELETE FROM {table}")  # noqa: S608  names of our own
        self.note("model_version", str(MODEL_VERSION))

    def note(self, name: str, value: str | None = None) -> str | None:
        """Return a note; with a value, set it first."""
        if value is not None:
            self.db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))
        row = self.db.execute("SELECT value FROM notes WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])
