"""Compiled ladder integrator: many circuits side by side in the lanes of the processor.

Sixteen circuits are advanced together. All data of a node lie next to one another in
one flat array, a row of sixteen lanes for each quantity, so that every inner loop runs
over lanes at distances known to the compiler and becomes vector instructions. Each lane
has its own time and step; when its circuit is finished, the next one takes its place.
The arithmetic of a lane does not depend on its neighbours, so a circuit gives the same
bits alone and in any batch.

The functions are plain Python compiled by numba; :func:`specialise` compiles them again
around another resistor law. A record without circuit stands before the first node and
after the last one, so that no loop needs a special case for the ends.
"""

from __future__ import annotations

import types
from typing import Any

import numpy as np
from numba import njit

from nanoslit.circuit import rodas

__all__ = ["LANES", "advance", "specialise"]

LANES = 16

# rows of a node's record; parameters of the resistor that feeds the node come last
U, X, CAP, CH, J, Y, W, INV, SUP, P = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
K1, K2, K3, K4, K5, K6 = 10, 11, 12, 13, 14, 15
UP, PAR = 16, 17
N_PAR = 6  # of the linear law; replaced in a specialisation
VARIES = False  # whether the capacitance depends on potential

MAX_RECORDS = 4000  # accepted steps per piece

_A, _C = rodas.A_MATRIX, rodas.C_MATRIX
IG = 1.0 / rodas.GAMMA
A21 = float(_A[1, 0])
A31, A32 = (float(x) for x in _A[2, :2])
A41, A42, A43 = (float(x) for x in _A[3, :3])
A51, A52, A53, A54 = (float(x) for x in _A[4, :4])
C21 = float(_C[1, 0])
C31, C32 = (float(x) for x in _C[2, :2])
C41, C42, C43 = (float(x) for x in _C[3, :3])
C51, C52, C53, C54 = (float(x) for x in _C[4, :4])
C61, C62, C63, C64, C65 = (float(x) for x in _C[5, :5])
T2, T3, T4 = (float(x) for x in rodas.ALPHA[1:4])
D1, D2, D3, D4 = (float(x) for x in rodas.D_TIME[:4])
Q31, Q32, Q33, Q34, Q35 = (float(x) for x in rodas.DENSE_3)
Q41, Q42, Q43, Q44, Q45 = (float(x) for x in rodas.DENSE_4)
SAFETY, SHRINK, GROW = rodas.SAFETY, rodas.MIN_GROWTH, rodas.MAX_GROWTH
EVENT_TOLERANCE = rodas.EVENT_TOLERANCE
EVEN_SHARE = rodas.EVEN_SHARE
UNDER_RESOLVED, TOO_MANY_STEPS = rodas.UNDER_RESOLVED, rodas.TOO_MANY_STEPS

_vector = {"nogil": True, "fastmath": {"contract", "nsz", "nnan", "ninf"}}
_vector["error_model"] = "numpy"
_scalar = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


# --- the law; i is the index of the resistor's first parameter in w -------------------
@njit(cache=True, **_vector)
def resistor(w, i, a, b):  # type: ignore[no-untyped-def]
    """Return the current from potential difference a to b: linear law."""
    s = w[i + 2 * LANES] * a + w[i + 3 * LANES] * b
    s = min(max(s, w[i + 5 * LANES] * s), w[i + 4 * LANES])
    return (a - b) / (w[i] - w[i + LANES] * s)


@njit(cache=True, **_vector)
def resistor_slopes(w, i, a, b):  # type: ignore[no-untyped-def]
    """Return the current and its derivatives with respect to a and b."""
    wa, wb = w[i + 2 * LANES], w[i + 3 * LANES]
    cap, sign = w[i + 4 * LANES], w[i + 5 * LANES]
    raw = wa * a + wb * b
    other = sign * raw
    s = max(raw, other)
    slope = 1.0 if raw >= other else sign
    slope = slope if s < cap else 0.0
    g = 1.0 / (w[i] - w[i + LANES] * min(s, cap))
    j = (a - b) * g
    x = j * g * w[i + LANES] * slope  # -(J/R) dR/ds
    return j, g + x * wa, x * wb - g


@njit(cache=True, **_vector)
def capacity(w, i, u):  # type: ignore[no-untyped-def]
    """Return 1/g and (1/g)' for the capacitance factor g(u): constant here."""
    return 1.0, 0.0


