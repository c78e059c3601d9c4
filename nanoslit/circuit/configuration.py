"""CIRCUIT.toml and STUDY.toml: circuits, protocols and plans of a design study as text.

Quantities are text with units, as in case files; their units follow the basis of the
circuit: Ohm and F, Ohm m and F/m (per depth), Ohm m^2 and F/m^2 (per area).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit.casefile import CASE
from nanoslit.circuit.capacitance import CapacitanceTable
from nanoslit.circuit.curves import Ragone
from nanoslit.circuit.galvanostatic import Galvanostatic
from nanoslit.circuit.impedance import Spectrum
from nanoslit.circuit.ladder import NanoCircuit
from nanoslit.circuit.laws import LadderLaw
from nanoslit.circuit.options import ACCESS, BASES, CELLS, CHARGES, GOVERNORS, Q_MAX
from nanoslit.errors import CaseError, CircuitError, LawError
from nanoslit.protocol import Protocol
from nanoslit.schema import (
    Choice,
    Leaf,
    ListOf,
    Node,
    Number,
    Place,
    Quantity,
    Record,
    Text,
    Variants,
    Whole,
    show,
)

__all__ = [
    "CircuitPlan",
    "Constraint",
    "Study",
    "Variable",
    "read_circuit",
    "read_study",
]

UNITS = {
    "absolute": ("ohm", "F", "C", "A"),
    "per depth": ("ohm*m", "F/m", "C/m", "A/m"),
    "per area": ("ohm*m^2", "F/m^2", "C/m^2", "A/m^2"),
}
GROUPS = ("theta", "kappa", "rho", "c")
RAW = ("r_c", "gamma", "c_slit", "r_open", "c_open", "r_mouth", "gamma_mouth", "saturation")
RATES = ("scan_rate", "lower", "upper")
METHODS = ("sobol", "latin-hypercube", "grid", "sensitivity", "nsga2")


@dataclass(frozen=True)
class PerSlit(Node):
    """One value, or a list with one for each slit."""

    item: Node

    def read(self, raw: Any, at: Place) -> Any:
        """Return a number, or an array of shape (1, slits)."""
        if isinstance(raw, list):
            return np.array([ListOf(self.item, 1).read(raw, at)], float)
        return self.item.read(raw, at)

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return the value as it was read."""
        return self.item.export(value, leaf)

    def describe(self) -> str:
        """Say what is allowed."""
        return f"{self.item.describe()}, or a list with one for each slit"


@dataclass(frozen=True)
class WordOr(Node):
    """One of a few words, or another value."""

    words: tuple[str, ...]
    other: Node

    def read(self, raw: Any, at: Place) -> Any:
        """Return the word or the value."""
        if raw in self.words:
            return raw
        return self.other.read(raw, at)

    def export(self, value: Any, leaf: Leaf) -> Any:
        """Return the value as it was read."""
        return value if isinstance(value, str) else self.other.export(value, leaf)

    def describe(self) -> str:
        """Say what is allowed."""
        return f"{Choice(self.words).describe()}, or {self.other.describe()}"


@dataclass(frozen=True)
class Constants(Node):
    """A table of the constants of an expression."""

    def read(self, raw: Any, at: Place) -> dict[str, Any]:
        """Return numbers, or arrays of shape (1, slits)."""
        if not isinstance(raw, dict):
            at.fail("must be a table", given=show(raw), allowed=self.describe())
        number = PerSlit(Number("a number without unit", sign=""))
        return {k: number.read(v, at / k) for k, v in raw.items()}

    def describe(self) -> str:
        """Say what is allowed."""
        return "a table of bare numbers, or lists with one for each slit"


@dataclass(frozen=True)
class TextOr(Node):
    """Text, or a table that says more."""

    text: Text
    table: Record

    def read(self, raw: Any, at: Place) -> Any:
        """Return the text or what the table makes."""
        return (self.table if isinstance(raw, dict) else self.text).read(raw, at)

    def describe(self) -> str:
        """Say what is allowed."""
        return f"{self.text.describe()}, or {self.table.describe()}"


