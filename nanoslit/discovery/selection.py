"""From an archive to a law: polish, prune, simplify, refit, choose, compare.

The choice is by description length, in nats,
``n/2 ln(misfit) + p/2 ln(n) + size ln(symbols)`` with n independent samples, p fitted
numbers and ``symbols`` operators, columns and constants to choose each node from: a
longer law must pay for the number of rivals of its length. BIC is printed beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery import forms, formula
from nanoslit.discovery.consistency import constant_units
from nanoslit.discovery.dimensions import unit_text
from nanoslit.discovery.forms import Form
from nanoslit.discovery.island import Individual, Laboratory
from nanoslit.discovery.law import LawForm
from nanoslit.discovery.packed import PackedData
from nanoslit.discovery.problem import Problem
from nanoslit.discovery.tokens import (
    ADD,
    BINARY,
    CONSTANT,
    DIV,
    MAX_TOKENS,
    MUL,
    PRIVATE,
    SUB,
    UNARY,
    VARIABLE,
)
from nanoslit.errors import LawError

__all__ = ["Candidate", "Selection", "law_form", "select", "sparse_regression"]

NOISE_FLOOR = 1e-26  # mean square misfit below which two laws are both exact


@dataclass(frozen=True)
class Candidate:
    """A fitted form with its figures of merit."""

    form: Form
    mdl: float
    bic: float
    error_test: float | None = None
    note: str = ""
    pole: str = ""
    block_errors: NDArray[np.float64] | None = None


@dataclass
class Selection:
    """Outcome of :func:`select`."""

    best: Candidate
    front: list[Candidate]
    evaluations: int
    independent_samples: float
    extra: dict[str, Any] = field(default_factory=dict)


def _scores(
    form: Form, n: float, symbols: int, structure: int | None = None
) -> tuple[float, float]:
    error = max(form.error, NOISE_FLOOR)
    size = len(form.tokens) if structure is None else structure
    fit = 0.5 * n * math.log(error)
    p = form.parameters
    mdl = fit + 0.5 * p * math.log(n) + size * math.log(symbols)
    return mdl, 2 * fit + (p + size) * math.log(n)


def with_scale(laboratory: Laboratory, individual: Individual) -> Form:
    """Return the form ``a f + b`` with the scale (and offset) as constants."""
    C = individual.constants.copy()
    _, _, A = laboratory.data.fit(individual.tokens, C, 0)
    tokens, rows = individual.tokens.tolist(), list(C)
    scale, offset, own = laboratory.data.has_scale_offset_own
    sets = laboratory.problem.sets
    leaf = PRIVATE if own and sets > 1 else CONSTANT
    for column, operator, fitted in ((0, MUL, scale), (1, ADD, scale and offset)):
        if not fitted:
            continue
        value = np.resize(A[:, column], sets)
        tokens = [leaf, *tokens, operator]
        rows = [value, *rows, np.zeros(sets)]
    return _renamed(np.array(tokens, dtype=np.int16), np.array(rows))


def _renamed(tokens: Any, constants: Any) -> Form:
    count = int(np.sum(tokens <= PRIVATE))
    return Form(tokens, constants, tuple(f"c{k}" for k in range(count)))


def polish(
    laboratory: Laboratory, individual: Individual, steps: int
) -> tuple[Individual, int]:
    """Fit the constants of an individual further."""
    C = individual.constants.copy()
    error, count, _ = laboratory.data.fit(individual.tokens, C, steps)
    if error >= individual.error:
        return individual, count
    better = Individual(individual.tokens, C, individual.cdim, individual.hash, error)
    return better, count


def reductions(laboratory: Laboratory, individual: Individual) -> list[Individual]:
    """Return the consistent expressions with a node or operand fewer, or a constant for it."""
    tokens, C, cdim = individual.tokens, individual.constants, individual.cdim
    spans = _spans(tokens)
    found: dict[int, Individual] = {}
    for t, (lo, parts) in enumerate(spans):
        options = [(tokens[a : b + 1], C[a : b + 1], cdim[a : b + 1]) for a, b in parts]
        if parts or tokens[t] >= VARIABLE:
            one = np.ones((1, C.shape[1]))
            options.append((np.array([CONSTANT], dtype=np.int16), one, np.zeros(1, int)))
        if tokens[t] == PRIVATE:
            mean = np.full((1, C.shape[1]), C[t].mean())
            options.append((np.array([CONSTANT], dtype=np.int16), mean, cdim[t : t + 1]))
        for part, constants, dims in options:
            new = np.concatenate([tokens[:lo], part, tokens[t + 1 :]])
            newC = np.concatenate([C[:lo], constants, C[t + 1 :]])
            newD = np.concatenate([cdim[:lo], dims, cdim[t + 1 :]])
            hash_ = laboratory.annotate(new, newD)
            if hash_ is not None and hash_ not in found and hash_ != individual.hash:
                found[hash_] = Individual(new, newC, newD, hash_, math.inf)
    return list(found.values())


def expansions(laboratory: Laboratory, individual: Individual) -> list[Individual]:
    """Return the consistent expressions with a factor ``c - column`` more, or in place.

    Laws are full of such factors, and chance needs long to build one with a good constant.
    """
    d, tokens, C, cdim = (
        laboratory.dimensions,
        individual.tokens,
        individual.constants,
        individual.cdim,
    )
    found: dict[int, Individual] = {}
    if SUB not in laboratory.space.ops:
        return []
    allowed = [None, *(o for o in (MUL, DIV) if o in laboratory.space.ops)]
    free = laboratory.settings.constant_units == "free"
    for v in range(len(laboratory.problem.columns)):
        factor = [PRIVATE if laboratory.space.private else CONSTANT, VARIABLE + v, SUB]
        size = float(np.mean(laboratory.problem.X[:, v]))
        for t, (lo, _) in enumerate(_spans(tokens)):
            for operator in allowed:
                first = lo if operator is None else t + 1
                part = factor if operator is None else [*factor, operator]
                new = np.concatenate([tokens[:first], part, tokens[t + 1 :]]).astype(np.int16)
                if len(new) > MAX_TOKENS:
                    continue
                rows = np.zeros((len(part), C.shape[1]))
                rows[0] = 2 * size
                dims = np.zeros(len(part), dtype=cdim.dtype)
                dims[0] = d.variables[v] if free else 0
                newC = np.concatenate([C[:first], rows, C[t + 1 :]])
                newD = np.concatenate([cdim[:first], dims, cdim[t + 1 :]])
                hash_ = laboratory.annotate(new, newD)
                if hash_ is not None and hash_ not in found and hash_ != individual.hash:
                    found[hash_] = Individual(new, newC, newD, hash_, math.inf)
    return list(found.values())


def grow(
    laboratory: Laboratory, people: Sequence[Individual], budget: int
) -> tuple[list[Individual], int]:
    """Return the best expansions of each of the smallest expressions, and evaluations."""
    spent, kept = 0, []
    seen: set[int] = set()
    for individual in sorted(people, key=lambda i: i.size):
        options = [o for o in expansions(laboratory, individual) if o.hash not in seen]
        seen |= {o.hash for o in options}
        tried = []
        for option in options:
            if spent >= budget:
                break
            fitted, count = polish(laboratory, option, 4)
            spent += count
            tried.append(fitted)
        for option in sorted(tried, key=lambda i: i.error)[:3]:
            fitted, count = polish(laboratory, option, 10)
            spent += count
            if math.isfinite(fitted.error):
                kept.append(fitted)
    return kept, spent


def _spans(tokens: Any) -> list[tuple[int, list[tuple[int, int]]]]:
    """Return for each node its first token and its operands' (first, last)."""
    stack: list[tuple[int, int]] = []
    spans = []
    for t, token in enumerate(tokens.tolist()):
        take = 0 if token < BINARY or token >= VARIABLE else 2 if token < UNARY else 1
        parts = [stack.pop() for _ in range(take)][::-1]
        lo = parts[0][0] if parts else t
        spans.append((lo, parts))
        stack.append((lo, t))
    return spans


