"""Circuits against a solved cell: which circuit gives which voltammogram, how far off."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.ions import IonCircuit
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.circuit.laws import COLUMNS, LadderLaw
from nanoslit.errors import CircuitError, ConvergenceError, LawError
from nanoslit.results.last_cycle import weighted_fit
from nanoslit.study.ions import IonMaterial, ion_parameters
from nanoslit.study.parameters import (
    POTENTIALS,
    Cell,
    LadderParameters,
    ladder_parameters,
    read_cell,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.case import Case
    from nanoslit.discovery.law import LawForm, ResistanceLaw

    Array = NDArray[np.float64]

__all__ = ["MODELS", "Model", "Outcome", "compare", "deviation", "models_of", "usable_form"]

MODELS = {
    "ions": "a rail for each ion, contents of slits in equilibrium, open space with its salt",
    "law": "the discovered law, C(u) of a slit in equilibrium, potential of the counter-ions",
    "donnan": "R_c/sqrt(1 + X^2), X = |Q|/(charge of the slit's bulk ions), otherwise the same",
    "paper": "R_c (1 - gamma |Q|/Q_max), otherwise the same",
    "paper, mean potential": "the same in the potential of charge, the mean over all ions",
    "paper, constant C": "the same with a constant C_slit",
    "line": "transmission line: constant resistors and capacitors",
    "bent": "constant resistors, C(u) = C (1 + a u^2)",
    "line refitted": "transmission line, all R and C fitted to this voltammogram",
    "bent refitted": "constant resistors, C(u); all R, C and a fitted to this voltammogram",
}
"""Circuits, best first in what they know; each of the first six drops one thing."""


@dataclass(frozen=True)
class Model:
    """A circuit with a name.

    Parameters
    ----------
    name : str
        Out of :data:`MODELS`.
    make : callable
        ``make(cell)`` returns the circuit for a cell, of which it uses the number of slits
        and the window alone (that with ions also its electrolyte); slits beyond those of the
        training cell are like its inner ones.
    """

    name: str
    make: Callable[[Cell], NanoCircuit | IonCircuit]


@dataclass(frozen=True)
class Outcome:
    """What a circuit says of one cell.

    Parameters
    ----------
    current : ndarray, shape (times,), optional
        At the times of the cell [A/m]; None if the circuit does not exist there.
    deviation : float
        L2 norm over the last cycle of the difference of the currents over that of the
        cell's current [-].
    note : str
        Why there is no circuit.
    """

    current: Array | None
    deviation: float
    note: str = ""


def usable_form(law: ResistanceLaw) -> tuple[LawForm, str]:
    """Return the form of a law that a circuit can follow, and a remark.

    The best one, or, if it uses columns that a circuit does not have (rates, applied
    potential) or is singular without charge, the most accurate one of the front that is not.

    Raises
    ------
    LawError
        If there is none.
    """
    for form in (law.best, *sorted(law.front, key=lambda f: f.error_train or np.inf)):
        try:
            LadderLaw(form.expression, dict.fromkeys(form.constants, 1.0), q_max=1.0,
                      bulk_charge=1.0)  # fmt: skip
        except LawError:
            continue
        if not _smooth_at_rest(form):
            continue
        same = form.expression == law.best.expression
        return form, "" if same else (
            f"the chosen law {law.best.expression} uses what a circuit does not have, or has "
            f"no finite slope without charge; the most accurate one without is "
            f"{form.expression}"
        )
    raise LawError("no law of the front can be followed by a circuit")


def _smooth_at_rest(form: LawForm) -> bool:
    """Return whether resistance and slope are finite at zero charge, for every data set."""
    x = np.array([0.0, 1e-8])
    columns = {"I": np.ones(2), **dict.fromkeys(COLUMNS, x)}
    with np.errstate(all="ignore"):
        for case in form.cases or (None,):
            zero, near = form(columns, case)
            # a root of the charge changes by 1e-4 of itself here, anything smooth by 1e-7
            if not abs(near - zero) < 1e-5 * abs(zero):
                return False
    return True


def _stretch(values: Array, slits: int) -> Array:
    """Return values of the slits (or of what feeds them) for another number of slits."""
    first, inner, last = values[:-1], values[-2:-1], values[-1:]
    longer = np.repeat(inner, max(slits - len(values), 0))
    return np.asarray(np.concatenate([first, longer, last])[None][:, _kept(len(values), slits)])


def _kept(had: int, slits: int) -> list[int]:
    """Return which of the slits to keep: the first ones and the last."""
    return [*range(slits - 1), max(had, slits) - 1]


def models_of(cell: Cell, law: ResistanceLaw | None, refitted: bool = True) -> list[Model]:
    """Return the circuits of a training cell, those fitted to its voltammogram last.

    Parameters
    ----------
    cell : Cell
        In the potential of the counter-ions.
    law : ResistanceLaw, optional
    refitted : bool
        With those fitted to the voltammogram, which take some seconds.
    """
    p = ladder_parameters(cell)
    mean = read_cell(cell.path, "electrochemical")
    q = ladder_parameters(mean)

    def constant(other: Cell) -> NanoCircuit:
        return NanoCircuit(**_paper(q, other), c_slit=q.c_slit)

    def line(other: Cell) -> NanoCircuit:
        return NanoCircuit(
            other.slits, _stretch(q.r_constant, other.slits), 0.0, q.c_slit, q.r_open, q.c_open,
            basis="per depth",
        )  # fmt: skip

    def bent(other: Cell) -> NanoCircuit:
        return NanoCircuit(
            other.slits, _stretch(q.r_constant, other.slits), 0.0, q.c_zero, q.r_open, q.c_open,
            basis="per depth", c_law="1 + a*u**2", c_law_constants={"a": q.c_bend},
        )  # fmt: skip

    models = [
        Model("ions", _ions(cell.path)),
        Model("donnan", _donnan(cell, p)),
        Model("paper", lambda c: NanoCircuit(**_paper(p, c), **_equilibrium(p, c))),
        Model("paper, mean potential",
              lambda c: NanoCircuit(**_paper(q, c), **_equilibrium(q, c))),
        Model("paper, constant C", constant),
        Model("line", line),
        Model("bent", bent),
    ]  # fmt: skip
    if refitted:
        models.append(Model("line refitted", _refitted(mean, q, bent=False)))
        models.append(Model("bent refitted", _refitted(mean, q, bent=True)))
    if law is not None:
        models.insert(1, Model("law", _with_law(cell.path, law)))
    return models


def _ions(path: Path) -> Callable[[Cell], IonCircuit]:
    """Return the ion-resolved circuit; one that cannot be is told for every cell."""
    train = lru_cache(maxsize=1)(lambda: IonMaterial([ion_parameters(path)]))
    return lambda other: train().circuit(other.case)


def _paper(p: LadderParameters, cell: Cell) -> dict[str, Any]:
    """Return the arguments of a circuit with the paper's law, all but its capacitances."""
    n = cell.slits
    return {
        "n_slits": n, "r_c": _stretch(p.r_c, n), "gamma": _stretch(p.gamma, n),
        "q_max": _stretch(p.q_max, n), "r_open": p.r_open, "c_open": p.c_open,
        "basis": "per depth",
    }  # fmt: skip


