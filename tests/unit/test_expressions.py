"""Expressions in files are arithmetic: nothing in them is ever run."""

import pytest
import sympy

from nanoslit.circuit.laws import LadderLaw
from nanoslit.errors import CaseError, LawError
from nanoslit.expressions import parse_expression
from nanoslit.mobility import ExpressionFactor

HOSTILE = [
    "__import__('pathlib').Path('run').touch()",
    "().__class__",
    "[x for x in (1,)]",
    "(lambda: 1)()",
    "f(1)",
    "exp.__doc__",
    "exp(x, evaluate=False)",
    "x if x else 1",
    "'text'",
    "True",
    "x @ x",
    "x, 1",
    "1 +",
    "",
]


def test_arithmetic_is_read():
    x = sympy.Symbol("x", real=True)
    assert parse_expression(" -2*x**2 + exp(x)/3 ", {"x": x}) == -2 * x**2 + sympy.exp(x) / 3
    assert parse_expression("x + y", {"x": x}).free_symbols == {x, sympy.Symbol("y")}
    with pytest.raises(ValueError, match="uses 'y'; allowed are numbers, x, exp"):
        parse_expression("x + y", {"x": x}, only=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_anything_else_is_refused_and_not_run(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="allowed are numbers"):
        parse_expression(text, {"x": sympy.Symbol("x")})
    with pytest.raises(LawError, match="the law"):
        LadderLaw(f"({text})*I", {"x": 1.0})
    with pytest.raises(CaseError, match="factor"):
        ExpressionFactor(text, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["c_law", "law"])
def test_a_circuit_file_runs_nothing(nanoslit, tmp_path, key):
    lines = {
        "c_law": "c_law = \"1 + 0*__import__('os').system('touch run')\"",
        "law": "law = { expression = \"I*__import__('os').system('touch run')\" }",
    }
    (tmp_path / "c.toml").write_text(
        '[circuit]\nn_slits = 2\nc_slit = "1 mF"\nr_open = "1 ohm"\nc_open = "1 mF"\n'
        + ('r_c = "1 ohm"\n' if key == "c_law" else "")
        + lines[key]
        + '\n[protocol]\nkind = "cyclic-voltammetry"\nlower = "0 V"\nupper = "1 V"\n'
        'scan_rate = "1 V/s"\n'
    )
    shown = nanoslit("circuit", tmp_path / "c.toml", "-o", tmp_path / "c.h5", cwd=tmp_path)
    assert shown.returncode == 2
    assert "allowed are numbers" in shown.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["c.toml"]
