"""Design-space explorer: many circuits -> features -> fronts, indices, searches.

A study varies raw parameters or dimensionless groups. Groups, with R_c and C_slit fixed:
``theta = N^2 kappa``, ``kappa = R_c C_slit rate / window``, ``rho = R_open/R_c``,
``c = C_open/C_slit``. Sampling groups avoids counting the same curve many times.
Circuits are computed in chunks of which only the features are kept.
"""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.drive import Drive
from nanoslit.circuit.integrator import Tolerance
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.circuit.observables import features
from nanoslit.errors import CaseError, CircuitError, ConvergenceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nanoslit.circuit.configuration import Objective, Study
    from nanoslit.schema import Place

    Array = NDArray[np.float64]

__all__ = [
    "StudyResult",
    "check_study",
    "evaluate",
    "explore",
    "pareto_front",
]

CHUNK = 4096  # circuits at a time in a thread: 10 MB of curves
MATERIAL = ("r_c", "gamma", "c_slit", "q_max", "law")  # what the solved cells decide
SINGLE = ("depth", "height", "bulk_charge")  # numbers that all circuits share
SOLVED_BY = {
    "theta": "scan_rate", "kappa": "scan_rate", "rho": "r_open", "c": "c_open"
}  # fmt: skip


@dataclass
class StudyResult:
    """Samples and features of a study, one row per circuit.

    Attributes
    ----------
    samples, features : dict of ndarray, shape (samples,)
    feasible : ndarray of bool, shape (samples,)
        Whether all constraints hold.
    pareto : ndarray of int, optional
        Rows of the front of the objectives among the feasible circuits.
    first, total : ndarray, shape (features, variables), optional
        Sobol indices.
    """

    study: Study
    samples: dict[str, Array]
    features: dict[str, Array]
    feasible: NDArray[np.bool_]
    pareto: NDArray[np.int64] | None = None
    first: Array | None = None
    total: Array | None = None
    index_features: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


def check_study(study: Study, at: Place) -> None:
    """Complain about a plan whose parameters are missing or given twice.

    Raises
    ------
    CaseError
        With the file and key.
    """
    names = [v.name for v in study.variables]
    if not names:
        (at / "vary").fail("nothing varies", allowed="at least one table [vary.NAME]")
    given = set(study.fixed) | {k for k in ("scan_rate",) if study.scan_rate is not None}
    for group, raw in SOLVED_BY.items():
        if group in names and (raw in given or raw in names):
            (at / "vary" / group).fail(f"{group} decides {raw}, which is given, too")
    if "theta" in names and "kappa" in names:
        (at / "vary" / "kappa").fail("theta and kappa decide each other; keep one")
    twice = sorted(set(names) & given)
    if twice:
        (at / "vary" / twice[0]).fail(f"{twice[0]} is both fixed and varied")
    for key in ("slit_size", "concentration"):
        if key in names and not study.material:
            (at / "vary" / key).fail(
                f"{key} needs material = [RESULT.h5, ...] of several slit sizes, or the "
                "folder of a sweep"
            )
    if study.material:
        if "slit_size" not in names:
            (at / "vary" / "slit_size").fail("missing; material is for studies that vary it")
        decided = sorted(set(MATERIAL) & (set(names) | set(study.fixed)))
        if decided:
            place = at / ("vary" if decided[0] in names else "circuit") / decided[0]
            place.fail(f"material decides {decided[0]}, which is given, too")
    if study.method == "nsga2" and len(study.objectives) < 2:
        (at / "objectives").fail("a search needs at least two objectives")
    if "n_slits" not in study.fixed and "n_slits" not in names:
        (at / "circuit" / "n_slits").fail("missing key", allowed="the number of slits")


