"""Case files: TOML text to :class:`~nanoslit.case.Case` and back, and the content key.

``CASE`` below is the whole format: every key, its unit and what it may hold. Defaults
are those of the records (:mod:`nanoslit.case`, :mod:`nanoslit.geometry`, ...).

The content key names the physics and numerics of a case: sha256 of canonical JSON in
SI units with defaults filled in, numbers rounded to 12 significant digits, keys sorted,
without the name and the output table, with :data:`MODEL_VERSION`. It does not depend on
the spelling of units, the order of keys or comments.
"""

from __future__ import annotations

import copy
import hashlib
import json
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoslit.case import Case, Electrode, MeshSpacing, Numerics, Output
from nanoslit.electrolyte import Electrolyte, Ion
from nanoslit.errors import CaseError
from nanoslit.geometry import NanoslitNetwork, Planar
from nanoslit.mobility import CompositionFactor, ExpressionFactor, TableFactor
from nanoslit.protocol import CyclicVoltammetry, PotentialSteps, PotentialTable
from nanoslit.schema import (
    Choice,
    Either,
    Flag,
    ListOf,
    Number,
    Place,
    Quantity,
    Record,
    Text,
    Variants,
    Whole,
    show,
)
from nanoslit.tomltext import toml_text
from nanoslit.units import VACUUM_PERMITTIVITY, parse_quantity, round_significant

__all__ = [
    "CASE",
    "MODEL_VERSION",
    "apply_overrides",
    "canonical",
    "case_from_document",
    "case_from_toml",
    "case_to_toml",
    "content_key",
    "parse_override",
    "read_case",
]

MODEL_VERSION = 2  # raise it when the same case file means different physics

Overrides = Mapping[str, Any] | Iterable[str]


# --- values that take more than one key -------------------------------------------


@dataclass(frozen=True)
class _Varying:
    """A diffusivity table: value at infinite dilution and how it varies."""

    value: float
    factor: str | None = None
    table: TableFactor | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.table is not None:
            raise CaseError("factor and table are both given; keep one of them")

    def factor_of(self, n_ions: int) -> CompositionFactor | None:
        """Return the composition factor in an electrolyte of so many ions."""
        if self.factor is None:
            return self.table
        return ExpressionFactor(self.factor, n_ions)


def _varying(ion: Ion) -> float | _Varying:
    """Return what a file says about the diffusivity of an ion."""
    factor = ion.diffusivity_factor
    if factor is None:
        return ion.diffusivity
    if isinstance(factor, ExpressionFactor):
        return _Varying(ion.diffusivity, factor=factor.expression)
    if isinstance(factor, TableFactor):
        return _Varying(ion.diffusivity, table=factor)
    raise CaseError(
        f"ion {ion.name!r}: a diffusivity factor of type {type(factor).__name__} exists "
        "in Python only; a case file can hold an expression or a table"
    )


def _ion(
    name: str, charge: int, diffusivity: float | _Varying, concentration: float
) -> dict[str, Any]:
    """Keep the keys of an ion until the number of ions is known."""
    return {
        "name": name,
        "charge": charge,
        "diffusivity": diffusivity,
        "concentration": concentration,
    }


def _electrolyte(
    ions: tuple[dict[str, Any], ...],
    permittivity: float = Electrolyte.permittivity,
    temperature: float = Electrolyte.temperature,
    ion_size: float = Electrolyte.ion_size,
) -> Electrolyte:
    made = []
    for keys in ions:
        d = keys["diffusivity"]
        if isinstance(d, _Varying):
            factor = d.factor_of(len(ions))
            made.append(Ion(**{**keys, "diffusivity": d.value}, diffusivity_factor=factor))
        else:
            made.append(Ion(**keys))
    return Electrolyte(tuple(made), permittivity, temperature, ion_size)


def _electrode(
    stern_capacitance: float | None = None,
    stern_thickness: float | None = None,
    stern_permittivity: float | None = None,
    sheet_areal_mass: float = Electrode.sheet_areal_mass,
) -> Electrode:
    """Return the electrode; a Stern layer of thickness h has C = eps_S eps_0 / h."""
    if (stern_thickness is None) != (stern_permittivity is None):
        raise CaseError("stern_thickness and stern_permittivity belong together")
    if stern_thickness is not None and stern_permittivity is not None:
        if stern_capacitance is not None:
            raise CaseError(
                "give stern_capacitance, or stern_thickness with stern_permittivity, not both"
            )
        stern_capacitance = round_significant(
            stern_permittivity * VACUUM_PERMITTIVITY / stern_thickness
        )
    return Electrode(stern_capacitance, sheet_areal_mass)


def _cell(kind: str = "half") -> str:
    return kind


def _case(
    electrolyte: Electrolyte,
    geometry: Planar | NanoslitNetwork,
    protocol: Any,
    name: str = "case",
    electrode: Electrode | None = None,
    cell: str = "half",
    numerics: Numerics | None = None,
    output: Output | None = None,
) -> Case:
    return Case(
        name,
        electrolyte,
        geometry,
        protocol,
        electrode or Electrode(),
        cell,
        numerics or Numerics(),
        output or Output(),
    )


