"""Bring the catalogue into agreement with the files, which are the truth."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nanoslit.errors import ResultFileError
from nanoslit.sweep.catalogue import Catalogue, DuplicatePointError
from nanoslit.sweep.cost import expected_costs
from nanoslit.sweep.folder import Folder, Point, read_json, write_json
from nanoslit.sweep.plan import Plan, read_plan
from nanoslit.sweep.points import Points, duplicate_text

__all__ = ["enter_missing_plans", "enter_plan", "rebuild", "restore_unfinished", "verify"]


def enter_plan(folder: Folder, catalogue: Catalogue, plan: Plan) -> tuple[int, int]:
    """Enter a plan and its points; return its number and how many points are new.

    Raises
    ------
    CaseError
        If two points are the same case; nothing is entered then.
    """
    from nanoslit.errors import CaseError

    file = folder.add_plan(plan.name, plan.to_toml())
    number, filled = catalogue.plan_id(file.name, plan.name, plan.size)
    new = 0
    if not filled:
        points = Points(plan)
        # a service that was killed while it filled: start this plan again
        catalogue.remove_plan(number)
        number, _ = catalogue.plan_id(file.name, plan.name, plan.size)
        try:
            new = catalogue.fill(
                number, zip(points.keys(), expected_costs(points), strict=True)
            )
        except DuplicatePointError as clash:
            file.unlink(missing_ok=True)
            raise CaseError(duplicate_text(points, clash.first, clash.second)) from None
    catalogue.use(number)
    return number, new


def enter_missing_plans(folder: Folder, catalogue: Catalogue) -> None:
    """Enter the plans that were not entered to the end when a service was killed."""
    for path in folder.plans():
        if catalogue.filled_plan(path.name) is None:
            enter_plan(folder, catalogue, read_plan(path))


def rebuild(folder: Folder, catalogue: Catalogue) -> None:
    """Fill an empty catalogue from the plans and the points' folders."""
    enter_missing_plans(folder, catalogue)
    settle(folder, catalogue, folder.found())


def settle(
    folder: Folder, catalogue: Catalogue, points: Iterable[tuple[bytes, Point]]
) -> dict[str, int]:
    """Set the state of points by what their folders hold; return how many got which."""
    found: dict[str, list[bytes]] = {}
    attempts = []
    for key, point in points:
        state = state_of(point)
        attempts.append((point.leased_to(), key))
        found.setdefault(state, []).append(key)
    for state, keys in found.items():
        catalogue.set_state(keys, state)
    catalogue.raise_attempts(attempts)
    return {state: len(keys) for state, keys in found.items()}


def state_of(point: Point) -> str:
    """Return the state that the files of a point say."""
    if point.result.exists():
        if point.done is not None or adopt(point):
            return "done"
        return "planned"
    if point.failed is not None:
        return "failed"
    return "checkpointed" if point.has_checkpoint or point.work.exists() else "planned"


def adopt(point: Point) -> bool:
    """Write what is known of a whole result whose record is missing; False if damaged."""
    from nanoslit.results.sealed import check
    from nanoslit.sweep.record import record_of

    try:
        check(point.result)
        record = record_of(point.result)
    except (ResultFileError, OSError, ValueError, KeyError):
        return False
    write_json(point.path / "done.json", {
        "key": point.path.parent.name + point.path.name, "cpu": 0.0,
        "attempt": point.leased_to(), "adopted": True, **record,
    })  # fmt: skip
    (point.path / "lease.json").unlink(missing_ok=True)
    return True


def restore_unfinished(folder: Folder, catalogue: Catalogue) -> dict[str, int]:
    """Settle the points that a service left queued or running when it ended.

    Solves on this host that outlived it are ended first.
    """
    rows = catalogue.in_state("queued", "running")
    for key, _ in rows:
        _end_orphan(folder.point(key))
    return settle(folder, catalogue, ((key, folder.point(key)) for key, _ in rows))


def _end_orphan(point: Point) -> None:
    """End a solver process of this host that still holds the lease of a point."""
    lease = read_json(point.path / "lease.json")
    if lease is None or lease.get("host") != os.uname().nodename:
        return
    pid = int(lease["pid"])
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        started = Path(f"/proc/{pid}").stat().st_mtime
    except OSError:
        return
    if b"nanoslit" in words and b"serve" in words and started <= lease["taken"] + 1:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def verify(
    folder: Folder, catalogue: Catalogue, plan: int, deep: bool = True
) -> dict[str, Any]:
    """Re-read every finished result; take damaged ones out to be computed again.

    Returns
    -------
    dict
        ``checked``, ``good`` and ``damaged``, a list of key and reason.
    """
    from nanoslit.results.sealed import check

    damaged, checked = [], 0
    for _, key, _, _ in list(catalogue.members(plan, ["done"])):
        point = folder.point(key)
        checked += 1
        reason = ""
        record = point.done
        try:
            if record is None and not adopt(point):
                reason = "its record done.json and its result are missing or damaged"
            elif record is not None and record.get("size") != point.result.stat().st_size:
                reason = "its size differs from that of the result that was written"
            elif deep and record is not None:
                check(point.result)
        except (OSError, ResultFileError) as error:
            reason = str(error)
        if reason:
            damaged.append({"key": key.hex(), "reason": reason})
            quarantine = folder.root / "run" / f"damaged-{key.hex()[:16]}.h5"
            with contextlib.suppress(OSError):
                point.result.replace(quarantine)
            point.forget()
    bad = [bytes.fromhex(d["key"]) for d in damaged]
    catalogue.set_state(bad, "planned", fresh=True)
    return {"checked": checked, "good": checked - len(damaged), "damaged": damaged}
