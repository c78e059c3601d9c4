"""What the commands do with a sweep's folder: run, resume, retry, cancel, verify."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nanoslit.errors import SweepError, WriteFailedError
from nanoslit.sweep.adaptive import refine
from nanoslit.sweep.catalogue import Catalogue
from nanoslit.sweep.cluster import Where, with_overrides
from nanoslit.sweep.engine import SOLVER, Outcome, Service
from nanoslit.sweep.folder import Folder, write_json
from nanoslit.sweep.owner import Ownership, owner_of
from nanoslit.sweep.plan import Plan
from nanoslit.sweep.points import Points, check_points
from nanoslit.sweep.reconcile import (
    enter_missing_plans,
    enter_plan,
    rebuild,
    restore_unfinished,
    verify,
)
from nanoslit.sweep.status import current_plan

__all__ = ["cancel", "check", "resume", "retry", "run", "verify_sweep"]

Tell = Callable[[Service], None]


@contextmanager
def _owned(folder: Folder) -> Iterator[Catalogue]:
    """Own a folder and open its catalogue; rebuild it if it is missing or unreadable."""
    import sqlite3

    with Ownership(folder):
        try:
            catalogue = Catalogue(folder.catalogue)
            catalogue.db.execute("SELECT COUNT(*) FROM plans").fetchone()
        except sqlite3.OperationalError as error:  # the disk, not the catalogue
            raise WriteFailedError(
                f"{folder.catalogue}: {error}; mend the disk or make room, then repeat"
            ) from None
        except sqlite3.DatabaseError:
            for path in folder.root.glob("catalogue.sqlite*"):
                path.rename(path.with_name(f"damaged-{int(time.time())}-{path.name}"))
            catalogue = Catalogue(folder.catalogue)
        with catalogue:
            catalogue.renew()
            empty = catalogue.db.execute("SELECT COUNT(*) FROM plans").fetchone()[0] == 0
            if empty and folder.plans():
                rebuild(folder, catalogue)
            restore_unfinished(folder, catalogue)
            yield catalogue


def check(plan: Plan) -> None:
    """Complain about impossible points of a plan; nothing is started.

    Raises
    ------
    CaseError
        If any point is impossible.
    """
    check_points(Points(plan))


def run(
    plan: Plan,
    root: Path,
    where: Where,
    tell: Tell | None = None,
    solver: str = SOLVER,
) -> Outcome:
    """Compute the points of a plan that are not done yet in a folder.

    Raises
    ------
    CaseError
        If any point is impossible; nothing has been started then.
    SweepError
        If the folder is another's, or the scheduler is lost.
    """
    points = Points(plan)
    check_points(points)
    folder = Folder.create(root)
    with _owned(folder) as catalogue:
        number, new = enter_plan(folder, catalogue, plan)
        if new < len(points):  # points of other plans may have been computed meanwhile
            _adopt_results(folder, catalogue, number)
        return _work(folder, catalogue, number, points, where, tell, solver)


def _adopt_results(folder: Folder, catalogue: Catalogue, plan: int) -> None:
    """Plan cancelled points again that a plan asks for again."""
    keys = [key for _, key, _, _ in catalogue.members(plan, ["cancelled"])]
    catalogue.set_state(keys, "planned", fresh=True)


def resume(
    root: Path,
    where: Where,
    tell: Tell | None = None,
    name: str | None = None,
    solver: str = SOLVER,
) -> Outcome:
    """Go on with the plan used last; failed points stay failed (see :func:`retry`)."""
    folder = Folder.open(root)
    with _owned(folder) as catalogue:
        enter_missing_plans(folder, catalogue)
        number, plan = current_plan(folder, catalogue, name)
        return _work(folder, catalogue, number, Points(plan), where, tell, solver)


def retry(
    root: Path,
    where: Where,
    tell: Tell | None = None,
    name: str | None = None,
    kind: str | None = None,
) -> Outcome:
    """Compute failed, quarantined and cancelled points again, then go on.

    ``kind`` retries only the failures of that kind.

    Raises
    ------
    SweepError
        If there are failures, but none of that kind.
    """
    folder = Folder.open(root)
    with _owned(folder) as catalogue:
        number, plan = current_plan(folder, catalogue, name)
        kinds = {
            key: state if state == "cancelled" else why
            for _, key, state, why in catalogue.members(
                number, ["failed", "quarantined", "cancelled"]
            )
        }
        chosen = [key for key, why in kinds.items() if kind in (None, why)]
        if kinds and not chosen:
            known = ", ".join(sorted({why or "unknown" for why in kinds.values()}))
            raise SweepError(f"--kind {kind!r}: no point failed so; there are: {known}")
        for key in chosen:
            (folder.point(key).path / "failed.json").unlink(missing_ok=True)
        catalogue.set_state(chosen, "planned", fresh=True)
        return _work(folder, catalogue, number, Points(plan), where, tell, SOLVER)


def _work(
    folder: Folder,
    catalogue: Catalogue,
    number: int,
    points: Points,
    where: Where,
    tell: Tell | None,
    solver: str,
) -> Outcome:
    """Run the service, and rounds of refinement if the plan asks for them."""
    where = with_overrides(where, points.plan.execution)
    catalogue.note("reason", "")
    (folder.run / "cancel.json").unlink(missing_ok=True)
    service = Service(folder, catalogue, number, points, where, tell, solver)
    catalogue.note("slots", str(_slots(where, points)))
    outcome = service.run()
    _cancel_if_asked(folder, catalogue, number, outcome)
    if points.plan.adaptive and outcome.exit_code == 0:
        outcome = refine(folder, catalogue, number, points, where, tell, outcome)
    if outcome.reason:
        catalogue.note("reason", outcome.reason)
    return outcome


def _slots(where: Where, points: Points) -> int:
    from nanoslit.sweep.cluster import local_workers

    if where.external or where.cluster != "local":
        return where.workers or 1
    return local_workers(where, points.plan.resources)


def _cancel_if_asked(folder: Folder, catalogue: Catalogue, plan: int, outcome: Outcome) -> None:
    path = folder.run / "cancel.json"
    if not path.exists():
        return
    _cancel_waiting(catalogue, plan)
    path.unlink(missing_ok=True)
    outcome.counts = catalogue.counts(plan)


def _cancel_waiting(catalogue: Catalogue, plan: int) -> int:
    keys = [
        key for _, key, _, _ in catalogue.members(plan, ["planned", "checkpointed", "queued"])
    ]
    catalogue.set_state(keys, "cancelled")
    return len(keys)


def cancel(root: Path, patience: float = 60.0) -> int:
    """Cancel every point that is not finished; return how many.

    A service at work is asked to write checkpoints and stop first.

    Raises
    ------
    SweepError
        If it does not stop.
    """
    folder = Folder.open(root)
    if owner_of(root) is not None:
        before = time.monotonic()
        write_json(folder.run / "cancel.json", {"asked": time.time()})
        while owner_of(root) is not None:
            if time.monotonic() - before > patience:
                raise SweepError(f"{root}: its service does not stop; press Ctrl-C there")
            time.sleep(0.2)
    with _owned(folder) as catalogue:
        number, _ = current_plan(folder, catalogue)
        _cancel_waiting(catalogue, number)
        (folder.run / "cancel.json").unlink(missing_ok=True)
        return catalogue.counts(number)["cancelled"]


def verify_sweep(root: Path, deep: bool = True) -> dict[str, Any]:
    """Re-read every result; damaged ones are put aside and planned again."""
    folder = Folder.open(root)
    with _owned(folder) as catalogue:
        number, _ = current_plan(folder, catalogue)
        return verify(folder, catalogue, number, deep)
