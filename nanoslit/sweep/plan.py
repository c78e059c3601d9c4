"""Plans: TOML text to a base case, groups of axes, resources, execution, refinement.

A plan holds::

    name = "paper"
    base = "case.toml"                 # or the tables of a case below [case]

    [axes]                             # every combination of all axes is a point
    geometry.slit_size = ["1.5 nm", "2 nm"]
    protocol.scan_rate = { from = "1e4 V/s", to = "1e6 V/s", points = 3, spacing = "log" }
    "electrolyte.ions.*.concentration" = ["0.5 mol/L", "1 mol/L"]

    [[zip]]                            # keys that move together: one more axis
    geometry.sheets = [3, 6]
    geometry.reservoir = ["10 nm", "20 nm"]

    [[sample]]                         # a sample of several ranges: one more axis
    method = "sobol"                   # or "latin-hypercube"
    points = 16
    electrode.stern_capacitance = { from = "5 uF/cm^2", to = "20 uF/cm^2" }

    [resources]
    ranks = [{ nodes_up_to = 50000, ranks = 1 }, { ranks = 4, memory = "8 GB" }]
    memory = "4 GB"                    # ranks = 2 is a rule for all points
    time_limit = "2 h"

    [execution]
    cluster = "local"                  # or "slurm"
    workers = 8

    [adaptive]
    axes = ["geometry.slit_size"]
    observable = "r_c"
    tolerance = 0.02
    budget = 40

A table ``[study]`` belongs to :mod:`nanoslit.study.pipeline` and is left to it.

Everything is checked before anything starts: keys, units, ranges, and the points
themselves (:mod:`nanoslit.sweep.points`).
"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanoslit.errors import CaseError, closest
from nanoslit.schema import (
    Choice,
    ListOf,
    Number,
    Place,
    Quantity,
    Record,
    Text,
    Whole,
    show,
)
from nanoslit.sweep.axes import Group, flatten, read_axis, read_sample, read_zip, targets
from nanoslit.tomltext import toml_text

__all__ = ["Adaptive", "Execution", "Plan", "RankRule", "Resources", "Slurm", "read_plan"]

_KEYS = (
    "name", "base", "case", "axes", "zip", "sample", "resources", "execution", "adaptive",
    "study",
)  # fmt: skip
_TIME = Quantity("a time", "s", "30 min")
_MEMORY = Quantity("an amount of memory", "byte", "4 GB")


@dataclass(frozen=True)
class RankRule:
    """Ranks and memory [byte] of the points whose mesh has at most so many nodes."""

    ranks: int
    nodes_up_to: int = 10**12
    memory: float | None = None


@dataclass(frozen=True)
class Resources:
    """What one point gets.

    Parameters
    ----------
    ranks : tuple of RankRule
        The first rule that fits the mesh counts.
    memory : float
        Of one point whose rule names none [byte]; asked of a batch system, and bounds the
        points that run at once on this machine.
    time_limit : float
        Wall time of one attempt [s]; then a checkpoint is written and the point goes on
        in another attempt.
    """

    ranks: tuple[RankRule, ...] = (RankRule(1),)
    memory: float = 2e9
    time_limit: float = 24 * 3600.0

    def __post_init__(self) -> None:
        if not self.ranks:
            raise CaseError("ranks is an empty list; give a number or rules")

    def rule_for(self, nodes: float) -> RankRule:
        """Return the rule for a mesh of so many nodes."""
        for rule in self.ranks:
            if nodes <= rule.nodes_up_to:
                return rule
        return self.ranks[-1]

    def memory_of(self, rule: RankRule) -> float:
        """Return the memory of a point that follows a rule [byte]."""
        return self.memory if rule.memory is None else rule.memory

    @property
    def most_memory(self) -> float:
        """Largest memory of any point [byte]."""
        return max(self.memory_of(rule) for rule in self.ranks)

    @property
    def most_ranks(self) -> int:
        """Largest number of ranks of any point."""
        return max(rule.ranks for rule in self.ranks)


@dataclass(frozen=True)
class Slurm:
    """Jobs that carry Dask workers on a SLURM cluster."""

    queue: str | None = None
    account: str | None = None
    walltime: float = 4 * 3600.0
    cores: int = 1
    memory: float | None = None
    interface: str | None = None
    extra: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()


@dataclass(frozen=True)
class Execution:
    """Where and how the points run; never part of a result.

    Parameters
    ----------
    cluster : {"local", "slurm"}
    workers : int, optional
        Points at a time (local: the cores of this machine; slurm: number of jobs).
    launcher : str, optional
        Prefix of a solve with ``{ranks}``, such as ``srun --mpi=pmix -n {ranks} --exact``.
    batch_time : float
        Small points are handed out in batches of about this much work [s].
    checkpoint_every : float
        Wall time between checkpoints of a point [s].
    stale_after : float
        A solve without a step for so long is taken for hung and ended [s].
    attempts : int
        Failures of a point before it is given up.
    pause_after : int
        If the first so many points all fail alike, the sweep is paused; 0: never.
    """

    cluster: str = "local"
    workers: int | None = None
    launcher: str | None = None
    batch_time: float = 30.0
    checkpoint_every: float = 300.0
    stale_after: float = 600.0
    attempts: int = 3
    pause_after: int = 5
    slurm: Slurm = Slurm()


@dataclass(frozen=True)
class Adaptive:
    """Refinement of axes where an observable is not resolved.

    Parameters
    ----------
    axes : tuple of str
        Keys of axes with numbers.
    observable : str
        Column of the collected table, such as ``r_c`` or ``capacitance``.
    tolerance : float
        Largest deviation from the straight line between neighbours, relative to the
        observable's range along the axis.
    budget : int
        Largest number of points beyond those of the plan.
    start : int
        Number of points before any refinement (written by the refinement itself).
    """

    axes: tuple[str, ...]
    observable: str
    tolerance: float = 0.02
    budget: int = 50
    start: int = 0


def _rank_rules(raw: Any, at: Place) -> tuple[RankRule, ...]:
    one = Whole("a number of MPI ranks", 1, 100_000)
    if not isinstance(raw, list):
        return (RankRule(one.read(raw, at)),)
    nodes = Whole("a number of mesh nodes", 1)
    rule = Record(RankRule, {"ranks": one, "nodes_up_to": nodes, "memory": _MEMORY})
    return tuple(rule.read(item, at / str(i)) for i, item in enumerate(raw))


@dataclass(frozen=True)
class _Ranks(Quantity):
    """A number of ranks, or rules by mesh size."""

    def read(self, raw: Any, at: Place) -> Any:
        """Return the rules."""
        return _rank_rules(raw, at)

    def describe(self) -> str:
        """Say what is allowed."""
        return (
            'a number, or [{ nodes_up_to = 50000, ranks = 1 }, { ranks = 4, memory = "8 GB" }]'
        )


_RESOURCES = Record(
    Resources, {"ranks": _Ranks("", "", ""), "memory": _MEMORY, "time_limit": _TIME}
)
_SLURM = Record(
    Slurm,
    {
        "queue": Text("a partition"),
        "account": Text("an account"),
        "walltime": _TIME,
        "cores": Whole("cores of one job", 1, 100_000),
        "memory": _MEMORY,
        "interface": Text("a network interface"),
        "extra": ListOf(Text("a directive such as --constraint=x")),
        "prologue": ListOf(Text("a line of shell, such as module load x")),
    },
)
_EXECUTION = Record(
    Execution,
    {
        "cluster": Choice(("local", "slurm")),
        "workers": Whole("a number of workers", 1, 100_000),
        "launcher": Text("a launcher with {ranks}"),
        "batch_time": _TIME,
        "checkpoint_every": _TIME,
        "stale_after": _TIME,
        "attempts": Whole("a number of attempts", 1, 100),
        "pause_after": Whole("a number of points", 0),
        "slurm": _SLURM,
    },
)
_ADAPTIVE = Record(
    Adaptive,
    {
        "axes": ListOf(Text("the key of an axis"), 1),
        "observable": Text("a column of the collected table"),
        "tolerance": Number("a relative deviation"),
        "budget": Whole("a number of points", 1),
        "start": Whole("a number of points", 0),
    },
)


@dataclass(frozen=True)
class Plan:
    """A plan that has been read; its points are :class:`nanoslit.sweep.points.Points`.

    Attributes
    ----------
    name : str
    source : str
        File, for messages.
    document : dict
        The plan with its base case written in, so that it stands alone.
    base : dict
        Tables of the base case.
    groups : tuple of Group
    """

    name: str
    source: str
    document: dict[str, Any]
    base: dict[str, Any]
    groups: tuple[Group, ...]
    resources: Resources = field(default_factory=Resources)
    execution: Execution = field(default_factory=Execution)
    adaptive: Adaptive | None = None

    @property
    def size(self) -> int:
        """Number of points."""
        n = 1
        for group in self.groups:
            n *= group.size
        return n

    def to_toml(self) -> str:
        """Return the plan as TOML text that needs no other file."""
        return toml_text(self.document)


def read_plan(path: str | Path) -> Plan:
    """Return the plan that a file describes.

    Raises
    ------
    CaseError
        If the file cannot be read, or a key, unit, axis or value is impossible; the
        message holds file, key, what was given and what is allowed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CaseError(
            f"{path}: cannot be read ({error.strerror}); give a plan file"
        ) from None
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: is not UTF-8 text ({error.reason})") from None
    return plan_from_toml(text, str(path), path.parent)


