"""A discovered law: expression, constants with errors, the meaning of its numbers, file.

The trans-slit law reads ``dphi = I R`` with, in the form of the source paper,
``R = R_c (1 - gamma |Q|/Q_max)`` (Zhan et al. 2021, doi:10.21203/rs.3.rs-285362, eqs. 1
and 2). Nothing here searches for laws, and only NumPy is needed to use one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nanoslit import atomic
from nanoslit.discovery import formula
from nanoslit.errors import LawError

__all__ = ["RESISTANCE_COLUMNS", "SCHEMA", "LawForm", "ResistanceLaw"]

SCHEMA = 1
KIND = "nanoslit-law"
GOVERNORS = ("outer", "inner", "mean")
RESISTANCE_TARGET = "trans_slit_voltage"
ENTRY_KEYS = (
    "expression",
    "latex",
    "constants",
    "standard_errors",
    "complexity",
    "error_train",
    "error_test",
)

RESISTANCE_COLUMNS: dict[str, dict[str, str]] = {
    "I": {"unit": "A/m", "meaning": "ionic current through the opening, per depth"},
    "q_outer": {"unit": "", "meaning": "|Q|/Q_max of the slit nearer the reservoir"},
    "q_inner": {"unit": "", "meaning": "|Q|/Q_max of the deeper slit"},
    "q_mean": {"unit": "", "meaning": "mean of q_outer and q_inner"},
    "X_outer": {
        "unit": "",
        "meaning": "|Q| of the outer slit over the charge of its bulk ion content, "
        "F A sum(|z| c) with A the slit's area in the plane",
    },
    "X_inner": {"unit": "", "meaning": "as X_outer, of the deeper slit"},
    "X_mean": {"unit": "", "meaning": "mean of X_outer and X_inner"},
    "S_outer": {
        "unit": "",
        "meaning": "ions in the outer slit, each by its |z|, over their bulk value",
    },
    "S_inner": {"unit": "", "meaning": "as S_outer, of the deeper slit"},
    "S_mean": {"unit": "", "meaning": "mean of S_outer and S_inner"},
    "I_salt": {
        "unit": "A/m",
        "meaning": "diffusion voltage (kT/e) ln(s_inner/s_outer), s = sqrt(S^2 - X^2) the "
        "salt of a slit in Donnan equilibrium, times the bulk conductance of a path through "
        "a slit; with the sign of the stored charge",
    },
    "V": {"unit": "V", "meaning": "applied potential"},
    "dQdt_outer": {"unit": "A/m", "meaning": "rate of the outer slit's stored charge"},
    "dQdt_inner": {"unit": "A/m", "meaning": "rate of the inner slit's stored charge"},
    "dIdt": {"unit": "A/m/s", "meaning": "rate of the current through the opening"},
    "t": {"unit": "s", "meaning": "time since the start of the analysed cycle"},
}


@dataclass(frozen=True)
class LawForm:
    """One expression with its constants: the winner, a front member or a baseline.

    Parameters
    ----------
    expression : str
        Columns, numbers and, for constants private to a data set, symbols.
    constants : dict
        ``{name: {"unit", "value", "standard_error"}}`` or
        ``{name: {"unit", "per_case": {case: {"value", "standard_error"}}}}``.
    complexity : int or None
        Weighted number of nodes.
    error_train, error_test : float or None
        Root mean square misfit over the root mean square of the target, averaged over
        data sets as mean squares [-].
    latex : str
    extra : dict
        Everything else that the file says about this form.
    """

    expression: str
    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    complexity: int | None = None
    error_train: float | None = None
    error_test: float | None = None
    latex: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def tree(self) -> Any:
        """Syntax tree of the expression."""
        return formula.parse(self.expression)

    @property
    def cases(self) -> tuple[str, ...]:
        """Data sets that own private constants, in file order."""
        for entry in self.constants.values():
            if "per_case" in entry:
                return tuple(entry["per_case"])
        return ()

    @property
    def standard_errors(self) -> dict[str, Any]:
        """Standard error of every constant, per case where it is private."""
        return {
            name: {c: v.get("standard_error") for c, v in entry["per_case"].items()}
            if "per_case" in entry
            else entry.get("standard_error")
            for name, entry in self.constants.items()
        }

    def values(self, case: str | None = None) -> dict[str, float]:
        """Return the value of each constant for one data set.

        Raises
        ------
        LawError
            If constants are private to data sets and the case is missing or unknown.
        """
        if self.cases and case is None and len(self.cases) > 1:
            raise LawError(
                f"the law has constants private to each data set; name a case out of "
                f"{list(self.cases)}"
            )
        chosen = case if case is not None else (self.cases[0] if self.cases else None)
        result = {}
        for name, entry in self.constants.items():
            if "per_case" not in entry:
                result[name] = float(entry["value"])
                continue
            if chosen not in entry["per_case"]:
                raise LawError(
                    f"no case {chosen!r} in the law; known: {list(entry['per_case'])}"
                )
            result[name] = float(entry["per_case"][chosen]["value"])
        return result

    def __call__(
        self, columns: Mapping[str, ArrayLike], case: str | None = None
    ) -> NDArray[np.float64]:
        """Evaluate the expression (see :meth:`ResistanceLaw.__call__`)."""
        arrays = {k: np.asarray(v, dtype=np.float64) for k, v in columns.items()}
        known = self.values(case) | arrays if self._has_symbols else arrays
        result = np.asarray(formula.evaluate(self.tree, known), dtype=np.float64)
        shape = np.broadcast_shapes(*(a.shape for a in arrays.values())) if arrays else ()
        return np.broadcast_to(result, np.broadcast_shapes(result.shape, shape)).copy()

    @cached_property
    def _has_symbols(self) -> bool:
        return bool(self.constants) and bool(formula.names_of(self.tree) & set(self.constants))

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of this form."""
        return {
            "expression": self.expression,
            "latex": self.latex,
            "constants": {k: dict(v) for k, v in self.constants.items()},
            "standard_errors": self.standard_errors,
            "complexity": self.complexity,
            "error_train": self.error_train,
            "error_test": self.error_test,
            **self.extra,
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any], where: str = "law") -> LawForm:
        """Read the JSON object of one form.

        Raises
        ------
        LawError
            If the expression or a constant is missing or unreadable.
        """
        if not isinstance(entry, Mapping) or not isinstance(entry.get("expression"), str):
            raise LawError(f"{where} must be an object with an 'expression' (text)")
        constants = entry.get("constants") or {}
        for name, constant in constants.items():
            if not isinstance(constant, Mapping) or not {"value", "per_case"} & set(constant):
                raise LawError(f"constant {name!r} of {where} must hold 'value' or 'per_case'")
        form = cls(
            expression=entry["expression"],
            constants=constants,
            complexity=entry.get("complexity"),
            error_train=entry.get("error_train"),
            error_test=entry.get("error_test"),
            latex=entry.get("latex", ""),
            extra={k: v for k, v in entry.items() if k not in ENTRY_KEYS},
        )
        formula.parse(form.expression)
        return form


