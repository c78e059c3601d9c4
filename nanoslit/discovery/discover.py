"""From a problem to a law: search on islands, choice, rivals, record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery import forms, selection
from nanoslit.discovery.dimensions import NONE, unit_text
from nanoslit.discovery.forms import Form
from nanoslit.discovery.island import Laboratory
from nanoslit.discovery.islands import SearchResult, search
from nanoslit.discovery.law import LawForm, ResistanceLaw
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.selection import Candidate, Selection, law_form
from nanoslit.errors import LawError
from nanoslit.parallel import Communicator, raise_together

__all__ = ["fit_rival", "make_law", "offset_is_natural", "search_problem", "winner"]

SEARCH_SHARE = 0.85  # of the evaluations; the rest polishes and prunes
PILOT_SHARE = 0.3  # of the search's evaluations with a robust loss
HUBER = 1.345  # 95 % efficient for normal noise
ROUNDING = 1e-6  # errors below are none
REFUTED = 1.5  # times a rival's error on unseen rows: the law is refuted


def offset_is_natural(problem: Problem, settings: SearchSettings) -> bool:
    """Return whether an additive constant can be a plain or unit-carrying number."""
    return (
        problem.units is None
        or problem.target_unit == NONE
        or settings.constant_units != "dimensionless"
    )


def search_problem(
    problem: Problem,
    settings: SearchSettings,
    comm: Communicator | None = None,
    **options: Any,
) -> tuple[Laboratory, SearchResult]:
    """Search with the search's share of the budget; options as for ``search``.

    With ``loss = "huber"`` a first search with part of the budget finds residuals, and the
    rows get Huber's weights (Ann. Math. Statist. 35, 73 (1964)) for the second.
    """
    share = max(1, int(SEARCH_SHARE * settings.evaluations))
    spent = 0
    if settings.loss == "huber":
        pilot = Laboratory(problem, replace(settings, evaluations=int(PILOT_SHARE * share)))
        folder = options.get("folder")
        own = {"folder": folder / "pilot"} if folder is not None else {}
        first = search(pilot, comm, **(options | own))
        if first.interrupted:
            return pilot, first
        spent = first.evaluations
        problem = replace(problem, weights=_huber_weights(pilot, first, comm))
        share -= int(PILOT_SHARE * share)
    laboratory = Laboratory(problem, replace(settings, evaluations=share))
    result = search(laboratory, comm, **options)
    return laboratory, replace(result, evaluations=result.evaluations + spent)


def _huber_weights(pilot: Laboratory, result: SearchResult, comm: Communicator | None) -> Any:
    """Return the weights of rows under the pilot's choice, refitted under them; collective.

    Rows within ``HUBER`` standard deviations (from the median of the absolute residuals of
    their data set) keep their weight, others count as if their distance were that.
    """
    text, error = "", None
    if comm is None or comm.rank == 0:
        try:
            weights = _reweighted(pilot, selection.select(pilot, result.front, budget=0))
            text = " ".join(float(w).hex() for w in weights)
        except LawError as e:
            error = e
    if comm is not None:
        raise_together(comm, error)
        text = comm.broadcast_text(text)
    elif error is not None:
        raise error
    return np.array([float.fromhex(w) for w in text.split(" ")])


def _reweighted(pilot: Laboratory, chosen: Selection) -> NDArray[np.float64]:
    problem, form = pilot.problem, chosen.best.form
    base = np.ones(len(problem.y)) if problem.weights is None else problem.weights
    weights = base
    for _ in range(10):
        data = forms.data_for_forms(replace(problem, weights=weights), pilot.settings)
        form = forms.fit(form, data, 20, 1.0)
        z = np.abs(problem.y - form.predict(problem.X, problem.groups)) * np.sqrt(base)
        for g in range(problem.sets):
            own = problem.groups == g
            z[own] /= max(1.4826 * float(np.median(z[own])), 1e-9 * float(z[own].max()))
        weights = base * np.minimum(1.0, HUBER / np.maximum(z, 1e-300))
    return weights


def choose(
    laboratory: Laboratory,
    result: SearchResult,
    evaluations: int,
    test: Problem | None = None,
    ordered: bool = False,
) -> Selection:
    """Choose a law with what is left of the budget."""
    left = max(evaluations - result.evaluations, evaluations // 50)
    return selection.select(laboratory, result.front, test=test, ordered=ordered, budget=left)


def fit_rival(
    text: str,
    start: Mapping[str, float],
    problem: Problem,
    settings: SearchSettings,
    *,
    private: Sequence[str] = (),
    test: Problem | None = None,
    samples: float | None = None,
    scale_name: str | None = None,
) -> Candidate:
    """Fit a formula with named constants.

    Parameters
    ----------
    text : str
        Formula; each named constant occurs once.
    start : mapping of str to float
        Starting values; several are tried for constants other than the scale.
    problem, test : Problem
    settings : SearchSettings
    private : sequence of str
        Constants that every data set owns.
    samples : float, optional
        Independent samples for BIC; by default all rows.
    scale_name : str, optional
        Constant that the target is proportional to; it starts at its least-squares
        value.
    """
    data = forms.data_for_forms(problem, settings)
    n = samples or float(data.length)
    best: Form | None = None
    spent = 0
    for factor in (1.0, 0.2, 5.0, -1.0):
        values = {k: v * (1.0 if k == scale_name else factor) for k, v in start.items()}
        form = Form.from_text(text, problem.columns, values, private, problem.sets)
        if scale_name is not None:
            form = _with_least_squares_scale(form, scale_name, problem)
        form = forms.fit(form, data, 60, data.length / n)
        spent += form.evaluations
        if best is None or form.error < best.error:
            best = form
        if len(start) == (scale_name is not None):
            break
    assert best is not None
    best = replace(best, evaluations=spent)
    symbols = len(settings.operators) + len(problem.columns) + 1
    mdl, bic = selection._scores(best, n, symbols)
    return Candidate(best, mdl, bic, selection._test_error(best, test))


def _with_least_squares_scale(form: Form, name: str, problem: Problem) -> Form:
    place = form.leaves[form.names.index(name)]
    constants = form.constants.copy()
    constants[place] = 1.0
    unit = replace(form, constants=constants)
    with np.errstate(all="ignore"):
        f = unit.predict(problem.X, problem.groups)
    for g in range(problem.sets):
        rows = (problem.groups == g) & np.isfinite(f)
        if rows.any() and f[rows] @ problem.y[rows] != 0:
            constants[place, g] = f[rows] @ problem.y[rows] / (f[rows] @ f[rows])
    if form.tokens[place] == 0:
        constants[place] = constants[place].mean()
    return replace(form, constants=constants)


def sparse_rival(problem: Problem, test: Problem | None, n: float) -> Candidate:
    """Return the sparse regression on monomials up to degree 3 as a candidate."""
    terms = selection.sparse_regression(problem)
    text = " + ".join(
        f"{c!r}*" + "*".join(problem.columns[j] for j in index) for index, c in terms
    )
    settings = SearchSettings(scale=False)
    form = Form.from_text(text, problem.columns, sets=problem.sets)
    form = forms.fit(form, forms.data_for_forms(problem, settings), 5)
    symbols = len(settings.operators) + len(problem.columns) + 1
    mdl, bic = selection._scores(form, n, symbols)
    return Candidate(form, mdl, bic, selection._test_error(form, test))


def make_law(
    problem: Problem,
    settings: SearchSettings,
    chosen: Selection,
    result: SearchResult,
    *,
    cases: Sequence[str] = ("all",),
    columns: Mapping[str, Mapping[str, str]] | None = None,
    baselines: Mapping[str, Candidate] | None = None,
    meaning: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    eligible: Collection[str] | None = None,
) -> ResistanceLaw:
    """Assemble the record of a discovery, winner and rivals in one place.

    Rivals that break a rule of the search (are not ``eligible``; by default all are) are
    reported only; see :func:`winner` for how the best is chosen.
    """
    rivals = dict(baselines or {})
    allowed = [k for k in rivals if eligible is None or k in eligible]
    best, verdict = winner(chosen.best, {k: rivals[k] for k in allowed})

    def record(candidate: Candidate) -> LawForm:
        return law_form(candidate, problem, cases)

    if columns is None:
        units = problem.units or (None,) * len(problem.columns)
        columns = {
            c: {"unit": "" if u is None else unit_text(u), "meaning": "column of the table"}
            for c, u in zip(problem.columns, units, strict=True)
        }
    return ResistanceLaw(
        best=record(best),
        target=problem.target,
        columns=columns,
        front=[record(c) for c in chosen.front],
        baselines={k: record(c) for k, c in rivals.items()},
        evaluations=result.evaluations
        + chosen.evaluations
        + sum(c.form.evaluations for c in rivals.values()),
        seed=settings.seed,
        meaning=dict(meaning or {}),
        extra={
            "verdict": verdict,
            "settings": settings.to_dict(),
            "rows": len(problem.y),
            "independent_samples": chosen.independent_samples,
            "interrupted": result.interrupted,
            **(extra or {}),
        },
    )


def winner(found: Candidate, rivals: Mapping[str, Candidate]) -> tuple[Candidate, str]:
    """Return the best law and how it came to be that, of the search's best and rivals.

    A rival wins if its description is shorter, or if unseen rows refute the search's best:
    if it misses them by more than ``REFUTED`` times what it misses the seen ones by, and what
    the rival misses them by.
    """
    shorter = {k: c for k, c in rivals.items() if c.mdl < found.mdl}
    unseen, seen = found.error_test or 0.0, float(np.sqrt(found.form.error))
    truer = {
        k: c
        for k, c in rivals.items()
        if c.error_test is not None and unseen > REFUTED * max(c.error_test, seen, ROUNDING)
    }
    better = shorter or truer
    if not better:
        return found, "found by the search"
    name = min(better, key=lambda k: better[k].mdl)
    verdict = f"no better law than the rival {name!r} was found"
    if not shorter:
        verdict += (
            f": the search's own best misses the unseen rows by {unseen:.1%}, "
            f"the rival by {rivals[name].error_test:.1%}"
        )
    return rivals[name], verdict


def table_rivals(
    problem: Problem, test: Problem | None, n: float, settings: SearchSettings
) -> dict[str, Candidate]:
    """Return what every report on a table prints beside its law."""
    rivals: dict[str, Callable[[], Candidate]] = {
        "sparse_regression": lambda: sparse_rival(problem, test, n),
    }
    for j, name in enumerate(problem.columns):
        size = float(problem.X[:, j] @ problem.X[:, j])
        slope = float(problem.X[:, j] @ problem.y) / size if size else 1.0
        rivals[f"proportional_to_{name}"] = lambda name=name, slope=slope: fit_rival(  # type: ignore[misc]
            f"a*{name}", {"a": slope}, problem, settings, test=test, samples=n
        )
    found = {}
    for name, make in rivals.items():
        try:
            found[name] = make()
        except LawError:
            continue
    return found