# --- the format -------------------------------------------------------------------

_LENGTH = Quantity("a length", "m", "1.5 nm")
_POTENTIAL = Quantity("a potential", "V", "0.2 V", sign="")
_TIME = Quantity("a time", "s", "100 ns")
_CONCENTRATION = Quantity("a concentration", "mol/m^3", "1 mol/L")
_DIFFUSIVITY = Quantity("a diffusivity", "m^2/s", "2e-09 m^2/s")

_ION = Record(
    _ion,
    {
        "name": Text("a label"),
        "charge": Whole("a charge number, not 0", -20, 20),
        "diffusivity": Either(
            _DIFFUSIVITY,
            Record(
                _Varying,
                {
                    "value": _DIFFUSIVITY,
                    "factor": Text('an expression such as "exp(-0.1*c_total)"'),
                    "table": Record(
                        TableFactor,
                        {
                            "concentration": ListOf(
                                Quantity("a total concentration", "mol/m^3", "1 mol/L", ">=0"),
                                2,
                            ),
                            "factor": ListOf(Number(), 2),
                        },
                    ),
                },
            ),
        ),
        "concentration": _CONCENTRATION,
    },
    attributes={"diffusivity": _varying},
)

_ELECTROLYTE = Record(
    _electrolyte,
    {
        "permittivity": Number("a relative permittivity without unit"),
        "temperature": Quantity("a temperature", "K", "298.15 K"),
        "ion_size": Quantity("a length", "m", "0.4 nm", sign=">=0"),
        "ions": ListOf(_ION, fewest=2),
    },
)

_GEOMETRY = Variants(
    {
        "nanoslit-network": Record(
            NanoslitNetwork,
            {
                "slit_size": _LENGTH,
                "sheet_length": _LENGTH,
                "sheet_thickness": _LENGTH,
                "opening": _LENGTH,
                "sheets": Whole("the number of sheets", 1, 100_000),
                "arrangement": Choice(("staggered", "aligned")),
                "reservoir": _LENGTH,
            },
        ),
        "planar": Record(Planar, {"reservoir": _LENGTH}),
    }
)

_ELECTRODE = Record(
    _electrode,
    {
        "stern_capacitance": Quantity("a capacitance per area", "F/m^2", "10 uF/cm^2"),
        "stern_thickness": _LENGTH,
        "stern_permittivity": Number("a relative permittivity without unit"),
        "sheet_areal_mass": Quantity("a mass per area", "kg/m^2", "0.76 mg/m^2"),
    },
    attributes={"stern_thickness": None, "stern_permittivity": None},
)

_PROTOCOL = Variants(
    {
        "cyclic-voltammetry": Record(
            CyclicVoltammetry,
            {
                "lower": _POTENTIAL,
                "upper": _POTENTIAL,
                "scan_rate": Quantity("a scan rate", "V/s", "1e5 V/s"),
                "cycles": Whole("the number of cycles", 1),
                "start": _POTENTIAL,
            },
        ),
        "table": Record(
            PotentialTable,
            {
                "times": ListOf(Quantity("a time", "s", "100 ns", sign=">=0"), 2),
                "potentials": ListOf(_POTENTIAL, 2),
                "start": _POTENTIAL,
            },
            attributes={"start": "start_potential"},
        ),
        "potential-step": Record(
            PotentialSteps,
            {
                "levels": ListOf(_POTENTIAL, 1),
                "durations": ListOf(_TIME, 1),
                "start": _POTENTIAL,
            },
        ),
    },
    python_only="a protocol that only Python code can make",
)

_NUMERICS = Record(
    Numerics,
    {
        "mesh": Either(
            Choice(("coarse", "standard", "fine")),
            Record(
                MeshSpacing,
                {
                    "wall": Number("a fraction of the screening length"),
                    "growth": Number("increase of cell size per distance"),
                    "largest": Number("a multiple of the Debye length"),
                },
            ),
        ),
        "tolerance": Number("a relative error below 0.1"),
        "linear_solver": Choice(("direct", "iterative")),
        "max_step": _TIME,
        "max_steps": Whole("a number of time steps", 1),
    },
)

_OUTPUT = Record(
    Output,
    {
        "snapshot_potentials": ListOf(_POTENTIAL),
        "snapshot_times": ListOf(Quantity("a time", "s", "100 ns", sign=">=0")),
        "snapshot_vertices": Flag(),
    },
)

CASE: Record = Record(
    _case,
    {
        "name": Text("a label"),
        "electrolyte": _ELECTROLYTE,
        "geometry": _GEOMETRY,
        "electrode": _ELECTRODE,
        "cell": Record(_cell, {"kind": Choice(("half", "full"))}, attributes={"kind": str}),
        "protocol": _PROTOCOL,
        "numerics": _NUMERICS,
        "output": _OUTPUT,
    },
)


# --- reading ----------------------------------------------------------------------


