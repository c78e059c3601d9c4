"""The trans-slit resistance law from traces: one law, constants private to each opening.

Trained on the charging half of the last cycle, tested on the discharging half and on
held-out cases. The paper's form (Zhan et al. 2021, eqs. 1-2) is one of the rivals.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery import forms
from nanoslit.discovery.dataset import OpeningData, resistance_unit
from nanoslit.discovery.dimensions import exponents
from nanoslit.discovery.discover import choose, fit_rival, make_law, search_problem, winner
from nanoslit.discovery.forms import Form
from nanoslit.discovery.islands import SearchResult
from nanoslit.discovery.law import RESISTANCE_COLUMNS, RESISTANCE_TARGET, ResistanceLaw
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.selection import Candidate, Selection
from nanoslit.discovery.tokens import CONSTANT, FIXED, PRIVATE, VARIABLE
from nanoslit.errors import LawError
from nanoslit.parallel import Communicator

__all__ = ["ResistanceOptions", "discover_resistance", "resistance_rivals"]

VOLTAGES = ("mid", "electrochemical", "counterion")
GOVERNORS = ("outer", "inner", "mean")
CONDITION_LIMIT = 1e6
CHI2_95 = 3.841458820694124
RATES = ("V", "dQdt_outer", "dQdt_inner", "dIdt", "t")
SALT = ("S_outer", "S_inner", "S_mean", "I_salt")


@dataclass(frozen=True)
class ResistanceOptions:
    """Conventions of a discovery from traces.

    Parameters
    ----------
    voltage : {"mid", "electrochemical", "counterion"}
        Potential read in the middle of the slit, or mean of the ions' electrochemical
        potentials (over charge), or that of the ions which the electrode attracts and
        which carry nearly all of the current once a slit is charged.
    charge : {"auto", "q", "X"}
        Charge columns offered to the search. ``auto``: X if the cases differ in window or
        scan rate or slit size, else q.
    salt : bool
        Offer the slits' ion content and the diffusion current as well. A circuit cannot
        follow such a law; the rivals that use them are fitted and reported in any case.
    governors : tuple of str
        Slits whose charge is offered; all three compete by default.
    """

    voltage: str = "mid"
    charge: str = "auto"
    salt: bool = False
    governors: tuple[str, ...] = GOVERNORS

    def __post_init__(self) -> None:
        if self.voltage not in VOLTAGES:
            raise LawError(f"voltage = {self.voltage!r} must be one of {VOLTAGES}")
        if self.charge not in ("auto", "q", "X"):
            raise LawError(f"charge = {self.charge!r} must be 'auto', 'q' or 'X'")
        if not self.governors or set(self.governors) - set(GOVERNORS):
            raise LawError(f"governors {self.governors} must be out of {GOVERNORS}")


def pool(
    sets: Sequence[OpeningData],
    columns: Sequence[str],
    voltage: str,
    half: str,
    labels: Sequence[int] | None = None,
) -> Problem:
    """Return the charging or discharging rows of all data sets as one problem.

    Openings with equal labels own their constants together; by default each its own.
    """
    masks = [s.charging if half == "charging" else ~s.charging for s in sets]
    X = [
        np.stack([s.table[c][m] for c in columns], axis=1)
        for s, m in zip(sets, masks, strict=True)
    ]
    y = [s.table[voltage][m] for s, m in zip(sets, masks, strict=True)]
    labels = range(len(y)) if labels is None else labels
    groups = np.concatenate([np.full(len(v), g) for g, v in zip(labels, y, strict=True)])
    return Problem(
        tuple(columns),
        np.concatenate(X),
        np.concatenate(y),
        groups.astype(np.int64),
        units=tuple(resistance_unit(c) for c in columns),
        target_unit=exponents("V"),
        target=RESISTANCE_TARGET,
    )


def resistance_rivals(
    train: Problem,
    test: Problem | None,
    settings: SearchSettings,
    samples: float,
    kind: str,
) -> dict[str, Candidate]:
    """Fit the paper's law and its rivals, R_c private to each data set.

    Parameters
    ----------
    train, test : Problem
        With the columns I, dIdt and the charge columns of all three governors.
    settings : SearchSettings
    samples : float
        Independent samples.
    kind : {"q", "X"}
        Charge columns.
    """
    formulas: dict[str, tuple[str, dict[str, float]]] = {
        "constant_resistance": ("R_c*I", {}),
        "resistance_and_inductance": ("R_c*I + L*dIdt", {"L": 0.0}),
    }
    for g in GOVERNORS:
        q = f"{kind}_{g}"
        formulas |= {
            f"paper_{g}": (f"R_c*I*(1 - gamma*{q})", {"gamma": 0.3}),
            f"rational_{g}": (f"R_c*I/(1 + b*{q})", {"b": 0.5}),
            f"exponential_{g}": (f"R_c*I*exp(-(b*{q}))", {"b": 0.5}),
            f"even_square_{g}": (f"R_c*I/(1 + b*{q}**2)", {"b": 0.5}),
            f"donnan_{g}": (f"R_c*I/sqrt(1 + (b*{q})**2)", {"b": 1.0}),
            f"donnan_bulk_{g}": (f"R_c*I/sqrt(1 + X_{g}**2)", {}),
        }
    if "S_mean" in train.columns:
        formulas |= {
            "ion_content": ("R_c*I/S_mean", {}),
            "ion_content_and_salt": ("R_c*(I + beta*X_mean*I_salt)/S_mean", {"beta": 1.0}),
        }
    rivals = {}
    for name, (text, start) in formulas.items():
        rivals[name] = fit_rival(
            text,
            {"R_c": 1.0, **start},
            train,
            settings,
            private=("R_c", *start),
            test=test,
            samples=samples,
            scale_name="R_c",
        )
    return rivals


def discover_resistance(
    sets: Sequence[OpeningData],
    settings: SearchSettings,
    options: ResistanceOptions | None = None,
    held_out: Sequence[OpeningData] = (),
    comm: Communicator | None = None,
    **search_options: Any,
) -> ResistanceLaw | None:
    """Find the resistance law of data sets; collective; the law is on rank 0.

    Parameters
    ----------
    sets : sequence of OpeningData
        Searched: their charging halves.
    settings : SearchSettings
        ``constant_units`` and ``private_constants`` are set here.
    options : ResistanceOptions
    held_out : sequence of OpeningData
        Cases that only test: constants private to a data set are fitted on their
        charging half, shared ones are kept, errors are those of their discharging half.

    Returns
    -------
    ResistanceLaw or None
        None on ranks other than 0.

    Raises
    ------
    LawError
        If the data cannot tell the candidates apart.
    """
    options = options or ResistanceOptions()
    kind = options.charge
    if kind == "auto":
        kind = "X" if len({s.file for s in sets}) > 1 else "q"
    settings = replace(
        settings, constant_units="scale", private_constants=len(sets) > 1, offset=False
    )
    known = SALT if all(c in s.table for s in (*sets, *held_out) for c in SALT) else ()
    if options.salt and not known:
        raise LawError("the results hold no ion content of the slits; search without it")
    charges = [f"{kind}_{g}" for g in options.governors]
    features = ["I", *charges, *(known if options.salt else ()), *RATES]
    train = pool(sets, features, options.voltage, "charging")
    test = pool(sets, features, options.voltage, "discharging")
    condition = _require_distinct(train, charges[0])
    laboratory, result = search_problem(train, settings, comm, **search_options)
    if comm is not None and comm.rank:
        return None
    chosen = choose(laboratory, result, settings.evaluations, test, ordered=True)
    wide = _all_columns(kind, known)
    widened = [_in_columns(c, features, wide) for c in chosen.front]
    chosen = replace(chosen, best=_in_columns(chosen.best, features, wide), front=widened)
    study = _Study(sets, held_out, settings, options, kind, wide, chosen.independent_samples)
    law, best, rivals = study.compared(chosen, result)
    return study.reported(law, best, rivals, condition)


def _require_distinct(train: Problem, charge: str) -> float:
    """Return the condition number of the columns I and I q.

    Raises
    ------
    LawError
        If it is too large.
    """
    condition = condition_number(train, ["I", charge])
    if condition > CONDITION_LIMIT:
        raise LawError(
            f"current and charge are so alike that no law can be told from another "
            f"(condition number {condition:.3g} of the columns I and I q); add cases with "
            "other scan rates, windows or slit sizes"
        )
    return condition


@dataclass(frozen=True)
class _Study:
    """What the search's choice is compared with, and the report on it."""

    sets: Sequence[OpeningData]
    held_out: Sequence[OpeningData]
    settings: SearchSettings
    options: ResistanceOptions
    kind: str
    wide: list[str]
    samples: float

    @property
    def train(self) -> Problem:
        """Charging halves with all columns."""
        return pool(self.sets, self.wide, self.options.voltage, "charging")

    @property
    def cases(self) -> list[str]:
        """Names of the data sets."""
        return [s.case for s in self.sets]

    def rivals(self, voltage: str) -> dict[str, Candidate]:
        """Return the rivals, fitted to one kind of voltage."""
        train = pool(self.sets, self.wide, voltage, "charging")
        test = pool(self.sets, self.wide, voltage, "discharging")
        return resistance_rivals(train, test, self.settings, self.samples, self.kind)

    def compared(
        self, chosen: Selection, result: SearchResult
    ) -> tuple[ResistanceLaw, Candidate, dict[str, Candidate]]:
        """Return the law, its candidate (the search's or a rival), and the rivals."""
        train, rivals = self.train, self.rivals(self.options.voltage)
        chosen = replace(chosen, best=_with_block_errors(chosen.best, train, self.samples))
        for name in (f"paper_{g}" for g in GOVERNORS):
            rivals[name] = _with_block_errors(rivals[name], train, self.samples)
        allowed = self.allowed(rivals)
        law = make_law(
            train,
            self.settings,
            chosen,
            result,
            cases=self.cases,
            columns=RESISTANCE_COLUMNS,
            baselines=rivals,
            eligible=allowed,
        )
        best, _ = winner(chosen.best, {n: rivals[n] for n in allowed})
        return law, best, rivals

    def allowed(self, rivals: Collection[str]) -> list[str]:
        """Return the rivals in the columns that the search was given."""
        return [n for n in rivals if self.options.salt or not n.startswith("ion_content")]

    def reported(
        self,
        law: ResistanceLaw,
        best: Candidate,
        rivals: dict[str, Candidate],
        condition: float,
    ) -> ResistanceLaw:
        """Return the law with what its numbers mean and how it fares elsewhere."""
        sets, wide, voltage = self.sets, self.wide, self.options.voltage
        governor = _governor(best.form, wide, rivals)
        paper = rivals[f"paper_{governor}"]
        others = {v: self.rivals(v) for v in VOLTAGES if v != voltage}
        extra = {
            **law.extra,
            "condition_number": condition,
            "other_voltages": {
                v: {
                    n: {"error_train": float(np.sqrt(c.form.error)), "error_test": c.error_test}
                    for n, c in variants.items()
                }
                for v, variants in others.items()
            },
            "verdict": law.extra["verdict"] + _remark(best, rivals, self.allowed(rivals)),
            "held_out": _held_out(self.held_out, wide, voltage, best, rivals),
            "gamma": _gamma(paper, self.train, self.kind, governor, self.cases, self.samples),
            "shared_by_slit_size": _shared_by_slit_size(
                sets, self.held_out, wide, voltage, self.settings, self.samples, self.kind
            ),
            "slit_size": _against_slit_size(sets, paper),
        }
        meaning = _meaning(sets, self.options, governor, self.samples)
        return replace(law, meaning=meaning, extra=extra)