# --- circuits ---------------------------------------------------------------------------
def _law_table(basis: str) -> Record:
    """Return the schema of a law written down in a file."""

    def make(
        expression: str,
        constants: Any = None,
        governor: str = "inner",
        charge: str = "abs",
        q_max: Any = None,
        bulk_charge: Any = None,
    ) -> LadderLaw:
        try:
            return LadderLaw(
                expression, constants or {}, governor, charge, q_max, bulk_charge, basis
            )
        except (CircuitError, LawError) as error:
            raise CaseError(str(error)) from None

    coulomb = UNITS[basis][2]
    charge = PerSlit(Quantity("a charge", coulomb, f"4e-4 {coulomb}"))
    return Record(
        make,
        {
            "expression": Text('the voltage [V] such as "R*I*(1 - g*q_inner)"'),
            "constants": Constants(), "governor": Choice(("inner", "outer", "mean")),
            "charge": Choice(CHARGES), "q_max": charge, "bulk_charge": charge,
        },
    )  # fmt: skip


def _capacitance_table() -> Record:
    def make(potential: tuple[float, ...], factor: tuple[float, ...]) -> CapacitanceTable:
        try:
            return CapacitanceTable(potential, factor)
        except CircuitError as error:
            raise CaseError(str(error)) from None

    return Record(
        make,
        {
            "potential": ListOf(Quantity("a potential", "V", "0.1 V", sign=""), 2),
            "factor": ListOf(Number("a factor of c_slit"), 2),
        },
    )


def _keys(basis: str) -> dict[str, Node]:
    ohm, farad, coulomb, _ = UNITS[basis]
    r = PerSlit(Quantity("a resistance", ohm, f"5 {ohm}"))
    c = PerSlit(Quantity("a capacitance", farad, f"4e-4 {farad}"))
    number = PerSlit(Number("a number without unit", sign=""))
    length = Quantity("a length", "m", "1 mm")
    charge = Quantity("a charge", coulomb, f"4e-4 {coulomb}")
    return {
        "n_slits": Whole("the number of slits", 1, 100_000),
        "r_c": r, "gamma": number, "c_slit": c,
        "r_open": Quantity("a resistance", ohm, f"1 {ohm}"),
        "c_open": Quantity("a capacitance", farad, f"4e-4 {farad}"),
        "r_mouth": Quantity("a resistance", ohm, f"5 {ohm}"),
        "gamma_mouth": Number("a number without unit", sign=""),
        "governor": Choice(GOVERNORS), "q_max": WordOr(Q_MAX, charge),
        "charge": Choice(CHARGES), "saturation": Number("a multiple of Q_max"),
        "access": Choice(ACCESS), "cell": Choice(CELLS),
        "c_law": TextOr(
            Text('an expression in u [V] such as "1 + a*u**2"'), _capacitance_table()
        ),
        "c_law_constants": Constants(),
        "law": TextOr(Text("the path of a LAW.json"), _law_table(basis)),
        "mouth_law": TextOr(Text("the path of a LAW.json"), _law_table(basis)),
        "case": Text("the name of a data set of the law"),
        "bulk_charge": charge, "basis": Choice(BASES), "depth": length, "height": length,
    }  # fmt: skip


def _make_circuit(
    n_slits: int,
    c_slit: Any,
    r_open: Any,
    c_open: Any,
    r_c: Any = None,
    gamma: Any = 0.0,
    r_mouth: Any = None,
    gamma_mouth: Any = None,
    governor: str | None = None,
    q_max: Any = None,
    charge: str | None = None,
    saturation: Any = None,
    access: str = "dynamic",
    cell: str = "half",
    c_law: Any = None,
    c_law_constants: Any = None,
    law: Any = None,
    mouth_law: Any = None,
    case: str | None = None,
    bulk_charge: float | None = None,
    basis: str | None = None,
    depth: float | None = None,
    height: float | None = None,
) -> NanoCircuit:
    values = {k: v for k, v in locals().items() if v is not None}
    try:
        return NanoCircuit(**values)
    except (CircuitError, LawError) as error:
        raise CaseError(str(error)) from None


