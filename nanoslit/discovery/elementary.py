"""exp, log, sin, cos and tanh as straight-line arithmetic, so that loops vectorise.

Argument reduction after Cody and Waite (Software Manual for the Elementary Functions,
1980), then Taylor polynomials on the reduced interval; errors are a few units in the
last place. What is out of range or not a number becomes NaN and is rejected by the
search; nothing is clipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoslit.discovery.compiled import compiled_exactly, intrinsic

__all__ = ["cos_row", "exp_row", "log_row", "sin_row", "tanh_row"]

MAGIC = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to a whole number
LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
EXPONENT_BIAS = 1023 << 52
MANTISSA = (1 << 52) - 1
TWO52 = 0x4330000000000000
TWO_OVER_PI = 0.6366197723675814
PIO2 = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
LARGEST_ANGLE = 1e5


@intrinsic
def as_bits(context: Any, x: Any) -> Any:
    """Return the bits of a float64 as int64."""
    from llvmlite import ir
    from numba import types

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def as_float(context: Any, x: Any) -> Any:
    """Return the float64 with these bits."""
    from llvmlite import ir
    from numba import types

    def generate(ctx: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), generate


@compiled_exactly
def _exp(x):
    clipped = min(max(x, -708.0), 709.0)
    shifted = as_float(as_bits(clipped * LOG2E + MAGIC))
    k = shifted - MAGIC
    r = clipped - k * LN2_HIGH - k * LN2_LOW
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    scale = as_float((as_bits(shifted) << 52) + EXPONENT_BIAS)
    value = p * scale
    value = value if x <= 709.0 else np.nan
    return value if x >= -708.0 else (0.0 if x < -708.0 else np.nan)


@compiled_exactly
def exp_row(u, y):
    """Write exp(u) to y."""
    for i in range(u.shape[0]):
        y[i] = _exp(u[i])


@compiled_exactly
def log_row(u, y):
    """Write the natural logarithm of u to y; NaN below 1e-300."""
    for i in range(u.shape[0]):
        x = u[i]
        # bits of sqrt(1/2) moved to the bottom: the mantissa lies in [0.707, 1.414)
        bits = as_bits(x) - 0x3FE6A09E667F3BCD
        k = as_float((((bits >> 52) + 2048) & 4095) | TWO52) - (4503599627370496.0 + 2048.0)
        m = as_float((bits & MANTISSA) + 0x3FE6A09E667F3BCD)
        f = (m - 1.0) / (m + 1.0)
        g = f * f
        p = 1.0 / 21.0
        p = p * g + 1.0 / 19.0
        p = p * g + 1.0 / 17.0
        p = p * g + 1.0 / 15.0
        p = p * g + 1.0 / 13.0
        p = p * g + 1.0 / 11.0
        p = p * g + 1.0 / 9.0
        p = p * g + 1.0 / 7.0
        p = p * g + 1.0 / 5.0
        p = p * g + 1.0 / 3.0
        value = k * LN2_HIGH + (2.0 * f + (2.0 * f * g * p + k * LN2_LOW))
        good = (x > 1e-300) & (x < 1.7e308)
        y[i] = value if good else np.nan


@compiled_exactly
def _sine(x, quarter):
    shifted = as_float(as_bits(x * TWO_OVER_PI + MAGIC))
    k = shifted - MAGIC
    r = x - k * PIO2[0] - k * PIO2[1] - k * PIO2[2]
    q = as_bits(shifted) + quarter
    g = r * r
    s = -1.0 / 1307674368000.0
    s = s * g + 1.0 / 6227020800.0
    s = s * g - 1.0 / 39916800.0
    s = s * g + 1.0 / 362880.0
    s = s * g - 1.0 / 5040.0
    s = s * g + 1.0 / 120.0
    s = s * g - 1.0 / 6.0
    s = r + r * g * s
    c = 1.0 / 20922789888000.0
    c = c * g - 1.0 / 87178291200.0
    c = c * g + 1.0 / 479001600.0
    c = c * g - 1.0 / 3628800.0
    c = c * g + 1.0 / 40320.0
    c = c * g - 1.0 / 720.0
    c = c * g + 1.0 / 24.0
    c = c * g - 0.5
    c = 1.0 + g * c
    value = s if (q & 1) == 0 else c
    return value if (q & 2) == 0 else -value


@compiled_exactly
def _small(u):
    largest = 0.0
    for i in range(u.shape[0]):
        largest = max(largest, abs(u[i]))
    return largest < LARGEST_ANGLE


@compiled_exactly
def sin_row(u, y):
    """Write sin(u) to y."""
    if _small(u):
        for i in range(u.shape[0]):
            y[i] = _sine(u[i], 0)
    else:
        for i in range(u.shape[0]):
            y[i] = np.sin(u[i])


@compiled_exactly
def cos_row(u, y):
    """Write cos(u) to y."""
    if _small(u):
        for i in range(u.shape[0]):
            y[i] = _sine(u[i], 1)
    else:
        for i in range(u.shape[0]):
            y[i] = np.cos(u[i])


@compiled_exactly
def tanh_row(u, y):
    """Write tanh(u) to y."""
    for i in range(u.shape[0]):
        x = u[i]
        a = min(abs(x), 20.0)
        large = 1.0 - 2.0 / (_exp(2.0 * a) + 1.0)
        large = large if x >= 0 else -large
        g = x * x
        p = -1382.0 / 155925.0
        p = p * g + 62.0 / 2835.0
        p = p * g - 17.0 / 315.0
        p = p * g + 2.0 / 15.0
        p = p * g - 1.0 / 3.0
        small = x + x * g * p
        value = small if g < 0.0025 else large
        y[i] = value if x == x else np.nan
