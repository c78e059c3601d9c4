"""The scripts that stand in ``jobs/``: written from examples, by the same functions."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from nanoslit.job.kinds import Wish, solve_job, sweep_job
from nanoslit.job.pipeline import pipeline_of_plan
from nanoslit.job.script import SHIPPED, submission, text_of
from nanoslit.job.site import SCHEDULERS, Site

__all__ = ["example_scripts"]

PLAN = "sweeps/paper.toml"


def example_scripts(root: Path) -> dict[str, str]:
    """Return path and text of every script of ``jobs/``.

    Parameters
    ----------
    root : Path
        A checkout, of which the plan is read.
    """
    from nanoslit.casefile import case_from_toml
    from nanoslit.sweep.plan import read_plan

    case = case_from_toml((files("nanoslit.cli") / "case_template.toml").read_text("utf-8"))
    plan = read_plan(root / PLAN)
    out = {}
    for scheduler in SCHEDULERS:
        site, folder = Site(path=SHIPPED, scheduler=scheduler), f"jobs/{scheduler}"
        chain = ("sweep", "discover", "explore")
        stages = pipeline_of_plan(
            plan, PLAN, "results/paper", site, Wish(), "allocation", None, ""
        )
        jobs = {name: replace(job, log="") for name, job in zip(chain, stages, strict=True)}
        jobs["solve"] = solve_job([case], ["case.toml"], "result.h5", site, Wish(ranks=4))
        if scheduler == "slurm":
            dask = sweep_job(plan, PLAN, "results/paper/sweep", site, Wish(), "dask")
            jobs["sweep-dask"] = replace(dask, log="")
            paths = ["cases/a.toml", "cases/b.toml"]
            array = solve_job([case, case], paths, "results", site, Wish(ranks=4))
            jobs["solve-array"] = replace(array, log="")
        for name, job in jobs.items():
            path = f"{folder}/{name}.sh"
            out[path] = text_of(job, site, path)
        scripts = [f"{folder}/{name}.sh" for name in chain]
        out[f"{folder}/pipeline.sh"] = submission(
            scripts, site, f"Solve, discover, explore:  bash {folder}/pipeline.sh"
        )
    return out
