from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoslit.discovery import formula, kernels
from nanoslit.discovery.consistency import constant_units
from nanoslit.discovery.dimensions import DimensionTable, exponents, unit_text
from nanoslit.discovery.discover import winner
from nanoslit.discovery.forms import Form, data_for_forms, fit
from nanoslit.discovery.island import Island, Laboratory
from nanoslit.discovery.problem import Problem, SearchSettings
from nanoslit.discovery.selection import Candidate
from nanoslit.discovery.tokens import OPERATORS, decode, encode, to_formula
from nanoslit.errors import LawError

ALL = tuple(OPERATORS)


@pytest.fixture(scope="module")
def laboratory():
    rng = np.random.default_rng(3)
    X = rng.uniform(0.5, 2.0, (90, 3))
    y = 1.7 * X[:, 0] * np.exp(-0.4 * X[:, 1])
    groups = np.repeat([0, 1], 45)
    problem = Problem(("a", "b", "c"), X, y, groups)
    return Laboratory(problem, SearchSettings(operators=ALL, private_constants=True))


def population(laboratory, count, number=0):
    island = Island(laboratory, number)
    return island._create(count)


def test_the_stack_machine_agrees_with_numpy(laboratory):
    people = population(laboratory, 400)
    assert len(people) > 200
    problem = laboratory.problem
    used = set()
    for i in people:
        used |= set(i.tokens.tolist())
        values = laboratory.data.values(i.tokens, i.constants)
        form = Form(i.tokens, i.constants, ())
        np.testing.assert_allclose(values, form.predict(problem.X, problem.groups), 1e-12)
    assert set(OPERATORS.values()) <= used


def test_scores_are_least_squares_per_data_set(laboratory):
    problem = laboratory.problem
    for i in population(laboratory, 60, number=1):
        f = Form(i.tokens, i.constants, ()).predict(problem.X, problem.groups)
        expected = 0.0
        for g in range(2):
            fg, y = f[problem.groups == g], problem.y[problem.groups == g]
            a = fg @ y / (fg @ fg)
            expected += np.sum((y - a * fg) ** 2) / np.sum(y**2) / 2
        assert i.error == pytest.approx(expected, rel=1e-6, abs=1e-13)


def test_an_exact_law_has_no_misfit_but_rounding():
    rng = np.random.default_rng(4)
    X = rng.uniform(1, 5, (1500, 2))
    data = Laboratory(Problem(("a", "b"), X, 3.7 * X[:, 0] * X[:, 1]), SearchSettings()).data
    tokens = decode("@* a b", ("a", "b"))[0]
    # the closed form norm - (f y)^2 / (f f) would leave about 1e-16, or exactly nothing
    assert 0 < data.fit(tokens, np.zeros((3, 1)), 0)[0] < 1e-29


def test_tangents_are_derivatives(laboratory):
    arrays = laboratory.data.arrays
    tried = 0
    for i in population(laboratory, 600, number=2):
        leaves = np.flatnonzero(i.tokens < 10)
        if not leaves.size:
            continue
        n = len(i.tokens)
        D, part = np.empty((leaves.size, 90)), np.empty((leaves.size, kernels.BLOCK))
        scratch = [np.zeros(n + 2, dtype=np.int64) for _ in range(3)]
        for block, (first, last, _) in enumerate(arrays.bounds):
            kernels.evaluate_with_tangents(
                i.tokens, n, i.constants, arrays, *scratch, part, block
            )
            D[:, first:last] = part[:, : last - first]
        for j, t in enumerate(leaves):
            h = 1e-6 * max(1.0, abs(i.constants[t, 0]))
            values = []
            for sign in (1, -1):
                C = i.constants.copy()
                C[t] += sign * h
                values.append(
                    Form(i.tokens, C, ()).predict(
                        laboratory.problem.X, laboratory.problem.groups
                    )
                )
            slope = (values[0] - values[1]) / (2 * h)
            if not np.all(np.isfinite(slope)) or np.abs(slope).max() > 1e4:
                continue
            np.testing.assert_allclose(D[j], slope, rtol=2e-4, atol=2e-5)
            tried += 1
    assert tried > 25


def test_text_round_trip_is_exact(laboratory):
    for i in population(laboratory, 100, number=4):
        again = laboratory.read(laboratory.write(i))
        assert np.array_equal(again.tokens, i.tokens)
        assert np.array_equal(again.constants[i.tokens < 10], i.constants[i.tokens < 10])
        assert (again.error, again.hash) == (i.error, i.hash)
    with pytest.raises(LawError, match="ends early"):
        decode("@+ a", ("a",))
    with pytest.raises(LawError, match="unknown word"):
        decode("import", ("a",))
    with pytest.raises(LawError, match="rest"):
        decode("a a", ("a",))


def test_commutative_twins_are_duplicates(laboratory):
    first, _ = decode("@+ a @* b c", ("a", "b", "c"))
    second, _ = decode("@+ @* c b a", ("a", "b", "c"))
    third, _ = decode("@- a @* b c", ("a", "b", "c"))
    hashes = [
        laboratory.annotate(t, np.zeros(5, dtype=np.int64)) for t in (first, second, third)
    ]
    assert hashes[0] == hashes[1] != hashes[2]


UNITS = ("m", "m/s", "s", "kg", "")


