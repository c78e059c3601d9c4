"""The stages of a study, each of which is skipped if its inputs have not changed.

A stage names the files that it writes; ``study.json`` keeps, for each finished stage, the
hash of its inputs and of what it wrote. A stage whose files are missing or changed, or
whose inputs are others, runs again. Everything is written under a temporary name first,
so that a study ended anywhere continues. SIGTERM and SIGINT end it with 85 after the
program that runs at the time has saved what it can; the search for laws then goes on from
its own checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nanoslit import __version__, atomic, launch
from nanoslit.errors import ConvergenceError, LaunchError, StoppedError
from nanoslit.schema import Place, Record, Whole

if TYPE_CHECKING:
    from nanoslit.sweep.plan import Plan
    from nanoslit.sweep.points import Points

__all__ = ["Settings", "Study", "link_cells", "run_study", "settings_of"]

SCHEMA = 2
CHECKPOINT_MINUTES = 0.1
PATIENCE = 20.0
"""How long a program that is asked to stop may take to save [s]."""


@dataclass(frozen=True)
class Settings:
    """What the table ``[study]`` of a plan says.

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


_SETTINGS = Record(
    Settings,
    {
        "evaluations": Whole("trial formulas of the search", 1),
        "seed": Whole("key of the random numbers", 0),
        "islands": Whole("populations of the search", 1, 10_000),
        "ranks": Whole("MPI ranks of the search", 1, 100_000),
        "samples": Whole("circuits of the design space", 1),
    },
)


def settings_of(plan: Plan, given: Mapping[str, int | None]) -> Settings:
    """Return the settings of a plan's table ``[study]``, or those given instead.

    Raises
    ------
    CaseError
        For an unknown key or an impossible value.
    """
    at = Place(plan.source) / "study"
    table = plan.document.get("study", {})
    own = table | {k: v for k, v in given.items() if v is not None}
    settings: Settings = _SETTINGS.read(own, at)
    return settings


