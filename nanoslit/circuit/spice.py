"""SPICE netlist of a circuit: an independent check, and a way into other tools."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.circuit.assembly import Reach
from nanoslit.circuit.drive import CURRENT
from nanoslit.circuit.generated import ExpressionResistor
from nanoslit.circuit.resistor import LinearResistor
from nanoslit.errors import CircuitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nanoslit.circuit.drive import Drive
    from nanoslit.circuit.ladder import NanoCircuit
    from nanoslit.protocol import Protocol

__all__ = ["netlist"]

MAX_STEP = 2000  # longest step of the transient analysis: shortest piece over this


def netlist(
    circuit: NanoCircuit,
    protocol: Protocol | Sequence[Protocol] | Drive,
    *,
    index: int = 0,
    table: str | None = None,
    steps: int = MAX_STEP,
    title: str = "nano-circuitry model",
) -> str:
    """Return the netlist of one circuit under a protocol of given potential.

    Node n0 is the open space, nk slit k; the current of ``vdrive`` is minus the
    electrode current. A symmetric cell is exported as one electrode at half the
    potential. Values per depth or area are written as they are.

    Parameters
    ----------
    circuit : NanoCircuit
    protocol : Protocol
        Piecewise linear potential.
    index : int
        Which circuit of a batch.
    table : str, optional
        File that ngspice shall write time, drive potential and current to.
    steps : int
        The transient analysis takes at least this many steps in the shortest piece.
    title : str
        First line.

    Raises
    ------
    CircuitError
        If the circuit or the protocol has no SPICE form here: C(u), a law that is not
        proportional to the current, a given current, a potential that is not piecewise
        linear or jumps.
    """
    drive = circuit.drive(protocol)
    if not 0 <= index < circuit.circuits:
        raise CircuitError(f"circuit index {index} is not in 0..{circuit.circuits - 1}")
    if np.any(drive.kinds == CURRENT) or np.any(drive.jumps) or np.any(drive.curves[..., 2:]):
        raise CircuitError(
            "a netlist needs a protocol of piecewise linear potential without jumps"
        )
    if circuit.c_law is not None:
        raise CircuitError("a netlist cannot hold c_law; export without it")
    if circuit.q_max == "cycle":
        raise CircuitError("a netlist cannot hold q_max = 'cycle'; give the charge as number")
    drive = drive.select(np.array([index % drive.circuits]))
    one = circuit.select(np.array([index]))
    law = one.resistor(Reach(*drive.bounds()))
    lines = [f"* {title}", f"* options: {one.options()}"]
    lines += [f"vdrive in 0 pwl({_corners(drive)})"]
    lines += [f"ropen in n0 {_number(one.value('r_open')[0])}"]
    start = _number(drive.start[0])
    for k, c in enumerate(one.capacitance[0]):
        lines.append(f"c{k} n{k} 0 {_number(c)} ic={start}")
    for k in range(1, one.n_slits + 1):
        r = _resistance(law, k)
        lines.append(f"b{k} n{k - 1} n{k} i=(v(n{k - 1})-v(n{k}))/({r})")
    end = float(drive.lengths[0].sum())
    step = _number(float(drive.lengths[0].min()) / steps)
    lines.append(f".tran {step} {_number(end)} 0 {step} uic")
    lines += [".options reltol=1e-6 abstol=1e-15 vntol=1e-9 method=gear"]
    if table is not None:
        lines += [".control", "set wr_singlescale", "set wr_vecnames", "set numdgt=12", "run"]
        lines += [f"wrdata {table} v(in) i(vdrive)", "quit", ".endc"]
    return "\n".join([*lines, ".end", ""])


def _number(value: float) -> str:
    return f"{float(value):.15g}"


def _corners(drive: Drive) -> str:
    times = np.concatenate([[0.0], np.cumsum(drive.lengths[0])])
    last = [drive.ends_of(p)[1][0] for p in range(drive.pieces)]
    values = [drive.ends_of(0)[0][0], *last]
    return " ".join(f"{_number(t)} {_number(v)}" for t, v in zip(times, values, strict=True))


def _resistance(law: object, k: int) -> str:
    """Return the resistance of resistor k in SPICE's language."""
    a, b = f"v(n{k - 1})", f"v(n{k})"
    if isinstance(law, LinearResistor):
        r_c, fall, outer, inner, cap, sign = law.parameters[:, 0, k]
        parts = [
            f"{_number(weight)}*{node}"
            for weight, node in ((outer, a), (inner, b))
            if weight != 0
        ]
        if fall == 0 or not parts:
            return _number(r_c)
        s = "+".join(parts)
        s = f"abs({s})" if sign < 0 else f"({s})"
        if cap < 1e299:
            s = f"max(min({s},{_number(cap)}),{_number(-cap)})"
        return f"{_number(r_c)}-{_number(fall)}*{s}"
    if isinstance(law, ExpressionResistor):
        return _from_sympy(law, k, a, b)
    raise CircuitError("this law has no SPICE form")


def _from_sympy(law: ExpressionResistor, k: int, a: str, b: str) -> str:
    import sympy

    r = law.source.resistance
    if r is None:
        raise CircuitError(
            "a netlist needs a law that is proportional to the current; this one is not"
        )
    known = {
        sympy.Symbol(n, real=True): sympy.Float(law.parameters[m, 0, k], 17)
        for m, n in enumerate(law.source.names)
    }
    text = sympy.sstr(r.subs(known), full_prec=True)
    for name, spice in (("Abs(", "abs("), ("Min(", "min("), ("Max(", "max(")):
        text = text.replace(name, spice)
    nodes = {"a": a, "b": b}
    return re.sub(r"\b[ab]\b", lambda found: nodes[found.group()], text)
