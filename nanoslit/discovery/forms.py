"""Laws with named constants: read from text, fitted exactly, with standard errors.

A form carries no free scale: every constant is a leaf. The misfit is the mean over data
sets of sum w r^2 / sum w y^2; standard errors come from s^2 (J^T W J)^-1, widened by the
autocorrelation of the residuals when rows are ordered in time.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from nanoslit.discovery import formula, kernels
from nanoslit.discovery.packed import PackedData
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.tokens import (
    ABS,
    ADD,
    BINARY,
    CONSTANT,
    CUBE,
    DIV,
    FIXED,
    INV,
    MUL,
    OPERATORS,
    POW,
    PRIVATE,
    SQRT,
    SQUARE,
    SUB,
    UNARY,
    VARIABLE,
    complexity,
    to_formula,
)
from nanoslit.errors import LawError

__all__ = [
    "Form",
    "autocorrelation_time",
    "block_jackknife",
    "data_for_forms",
    "fit",
    "pole",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """An expression whose constants are named leaves.

    Parameters
    ----------
    tokens : ndarray of int16, shape (n,)
    constants : ndarray, shape (n, data sets)
    names : tuple of str
        Of the constant leaves that are not fixed, in postfix order.
    error : float
        Mean square misfit, normalised [-].
    covariance : ndarray, optional
        Of the parameters.
    place : ndarray of int, optional
        Parameter of (leaf, data set).
    evaluations : int
        Spent on the fit.
    """

    tokens: NDArray[np.int16]
    constants: Array
    names: tuple[str, ...]
    error: float = np.inf
    covariance: Array | None = None
    place: NDArray[np.int64] | None = None
    evaluations: int = 0

    @property
    def leaves(self) -> NDArray[np.int64]:
        """Places of the constants that are fitted."""
        return np.flatnonzero(self.tokens <= PRIVATE)

    @property
    def complexity(self) -> int:
        """Weighted number of nodes."""
        return complexity(self.tokens)

    @property
    def parameters(self) -> int:
        """Number of fitted numbers."""
        sets = self.constants.shape[1]
        return int(sum(sets if self.tokens[t] == PRIVATE else 1 for t in self.leaves.tolist()))

    def value(self, name: str, data_set: int = 0) -> float:
        """Return one constant."""
        return float(self.constants[self.leaves[self.names.index(name)], data_set])

    def standard_error(self, name: str, data_set: int = 0) -> float | None:
        """Return the standard error of one constant; None if it is not determined."""
        if self.covariance is None or self.place is None:
            return None
        p = self.place[self.names.index(name), data_set]
        variance = self.covariance[p, p]
        return float(np.sqrt(variance)) if variance >= 0 else None

    def text(self, columns: Sequence[str], symbolic: bool = False) -> str:
        """Return infix text: private constants as symbols, shared ones as numbers."""
        leaves = []
        names = iter(self.names)
        for t, token in enumerate(self.tokens.tolist()):
            if token >= BINARY:
                continue
            name = next(names) if token <= PRIVATE else ""
            number = self.constants[t, 0]
            if token == FIXED:
                whole = float(number).is_integer()
                leaves.append(f"({int(number) if whole else repr(float(number))})")
            elif symbolic or (token == PRIVATE and self.constants.shape[1] > 1):
                leaves.append(name)
            else:
                leaves.append(f"({float(number)!r})")
        return to_formula(self.tokens, leaves, self.constants, columns)

    def predict(self, X: Array, groups: NDArray[np.int64] | None = None) -> Array:
        """Evaluate on rows."""
        groups = np.zeros(len(X), dtype=np.int64) if groups is None else groups
        out = np.empty(len(X))
        values = {f"_x{j}": X[:, j] for j in range(X.shape[1])}
        columns = list(values)
        for g in np.unique(groups):
            rows = groups == g
            tree = formula.parse(
                to_formula(self.tokens, None, self.constants[:, g : g + 1], columns)
            )
            part = {k: v[rows] for k, v in values.items()}
            out[rows] = formula.evaluate(tree, part)
        return out

    @classmethod
    def from_text(
        cls,
        text: str,
        columns: Sequence[str],
        start: Mapping[str, float] | None = None,
        private: Sequence[str] = (),
        sets: int = 1,
    ) -> Form:
        """Read infix text.

        Parameters
        ----------
        text : str
            Names that are neither columns nor in ``start`` are an error. Floating
            numbers are constants to be fitted, whole numbers are fixed.
        columns : sequence of str
        start : mapping of str to float, optional
            Named constants with initial values; each may occur once.
        private : sequence of str
            Those that every data set owns.
        sets : int
            Number of data sets.

        Raises
        ------
        LawError
            If the text is not a formula over these names.
        """
        reader = _Reader(columns, dict(start or {}), set(private))
        reader.visit(formula.parse(text))
        numbers = np.repeat(np.array(reader.values)[:, None], sets, axis=1)
        return cls(np.array(reader.tokens, dtype=np.int16), numbers, tuple(reader.names))


class _Reader:
    """Turn a syntax tree into postfix tokens."""

    binary = {
        ast.Add: ADD,
        ast.Sub: SUB,
        ast.Mult: MUL,
        ast.Div: DIV,
    }

    def __init__(
        self, columns: Sequence[str], start: dict[str, float], private: set[str]
    ) -> None:
        self.columns = {c: VARIABLE + i for i, c in enumerate(columns)}
        self.start = start
        self.private = private
        self.tokens: list[int] = []
        self.values: list[float] = []
        self.names: list[str] = []

    def emit(self, token: int, value: float = 0.0) -> None:
        self.tokens.append(token)
        self.values.append(value)

    def visit(self, node: ast.expr) -> None:
        """Write a node and what is below it."""
        number = _number(node)
        if number is not None:
            self._constant(number)
            return
        match node:
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                self._power(left, right)
            case ast.BinOp(left=left, op=op, right=right):
                self.visit(left)
                self.visit(right)
                self.emit(self.binary[type(op)])
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                self.visit(operand)
                self.emit(FIXED, -1.0)
                self.emit(MUL)
            case ast.UnaryOp(operand=operand):
                self.visit(operand)
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                self.visit(argument)
                code = ABS if name in ("Abs", "abs") else OPERATORS.get(name)
                if code is None:
                    raise LawError(f"function {name!r} is not one of {sorted(OPERATORS)}")
                self.emit(code)
            case ast.Name(id=name) if name in self.columns:
                self.emit(self.columns[name])
            case ast.Name(id=name) if name in self.start:
                if name in self.names:
                    raise LawError(f"constant {name!r} may occur only once")
                self.names.append(name)
                self.emit(PRIVATE if name in self.private else CONSTANT, self.start[name])
            case ast.Name(id=name) if name in formula.NUMBERS:
                self.emit(FIXED, formula.NUMBERS[name])
            case _:
                raise LawError(
                    f"{ast.unparse(node)!r} is neither a column {sorted(self.columns)} "
                    f"nor a named constant {sorted(self.start)}"
                )

    def _constant(self, number: int | float) -> None:
        if isinstance(number, int):
            self.emit(FIXED, float(number))
        else:
            self.names.append(f"c{len(self.names)}")
            self.emit(CONSTANT, number)

    def _power(self, base: ast.expr, power: ast.expr) -> None:
        self.visit(base)
        number = _number(power)
        simple = {2: SQUARE, 3: CUBE, -1: INV, 0.5: SQRT}
        if number in simple:
            self.emit(simple[number])
        elif number == -0.5:
            self.emit(SQRT)
            self.emit(INV)
        elif number == -2:
            self.emit(SQUARE)
            self.emit(INV)
        else:
            if number is not None and (2 * number) % 1 == 0:
                self.emit(FIXED, float(number))
            else:
                self.visit(power)
            self.emit(POW)


def _number(node: ast.expr) -> int | float | None:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _number(operand)
            return None if inner is None else -inner
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            a, b = _number(left), _number(right)
            if isinstance(a, int) and isinstance(b, int) and b:
                quotient = Fraction(a, b)
                return float(quotient) if quotient.denominator == 2 else None
    return None


OWN_SCALE = SearchSettings(scale=False, offset=False)


def data_for_forms(problem: Problem, settings: SearchSettings) -> PackedData:
    """Lay out a problem for forms, which own their scale."""
    return PackedData.build(problem, replace(settings, scale=False, offset=False))


def misfit(form: Form, data: PackedData) -> float:
    """Return the mean square misfit [-]; WORST if not finite."""
    n = np.array([len(form.tokens)])
    errors, _ = data.score(form.tokens[None], n, form.constants[None])
    return float(errors[0])


def fit(form: Form, data: PackedData, steps: int = 50, tau: float | None = None) -> Form:
    """Fit all constants by Levenberg-Marquardt and estimate their errors.

    Parameters
    ----------
    form : Form
        With starting values.
    data : PackedData
        From :func:`data_for_forms`.
    steps : int
        At most so many.
    tau : float, optional
        Samples per independent sample; None to measure it from the residuals.

    Returns
    -------
    Form
        With constants, misfit and covariance.
    """
    C = form.constants.copy()
    _, count, _ = data.fit(form.tokens, C, steps)
    fitted = replace(form, constants=C)
    error = misfit(fitted, data)
    covariance, place = _covariance(fitted, data, error, tau)
    return replace(
        fitted,
        error=error,
        covariance=covariance,
        place=place,
        evaluations=form.evaluations + count,
    )


def _covariance(
    form: Form, data: PackedData, error: float, tau: float | None
) -> tuple[Array | None, NDArray[np.int64]]:
    H, place = data.curvature(form.tokens, form.constants, form.leaves)
    m = len(H)
    if m == 0 or error >= kernels.WORST:
        return None, place
    size = np.sqrt(np.maximum(np.diag(H), 1e-300))
    if not np.all(np.isfinite(H)) or data.length <= m:
        return None, place
    inverse = np.linalg.pinv(H / np.outer(size, size), rcond=1e-13)
    if tau is None:
        residual = data.arrays.y - data.values(form.tokens, form.constants)
        tau = autocorrelation_time(residual * np.sqrt(data.arrays.w), data)
    variance = error / max(data.length / tau - m, 1.0)
    return inverse / np.outer(size, size) * variance, place


def autocorrelation_time(residual: Array, data: PackedData) -> float:
    """Return samples per independent sample, 1 + 2 sum of correlations, >= 1.

    The sum ends at the first correlation that is not positive; data sets are averaged.
    """
    times = []
    bounds = data.arrays.bounds
    for g in np.unique(bounds[:, 2]):
        rows = np.concatenate([np.arange(a, b) for a, b, k in bounds if k == g])
        r = residual[rows] - residual[rows].mean()
        spectrum = np.abs(np.fft.rfft(r, 2 * len(r))) ** 2
        c = np.fft.irfft(spectrum)[: len(r)]
        if not c[0] > 0:
            continue
        negative = np.flatnonzero(c <= 0)
        last = int(negative[0]) if negative.size else len(c)
        times.append(1.0 + 2.0 * float(np.sum(c[1:last]) / c[0]))
    return max(1.0, float(np.mean(times))) if times else 1.0


def block_jackknife(form: Form, problem: Problem, block: int) -> Array:
    """Return standard errors from refits that each leave out a block of neighbours.

    Neighbouring residuals of a time series, model error above all, are alike, where
    s^2 (J^T J)^-1 takes each row for new: on smooth noise it came out three times too
    small, this right, the bootstrap of residual blocks 40 % too small (the fit takes up
    the slow part) and that of rows twice too large. Delete-a-group jackknife with
    (B - 1)/B sum (c_b - mean)^2 for B blocks (Kuensch, Ann. Statist. 17, 1217 (1989)).

    Parameters
    ----------
    form : Form
        Fitted.
    problem : Problem
        Rows of each data set in the order of time.
    block : int
        Rows of a block; a data set has at least four blocks.

    Returns
    -------
    ndarray, shape (leaves, data sets)
    """
    variance = np.zeros((len(form.leaves), problem.sets))
    rows = np.arange(len(problem.y))
    for g in range(problem.sets):
        own = rows[problem.groups == g]
        count = min(max(4, -(-len(own) // block)), len(own) // 2)
        found = []
        for part in np.array_split(own, count):
            kept: list[int] = np.setdiff1d(rows, part).tolist()
            data = PackedData.build(problem, OWN_SCALE, subset=kept)
            found.append(fit(form, data, 8, 1.0).constants[form.leaves])
        # a constant private to another data set does not move and gets nothing here
        variance += (count - 1) * np.var(found, axis=0)
    return np.sqrt(variance)


def pole(form: Form, X: Array, groups: NDArray[np.int64], widen: float = 0.2) -> str:
    """Return where a denominator passes zero: in the data, near them, or nowhere.

    Parameters
    ----------
    form : Form
    X : ndarray, shape (rows, columns)
    groups : ndarray of int, shape (rows,)
    widen : float
        Share of its range by which the box of each data set is widened; quantities of one
        sign keep it.

    Returns
    -------
    {"in the data", "near the data", ""}
    """
    parts = [
        replace(form, tokens=form.tokens[a : b + 1], constants=form.constants[a : b + 1])
        for a, b in _denominators(form.tokens)
    ]
    if not parts:
        return ""
    rng = np.random.Generator(np.random.Philox(key=[3, 5]))
    boxes, numbers = [], []
    for g in np.unique(groups):
        low, high = X[groups == g].min(axis=0), X[groups == g].max(axis=0)
        margin = widen * (high - low)
        bottom = np.where(low >= 0, np.maximum(low - margin, 0.8 * low), low - margin)
        top = np.where(high <= 0, np.minimum(high + margin, 0.8 * high), high + margin)
        boxes.append(rng.uniform(bottom, top, (256, X.shape[1])))
        numbers.append(np.full(256, g))
    near = np.concatenate(boxes), np.concatenate(numbers)
    for where, (points, sets) in {"in the data": (X, groups), "near the data": near}.items():
        for part in parts:
            value = part.predict(points, sets)
            for g in np.unique(sets):
                own = value[sets == g]
                if not (np.all(own > 0) or np.all(own < 0)):
                    return where
    return ""


def _denominators(tokens: NDArray[np.int16]) -> list[tuple[int, int]]:
    """Return first and last token of what is divided by."""
    stack: list[int] = []
    found = []
    for t, token in enumerate(tokens.tolist()):
        first = t
        if BINARY <= token < VARIABLE:
            second = stack.pop()
            first = stack.pop() if token < UNARY else second
            if token in (DIV, INV):
                found.append((second, t - 1))
        stack.append(first)
    return found