def _basis_of(raw: Any, at: Place) -> str:
    if not isinstance(raw, dict):
        at.fail("must be a table", given=show(raw), allowed="a table that describes a circuit")
    default = "per depth" if isinstance(raw.get("law"), str) else "absolute"
    return Choice(BASES).read(raw.get("basis", default), at / "basis")


def _circuit_keys(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the table with paths of laws relative to the file's folder."""
    paths = {k: raw[k] for k in ("law", "mouth_law") if isinstance(raw.get(k), str)}
    return raw | {k: str(folder / v) for k, v in paths.items()}


def _protocols(basis: str) -> Variants:
    current = Quantity("a current", UNITS[basis][3], f"1e-3 {UNITS[basis][3]}")
    potential = Quantity("a potential", "V", "1 V", sign="")
    known = CASE.keys["protocol"]
    assert isinstance(known, Variants)
    galvanostatic = Record(
        Galvanostatic,
        {
            "current": current, "discharge_current": current, "lower": potential,
            "upper": potential, "start": potential,
            "cycles": Whole("the number of cycles", 1),
            "longest": Quantity("a time", "s", "3600 s"),
        },
    )  # fmt: skip
    frequency = Quantity("a frequency", "Hz", "1 kHz")
    spectrum = Record(
        Spectrum,
        {
            "lowest": frequency, "highest": frequency, "bias": potential,
            "per_decade": Whole("frequencies in a decade", 1, 1000),
            "window": Quantity("a potential", "V", "1 V"),
        },
    )  # fmt: skip
    plot = Record(
        Ragone,
        {
            "upper": potential, "lower": potential, "lowest": current, "highest": current,
            "per_decade": Whole("currents in a decade", 1, 1000),
        },
    )  # fmt: skip
    more = {"constant-current": galvanostatic, "impedance": spectrum, "ragone": plot}
    return Variants({**known.records, **more})


@dataclass(frozen=True)
class CircuitPlan:
    """What CIRCUIT.toml says.

    Parameters
    ----------
    circuit : NanoCircuit
    protocol : Protocol, Spectrum or Ragone
    name : str
    cycle : int or "periodic", optional
        Reported cycle.
    points : int, optional
        Stored points of a half sweep.
    """

    circuit: NanoCircuit
    protocol: Protocol | Spectrum | Ragone
    name: str = "circuit"
    cycle: int | str | None = None
    points: int | None = None


def _load(path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise CaseError(f"{path}: is not TOML: {error}") from None


def read_circuit(path: str | Path) -> CircuitPlan:
    """Return what a CIRCUIT.toml describes.

    Raises
    ------
    CaseError
        With file, key, what was given and what is allowed.
    """
    raw = _load(path)
    at = Place(str(path))
    table = raw.get("circuit")
    basis = "absolute" if table is None else _basis_of(table, at / "circuit")
    if isinstance(table, dict):
        raw = raw | {"circuit": _circuit_keys(table, Path(path).parent)}
    schema = Record(
        CircuitPlan,
        {
            "name": Text("a label"), "circuit": Record(_make_circuit, _keys(basis)),
            "protocol": _protocols(basis),
            "cycle": WordOr(("periodic",), Whole("a cycle number", 1)),
            "points": Whole("points of a half sweep", 8, 100_000),
        },
    )  # fmt: skip
    plan: CircuitPlan = schema.read(raw, at)
    return plan


# --- studies ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Variable:
    """One axis of a study.

    Parameters
    ----------
    name : str
    lower, upper : float
        Range, in SI.
    scale : {"linear", "log"}
    levels : int
        Points of a grid.
    """

    name: str
    lower: float
    upper: float
    scale: str = "linear"
    levels: int = 10

    def __post_init__(self) -> None:
        if not self.lower < self.upper:
            raise CaseError(f"lower = {self.lower:g} must be below upper = {self.upper:g}")
        if self.scale == "log" and self.lower <= 0:
            raise CaseError(f"lower = {self.lower:g} must be positive on a log scale")

    def at(self, unit: Any) -> Any:
        """Map numbers in 0..1 to the range."""
        if self.scale == "log":
            low, high = np.log(self.lower), np.log(self.upper)
            return np.exp(low + (high - low) * unit)
        return self.lower + (self.upper - self.lower) * unit


@dataclass(frozen=True)
class Constraint:
    """A bound of a feature: at least ``min`` and at most ``max``."""

    feature: str
    min: float | None = None
    max: float | None = None

    def violation(self, value: Any) -> Any:
        """Return how far a value is outside, 0 inside; what is not a number is far."""
        scale = max(abs(self.min or 0.0), abs(self.max or 0.0)) or 1.0
        out = np.zeros(np.shape(value))
        if self.min is not None:
            out = np.maximum(out, (self.min - value) / scale)
        if self.max is not None:
            out = np.maximum(out, (value - self.max) / scale)
        return np.where(np.isfinite(value), out, 1e6)


@dataclass(frozen=True)
class Objective:
    """A feature to make large or small."""

    feature: str
    goal: str = "maximize"


@dataclass(frozen=True)
class Study:
    """What STUDY.toml says; see :mod:`nanoslit.circuit.explorer`."""

    name: str
    fixed: dict[str, Any]
    variables: tuple[Variable, ...]
    lower: float
    upper: float
    scan_rate: float | None
    cycle: int | str
    method: str
    samples: int
    seed: int
    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[Objective, ...] = ()
    generations: int = 40
    points: int = 64
    tolerance: float = 1e-4
    material: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


def _variable_nodes(basis: str) -> dict[str, Record]:
    keys = _keys(basis)
    potential = Quantity("a potential", "V", "1 V", sign="")
    kinds: dict[str, Node] = {k: Number(sign="") for k in (*GROUPS, "gamma", "gamma_mouth")}
    for name in ("r_c", "c_slit", "r_open", "c_open", "r_mouth"):
        node = keys[name]
        kinds[name] = node.item if isinstance(node, PerSlit) else node
    kinds |= {
        "saturation": Number(), "lower": potential, "upper": potential,
        "scan_rate": Quantity("a scan rate", "V/s", "1 V/s"),
        "slit_size": Quantity("a length", "m", "1.5 nm"),
        "concentration": Quantity("a concentration", "mol/m^3", "1 mol/L"),
        "n_slits": Number("the number of slits"),
    }  # fmt: skip

    def record(name: str, node: Node) -> Record:
        def make(
            lower: float, upper: float, scale: str = "linear", levels: int = 10
        ) -> Variable:
            return Variable(name, lower, upper, scale, levels)

        return Record(
            make,
            {
                "lower": node, "upper": node, "scale": Choice(("linear", "log")),
                "levels": Whole("points of the grid", 2, 100_000),
            },
        )  # fmt: skip

    return {name: record(name, node) for name, node in kinds.items()}


def read_study(path: str | Path) -> Study:
    """Return what a STUDY.toml describes.

    Raises
    ------
    CaseError
        With file, key, what was given and what is allowed.
    """
    from nanoslit.circuit.explorer import check_study
    from nanoslit.circuit.observables import FEATURES

    raw = _load(path)
    at = Place(str(path))
    folder = Path(path).parent
    circuit = raw.get("circuit", {})
    if "material" in raw and isinstance(circuit, dict):
        circuit = {"basis": "per depth", **circuit}  # that of solved cells
        raw = raw | {"circuit": circuit}
    basis = _basis_of(circuit, at / "circuit")
    potential = Quantity("a potential", "V", "1 V", sign="")

    names = tuple(FEATURES)
    bound = Number("a number", sign="")
    schema = Record(
        _make_study,
        {
            "name": Text("a label"),
            "circuit": _Loose(_keys(basis)),
            "protocol": Record(
                _sweep,
                {
                    "kind": Choice(("cyclic-voltammetry",)), "lower": potential,
                    "upper": potential,
                    "scan_rate": Quantity("a scan rate", "V/s", "10 V/s"),
                    "cycle": WordOr(("periodic",), Whole("a cycle number", 1)),
                },
            ),
            "sampling": Record(
                _sampling,
                {
                    "method": Choice(METHODS), "samples": Whole("circuits", 1, 10**8),
                    "seed": Whole("a seed", 0), "generations": Whole("generations", 1),
                    "points": Whole("points of a half sweep", 16, 10_000),
                    "tolerance": Number("a relative error below 0.1"),
                },
            ),
            "vary": Record(_vary, _variable_nodes(basis)),
            "constraints": ListOf(
                Record(
                    Constraint, {"feature": Choice(names), "min": bound, "max": bound}
                )
            ),
            "objectives": ListOf(
                Record(
                    Objective,
                    {"feature": Choice(names), "goal": Choice(("maximize", "minimize"))},
                )
            ),
            "material": ListOf(
                Text("the path of a RESULT.h5, of a sweep's folder or its collected data"), 1
            ),
        },
    )  # fmt: skip
    if isinstance(circuit, dict):
        raw = raw | {"circuit": _circuit_keys(circuit, folder)}
    if isinstance(raw.get("material"), list):
        raw = raw | {"material": [str(folder / str(p)) for p in raw["material"]]}
    study: Study = schema.read(raw, at)
    check_study(study, at)
    return study


class _Loose(Node):
    """A table whose keys are all optional."""

    def __init__(self, keys: dict[str, Node]) -> None:
        self.keys = keys

    def read(self, raw: Any, at: Place) -> dict[str, Any]:
        """Return the values that are given."""
        make = Record(_optional(tuple(self.keys)), self.keys)
        values: dict[str, Any] = make.read(raw, at)
        return values

    def describe(self) -> str:
        """Say what is allowed."""
        return "a table that describes a circuit"


def _optional(names: tuple[str, ...]) -> Any:
    """Return a function of optional keywords that returns those given."""
    import inspect

    def collect(**values: Any) -> dict[str, Any]:
        return values

    kind = inspect.Parameter.KEYWORD_ONLY
    collect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, kind, default=None) for n in names]
    )
    return collect


