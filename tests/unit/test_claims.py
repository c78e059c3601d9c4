"""Every claim can get every verdict, and the verdicts mean what they say."""

import json

import numpy as np
import pytest

from nanoslit import atomic
from nanoslit.findings.claims import (
    CLAIMS,
    GAMMAS,
    RESISTANCES,
    THETAS,
    Evidence,
    RunEvidence,
    circuit_shapes,
    judge_all,
    neighbours,
)
from nanoslit.findings.runs import VOLTAGES, Measured
from nanoslit.findings.verdict import FAILS, HOLDS, IN_PART, NOT_TESTED, Check, judge

CLAIM = {c.number: c for c in CLAIMS}
LABELS = {
    "slit_size": 2e-9, "ion_size": 4e-10, "concentration": 1000.0, "sheets": 4.0,
    "scan_rate": 1e5, "window": 0.2,
}  # fmt: skip


def run(numbers, **labels):
    found = {k: Measured(*v) if isinstance(v, tuple) else Measured(v, 1e-3)
             for k, v in numbers.items()}  # fmt: skip
    own = LABELS | labels
    return RunEvidence(own, found, f"d = {1e9 * own['slit_size']:.3g} nm")


def two(name):
    """Two runs with one value each of a number."""
    return lambda a, b: Evidence([run({name: a}), run({name: b}, slit_size=4e-9)])


def series(name, key):
    """Three runs along a key: the number goes as key**a, then key**b."""

    def make(a, b):
        x = LABELS[key]
        y = [1.0, 2.0**a, 2.0 ** (a + b)]
        return Evidence([run({name: (v, 1e-3 * v)}, **{key: x * 2**k})
                         for k, v in enumerate(y)])  # fmt: skip

    return make


def law(misfit, gamma):
    numbers = {}
    for v in VOLTAGES:
        numbers |= {f"misfit:{v}": misfit, f"gamma:{v}": gamma}
    return Evidence([run(numbers)])


def same_law(r_c, gamma):
    return Evidence([run({"spread_r_c:electrochemical": r_c,
                          "spread_gamma:electrochemical": gamma})])  # fmt: skip


def extreme(when, ratio):
    def make(a, b):
        numbers = {}
        for v in VOLTAGES:
            numbers |= {f"{when}:{v}": a, f"{ratio}:{v}": b}
        return Evidence([run(numbers)])

    return make


def steric(below, above):
    return Evidence([
        run({"same:slit 1:migration:steric": below}, slit_size=1.5e-9),
        run({"same:slit 1:migration:steric": above}, slit_size=3e-9),
    ])  # fmt: skip


def rivals(a, b):
    return Evidence(laws={"paper_inner": 0.1, "donnan_inner": a, "rational_inner": b})


def deviations(a, b):
    return Evidence(deviations={"paper": {"d = 1.5 nm": a, "d = 2 nm": b}})


def shapes(scan, feature):
    """Slope of the feature along the scan: a at half of the thetas, b at the others."""
    x = np.array(GAMMAS if scan == "gamma" else RESISTANCES)
    return lambda a, b: Evidence(
        shapes={f"{scan}:{t}:{feature}": list((a if k % 2 else b) * x + 1)
                for k, t in enumerate(THETAS)}
    )  # fmt: skip


def no_asymmetry(a, b):
    return Evidence(shapes={f"gamma:{t}:asymmetry": [0.3, 0.2, a if k % 2 else b, 0.2, 0.3]
                            for k, t in enumerate(THETAS)})  # fmt: skip


def sign(place, part):
    return two(f"same:{place}:migration:{part}")


