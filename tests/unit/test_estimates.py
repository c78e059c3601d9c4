"""Derived numbers of a case against values worked out by hand."""

import pytest

from example_case import EXAMPLE
from nanoslit.casefile import case_from_toml
from nanoslit.estimates import estimate, memory_estimate


def of(**changes):
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return estimate(case_from_toml(EXAMPLE, overrides=overrides))


def test_numbers_of_the_example():
    e = of(electrolyte__permittivity=78.49)
    assert e.debye_length / 1e-9 == pytest.approx(0.304186, rel=1e-5)
    assert e.overlap == pytest.approx(2 * 0.304186 / 1.5, rel=1e-5)
    assert e.conductivity == pytest.approx(15.0215, rel=1e-5)
    assert e.steric_fraction == pytest.approx(2 * 0.4**3 * 0.602214, rel=1e-5)
    # 2.28467 F/m^2 times tanh(1.5 / (2 * 0.304186)) = 0.98567
    assert e.wall_capacitance == pytest.approx(2.28467 * 0.98567, rel=1e-4)


def test_rc_time_of_a_long_sheet_is_that_of_the_reference_formula():
    """L^2 (eps/lambda_D) / (2 sigma d) = 5.1e-7 s at L = 100 nm, openings neglected."""
    e = of(geometry__sheet_length="100 nm", geometry__opening="0.001 nm")
    assert e.rc_time / 1e-7 == pytest.approx(5.1 * 0.98567, rel=0.01)


def test_theta_scales_with_sheets_and_rate():
    assert of(geometry__sheets=6).theta == pytest.approx(4 * of().theta)
    assert of(protocol__scan_rate="2e5 V/s").theta == pytest.approx(2 * of().theta)
    e = of()
    assert e.theta == pytest.approx(9 * e.R_c * e.C_slit / 2e-6)


def test_stern_layer_is_in_series():
    bare = of().wall_capacitance
    e = of(electrode__stern_capacitance="10 uF/cm^2")
    assert 1 / e.wall_capacitance == pytest.approx(1 / bare + 1 / 0.1)
    assert e.warnings == []


@pytest.mark.parametrize(("molar", "warned"), [("0.01 mol/L", False), ("1 mol/L", True)])
def test_warning_from_three_times_measured_carbons(molar, warned):
    changes = {"electrolyte__ions__*__concentration": molar}
    e = of(**changes)
    assert bool(e.warnings) is warned
    assert warned is (e.wall_capacitance > 3 * 0.20)


def test_planar_cell():
    e = of(geometry={"kind": "planar", "reservoir": "20 nm"})
    assert e.overlap is None
    assert e.R_c is None
    # (lambda_D * L / D) of a reservoir charging one wall
    assert e.rc_time / 1e-9 == pytest.approx(0.304205 * 20 / 2, rel=1e-5)


def test_memory_grows_with_nodes_ions_and_width():
    assert memory_estimate(2000, 2, 30) < memory_estimate(4000, 2, 30)
    assert memory_estimate(4000, 2, 30) < memory_estimate(4000, 3, 30)
    assert memory_estimate(4000, 2, 30) < memory_estimate(4000, 2, 60)
    assert memory_estimate(4000, 2, 30, "iterative") < memory_estimate(4000, 2, 30)
