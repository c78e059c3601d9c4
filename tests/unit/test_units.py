"""Quantities as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoslit.errors import CaseError
from nanoslit.units import format_quantity, parse_quantity, round_significant


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1.5 nm", "m", 1.5e-9),
        ("1.5nm", "m", 1.5e-9),
        (" +.5e1 nm ", "m", 5e-9),
        ("15 angstrom", "m", 1.5e-9),
        ("2e-9 m²/s", "m^2/s", 2e-9),
        ("2e-5 cm**2/s", "m^2/s", 2e-9),
        ("1 mol/L", "mol/m^3", 1e3),
        ("10 uF/cm^2", "F/m^2", 0.1),
        ("10 µF/cm^2", "F/m^2", 0.1),
        ("25 degC", "K", 298.15),
        ("0.76 mg/m^2", "kg/m^2", 0.76e-6),
        ("-0 mV", "V", 0.0),
    ],
)
def test_parse(text, unit, value):
    assert parse_quantity(text, unit) == value


@pytest.mark.parametrize("text", ["1.5", "nm", "", "1.5 V", "0x1 nm", "1.5 nm nm", "1 2", None])
def test_parse_refuses(text):
    with pytest.raises(CaseError):
        parse_quantity(text, "m")


@pytest.mark.parametrize(
    ("value", "unit", "to", "text"),
    [
        (3.042e-10, "m", "nm", "0.3042 nm"),
        (4.63e-11, "s", None, "46.3 ps"),
        (2.285, "F/m^2", "uF/cm^2", "228.5 uF/cm^2"),
        (1e5, "V/s", None, "100 kV/s"),
        (1e-3, "V", None, "1 mV"),
        (0.0, "V", None, "0 V"),
        (1e-30, "s", None, "1e-15 fs"),
    ],
)
def test_format(value, unit, to, text):
    assert format_quantity(value, unit, to) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_is_idempotent(value):
    once = round_significant(value)
    assert round_significant(once) == once
    assert str(once) != "-0.0"