def _equilibrium(p: LadderParameters, cell: Cell) -> dict[str, Any]:
    """Return C_slit and C(u) of slits in equilibrium over the window of a cell."""
    u = cell.potentials()
    *capacitance, zero = cell.equilibrium(np.append(u, 0.0))[1]
    return {
        "c_slit": _stretch(p.length, cell.slits) * zero,
        "c_law": {"potential": u, "factor": np.array(capacitance) / zero},
    }


def _donnan(cell: Cell, p: LadderParameters) -> Callable[[Cell], NanoCircuit]:
    """Return the circuit with a resistance in proportion to 1/(ions of the Donnan slit)."""
    x = cell.slit_charge / cell.bulk_charge
    shape = cell.resistor_current / np.sqrt(1 + x**2)
    r = np.array([
        weighted_fit(shape[:, [k]], cell.voltage[:, k], cell.weight)[0][0]
        for k in range(cell.slits)
    ])  # fmt: skip

    def make(other: Cell) -> NanoCircuit:
        ladder = LadderLaw(
            "I*R_c/sqrt(1 + X_inner**2)", {"R_c": _stretch(r, other.slits)},
            bulk_charge=cell.bulk_charge, voltage=cell.potential,
        )  # fmt: skip
        return NanoCircuit(
            other.slits, r_open=p.r_open, c_open=p.c_open, law=ladder, basis="per depth",
            **_equilibrium(p, other),
        )  # fmt: skip

    return make