# --- from samples to circuits -------------------------------------------------------------
def _parameters(study: Study, samples: dict[str, Array]) -> dict[str, Any]:
    """Return the raw parameters of every sample: fixed, varied and solved from groups."""
    values: dict[str, Any] = {
        "lower": study.lower, "upper": study.upper, "scan_rate": study.scan_rate,
        **study.fixed, **samples,
    }  # fmt: skip
    count = len(next(iter(samples.values())))
    if study.material:
        from nanoslit.circuit.material import material_of

        material = material_of(study.material)
        given = {k: values.pop(k) for k in ("slit_size", "concentration") if k in values}
        numbers = material.at(**given)
        basis = values.setdefault("basis", "per depth")
        values |= material.in_basis(numbers, str(basis), values.get("depth"))
    values = {
        k: np.broadcast_to(v, (count,)) if _is_number(v) and k not in SINGLE else v
        for k, v in values.items()
    }
    values.setdefault("r_c", np.ones(count))
    values.setdefault("c_slit", np.ones(count))
    window = values["upper"] - values["lower"]
    r_c, c_slit = _first(values["r_c"]), _first(values["c_slit"])
    if "theta" in values:
        values["kappa"] = values.pop("theta") / np.asarray(values["n_slits"], float) ** 2
    if "kappa" in values:
        values["scan_rate"] = values.pop("kappa") * window / (r_c * c_slit)
    if "rho" in values:
        values["r_open"] = values.pop("rho") * r_c
    if "c" in values:
        values["c_open"] = values.pop("c") * c_slit
    if values["scan_rate"] is None:
        raise CaseError("scan_rate is neither given nor varied, nor theta or kappa")
    if np.any(window <= 0):
        raise CaseError("upper must be above lower in every circuit of the study")
    return values


def _is_number(value: Any) -> bool:
    return np.ndim(value) == 0 and isinstance(value, (int, float, np.floating, np.integer))


def _first(value: Any) -> Array:
    a = np.asarray(value, float)
    return a.mean(axis=1) if a.ndim == 2 else a


