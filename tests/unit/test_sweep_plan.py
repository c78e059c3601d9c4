"""Plans: what they say, what they refuse, keys of their points."""

import pytest

from nanoslit.casefile import content_key
from nanoslit.errors import CaseError
from nanoslit.sweep.plan import plan_from_toml
from nanoslit.sweep.points import Points, check_points
from sweep_plans import CASE


def plan(axes, more=""):
    return plan_from_toml(f"{axes}\n{more}\n{CASE}", "p.toml")


def checked(axes, more=""):
    points = Points(plan(axes, more))
    check_points(points)
    return points


AXES = """
[axes]
geometry.slit_size = ["1.5 nm", "20 angstrom"]
protocol.scan_rate = { from = "1e4 V/s", to = "1e6 V/s", points = 3, spacing = "log" }
"electrolyte.ions.*.concentration" = ["0.5 mol/L", "1 mol/L"]
[[zip]]
geometry.sheets = [1, 2]
geometry.reservoir = ["5 nm", "6 nm"]
[[sample]]
method = "sobol"
points = 4
geometry.opening = { from = "0.8 nm", to = "2 nm" }
numerics.tolerance = { from = 1e-4, to = 1e-3, spacing = "log" }
"""


def test_keys_of_points_are_the_content_keys_of_their_cases():
    points = checked(AXES)
    assert len(points) == 2 * 3 * 2 * 2 * 4
    keys = list(points.keys())
    assert len(set(keys)) == len(points)
    for i in (0, 1, 5, 50, len(points) - 1):
        assert content_key(points.case(i)) == keys[i].hex()
    assert list(points.keys(40, 60)) == keys[40:60]


def test_log_range_and_units():
    points = checked(AXES)
    rates = points.groups[1].columns[0].si
    assert rates == pytest.approx((1e4, 1e5, 1e6))
    assert points.groups[0].columns[0].si == (1.5e-9, 2e-9)


def test_a_written_plan_has_the_same_points():
    first = plan(AXES)
    again = plan_from_toml(first.to_toml(), "again.toml")
    assert list(Points(first).keys()) == list(Points(again).keys())


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ('[axes]\ngeometry.slit_sise = ["1 nm"]', ["slit_sise", "did you mean 'slit_size'"]),
        ('[axes]\ngeometry.slit_size = ["1 V"]', ["slit_size", "'V'", "length"]),
        ("[axes]\ngeometry.slit_size = [1.5]", ["no unit", "1.5"]),
        ("[axes]\ngeometry.slit_size = []", ["empty axis"]),
        ('[axes]\ngeometry.slit_size = "1 nm"', ["neither a list of values nor a range"]),
        ('[axes]\ngeometry.slit_size = ["15 angstrom", "1.5 nm"]', ["duplicate points"]),
        ("[axes]\nnumerics.tolerance = [1e-3, 0.001]", ["duplicate points"]),
        ('[axes]\nname = ["a", "b"]', ["name", "cannot be an axis"]),
        ("[axes]", ["at least one axis"]),
        (
            '[axes]\n"electrolyte.ions.*.concentration" = ["1 mol/L"]\n'
            '"electrolyte.ions.K+.concentration" = ["2 mol/L"]',
            ["two axes set the same key"],
        ),
        (
            '[axes]\ngeometry.slit_size = { from = "1 nm", to = "2 nm" }',
            ["points", "missing key"],
        ),
        (
            '[axes]\ngeometry.slit_size = { from = "0 nm", to = "2 nm", points = 3 }',
            ["impossible value"],
        ),
        (
            "[axes]\ngeometry.sheets = { from = 1, to = 4, points = 3 }",
            ["hits no whole numbers"],
        ),
        (
            '[[zip]]\ngeometry.slit_size = ["1 nm"]\ngeometry.sheets = [1, 2]',
            ["equally many values"],
        ),
        (
            '[[sample]]\nmethod = "sobol"\npoints = 5\n'
            'geometry.slit_size = { from = "1 nm", to = "2 nm" }',
            ["4 or 8"],
        ),
        ("[axis]\na = 1", ["axis", "did you mean 'axes'"]),
        ('[axes]\ngeometry.slit_size = ["1 nm"]\n[resources]\nranks = 0', ["ranks"]),
        ('[axes]\ngeometry.slit_size = ["1 nm"]\n[execution]\nworker = 2', ["workers"]),
        (
            '[axes]\ngeometry.slit_size = ["1 nm"]\n[adaptive]\n'
            'axes = ["geometry.opening"]\nobservable = "r_c"',
            ["geometry.opening", "3 or more numbers"],
        ),
    ],
)
def test_bad_plans_are_refused_with_what_is_wrong(axes, words):
    with pytest.raises(CaseError) as told:
        checked(axes)
    for word in words:
        assert word in str(told.value)


