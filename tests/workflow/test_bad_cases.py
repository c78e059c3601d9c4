"""Whatever a case file says: one readable message and exit code 2, never a traceback."""

import sys
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from example_case import EXAMPLE
from nanoslit.casefile import apply_overrides, case_from_document, case_from_toml
from nanoslit.cli import main
from nanoslit.errors import CaseError
from nanoslit.tomltext import toml_text

REMOVE = object()
FACTOR = "electrolyte.ions.0.diffusivity"

# key, value, words that the message must hold
MISTAKES = [
    # bare numbers and wrong units
    ("geometry.slit_size", 1.5, ["no unit", "1.5", '"1.5 nm"']),
    ("geometry.slit_size", "1.5", ["no unit", "a length"]),
    ("geometry.slit_size", "1.5 V", ["[length]", "1.5 V"]),
    ("geometry.slit_size", "1.5 nmm", ["'nmm'", "not a known unit"]),
    ("geometry.slit_size", "thin", ["not a number", "thin"]),
    ("geometry.slit_size", "1,5 nm", ["not a known unit"]),
    ("geometry.slit_size", "1.5 nm +", ["not a known unit"]),
    ("geometry.slit_size", "1.5 2 nm", ["not a known unit"]),
    ("geometry.slit_size", "1e999 nm", ["too large"]),
    ("geometry.slit_size", "nan nm", ["not a number"]),
    ("geometry.slit_size", True, ["true", "a length"]),
    ("geometry.slit_size", ["1 nm"], ["1 nm", "a length"]),
    ("geometry.slit_size", "", ["not a number"]),
    ("protocol.scan_rate", "1e5 V", ["scan rate", "V/s"]),
    ("protocol.scan_rate", 100000, ["no unit", "100000"]),
    ("electrolyte.temperature", "25", ["no unit", "K"]),
    ("electrolyte.temperature", "-300 degC", ["impossible", "above 0"]),
    ("electrolyte.ions.0.concentration", "1 kg/L", ["concentration", "mol/L"]),
    # impossible values
    ("geometry.slit_size", "-1.5 nm", ["impossible", "-1.5 nm", "above 0"]),
    ("geometry.slit_size", "0 nm", ["impossible", "above 0"]),
    ("geometry.sheets", 0, ["out of range", "1 to"]),
    ("geometry.sheets", 2.5, ["whole number", "2.5"]),
    ("geometry.sheets", "3", ["whole number"]),
    ("geometry.sheets", 10**30, ["out of range"]),
    ("geometry.opening", "20 nm", ["opening", "sheet_length", "shorter"]),
    ("electrolyte.ion_size", "1.5 nm", ["packing fraction", "below 1"]),
    ("electrolyte.ion_size", "-0.4 nm", ["impossible", "0 or above"]),
    ("electrolyte.permittivity", 0, ["impossible", "above 0"]),
    ("electrolyte.permittivity", "78.5", ["bare number"]),
    ("electrolyte.permittivity", float("inf"), ["impossible"]),
    ("electrolyte.ions.0.concentration", "2 mol/L", ["electroneutral", "balance"]),
    ("electrolyte.ions.0.charge", 0, ["charge", "neutral"]),
    ("electrolyte.ions.0.charge", 1.0, ["whole number"]),
    ("electrolyte.ions.0.name", "Cl-", ["names", "differ"]),
    ("electrolyte.ions", [], ["too few", "2 or more"]),
    ("electrolyte.ions", {}, ["must be a list"]),
    ("protocol.upper", "-0.2 V", ["upper", "above lower"]),
    ("protocol.upper", "0 V", ["upper", "above lower"]),
    ("protocol.start", "0.2 V", ["start", "upper"]),
    ("protocol.cycles", 0, ["out of range"]),
    ("protocol.scan_rate", "-1 V/s", ["impossible", "above 0"]),
    ("electrode.stern_capacitance", "0 uF/cm^2", ["impossible", "uF/cm^2"]),
    ("electrode.stern_thickness", "0.3 nm", ["stern_permittivity", "together"]),
    (
        "electrode",
        {
            "stern_thickness": "0.3 nm",
            "stern_permittivity": 6,
            "stern_capacitance": "9 uF/cm^2",
        },
        ["not both"],
    ),
    ("numerics.tolerance", 0.5, ["tolerance", "0.5", "0.1"]),
    ("numerics.mesh", {"wall": 0.1, "growth": 0.1}, ["largest", "missing key"]),
    ("numerics.mesh", {"wall": 0.1, "growth": -1, "largest": 2}, ["growth", "-1"]),
    # unknown names
    ("geometry.slit_siz", "1.5 nm", ["unknown key", "did you mean 'slit_size'"]),
    ("geometri.kind", "planar", ["unknown key", "did you mean 'geometry'"]),
    ("geometry.kind", "nanoslit-netwerk", ["did you mean 'nanoslit-network'"]),
    ("geometry.kind", 3, ["nanoslit-network", "planar"]),
    ("geometry.kind", REMOVE, ["missing key", "planar"]),
    ("geometry.kind", "planar", ["unknown key", "reservoir"]),
    ("geometry.arrangement", "stagered", ["did you mean 'staggered'"]),
    ("cell.kind", "whole", ['"half" or "full"']),
    ("numerics.linear_solver", "lu", ['"direct" or "iterative"']),
    ("numerics.mesh", "finest", ["did you mean 'fine'"]),
    ("protocol.kind", "cv", ["cyclic-voltammetry"]),
    # missing or misplaced
    ("geometry.slit_size", REMOVE, ["missing key", "a length"]),
    ("protocol", REMOVE, ["missing key", "protocol"]),
    ("electrolyte", REMOVE, ["missing key", "electrolyte"]),
    ("electrolyte.ions", REMOVE, ["missing key", "ions"]),
    ("electrolyte.ions.0.diffusivity", REMOVE, ["missing key", "diffusivity"]),
    ("geometry", "planar", ["must be a table"]),
    ("electrolyte.ions", ["K+", "Cl-"], ["must be a table", "K+"]),
    ("name", 5, ["must be text"]),
    ("name", " ", ["must be text"]),
    # other protocols
    ("protocol", {"kind": "potential-step", "levels": ["1 V"]}, ["durations", "missing"]),
    (
        "protocol",
        {"kind": "potential-step", "levels": ["1 V"], "durations": ["1 s", "2 s"]},
        ["1 levels and 2 durations"],
    ),
    (
        "protocol",
        {"kind": "table", "times": ["0 s", "2 s", "1 s"], "potentials": ["0 V"] * 3},
        ["must not fall"],
    ),
    (
        "protocol",
        {"kind": "table", "times": ["0 s", "1 s"], "potentials": ["0 V", "1 mV/s"]},
        ["potentials.1", "a potential"],
    ),
    # diffusivities
    (FACTOR, {"factor": "c_total"}, ["value", "missing key"]),
    (FACTOR, {"value": "1e-9 m^2/s", "factor": "exp(-c_totl)"}, ["c_totl", "c_total"]),
    (FACTOR, {"value": "1e-9 m^2/s", "factor": "exp("}, ["not an expression"]),
    (FACTOR, {"value": "1e-9 m^2/s", "factor": "__import__('os').getcwd()"}, ["uses"]),
    (FACTOR, {"value": "1e-9 m^2/s", "factor": "c_total.__class__"}, ["uses"]),
    (FACTOR, {"value": "1e-9 m^2/s", "factor": "1/0"}, ["finite"]),
    (
        FACTOR,
        {
            "value": "1e-9 m^2/s",
            "table": {"concentration": ["1 M", "1 M"], "factor": [1, 1]},
        },
        ["must rise"],
    ),
]