def _score_many(laboratory: Laboratory, people: Sequence[Individual]) -> list[float]:
    T, N, C, _, _ = laboratory.rows(len(people))
    for k, i in enumerate(people):
        n = len(i.tokens)
        T[k, :n], C[k, :n], N[k] = i.tokens, i.constants, n
    errors, _ = laboratory.data.score(T, N, C)
    return [float(e) for e in errors]


def prune(
    laboratory: Laboratory, individual: Individual, n: float, budget: int
) -> tuple[Individual, int]:
    """Remove nodes one after the other while the description gets shorter."""
    spent = 0
    symbols = symbol_count(laboratory)

    def length(i: Individual) -> float:
        p = int(np.sum(i.tokens == CONSTANT)) + laboratory.problem.sets * int(
            np.sum(i.tokens == PRIVATE)
        )
        return (
            0.5 * n * math.log(max(i.error, NOISE_FLOOR))
            + 0.5 * p * math.log(n)
            + len(i.tokens) * math.log(symbols)
        )

    current = individual
    while spent < budget:
        options = reductions(laboratory, current)
        if not options:
            break
        tried = []
        for option in options:
            fitted, count = polish(laboratory, option, 3)
            spent += count
            tried.append(fitted)
            if spent >= budget:
                break
        tried = [i for i in tried if math.isfinite(i.error)]
        if not tried:
            break
        tried.sort(key=length)
        finalists = []
        for option in tried[:3]:
            fitted, count = polish(laboratory, option, 15)
            spent += count
            finalists.append(fitted)
        best = min(finalists, key=length)
        if length(best) >= length(current):
            break
        current = best
    return current, spent