def _with_law(path: Path, law: ResistanceLaw) -> Callable[[Cell], NanoCircuit]:
    """Return the circuit with the discovered law, in the potential that it is about.

    Openings have the law's constants of this cell. The mouth is no data set of the law:
    it has the constants of the first opening, follows the charge of slit 1 and has a factor
    of its own, fitted to its voltage.
    """
    kind = str(law.meaning.get("voltage"))
    cell = read_cell(path, kind if kind in POTENTIALS else "electrochemical")
    p = ladder_parameters(cell)
    form, _ = usable_form(law)
    cases = [f"{cell.path.stem}:{k}" for k in range(1, cell.slits)]
    missing = [c for c in cases if form.cases and c not in form.cases]
    if missing:
        raise LawError(f"the law has no data sets {missing}; it has {list(form.cases)}")
    values = [form.values(c if form.cases else None) for c in cases]
    constants = {n: np.array([values[0][n], *(v[n] for v in values)]) for n in form.constants}
    top = np.abs(cell.slit_charge).max(axis=0)
    q_max = _governing(top, law.governor)
    charge = np.abs(cell.slit_charge[:, 0])
    columns = {"I": cell.resistor_current[:, 0]}
    for kind, scale in (("q", top[0]), ("X", cell.bulk_charge)):
        columns |= {f"{kind}_{g}": charge / scale for g in ("outer", "inner", "mean")}
    shape = form(columns, cases[0] if form.cases else None)
    (factor,), _ = weighted_fit(np.asarray(shape)[:, None], cell.voltage[:, 0], cell.weight)
    at_mouth = re.sub(r"\b([qX])_(outer|mean)\b", r"\1_inner", form.expression)
    common: dict[str, Any] = {
        "charge": str(law.meaning.get("charge", "abs")), "bulk_charge": cell.bulk_charge,
        "voltage": cell.potential,
    }  # fmt: skip

    def make(other: Cell) -> NanoCircuit:
        n = other.slits
        ladder = LadderLaw(
            form.expression, {k: _stretch(v, n) for k, v in constants.items()},
            governor=law.governor, q_max=_stretch(q_max, n), **common,
        )  # fmt: skip
        mouth = LadderLaw(
            f"access_factor*({at_mouth})",
            {**{k: float(v[0]) for k, v in constants.items()}, "access_factor": factor},
            q_max=float(top[0]),
            **common,
        )
        return NanoCircuit(
            n, r_open=p.r_open, c_open=p.c_open, law=ladder, mouth_law=mouth,
            basis="per depth", **_equilibrium(p, other),
        )  # fmt: skip

    return make


def _governing(top: Array, governor: str) -> Array:
    """Return Q_max of the slit that governs each resistor; the mouth's is that of slit 1."""
    before = np.concatenate([top[:1], top[:-1]])
    choices = {"outer": before, "inner": top, "mean": 0.5 * (before + top)}
    return np.asarray(choices[governor])