def exponents_of(tokens, units):
    """Independent, recursive dimension check; raises on an inconsistency."""
    stack = []
    for token in tokens.tolist():
        if token >= 100:
            stack.append(np.array([float(x) for x in exponents(units[token - 100])]))
        elif token < 10:
            stack.append(np.zeros(7))
        elif token < 20:
            b, a = stack.pop(), stack.pop()
            if token in (OPERATORS["+"], OPERATORS["-"]):
                assert np.allclose(a, b)
                stack.append(a)
            elif token == OPERATORS["pow"]:
                assert not a.any()
                assert not b.any()
                stack.append(a)
            else:
                stack.append(a + b if token == OPERATORS["*"] else a - b)
        else:
            a = stack.pop()
            power = {"sqrt": 0.5, "square": 2, "cube": 3, "inv": -1, "abs": 1}
            name = next(n for n, c in OPERATORS.items() if c == token)
            assert name in power or not a.any()
            stack.append(a * power.get(name, 0))
    return stack.pop()


def test_every_expression_of_a_search_is_consistent():
    rng = np.random.default_rng(0)
    X = rng.uniform(1, 2, (60, 5))
    y = X[:, 3] * X[:, 1] ** 2
    problem = Problem(
        ("x", "v", "t", "m", "q"),
        X,
        y,
        units=tuple(exponents(u) for u in UNITS),
        target_unit=exponents("J"),
    )
    island = Island(Laboratory(problem, SearchSettings(operators=ALL, seed=5)), 0)
    for _ in range(15):
        island.step()
        for i in island.population:
            found = exponents_of(i.tokens, UNITS)
            assert np.allclose(found, [float(x) for x in exponents("J")])


def test_impossible_units_are_said_before_the_search():
    with pytest.raises(LawError, match="no combination"):
        DimensionTable.build(
            [exponents("m")], exponents("V"), ("+", "*", "/"), "dimensionless", ("x",)
        )
    with pytest.raises(LawError, match="not understood"):
        exponents("blorb")
    assert unit_text(exponents("V")) == "V"
    assert unit_text(exponents("m/s**2")) == "m*s**-2"


def test_units_of_constants_follow_from_their_place():
    form = Form.from_text(
        "R*I*(1 - g*q) + L*dI", ("I", "q", "dI"), {"R": 1.0, "g": 1.0, "L": 1.0}
    )
    units = constant_units(
        form, [exponents("A"), exponents(""), exponents("A/s")], exponents("V")
    )
    assert [unit_text(u) for u in units] == ["Ohm", "", "m**2*kg*s**-2*A**-2"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_infix_text_reads_back(seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(0.5, 2, (20, 2))
    problem = Problem(("a", "b"), X, X[:, 0] + X[:, 1])
    lab = Laboratory(problem, SearchSettings(operators=ALL, seed=seed))
    for i in Island(lab, 0)._create(5):
        text = to_formula(i.tokens, None, i.constants, ("a", "b"))
        direct = formula.evaluate(formula.parse(text), {"a": X[:, 0], "b": X[:, 1]})
        form = Form.from_text(text, ("a", "b"))
        np.testing.assert_allclose(form.predict(X), direct, rtol=1e-12)


def test_standard_errors_cover_the_truth():
    """Over 200 noisy repeats about 95 % of intervals of two errors hold the truth."""
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 80)
    start = Form.from_text("R*x*(1 - g*x)", ("x",), {"R": 1.0, "g": 0.1})
    inside = 0
    for _ in range(200):
        y = 2.0 * x * (1 - 0.5 * x) + 0.02 * rng.normal(size=80)
        form = fit(start, data_for_forms(Problem(("x",), x[:, None], y), SearchSettings()))
        inside += abs(form.value("g") - 0.5) < 2 * form.standard_error("g")
    assert 180 <= inside <= 198


def test_encode_rejects_nothing_that_it_wrote():
    tokens, constants = decode("@* #0x1.8p+1 %0x1p+0;0x1p+1", (), 2)
    assert (
        encode(tokens, constants, ())
        == "@* #0x1.8000000000000p+1 %0x1.0000000000000p+0;0x1.0000000000000p+1"
    )
    assert constants[1].tolist() == [1.0, 2.0]


def candidate(mdl, seen, unseen):
    return Candidate(SimpleNamespace(error=seen**2), mdl, 0.0, unseen)


@pytest.mark.parametrize(
    ("found", "rival", "wins", "says"),
    [
        ((10, 0.01, 0.02), (20, 0.02, 0.07), False, "found by the search"),
        ((20, 0.02, 0.02), (10, 0.02, 0.02), True, "no better law"),
        ((10, 0.01, 0.21), (20, 0.02, 0.07), True, "misses the unseen rows by 21.0%, the riv"),
        ((10, 0.15, 0.21), (20, 0.15, 0.07), False, "found"),  # no worse than on seen rows
        ((10, 0.01, 0.21), (20, 0.02, 0.15), False, "found"),  # the rival is hardly better
        ((10, 1e-15, 1e-12), (20, 1e-15, 1e-15), False, "found"),  # rounding
        ((10, 0.01, None), (20, 0.02, 0.01), False, "found"),
        ((10, 0.01, 0.21), (20, 0.02, None), False, "found"),
    ],
)
def test_unseen_rows_refute_a_law_that_a_rival_beats(found, rival, wins, says):
    a, b = candidate(*found), candidate(*rival)
    best, verdict = winner(a, {"donnan": b})
    assert (best is b) == wins
    assert says in verdict