def _sweep(
    lower: float,
    upper: float,
    scan_rate: float | None = None,
    kind: str = "cyclic-voltammetry",
    cycle: int | str = "periodic",
) -> dict[str, Any]:
    return {"lower": lower, "upper": upper, "scan_rate": scan_rate, "cycle": cycle}


def _sampling(
    method: str = "sobol",
    samples: int = 4096,
    seed: int = 1,
    generations: int = 40,
    points: int = 64,
    tolerance: float = 1e-4,
) -> dict[str, Any]:
    return dict(locals())


_names = (*GROUPS, *RAW, *RATES, "slit_size", "concentration", "n_slits")


def _vary_all(names: tuple[str, ...]) -> Any:
    collect = _optional(names)

    def make(**variables: Variable) -> tuple[Variable, ...]:
        return tuple(variables.values())

    make.__signature__ = collect.__signature__  # type: ignore[attr-defined]
    return make


_vary = _vary_all(_names)


def _make_study(
    vary: tuple[Variable, ...],
    protocol: dict[str, Any],
    circuit: dict[str, Any] | None = None,
    sampling: dict[str, Any] | None = None,
    name: str = "study",
    constraints: tuple[Constraint, ...] = (),
    objectives: tuple[Objective, ...] = (),
    material: tuple[str, ...] = (),
) -> Study:
    return Study(
        name=name, fixed=circuit or {}, variables=vary, constraints=constraints,
        objectives=objectives, material=material, **protocol, **(sampling or _sampling()),
    )  # fmt: skip
