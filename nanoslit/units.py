"""Physical constants, laboratory units, and quantities written as text.

Inside the package every number is SI. Quantities with units as text
(``"1.5 nm"``) exist only in files and on the command line, where
:func:`parse_quantity` reads them with pint.
"""

from __future__ import annotations

import functools
import math
import re
import sys
from typing import Any

from scipy import constants

from nanoslit.errors import CaseError

__all__ = [
    "AVOGADRO",
    "BOLTZMANN",
    "ELEMENTARY_CHARGE",
    "FARADAY",
    "VACUUM_PERMITTIVITY",
    "format_quantity",
    "mV",
    "molar",
    "nm",
    "ns",
    "parse_quantity",
    "round_significant",
    "uF_per_cm2",
    "us",
]

ELEMENTARY_CHARGE: float = constants.e
BOLTZMANN: float = constants.k
AVOGADRO: float = constants.N_A
VACUUM_PERMITTIVITY: float = constants.epsilon_0
FARADAY: float = constants.e * constants.N_A

nm = 1e-9
ns = 1e-9
us = 1e-6
mV = 1e-3
molar = 1e3  # mol/m^3 per mol/L
uF_per_cm2 = 1e-2  # F/m^2 per uF/cm^2

SIGNIFICANT_DIGITS = 12  # of a parsed quantity: far below any input, above unit rounding

_NUMBER_AND_UNIT = re.compile(
    r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*", re.DOTALL
)
_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


def round_significant(value: float, digits: int = SIGNIFICANT_DIGITS) -> float:
    """Return the value rounded to significant digits; -0.0 becomes 0.0.

    Examples
    --------
    >>> round_significant(15 * 1e-10)
    1.5e-09
    """
    return float(f"{value:.{digits - 1}e}") + 0.0


@functools.cache
def _registry() -> Any:
    # pint imports all of dask if it is installed, only to know its array type; told that
    # it is not, reading a case takes half the time
    hidden = "dask" not in sys.modules
    if hidden:
        sys.modules["dask"] = None  # type: ignore[assignment]
    try:
        import pint
    finally:
        if hidden:
            del sys.modules["dask"]
    return pint.UnitRegistry()


@functools.cache
def _conversion(unit: str, target: str) -> tuple[float, float]:
    """Factor and offset from one unit to another; raises whatever pint raises."""
    registry = _registry()
    zero = registry.Quantity(0.0, registry.parse_units(unit)).to(target).magnitude
    one = registry.Quantity(1.0, registry.parse_units(unit)).to(target).magnitude
    return (one - zero if zero else one), zero


def parse_quantity(text: str, unit: str) -> float:
    """Return the value of a quantity written as number and unit.

    Parameters
    ----------
    text : str
        For instance ``"1.5 nm"``, ``"1e5 V/s"`` or ``"25 degC"``.
    unit : str
        Unit of the returned number, for instance ``"m"``; any unit of the same
        dimension is accepted in the text.

    Returns
    -------
    float
        Value in ``unit``, rounded to 12 significant digits so that ``"1.5 nm"`` and
        ``"15 angstrom"`` are the same number.

    Raises
    ------
    CaseError
        If the text is no number with a unit, the unit is unknown, or its dimension
        differs.

    Examples
    --------
    >>> parse_quantity("15 angstrom", "m")
    1.5e-09
    """
    found = _NUMBER_AND_UNIT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise CaseError(f"{text!r} is not a number followed by a unit")
    number, spelling = found.groups()
    if not spelling:
        raise CaseError(f"{text!r} has no unit")
    try:
        factor, offset = _conversion(spelling, unit)
    except Exception as error:  # pint's parser raises many unrelated types
        raise CaseError(_unit_problem(spelling, unit, error)) from None
    value = float(number) * factor + offset
    if not math.isfinite(value):
        raise CaseError(f"{text!r} is too large")
    return round_significant(value)


def _unit_problem(spelling: str, unit: str, error: Exception) -> str:
    """Say whether a unit is unknown or of the wrong dimension."""
    import pint

    if isinstance(error, pint.DimensionalityError):
        return (
            f"unit {spelling!r} has dimension {error.dim1}, "
            f"which cannot be converted to {unit!r} {error.dim2}"
        )
    return f"{spelling!r} is not a known unit"


def format_quantity(value: float, unit: str, to: str | None = None, digits: int = 4) -> str:
    """Return a value with a unit that reads well.

    Parameters
    ----------
    value : float
        Value in ``unit``.
    unit : str
        SI unit whose first symbol may take a prefix (``"m"``, ``"V/s"``, ``"F/m^2"``).
    to : str, optional
        Unit to convert to; by default a power of 1000 is chosen as prefix.
    digits : int
        Significant digits.

    Examples
    --------
    >>> format_quantity(3.042e-10, "m", to="nm")
    '0.3042 nm'
    >>> format_quantity(4.63e-11, "s")
    '46.3 ps'
    """
    if to is not None:
        factor, offset = _conversion(unit, to)
        return f"{value * factor + offset:.{digits}g} {to}"
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    exponent = 3 * math.floor(math.log10(abs(value)) / 3 + 1e-12)
    exponent = min(max(exponent, min(_PREFIXES)), max(_PREFIXES))
    return f"{value / 10.0**exponent:.{digits}g} {_PREFIXES[exponent]}{unit}"