@dataclass(frozen=True)
class ResistanceLaw:
    """The law that a discovery run chose, with its rivals and its conventions.

    Parameters
    ----------
    best : LawForm
        The chosen form.
    target : str
        Column that the expression predicts; ``trans_slit_voltage`` [V] for traces.
    columns : dict
        ``{name: {"unit", "meaning"}}`` of the input columns.
    front : tuple of LawForm
        Best form of each complexity.
    baselines : dict of str to LawForm
        Sparse regression and rival laws on the same data.
    evaluations, seed : int or None
        Passes of an expression over the data; key of the random numbers.
    meaning : dict
        For traces: ``voltage`` ("mid", "electrochemical" or "counterion"), ``current``
        ("ionic"), ``governor`` ("outer", "inner" or "mean"), ``charge`` ("abs" or "signed"),
        ``q_max`` (definition, unit C/m, per_case), ``basis``, ``slope``
        (dR/d|Q| per case [Ohm m^2/C], free of the convention for Q_max).
    extra : dict
        Other top-level entries of the file (data, settings, verdict).

    Examples
    --------
    >>> law = ResistanceLaw.linear(r_c=2.0, gamma=0.5)
    >>> float(law.resistance({"q_inner": 1.0}))
    1.0
    """

    best: LawForm
    target: str = RESISTANCE_TARGET
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: RESISTANCE_COLUMNS)
    front: Sequence[LawForm] = ()
    baselines: Mapping[str, LawForm] = field(default_factory=dict)
    evaluations: int | None = None
    seed: int | None = None
    meaning: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        forms = [("best", self.best)]
        forms += [(f"front[{i}]", f) for i, f in enumerate(self.front)]
        forms += [(f"baselines[{k!r}]", f) for k, f in self.baselines.items()]
        for where, form in forms:
            unknown = (
                formula.names_of(form.tree)
                - set(self.columns)
                - set(form.constants)
                - set(formula.NUMBERS)
            )
            if unknown:
                raise LawError(
                    f"{where} = {form.expression!r} uses {sorted(unknown)}, which is neither "
                    f"a column {sorted(self.columns)} nor one of its constants"
                )
        governor = self.meaning.get("governor")
        if governor is not None and governor not in GOVERNORS:
            raise LawError(f"governor = {governor!r} must be one of {GOVERNORS}")
        charge = self.meaning.get("charge")
        if charge is not None and charge not in ("abs", "signed"):
            raise LawError(f"charge = {charge!r} must be 'abs' or 'signed'")

    @classmethod
    def linear(
        cls,
        r_c: float,
        gamma: float,
        *,
        governor: str = "inner",
        charge: str = "abs",
        q_max: float | None = None,
    ) -> ResistanceLaw:
        """Return ``dphi = I R_c (1 - gamma q)`` with given numbers.

        Parameters
        ----------
        r_c : float
            Resistance at zero charge [Ohm m].
        gamma : float
            Relative fall of the resistance at |Q| = Q_max [-].
        governor : {"inner", "outer", "mean"}
            Which slit's charge governs the resistance.
        charge : {"abs", "signed"}
            Whether q is |Q|/Q_max or Q/Q_max.
        q_max : float, optional
            Q_max [C m^-1].

        Raises
        ------
        LawError
            If R_c is not positive or an option is unknown.
        """
        if not (np.isfinite(r_c) and r_c > 0):
            raise LawError(f"r_c = {r_c!r} Ohm m must be positive and finite")
        if governor not in GOVERNORS:
            raise LawError(f"governor = {governor!r} must be one of {GOVERNORS}")
        constants: dict[str, dict[str, Any]] = {
            "R_c": {"unit": "Ohm*m", "value": float(r_c), "standard_error": None},
            "gamma": {"unit": "", "value": float(gamma), "standard_error": None},
        }
        sign = "-" if gamma >= 0 else "+"
        form = LawForm(
            expression=f"{float(r_c)!r}*I*(1 {sign} {abs(float(gamma))!r}*q_{governor})",
            constants=constants,
            latex=rf"R_c I \left(1 - \gamma q_\mathrm{{{governor}}}\right)",
        )
        meaning: dict[str, Any] = {
            "voltage": "mid",
            "current": "ionic",
            "governor": governor,
            "charge": charge,
            "basis": "per depth of the simulated half period",
        }
        if q_max is not None:
            meaning["q_max"] = {"definition": "given", "unit": "C/m", "value": q_max}
        return cls(form, meaning=meaning)

    @property
    def governor(self) -> str:
        """Slit whose charge governs the resistance."""
        return str(self.meaning.get("governor", "inner"))

    @property
    def cases(self) -> tuple[str, ...]:
        """Data sets with private constants."""
        return self.best.cases

    def constant(self, name: str, case: str | None = None) -> float:
        """Return one constant of the best form (``"R_c"``, ``"gamma"``, ...).

        Raises
        ------
        LawError
            If the law has no constant of that name.
        """
        values = self.best.values(case)
        if name not in values:
            raise LawError(f"the law has no constant {name!r}; it has {sorted(values)}")
        return values[name]

    def __call__(
        self, columns: Mapping[str, ArrayLike], case: str | None = None
    ) -> NDArray[np.float64]:
        """Predict the target from columns of equal (or broadcasting) shape.

        Parameters
        ----------
        columns : mapping of str to array_like
            At least the columns of the expression, in the units of :attr:`columns`.
        case : str, optional
            Data set whose private constants are used.

        Returns
        -------
        ndarray
            Target, in its unit [V for trans-slit laws].

        Raises
        ------
        LawError
            If a column or the case is missing.
        """
        return self.best(columns, case)

    def resistance(
        self, columns: Mapping[str, ArrayLike], case: str | None = None
    ) -> NDArray[np.float64]:
        """Return R = dphi/I as a function of the charge columns [Ohm m].

        A law that is not proportional to the current needs the column ``I``; one that
        is proportional needs only its charge columns.

        Raises
        ------
        LawError
            If the law has no column ``I``, or is not proportional to I and no current
            is given.
        """
        if "I" not in formula.names_of(self.best.tree):
            raise LawError(f"{self.best.expression!r} has no current I: no resistance")
        if "I" in columns:
            current = np.asarray(columns["I"], dtype=np.float64)
            return self(columns, case) / current
        one = self({**columns, "I": 1.0}, case)
        two = self({**columns, "I": 2.0}, case)
        if not np.allclose(two, 2 * one, rtol=1e-9, atol=0.0, equal_nan=True):
            raise LawError(
                f"{self.best.expression!r} is not proportional to I; give the current, too"
            )
        return one

    def is_positive_on(
        self, ranges: Mapping[str, tuple[float, float]], case: str | None = None
    ) -> bool:
        """Return whether the resistance is positive and finite on a box of columns.

        Parameters
        ----------
        ranges : mapping of str to (low, high)
            Range of each column of the expression but ``I`` (which may be given).
        case : str, optional
            Data set whose private constants are used.
        """
        names = list(ranges)
        points = max(2, int(round(20000 ** (1 / max(len(names), 1)))))
        axes = [np.linspace(*ranges[n], min(points, 2001)) for n in names]
        mesh = np.meshgrid(*axes, indexing="ij")
        value = self.resistance({n: m.ravel() for n, m in zip(names, mesh, strict=True)}, case)
        return bool(np.all(np.isfinite(value)) and np.all(value > 0))

    def sympy(self) -> Any:
        """Return the best expression as sympy; columns are real symbols.

        sympy's own meaning of names such as ``I`` or ``Q`` is switched off.
        """
        import sympy

        symbols = {n: sympy.Symbol(n, real=True) for n in formula.names_of(self.best.tree)}
        return sympy.sympify(self.best.expression, locals=symbols)

    def to_python(self, name: str = "law") -> str:
        """Return the source of a NumPy function of the columns (and constants by case)."""
        used = formula.names_of(self.best.tree)
        order = [c for c in self.columns if c in used]
        private = [c for c in self.best.constants if c in used]
        body = self.best.expression.replace("Abs(", "abs(")
        lines = ["from numpy import *  # noqa: F403", "", ""]
        lines += [f"def {name}({', '.join(order + private)}):"]
        lines += [f'    """Return {self.target}."""', f"    return {body}", ""]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of the law."""
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "target": self.target,
            "columns": {k: dict(v) for k, v in self.columns.items()},
            "best": self.best.to_dict(),
            "front": [form.to_dict() for form in self.front],
            "baselines": {k: form.to_dict() for k, form in self.baselines.items()},
            "evaluations": self.evaluations,
            "seed": self.seed,
            "meaning": dict(self.meaning),
            **self.extra,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], where: str = "law") -> ResistanceLaw:
        """Read the JSON object of a law.

        Raises
        ------
        LawError
            If it is not a law of a known schema.
        """
        if not isinstance(record, Mapping) or record.get("kind") != KIND:
            raise LawError(f"{where} is not a law file (its 'kind' must be {KIND!r})")
        if record.get("schema") != SCHEMA:
            raise LawError(
                f"{where} has schema {record.get('schema')!r}; this version reads {SCHEMA}: "
                "write it again with 'nanoslit discover'"
            )
        known = {
            "schema",
            "kind",
            "target",
            "columns",
            "best",
            "front",
            "baselines",
            "evaluations",
            "seed",
            "meaning",
        }
        return cls(
            best=LawForm.from_dict(record.get("best", {}), f"'best' of {where}"),
            target=record.get("target", RESISTANCE_TARGET),
            columns=record.get("columns", RESISTANCE_COLUMNS),
            front=tuple(
                LawForm.from_dict(e, f"front[{i}] of {where}")
                for i, e in enumerate(record.get("front", ()))
            ),
            baselines={
                k: LawForm.from_dict(e, f"baseline {k!r} of {where}")
                for k, e in record.get("baselines", {}).items()
            },
            evaluations=record.get("evaluations"),
            seed=record.get("seed"),
            meaning=record.get("meaning", {}),
            extra={k: v for k, v in record.items() if k not in known},
        )

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> ResistanceLaw:
        """Load ``LAW.json``.

        Raises
        ------
        LawError
            If the file is missing, not JSON, or not a law.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LawError(f"cannot read the law file {os.fspath(path)!r}: {error}") from None
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise LawError(f"{os.fspath(path)!r} is not JSON: {error}") from None
        return cls.from_dict(record, os.fspath(path))

    def to_file(self, path: str | Path) -> None:
        """Write ``LAW.json``: to a temporary name first, then renamed."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        atomic.write_text(path, text + "\n")
