"""What a plan would do: points, cost, launch line, job script; nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nanoslit.errors import CaseError
from nanoslit.launch import command_line
from nanoslit.sweep.cluster import (
    Where,
    local_workers,
    quoted,
    slurm_job_script,
    with_overrides,
)
from nanoslit.sweep.cost import mesh_nodes, total_cost
from nanoslit.sweep.folder import Folder
from nanoslit.sweep.plan import Plan
from nanoslit.sweep.points import Points, check_points

__all__ = ["dry_run", "render"]


def dry_run(plan: Plan, root: Path | None = None, cluster: str | None = None) -> dict[str, Any]:
    """Return the facts of a plan after checking all of its points.

    Parameters
    ----------
    plan : Plan
    root : Path, optional
        Folder whose finished points count as done.
    cluster : {"local", "slurm"}, optional
        That of the plan by default.

    Raises
    ------
    CaseError
        If any point is impossible or stands twice.
    """
    from nanoslit.casefile import content_key

    points = Points(plan)
    check_points(points)
    known = _known(points, root)
    try:
        nodes = mesh_nodes(points, 0)
    except CaseError:
        nodes = 0
    rule = plan.resources.rule_for(nodes)
    ranks = rule.ranks
    seconds = total_cost(points)
    share = 1.0 - known.get("done", 0) / max(len(points), 1)
    where = with_overrides(Where(cluster or plan.execution.cluster), plan.execution)
    slots = (
        local_workers(where, plan.resources) if where.cluster == "local" else where.workers or 1
    )
    key = content_key(points.case(0))
    serve = command_line(["sweep", "serve"], ranks, plan.execution.launcher)
    alone = command_line(
        ["run", "case.toml", "-o", f"pts/{key[:2]}/{key[2:]}/result.h5"], ranks,
        plan.execution.launcher,
    )  # fmt: skip
    out = {
        "name": plan.name, "points": len(points),
        "axes": {", ".join(g.keys): g.size for g in plan.groups},
        "done": known.get("done", 0), "failed": known.get("failed", 0) + known.get(
            "quarantined", 0), "new": known.get("new", 0),
        "waiting": len(points) - sum(known.get(k, 0) for k in (
            "done", "failed", "quarantined", "new")),
        "mesh_nodes_first": nodes, "ranks_first": ranks,
        "memory_first": plan.resources.memory_of(rule),
        "core_hours": share * seconds / 3600, "workers": slots,
        "wall_s": share * seconds / max(slots, 1),
        "bytes": int(share * len(points) * 3e5 * max(nodes, 1) / 1500),
        "first_point": {"key": key, "values": points.label(0)},
        "launch": quoted(serve), "by_hand": quoted(alone), "job_script": "",
    }  # fmt: skip
    if where.cluster == "slurm":
        out["job_script"] = slurm_job_script(plan.execution, plan.resources)
    return out


def _known(points: Points, root: Path | None) -> dict[str, int]:
    """Return how many points are in which state in a folder."""
    from nanoslit.sweep.status import open_catalogue

    if root is None or not root.exists():
        return {"new": len(points)}
    folder = Folder.open(root)
    file = folder.plan_file(points.plan.name, points.plan.to_toml()).name
    with open_catalogue(folder) as catalogue:
        entered = catalogue.filled_plan(file)
        if entered is not None:
            return catalogue.counts(entered)
        return catalogue.known(points.keys())


def render(facts: dict[str, Any]) -> str:
    """Return the facts as text."""
    axes = " x ".join(f"{n} ({key})" for key, n in facts["axes"].items())
    lines = [
        f"plan {facts['name']}: {facts['points']} points = {axes}",
        f"  done {facts['done']}, new {facts['new']}, failed {facts['failed']}, "
        f"waiting {facts['waiting']}",
        f"  estimate     {facts['core_hours']:.3g} core-hours, "
        f"{facts['wall_s']:.3g} s with {facts['workers']} at a time, "
        f"{facts['bytes'] / 1e6:.3g} MB",
        f"  first point  {facts['first_point']['values']}",
        f"               {facts['mesh_nodes_first']} nodes, {facts['ranks_first']} rank(s), "
        f"{facts['memory_first'] / 1e9:.3g} GB, "
        f"key {facts['first_point']['key'][:12]}",
        f"  launch line  {facts['launch']}",
        f"  by hand      {facts['by_hand']}",
    ]
    if facts["job_script"]:
        lines += ["  job script:", facts["job_script"].rstrip()]
    else:
        lines.append("  job script   none: solves start on this machine")
    return "\n".join(lines)
