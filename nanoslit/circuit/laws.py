"""Laws given as expressions: discovered ones (LAW.json), and capacitances C(u).

An expression is turned once into code for the current through a resistor and its
derivatives, for NumPy arrays and for the compiled kernel. A law ``dphi = F(I, Q)`` that
is proportional to the current gives ``J = (a - b)/R``; any other is solved for J by
Newton's method.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.options import CHARGES, choose
from nanoslit.circuit.resistor import NO_SATURATION, LinearResistor, Resistor
from nanoslit.circuit.rodas import KINK
from nanoslit.errors import CircuitError, LawError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nanoslit.circuit.ladder import NanoCircuit

    Array = NDArray[np.float64]

__all__ = ["ExpressionResistor", "LadderLaw", "charge_at", "law_from", "resistor_of"]

COLUMNS = tuple(f"{kind}_{slit}" for kind in "qX" for slit in ("outer", "inner", "mean"))
SAMPLES = 129  # charges at which a law must give a positive resistance


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
    charge : {"abs", "signed"}
    q_max : float, optional
        Charge that the q columns were divided by [C, C/m or C/m^2].
    bulk_charge : float, optional
        Charge that the X columns were divided by.
    basis : {"absolute", "per depth", "per area"}
        What the law's current and charges mean.
    voltage : str
        "mid" or "electrochemical": which potential the law is about.
    """

    expression: str
    constants: dict[str, ArrayLike] = field(default_factory=dict)
    governor: str = "inner"
    charge: str = "abs"
    q_max: float | None = None
    bulk_charge: float | None = None
    basis: str = "per depth"
    voltage: str = "not stated"

    def __post_init__(self) -> None:
        choose("governor of the law", self.governor, ("inner", "outer", "mean"))
        choose("charge of the law", self.charge, CHARGES)
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
            if used and (value is None or not value > 0):
                raise LawError(
                    f"the law uses {used} but says no {key}: the charge it was divided by"
                )
        if self.sympy.subs(_symbol("I"), 0).simplify() != 0:
            raise LawError(
                f"the law {self.expression!r} gives a voltage without current; a circuit "
                "would never come to rest"
            )

    @cached_property
    def sympy(self) -> Any:
        """Return the expression with real symbols."""
        import sympy

        names = {n: _symbol(n) for n in ("I", *COLUMNS, *self.constants)}
        try:
            return sympy.sympify(self.expression, locals=names)
        except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
            raise LawError(f"{self.expression!r} is not an expression: {error}") from None

    @cached_property
    def linear(self) -> tuple[str, Any, Any] | None:
        """Return (column, R_c, gamma) if R = R_c (1 - gamma column), else None."""
        import sympy

        current = _symbol("I")
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


def _symbol(name: str) -> Any:
    import sympy

    return sympy.Symbol(name, real=True)


def own_symbol(name: str) -> Any:
    """Return the symbol of a user's constant, apart from the names of the circuit."""
    return _symbol(f"k_{name}")


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