def test_an_impossible_case_in_the_middle_of_the_grid_is_found():
    axes = """[axes]
geometry.opening = ["1 nm", "3 nm", "2 nm"]
geometry.sheet_length = ["10 nm", "2.5 nm", "4 nm"]
protocol.scan_rate = ["1e4 V/s", "1e5 V/s"]
"""
    with pytest.raises(CaseError, match="opening = 3e-09 m must be shorter") as told:
        checked(axes)
    assert "geometry.sheet_length = 2.5 nm" in str(told.value)


def test_equal_cases_with_different_spelling_are_duplicates():
    axes = """[[zip]]
electrode.stern_thickness = ["0.3 nm", "0.6 nm"]
electrode.stern_permittivity = [6, 12]
"""
    with pytest.raises(CaseError, match="duplicate points: number 0"):
        checked(axes)


def test_ranks_and_memory_follow_the_mesh():
    found = plan(
        '[axes]\ngeometry.sheets = [1, 2]\n[resources]\nmemory = "1 GB"\n'
        'ranks = [{ nodes_up_to = 1000, ranks = 1 }, { ranks = 4, memory = "8 GB" }]'
    ).resources
    small, large = found.rule_for(1000), found.rule_for(1001)
    assert (small.ranks, large.ranks, found.most_ranks) == (1, 4, 4)
    assert (found.memory_of(small), found.memory_of(large), found.most_memory) == (
        1e9,
        8e9,
        8e9,
    )


def test_every_combination_of_one_table_is_checked():
    """Read fast, but every combination: the only impossible one is far from all edges."""
    axes = """[axes]
geometry.slit_size = { from = "1 nm", to = "5 nm", points = 20 }
geometry.sheet_length = { values = ["9 nm", "8 nm", "2 nm", "7 nm", "6 nm"] }
geometry.opening = { values = ["1 nm", "1.2 nm", "2.5 nm", "1.4 nm"] }
"electrolyte.ions.*.concentration" = { from = "0.1 mol/L", to = "1 mol/L", points = 50 }
"""
    with pytest.raises(CaseError, match="opening = 2.5e-09 m must be shorter") as told:
        checked(axes)
    assert "and 15 more" in str(told.value)  # 20 slit sizes, five of them told
    assert len(checked(axes.replace("2.5 nm", "1.9 nm"))) == 20 * 5 * 4 * 50


def test_values_that_differ_below_the_digits_of_the_key_are_duplicates():
    with pytest.raises(CaseError, match="duplicate points"):
        checked('[axes]\ngeometry.slit_size = ["1.5 nm", "1.50000000000001 nm"]')


def test_a_double_layer_too_thin_to_mesh_is_found():
    axes = """[axes]
electrolyte.ion_size = ["0.4 nm", "0 nm", "0.3 nm"]
protocol.upper = ["0.1 V", "2.5 V", "0.2 V"]
"""
    with pytest.raises(CaseError, match="mesh spacing .* too small") as told:
        checked(axes)
    assert "ion_size = 0 nm, upper = 2.5 V" in str(told.value)
