import numpy as np
import pytest
import sympy

from nanoslit.discovery.dimensions import exponents
from nanoslit.discovery.discover import choose, search_problem
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.selection import law_form, sparse_regression

NAMES = ("I", "q", "V", "t", "salt")
UNITS = ("A/m", "", "V", "s", "")


def planted(gamma, noise, seed, n=300):
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, n)
    current = np.sin(7 * t + seed) + 0.3
    q = t**1.3
    X = np.stack([current, q, 0.1 * t + 0.01 * np.cos(5 * t), t, 1 - 0.3 * q**2], axis=1)
    y = 2.3 * current * (1 - gamma * q)
    y = y + noise * y.std() * rng.normal(size=n)
    units = tuple(exponents(u) for u in UNITS)
    return Problem(NAMES, X, y, units=units, target_unit=exponents("V"), target="dphi")


def find(problem, seed, evaluations=16_000, **more):
    settings = SearchSettings(
        evaluations=evaluations, islands=2, seed=seed, constant_units="scale", **more
    )
    laboratory, result = search_problem(problem, settings)
    return choose(laboratory, result, evaluations), result


def coefficients(expression):
    symbols = {n: sympy.Symbol(n) for n in NAMES}
    value = sympy.expand(sympy.sympify(expression, locals=symbols))
    return {str(k): float(v) for k, v in value.as_coefficients_dict(*symbols.values()).items()}


@pytest.mark.parametrize(("noise", "seed"), [(0.0, 1), (0.01, 2), (0.05, 3)])
def test_the_planted_law_is_found_with_its_constants(noise, seed):
    problem = planted(0.6, noise, seed)
    chosen, result = find(problem, seed)
    terms = coefficients(law_form(chosen.best, problem, ["all"]).expression)
    assert set(terms) == {"I", "I*q"}
    assert terms["I"] == pytest.approx(2.3, rel=0.05)
    assert -terms["I*q"] / terms["I"] == pytest.approx(0.6, rel=0.05)
    assert result.evaluations + chosen.evaluations < 20_000


@pytest.mark.parametrize("seed", [4, 5])
def test_no_charge_term_is_claimed_where_there_is_none(seed):
    problem = planted(0.0, 0.05, seed)
    chosen, _ = find(problem, seed)
    assert set(coefficients(law_form(chosen.best, problem, ["all"]).expression)) == {"I"}


def test_constants_private_to_a_data_set():
    rng = np.random.default_rng(7)
    parts = []
    truth = [(1.0, 0.3), (2.0, 0.5), (4.0, 0.7)]
    for r_c, gamma in truth:
        current, q = rng.uniform(-1, 1, 80), rng.uniform(0, 1, 80)
        parts.append((current, q, r_c * current * (1 - gamma * q)))
    X = np.stack([np.concatenate([p[j] for p in parts]) for j in (0, 1)], axis=1)
    y = np.concatenate([p[2] for p in parts]) + 0.002 * rng.normal(size=240)
    problem = Problem(("I", "q"), X, y, np.repeat([0, 1, 2], 80))
    chosen, _ = find(problem, 1, 12_000, private_constants=True)
    form = law_form(chosen.best, problem, ["a", "b", "c"])
    assert form.cases == ("a", "b", "c")
    for case, (r_c, gamma) in zip("abc", truth, strict=True):
        q = np.array([0.0, 1.0])
        resistance = form({"I": 1.0, "q": q}, case)
        np.testing.assert_allclose(resistance, r_c * (1 - gamma * q), rtol=0.02)
        for errors in form.standard_errors.values():
            assert 0 < errors[case] < 0.05


def test_sparse_regression_finds_its_own():
    problem = planted(0.6, 0.01, 9)
    terms = dict(sparse_regression(problem, degree=2))
    assert terms[(0,)] == pytest.approx(2.3, rel=0.02)
    assert terms[(0, 1)] == pytest.approx(-1.38, rel=0.05)