# --- the resistor ---------------------------------------------------------------------
class ExpressionResistor(Resistor):
    """A resistor whose law is generated code; see :func:`resistor_of`."""

    def __init__(self, parameters: Array, source: Source) -> None:
        self.parameters = parameters
        self.source = source
        self.varies = source.varies
        self.signature = (source.text,)

    def current(self, p: Array, a: Array, b: Array) -> Array:
        """Return J; see :meth:`Resistor.current`."""
        return np.asarray(self.source.numpy["resistor"](p, a, b))

    def slopes(self, p: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return J and its derivatives; see :meth:`Resistor.slopes`."""
        shape = np.broadcast_shapes(a.shape, b.shape, p.shape[1:])
        values = self.source.numpy["resistor_slopes"](p, a, b)
        j, da, db = (np.broadcast_to(np.asarray(x, float), shape) for x in values)
        return j, da, db

    def capacity(self, p: Array, u: Array) -> tuple[Array, Array]:
        """Return 1/g and (1/g)'; see :meth:`Resistor.capacity`."""
        shape = np.broadcast_shapes(u.shape, p.shape[1:])
        ig, slope = self.source.numpy["capacity"](p, u)
        return (
            np.broadcast_to(np.asarray(ig, float), shape),
            np.broadcast_to(np.asarray(slope, float), shape),
        )

    def charge(self, p: Array, u: Array) -> Array:
        """Return the integral of g; see :meth:`Resistor.charge`."""
        return np.asarray(self.source.numpy["charge"](p, u)) + np.zeros_like(u)

    def compiled_parts(self) -> dict[str, Any]:
        """Return the functions for the compiled kernel."""
        return self.source.compiled()


class Source:
    """Generated code of one law.

    Parameters
    ----------
    voltage : sympy expression
        F of the symbols ``I`` (current), ``a``, ``b`` and those of ``names``.
    names : list of str
        Parameters in the order of their rows.
    capacitance, charge : sympy expression
        g and its integral from 0 in the symbol ``u`` and those of ``names``.
    """

    def __init__(self, voltage: Any, names: list[str], capacitance: Any, charge: Any) -> None:
        import sympy

        self.names = names
        self.varies = capacitance != 1
        current, a, b, u = (_symbol(s) for s in ("I", "a", "b", "u"))
        r = sympy.simplify(voltage / current)
        lines: list[str] = []
        self.resistance = None if current in r.free_symbols else r
        if current not in r.free_symbols:
            j = (a - b) / r
            lines += self._function("resistor", "a, b", [j])
            lines += self._function("resistor_slopes", "a, b", [j, j.diff(a), j.diff(b)])
        else:
            f = voltage
            lines += self._newton(f, f.diff(current), f.diff(a), f.diff(b))
        slope = sympy.diff(1 / capacitance, u)
        lines += self._function("capacity", "u", [1 / capacitance, slope])
        lines += self._function("charge", "u", [charge])
        self.text = "\n".join(lines)

    def _body(self, values: list[Any], indent: str) -> tuple[list[str], list[str]]:
        """Return assignments of common parts and the text of each value."""
        import sympy

        printer = _printer()
        parts, results = sympy.cse(
            [v.rewrite(sympy.Piecewise) if v.has(sympy.DiracDelta) else v for v in values],
            symbols=sympy.numbered_symbols("c_"),
        )
        lines = [f"{indent}{s} = {printer.doprint(e)}" for s, e in parts]
        return lines, [printer.doprint(r) for r in results]

    def _head(self, name: str, arguments: str) -> list[str]:
        loads = [f"    {n} = {{p[{m}]}}" for m, n in enumerate(self.names)]
        return [f"def {name}({{head}}{arguments}):", *loads]

    def _function(self, name: str, arguments: str, values: list[Any]) -> list[str]:
        lines, results = self._body(values, "    ")
        return [*self._head(name, arguments), *lines, f"    return {', '.join(results)}", ""]

    def _newton(self, f: Any, f_i: Any, f_a: Any, f_b: Any) -> list[str]:
        """Return functions that solve F(J) = a - b for J."""
        start, (slope,) = self._body([f_i.subs(_symbol("I"), 0)], "    ")
        parts, (value, d_i) = self._body([f, f_i], "        ")
        solve = [
            *start,
            f"    I = (a - b) / ({slope})",
            "    for _ in range(60):",
            *parts,
            f"        move = (({value}) - (a - b)) / ({d_i})",
            "        I = I - move",
            "        if {all}(numpy.abs(move) <= 1e-14 * numpy.abs(I)):",
            "            break",
        ]
        lines = [*self._head("resistor", "a, b"), *solve, "    return I", ""]
        ends, (d_i, d_a, d_b) = self._body([f_i, f_a, f_b], "    ")
        return [
            *lines,
            *self._head("resistor_slopes", "a, b"),
            *solve,
            *ends,
            f"    return I, (1.0 - ({d_a})) / ({d_i}), (-1.0 - ({d_b})) / ({d_i})",
            "",
        ]

    def _written(self, head: str, load: str, every: str) -> str:
        text = self.text.replace("{head}", head).replace("{all}", every)
        for m in range(len(self.names)):
            text = text.replace(f"{{p[{m}]}}", load.format(m=m))
        return text

    @cached_property
    def numpy(self) -> dict[str, Any]:
        """Functions of parameter arrays (parameters, ...) and potentials (...)."""
        scope: dict[str, Any] = {"numpy": np}
        exec(self._written("p, ", "p[{m}]", "numpy.all"), scope)  # noqa: S102  our own generated code
        return scope

    def compiled(self) -> dict[str, Any]:
        """Return what the compiled kernel is specialised with."""
        from numba import njit

        from nanoslit.circuit import kernel

        scope: dict[str, Any] = {"numpy": np}
        rows = {f"row_{m}": np.uint64(m * kernel.LANES) for m in range(len(self.names))}
        scope |= rows
        exec(self._written("w, i, ", "w[i + row_{m}]", ""), scope)  # noqa: S102
        options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
        made = {
            name: njit(**options)(scope[name])
            for name in ("resistor", "resistor_slopes", "capacity")
        }

        def crossing(w, i, a, b, new_a, new_b):  # type: ignore[no-untyped-def]
            return factor if (a * new_a < 0.0) | (b * new_b < 0.0) else 1.0

        factor = KINK
        made["kink"] = njit(**options)(crossing)
        count = len(self.names)
        record = np.uint64((kernel.ROWS + count) * kernel.LANES)
        return made | {"N_PAR": count, "R": record, "VARIES": self.varies}


def _printer() -> Any:
    from sympy.printing.numpy import NumPyPrinter

    class Printer(NumPyPrinter):  # type: ignore[misc]
        """NumPy code that numba compiles for numbers, too."""

        def _print_Min(self, expr: Any) -> str:
            return self._nested("minimum", expr)

        def _print_Max(self, expr: Any) -> str:
            return self._nested("maximum", expr)

        def _nested(self, name: str, expr: Any) -> str:
            text = self._print(expr.args[0])
            for other in expr.args[1:]:
                text = f"numpy.{name}({text}, {self._print(other)})"
            return str(text)

        def _print_Heaviside(self, expr: Any) -> str:
            return f"(1.0*(({self._print(expr.args[0])}) > 0))"

        def _print_Abs(self, expr: Any) -> str:
            return f"numpy.abs({self._print(expr.args[0])})"

        def _print_sign(self, expr: Any) -> str:
            return f"numpy.sign({self._print(expr.args[0])})"

    return Printer({"fully_qualified_modules": True})


# --- from a circuit to its resistor -----------------------------------------------------
def capacitance_law(circuit: NanoCircuit) -> tuple[Any, Any, list[str]]:
    """Return g, its integral and the names of its constants as sympy and text.

    Raises
    ------
    CircuitError
        If ``c_law`` is no expression in u or has no closed integral.
    """
    import sympy

    prefix = "c_law constant "
    names = [k.removeprefix(prefix) for k in circuit._values if k.startswith(prefix)]
    u = _symbol("u")
    if circuit.c_law is None:
        return sympy.Integer(1), u, []
    known = {"u": u} | {n: own_symbol(n) for n in names}
    try:
        g = sympy.sympify(circuit.c_law, locals=known)
    except (sympy.SympifyError, TypeError, SyntaxError, AttributeError) as error:
        raise CircuitError(f"c_law = {circuit.c_law!r} is not an expression: {error}") from None
    unknown = sorted(str(s) for s in g.free_symbols - set(known.values()))
    if unknown:
        raise CircuitError(
            f"c_law = {circuit.c_law!r} uses {unknown}; it may use u [V] and the names given "
            "in c_law_constants"
        )
    v = sympy.Symbol("v", real=True)
    charge = sympy.integrate(g.subs(u, v), (v, 0, u))
    if charge.has(sympy.Integral):
        raise CircuitError(f"c_law = {circuit.c_law!r} has no closed integral over u")
    return g, charge, names


def charge_at(circuit: NanoCircuit, largest: Array) -> Array:
    """Return the charge of every slit at the potentials ``largest``, (circuits, slits)."""
    c = circuit.value("c_slit")
    if circuit.c_law is None:
        return np.asarray(c * largest[:, None])
    import sympy

    _, charge, names = capacitance_law(circuit)
    function = sympy.lambdify([_symbol("u"), *map(own_symbol, names)], charge, "numpy")
    values = [circuit._values[f"c_law constant {n}"] for n in names]
    up = np.abs(function(largest[:, None], *values))
    down = np.abs(function(-largest[:, None], *values))
    return np.asarray(c * np.maximum(up, down))


def resistor_of(circuit: NanoCircuit, largest: Array, cycle_charge: Array | None) -> Resistor:
    """Return the generated resistor of a circuit with a law expression or C(u)."""
    if circuit.law is not None and circuit.c_law is None:
        simple = linear_law(circuit, circuit.law)
        if simple is not None:
            check_positive(simple, largest)
            return simple
    g, charge, names = capacitance_law(circuit)
    a, b, u = (_symbol(s) for s in ("a", "b", "u"))
    at_a, at_b = charge.subs(u, a), charge.subs(u, b)
    if circuit.law is None:
        voltage, columns = _by_hand(circuit, at_a, at_b, largest, cycle_charge)
    else:
        voltage, columns = _discovered(circuit, circuit.law, at_a, at_b)
    for name in names:
        columns[str(own_symbol(name))] = circuit._values[f"c_law constant {name}"]
    source = Source(voltage, list(columns), g, charge)
    rows = np.stack([np.broadcast_to(c, _shape(circuit)) for c in columns.values()])
    padded = np.concatenate([np.ones_like(rows[:, :, :1]), rows], axis=2)
    law = ExpressionResistor(np.ascontiguousarray(padded), source)
    check_positive(law, largest)
    return law


def linear_law(circuit: NanoCircuit, law: LadderLaw) -> LinearResistor | None:
    """Return the built-in resistor if a discovered law has its form, else None."""
    import sympy

    if law.linear is None:
        return None
    column, r_c, gamma = law.linear
    factor = law_factor(circuit, law)
    names = list(law.constants)
    values = [circuit._values[f"law constant {n}"] for n in names]
    symbols = [_symbol(n) for n in names]
    one = np.ones(_shape(circuit))
    resistance = sympy.lambdify(symbols, r_c * factor, "numpy")(*values) * one
    fall = sympy.lambdify(symbols, gamma, "numpy")(*values) * one
    if circuit.access == "constant":
        fall[:, 0] = 0.0
    scale = law.q_max if column.startswith("q_") else law.bulk_charge
    weight = circuit.value("c_slit") * factor / (1.0 if scale is None else scale)
    outer, inner = np.zeros_like(weight), weight
    if column.endswith("outer"):
        outer[:, 1:], inner = weight[:, :-1], np.zeros_like(weight)
    cap = np.full_like(one, NO_SATURATION)
    sign = -one if law.charge == "abs" else one
    rows = np.stack([resistance, resistance * fall, outer, inner, cap, sign])
    padded = np.concatenate([np.ones_like(rows[:, :, :1]), rows], axis=2)
    return LinearResistor(np.ascontiguousarray(padded))


def _shape(circuit: NanoCircuit) -> tuple[int, int]:
    return circuit.circuits, circuit.n_slits


def _by_hand(
    circuit: NanoCircuit, at_a: Any, at_b: Any, largest: Array, cycle_charge: Array | None
) -> tuple[Any, dict[str, Array]]:
    """Return the linear law's voltage and its parameters (with C(u))."""
    import sympy

    outer, inner = circuit.charge_weights(largest, cycle_charge)
    if circuit.governor in ("outer_open", "mean") and circuit.c_law is not None:
        raise CircuitError(
            f"governor = {circuit.governor!r} is not available with c_law; use 'inner' or "
            "'outer'"
        )
    columns = {
        "r_c": circuit.value("r_c"), "gamma": circuit.value("gamma"),
        "w_outer": outer, "w_inner": inner,
    }  # fmt: skip
    s = _symbol("w_outer") * at_a + _symbol("w_inner") * at_b
    s = sympy.Abs(s) if circuit.charge == "abs" else s
    if "saturation" in circuit._values or cycle_charge is not None:
        cap = circuit._values.get("saturation", np.ones(_shape(circuit)))
        columns["cap"] = cap
        limit = _symbol("cap")
        s = sympy.Max(sympy.Min(s, limit), -limit) / limit
    return _symbol("I") * _symbol("r_c") * (1 - _symbol("gamma") * s), columns


def law_factor(circuit: NanoCircuit, law: LadderLaw) -> float:
    """Return what turns the circuit's currents and charges into those of the law.

    Raises
    ------
    CircuitError
        If the two bases differ and the depth or height that relates them is not given.
    """
    pair = (circuit.basis, law.basis)
    if pair[0] == pair[1]:
        return 1.0
    # which length relates the two, and whether it multiplies or divides
    needed = {
        ("absolute", "per depth"): ("depth", -1),
        ("per depth", "absolute"): ("depth", 1),
        ("per area", "per depth"): ("height", 1),
        ("per depth", "per area"): ("height", -1),
    }
    if pair in needed:
        key, power = needed[pair]
        value = getattr(circuit, key)
        if value is not None:
            return float(value**power)
        raise CircuitError(
            f"the circuit is {pair[0]}, its law {pair[1]}: give the {key} [m] that relates them"
        )
    raise CircuitError(f"a circuit {pair[0]} cannot use a law {pair[1]}")


def _discovered(
    circuit: NanoCircuit, law: LadderLaw, at_a: Any, at_b: Any
) -> tuple[Any, dict[str, Array]]:
    """Return the voltage of a discovered law and its parameters."""
    import sympy

    factor = law_factor(circuit, law)
    c = circuit.value("c_slit") * factor
    outer_c = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
    if law.governor == "mean":
        # the first resistor has no outer slit: it follows slit 1
        outer_share = np.full_like(c, 0.5)
        outer_share[:, 0] = 0.0
    else:
        outer_share = np.zeros_like(c)
    columns: dict[str, Array] = {"C_outer": outer_c, "C_inner": c, "share": outer_share}
    outer, inner = _symbol("C_outer") * at_a, _symbol("C_inner") * at_b
    if law.charge == "abs":
        outer, inner = sympy.Abs(outer), sympy.Abs(inner)
    mean = _symbol("share") * outer + (1 - _symbol("share")) * inner
    swap = {_symbol("I"): _symbol("I") * sympy.Float(factor, 17)}
    for kind, scale in (("q", law.q_max), ("X", law.bulk_charge)):
        for name, value in (("outer", outer), ("inner", inner), ("mean", mean)):
            if scale is not None:
                swap[_symbol(f"{kind}_{name}")] = value / sympy.Float(scale, 17)
    if circuit.access == "constant":
        columns["follows"] = np.where(np.arange(circuit.n_slits) == 0, 0.0, 1.0) + 0 * c
        swap = {k: v if str(k) == "I" else v * _symbol("follows") for k, v in swap.items()}
    for name in law.constants:
        swap[_symbol(name)] = own_symbol(name)
        columns[str(own_symbol(name))] = circuit._values[f"law constant {name}"]
    voltage = law.sympy.subs(swap, simultaneous=True)
    used = {str(s) for s in voltage.free_symbols}
    kept = {k: v for k, v in columns.items() if k in used}
    return voltage, kept or {"share": outer_share}


def check_positive(law: Resistor, largest: Array) -> None:
    """Raise if a resistor is not positive within the charges that the drive reaches.

    Raises
    ------
    CircuitError
        Naming the first circuit and the potential at which the law fails.
    """
    p = law.parameters[:, :, 1:]
    for x in np.linspace(-1, 1, SAMPLES):
        u = np.broadcast_to((x * largest)[:, None], p.shape[1:])
        with np.errstate(all="ignore"):
            _, da, db = law.slopes(p, u, u)
            g = 0.5 * (da - db)
            ig, _ = law.capacity(p, u)
        for what, value in (("law", g), ("c_law", ig)):
            bad = ~((value > 0) & np.isfinite(value))
            if bad.any():
                index, slit = np.argwhere(bad)[0]
                raise CircuitError(
                    f"the {what} of circuit {index}, slit {slit + 1} is not positive and "
                    f"finite at a potential of {u[index, slit]:.4g} V, which the protocol "
                    "reaches; use a smaller window or another law"
                )