def _all_columns(kind: str, salt: Sequence[str]) -> list[str]:
    charges = [f"{kind}_{g}" for g in GOVERNORS]
    more = [] if kind == "X" else [f"X_{g}" for g in GOVERNORS]
    return ["I", *charges, *more, *salt, *RATES]


def _in_columns(candidate: Candidate, old: Sequence[str], new: Sequence[str]) -> Candidate:
    """Return a candidate whose column tokens count in another list."""
    tokens = candidate.form.tokens.copy()
    for t, token in enumerate(tokens.tolist()):
        if token >= VARIABLE:
            tokens[t] = VARIABLE + new.index(old[token - VARIABLE])
    return replace(candidate, form=replace(candidate.form, tokens=tokens))


def condition_number(problem: Problem, names: Sequence[str]) -> float:
    """Return the condition number of the columns I and I q, each of norm 1."""
    i, q = (problem.X[:, problem.columns.index(n)] for n in names)
    worst = 0.0
    for g in range(problem.sets):
        rows = problem.groups == g
        M = np.stack([i[rows], i[rows] * q[rows]], axis=1)
        M /= np.linalg.norm(M, axis=0)
        worst = max(worst, float(np.linalg.cond(M)))
    return worst


def _governor(form: Form, columns: Sequence[str], rivals: dict[str, Candidate]) -> str:
    """Return the slit whose charge the law uses; else that of the best linear rival."""
    used = {columns[t - VARIABLE] for t in form.tokens.tolist() if t >= VARIABLE}
    named = {n.split("_")[1] for n in used if n[:2] in ("q_", "X_", "S_")}
    if len(named) == 1:
        return str(named.pop())
    return str(min(GOVERNORS, key=lambda g: rivals[f"paper_{g}"].form.error))


