"""Case files: round trip, content key, every kind of mistake."""

import dataclasses
import math
import re
import tomllib
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from example_case import EXAMPLE
from nanoslit.casefile import (
    MODEL_VERSION,
    apply_overrides,
    case_from_document,
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


def test_missing_override_value_of_a_list_names_what_is_there():
    with pytest.raises(CaseError, match="K\\+, Cl-"):
        apply_overrides(tomllib.loads(EXAMPLE), {"electrolyte.ions.Na+.charge": 1})


def shuffled(table, random):
    """Return the same tables with keys in another order."""
    if isinstance(table, list):
        return [shuffled(item, random) for item in table]
    if not isinstance(table, dict):
        return table
    items = [(key, shuffled(value, random)) for key, value in table.items()]
    random.shuffle(items)
    return dict(items)


@given(st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_key_ignores_the_order_of_keys(random):
    document = shuffled(tomllib.loads(EXAMPLE), random)
    assert content_key(case_from_document(document)) == content_key(case_from_toml(EXAMPLE))


DEFAULTS = {
    "electrode.sheet_areal_mass": "0.76 mg/m^2",
    "cell.kind": "half",
    "numerics.mesh": "standard",
    "numerics.linear_solver": "direct",
    "protocol.start": "0 V",
}


@pytest.mark.parametrize(("key", "value"), DEFAULTS.items())
def test_key_is_that_of_the_defaults(key, value):
    case = case_from_toml(EXAMPLE, overrides={key: value})
    assert content_key(case) == content_key(case_from_toml(EXAMPLE))


CHANGES = {
    "electrolyte.permittivity": 80,
    "electrolyte.temperature": "300 K",
    "electrolyte.ion_size": "0.41 nm",
    "electrolyte.ions.0.diffusivity": "1.9e-9 m^2/s",
    "electrolyte.ions.1.diffusivity": {"value": "2e-9 m^2/s", "factor": "exp(-c_total)"},
    "electrolyte.ions.*.concentration": "0.9 mol/L",
    "geometry.slit_size": "1.50000001 nm",
    "geometry.sheets": 4,
    "geometry.arrangement": "aligned",
    "electrode.stern_capacitance": "10 uF/cm^2",
    "cell.kind": "full",
    "protocol.scan_rate": "2e5 V/s",
    "protocol.start": "0.1 V",
    "protocol.cycles": 3,
    "numerics.mesh": "fine",
    "numerics.tolerance": 1e-5,
    "numerics.max_step": "1 ns",
}


def test_every_change_has_a_key_of_its_own():
    cases = [case_from_toml(EXAMPLE, overrides={k: v}) for k, v in CHANGES.items()]
    keys = {content_key(case) for case in [*cases, case_from_toml(EXAMPLE)]}
    assert len(keys) == len(CHANGES) + 1


@pytest.mark.parametrize("key", CHANGES)
def test_every_change_survives_writing(key):
    case = case_from_toml(EXAMPLE, overrides={key: CHANGES[key]})
    again = case_from_toml(case_to_toml(case))
    assert again == case
    assert content_key(again) == content_key(case)


def test_key_is_stable():
    """A key names results on disk: it changes only together with MODEL_VERSION."""
    assert MODEL_VERSION == 2
    assert content_key(case_from_toml(EXAMPLE)).startswith("90b4cc267a3a5a4f82eacbf099e7be74")


def test_key_of_a_python_case_is_that_of_its_file():
    case = case_from_toml(EXAMPLE)
    blurred = dataclasses.replace(
        case, geometry=dataclasses.replace(case.geometry, slit_size=math.nextafter(1.5e-9, 1))
    )
    assert blurred != case
    assert content_key(blurred) == content_key(case)


def test_stern_layer_by_thickness():
    by_thickness = case_from_toml(
        EXAMPLE,
        overrides={
            "electrode.stern_thickness": "0.3 nm",
            "electrode.stern_permittivity": 6,
        },
    )
    expected = 6 * 8.8541878188e-12 / 0.3e-9
    assert by_thickness.electrode.stern_capacitance == pytest.approx(expected, rel=1e-9)
    assert case_from_toml(case_to_toml(by_thickness)) == by_thickness


@pytest.mark.parametrize(
    "protocol",
    [
        {"kind": "potential-step", "levels": ["0.1 V", "0 V"], "durations": ["1 us", "2 us"]},
        {
            "kind": "table",
            "times": ["0 s", "0 s", "1 us", "1 us", "3 us"],
            "potentials": ["0 mV", "100 mV", "100 mV", "0 mV", "0 mV"],
        },
    ],
)
def test_steps_and_tables(protocol):
    case = case_from_toml(EXAMPLE, overrides={"protocol": protocol})
    assert case.protocol.bounds == (0.0, 0.1)
    assert case.protocol.breakpoints().tolist() == [0.0, 1e-6, 3e-6]
    again = case_from_toml(case_to_toml(case))
    assert content_key(again) == content_key(case)


def test_same_potential_same_key():
    """A step and the table of the same jumps are one physics."""
    steps = {"kind": "potential-step", "levels": ["0.1 V"], "durations": ["1 us"]}
    table = {
        "kind": "table",
        "times": ["0 s", "1 us"],
        "potentials": ["0.1 V", "0.1 V"],
        "start": "0 V",
    }
    keys = {
        content_key(case_from_toml(EXAMPLE, overrides={"protocol": p})) for p in (steps, table)
    }
    assert len(keys) == 1


def test_planar_geometry():
    case = case_from_toml(
        EXAMPLE, overrides={"geometry": {"kind": "planar", "reservoir": "20 nm"}}
    )
    assert case.geometry.reservoir == 2e-8
    assert case_from_toml(case_to_toml(case)) == case


def test_diffusivity_table():
    table = {"concentration": ["0 mol/L", "4 mol/L"], "factor": [1, 0.5]}
    case = case_from_toml(
        EXAMPLE,
        overrides={"electrolyte.ions.0.diffusivity": {"value": "2e-9 m^2/s", "table": table}},
    )
    assert case.electrolyte.bulk_diffusivities == pytest.approx((1.5e-9, 2e-9))
    assert case_from_toml(case_to_toml(case)) == case


def test_template_is_the_example():
    template = files("nanoslit.cli").joinpath("case_template.toml").read_text()
    assert content_key(case_from_toml(template)) == content_key(case_from_toml(EXAMPLE))


def test_template_comments_are_valid():
    """Every optional table of the template works when its comment signs are removed."""
    template = files("nanoslit.cli").joinpath("case_template.toml").read_text()
    for table, keep in {
        "electrode": "stern_capacitance|sheet_areal_mass",
        "cell": "kind",
        "numerics": "tolerance|linear_solver|max_step|max_steps",
    }.items():
        pattern = rf"^# (\[{table}\]$|(?:{keep}) = )"
        text = re.sub(pattern, r"\1", template, flags=re.MULTILINE)
        case = case_from_toml(text)
        assert case != case_from_toml(template) or table == "cell"