TEXTS = [
    ("", ["electrolyte", "missing key"]),
    ("geometry = ", ["not valid TOML", "Invalid value"]),
    ("[geometry", ["not valid TOML"]),
    (EXAMPLE + "[geometry]\n", ["not valid TOML", "geometry"]),
    (EXAMPLE.replace('"1.5 nm"', "1.5 nm"), ["not valid TOML", "line"]),
    ("x = " + "[" * 5000, ["not valid TOML"]),
]


def changed(key, value):
    """Return the example as tables with one key changed or removed."""
    document = tomllib.loads(EXAMPLE)
    if value is not REMOVE:
        return apply_overrides(document, {key: value})
    *path, last = key.split(".")
    table = document
    for part in path:
        table = table[int(part)] if part.isdecimal() else table[part]
    del table[last]
    return document


@pytest.fixture
def check(monkeypatch, capsys):
    """Return a function that runs `nanoslit check` here: exit code, message."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["nanoslit", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr().err

    return run


def assert_readable(code, message, source, words):
    assert code == 2
    assert "Traceback" not in message
    assert message.startswith(("CaseError: ", "GeometryError: ", "ProtocolError: "))
    assert source in message
    assert len(message.splitlines()) <= 6
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("key", "value", "words"), MISTAKES, ids=[f"{m[0]}-{i}" for i, m in enumerate(MISTAKES)]
)
def test_mistake(check, tmp_path, key, value, words):
    path = tmp_path / "bad.toml"
    path.write_text(toml_text(changed(key, value)))
    code, message = check(path)
    table = key.split(".")[0]
    assert_readable(code, message, str(path), [table, *words])


@pytest.mark.parametrize(("text", "words"), TEXTS, ids=range(len(TEXTS)))
def test_bad_text(check, tmp_path, text, words):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert_readable(*check(path), str(path), words)


def test_binary_file(check, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe\x00name")
    assert_readable(*check(path), str(path), ["UTF-8"])


def test_missing_file_and_folder(check, tmp_path):
    assert_readable(*check(tmp_path / "no.toml"), "no.toml", ["nanoslit new"])
    assert_readable(*check(tmp_path), str(tmp_path), ["directory"])


@pytest.mark.parametrize("change", ["geometry", "geometry.slit_size=", "=3"])
def test_bad_override(check, example_file, change):
    assert_readable(*check(example_file, "--set", change), change, ["--set"])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("geometry.sheets.x=3", "no table"),
        ("electrolyte.ions.5.charge=1", "'5'"),
        ("electrolyte.ions.Na+.charge=1", "K+"),
        ("geometry.slit_size=3", "no unit"),
        ("geometry.slit_siz=3 nm", "did you mean"),
    ],
)
def test_override_that_does_not_fit(check, example_file, change, word):
    key = change.partition("=")[0]
    assert_readable(*check(example_file, "--set", change), key, [word])


def keys_of(table, path=()):
    """Yield the dotted keys of nested tables."""
    items = enumerate(table) if isinstance(table, list) else table.items()
    for key, value in items:
        yield ".".join(map(str, (*path, key)))
        if isinstance(value, dict | list):
            yield from keys_of(value, (*path, key))


SCALARS = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.dates(),
    st.builds(
        "{} {}".format, st.floats(), st.sampled_from(["nm", "V", "V/s", "mol/L", "K", "%", ""])
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["kind", "value", "name", "x"]), inner, max_size=3),
    ),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(keys_of(tomllib.loads(EXAMPLE)))), value=VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_value_anywhere_is_accepted_or_explained(key, value):
    document = tomllib.loads(EXAMPLE)
    *path, last = key.split(".")
    table = document
    for part in path:
        table = table[int(part)] if part.isdecimal() else table[part]
    table[int(last) if last.isdecimal() else last] = value
    try:
        case = case_from_document(document, source="some.toml")
    except CaseError as error:
        message = str(error)
    else:
        assert case.electrolyte.ions
        return
    assert message.startswith("some.toml: ")
    assert key.split(".")[0] in message


@given(st.text(alphabet=st.characters(codec="utf-8")))
@settings(max_examples=200, deadline=None)
def test_any_text_is_explained(text):
    with pytest.raises(CaseError, match="some.toml"):
        case_from_toml(text, source="some.toml")


UNITS = st.text(alphabet="nmVsK/^*().+-0123456789 eEµ°%_[]{}\"'\\\n\t", min_size=1, max_size=12)


@given(UNITS)
@settings(max_examples=300, deadline=None)
def test_any_unit_is_accepted_or_explained(unit):
    document = apply_overrides(tomllib.loads(EXAMPLE), {"geometry.slit_size": f"2 {unit}"})
    try:
        case_from_document(document, source="some.toml")
    except CaseError as error:
        message = str(error)
    else:
        return
    assert message.startswith("some.toml: geometry")