def _meaning(
    sets: Sequence[OpeningData],
    options: ResistanceOptions,
    governor: str,
    samples: float,
) -> dict[str, Any]:
    return {
        "voltage": options.voltage,
        "current": "ionic",
        "governor": governor,
        "charge": "abs",
        "q_max": {
            "definition": "cycle",
            "unit": "C/m",
            "per_case": {s.case: s.q_max[governor] for s in sets},
        },
        "basis": "per depth of the simulated half period",
        "slope": {
            "per_case": {
                s.case: _slope(s, governor, options.voltage, samples / len(sets)) for s in sets
            }
        },
        "current_sign": {s.case: s.current_sign for s in sets},
        "trained_on": "charging half (|applied potential| rising) of the last cycle",
    }


def _slope(s: OpeningData, governor: str, voltage: str, samples: float) -> dict[str, Any]:
    """Return dR/d|Q| of dphi = I (a + b |Q|), charging half, with its error."""
    rows = s.charging
    i, q, y = s.table["I"][rows], s.charge[governor][rows], s.table[voltage][rows]
    M = np.stack([i, i * q / q.max()], axis=1)
    size = np.linalg.norm(M, axis=0)
    c, *_ = np.linalg.lstsq(M / size, y, rcond=None)
    residual = y - M / size @ c
    n = max(min(samples, len(y)), 3.0)
    variance = float(residual @ residual) / len(y) * n / (n - 2.0)
    inverse = np.linalg.inv((M / size).T @ (M / size)) * variance * len(y) / n
    scale = float(size[1] * q.max())
    return {
        "value": float(c[1] / scale),
        "unit": "Ohm m^2/C",
        "standard_error": float(np.sqrt(inverse[1, 1])) / scale,
    }