def evaluate(
    study: Study, samples: dict[str, Array], *, threads: int | None = None
) -> dict[str, Array]:
    """Return the features of a batch of samples, computed in chunks.

    Parameters
    ----------
    study : Study
    samples : dict of ndarray, shape (samples,)
        Values of the varied parameters.
    threads : int, optional
        Of the compiled back end.

    Returns
    -------
    dict of ndarray, shape (samples,)
    """
    values = _parameters(study, samples)
    count = len(values["scan_rate"])
    slits = np.broadcast_to(np.rint(np.asarray(values.pop("n_slits"), float)), (count,))
    parts = [
        rows[first : first + CHUNK]
        for rows in (np.flatnonzero(slits == n) for n in np.unique(slits))
        for first in range(0, len(rows), CHUNK)
    ]
    threads = threads or len(os.sched_getaffinity(0))
    # each chunk in a thread of its own, or, if there are few, each with several
    inside = max(1, threads // len(parts))

    def work(part: NDArray[np.int64]) -> dict[str, Array]:
        chosen = {k: _rows(v, part, count) for k, v in values.items()}
        try:
            return _chunk(study, int(slits[part[0]]), chosen, inside)
        except (CircuitError, ConvergenceError) as error:
            raise type(error)(_in_study(str(error), part, samples)) from None

    out: dict[str, Array] = {}
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        for part, found in zip(parts, pool.map(work, parts), strict=True):
            for key, value in found.items():
                out.setdefault(key, np.empty(count))[part] = value
    return out


def _in_study(message: str, part: NDArray[np.int64], samples: dict[str, Array]) -> str:
    """Return a message about a circuit of a chunk with its number in the study."""
    found = re.search(r"circuit (\d+)", message)
    if found is None:
        return message
    row = int(part[int(found.group(1))])
    values = ", ".join(f"{k} = {v[row]:.4g}" for k, v in samples.items())
    start, end = found.span()
    return f"{message[:start]}circuit {row} (with {values}){message[end:]}"


def _rows(value: Any, part: NDArray[np.int64], count: int) -> Any:
    if isinstance(value, np.ndarray) and value.shape[:1] == (count,):
        return value[part]
    return value


def _chunk(
    study: Study, n: int, values: dict[str, Any], threads: int | None
) -> dict[str, Array]:
    lower, upper, rate = (values.pop(k) for k in ("lower", "upper", "scan_rate"))
    cycle = study.cycle
    cycles = 1 if cycle == "periodic" else int(cycle)
    drive = Drive.sweeps(lower, upper, rate, cycles, lower.copy())
    circuit = NanoCircuit(n, **values)
    response = circuit.simulate(
        drive, cycle=cycle, points=study.points, threads=threads,
        tolerance=Tolerance(study.tolerance, study.tolerance),
    )  # fmt: skip
    return features(response)


# --- studies ------------------------------------------------------------------------------
def explore(
    study: Study,
    *,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> StudyResult:
    """Run a study.

    Parameters
    ----------
    study : Study
        From :func:`nanoslit.circuit.configuration.read_study`.
    threads : int, optional
    progress : callable, optional
        Called with a line of text now and then.

    Returns
    -------
    StudyResult
    """
    say = progress or (lambda text: None)
    if study.method == "sensitivity":
        result = _sensitivity(study, threads, say)
    elif study.method == "nsga2":
        result = _search(study, threads, say)
    else:
        unit = _design(study)
        say(f"{len(unit)} circuits")
        samples = _named(study, unit)
        result = _result(study, samples, evaluate(study, samples, threads=threads))
    if len(study.objectives) >= 2:
        result.pareto = _front(study, result)
    result.options = {
        "method": study.method, "seed": study.seed, "cycle": study.cycle,
        "fixed": {k: np.asarray(v).tolist() for k, v in study.fixed.items()},
        "lower": study.lower, "upper": study.upper, "scan_rate": study.scan_rate,
        "tolerance": study.tolerance, "points": study.points,
    }  # fmt: skip
    return result


def _named(study: Study, unit: Array) -> dict[str, Array]:
    return {v.name: np.asarray(v.at(unit[:, i])) for i, v in enumerate(study.variables)}


def _design(study: Study) -> Array:
    """Return points of the unit cube, (samples, variables)."""
    from scipy.stats import qmc

    d = len(study.variables)
    if study.method == "grid":
        axes = [np.linspace(0, 1, v.levels) for v in study.variables]
        return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    if study.method == "latin-hypercube":
        return np.asarray(qmc.LatinHypercube(d, rng=study.seed).random(study.samples))
    power = int(np.ceil(np.log2(max(study.samples, 2))))
    points = qmc.Sobol(d, rng=study.seed).random_base2(power)
    return np.asarray(points[: study.samples])


def _result(study: Study, samples: dict[str, Array], values: dict[str, Array]) -> StudyResult:
    feasible = _violation(study, values) == 0
    return StudyResult(study, samples, values, feasible)


def _violation(study: Study, values: dict[str, Array]) -> Array:
    total = np.zeros(len(next(iter(values.values()))))
    for constraint in study.constraints:
        total = total + constraint.violation(values[constraint.feature])
    return total


def _sensitivity(study: Study, threads: int | None, say: Callable[[str], None]) -> StudyResult:
    """Sobol indices of all features by Saltelli's scheme (SciPy).

    ``samples`` circuits in all: n (variables + 2) with n the largest power of 2.
    """
    from scipy.stats import sobol_indices, uniform

    d = len(study.variables)
    n = 2 ** int(np.floor(np.log2(max(study.samples / (d + 2), 2))))
    say(f"{n * (d + 2)} circuits for Sobol indices of {d} variables")
    parts: list[tuple[dict[str, Array], dict[str, Array]]] = []
    used: list[str] = []

    def function(x: Array) -> Array:
        samples = _named(study, x.reshape(d, -1).T)
        values = evaluate(study, samples, threads=threads)
        parts.append((samples, values))
        if not used:
            used.extend(k for k, v in values.items() if np.isfinite(v).all())
        say(f"{sum(len(p[1]['area']) for p in parts)} circuits done")
        rows = np.stack([_finite(values[k]) for k in used])
        return rows.reshape(len(used), *x.shape[1:])

    with np.errstate(divide="ignore", invalid="ignore"):  # features that never vary
        indices = sobol_indices(
            func=function, n=n, dists=[uniform()] * d, rng=np.random.default_rng(study.seed)
        )
    samples = {k: np.concatenate([p[0][k] for p in parts]) for k in parts[0][0]}
    values = {k: np.concatenate([p[1][k] for p in parts]) for k in parts[0][1]}
    result = _result(study, samples, values)
    result.first, result.total = indices.first_order, indices.total_order
    result.index_features = tuple(used)
    return result


def _finite(values: Array) -> Array:
    bad = ~np.isfinite(values)
    if bad.any():
        raise CircuitError(
            f"a feature is not a number in {int(bad.sum())} circuits of the study; narrow "
            "the ranges"
        )
    return values


# --- fronts -------------------------------------------------------------------------------
def pareto_front(a: Array, b: Array) -> NDArray[np.int64]:
    """Return the rows that no other row beats in both a and b (both to be large).

    Sorted by falling a; sorting and a running maximum, so a million rows are quick.
    """
    order = np.lexsort((-b, -a))
    best = np.maximum.accumulate(b[order])
    new = np.concatenate([[True], b[order][1:] > best[:-1]])
    return np.asarray(order[new])


def _scores(objectives: tuple[Objective, ...], values: dict[str, Array]) -> Array:
    signs = [1.0 if o.goal == "maximize" else -1.0 for o in objectives]
    columns = [s * values[o.feature] for s, o in zip(signs, objectives, strict=True)]
    return np.stack(columns, axis=1)


def _front(study: Study, result: StudyResult) -> NDArray[np.int64]:
    rows = np.flatnonzero(result.feasible)
    score = _scores(study.objectives, result.features)[rows]
    good = np.isfinite(score).all(axis=1)
    rows, score = rows[good], score[good]
    if not len(rows):
        return np.asarray(rows)
    if score.shape[1] == 2:
        return np.asarray(rows[pareto_front(score[:, 0], score[:, 1])])
    return np.asarray(rows[_front_of_many(score)])


def _front_of_many(score: Array) -> NDArray[np.int64]:
    """Return the front of three or more objectives: survivors of pairwise tests."""
    order = np.argsort(-score.sum(axis=1), kind="stable")
    kept: list[int] = []
    for i in order:
        others = score[kept]
        if not np.any(np.all(others >= score[i], axis=1) & np.any(others > score[i], axis=1)):
            kept.append(int(i))
    return np.array(kept, np.int64)


# --- search -------------------------------------------------------------------------------
def _search(study: Study, threads: int | None, say: Callable[[str], None]) -> StudyResult:
    """NSGA-II of DEAP on the batched model; constraints by penalty."""
    import random

    try:
        from deap import base, tools
    except ImportError:
        from nanoslit.errors import MissingExtraError

        raise MissingExtraError(
            "method = 'nsga2' needs DEAP: install nanoslit[discovery]"
        ) from None

    signs = tuple(1.0 if o.goal == "maximize" else -1.0 for o in study.objectives)

    class Fitness(base.Fitness):  # type: ignore[misc]
        weights = signs

    class Individual(list):  # type: ignore[type-arg]
        def __init__(self, genes: Any) -> None:
            super().__init__(genes)
            self.fitness = Fitness()

    d = len(study.variables)
    size = max(8, 4 * (study.samples // (4 * (study.generations + 1))))
    unit = np.random.default_rng(study.seed).random((size, d))
    tables: list[tuple[dict[str, Array], dict[str, Array]]] = []

    def judge(people: list[Any]) -> None:
        samples = _named(study, np.array(people, float))
        values = evaluate(study, samples, threads=threads)
        tables.append((samples, values))
        bad = _violation(study, values)
        score = np.stack([values[o.feature] for o in study.objectives], axis=1)
        worst = np.nanmax(np.abs(score), axis=0) + 1.0
        score = np.where(np.isfinite(score), score, -np.array(signs) * worst * 1e6)
        score = score - np.array(signs) * worst * 1e3 * bad[:, None]
        for person, row in zip(people, score, strict=True):
            person.fitness.values = tuple(row.tolist())

    before = random.getstate()
    random.seed(study.seed)
    try:
        people = [Individual(x) for x in unit.tolist()]
        judge(people)
        people = tools.selNSGA2(people, size)
        for generation in range(study.generations):
            children = [Individual(p) for p in tools.selTournamentDCD(people, size)]
            for person, child in zip(people, children, strict=True):
                del child.fitness.values
                assert person.fitness.valid
            for one, two in zip(children[::2], children[1::2], strict=True):
                tools.cxSimulatedBinaryBounded(one, two, eta=15.0, low=0.0, up=1.0)
                for child in (one, two):
                    tools.mutPolynomialBounded(child, eta=20.0, low=0.0, up=1.0, indpb=1.0 / d)
            judge(children)
            people = tools.selNSGA2(people + children, size)
            say(f"generation {generation + 1} of {study.generations}")
    finally:
        random.setstate(before)
    samples = {k: np.concatenate([t[0][k] for t in tables]) for k in tables[0][0]}
    values = {k: np.concatenate([t[1][k] for t in tables]) for k in tables[0][1]}
    return _result(study, samples, values)
