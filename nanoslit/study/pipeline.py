"""The stages of a study, each of which is skipped if its inputs have not changed.

A stage names the files that it writes; ``study.json`` keeps, for each finished stage, the
hash of its inputs and of what it wrote. A stage whose files are missing or changed, or
whose inputs are others, runs again. Everything is written under a temporary name first,
so that a study ended anywhere continues.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanoslit import atomic, launch
from nanoslit.errors import CaseError, ConvergenceError, LaunchError

if TYPE_CHECKING:
    from nanoslit.sweep.points import Points

__all__ = ["Settings", "Study", "link_cells", "run_study"]

SCHEMA = 1


@dataclass(frozen=True)
class Settings:
    """What a study adds to its plan.

    Parameters
    ----------
    evaluations, seed, islands : int
        Of the search for laws.
    ranks : int
        Of the search.
    samples : int
        Circuits of the explorer.
    """

    evaluations: int = 20_000
    seed: int = 1
    islands: int = 4
    ranks: int = 2
    samples: int = 1024


@dataclass
class Study:
    """Folder of a study, its record, and where to speak.

    Parameters
    ----------
    folder : Path
    settings : Settings
    say : callable
        Takes a line of text.
    """

    folder: Path
    settings: Settings
    say: Callable[[str], None]
    record: dict[str, Any] = field(default_factory=dict)
    computed: int = 0

    def __post_init__(self) -> None:
        path = self.folder / "study.json"
        if path.exists():
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
            except (ValueError, OSError):
                self.say(f"{path} cannot be read; every stage is checked anew")
                record = {}
            self.record = record.get("stages", {}) if record.get("schema") == SCHEMA else {}

    def stage(
        self, name: str, inputs: Any, outputs: Sequence[Path], work: Callable[[], object]
    ) -> None:
        """Do a stage unless its outputs stand and belong to these inputs."""
        key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
        known = self.record.get(name, {})
        if known.get("inputs") == key and all(
            known.get("files", {}).get(p.name) == digest(p) for p in outputs
        ):
            self.say(f"{name}: cached")
            return
        self.say(f"{name}: computing")
        work()
        self.computed += 1
        self.record[name] = {"inputs": key, "files": {p.name: digest(p) for p in outputs}}
        text = json.dumps({"schema": SCHEMA, "stages": self.record}, indent=1)
        atomic.write_text(self.folder / "study.json", text)


def digest(path: Path) -> str | None:
    """Return the sha256 of a file, None if it is missing."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_study(
    plan_path: Path, folder: Path, settings: Settings, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run or continue a study and return its summary.

    Parameters
    ----------
    plan_path : Path
        Plan of a sweep.
    folder : Path
        Made if needed.
    settings : Settings
    say : callable
        Takes lines about the progress.

    Returns
    -------
    dict
        ``law``, ``cells`` (one entry for each slit size), ``report`` and ``computed``
        (number of stages that were computed).

    Raises
    ------
    CaseError
        If the plan is wrong or has fewer than two slit sizes.
    ConvergenceError, LaunchError
        If a run or the search failed.
    """
    from nanoslit.report import write_report
    from nanoslit.study.evaluation import evaluate

    folder.mkdir(parents=True, exist_ok=True)
    study = Study(folder, settings, say)
    results = _sweep(study, plan_path)
    law = _discover(study, results)
    hashes = {p.name: digest(p) for p in (*results, law)}
    summary = folder / "circuits.json"
    study.stage("circuits against the solved cells", hashes, [summary],
                lambda: evaluate(results, law, summary))  # fmt: skip
    explored = _explore(study, results, hashes)
    report = folder / "report.html"
    study.stage("report", {"summary": digest(summary), "explored": digest(explored)}, [report],
                lambda: write_report(folder))  # fmt: skip
    found = json.loads(summary.read_text(encoding="utf-8"))
    return {**found, "report": str(report), "computed": study.computed}


def _sweep(study: Study, plan_path: Path) -> list[Path]:
    """Let the sweep service solve what has no result yet; return named links to all."""
    from nanoslit.sweep.folder import Folder
    from nanoslit.sweep.plan import read_plan
    from nanoslit.sweep.points import Points, check_points

    points = Points(read_plan(plan_path))
    check_points(points)
    root = study.folder / "sweep"
    store = Folder(root)
    found = [store.point(key).result for key in points.keys()]  # noqa: SIM118
    missing = sum(not path.exists() for path in found)
    if missing:
        study.say(f"sweep: computing {missing} of {len(points)} points")
        _child(["sweep", "run", plan_path, "-o", root], f"sweep {plan_path}")
        study.computed += 1
    else:
        study.say(f"sweep: cached, {len(points)} points")
    return link_cells(study.folder, points)


def link_cells(folder: Path, points: Points) -> list[Path]:
    """Return links ``cells/VALUES-KEY.h5`` to the results of the folder's sweep."""
    from nanoslit.sweep.folder import Folder

    store, cells = Folder(folder / "sweep"), folder / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    links = []
    for i, key in enumerate(points.keys()):  # noqa: SIM118
        path = store.point(key).result
        link = cells / f"{_file_name(points.label(i), i)}-{path.parent.name[:8]}.h5"
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(path, cells))
        links.append(link)
    return links