def _with_block_errors(candidate: Candidate, problem: Problem, samples: float) -> Candidate:
    """Return a candidate with the block-jackknife errors of its constants."""
    block = max(2, round(2 * len(problem.y) / samples))
    spread = forms.block_jackknife(candidate.form, problem, block)
    return replace(candidate, block_errors=spread)


def _gamma(
    paper: Candidate,
    problem: Problem,
    kind: str,
    governor: str,
    cases: Sequence[str],
    samples: float,
) -> dict[str, Any]:
    """Return gamma of the paper's form for each data set with three kinds of error.

    The profile interval holds all gamma with n ln(SSE(gamma)/SSE_min) <= 3.84 (95 % of
    chi-square with one degree), R_c refitted and n the independent samples of the set.
    """
    i, q = (problem.X[:, problem.columns.index(c)] for c in ("I", f"{kind}_{governor}"))
    n = max(samples / problem.sets, 3.0)
    table: dict[str, Any] = {}
    for g, case in enumerate(cases):
        own = problem.groups == g
        low, high = profile_interval(i[own], i[own] * q[own], problem.y[own], n)
        form = paper.form
        table[case] = {
            "value": form.value("gamma", g),
            "standard_error": form.standard_error("gamma", g),
            "profile_95": [low, high],
            "correlation_with_R_c": _correlation(form, g),
        }
        if paper.block_errors is not None:
            table[case]["block_error"] = float(paper.block_errors[form.names.index("gamma"), g])
    return {"form": f"R_c*I*(1 - gamma*{kind}_{governor})", "per_case": table}