class _Stop(BaseException):
    """A signal asked to stop; no handler of errors takes it."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turn the first SIGTERM or SIGINT into :class:`StoppedError`; a second one kills."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in numbers}

    def stop(number: int, _: object) -> NoReturn:
        for n in numbers:
            signal.signal(n, signal.SIG_DFL)
        raise _Stop(signal.Signals(number).name)

    for n in numbers:
        signal.signal(n, stop)
    try:
        yield
    except _Stop as asked:
        raise StoppedError(f"stopped by {asked}; the same command continues") from None
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)


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
        self, name: str, inputs: Any, outputs: Sequence[Path], work: Callable[[bool], object]
    ) -> None:
        """Do a stage unless its outputs stand and belong to these inputs.

        ``work`` is told whether the same stage was begun before and not finished.
        """
        whole = json.dumps([__version__, inputs], sort_keys=True)
        key = hashlib.sha256(whole.encode()).hexdigest()
        known = self.record.get(name, {})
        if known.get("inputs") == key and all(
            known.get("files", {}).get(p.name) == digest(p) for p in outputs
        ):
            self.say(f"{name}: cached")
            return
        again = known.get("begun") == key
        if not again:
            self._note(name, {"begun": key})
        self.say(f"{name}: {'continuing' if again else 'computing'}")
        work(again)
        self.computed += 1
        self._note(name, {"inputs": key, "files": {p.name: digest(p) for p in outputs}})

    def _note(self, name: str, entry: dict[str, Any]) -> None:
        self.record[name] = entry
        atomic.write_json(self.folder / "study.json", {"schema": SCHEMA, "stages": self.record})


def digest(path: Path) -> str | None:
    """Return the sha256 of a file, None if it is missing."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_study(
    plan_path: Path,
    folder: Path,
    given: Mapping[str, int | None],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run or continue a study and return its summary.

    Parameters
    ----------
    plan_path : Path
        Plan of a sweep, with a table ``[study]`` if the defaults do not fit.
    folder : Path
        Made if needed.
    given : mapping
        Settings that replace those of the plan; None: not given.
    say : callable
        Takes lines about the progress.

    Returns
    -------
    dict
        ``circuits.json`` with ``claims`` and ``numbers`` of the cells (``claims.json``),
        ``report`` and ``computed`` (number of stages that were computed).

    Raises
    ------
    CaseError
        If the plan is wrong or has fewer than two slit sizes.
    ConvergenceError, LaunchError
        If a run or the search failed.
    StoppedError
        If a signal ended it; the same call continues.
    """
    from nanoslit.sweep.plan import read_plan

    plan = read_plan(plan_path)
    study = Study(folder, settings_of(plan, given), say)
    with _stoppable():
        return _run(study, plan, plan_path)


def _run(study: Study, plan: Plan, plan_path: Path) -> dict[str, Any]:
    from nanoslit.findings.claims import write_claims
    from nanoslit.report import write_report
    from nanoslit.study.evaluation import evaluate

    folder = study.folder
    folder.mkdir(parents=True, exist_ok=True)
    results = _sweep(study, plan, plan_path)
    law = _discover(study, results)
    hashes = {p.name: digest(p) for p in (*results, law)}
    summary, claims = folder / "circuits.json", folder / "claims.json"
    study.stage("circuits against the solved cells", hashes, [summary],
                lambda _: evaluate(results, law, summary))  # fmt: skip
    explored = _explore(study, results, hashes)
    study.stage("claims", hashes | {"summary": digest(summary)}, [claims],
                lambda _: write_claims(folder))  # fmt: skip
    report = folder / "report.html"
    shown = hashes | {p.name: digest(p) for p in (summary, explored, claims)}
    study.stage("report", shown, [report], lambda _: write_report(folder))
    found = json.loads(summary.read_text(encoding="utf-8"))
    judged = json.loads(claims.read_text(encoding="utf-8"))
    return {
        **found, "claims": judged["claims"], "numbers": judged["numbers"],
        "report": str(report), "computed": study.computed,
    }  # fmt: skip


def _sweep(study: Study, plan: Plan, plan_path: Path) -> list[Path]:
    """Let the sweep service solve what has no result yet; return named links to all."""
    from nanoslit.sweep.folder import Folder
    from nanoslit.sweep.points import Points, check_points

    points = Points(plan)
    check_points(points)
    root = study.folder / "sweep"
    store = Folder(root)
    found = [store.point(key).result for key in points.keys()]  # noqa: SIM118
    missing = sum(not path.exists() for path in found)
    if missing:
        study.say(f"sweep: computing {missing} of {len(points)} points")
        with _started(["sweep", "run", plan_path, "-o", root]) as child:
            _finish(child.wait(), root, f"sweep {plan_path}")
        study.computed += 1
    else:
        study.say(f"sweep: cached, {len(points)} points")
    return link_cells(study.folder, points)


def link_cells(folder: Path, points: Points) -> list[Path]:
    """Return links ``cells/VALUES-KEY.h5`` to the results of the folder's sweep.

    Links to points that are no longer in the plan are removed.
    """
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
    for link in cells.glob("*.h5"):
        if link.is_symlink() and link not in links:
            link.unlink()
    return links


def _file_name(label: str, index: int) -> str:
    kept = "".join(c if c.isalnum() or c in ".-" else "_" for c in label)
    return kept.strip("_") or f"point{index}"


def _started(words: Sequence[str | os.PathLike[str]], ranks: int = 1) -> launch.Child:
    """Start ``nanoslit WORDS``, with its own output beside the result."""
    with _log(_target(words)).open("wb") as file:
        # on one rank these are no MPI programs: they stay on this host
        return launch.start(
            words, ranks=ranks, launcher=None if ranks > 1 else "", stdout=file, stderr=file
        )


def _target(words: Sequence[str | os.PathLike[str]]) -> Path:
    return Path(words[list(words).index("-o") + 1])


def _log(target: Path) -> Path:
    return target.with_suffix(".log")


def _finish(code: int, target: Path, what: str) -> None:
    """Complain if a program did not end well.

    Raises
    ------
    ConvergenceError
        With the end of its output.
    """
    if code:
        tail = _log(target).read_text(errors="replace").strip().splitlines()[-3:]
        raise ConvergenceError(f"{what}: {launch.explain_exit(code)}\n" + "\n".join(tail))


def _discover(study: Study, results: list[Path]) -> Path:
    law, s = study.folder / "LAW.json", study.settings
    words: list[str | os.PathLike[str]] = [
        "discover", *results, "-o", law, "--voltage", "counterion", "--charge", "X",
        "--evaluations", str(s.evaluations), "--seed", str(s.seed),
        "--islands", str(s.islands), "--quiet",
    ]  # fmt: skip

    def work(again: bool) -> None:
        law.unlink(missing_ok=True)
        more = ["--checkpoint-minutes", str(CHECKPOINT_MINUTES), *["--resume"] * again]
        with _started([*words, *more], s.ranks) as child:
            try:
                code = child.wait()
            except _Stop:
                child.request_checkpoint()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(PATIENCE)
                raise
        _finish(code, law, "search for the law")
        if not law.exists():
            raise LaunchError(f"the search for the law wrote no {law}")
        shutil.rmtree(law.with_name(law.name + ".checkpoint"), ignore_errors=True)

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
        lambda _: explore_slit_sizes(results, target, study.settings.samples),
    )  # fmt: skip
    return target