def read_case(path: str | Path, overrides: Overrides = ()) -> Case:
    """Return the case that a file describes.

    Parameters
    ----------
    path : path
        TOML file.
    overrides : mapping or iterable of str
        Changes of single keys: ``{"protocol.scan_rate": "1e4 V/s"}``, or texts
        ``"protocol.scan_rate=1e4 V/s"`` as on the command line.

    Raises
    ------
    CaseError
        If the file cannot be read or says something impossible; the message holds
        file, key, what was given and what is allowed.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise CaseError(
            f"{path}: cannot be read ({error.strerror}); `nanoslit new {path}` writes a "
            "template"
        ) from None
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: is not UTF-8 text ({error.reason})") from None
    return case_from_toml(text, source=str(path), overrides=overrides)


def case_from_toml(text: str, source: str = "case", overrides: Overrides = ()) -> Case:
    """Return the case that TOML text describes; see :func:`read_case`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise CaseError(f"{source}: is not valid TOML: {error}") from None
    return case_from_document(document, source=source, overrides=overrides)


def case_from_document(
    document: Mapping[str, Any], source: str = "case", overrides: Overrides = ()
) -> Case:
    """Return the case that nested tables describe; see :func:`read_case`."""
    if isinstance(overrides, Mapping):
        changes = dict(overrides)
    else:
        changes = dict(parse_override(text) for text in overrides)
    if changes:
        document = apply_overrides(document, changes)
        source += f" (with {', '.join(f'{k}={v}' for k, v in changes.items())})"
    case = CASE.read(document, Place(source))
    assert isinstance(case, Case)
    return case


def parse_override(text: str) -> tuple[str, Any]:
    """Return key and value of ``"protocol.scan_rate=1e4 V/s"``.

    The value is read as TOML where it is TOML (numbers, lists, quoted text), else as
    plain text, so that quotes may be left out on the command line.

    Raises
    ------
    CaseError
        If there is no ``=`` or no key.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals and value):
        Place(f"--set {text!r}").fail(
            "is no change of a key",
            allowed='table.key=value, such as --set protocol.scan_rate="1e4 V/s"',
        )
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def apply_overrides(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested tables with single keys changed.

    Parameters
    ----------
    document : mapping
        Tables as read from TOML.
    changes : mapping
        New value of each dotted key. An item of a list is named by its number from 0
        or by its ``name``; ``*`` means every item: ``electrolyte.ions.*.concentration``.
        Missing tables are made.

    Raises
    ------
    CaseError
        If a key leads through a value that is no table, or names no item.
    """
    out = copy.deepcopy(dict(document))
    for dotted, value in changes.items():
        *path, last = dotted.split(".")
        at = Place(f"override {dotted}")
        found: list[Any] = [out]
        for key in path:
            found = [child for table in found for child in _children(table, key, at)]
        for table in found:
            if not isinstance(table, dict):
                at.fail(f"{last} is asked of a value that is no table", given=show(table))
            table[last] = copy.deepcopy(value)
    return out


def _children(holder: Any, key: str, at: Place) -> list[Any]:
    """Return what a key of a table, or the name or number of a list's item, leads to."""
    if isinstance(holder, dict):
        return [holder.setdefault(key, {})]
    if not isinstance(holder, list):
        at.fail(f"{key} is asked of a value that is no table", given=show(holder))
    names = [item.get("name") if isinstance(item, dict) else None for item in holder]
    if key == "*":
        return list(holder)
    if key not in names and not (key.isdecimal() and int(key) < len(holder)):
        named = ", ".join(str(name) for name in names if name)
        at.fail(
            f"the list has no item {key!r}",
            allowed=f"a number from 0 to {len(holder) - 1}, * for all, or a name: {named}",
        )
    return [holder[names.index(key) if key in names else int(key)]]


# --- writing ----------------------------------------------------------------------


def _without_absent(data: Any) -> Any:
    """Drop keys without value, which TOML cannot hold, and tables left empty."""
    if isinstance(data, dict):
        return {k: _without_absent(v) for k, v in data.items() if v is not None}
    if isinstance(data, list):
        return [_without_absent(v) for v in data]
    return data


def _as_text(node: Quantity, value: float) -> str:
    """Return value and unit so that reading gives the rounded value back."""
    unit = node.file_unit
    number = parse_quantity(f"{round_significant(value)!r} {node.unit}", unit)
    return f"{number:.12g} {unit}"


def case_to_toml(case: Case) -> str:
    """Return a case as TOML text, defaults written out.

    Reading it back gives a case with the same content key.

    Raises
    ------
    CaseError
        If the case holds something that exists in Python only, such as a callable
        potential.
    """
    return toml_text(_without_absent(CASE.export(case, _as_text)))


def canonical(case: Case) -> dict[str, Any]:
    """Return the plain SI data that the content key is made of."""
    number: Callable[[Quantity, float], Any] = lambda _, value: round_significant(value)  # noqa: E731
    data = CASE.export(case, number)
    del data["name"], data["output"]
    return {"model_version": MODEL_VERSION, **data}


def content_key(case: Case) -> str:
    """Return the sha256 of the canonical form, 64 hexadecimal digits.

    Raises
    ------
    CaseError
        If the case holds something that exists in Python only.
    """
    text = json.dumps(canonical(case), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
