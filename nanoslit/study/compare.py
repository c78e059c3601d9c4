"""Circuits against a solved cell: which circuit gives which voltammogram, how far off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.circuit.laws import LadderLaw
from nanoslit.errors import CircuitError, LawError
from nanoslit.study.parameters import Cell, LadderParameters, fit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.discovery.law import LawForm, ResistanceLaw

    Array = NDArray[np.float64]

__all__ = ["MODELS", "Model", "Outcome", "compare", "models_of", "usable_form"]

MODELS = {
    "law": "the discovered law",
    "paper": "R_c (1 - gamma |Q|/Q_max), each resistor with its own numbers",
    "line": "transmission line: constant resistors and capacitors",
    "bent": "constant resistors, C(u) = C (1 + a u^2)",
    "line refitted": "transmission line, all R and C fitted to this voltammogram",
    "bent refitted": "constant resistors, C(u); all R, C and a fitted to this voltammogram",
}


@dataclass(frozen=True)
class Model:
    """A circuit with a name.

    Parameters
    ----------
    name : str
        Out of :data:`MODELS`.
    make : callable
        ``make(sheets)`` returns the circuit for a number of slits; resistors of slits
        beyond those of the training cell are its innermost ones.
    """

    name: str
    make: Callable[[int], NanoCircuit]


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
    potential), the most accurate one of the front that does not.

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
        same = form.expression == law.best.expression
        return form, "" if same else (
            f"the chosen law {law.best.expression} uses what a circuit does not have; the "
            f"most accurate law of the front without is {form.expression}"
        )
    raise LawError("no law of the front can be followed by a circuit")


def _stretch(values: Array, sheets: int) -> Array:
    """Return values of the resistors (mouth first) for another number of slits."""
    index = np.minimum(np.arange(sheets), len(values) - 1)
    return np.asarray(values[index][None])


def models_of(cell: Cell, p: LadderParameters, law: ResistanceLaw | None) -> list[Model]:
    """Return the circuits of a training cell, those fitted to its voltammogram last."""

    def paper(n: int) -> NanoCircuit:
        return NanoCircuit(
            n, _stretch(p.r_c, n), _stretch(p.gamma, n), p.c_slit, p.r_open, p.c_open,
            q_max=_stretch(p.q_max, n), basis="per depth",
        )  # fmt: skip

    def line(n: int) -> NanoCircuit:
        return NanoCircuit(
            n, _stretch(p.r_constant, n), 0.0, p.c_slit, p.r_open, p.c_open, basis="per depth"
        )

    def bent(n: int) -> NanoCircuit:
        return NanoCircuit(
            n, _stretch(p.r_constant, n), 0.0, p.c_zero, p.r_open, p.c_open,
            basis="per depth", c_law="1 + a*u**2", c_law_constants={"a": p.c_bend},
        )  # fmt: skip

    models = [Model("paper", paper), Model("line", line), Model("bent", bent)]
    if law is not None:
        models.insert(0, Model("law", _with_law(cell, p, law)))
    models.append(Model("line refitted", _refitted(cell, p, bent=False)))
    models.append(Model("bent refitted", _refitted(cell, p, bent=True)))
    return models


def _with_law(
    cell: Cell, p: LadderParameters, law: ResistanceLaw
) -> Callable[[int], NanoCircuit]:
    """Return the circuit with the discovered law.

    Openings have the law's constants of this cell. The mouth is no data set of the law:
    it has the constants of the first opening and a factor of its own, fitted to its
    voltage.
    """
    form, _ = usable_form(law)
    governor = law.governor
    names = form.constants
    cases = [f"{cell.path.stem}:{k}" for k in range(1, cell.slits)]
    missing = [c for c in cases if form.cases and c not in form.cases]
    if missing:
        raise LawError(f"the law has no data sets {missing}; it has {list(form.cases)}")
    values = [form.values(c if form.cases else None) for c in cases]
    constants = {n: np.array([values[0][n], *(v[n] for v in values)]) for n in names}
    q_max = float(p.q_max.max())
    charge = np.abs(cell.slit_charge[:, 0])
    inner = np.zeros_like(charge) if governor == "outer" else charge
    columns = {"I": cell.resistor_current[:, 0]}
    for kind, scale in (("q", q_max), ("X", cell.bulk_charge)):
        columns |= {f"{kind}_{g}": inner / scale for g in ("outer", "inner", "mean")}
    shape = form(columns, cases[0] if form.cases else None)
    (factor,), _ = fit(np.asarray(shape)[:, None], cell.voltage[:, 0], cell.weight)
    own = np.ones(cell.slits)
    own[0] = factor

    def make(n: int) -> NanoCircuit:
        ladder = LadderLaw(
            f"access_factor*({form.expression})",
            dict[str, Any](
                {k: _stretch(v, n) for k, v in constants.items()},
                access_factor=_stretch(own, n),
            ),
            governor=governor, charge=str(law.meaning.get("charge", "abs")), q_max=q_max,
            bulk_charge=cell.bulk_charge, voltage="electrochemical",
        )  # fmt: skip
        return NanoCircuit(
            n, c_slit=p.c_slit, r_open=p.r_open, c_open=p.c_open, law=ladder, basis="per depth"
        )

    return make


def _refitted(cell: Cell, p: LadderParameters, bent: bool) -> Callable[[int], NanoCircuit]:
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
    return lambda n: circuit(n, best.x[None])


def simulate(circuit: NanoCircuit, cell: Cell) -> Array:
    """Return the current at the times of a cell, (circuits, times) [A/m]."""
    from nanoslit.circuit.observables import rows_at

    protocol = cell.case.protocol
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
        current = simulate(model.make(cell.slits), cell)[0]
    except CircuitError as error:
        return Outcome(None, float("nan"), str(error))
    norm = np.sum(cell.weight * cell.current**2)
    return Outcome(
        current, float(np.sqrt(np.sum(cell.weight * (current - cell.current) ** 2) / norm))
    )
