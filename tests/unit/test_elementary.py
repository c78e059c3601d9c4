import numpy as np
import pytest

from nanoslit.discovery import elementary

RANGES = {
    "exp": np.concatenate([np.linspace(-700, 700, 20001), np.linspace(-1, 1, 4001)]),
    "log": np.concatenate([np.geomspace(1e-290, 1e300, 20001), np.linspace(0.5, 2, 4001)]),
    "sin": np.concatenate([np.linspace(-9e4, 9e4, 20001), np.linspace(-4, 4, 4001)]),
    "cos": np.concatenate([np.linspace(-9e4, 9e4, 20001), np.linspace(-4, 4, 4001)]),
    "sinh": np.concatenate([np.linspace(-699, 699, 20001), np.linspace(-0.2, 0.2, 4001)]),
    "cosh": np.concatenate([np.linspace(-699, 699, 20001), np.linspace(-0.2, 0.2, 4001)]),
    "tanh": np.concatenate([np.linspace(-30, 30, 20001), np.linspace(-0.2, 0.2, 4001)]),
}


@pytest.mark.parametrize("name", RANGES)
def test_values_agree_with_the_c_library(name):
    x = RANGES[name]
    y = np.empty_like(x)
    getattr(elementary, f"{name}_row")(x, y)
    floor = 1e-15 if name in ("sin", "cos") else 1e-16
    np.testing.assert_allclose(y, getattr(np, name)(x), rtol=4e-15, atol=floor)


@pytest.mark.parametrize("name", RANGES)
def test_what_has_no_value_is_not_patched(name):
    x = np.array([np.nan, 1.0])
    y = np.empty(2)
    getattr(elementary, f"{name}_row")(x, y)
    assert np.isnan(y[0])
    assert np.isfinite(y[1])


def test_out_of_range():
    y = np.empty(3)
    elementary.log_row(np.array([0.0, -1.0, np.inf]), y)
    assert not np.isfinite(y).any()
    elementary.exp_row(np.array([800.0, np.inf, -800.0]), y)
    assert not np.isfinite(y[:2]).any()
    assert y[2] == 0.0
    elementary.sin_row(np.array([1e12, 1e7, 0.5]), y)
    np.testing.assert_allclose(y, np.sin([1e12, 1e7, 0.5]))
