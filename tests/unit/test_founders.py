import numpy as np
import pytest

from nanoslit.discovery import formula
from nanoslit.discovery.dimensions import exponents
from nanoslit.discovery.founders import suggest
from nanoslit.discovery.island import Island, Laboratory
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.tokens import OPERATORS, VARIABLE

COLUMNS = ("A", "B", "C", "D")
UNITS = ("V", "s", "ohm", "F")


def problem(text, noise=0.0, units=False):
    rng = np.random.default_rng(5)
    X = rng.uniform(1, 4, (300, 4))
    y = formula.evaluate(formula.parse(text), dict(zip(COLUMNS, X.T, strict=True)))
    y = y + noise * y.std() * rng.normal(size=300)
    given = {"units": tuple(map(exponents, UNITS)), "target_unit": exponents("V")}
    return Problem(COLUMNS, X, y, **(given if units else {}))


def best_founder(law, operators=("+", "-", "*", "/", "sqrt", "square", "exp"), **more):
    laboratory = Laboratory(problem(law, **more), SearchSettings(operators=operators))
    return min(Island(laboratory, 0)._found(), key=lambda i: i.error)


@pytest.mark.parametrize(
    "law",
    [
        "3*A**2*sqrt(B)/C",
        "1/(A*B*C*D)",
        "A**(-0.5)",
        "2*A*(1-exp(-B/(C*D)))",
        "A/sqrt(1+(B*C/D)**2)",
    ],
)
def test_power_laws_and_functions_of_groups_are_among_the_founders(law):
    assert best_founder(law).error < 1e-25


def test_without_an_operator_the_others_do():
    assert best_founder("1/(A*B*C*D)", operators=("*", "/")).error < 1e-25


def test_founders_respect_units():
    law = "2*A*(1-exp(-B/(C*D)))"
    assert best_founder(law, units=True).error < 1e-25
    laboratory = Laboratory(problem(law, 0.05, units=True), SearchSettings())
    for i in Island(laboratory, 0)._found():
        assert laboratory.annotate(i.tokens, i.cdim) == i.hash


def test_the_group_is_found_under_noise_and_drawn_often():
    given = problem("2*A*(1-exp(-B/(C*D)))", noise=0.01)
    found = suggest(given, set(OPERATORS.values()))
    used = [{t - VARIABLE for t in g if t >= VARIABLE} for g in found.groups]
    assert {1, 2, 3} in used
    plain = Laboratory(given, SearchSettings())
    assert plain.space.library[1].size > plain.dimensions.monomial_sizes.size


def test_nothing_is_suggested_where_logarithms_do_not_exist():
    rng = np.random.default_rng(1)
    X = rng.integers(0, 2, (40, 2)).astype(float)
    found = suggest(Problem(("a", "b"), X, X[:, 0] + 2 * X[:, 1]), set(OPERATORS.values()))
    assert (found.laws, found.groups) == ([], [])