# --- one step -------------------------------------------------------------------------
@njit(cache=True, **_vector)
def factorise(w, n, R, invh, drive, go):  # type: ignore[no-untyped-def]
    """Linearise at u and factorise the tridiagonal matrix of the step."""
    for q in range(LANES):
        w[q + SUP * LANES] = -go[q]
        w[q + R + J * LANES] = drive[q] - go[q] * w[q + R + U * LANES]
    for k in range(1, n):
        for q in range(LANES):
            i = k * R + q
            j, p, m = resistor_slopes(
                w, i + R + PAR * LANES, w[i + U * LANES], w[i + R + U * LANES]
            )
            w[i + R + J * LANES] = j
            w[i + R + P * LANES] = p
            w[i + SUP * LANES] = m
    for k in range(1, n + 1):
        for q in range(LANES):
            w[k * R + q + CH * LANES] = w[k * R + q + CAP * LANES] * invh[q]
        for q in range(LANES):
            i = k * R + q
            below = w[i + P * LANES]
            diagonal = w[i + R + P * LANES] - w[i - R + SUP * LANES]
            above = w[i + SUP * LANES]
            if VARIES and k > 1:
                # C g(u) u' = F: divide by g and add the slope of 1/g
                ig, slope = capacity(w, i + PAR * LANES, w[i + U * LANES])
                net = w[i + J * LANES] - w[i + R + J * LANES]
                diagonal = diagonal * ig - net * slope
                below *= ig
                above *= ig
            f = -below * w[i - R + INV * LANES]
            w[i + W * LANES] = f
            w[i + INV * LANES] = 1.0 / (
                w[i + CH * LANES] * IG + diagonal - f * w[i - R + UP * LANES]
            )
            w[i + UP * LANES] = above


@njit(cache=True, inline="always", **_vector)
def stage(w, n, R, drive, go, source, row, a, c):  # type: ignore[no-untyped-def]
    """Solve one stage into ``row``; a and c weigh the earlier stages."""
    a1, a2, a3, a4, a5 = a
    c1, c2, c3, c4, c5 = c
    for q in range(LANES):
        i = q + R
        x = (
            w[i + U * LANES]
            + (a1 * w[i + K1 * LANES] + a2 * w[i + K2 * LANES])
            + (a3 * w[i + K3 * LANES] + a4 * w[i + K4 * LANES])
            + a5 * w[i + K5 * LANES]
        )
        w[i + X * LANES] = x
        w[i + J * LANES] = drive[q] - go[q] * x
    for k in range(1, n + 1):
        if k < n:
            for q in range(LANES):
                i = k * R + R + q
                x = (
                    w[i + U * LANES]
                    + (a1 * w[i + K1 * LANES] + a2 * w[i + K2 * LANES])
                    + (a3 * w[i + K3 * LANES] + a4 * w[i + K4 * LANES])
                    + a5 * w[i + K5 * LANES]
                )
                w[i + X * LANES] = x
                w[i + J * LANES] = resistor(
                    w, i + PAR * LANES, w[i - R + X * LANES], x
                )
        for q in range(LANES):
            i = k * R + q
            net = w[i + J * LANES] - w[i + R + J * LANES]
            if VARIES and k > 1:
                net *= capacity(w, i + PAR * LANES, w[i + X * LANES])[0]
            history = (
                (c1 * w[i + K1 * LANES] + c2 * w[i + K2 * LANES])
                + (c3 * w[i + K3 * LANES] + c4 * w[i + K4 * LANES])
                + c5 * w[i + K5 * LANES]
            )
            w[i + Y * LANES] = (
                net
                + w[i + CH * LANES] * history
                - w[i + W * LANES] * w[i - R + Y * LANES]
            )
        if k == 1:
            for q in range(LANES):
                w[R + q + Y * LANES] += source[q]
    for m in range(n):
        for q in range(LANES):
            i = (n - m) * R + q
            w[i + row * LANES] = w[i + INV * LANES] * (
                w[i + Y * LANES] - w[i + UP * LANES] * w[i + R + row * LANES]
            )