def plan_from_toml(text: str, source: str = "plan", folder: Path | None = None) -> Plan:
    """Return the plan that TOML text describes; ``base`` is looked up in ``folder``."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise CaseError(f"{source}: is not valid TOML: {error}") from None
    at = Place(source)
    for key in document:
        if key not in _KEYS:
            (at / key).fail("unknown key", allowed=", ".join(_KEYS), hint=closest(key, _KEYS))
    document = _with_base(document, at, folder or Path())
    base = document["case"]
    groups = _groups(document, base, at)
    execution = _EXECUTION.read(document.get("execution", {}), at / "execution")
    resources = _RESOURCES.read(document.get("resources", {}), at / "resources")
    adaptive = None
    if "adaptive" in document:
        adaptive = _ADAPTIVE.read(document["adaptive"], at / "adaptive")
        _check_adaptive(adaptive, groups, at / "adaptive" / "axes")
    name = document.get("name", Path(source).stem)
    Text("a name").read(name, at / "name")
    if not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        (at / "name").fail(
            "names a file", given=show(name), allowed="letters, digits, '-', '_' and '.'"
        )
    document["name"] = name  # so that the written plan is the same plan in any file
    return Plan(name, source, document, base, groups, resources, execution, adaptive)


def _with_base(document: dict[str, Any], at: Place, folder: Path) -> dict[str, Any]:
    """Return the plan with the tables of its base case in ``case``."""
    if ("base" in document) == ("case" in document):
        at.fail(
            "a plan needs its base case, once",
            given=", ".join(document) or "an empty file",
            allowed='base = "case.toml", or the tables of a case below [case]',
        )
    document = copy.deepcopy(document)
    if "base" in document:
        name = Text("the path of a case file").read(document.pop("base"), at / "base")
        path = folder / Path(name).expanduser()
        try:
            document["case"] = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            (at / "base").fail(f"{path} cannot be read ({error.strerror})", given=show(name))
        except (ValueError, RecursionError) as error:
            (at / "base").fail(f"{path} is not valid TOML: {error}", given=show(name))
    if not isinstance(document["case"], Mapping):
        (at / "case").fail("must be a table", given=show(document["case"]))
    return document


def _groups(document: Mapping[str, Any], base: dict[str, Any], at: Place) -> tuple[Group, ...]:
    axes = document.get("axes", {})
    if not isinstance(axes, Mapping):
        (at / "axes").fail("must be a table", given=show(axes))
    groups = [
        read_axis(base, key, raw, at / "axes" / key) for key, raw in flatten(axes, at / "axes")
    ]
    for kind, reader in (("zip", read_zip), ("sample", read_sample)):
        tables = document.get(kind, [])
        if not isinstance(tables, list):
            (at / kind).fail("must be a list of tables", allowed=f"[[{kind}]]")
        groups += [reader(base, t, at / kind / str(i)) for i, t in enumerate(tables)]
    if not groups:
        at.fail("a plan needs at least one axis", allowed="[axes], [[zip]] or [[sample]]")
    _check_keys_once(groups, base, at)
    return tuple(groups)


def _check_keys_once(groups: list[Group], base: dict[str, Any], at: Place) -> None:
    """Complain about two columns that set the same key."""
    owner: dict[str, str] = {}
    for group in groups:
        for key in group.keys:
            for concrete, _ in targets(base, key, at):
                clash = [k for k in owner if _overlap(k, concrete)]
                if clash:
                    at.fail(
                        "two axes set the same key: points would be duplicates",
                        given=f"{owner[clash[0]]} and {key}",
                        allowed="each key on one axis",
                    )
                owner[concrete] = key


def _overlap(a: str, b: str) -> bool:
    return a == b or a.startswith(b + ".") or b.startswith(a + ".")


def _check_adaptive(adaptive: Adaptive, groups: tuple[Group, ...], at: Place) -> None:
    able = [
        g.keys[0] for g in groups if g.kind == "axis" and g.columns[0].numeric and g.size >= 3
    ]
    for key in adaptive.axes:
        if key not in able:
            at.fail(
                "is no axis of 3 or more numbers",
                given=key,
                allowed=", ".join(able) or "none in this plan",
            )
