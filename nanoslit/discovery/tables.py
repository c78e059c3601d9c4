"""The two tasks of the command line: a law from a table, a law from result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit.discovery.dataset import (
    OpeningData,
    Table,
    opening_data,
    problem_from_table,
    read_table,
    read_traces,
)
from nanoslit.discovery.discover import (
    choose,
    make_law,
    offset_is_natural,
    search_problem,
    table_rivals,
)
from nanoslit.discovery.law import ResistanceLaw
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.resistance import ResistanceOptions, discover_resistance
from nanoslit.errors import LawError
from nanoslit.parallel import Communicator

__all__ = ["ResultsTask", "TableTask"]


@dataclass(frozen=True)
class TableTask:
    """A law from a table; run on all ranks."""

    problem: Problem
    settings: SearchSettings
    cases: tuple[str, ...]
    test: Problem | None = None

    @classmethod
    def from_file(
        cls,
        path: Path,
        settings: SearchSettings,
        target: str,
        features: Sequence[str] = (),
        units: Mapping[str, str] | None = None,
        group: str | None = None,
        sigma: str | None = None,
        hold_out: Sequence[str] = (),
    ) -> TableTask:
        """Read, check and split a table; held-out groups only test."""
        table = read_table(path)
        test = None
        if hold_out:
            table, held = _split(table, group, hold_out)
            test, _ = problem_from_table(held, target, features, units, None, sigma)
        problem, cases = problem_from_table(table, target, features, units, group, sigma)
        private = settings.private_constants and len(cases) > 1 and not hold_out
        settings = replace(settings, private_constants=private)
        settings = replace(settings, offset=offset_is_natural(problem, settings))
        problem.dimension_table(settings)  # unit nonsense is said before the search
        return cls(problem, settings, cases, test)

    def run(self, comm: Communicator | None = None, **options: Any) -> ResistanceLaw | None:
        """Search, choose and compare; the law is on rank 0."""
        laboratory, result = search_problem(self.problem, self.settings, comm, **options)
        if comm is not None and comm.rank:
            return None
        chosen = choose(laboratory, result, self.settings.evaluations, self.test)
        rivals = table_rivals(
            self.problem, self.test, chosen.independent_samples, self.settings
        )
        consistent = (
            self.problem.units is None or self.settings.constant_units != "dimensionless"
        )
        return make_law(
            self.problem,
            self.settings,
            chosen,
            result,
            cases=self.cases,
            baselines=rivals,
            eligible=None if consistent else (),
        )


def _split(table: Table, group: str | None, hold_out: Sequence[str]) -> tuple[Table, Table]:
    from nanoslit.discovery.dataset import _label

    if group is None or group not in table:
        raise LawError("--hold-out needs --group, the column that names the data sets")
    labels = np.array([_label(v) for v in table[group]])
    unknown = set(hold_out) - set(labels.tolist())
    if unknown:
        raise LawError(
            f"no data set {sorted(unknown)} to hold out; there are {np.unique(labels).tolist()}"
        )
    held = np.isin(labels, list(hold_out))
    return (
        {k: v[~held] for k, v in table.items()},
        {k: v[held] for k, v in table.items()},
    )


@dataclass(frozen=True)
class ResultsTask:
    """The resistance law from result files; run on all ranks."""

    sets: tuple[OpeningData, ...]
    held_out: tuple[OpeningData, ...]
    settings: SearchSettings
    options: ResistanceOptions

    @classmethod
    def from_files(
        cls,
        paths: Sequence[Path],
        settings: SearchSettings,
        hold_out: Sequence[str] = (),
        voltage: str = "mid",
        charge: str = "auto",
        salt: bool = False,
    ) -> ResultsTask:
        """Read result files; those whose name is in ``hold_out`` only test."""
        options = ResistanceOptions(voltage, charge, salt)
        names = [p.stem for p in paths]
        repeated = {n for n in names if names.count(n) > 1}
        if repeated:
            raise LawError(f"result files need different names; repeated: {sorted(repeated)}")
        unknown = set(hold_out) - set(names)
        if unknown:
            raise LawError(f"no result {sorted(unknown)} to hold out; given are {names}")
        sets: dict[bool, list[OpeningData]] = {True: [], False: []}
        for path in paths:
            sets[path.stem in hold_out] += opening_data(read_traces(path))
        if not sets[False]:
            raise LawError("all results are held out; none is left to learn from")
        return cls(tuple(sets[False]), tuple(sets[True]), settings, options)

    def run(self, comm: Communicator | None = None, **options: Any) -> ResistanceLaw | None:
        """Search, choose and compare; the law is on rank 0."""
        return discover_resistance(
            self.sets, self.settings, self.options, self.held_out, comm, **options
        )
