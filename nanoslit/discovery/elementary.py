"""exp, log, sin, cos and tanh as straight-line arithmetic, so that loops vectorise.

Argument reduction after Cody and Waite (Software Manual for the Elementary Functions,
1980), then Chebyshev approximations of the rest, computed with 40 digits; errors are a few
units in the last place. Rows whose values all lie in the ordinary range take a loop
without a branch. What is out of range or not a number becomes NaN and is rejected by the
search; nothing is clipped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoslit.discovery.compiled import compiled_exactly, intrinsic

__all__ = ["cos_row", "cosh_row", "exp_row", "log_row", "sin_row", "sinh_row", "tanh_row"]

MAGIC = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to a whole number
LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
EXPONENT_BIAS = 1023 << 52
MANTISSA = (1 << 52) - 1
EXPONENT = 2047 << 52
TWO52 = 0x4330000000000000
ROOT_HALF = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
ONE_OVER_PI = 0.3183098861837907
PI = (3.1415926534682512, 1.2154201012607932e-10, 4.044532497591901e-21)
LARGEST_ANGLE = 1e5
LARGEST_POWER = 700.0
FLAT = 20.0  # tanh is 1 to rounding beyond

# Chebyshev approximations, highest power first:
# (exp(r) - 1 - r)/r^2 for |r| <= ln(2)/2, to 1e-16
EXP = (
    2.510038549551032e-08,
    2.7620088445409746e-07,
    2.7557268459997064e-06,
    2.4801521295954376e-05,
    0.00019841269863053618,
    0.0013888888917213717,
    0.008333333333330062,
    0.04166666666662413,
    0.16666666666666669,
    0.5000000000000001,
)
# (sin(r)/r - 1)/r^2 in r^2 for |r| <= pi/2, to 4e-19
SIN = (
    2.731428986122616e-15,
    -7.643969031052769e-13,
    1.6058977272815506e-10,
    -2.5052107616384595e-08,
    2.755731921915843e-06,
    -0.00019841269841254955,
    0.008333333333333316,
    -0.16666666666666666,
)
# (2 artanh(f)/f - 2)/f^2 in f^2 for |f| <= (sqrt(2) - 1)/(sqrt(2) + 1), to 4e-16
LOG = (
    0.14617807153417325,
    0.15331611722055008,
    0.1818289243253687,
    0.22222211089379496,
    0.28571428626253836,
    0.3999999999989889,
    0.666666666666667,
)


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
def _power(x):
    """Return exp(x) - 2**k and 2**k for |x| <= 709."""
    shifted = as_float(as_bits(x * LOG2E + MAGIC))
    k = shifted - MAGIC
    r = x - k * LN2_HIGH - k * LN2_LOW
    p = EXP[0]
    p = p * r + EXP[1]
    p = p * r + EXP[2]
    p = p * r + EXP[3]
    p = p * r + EXP[4]
    p = p * r + EXP[5]
    p = p * r + EXP[6]
    p = p * r + EXP[7]
    p = p * r + EXP[8]
    p = p * r + EXP[9]
    scale = as_float((as_bits(shifted) << 52) + EXPONENT_BIAS)
    return (p * (r * r) + r) * scale, scale


@compiled_exactly
def exp_row(u, y):
    """Write exp(u) to y, NaN above 709, 0 below -708; return whether all are finite."""
    outside = 0
    for i in range(u.shape[0]):
        excess, scale = _power(u[i])
        y[i] = excess + scale
        outside += 0 if abs(u[i]) <= LARGEST_POWER else 1
    if outside == 0:
        return True
    bad = 0
    for i in range(u.shape[0]):
        x = u[i]
        excess, scale = _power(min(max(x, -708.0), 709.0))
        value = excess + scale if x <= 709.0 else np.nan
        y[i] = value if x >= -708.0 else (0.0 if x < -708.0 else np.nan)
        bad += 0 if x <= 709.0 else 1
    return bad == 0


@compiled_exactly
def sinh_row(u, y):
    """Write sinh(u) to y, NaN beyond 700; return whether all are finite."""
    outside = 0
    for i in range(u.shape[0]):
        inside = abs(u[i]) <= LARGEST_POWER
        excess, scale = _power(abs(u[i]) if inside else 0.0)
        e = excess + (scale - 1.0)
        value = 0.5 * (e + e / (e + 1.0))
        y[i] = (value if u[i] >= 0 else -value) if inside else np.nan
        outside += 0 if inside else 1
    return outside == 0


@compiled_exactly
def cosh_row(u, y):
    """Write cosh(u) to y, NaN beyond 700; return whether all are finite."""
    outside = 0
    for i in range(u.shape[0]):
        inside = abs(u[i]) <= LARGEST_POWER
        excess, scale = _power(abs(u[i]) if inside else 0.0)
        e = excess + scale
        y[i] = 0.5 * (e + 1.0 / e) if inside else np.nan
        outside += 0 if inside else 1
    return outside == 0


@compiled_exactly
def _logarithm(x):
    # bits of sqrt(1/2) moved to those of 1: the mantissa lies in [0.707, 1.414)
    bits = as_bits(x) + (EXPONENT_BIAS - ROOT_HALF)
    k = as_float(((bits & EXPONENT) >> 52) | TWO52) - (4503599627370496.0 + 1023.0)
    m = as_float((bits & MANTISSA) + ROOT_HALF)
    f = (m - 1.0) / (m + 1.0)
    g = f * f
    p = LOG[0]
    p = p * g + LOG[1]
    p = p * g + LOG[2]
    p = p * g + LOG[3]
    p = p * g + LOG[4]
    p = p * g + LOG[5]
    p = p * g + LOG[6]
    return k * LN2_HIGH + (2.0 * f + (f * g * p + k * LN2_LOW))


@compiled_exactly
def log_row(u, y):
    """Write the natural logarithm of u to y, NaN below 1e-300; return whether none is."""
    bad = 0
    for i in range(u.shape[0]):
        y[i] = _logarithm(u[i])
        bad += 0 if (u[i] > 1e-300) & (u[i] < 1.7e308) else 1
    if bad == 0:
        return True
    for i in range(u.shape[0]):
        x = u[i]
        good = (x > 1e-300) & (x < 1.7e308)
        y[i] = _logarithm(x) if good else np.nan
    return False


@compiled_exactly
def _sine(r, turns):
    """Return sin(r) for |r| <= pi/2, its sign changed for odd half turns."""
    g = r * r
    s = SIN[0]
    s = s * g + SIN[1]
    s = s * g + SIN[2]
    s = s * g + SIN[3]
    s = s * g + SIN[4]
    s = s * g + SIN[5]
    s = s * g + SIN[6]
    s = s * g + SIN[7]
    return as_float(as_bits(r + r * g * s) ^ (turns << 63))


@compiled_exactly
def sin_row(u, y):
    """Write sin(u) to y."""
    outside = 0
    for i in range(u.shape[0]):
        x = u[i]
        shifted = as_float(as_bits(x * ONE_OVER_PI + MAGIC))
        k = shifted - MAGIC
        y[i] = _sine(x - k * PI[0] - k * PI[1] - k * PI[2], as_bits(shifted))
        outside += 0 if abs(x) <= LARGEST_ANGLE else 1
    if outside:
        for i in range(u.shape[0]):
            y[i] = np.sin(u[i])


@compiled_exactly
def cos_row(u, y):
    """Write cos(u) to y."""
    outside = 0
    for i in range(u.shape[0]):
        x = u[i]
        shifted = as_float(as_bits(x * ONE_OVER_PI - 0.5 + MAGIC))
        k = shifted - MAGIC + 0.5
        y[i] = _sine(x - k * PI[0] - k * PI[1] - k * PI[2], as_bits(shifted) + 1)
        outside += 0 if abs(x) <= LARGEST_ANGLE else 1
    if outside:
        for i in range(u.shape[0]):
            y[i] = np.cos(u[i])


@compiled_exactly
def _tangent(x):
    """Return e/(e + 2), e = exp(2 x) - 1, for |x| <= 20."""
    excess, scale = _power(2.0 * x)
    e = excess + (scale - 1.0)
    return e / (e + 2.0)


@compiled_exactly
def tanh_row(u, y):
    """Write tanh(u) to y."""
    outside = 0
    for i in range(u.shape[0]):
        y[i] = _tangent(u[i])
        outside += 0 if abs(u[i]) <= FLAT else 1
    if outside == 0:
        return
    for i in range(u.shape[0]):
        x = u[i]
        y[i] = _tangent(min(max(x, -FLAT), FLAT)) if x == x else np.nan
