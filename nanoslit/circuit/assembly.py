"""From a circuit to its resistors: built-in code for linear laws, generated code for others.

Resistor k feeds slit k. The first one, the mouth, may have a law of its own. Linear laws,
by hand or discovered, with a constant capacitance use the built-in
:class:`~nanoslit.circuit.resistor.LinearResistor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.capacitance import (
    PREFIX,
    SlitCapacitance,
    capacitance_of,
    own_symbol,
    symbol,
)
from nanoslit.circuit.generated import ExpressionResistor, Source
from nanoslit.circuit.resistor import NO_SATURATION, LinearResistor, Resistor
from nanoslit.errors import CircuitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.ladder import NanoCircuit
    from nanoslit.circuit.laws import LadderLaw

    Array = NDArray[np.float64]

__all__ = ["Reach", "charge_at", "charge_scale", "resistor_of"]

SAMPLES = 129  # potentials at which a law must give a positive resistance


@dataclass(frozen=True)
class Reach:
    """What a protocol asks of a circuit.

    Parameters
    ----------
    lower, upper : ndarray, shape (circuits,)
        Potentials of one electrode [V].
    cycle_charge : ndarray, shape (circuits, nodes), optional
        Largest |charge| of each node over a cycle, if that is Q_max [C, ...].
    """

    lower: Array
    upper: Array
    cycle_charge: Array | None = None

    @property
    def largest(self) -> Array:
        """Largest |potential| of each circuit [V]."""
        return np.maximum(np.abs(self.lower), np.abs(self.upper))


# --- Q_max ------------------------------------------------------------------------------
def charge_at(circuit: NanoCircuit, reach: Reach) -> Array:
    """Return the largest |charge| of every slit within reach, (circuits, slits)."""
    c = circuit.value("c_slit")
    if circuit.c_law is None:
        return np.asarray(c * reach.largest[:, None])
    law = capacitance_of(circuit)
    law.check_range(reach.lower, reach.upper)
    values = [circuit._values[PREFIX + n] for n in law.names]
    low, high = (
        np.abs(law.charge_at(np.broadcast_to(u[:, None], c.shape), values))
        for u in (reach.lower, reach.upper)
    )
    return np.asarray(c * np.maximum(low, high))


def charge_scale(circuit: NanoCircuit, reach: Reach) -> Array:
    """Return Q_max of node 0 and the slits, (circuits, slits + 1) [C, ...].

    That of a law is one for each resistor; without one: the largest charge of the window.
    """
    if reach.cycle_charge is not None:
        return reach.cycle_charge
    given = circuit._values.get("q_max")
    if circuit.law is not None and "law q_max" in circuit._values:
        given = circuit._values["law q_max"] / law_factor(circuit, circuit.law)
    if given is not None:
        return np.concatenate([given[:, :1], given], axis=1)
    c = circuit.capacitance
    c[:, 0] *= reach.largest
    c[:, 1:] = charge_at(circuit, reach)
    return np.where(c > 0, c, 1.0)


def charge_weights(circuit: NanoCircuit, reach: Reach) -> tuple[Array, Array]:
    """Return weights of the potentials at both ends of a resistor in Q/Q_max [1/V].

    Of a circuit by hand; two arrays of shape (circuits, slits).
    """
    weight = circuit.capacitance / charge_scale(circuit, reach)
    outer, inner = weight[:, :-1].copy(), weight[:, 1:].copy()
    if circuit.governor == "inner":
        outer[:] = 0
    elif circuit.governor in ("outer", "outer_open"):
        inner[:] = 0
        if circuit.governor == "outer":
            outer[:, 0] = 0
    else:
        outer *= 0.5
        inner[:, 1:] *= 0.5
        outer[:, 0] = 0
    return outer, inner


# --- linear laws ------------------------------------------------------------------------
def _rows_by_hand(circuit: NanoCircuit, reach: Reach) -> Array:
    """Return the parameters of a LinearResistor, (6, circuits, slits)."""
    outer, inner = charge_weights(circuit, reach)
    r_c, gamma = circuit.value("r_c"), circuit.value("gamma")
    cap = np.full_like(r_c, NO_SATURATION)
    if "saturation" in circuit._values:
        cap = np.ones_like(r_c)
        outer, inner = (x / circuit.value("saturation") for x in (outer, inner))
    elif reach.cycle_charge is not None:
        cap = np.ones_like(r_c)
    sign = np.full_like(r_c, -1.0 if circuit.charge == "abs" else 1.0)
    return np.stack([r_c, r_c * gamma, outer, inner, cap, sign])


def _rows_of_law(circuit: NanoCircuit, law: LadderLaw, prefix: str) -> Array | None:
    """Return the parameters of a LinearResistor if a law has its form, else None."""
    import sympy

    if law.linear is None:
        return None
    column, r_c, gamma = law.linear
    factor = law_factor(circuit, law)
    values = [circuit._values[f"{prefix}constant {n}"] for n in law.constants]
    symbols = [symbol(n) for n in law.constants]
    one = np.ones((circuit.circuits, circuit.n_slits))
    resistance = sympy.lambdify(symbols, r_c * factor, "numpy")(*values) * one
    fall = sympy.lambdify(symbols, gamma, "numpy")(*values) * one
    key = "q_max" if column.startswith("q_") else "bulk_charge"
    scale = circuit._values.get(prefix + key, one)
    outer, inner = _slit_weights(circuit, law, factor / scale, column.partition("_")[2])
    cap = np.full_like(one, NO_SATURATION)
    sign = -one if law.charge == "abs" else one
    return np.asarray(np.stack([resistance, resistance * fall, outer, inner, cap, sign]))


def _slit_weights(
    circuit: NanoCircuit, law: LadderLaw, factor: Array, slit: str
) -> tuple[Array, Array]:
    """Return charge over its scale per potential of the slits before and behind."""
    c = circuit.value("c_slit")
    outer, inner = np.zeros_like(c), c * factor
    if slit == "outer":
        outer[:, 1:], inner = c[:, :-1] * factor[:, 1:], np.zeros_like(c)
    return outer, inner


def linear_rows(circuit: NanoCircuit, reach: Reach) -> Array | None:
    """Return the parameters of a LinearResistor for all resistors, or None.

    Shape (6, circuits, slits).
    """
    if circuit.law is None:
        rows: Array | None = _rows_by_hand(circuit, reach)
    else:
        rows = _rows_of_law(circuit, circuit.law, "law ")
        if rows is not None and circuit.access == "constant":
            rows[1, :, 0] = 0.0
    if circuit.mouth_law is None or rows is None:
        return rows
    mouth = _rows_of_law(circuit, circuit.mouth_law, "mouth law ")
    if mouth is None:
        return None
    rows[:, :, 0] = mouth[:, :, 0]
    return np.asarray(rows)


# --- all laws ---------------------------------------------------------------------------
def resistor_of(circuit: NanoCircuit, reach: Reach) -> Resistor:
    """Return the resistors of a circuit with their numbers.

    Raises
    ------
    CircuitError
        If a resistance or capacitance is not positive within reach; names the circuit.
    """
    law: Resistor
    if circuit.law is None and circuit.c_law is None:
        _check_by_hand(circuit, reach)
    rows = linear_rows(circuit, reach) if circuit.c_law is None else None
    if rows is not None:
        law = LinearResistor(_padded(rows))
        if circuit.law is None and circuit.mouth_law is None:
            return law
    else:
        law = _generated(circuit, reach)
    check_positive(law, reach)
    return law


def _padded(rows: Array) -> Array:
    """Return parameters with a column for node 0, which no resistor feeds."""
    return np.ascontiguousarray(np.concatenate([np.ones_like(rows[:, :, :1]), rows], axis=2))


def _generated(circuit: NanoCircuit, reach: Reach) -> ExpressionResistor:
    capacitance = capacitance_of(circuit)
    capacitance.check_range(reach.lower, reach.upper)
    a, b = symbol("a"), symbol("b")
    at_b = capacitance.charge.subs(symbol("u"), b)
    # the slit before has constants of its own
    before = {own_symbol(n): own_symbol(f"before_{n}") for n in capacitance.names}
    at_a = capacitance.charge.subs({symbol("u"): a, **before}, simultaneous=True)
    if circuit.law is None:
        voltage, columns = _by_hand(circuit, at_a, at_b, reach)
    else:
        voltage, columns = _discovered(circuit, circuit.law, at_a, at_b, "law ")
    mouth = None
    if circuit.mouth_law is not None:
        mouth, more = _discovered(circuit, circuit.mouth_law, at_a, at_b, "mouth law ")
        columns |= more | {"is_mouth": _is_first(circuit)}
    for name in capacitance.names:
        values = circuit._values[PREFIX + name]
        columns[str(own_symbol(name))] = values
        columns[str(own_symbol(f"before_{name}"))] = np.concatenate(
            [values[:, :1], values[:, :-1]], axis=1
        )
    source = _source(voltage, tuple(columns), capacitance, mouth)
    shape = circuit.circuits, circuit.n_slits
    rows = np.stack([np.broadcast_to(c, shape) for c in columns.values()])
    return ExpressionResistor(_padded(rows), source)


@lru_cache(maxsize=32)
def _source(
    voltage: Any, names: tuple[str, ...], capacitance: SlitCapacitance, mouth: Any
) -> Source:
    return Source(voltage, list(names), capacitance, mouth)


def _is_first(circuit: NanoCircuit) -> Array:
    first = np.zeros((circuit.circuits, circuit.n_slits))
    first[:, 0] = 1.0
    return first


def _by_hand(
    circuit: NanoCircuit, at_a: Any, at_b: Any, reach: Reach
) -> tuple[Any, dict[str, Array]]:
    """Return the linear law's voltage and its parameters (with C(u) or a mouth's law)."""
    import sympy

    outer, inner = charge_weights(circuit, reach)
    columns = {
        "r_c": circuit.value("r_c"), "gamma": circuit.value("gamma"),
        "w_outer": outer, "w_inner": inner,
    }  # fmt: skip
    if circuit.governor == "outer_open":  # the capacitance of the open space is constant
        columns["is_mouth"] = _is_first(circuit)
        at_a = symbol("is_mouth") * symbol("a") + (1 - symbol("is_mouth")) * at_a
    s = symbol("w_outer") * at_a + symbol("w_inner") * at_b
    s = sympy.Abs(s) if circuit.charge == "abs" else s
    if "saturation" in circuit._values or reach.cycle_charge is not None:
        columns["cap"] = circuit._values.get("saturation", np.ones_like(outer))
        limit = symbol("cap")
        s = sympy.Max(sympy.Min(s, limit), -limit) / limit
    return symbol("I") * symbol("r_c") * (1 - symbol("gamma") * s), columns


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
    circuit: NanoCircuit, law: LadderLaw, at_a: Any, at_b: Any, prefix: str
) -> tuple[Any, dict[str, Array]]:
    """Return the voltage of a given law and its parameters.

    ``prefix`` tells where the circuit keeps the numbers of the law.
    """
    import sympy

    tag = prefix.split()[0] + "_"
    factor = law_factor(circuit, law)
    c = circuit.value("c_slit") * factor
    outer_c = np.concatenate([np.zeros_like(c[:, :1]), c[:, :-1]], axis=1)
    outer_share = np.zeros_like(c)
    if law.governor == "mean":
        outer_share[:, 1:] = 0.5  # the first resistor has no outer slit: it follows slit 1
    columns = {f"{tag}outer": outer_c, f"{tag}inner": c, f"{tag}share": outer_share}
    share = symbol(f"{tag}share")
    outer, inner = symbol(f"{tag}outer") * at_a, symbol(f"{tag}inner") * at_b
    if law.charge == "abs":
        outer, inner = sympy.Abs(outer), sympy.Abs(inner)
    mean = share * outer + (1 - share) * inner
    follows = sympy.Integer(1)
    if circuit.access == "constant":
        columns[f"{tag}follows"] = 1.0 - _is_first(circuit)
        follows = symbol(f"{tag}follows")
    swap = {symbol("I"): symbol("I") * sympy.Float(factor, 17)}
    for kind, key in (("q", "q_max"), ("X", "bulk_charge")):
        if prefix + key not in circuit._values:
            continue
        columns[tag + key] = circuit._values[prefix + key]
        for name, value in (("outer", outer), ("inner", inner), ("mean", mean)):
            swap[symbol(f"{kind}_{name}")] = follows * value / symbol(tag + key)
    for name in law.constants:
        swap[symbol(name)] = own_symbol(tag + name)
        columns[str(own_symbol(tag + name))] = circuit._values[f"{prefix}constant {name}"]
    voltage = law.sympy.subs(swap, simultaneous=True)
    used = {str(s) for s in voltage.free_symbols}
    kept = {k: v for k, v in columns.items() if k in used}
    return voltage, kept or {f"{tag}share": outer_share}


def _check_by_hand(circuit: NanoCircuit, reach: Reach) -> None:
    """Raise if R_c (1 - gamma s) would not stay positive, naming gamma and Q/Q_max.

    Raises
    ------
    CircuitError
        With the first circuit and slit.
    """
    _, _, outer, inner, cap, _ = _rows_by_hand(circuit, reach)
    gamma = circuit.value("gamma")
    extent = np.minimum((np.abs(outer) + np.abs(inner)) * reach.largest[:, None], cap)
    bad = ~(np.abs(gamma) * np.maximum(extent, 1.0) < 1.0)
    if circuit.mouth_law is not None:
        bad[:, 0] = False
    if bad.any():
        b, k = np.argwhere(bad)[0]
        raise CircuitError(
            f"gamma = {gamma[b, k]:g} of circuit {b}, slit {k + 1}: the resistance "
            f"would not stay positive, since Q/Q_max reaches {extent[b, k]:.3g}; "
            "|gamma| must be below 1, or Q_max larger, or a saturation given"
        )


def check_positive(law: Resistor, reach: Reach) -> None:
    """Raise if a resistor is not positive within the charges that the drive reaches.

    Raises
    ------
    CircuitError
        Naming the first circuit and the potential at which the law fails.
    """
    p = law.parameters[:, :, 1:]
    lower, upper = np.minimum(reach.lower, 0.0), np.maximum(reach.upper, 0.0)
    for x in np.linspace(0, 1, SAMPLES):
        u = np.broadcast_to((lower + x * (upper - lower))[:, None], p.shape[1:])
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