def symbol_count(laboratory: Laboratory) -> int:
    """Return how many symbols a node can be."""
    return len(laboratory.settings.operators) + len(laboratory.problem.columns) + 1


def simplify(form: Form, columns: Sequence[str], data: PackedData, steps: int = 20) -> Form:
    """Let sympy merge constants; keep the shortest equivalent form, refitted.

    Forms with private constants keep their shape: merging would mix the classes.
    """
    if bool(np.any(form.tokens == PRIVATE)) and form.constants.shape[1] > 1:
        return form
    import sympy

    aliases = [f"v{j}_" for j in range(len(columns))]
    symbols = {a: sympy.Symbol(a, positive=None, real=True) for a in aliases}
    try:
        raw = sympy.sympify(form.text(aliases), locals=symbols)
        variants = [raw, sympy.expand(raw), sympy.factor_terms(raw)]
        variants.append(sympy.factor_terms(sympy.expand(raw)))
    except (TypeError, ValueError, RecursionError, AttributeError, OverflowError):
        return form
    best = form
    limit = form.error * (1 + 1e-6) + 1e-28
    for variant in variants:
        try:
            new = Form.from_text(str(variant), aliases, sets=form.constants.shape[1])
        except LawError:
            continue
        if len(new.tokens) > MAX_TOKENS or new.parameters > form.parameters:
            continue
        new = forms.fit(new, data, steps)
        shorter = (new.parameters, new.complexity) < (best.parameters, best.complexity)
        if new.error <= limit and shorter:
            best = replace(new, evaluations=form.evaluations)
    return best


def without_offset(form: Form, data: PackedData, n: float, symbols: int) -> Form:
    """Drop a leading ``+ b`` if the description gets shorter."""
    if form.tokens[-1] not in (ADD, SUB) or form.tokens[0] not in (CONSTANT, PRIVATE):
        return form
    lo, parts = _spans(form.tokens)[-1]
    first = parts[0]
    if first != (0, 0):
        return form
    reduced = _renamed(form.tokens[1:-1], form.constants[1:-1])
    reduced = forms.fit(reduced, data, 20)
    keep = _scores(form, n, symbols)[0] <= _scores(reduced, n, symbols)[0]
    return form if keep else reduced


