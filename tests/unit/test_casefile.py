"""Case files: round trip, content key, every kind of mistake."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import EXAMPLE
from nanoslit.casefile import (
    apply_overrides,
    case_from_toml,
    case_to_toml,
    content_key,
    parse_override,
    read_case,
)
from nanoslit.errors import CaseError
from nanoslit.protocol import CallablePotential


def with_lines(text, **changes):
    """Return the example with single keys (last of the name) set to other TOML text."""
    lines = text.splitlines()
    for key, value in changes.items():
        (number,) = [i for i, line in enumerate(lines) if line.startswith(f"{key} = ")][-1:]
        lines[number] = f"{key} = {value}"
    return "\n".join(lines)


def test_example_is_what_it_says():
    case = case_from_toml(EXAMPLE)
    assert case.geometry.slit_size == 1.5e-9
    assert case.geometry.sheets == 3
    assert [ion.concentration for ion in case.electrolyte.ions] == [1000.0, 1000.0]
    assert case.protocol.scan_rate == 1e5
    assert case.protocol.start == 0.0
    assert case.cell == "half"
    assert case.electrode.stern_capacitance is None
    assert case.numerics.mesh == "standard"


def test_written_case_reads_back_equal():
    case = case_from_toml(EXAMPLE)
    assert case_from_toml(case_to_toml(case)) == case


@pytest.mark.parametrize(
    ("key", "spelling"),
    [
        ("slit_size", '"15 angstrom"'),
        ("slit_size", '"1.5e-9 m"'),
        ("slit_size", '"0.0015 um"'),
        ("concentration", '"1000 mol/m^3"'),
        ("concentration", '"1 M"'),
        ("temperature", '"25 degC"'),
        ("scan_rate", '"0.1 V/us"'),
        ("lower", '"-0 V"'),
        ("upper", '"200 mV"'),
        ("diffusivity", '"2e-5 cm^2/s"'),
        ("permittivity", "78.50"),
        ("name", '"Cl-" # a comment'),
    ],
)
def test_key_ignores_spelling(key, spelling):
    text = with_lines(EXAMPLE, **{key: spelling})
    assert text != EXAMPLE
    assert content_key(case_from_toml(text)) == content_key(case_from_toml(EXAMPLE))


def test_callable_potential_has_no_file():
    import dataclasses

    case = dataclasses.replace(
        case_from_toml(EXAMPLE), protocol=CallablePotential(lambda t: 0 * t, (0.0, 1.0))
    )
    with pytest.raises(CaseError, match="only Python"):
        case_to_toml(case)


@given(st.floats(1e-10, 1e-6), st.sampled_from(["nm", "m", "angstrom", "um", "pm"]))
@settings(max_examples=50, deadline=None)
def test_lengths_round_trip(length, unit):
    from nanoslit.units import parse_quantity

    number = parse_quantity(f"{length!r} m", unit)
    text = with_lines(EXAMPLE, reservoir=f'"{number!r} {unit}"')
    case = case_from_toml(text)
    assert case.geometry.reservoir == pytest.approx(length, rel=1e-11)
    assert case_from_toml(case_to_toml(case)) == case


def test_overrides_change_single_keys(example_file):
    case = read_case(example_file, ["protocol.scan_rate=1e4 V/s", "numerics.mesh=coarse"])
    assert case.protocol.scan_rate == 1e4
    assert case.numerics.mesh == "coarse"


def test_override_of_every_ion(example_file):
    case = read_case(example_file, {"electrolyte.ions.*.concentration": "0.1 mol/L"})
    assert {ion.concentration for ion in case.electrolyte.ions} == {100.0}


def test_overrides_leave_the_document_alone():
    document = {"geometry": {"sheets": 3}}
    changed = apply_overrides(document, {"geometry.sheets": 4, "cell.kind": "full"})
    assert document == {"geometry": {"sheets": 3}}
    assert changed == {"geometry": {"sheets": 4}, "cell": {"kind": "full"}}


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.b=3", 3), ("a.b = 1.5", 1.5), ('a.b="1 nm"', "1 nm"), ("a.b=1 nm", "1 nm")],
)
def test_override_values(text, value):
    assert parse_override(text) == ("a.b", value)
