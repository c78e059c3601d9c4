"""The whole chain as jobs that wait for each other: solve, discover, explore."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nanoslit.errors import CaseError
from nanoslit.job.kinds import Wish, discover_job, explore_job, solve_job, sweep_job
from nanoslit.job.script import Job, quoted
from nanoslit.job.site import Site

if TYPE_CHECKING:
    from nanoslit.case import Case
    from nanoslit.sweep.plan import Plan

__all__ = ["cells_of_plan", "pipeline_of_cases", "pipeline_of_plan"]

EXPLORE = """\
# Design space of slit size and theta; R_c, gamma and C_slit of each slit size are those of
# the solved cells. The ranges are our choice: edit them, `nanoslit explore` says what else
# may stand here.
name = "{name}"
material = [
{material}]

[circuit]
n_slits = {sheets}
basis = "per depth"
governor = "inner"
saturation = 1.0

[protocol]
kind = "cyclic-voltammetry"
lower = "{lower!r} V"
upper = "{upper!r} V"
cycle = "periodic"

[sampling]
method = "sobol"
samples = 1024

[vary.slit_size]
lower = "{smallest:.12g} m"
upper = "{largest:.12g} m"

[vary.theta]
lower = 0.01
upper = 100.0
scale = "log"

[vary.rho]
lower = 0.01
upper = 1.0
scale = "log"

[vary.c]
lower = 0.1
upper = 1.0
"""


def pipeline_of_plan(
    plan: Plan, path: str, output: str, site: Site, wish: Wish, mode: str, study: str | None,
    options: str,
) -> list[Job]:  # fmt: skip
    """Return the jobs of a plan in their order.

    Parameters
    ----------
    plan : Plan
    path, output : str
        File of the plan, folder of everything.
    site : Site
    wish : Wish
        Of the sweep.
    mode : {"allocation", "dask"}
    study : str, optional
        STUDY.toml of the explorer; by default one is written when the cells are solved.
    options : str
        More options of ``nanoslit discover``, quoted for bash.
    """
    first = sweep_job(plan, path, f"{output}/sweep", site, wish, mode)
    links = f"nanoslit job cells {quoted([path, '-o', output])}"
    return [first, *_rest(output, site, study, options, (links,), f"{output}/cells")]


def pipeline_of_cases(
    cases: Sequence[Case], paths: Sequence[str], output: str, site: Site, wish: Wish,
    study: str | None, options: str,
) -> list[Job]:  # fmt: skip
    """Return the jobs of several cases in their order; the first is an array."""
    cells = f"{output}/cells"
    target = cells if len(paths) > 1 else f"{cells}/{Path(paths[0]).stem}.h5"
    first = solve_job(cases, paths, target, site, wish)
    links = f"nanoslit job cells {quoted([*paths, '-o', output])}"
    return [first, *_rest(output, site, study, options, (links,), cells)]


def _rest(
    output: str, site: Site, study: str | None, options: str, before: tuple[str, ...],
    cells: str,
) -> list[Job]:  # fmt: skip
    found = f"{quoted([cells])}/*.h5 {options}".strip()
    law = discover_job(found, f"{output}/LAW.json", site, Wish())
    target = study or f"{output}/explore.toml"
    explored = explore_job(target, f"{output}/explored.h5", site, Wish())
    return [replace(law, before=before), explored]


def cells_of_plan(plan: Plan, output: Path) -> list[Path]:
    """Give the results of a plan's points names that say what they are.

    Returns
    -------
    list of Path
        Links ``OUTPUT/cells/VALUES-KEY.h5``; the same as those of a study.
    """
    from nanoslit.study.pipeline import link_cells
    from nanoslit.sweep.points import Points

    return link_cells(output, Points(plan))


def write_explore(cases: Sequence[Case], links: Sequence[Path], target: Path) -> None:
    """Write a study file for the explorer unless there is one.

    Raises
    ------
    CaseError
        If there are fewer than two slit sizes.
    """
    from nanoslit import atomic

    if target.exists():
        return
    sizes: dict[float, Path] = {}
    for case, link in zip(cases, links, strict=True):
        sizes.setdefault(getattr(case.geometry, "slit_size", 0.0), link)
    if len(sizes) < 2:
        raise CaseError(
            "the cells have one slit size only, so there is no range to explore; give "
            "--explore STUDY.toml"
        )
    lower, upper = cases[0].protocol.bounds
    names = [os.path.relpath(sizes[d], target.parent) for d in sorted(sizes)]
    atomic.write_text(
        target,
        EXPLORE.format(
            name=target.parent.name, material="".join(f'    "{n}",\n' for n in names),
            sheets=getattr(cases[0].geometry, "sheets", 1), lower=lower, upper=upper,
            smallest=min(sizes), largest=max(sizes),
        ),
    )  # fmt: skip