def select(
    laboratory: Laboratory,
    front: Sequence[Individual],
    *,
    test: Problem | None = None,
    ordered: bool = False,
    budget: int = 10_000,
) -> Selection:
    """Choose a law out of an archive.

    Parameters
    ----------
    laboratory : Laboratory
    front : sequence of Individual
        Best of each complexity.
    test : Problem, optional
        Held-out rows of the same columns and data sets.
    ordered : bool
        Whether rows follow one another in time (then neighbouring residuals are not
        independent, and fewer samples count).
    budget : int
        Evaluations that may be spent on polishing and pruning.

    Raises
    ------
    LawError
        If no expression could be evaluated on the data.
    """
    people = pareto(front)
    if not people:
        raise LawError(
            "no expression of the given operators is finite on these data; look at zeros "
            "and signs of the columns, or allow other operators"
        )
    settings = laboratory.settings
    data = forms.data_for_forms(laboratory.problem, settings)
    symbols = symbol_count(laboratory)
    spent = 0
    polished = []
    for individual in people:
        better, count = polish(laboratory, individual, 10)
        spent += count
        polished.append(better)
    most_exact = min(polished, key=lambda i: i.error)
    tau = 1.0
    if ordered:
        tau = _residual_time(laboratory, most_exact, data)
    n = max(data.length / tau, 4.0)

    def rough(i: Individual) -> float:
        p = int(np.sum(i.tokens <= PRIVATE))
        return (
            0.5 * n * math.log(max(i.error, NOISE_FLOOR))
            + 0.5 * p * math.log(n)
            + len(i.tokens) * math.log(symbols)
        )

    grown, count = grow(laboratory, polished, (budget - spent) // 2)
    spent += count
    pool = [*polished, *grown]
    for individual in sorted(pool, key=rough)[:4]:
        left = budget - spent
        if left <= 0:
            break
        pruned, count = prune(laboratory, individual, n, left)
        spent += count
        pool.append(pruned)
    candidates = []
    for individual in _best_per_size(pool):
        form = forms.fit(with_scale(laboratory, individual), data, 20, tau)
        if settings.offset:
            form = without_offset(form, data, n, symbols)
        form = simplify(form, laboratory.problem.columns, data)
        form = forms.fit(form, data, 30, tau)
        if not math.isfinite(form.error) or form.error >= 1e29:
            continue
        mdl, bic = _scores(form, n, symbols)
        where = _pole(form, laboratory.problem, test)
        candidates.append(Candidate(form, mdl, bic, _test_error(form, test), pole=where))
    if not candidates:
        raise LawError("no expression could be fitted to the data")
    # a curve through a pole between two points of a trace is no law
    sound = [c for c in candidates if not (ordered and c.pole == "in the data")]
    best = min(sound or candidates, key=lambda c: (c.mdl, c.form.complexity))
    return Selection(best, _front(candidates), spent, n)


def _pole(form: Form, problem: Problem, test: Problem | None) -> str:
    """Return where the form has a pole, on the training and the held-out rows."""
    X, groups = problem.X, problem.groups
    if test is not None and test.sets == problem.sets:
        X, groups = np.concatenate([X, test.X]), np.concatenate([groups, test.groups])
    return forms.pole(form, X, groups)


def _residual_time(laboratory: Laboratory, i: Individual, data: PackedData) -> float:
    form = forms.fit(with_scale(laboratory, i), data, 5, 1.0)
    values = form.predict(
        laboratory.problem.X[data.order], laboratory.problem.groups[data.order]
    )
    residual = (data.arrays.y - values) * np.sqrt(data.arrays.w)
    if not np.all(np.isfinite(residual)):
        return 1.0
    return forms.autocorrelation_time(residual, data)


def pareto(front: Sequence[Individual]) -> list[Individual]:
    """Return those that no smaller individual matches."""
    kept: list[Individual] = []
    for i in sorted(front, key=lambda i: (i.size, i.error)):
        if not kept or i.error < kept[-1].error * (1 - 1e-9):
            kept.append(i)
    return kept


def _best_per_size(pool: Sequence[Individual]) -> list[Individual]:
    best: dict[int, Individual] = {}
    for i in pool:
        if i.size not in best or i.error < best[i.size].error:
            best[i.size] = i
    return pareto(list(best.values()))


def _front(candidates: Sequence[Candidate]) -> list[Candidate]:
    kept: list[Candidate] = []
    for c in sorted(candidates, key=lambda c: (c.form.complexity, c.form.error)):
        if not kept or c.form.error < kept[-1].form.error:
            kept.append(c)
    return kept


def _test_error(form: Form, test: Problem | None) -> float | None:
    if test is None:
        return None
    with np.errstate(all="ignore"):
        residual = test.y - form.predict(test.X, test.groups)
    per_set = [
        np.sum(residual[test.groups == g] ** 2) / np.sum(test.y[test.groups == g] ** 2)
        for g in np.unique(test.groups)
    ]
    mean = float(np.mean(per_set))
    return math.sqrt(mean) if math.isfinite(mean) else None


def law_form(
    candidate: Candidate, problem: Problem, cases: Sequence[str], note: str = ""
) -> LawForm:
    """Return the record of a candidate for ``LAW.json``."""
    form = candidate.form
    units = [""] * len(form.names)
    if problem.units is not None:
        units = [unit_text(u) for u in constant_units(form, problem.units, problem.target_unit)]

    def number(k: int, g: int) -> dict[str, float | None]:
        name = form.names[k]
        entry = {"value": form.value(name, g), "standard_error": form.standard_error(name, g)}
        if candidate.block_errors is not None:
            entry["block_error"] = float(candidate.block_errors[k, g])
        return entry

    constants: dict[str, Any] = {}
    for k, (name, unit) in enumerate(zip(form.names, units, strict=True)):
        if form.tokens[form.leaves[k]] == PRIVATE and len(cases) > 1:
            constants[name] = {
                "unit": unit,
                "per_case": {case: number(k, g) for g, case in enumerate(cases)},
            }
        else:
            constants[name] = {"unit": unit, **number(k, 0)}
    expression = tidy(form.text(problem.columns), problem.columns)
    extra = {
        "template": tidy(form.text(problem.columns, symbolic=True), problem.columns),
        "bic": candidate.bic,
        "mdl": candidate.mdl,
        "python": expression,
        "pole": candidate.pole or None,
    }
    if note:
        extra["note"] = note
    return LawForm(
        expression,
        constants,
        form.complexity,
        math.sqrt(form.error),
        candidate.error_test,
        latex(expression),
        extra,
    )


def tidy(text: str, columns: Sequence[str]) -> str:
    """Return the text without needless parentheses, nothing computed."""
    import ast

    tree = formula.parse(text)
    return ast.unparse(tree)


def latex(expression: str) -> str:
    """Return LaTeX with constants to four digits."""
    import sympy

    names = formula.names_of(formula.parse(expression))
    symbols = {n: sympy.Symbol(n, real=True) for n in names}
    value = sympy.sympify(expression, locals=symbols)
    rounded = value.xreplace({f: sympy.Float(f, 4) for f in value.atoms(sympy.Float)})
    return str(sympy.latex(rounded))


def sparse_regression(
    problem: Problem, degree: int = 3, threshold: float = 0.0
) -> list[tuple[tuple[int, ...], float]]:
    """Return the monomials and coefficients that backward elimination keeps.

    All monomials up to ``degree`` in the columns. Of all single terms and pairs the best
    by BIC starts; the term that lowers BIC most enters or leaves until none does. (Plain
    thresholding fails on traces, whose monomials are nearly collinear.)

    Returns
    -------
    list of (column indices, coefficient)
    """
    from itertools import combinations_with_replacement

    X, y = problem.X, problem.y
    w = np.ones(len(y)) if problem.weights is None else problem.weights
    terms = [
        c
        for d in range(1, degree + 1)
        for c in combinations_with_replacement(range(X.shape[1]), d)
    ]
    terms = terms[: max(1, len(y) // 3)]
    columns = np.stack([np.prod(X[:, list(t)], axis=1) for t in terms], axis=1)
    root = np.sqrt(w)
    size = np.linalg.norm(columns * root[:, None], axis=0)
    size[size == 0] = 1.0
    B, z = columns * root[:, None] / size, y * root
    G, v, zz = B.T @ B, B.T @ z, float(z @ z)
    keep = list(_best_pair(G, v, zz))
    least = _subset_bic(B, z, keep)
    while True:
        options = [[*keep, k] for k in range(len(terms)) if k not in keep]
        options += [[k for k in keep if k != j] for j in keep if len(keep) > 1]
        found = [_subset_bic(B, z, o) for o in options]
        if not found or min(found) >= least or len(keep) > 12:
            break
        least = min(found)
        keep = options[int(np.argmin(found))]
    c, *_ = np.linalg.lstsq(B[:, keep], z, rcond=1e-12)
    return [(terms[k], float(x / size[k])) for k, x in zip(keep, c, strict=True)]


def _best_pair(G: Any, v: Any, zz: float) -> tuple[int, ...]:
    """Return the pair of normalised columns that leaves the least squares."""
    if len(v) == 1:
        return (0,)
    determinant = np.maximum(1.0 - G**2, 1e-10)
    gain = (v[:, None] ** 2 + v[None] ** 2 - 2 * G * np.outer(v, v)) / determinant
    np.fill_diagonal(gain, -np.inf)
    a, b = np.unravel_index(int(np.argmax(gain)), gain.shape)
    return (int(a), int(b))


def _subset_bic(B: Any, z: Any, keep: list[int]) -> float:
    c, *_ = np.linalg.lstsq(B[:, keep], z, rcond=1e-12)
    rss = float(np.sum((z - B[:, keep] @ c) ** 2))
    rss = max(rss, NOISE_FLOOR * float(z @ z))
    return len(z) * math.log(rss) + 2 * len(keep) * math.log(len(z))
