import json

import numpy as np
import pytest
import sympy

from nanoslit.discovery.law import LawForm, ResistanceLaw
from nanoslit.errors import LawError


def per_case_law() -> ResistanceLaw:
    constants = {
        "R_c": {
            "unit": "Ohm*m",
            "per_case": {
                "d1.5": {"value": 3.0, "standard_error": 0.1},
                "d2": {"value": 2.0, "standard_error": 0.1},
            },
        }
    }
    return ResistanceLaw(
        LawForm("R_c*I*(1 - 0.5*q_outer)", constants, complexity=7),
        meaning={"governor": "outer", "charge": "abs"},
    )


def test_linear_law_evaluates_vectorised():
    law = ResistanceLaw.linear(2.0, 0.25, governor="mean")
    current, q = np.array([1.0, -2.0, 3.0]), np.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(
        law({"I": current, "q_mean": q}), 2.0 * current * (1 - 0.25 * q), rtol=1e-15
    )
    np.testing.assert_allclose(law.resistance({"q_mean": q}), 2.0 * (1 - 0.25 * q))
    assert law.constant("gamma") == 0.25


def test_positivity():
    assert ResistanceLaw.linear(2.0, 0.9).is_positive_on({"q_inner": (0, 1)})
    assert not ResistanceLaw.linear(2.0, 0.9).is_positive_on({"q_inner": (0, 1.2)})
    pole = ResistanceLaw(LawForm("I/(q_inner - 0.5)"))
    assert not pole.is_positive_on({"q_inner": (0, 1)})


def test_constants_private_to_a_case():
    law = per_case_law()
    assert law.cases == ("d1.5", "d2")
    assert law.resistance({"q_outer": 1.0}, case="d2") == pytest.approx(1.0)
    assert law.best.standard_errors == {"R_c": {"d1.5": 0.1, "d2": 0.1}}
    with pytest.raises(LawError, match="name a case"):
        law.resistance({"q_outer": 1.0})
    with pytest.raises(LawError, match="no case 'd9'"):
        law.resistance({"q_outer": 1.0}, case="d9")


def test_round_trip_through_a_file(tmp_path):
    law = per_case_law()
    law.to_file(tmp_path / "LAW.json")
    again = ResistanceLaw.from_file(tmp_path / "LAW.json")
    assert again.to_dict() == law.to_dict()
    assert [p.name for p in tmp_path.iterdir()] == ["LAW.json"]
    assert {"best", "front", "baselines", "evaluations", "seed"} <= set(
        json.loads((tmp_path / "LAW.json").read_text())
    )


def test_sympy_reads_the_current_as_a_column():
    expression = ResistanceLaw.linear(2.0, 0.5).sympy()
    assert {s.name for s in expression.free_symbols} == {"I", "q_inner"}
    assert not expression.has(sympy.I)


def test_python_export_gives_the_same_numbers():
    law = ResistanceLaw(LawForm("2.0*I*sqrt(1 + Abs(q_inner))"))
    space: dict = {}
    exec(law.to_python(), space)
    q = np.linspace(0, 1, 5)
    np.testing.assert_allclose(space["law"](2.0, q), law({"I": 2.0, "q_inner": q}))


def test_a_law_that_is_not_proportional_to_the_current_wants_it():
    law = ResistanceLaw(LawForm("I + I**2*q_inner"))
    with pytest.raises(LawError, match="not proportional"):
        law.resistance({"q_inner": 0.5})
    assert law.resistance({"q_inner": 0.5, "I": 2.0}) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("__import__('os')", "is not arithmetic|unknown function"),
        ("I.real", "not arithmetic"),
        ("I +", "cannot read"),
        ("foo(I)", "unknown function"),
        ("I*colour", "colour"),
        ("True*I", "truth value"),
    ],
)
def test_unusable_expressions_are_refused(expression, message):
    with pytest.raises(LawError, match=message):
        ResistanceLaw(LawForm(expression))


def test_unusable_files_are_refused(tmp_path):
    with pytest.raises(LawError, match="cannot read"):
        ResistanceLaw.from_file(tmp_path / "none.json")
    path = tmp_path / "x.json"
    path.write_text("{")
    with pytest.raises(LawError, match="not JSON"):
        ResistanceLaw.from_file(path)
    path.write_text("{}")
    with pytest.raises(LawError, match="kind"):
        ResistanceLaw.from_file(path)
    record = ResistanceLaw.linear(1.0, 0.1).to_dict() | {"schema": 99}
    path.write_text(json.dumps(record))
    with pytest.raises(LawError, match="schema 99"):
        ResistanceLaw.from_file(path)
