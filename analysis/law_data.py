"""Data of the benchmark's laws, and the judge of recovery, equal for every method.

Recovered means: (1) with its floating constants refitted, the expression equals the law
(relative rms < 1e-4) on noiseless data in a box 20 % wider; (2) its length is at most
twice the law's plus 3 (what has over eight times its nodes is not even simplified); (3) no
refitted constant can be set to zero without loss, so no term is claimed that is not there
(an additive constant is forgiven, as in SRBench); (4) as delivered, before refitting, it
predicts noiseless data to 0.1 % plus 0.3 times the noise level.
"""

from __future__ import annotations

import ast
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sympy

from nanoslit.discovery import forms, formula
from nanoslit.discovery.dimensions import NONE, exponents
from nanoslit.discovery.forms import Form
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.errors import LawError

LAWS = Path(__file__).with_name("laws_benchmark.json")
OPERATORS = ("+", "-", "*", "/", "sqrt", "square", "exp", "log", "sin", "cos", "tanh")
EXACT = 1e-4
LONGEST = 8


def load_laws(final: bool) -> list[dict[str, Any]]:
    """Return the laws of the development part, or with the held-out third."""
    laws = json.loads(LAWS.read_text(encoding="utf-8"))["laws"]
    return [law for law in laws if final or not law["final"]]


def sample(law: dict[str, Any], rows: int, seed: int, widen: float = 0.0) -> Any:
    """Return features drawn in the law's box (or a wider one) and the exact target."""
    rng = np.random.default_rng([zlib.crc32(law["name"].encode()), seed])
    tree = formula.parse(law["formula"])
    X, y = np.empty((0, len(law["columns"]))), np.empty(0)
    for _ in range(20):
        columns = []
        for c in law["columns"].values():
            low, high = c["range"]
            margin = widen * (high - low)
            bottom = low - margin if low <= 0 else max(low - margin, 0.8 * low)
            bottom = 0.0 if low == 0 else bottom
            if low > 0 and high / low >= 100:
                draw = np.exp(rng.uniform(np.log(low), np.log(high), rows))
            else:
                draw = rng.uniform(bottom, high + margin, rows)
            columns.append(draw)
        new = np.stack(columns, axis=1)
        values = formula.evaluate(tree, dict(zip(law["columns"], new.T, strict=True)))
        good = np.isfinite(values)
        X, y = np.concatenate([X, new[good]]), np.concatenate([y, values[good]])
        if len(y) >= rows:
            return X[:rows], y[:rows]
    raise RuntimeError(f"{law['name']}: its box is mostly outside its domain")


def noisy(y: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Return the target with normal noise in units of its standard deviation."""
    rng = np.random.default_rng([7, seed])
    return y + noise * y.std() * rng.normal(size=len(y))


def problem_of(law: dict[str, Any], X: np.ndarray, y: np.ndarray, units: bool) -> Problem:
    """Return the regression problem."""
    return Problem(
        tuple(law["columns"]),
        X,
        y,
        units=tuple(exponents(c["unit"]) for c in law["columns"].values()) if units else None,
        target_unit=exponents(law["unit"]) if units else NONE,
        target="target_",
    )


def _sympy(text: str, columns: list[str]) -> sympy.Expr:
    names = {c: sympy.Symbol(c, real=True) for c in columns}
    names["square"] = lambda x: x**2
    return sympy.sympify(text, locals=names)


def nodes(text: str) -> int:
    """Return the number of names, numbers, operators and functions of a formula."""
    kinds = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant)
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, RecursionError, MemoryError):  # nested too deeply for Python
        return 1_000_000
    return sum(isinstance(n, kinds) for n in ast.walk(tree))


def judge(text: str, law: dict[str, Any], noise: float) -> tuple[bool, str]:
    """Return whether an expression recovers the law, and why not."""
    columns = list(law["columns"])
    if nodes(text) > LONGEST * nodes(law["formula"]):
        return False, "far too long"  # simplifying it could take hours
    try:
        expression = _sympy(text, columns)
        truth = Form.from_text(str(_sympy(law["formula"], columns)), columns)
        offset, rest = expression.as_coeff_Add()
        body, start = str(rest), {}
        if offset != 0:
            body, start = f"offset_ + {rest}", {"offset_": float(offset)}
        form = Form.from_text(body, columns, start)
    except (LawError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return False, f"unreadable: {str(error)[:60]}"
    if len(form.tokens) > 2 * len(truth.tokens) + 3:
        return False, "too long"
    X, y = sample(law, 400, seed=99)
    with np.errstate(all="ignore"):
        given = np.sqrt(np.mean((form.predict(X) - y) ** 2) / y.var())
    if not given < 1e-3 + 0.3 * noise:
        return False, f"predicts to {given:.1e}"
    X, y = sample(law, 400, seed=98, widen=0.2)
    data = forms.data_for_forms(
        Problem(tuple(columns), X, y - 0.0, target="target_"), SearchSettings()
    )
    fitted = forms.fit(form, data, 200)
    error = _relative(fitted, X, y)
    if not error < EXACT:
        return False, f"form misses by {error:.1e}"
    for k, place in enumerate(fitted.leaves.tolist()):
        if fitted.names[k] == "offset_":
            continue
        constants = fitted.constants.copy()
        constants[place] = 0.0
        if _relative(replace(fitted, constants=constants), X, y) < EXACT:
            return False, "a term that is not there"
    return True, ""


def _relative(form: Form, X: np.ndarray, y: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        error = float(np.sqrt(np.mean((form.predict(X) - y) ** 2) / y.var()))
    return error if np.isfinite(error) else np.inf