# number: (evidence from two knobs, knob value that holds, value that fails)
KNOBS = {
    "1a": (sign("1 nm in front", "diffusion"), (0.0, 0.0), (0.5, 0.5)),
    "1b": (sign("1 nm in front", "steric"), (0.0, 0.0), (0.5, 0.5)),
    "2a": (sign("slit 1", "diffusion"), (1.0, 1.0), (0.5, 0.5)),
    "2b": (sign("opening 1", "diffusion"), (1.0, 1.0), (0.5, 0.5)),
    "2c": (sign("mouth", "diffusion"), (1.0, 1.0), (0.5, 0.5)),
    "3": (steric, (1.0, 0.2), (0.2, 1.0)),
    "4": (two("lower_potential"), (1.0, 1.0), (0.5, 0.5)),
    "5": (two("misfit_constant:electrochemical"), (0.3, 0.3), (0.01, 0.01)),
    "6a": (law, (0.01, 0.5), (0.2, 1.5)),
    "6b": (rivals, (0.2, 0.2), (0.05, 0.05)),
    "7": (same_law, (0.01, 0.01), (0.2, 0.2)),
    "8a": (extreme("phase_max", "start_ratio"), (0.02, 1.0), (0.8, 2.0)),
    "8b": (extreme("phase_min", "end_ratio"), (0.02, 1.0), (0.8, 2.0)),
    "9a": (series("r_max:mid", "slit_size"), (0.0, 0.0), (0.7, 0.7)),
    "9b": (series("r_min:mid", "slit_size"), (0.5, 0.5), (-0.5, -0.5)),
    "10a": (series("resistivity_max:mid", "slit_size"), (0.5, 0.5), (-0.5, -0.5)),
    "10b": (series("resistivity_min:mid", "slit_size"), (0.5, 0.5), (-0.5, -0.5)),
    "10c": (series("resistivity_range:mid", "slit_size"), (0.0, 0.0), (0.7, 0.7)),
    "11": (two("surface_share"), (0.8, 0.8), (0.2, 0.2)),
    "12a": (series("c_slit", "slit_size"), (0.0, 0.0), (0.7, 0.7)),
    "12b": (two("c_time"), (0.01, 0.01), (0.3, 0.3)),
    "13": (deviations, (0.02, 0.02), (0.2, 0.2)),
    "14a": (two("asymmetry"), (0.2, 0.2), (0.01, 0.01)),
    "14b": (series("asymmetry", "sheets"), (0.5, 0.5), (-0.5, -0.5)),
    "14c": (series("asymmetry", "scan_rate"), (0.5, 0.5), (-0.5, -0.5)),
    "15": (no_asymmetry, (0.0, 0.0), (0.2, 0.2)),
    "16a": (shapes("gamma", "relative_area"), (1.0, 1.0), (-1.0, -1.0)),
    "16b": (shapes("gamma", "corner"), (1.0, 1.0), (-1.0, -1.0)),
    "17a": (shapes("r_c", "contrast"), (1.0, 1.0), (-1.0, -1.0)),
    "17b": (shapes("r_c", "corner"), (1.0, 1.0), (-1.0, -1.0)),
    "18": (shapes("gamma", "relative_top_charge"), (1.0, 1.0), (-1.0, -1.0)),
    "19a": (series("gamma:mid", "slit_size"), (-0.5, -0.5), (0.5, 0.5)),
    "19b": (series("gamma:mid", "ion_size"), (-0.5, -0.5), (0.5, 0.5)),
    "19c": (series("gamma:mid", "concentration"), (0.5, 0.5), (-0.5, -0.5)),
    "19d": (series("gamma:mid", "window"), (0.5, 0.5), (-0.5, -0.5)),
}


def verdict(number, evidence):
    claim = CLAIM[number]
    return judge(claim.checks(evidence), claim.reason)


def test_every_claim_is_tried_here():
    assert set(KNOBS) | {"20"} == set(CLAIM)


@pytest.mark.parametrize("number", KNOBS)
def test_every_verdict_can_come_out(number):
    make, good, bad = KNOBS[number]
    assert verdict(number, make(*good)) == (HOLDS, "")
    assert verdict(number, make(*bad)) == (FAILS, "")
    word, boundary = verdict(number, make(good[0], bad[1]))
    assert word == IN_PART
    assert "holds: " in boundary
    assert "fails: " in boundary
    word, reason = verdict(number, Evidence())
    assert word == NOT_TESTED
    assert reason == CLAIM[number].reason


def test_errors_larger_than_the_effect_decide_nothing():
    wide = Evidence([run({"asymmetry": (0.2, 0.4)})])
    assert verdict("14a", wide) == (NOT_TESTED, "the error bars are larger than the effect")
    mixed = Evidence([run({"asymmetry": (0.2, 0.4)}),
                      run({"asymmetry": (0.2, 0.01)}, slit_size=4e-9)])  # fmt: skip
    word, boundary = verdict("14a", mixed)
    assert word == IN_PART
    assert boundary == "holds: d = 4 nm; open within errors: d = 2 nm"


def test_a_number_that_is_none_decides_nothing():
    assert Check("here", float("nan"), 0.1, high=1).holds is None
    assert Check("here", 0.5, float("nan"), high=1).holds is None


def test_a_common_error_does_not_hide_a_trend():
    same = [run({"gamma:mid": (g, 0.01, 0.3 * g)}, slit_size=d)
            for g, d in ((0.8, 1.5e-9), (0.5, 3e-9))]  # fmt: skip
    assert verdict("19a", Evidence(same))[0] == HOLDS
    other = [same[0], run({"gamma:mid": (0.5, 0.01, 0.45)}, slit_size=3e-9)]
    assert verdict("19a", Evidence(other))[0] == NOT_TESTED


def test_neighbours_differ_in_one_key_alone():
    a, b = run({}), run({}, slit_size=3e-9)
    c = run({}, slit_size=5e-9, sheets=8.0)
    assert list(neighbours([c, b, a], "slit_size")) == [(a, b)]
    assert list(neighbours([a, b, c], "sheets")) == []


def test_circuits_show_what_the_reference_says():
    """Trends that are derived: A = 0 without gamma, area grows with it, corner not always."""
    found = {c["number"]: c for c in judge_all(Evidence(shapes=circuit_shapes()))}
    assert found["15"]["verdict"] == HOLDS
    assert found["16a"]["verdict"] == HOLDS
    assert found["18"]["verdict"] == HOLDS
    assert found["17b"]["verdict"] == IN_PART
    assert found["17b"]["boundary"].startswith("holds: theta = 0.14")
    assert found["20"]["verdict"] == NOT_TESTED


def test_json_has_no_number_that_is_none(tmp_path):
    path = tmp_path / "x.json"
    value = {"a": [np.float64("nan"), float("inf"), 1.5], "b": np.arange(2), "c": None}
    atomic.write_json(path, value)
    assert json.loads(path.read_text()) == {"a": [None, None, 1.5], "b": [0, 1], "c": None}