def _refitted(cell: Cell, p: LadderParameters, bent: bool) -> Callable[[Cell], NanoCircuit]:
    """Return the line with R, mouth, C, R_open, C_open (and bend) fitted to the current."""
    from scipy.optimize import least_squares

    start = np.array([np.median(p.r_constant[1:]), p.r_constant[0],
                      p.c_zero if bent else p.c_slit, p.r_open, p.c_open])  # fmt: skip
    bend_unit = 1.0 / max(np.abs(cell.applied).max(), 1e-9) ** 2
    x0 = np.append(np.zeros(5), p.c_bend / bend_unit) if bent else np.zeros(5)
    norm = np.sqrt(cell.weight / np.sum(cell.weight * cell.current**2))

    def circuit(n: int, x: Array) -> NanoCircuit:
        v = start * np.exp(np.clip(x[:, :5], -5, 5))
        extra: dict[str, Any] = {}
        if bent:
            extra = {"c_law": "1 + a*u**2", "c_law_constants": {"a": bend_unit * x[:, 5]}}
        return NanoCircuit(
            n, v[:, 0], 0.0, v[:, 2], v[:, 3], v[:, 4], r_mouth=v[:, 1], basis="per depth",
            **extra,
        )  # fmt: skip

    def residuals(x: Array) -> Array:
        rows = x[None] if x.ndim == 1 else x
        out = (simulate(circuit(cell.slits, rows), cell) - cell.current) * norm
        return np.asarray(out[0] if x.ndim == 1 else out)

    def jacobian(x: Array) -> Array:
        h = 1e-4
        steps = np.concatenate([x + h * np.eye(x.size), x - h * np.eye(x.size)])
        r = residuals(steps)
        return (r[: x.size] - r[x.size :]).T / (2 * h)

    lower = np.append(np.full(5, -5.0), -0.9) if bent else np.full(5, -5.0)
    upper = np.append(np.full(5, 5.0), 50.0) if bent else np.full(5, 5.0)
    x0 = np.clip(x0, lower + 1e-3, upper - 1e-3)
    best = least_squares(residuals, x0, jacobian, bounds=(lower, upper), xtol=1e-6, max_nfev=40)
    return lambda other: circuit(other.slits, best.x[None])


def simulate(circuit: NanoCircuit | IonCircuit, cell: Cell) -> Array:
    """Return the current at the times of a cell, (circuits, times) [A/m]."""
    from nanoslit.circuit.observables import rows_at

    protocol = cell.case.protocol
    if isinstance(circuit, IonCircuit):
        whole = circuit.simulate(protocol)
        when = whole.time[-1] - cell.time[-1] + cell.time  # the last cycle ends the protocol
        return np.interp(when, whole.time, whole.electrode_current)[None]
    cycle = int(np.max(protocol.cycle(protocol.duration * (1 - 1e-9))))
    response = circuit.simulate(protocol, cycle=cycle if cycle > 1 else None)
    start = cell.time[0] - response.time[:, :1]  # a reported cycle may count from zero
    when = np.broadcast_to(cell.time - start, (response.circuits, cell.time.size))
    return rows_at(response.time, response.electrode_current, when)


def compare(models: list[Model], cell: Cell) -> dict[str, Outcome]:
    """Return what each circuit says of a cell, which need not be the training cell."""
    return {m.name: _outcome(m, cell) for m in models}


def _outcome(model: Model, cell: Cell) -> Outcome:
    try:
        current = simulate(model.make(cell), cell)[0]
    except (CircuitError, ConvergenceError) as error:
        return Outcome(None, float("nan"), str(error))
    return Outcome(current, _distance(current, cell))


def _distance(current: Array, cell: Cell) -> float:
    norm = np.sum(cell.weight * cell.current**2)
    return float(np.sqrt(np.sum(cell.weight * (current - cell.current) ** 2) / norm))


def deviation(make: Callable[[Case], IonCircuit], cell: Cell) -> float:
    """Return the deviation of the circuit of a case from the solved cell [-].

    Raises
    ------
    CircuitError
        If there is no such circuit.
    """
    return _distance(simulate(make(cell.case), cell)[0], cell)