@njit(cache=True, **_vector)
def step(w, n, R, invh, drive, source, go):  # type: ignore[no-untyped-def]
    """Compute the six stages; the new state is X + K6."""
    factorise(w, n, R, invh, drive[0], go)
    stage(
        w, n, R, drive[0], go, source[0], K1,
        (0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, n, R, drive[1], go, source[1], K2,
        (A21, 0.0, 0.0, 0.0, 0.0), (C21, 0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, n, R, drive[2], go, source[2], K3,
        (A31, A32, 0.0, 0.0, 0.0), (C31, C32, 0.0, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, n, R, drive[3], go, source[3], K4,
        (A41, A42, A43, 0.0, 0.0), (C41, C42, C43, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, n, R, drive[4], go, source[4], K5,
        (A51, A52, A53, A54, 0.0), (C51, C52, C53, C54, 0.0),
    )  # fmt: skip
    stage(
        w, n, R, drive[4], go, source[4], K6,
        (A51, A52, A53, A54, 1.0), (C61, C62, C63, C64, C65),
    )  # fmt: skip


@njit(cache=True, **_vector)
def estimate(w, n, R, lo, hi):  # type: ignore[no-untyped-def]
    """Put the new state in X; the last record gets the largest errors.

    Y: error of a resistor's current, J: of a node's potential, CH: how far the new
    state lies outside [lo, hi].
    """
    for k in range(1, n + 1):
        for q in range(LANES):
            i = k * R + q
            e = w[i + K6 * LANES]
            x = w[i + X * LANES] + e
            w[i + X * LANES] = x
            flow = w[i + P * LANES] * w[i - R + K6 * LANES] + w[i - R + SUP * LANES] * e
            w[i + Y * LANES] = max(w[i - R + Y * LANES], abs(flow))
            w[i + J * LANES] = max(w[i - R + J * LANES], abs(e))
            w[i + CH * LANES] = max(w[i - R + CH * LANES], max(x - hi[q], lo[q] - x))


@njit(cache=True, **_vector)
def accept(w, n, R, keep):  # type: ignore[no-untyped-def]
    """Take the new state in the lanes whose ``keep`` is 1."""
    for k in range(1, n + 1):
        for q in range(LANES):
            i = k * R + q
            w[i + U * LANES] = (
                w[i + X * LANES] if keep[q] > 0.5 else w[i + U * LANES]
            )


# --- what is kept of a piece ----------------------------------------------------------
@njit(cache=True, **_scalar)
def polynomial(c, t):  # type: ignore[no-untyped-def]
    """Return c0 + c1 t + c2 t^2 + c3 t^3."""
    return c[0] + t * (c[1] + t * (c[2] + t * c[3]))


@njit(cache=True, **_scalar)
def slope(c, t):  # type: ignore[no-untyped-def]
    """Return the derivative of :func:`polynomial`."""
    return c[1] + t * (2.0 * c[2] + t * 3.0 * c[3])


@njit(cache=True, **_scalar)
def dense(r, x):  # type: ignore[no-untyped-def]
    """Return the potential of the first node at fraction x of a recorded step."""
    return r[2] + x * (r[3] - r[2] + (1.0 - x) * (r[4] + x * r[5]))


@njit(cache=True, **_scalar)
def signal_at(r, x, c, kind, go):  # type: ignore[no-untyped-def]
    """Return current (potential given) or potential (current given) within a step."""
    given = polynomial(c, r[0] + x * r[1])
    if kind == 0:
        return go * (given - dense(r, x))
    return dense(r, x) + given / go


@njit(cache=True, **_scalar)
def power_integral(records, count, c, kind, go):  # type: ignore[no-untyped-def]
    """Return the integral of potential times current over a piece (3-point Gauss)."""
    total = 0.0
    for s in range(count):
        r = records[s]
        for g in range(3):
            x = 0.5 + (g - 1) * 0.3872983346207417
            weight = 4.0 / 9.0 if g == 1 else 5.0 / 18.0
            given = polynomial(c, r[0] + x * r[1])
            total += weight * r[1] * given * signal_at(r, x, c, kind, go)
    return total


@njit(cache=True, **_scalar)
def place_points(records, count, c, kind, go, start, time, signal):  # type: ignore[no-untyped-def]
    """Store points where the signal bends: equal shares of sqrt(|signal''|)."""
    last = time.shape[0] - 1
    length = records[count - 1, 0] + records[count - 1, 1]
    total = 0.0
    for s in range(count):
        r = records[s]
        bend = max(abs(2.0 * (r[5] - r[4])), abs(2.0 * r[4] + 4.0 * r[5]))
        curve = (2.0 * c[2] + 6.0 * c[3] * r[0]) * r[1] * r[1]
        r[6] = np.sqrt(bend + abs(curve))
        total += r[6]
    s = 0
    done = 0.0
    share = 0.0
    for j in range(last):
        target = j / last
        while True:
            r = records[s]
            share = EVEN_SHARE * r[1] / length
            if total > 0.0:
                share += (1.0 - EVEN_SHARE) * r[6] / total
            else:
                share = r[1] / length
            if done + share >= target or s == count - 1:
                break
            done += share
            s += 1
        x = min(max((target - done) / share, 0.0), 1.0)
        time[j] = start + r[0] + x * r[1]
        signal[j] = signal_at(r, x, c, kind, go)
    time[last] = start + length
    signal[last] = signal_at(records[count - 1], 1.0, c, kind, go)


@njit(cache=True, **_scalar)
def store_nodes(w, n, R, q, start, t, h, time, nodes, done):  # type: ignore[no-untyped-def]
    """Write the state of all nodes at the stored times within a step."""
    while done < time.shape[0] and time[done] - start <= (t + h) * (1.0 + 1e-14):
        x = min(max((time[done] - start - t) / h, 0.0), 1.0)
        for k in range(n):
            i = (k + 1) * R + q
            k1, k2, k3 = w[i + K1 * LANES], w[i + K2 * LANES], w[i + K3 * LANES]
            k4, k5 = w[i + K4 * LANES], w[i + K5 * LANES]
            q3 = Q31 * k1 + Q32 * k2 + Q33 * k3 + Q34 * k4 + Q35 * k5
            q4 = Q41 * k1 + Q42 * k2 + Q43 * k3 + Q44 * k4 + Q45 * k5
            u0, u1 = w[i + U * LANES], w[i + X * LANES]
            nodes[done, k] = u0 + x * (u1 - u0 + (1.0 - x) * (q3 + x * q4))
        done += 1
    return done


@njit(cache=True, **_scalar)
def load(w, n, R, q, u, cap, par):  # type: ignore[no-untyped-def]
    """Put a circuit into lane q."""
    for k in range(n):
        i = (k + 1) * R + q
        for row in range(PAR):
            w[i + row * LANES] = 0.0
        w[i + U * LANES] = u[k]
        w[i + CAP * LANES] = cap[k]
        for m in range(N_PAR):
            w[i + (PAR + m) * LANES] = par[m, k]


@njit(cache=True, **_scalar)
def begin_piece(w, R, q, lane, b, drive_data, g_open, g_first, cap, scale_u):  # type: ignore[no-untyped-def]
    """Set the first step of a piece so that it resolves the fastest node."""
    kinds, lengths, curves, limits, smallest = drive_data
    p = lane.piece[q]
    length = lengths[b, p]
    lane.go[q] = g_open[b] if kinds[p] == 0 else 0.0
    lane.t[q] = 0.0
    lane.count[q] = 0
    lane.stored[q] = 0
    lane.refused[q] = 0.0
    rate = g_first[b] + lane.go[q]
    h = 0.5 * cap[b, 0] / rate if rate > 0 else length
    lane.h[q] = max(min(h, 0.05 * length), smallest[p] * length)
    if kinds[p] == 1 and not np.isnan(limits[b, p]):
        current = curves[b, p, 0]
        room = limits[b, p] - w[R + q + U * LANES] - current / g_open[b]
        if room * np.sign(current) <= EVENT_TOLERANCE * scale_u[b]:
            lane.h[q] = 1e-12 * length  # the ohmic step alone passes the limit


@njit(cache=True, **_scalar)
def prepare(q, lane, b, drive_data, g_open):  # type: ignore[no-untyped-def]
    """Fill what the stages need from the protocol for the step that lane q tries."""
    kinds, lengths, curves, limits, smallest = drive_data
    p = lane.piece[q]
    c = curves[b, p]
    t, h = lane.t[q], lane.h[q]
    rest = lengths[b, p] - t
    if h >= 0.999 * rest:
        h = rest
    elif h > 0.5 * rest:
        h = 0.5 * rest
    lane.h[q] = h
    lane.invh[q] = 1.0 / h
    f = g_open[b] if kinds[p] == 0 else 1.0
    lane.drive[0, q] = f * polynomial(c, t)
    lane.drive[1, q] = f * polynomial(c, t + T2 * h)
    lane.drive[2, q] = f * polynomial(c, t + T3 * h)
    lane.drive[3, q] = f * polynomial(c, t + T4 * h)
    lane.drive[4, q] = f * polynomial(c, t + h)
    change = f * slope(c, t) * h
    lane.source[0, q] = D1 * change
    lane.source[1, q] = D2 * change
    lane.source[2, q] = D3 * change
    lane.source[3, q] = D4 * change


@njit(cache=True, **_scalar)
def meets_limit(w, R, q, lane, c, limit, go, scale):  # type: ignore[no-untyped-def]
    """Say whether a step may be taken and whether it ends a limited piece."""
    sign = np.sign(c[0])
    v0 = w[R + q + U * LANES] + c[0] / go
    v1 = w[R + q + X * LANES] + c[0] / go
    over, room = sign * (v1 - limit), sign * (limit - v0)
    if over <= EVENT_TOLERANCE * scale:
        return True, over >= -EVENT_TOLERANCE * scale
    if room <= EVENT_TOLERANCE * scale:
        return True, True
    lane.h[q] *= min(max(room / (room + over), 1e-3), 1.0)
    lane.refused[q] = 1.0
    return False, False


@njit(cache=True, **_scalar)
def judge(w, n, R, q, lane, b, drive_data, g_open, scale_u, tolerance, status):  # type: ignore[no-untyped-def]
    """Accept or refuse the step of lane q and choose the next one.

    Returns whether the step is taken, whether it ends the piece, and the next step.
    """
    kinds, lengths, curves, limits, smallest = drive_data
    p = lane.piece[q]
    h, length = lane.h[q], lengths[b, p]
    i = n * R + q
    error = max(
        w[i + Y * LANES] / (tolerance[0] * lane.scale[q]),
        w[i + J * LANES] / (tolerance[1] * scale_u[b]),
    )
    if not error < 1e12:  # includes what is not a number
        error = 1e12
    growth = SAFETY / np.sqrt(np.sqrt(max(error, 1e-8)))
    growth = min(max(growth, SHRINK), GROW)
    floor = smallest[p] * length
    if error > 1.0 and (h > floor * 1.0000001 or error > 1e6):
        lane.h[q] = h * growth
        if h > floor > h * growth:
            lane.h[q] = floor
        lane.refused[q] = 1.0
        if h < 1e-15 * length:
            status[b] = UNDER_RESOLVED
        return False, False, h
    ended = lane.t[q] + h >= length * (1.0 - 1e-14)
    if kinds[p] == 1 and not np.isnan(limits[b, p]):
        good, cut = meets_limit(
            w, R, q, lane, curves[b, p], limits[b, p], g_open[b], scale_u[b]
        )
        if not good:
            return False, False, h
        ended = ended or cut
    if lane.refused[q] > 0.5:
        growth = min(growth, 1.0)
    lane.refused[q] = 0.0
    return True, ended, h * growth


@njit(cache=True, **_scalar)
def record(w, n, R, q, lane, b, kind):  # type: ignore[no-untyped-def]
    """Keep what is needed to draw the signal within the accepted step of lane q."""
    i = R + q
    k1, k2, k3 = w[i + K1 * LANES], w[i + K2 * LANES], w[i + K3 * LANES]
    k4, k5 = w[i + K4 * LANES], w[i + K5 * LANES]
    r = lane.records[q, lane.count[q]]
    r[0], r[1] = lane.t[q], lane.h[q]
    r[2], r[3] = w[i + U * LANES], w[i + X * LANES]
    r[4] = Q31 * k1 + Q32 * k2 + Q33 * k3 + Q34 * k4 + Q35 * k5
    r[5] = Q41 * k1 + Q42 * k2 + Q43 * k3 + Q44 * k4 + Q45 * k5
    lane.count[q] += 1
    if kind == 0:
        current = abs(lane.drive[4, q] - lane.go[q] * r[3])
        lane.scale[q] = max(lane.scale[q], current)


# --- the run --------------------------------------------------------------------------
@njit(cache=True, **_scalar)
def end_piece(w, n, R, q, lane, b, drive_data, g_open, out):  # type: ignore[no-untyped-def]
    """Write the results of a finished piece."""
    kinds, lengths, curves, limits, smallest = drive_data
    p, count = lane.piece[q], lane.count[q]
    r = lane.records[q, :count]
    c, kind = curves[b, p], kinds[p]
    for k in range(n):
        out.ends[b, p, k] = w[(k + 1) * R + q + U * LANES]
    if not out.second:
        out.work[b, p] = power_integral(r, count, c, kind, g_open[b])
        place_points(
            r, count, c, kind, g_open[b], lane.start[q], out.time[b, p], out.signal[b, p]
        )
    lane.start[q] += r[count - 1, 0] + r[count - 1, 1]


@njit(cache=True, **_scalar)
def next_circuit(w, n, R, q, lane, b, job):  # type: ignore[no-untyped-def]
    """Start circuit b in lane q."""
    u0, cap, par, g_open, g_first, lo, hi, scale_u, scale_start = job
    load(w, n, R, q, u0[b], cap[b], par[:, b])
    lane.who[q] = b
    lane.piece[q] = 0
    lane.start[q] = 0.0
    lane.scale[q] = scale_start[b]
    lane.lo[q], lane.hi[q] = lo[b], hi[b]


@njit(cache=True, **_scalar)
def advance(first, last, w, n, lane, job, drive_data, tolerance, out):  # type: ignore[no-untyped-def]
    """Integrate circuits first..last-1 through all pieces of their protocols.

    The named tuples are described in :mod:`nanoslit.circuit.compiled`.
    """
    u0, cap, par, g_open, g_first, lo, hi, scale_u, scale_start = job
    kinds, lengths = drive_data[0], drive_data[1]
    R = (PAR + N_PAR) * LANES
    keep, ended, wish = lane.keep, lane.ended, lane.wish
    ahead = first
    active = 0
    for q in range(LANES):
        # a lane without a circuit computes a copy of one and is never read
        next_circuit(w, n, R, q, lane, min(ahead, last - 1), job)
        begin_piece(
            w, R, q, lane, lane.who[q], drive_data, g_open, g_first, cap, scale_u
        )
        prepare(q, lane, lane.who[q], drive_data, g_open)
        if ahead < last:
            ahead += 1
            active += 1
        else:
            lane.who[q] = -1
    while active > 0:
        for q in range(LANES):
            if lane.who[q] >= 0:
                prepare(q, lane, lane.who[q], drive_data, g_open)
        step(w, n, R, lane.invh, lane.drive, lane.source, lane.go)
        estimate(w, n, R, lane.lo, lane.hi)
        for q in range(LANES):
            b = lane.who[q]
            keep[q] = 0.0
            ended[q] = 0.0
            if b < 0:
                continue
            out.steps[b] += 1
            good, over, wish[q] = judge(
                w, n, R, q, lane, b, drive_data, g_open, scale_u, tolerance, out.status
            )
            if good:
                p = lane.piece[q]
                keep[q] = 1.0
                ended[q] = 1.0 if over else 0.0
                record(w, n, R, q, lane, b, kinds[p])
                out.outside[b] = max(out.outside[b], w[n * R + q + CH * LANES])
                if out.second:
                    lane.stored[q] = store_nodes(
                        w, n, R, q, lane.start[q], lane.t[q], lane.h[q],
                        out.time[b, p], out.nodes[b, p], lane.stored[q],
                    )  # fmt: skip
                lane.t[q] += lane.h[q]
                lane.h[q] = wish[q]
                if lane.count[q] == MAX_RECORDS and not over:
                    out.status[b] = TOO_MANY_STEPS
        accept(w, n, R, keep)
        for q in range(LANES):
            b = lane.who[q]
            if b < 0 or (ended[q] < 0.5 and out.status[b] == 0):
                continue
            if out.status[b] == 0:
                end_piece(w, n, R, q, lane, b, drive_data, g_open, out)
                lane.piece[q] += 1
            if out.status[b] != 0 or lane.piece[q] == lengths.shape[1]:
                if ahead == last:
                    lane.who[q] = -1
                    active -= 1
                    continue
                next_circuit(w, n, R, q, lane, ahead, job)
                ahead += 1
            begin_piece(
                w, R, q, lane, lane.who[q], drive_data, g_open, g_first, cap, scale_u
            )


_PARTS = (
    "factorise stage step estimate accept polynomial slope dense signal_at "
    "power_integral place_points store_nodes load begin_piece prepare meets_limit judge "
    "record end_piece next_circuit advance"
).split()


def specialise(replaced: dict[str, Any]) -> Any:
    """Return :func:`advance` compiled around another law.

    Parameters
    ----------
    replaced : dict
        New values of ``resistor``, ``resistor_slopes``, ``capacity`` (compiled
        functions), ``N_PAR`` and ``VARIES``.
    """
    scope = dict(globals()) | replaced
    for name in _PARTS:
        old = globals()[name]
        options = dict(old.targetoptions)
        options.pop("cache", None)
        body = types.FunctionType(old.py_func.__code__, scope, name)
        scope[name] = njit(**options)(body)
    return scope["advance"]
