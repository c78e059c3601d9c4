"""How far a sweep is: counts, core-hours left, time to the end, failures by kind."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from nanoslit.errors import SweepError
from nanoslit.sweep.catalogue import Catalogue
from nanoslit.sweep.folder import Folder, read_json
from nanoslit.sweep.owner import owner_of
from nanoslit.sweep.plan import Plan, read_plan

__all__ = ["beats", "current_plan", "open_catalogue", "sweep_status"]

_FRESH = 30.0


def open_catalogue(folder: Folder) -> Catalogue:
    """Return the catalogue for reading.

    Raises
    ------
    SweepError
        If there is none, or its points are those of another version of the model.
    """
    if not folder.catalogue.exists():
        raise SweepError(
            f"{folder.root}: has no catalogue; "
            f"`nanoslit sweep resume {folder.root}` rebuilds it"
        )
    catalogue = Catalogue(folder.catalogue, writable=False)
    if not catalogue.current:
        catalogue.db.close()
        raise SweepError(
            f"{folder.root}: was computed by a nanoslit whose solver gives other numbers; "
            f"`nanoslit sweep resume {folder.root}` computes its points anew, or use that one"
        )
    return catalogue


def current_plan(
    folder: Folder, catalogue: Catalogue, name: str | None = None
) -> tuple[int, Plan]:
    """Return number and content of the plan used last (of that name).

    Raises
    ------
    SweepError
        If there is none.
    """
    try:
        number, file = catalogue.current_plan(name)
    except LookupError:
        known = ", ".join(catalogue.plan_names()) or "none"
        raise SweepError(
            f"{folder.root}: has no plan {name or ''}; it knows: {known}"
        ) from None
    return number, read_plan(folder.root / "plans" / file)


def beats(folder: Folder) -> list[dict[str, Any]]:
    """Return what the solves at work say of themselves."""
    found = [read_json(path) for path in sorted(folder.run.glob("beat-*.json"))]
    return [b for b in found if b and time.time() - b["written"] < _FRESH]


def sweep_status(root: Path, name: str | None = None) -> dict[str, Any]:
    """Return the state of a sweep; reads only, whether or not a service is at work.

    Returns
    -------
    dict
        ``planned``, ``queued``, ``running``, ``checkpointed``, ``done``, ``failed``,
        ``quarantined``, ``cancelled`` (points), ``total``, ``core_hours_left``,
        ``core_hours_spent``, ``eta_s`` (None if unknown), ``owner``, ``kinds``, ``reason``.
    """
    folder = Folder.open(root)
    owner = owner_of(root)
    with open_catalogue(folder) as catalogue:
        plan, file = catalogue.current_plan(name) if name else _any_plan(folder, catalogue)
        counts = catalogue.counts(plan)
        at_work = beats(folder) if owner else []
        if owner:
            running = min(len({b["key"] for b in at_work}), counts["queued"])
            counts["queued"] -= running
            counts["running"] += running
        else:
            _without_service(folder, catalogue, counts)
        work = catalogue.work(plan)
        kinds = catalogue.failures(plan)
        reason = catalogue.db.execute(
            "SELECT value FROM notes WHERE name = 'reason'"
        ).fetchone()
        slots = catalogue.db.execute("SELECT value FROM notes WHERE name = 'slots'").fetchone()
    expected, spent = work["done"]
    scale = spent / expected if expected > 0 and spent > 0 else 1.0
    left = sum(work[s][0] for s in ("planned", "queued", "running", "checkpointed")) * scale
    n = max(1, int(slots[0])) if slots else 1
    waits = sum(counts[s] for s in ("planned", "queued", "running", "checkpointed"))
    return {
        "plan": Path(file).stem, "total": sum(counts.values()), **counts,
        "core_hours_left": left / 3600,
        "core_hours_spent": sum(c for _, c in work.values()) / 3600,
        "eta_s": 0.0 if not waits else (left / n if owner else None),
        "owner": owner, "kinds": kinds, "reason": reason[0] if reason and reason[0] else "",
        "at_work": at_work,
    }  # fmt: skip


def _any_plan(folder: Folder, catalogue: Catalogue) -> tuple[int, str]:
    try:
        return catalogue.current_plan()
    except LookupError:
        raise SweepError(
            f"{folder.root}: no plan has been entered yet; start with `nanoslit sweep run`"
        ) from None


def _without_service(folder: Folder, catalogue: Catalogue, counts: dict[str, int]) -> None:
    """Say of points that a dead service left in flight what `resume` will find."""
    from nanoslit.sweep.reconcile import state_of

    if counts["queued"] + counts["running"] == 0:
        return
    for key, _ in catalogue.in_state("queued", "running"):
        row = catalogue.row(key)
        counts[row["state"] if row else "queued"] -= 1
        point = folder.point(key)
        found = "done" if point.result.exists() else state_of(point)
        counts[found] += 1