def _file_name(label: str, index: int) -> str:
    kept = "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
    return kept.strip("_") or f"point{index}"


def _child(words: Sequence[str | os.PathLike[str]], what: str, ranks: int = 1) -> None:
    """Run ``nanoslit WORDS`` to its end.

    Raises
    ------
    ConvergenceError
        If it fails; its own output stands beside the result.
    """
    target = Path(words[list(words).index("-o") + 1])
    log = target.with_suffix(".log")
    with (
        log.open("wb") as file,
        # on one rank these are no MPI programs: they stay on this host
        launch.start(
            words, ranks=ranks, launcher=None if ranks > 1 else "", stdout=file, stderr=file
        ) as child,
    ):
        code = child.wait()
    if code:
        tail = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise ConvergenceError(f"{what}: {launch.explain_exit(code)}\n" + "\n".join(tail))


def _discover(study: Study, results: list[Path]) -> Path:
    law, s = study.folder / "LAW.json", study.settings

    def work() -> None:
        law.unlink(missing_ok=True)
        words: list[str | os.PathLike[str]] = [
            "discover", *results, "-o", law, "--voltage", "counterion", "--charge", "X",
            "--evaluations", str(s.evaluations), "--seed", str(s.seed),
            "--islands", str(s.islands), "--quiet",
        ]  # fmt: skip
        _child(words, "search for the law", s.ranks)
        if not law.exists():
            raise LaunchError(f"the search for the law wrote no {law}")

    inputs = {
        "results": {p.name: digest(p) for p in results},
        "evaluations": s.evaluations, "seed": s.seed, "islands": s.islands,
    }  # fmt: skip
    study.stage("law", inputs, [law], work)
    return law


def _explore(study: Study, results: list[Path], hashes: dict[str, Any]) -> Path:
    """Explore circuits over slit size and theta, between the solved slit sizes."""
    from nanoslit.study.evaluation import explore_slit_sizes

    target = study.folder / "explored.json"
    study.stage(
        "design space", {"results": hashes, "samples": study.settings.samples}, [target],
        lambda: explore_slit_sizes(results, target, study.settings.samples),
    )  # fmt: skip
    return target


def settings_of(values: dict[str, int | None]) -> Settings:
    """Return settings from those given; each must be at least 1.

    Raises
    ------
    CaseError
        For a number below 1.
    """
    given = {k: v for k, v in values.items() if v is not None}
    for key, value in given.items():
        if value < 1 and key != "seed":
            raise CaseError(f"{key} = {value} must be at least 1")
    return Settings(**given)
