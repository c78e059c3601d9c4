"""Laws of the trans-slit voltage as a circuit uses them: by hand or from a LAW.json."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.capacitance import symbol
from nanoslit.circuit.options import BASES, CHARGES, choose
from nanoslit.errors import LawError
from nanoslit.expressions import parse_expression

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["COLUMNS", "LadderLaw", "law_from"]

COLUMNS = tuple(f"{kind}_{slit}" for kind in "qX" for slit in ("outer", "inner", "mean"))


@dataclass(frozen=True)
class LadderLaw:
    """A law of the trans-slit voltage as the circuit uses it.

    Parameters
    ----------
    expression : str
        Voltage [V] in the columns ``I``, ``q_outer``, ``q_inner``, ``q_mean`` (|Q| or Q
        over Q_max), ``X_outer``, ``X_inner``, ``X_mean`` (over the charge of the slit's
        bulk ion content) and the names of ``constants``.
    constants : dict
        Each a number, (circuits,) or (circuits, slits).
    governor : {"inner", "outer", "mean"}
        Whose charge rules a resistor: the slit it feeds, the one before, or both. For the
        first resistor, which has no slit before it, ``outer`` is no charge and ``mean``
        that of slit 1.
    charge : {"abs", "signed"}
    q_max : array_like, optional
        Charge that the q columns were divided by: a number, (circuits,) or
        (circuits, slits) with one for each resistor [C, C/m or C/m^2].
    bulk_charge : array_like, optional
        Charge that the X columns were divided by, likewise.
    basis : {"absolute", "per depth", "per area"}
        What the law's current and charges mean.
    voltage : str
        "mid", "electrochemical" or "counterion": which potential the law is about.
    """

    expression: str
    constants: dict[str, ArrayLike] = field(default_factory=dict)
    governor: str = "inner"
    charge: str = "abs"
    q_max: ArrayLike | None = None
    bulk_charge: ArrayLike | None = None
    basis: str = "per depth"
    voltage: str = "not stated"

    def __post_init__(self) -> None:
        choose("governor of the law", self.governor, ("inner", "outer", "mean"))
        choose("charge of the law", self.charge, CHARGES)
        choose("basis of the law", self.basis, BASES)
        names = {str(s) for s in self.sympy.free_symbols}
        known = {"I", *COLUMNS, *self.constants}
        unknown = sorted(names - known)
        if unknown:
            raise LawError(
                f"the law {self.expression!r} uses {unknown}; a circuit knows the current I "
                f"and the charges {list(COLUMNS)} only: choose a law in these columns from "
                "its front"
            )
        for kind, value, key in (
            ("q_", self.q_max, "q_max"),
            ("X_", self.bulk_charge, "bulk_charge"),
        ):
            used = sorted(n for n in names if n in COLUMNS and n.startswith(kind))
            if used and (value is None or not np.all(np.asarray(value, float) > 0)):
                raise LawError(
                    f"the law uses {used} but says no positive {key}, the charge they "
                    "were divided by"
                )
        if self.sympy.subs(symbol("I"), 0).simplify() != 0:
            raise LawError(
                f"the law {self.expression!r} gives a voltage without current; a circuit "
                "would never come to rest"
            )

    @cached_property
    def sympy(self) -> Any:
        """Return the expression with real symbols."""
        names = {n: symbol(n) for n in ("I", *COLUMNS, *self.constants)}
        try:
            return parse_expression(self.expression, names)
        except ValueError as error:
            raise LawError(f"the law {error}") from None

    @cached_property
    def linear(self) -> tuple[str, Any, Any] | None:
        """Return (column, R_c, gamma) if R = R_c (1 - gamma column), else None."""
        import sympy

        current = symbol("I")
        r = sympy.expand(sympy.simplify(self.sympy / current))
        if current in r.free_symbols:
            return None
        columns = [s for s in r.free_symbols if str(s) in COLUMNS]
        if len(columns) > 1 or any(str(s).endswith("_mean") for s in columns):
            return None
        if not columns:
            return "q_inner", r, sympy.Integer(0)
        x = columns[0]
        if not r.is_polynomial(x) or sympy.degree(r, x) > 1:
            return None
        r_c = r.subs(x, 0)
        return str(x), r_c, sympy.simplify(-sympy.diff(r, x) / r_c)


def law_from(law: Any, case: str | None, bulk_charge: float | None) -> LadderLaw:
    """Return the circuit's view of a discovered law, a LAW.json file or a LadderLaw.

    Raises
    ------
    LawError
        If the law is no trans-slit law, lacks its conventions, or has several data sets
        and ``case`` names none.
    """
    if isinstance(law, LadderLaw):
        return law
    from nanoslit.discovery.law import ResistanceLaw

    if isinstance(law, (str, os.PathLike)):
        law = ResistanceLaw.from_file(law)
    if not isinstance(law, ResistanceLaw):
        raise LawError(f"law = {law!r} must be a LAW.json file, ResistanceLaw or LadderLaw")
    if law.target != "trans_slit_voltage":
        raise LawError(f"the law predicts {law.target!r}; a circuit needs 'trans_slit_voltage'")
    meaning = law.meaning
    missing = [k for k in ("voltage", "governor", "charge") if k not in meaning]
    if missing:
        raise LawError(f"the law does not say its {missing}; a circuit never assumes them")
    names = {s for s in law.best.constants if _mentions(law.best.expression, s)}
    known = _known_cases(law)
    if case is not None and known and case not in known:
        raise LawError(f"case = {case!r} is not in the law, which has {known}")
    values = law.best.values(case) if names else {}
    return LadderLaw(
        expression=law.best.expression,
        constants={k: values[k] for k in sorted(names)},
        governor=str(meaning["governor"]),
        charge=str(meaning["charge"]),
        q_max=_of_case(meaning.get("q_max"), case, "q_max"),
        bulk_charge=bulk_charge or _of_case(meaning.get("bulk_charge"), case, "bulk_charge"),
        basis="per depth",
        voltage=str(meaning["voltage"]),
    )


def _known_cases(law: Any) -> list[str]:
    q_max = law.meaning.get("q_max") or {}
    return list(dict.fromkeys([*law.best.cases, *q_max.get("per_case", {})]))


def _mentions(expression: str, name: str) -> bool:
    import re

    return re.search(rf"\b{re.escape(name)}\b", expression) is not None


def _of_case(entry: Any, case: str | None, key: str) -> float | None:
    """Return the value of a per-case entry of the law's meaning."""
    if entry is None:
        return None
    if "per_case" not in entry:
        return None if entry.get("value") is None else float(entry["value"])
    values = entry["per_case"]
    if case is None and len(values) > 1:
        raise LawError(
            f"{key} of the law differs between data sets; name a case: {list(values)}"
        )
    chosen = next(iter(values)) if case is None else case
    if chosen not in values:
        raise LawError(f"{key} of the law has no case {chosen!r}; it has {list(values)}")
    value = values[chosen]
    return float(value["value"] if isinstance(value, dict) else value)
