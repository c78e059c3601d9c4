"""Errors of constants, poles, outliers: what makes a found law credible."""

import numpy as np
import pytest

from nanoslit.discovery import forms
from nanoslit.discovery.discover import choose, search_problem
from nanoslit.discovery.forms import Form, block_jackknife, data_for_forms, fit
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.resistance import profile_interval


def test_profile_interval_holds_gamma_in_95_of_100():
    rng = np.random.default_rng(0)
    x = np.linspace(0.1, 1, 80)
    u = np.sin(3 * x) + 0.3
    inside = 0
    for _ in range(300):
        y = 2 * u * (1 - 0.5 * x) + 0.05 * rng.normal(size=80)
        low, high = profile_interval(u, u * x, y, 80)
        inside += low <= 0.5 <= high
    assert 270 <= inside <= 297


def test_profile_interval_is_open_where_gamma_is_not_determined():
    rng = np.random.default_rng(1)
    u = rng.normal(size=40)
    assert profile_interval(u, u, 2 * u + rng.normal(size=40), 40) == (None, None)
    low, high = profile_interval(u, u * np.linspace(0, 1, 40), u, 40)
    assert low == pytest.approx(0, abs=1e-6)
    assert high == pytest.approx(0, abs=1e-6)


def test_block_jackknife_knows_that_neighbours_are_alike():
    rng = np.random.default_rng(0)
    n = 80
    x = np.linspace(0.1, 1, n)
    start = Form.from_text("R*x*(1 - g*x)", ("x",), {"R": 1.0, "g": 0.1})
    found, plain, block = [], [], []
    for k in range(60):
        noise = np.convolve(rng.normal(size=n + 10), np.ones(8) / 8, "same")[:n] * 0.05
        problem = Problem(("x",), x[:, None], 2 * x * (1 - 0.5 * x) + noise)
        form = fit(start, data_for_forms(problem, SearchSettings()), 50, 1.0)
        found.append(form.value("g"))
        plain.append(form.standard_error("g"))
        if k < 20:
            block.append(block_jackknife(form, problem, 16)[1, 0])
    truth = np.std(found)
    assert np.mean(plain) < 0.6 * truth
    assert 0.75 * truth < np.mean(block) < 1.6 * truth


def test_poles_are_seen():
    rng = np.random.default_rng(0)
    X, none = rng.uniform(0.1, 1, (60, 2)), np.zeros(60, dtype=np.int64)

    def where(text):
        return forms.pole(Form.from_text(text, ("a", "b")), X, none)

    assert where("a/(b - 0.5)") == "in the data"
    assert where("1/(a - b)**2 + 1/(a - 0.5)") == "in the data"
    assert where("a/(1.05 - b)") == "near the data"
    assert where("a/(b + 0.5) - b/a") == ""
    assert where("a - b") == ""


def test_huber_loss_ignores_gross_outliers():
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 3, (200, 3))
    y = 2.5 * X[:, 0] / X[:, 1] * (1 + 0.01 * rng.normal(size=200))
    y[:20] += rng.uniform(5, 20, 20)
    wrong, right = (
        _prediction(Problem(("a", "b", "c"), X, y), loss) for loss in ("squares", "huber")
    )
    exact = 2.5 * X[:, 0] / X[:, 1]
    assert np.abs(wrong / exact - 1).max() > 0.1
    assert np.abs(right / exact - 1).max() < 0.01


def _prediction(problem, loss):
    settings = SearchSettings(evaluations=4000, loss=loss)
    laboratory, result = search_problem(problem, settings)
    return choose(laboratory, result, 4000).best.form.predict(problem.X)