def _correlation(form: Form, g: int) -> float | None:
    if form.covariance is None or form.place is None:
        return None
    a, b = (form.place[form.names.index(n), g] for n in ("R_c", "gamma"))
    size = float(np.sqrt(form.covariance[a, a] * form.covariance[b, b]))
    return float(form.covariance[a, b]) / size if size > 0 else None


def profile_interval(
    u: NDArray[np.float64], v: NDArray[np.float64], y: NDArray[np.float64], samples: float
) -> tuple[float | None, float | None]:
    """Return the 95 % profile-likelihood interval of gamma in y = R (u - gamma v).

    With R at its best value, SSE(gamma) <= limit is a quadratic inequality. None stands
    for an end that the data leave open.

    Parameters
    ----------
    u, v, y : ndarray, shape (rows,)
    samples : float
        Independent samples.
    """
    uu, uv, vv, p, r, yy = (float(a @ b) for a, b in
                            ((u, u), (u, v), (v, v), (y, u), (y, v), (y, y)))  # fmt: skip
    M = np.stack([u, v], axis=1)
    c, *_ = np.linalg.lstsq(M, y, rcond=None)
    least = max(float(np.sum((y - M @ c) ** 2)), 1e-30 * yy)
    explained = yy - least * float(np.exp(CHI2_95 / samples))
    # (p - gamma r)^2 >= explained (uu - 2 gamma uv + gamma^2 vv)
    a, b, k = r * r - explained * vv, p * r - explained * uv, p * p - explained * uu
    if explained <= 0 or a >= 0 or b * b < a * k:
        return None, None
    root = float(np.sqrt(b * b - a * k))
    low, high = sorted(((b - root) / a, (b + root) / a))
    return low, high


def _remark(best: Candidate, rivals: dict[str, Candidate], allowed: Sequence[str]) -> str:
    """Return what is known of laws that the search was not allowed to find."""
    others = [n for n in rivals if n not in allowed]
    shortest = min(others, key=lambda n: rivals[n].mdl, default=None)
    if shortest is None or rivals[shortest].mdl >= best.mdl:
        return ""
    test = [c.error_test for c in (rivals[shortest], best)]
    return (
        f"; {shortest!r}, which needs the slits' ion content, describes them better "
        f"(error on the discharging half {test[0]:.3g} against {test[1]:.3g}): see --salt"
    )


def _freeze(form: Form, sets: int) -> Form:
    """Return the form with shared constants fixed, private ones at their mean."""
    tokens = form.tokens.copy()
    tokens[tokens == CONSTANT] = FIXED
    names = tuple(
        n
        for n, t in zip(form.names, form.leaves.tolist(), strict=True)
        if form.tokens[t] == PRIVATE
    )
    constants = np.repeat(form.constants.mean(axis=1, keepdims=True), sets, axis=1)
    return replace(form, tokens=tokens, constants=constants, names=names)


def _held_out(
    sets: Sequence[OpeningData],
    columns: Sequence[str],
    voltage: str,
    best: Candidate,
    rivals: dict[str, Candidate],
) -> dict[str, Any]:
    """Return the error of each law on the discharging half of each left-out case."""
    if not sets:
        return {}
    train = pool(sets, columns, voltage, "charging")
    test = pool(sets, columns, voltage, "discharging")
    data = forms.data_for_forms(train, SearchSettings(private_constants=True))
    table: dict[str, Any] = {}
    for name, candidate in {"best": best, **rivals}.items():
        form = forms.fit(_freeze(candidate.form, len(sets)), data, 40)
        values = form.predict(test.X, test.groups)
        table[name] = {
            s.case: _relative(test.y[test.groups == g], values[test.groups == g])
            for g, s in enumerate(sets)
        }
    return table


def _shared_by_slit_size(
    sets: Sequence[OpeningData],
    held_out: Sequence[OpeningData],
    columns: Sequence[str],
    voltage: str,
    settings: SearchSettings,
    samples: float,
    kind: str,
) -> dict[str, Any]:
    """Return how the rivals do with one set of constants for all slits of one size.

    The harder test: all openings and scan rates of a size share the constants, and a
    held-out case of a known size is predicted, both halves, without any fit.
    """
    sizes = sorted({s.slit_size for s in sets})
    known = [s for s in held_out if s.slit_size in sizes]

    def rows(chosen: Sequence[OpeningData], half: str) -> Problem:
        labels = [sizes.index(s.slit_size) for s in chosen]
        return pool(chosen, columns, voltage, half, labels)

    halves = ("charging", "discharging")
    train, test = (rows(sets, half) for half in halves)
    settings = replace(settings, private_constants=len(sizes) > 1)
    table: dict[str, Any] = {}
    for name, c in resistance_rivals(train, test, settings, samples, kind).items():
        entry: dict[str, Any] = {
            "error_train": float(np.sqrt(c.form.error)),
            "error_test": c.error_test,
            "constants": {
                n: {f"{size:.6g}": c.form.value(n, g) for g, size in enumerate(sizes)}
                for n in c.form.names
            },
        }
        if known:
            y, f = [], []
            for half in halves:
                problem = rows(known, half)
                y.append(problem.y)
                f.append(c.form.predict(problem.X, problem.groups))
            entry["error_held_out"] = _relative(np.concatenate(y), np.concatenate(f))
        table[name] = entry
    return table


def _relative(y: NDArray[np.float64], f: NDArray[np.float64]) -> float | None:
    error = float(np.sqrt(np.mean((y - f) ** 2) / np.mean(y**2)))
    return error if np.isfinite(error) else None


def _against_slit_size(sets: Sequence[OpeningData], paper: Candidate) -> dict[str, Any]:
    """Return how R_c and gamma of the paper's form depend on the slit size d.

    Means over the data sets of each d, and the exponent of a power law d**p fitted to
    them if there are at least two sizes.
    """
    d = np.array([s.slit_size for s in sets])
    table: dict[str, Any] = {}
    for name in ("R_c", "gamma"):
        values = np.array([paper.form.value(name, g) for g in range(len(sets))])
        table[name] = {f"{size:.6g}": float(values[d == size].mean()) for size in np.unique(d)}
        if len(np.unique(d)) >= 2 and np.all(values > 0):
            x, z = np.log(d), np.log(values)
            M = np.stack([np.ones_like(x), x], axis=1)
            c, *_ = np.linalg.lstsq(M, z, rcond=None)
            r = z - M @ c
            error = None
            if len(x) > 2:
                covariance = np.linalg.inv(M.T @ M) * float(r @ r) / (len(x) - 2)
                error = float(np.sqrt(covariance[1, 1]))
            table[name]["exponent"] = {"value": float(c[1]), "standard_error": error}
    return {"unit": "m", **table}
