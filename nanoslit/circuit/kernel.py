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

import itertools
import types
from typing import Any

import numpy as np
from numba import njit

from nanoslit.circuit import rodas

__all__ = ["LANES", "advance", "specialise"]

LANES = 16

# Offsets of the rows of a node's record; parameters of the resistor that feeds the node
# come last. Unsigned, because a signed index would be tested for being negative, and
# the loops over lanes would not become vector instructions.
ROWS = 17
U, X, CAP, CH, J, Y, W, INV, SUP, P, K1, K2, K3, K4, K5, K6, UP = (
    np.uint64(row * LANES) for row in range(ROWS)
)
PAR = np.uint64(ROWS * LANES)
P1, P2, P3, P4, P5 = (np.uint64(m * LANES) for m in range(1, 6))
N_PAR = 6  # of the linear law; replaced in a specialisation
R = np.uint64((ROWS + N_PAR) * LANES)  # length of a record
VARIES = False  # whether the capacitance depends on potential

MAX_RECORDS = 4000  # accepted steps per piece
PARTS = rodas.PARTS  # of a step, each with its own density of stored points
RECORD = 6 + PARTS  # numbers kept of a step

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
KINK, KINK_SIZE = rodas.KINK, rodas.KINK_SIZE
LEAST_BEND, BEND_FLOOR = rodas.LEAST_BEND, rodas.BEND_FLOOR
EVEN_SHARE, LAYER, LAYER_WEIGHT = rodas.EVEN_SHARE, rodas.LAYER, rodas.LAYER_WEIGHT
UNDER_RESOLVED, TOO_MANY_STEPS = rodas.UNDER_RESOLVED, rodas.TOO_MANY_STEPS

_vector = {"nogil": True, "fastmath": {"contract", "nsz", "nnan", "ninf"}}
_vector["error_model"] = "numpy"
_scalar = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}


# rows of the state of the lanes: time and step in the piece, its length and shortest
# step, the protocol's coefficients and their factor, tolerances, verdicts, stage inputs
T, H, LENGTH, FLOOR, F, C0, C1, C2, C3, PER_I, PER_U, TOL_I, REFUSED, KEEP, ENDED = (
    np.uint64(row * LANES) for row in range(15)
)
WISH, INVH, GO, Q3, Q4, LO, HI, DRIVE, SOURCE = (
    np.uint64(row * LANES) for row in (15, 16, 17, 18, 19, 20, 21, 22, 28)
)
STATE_ROWS = 34
STAGE = tuple(np.uint64(row * LANES) for row in range(6))


# --- the law; i is the index of the resistor's first parameter in w -------------------
@njit(cache=True, **_vector)
def resistor(w, i, a, b):  # type: ignore[no-untyped-def]
    """Return the current from potential difference a to b: linear law."""
    s = w[i + P2] * a + w[i + P3] * b
    cap = w[i + P4]
    s = max(min(max(s, w[i + P5] * s), cap), -cap)
    return (a - b) / (w[i] - w[i + P1] * s)


@njit(cache=True, **_vector)
def resistor_slopes(w, i, a, b):  # type: ignore[no-untyped-def]
    """Return the current and its derivatives with respect to a and b."""
    wa, wb = w[i + P2], w[i + P3]
    cap, sign = w[i + P4], w[i + P5]
    raw = wa * a + wb * b
    other = sign * raw
    s = max(raw, other)
    slope = 1.0 if raw >= other else sign
    slope = slope if abs(s) < cap else 0.0
    g = 1.0 / (w[i] - w[i + P1] * max(min(s, cap), -cap))
    j = (a - b) * g
    x = j * g * w[i + P1] * slope  # -(J/R) dR/ds
    return j, g + x * wa, x * wb - g


@njit(cache=True, **_vector)
def kink(w, i, a, b, new_a, new_b):  # type: ignore[no-untyped-def]
    """Return the factor of the error of a step: larger if it straddles a kink."""
    wa, wb, cap = w[i + P2], w[i + P3], w[i + P4]
    old, new = wa * a + wb * b, wa * new_a + wb * new_b
    crosses = (old * new < 0.0) & (abs(old - new) > KINK_SIZE) & (w[i + P5] < 0.0)
    passes = (abs(old) < cap) != (abs(new) < cap)
    return KINK if crosses | passes else 1.0


@njit(cache=True, **_vector)
def capacity(w, i, u):  # type: ignore[no-untyped-def]
    """Return 1/g and (1/g)' for the capacitance factor g(u): constant here."""
    return 1.0, 0.0


# --- one step -------------------------------------------------------------------------
@njit(cache=True, **_vector)
def factorise(w, s, n):  # type: ignore[no-untyped-def]
    """Linearise at u and factorise the tridiagonal matrix of the step."""
    for q in range(LANES):
        i = np.uint64(q)
        w[i + SUP] = -s[i + GO]
        w[i + R + J] = s[i + DRIVE] - s[i + GO] * w[i + R + U]
    for k in range(1, n):
        for q in range(LANES):
            i = np.uint64(k) * R + np.uint64(q)
            j, p, m = resistor_slopes(w, i + R + PAR, w[i + U], w[i + R + U])
            w[i + R + J] = j
            w[i + R + P] = p
            w[i + SUP] = m
    for k in range(1, n + 1):
        for q in range(LANES):
            i = np.uint64(k) * R + np.uint64(q)
            w[i + CH] = w[i + CAP] * s[np.uint64(q) + INVH]
        for q in range(LANES):
            i = np.uint64(k) * R + np.uint64(q)
            below = w[i + P]
            diagonal = w[i + R + P] - w[i - R + SUP]
            above = w[i + SUP]
            if VARIES and k > 1:
                # C g(u) u' = F: divide by g and add the slope of 1/g
                ig, slope = capacity(w, i + PAR, w[i + U])
                net = w[i + J] - w[i + R + J]
                diagonal = diagonal * ig - net * slope
                below *= ig
                above *= ig
            f = -below * w[i - R + INV]
            w[i + W] = f
            w[i + INV] = 1.0 / (w[i + CH] * IG + diagonal - f * w[i - R + UP])
            w[i + UP] = above


@njit(cache=True, inline="always", **_vector)
def stage(w, s, n, order, row, last, a, c):  # type: ignore[no-untyped-def]
    """Solve one stage into ``row``; a and c weigh the earlier stages.

    The last stage starts where the one before it ended, one more K5 further. Node k is
    finished when the current to node k + 1 is known.
    """
    a1, a2, a3, a4 = a
    c1, c2, c3, c4, c5 = c
    for k in range(1, n + 2):
        if k <= n:
            for q in range(LANES):
                i = np.uint64(k) * R + np.uint64(q)
                k1, k2, k3, k4, k5 = (
                    w[i + K1], w[i + K2], w[i + K3], w[i + K4], w[i + K5]
                )  # fmt: skip
                if last:
                    x = w[i + X] + k5
                else:
                    x = w[i + U] + (a1 * k1 + a2 * k2) + (a3 * k3 + a4 * k4)
                w[i + X] = x
                w[i + Y] = w[i + CH] * ((c1 * k1 + c2 * k2) + (c3 * k3 + c4 * k4) + c5 * k5)
        if k == 1:
            for q in range(LANES):
                i = R + np.uint64(q)
                o = np.uint64(q)
                w[i + J] = s[o + DRIVE + order] - s[o + GO] * w[i + X]
                w[i + Y] += s[o + SOURCE + order]
        else:
            for q in range(LANES):
                i = np.uint64(k) * R + np.uint64(q)
                flow = 0.0
                if k <= n:
                    flow = resistor(w, i + PAR, w[i - R + X], w[i + X])
                    w[i + J] = flow
                net = w[i - R + J] - flow
                if VARIES and k > 2:
                    net *= capacity(w, i - R + PAR, w[i - R + X])[0]
                w[i - R + Y] += net - w[i - R + W] * w[i - R - R + Y]
    for m in range(n):
        for q in range(LANES):
            i = np.uint64(n - m) * R + np.uint64(q)
            w[i + row] = w[i + INV] * (w[i + Y] - w[i + UP] * w[i + R + row])


@njit(cache=True, **_vector)
def step(w, s, n):  # type: ignore[no-untyped-def]
    """Compute the six stages; the new state is X + K6."""
    factorise(w, s, n)
    stage(
        w, s, n, STAGE[0], K1, False,
        (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, s, n, STAGE[1], K2, False,
        (A21, 0.0, 0.0, 0.0), (C21, 0.0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, s, n, STAGE[2], K3, False,
        (A31, A32, 0.0, 0.0), (C31, C32, 0.0, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, s, n, STAGE[3], K4, False,
        (A41, A42, A43, 0.0), (C41, C42, C43, 0.0, 0.0),
    )  # fmt: skip
    stage(
        w, s, n, STAGE[4], K5, False,
        (A51, A52, A53, A54), (C51, C52, C53, C54, 0.0),
    )  # fmt: skip
    stage(
        w, s, n, STAGE[5], K6, True,
        (0.0, 0.0, 0.0, 0.0), (C61, C62, C63, C64, C65),
    )  # fmt: skip


@njit(cache=True, **_vector)
def estimate(w, s, n):  # type: ignore[no-untyped-def]
    """Put the new state in X; the last record gets the largest errors.

    Y: error of a resistor's current, J: of a node's potential, CH: how far the new
    state lies outside [lo, hi].
    """
    for k in range(1, n + 1):
        for q in range(LANES):
            i = np.uint64(k) * R + np.uint64(q)
            e = w[i + K6]
            x = w[i + X] + e
            w[i + X] = x
            flow = w[i + P] * w[i - R + K6] + w[i - R + SUP] * e
            size = abs(flow)
            if k > 1:
                size *= kink(w, i + PAR, w[i - R + U], w[i + U], w[i - R + X], x)
            w[i + Y] = max(w[i - R + Y], size)
            w[i + J] = max(w[i - R + J], abs(e))
            w[i + CH] = max(
                w[i - R + CH], max(x - s[np.uint64(q) + HI], s[np.uint64(q) + LO] - x)
            )


@njit(cache=True, **_vector)
def accept(w, s, n):  # type: ignore[no-untyped-def]
    """Take the new state in the lanes whose KEEP is 1."""
    for k in range(1, n + 1):
        for q in range(LANES):
            i = np.uint64(k) * R + np.uint64(q)
            old, new = w[i + U], w[i + X]
            w[i + U] = new if s[np.uint64(q) + KEEP] > 0.5 else old


@njit(cache=True, **_scalar)
def prepare(s):  # type: ignore[no-untyped-def]
    """Fill what the stages need from the protocol for the steps to be tried."""
    for q in range(LANES):
        i = np.uint64(q)
        t, h = s[i + T], s[i + H]
        rest = s[i + LENGTH] - t
        half = 0.5 * rest
        h = rest if h >= 0.999 * rest else (half if h > half else h)
        s[i + H] = h
        s[i + INVH] = 1.0 / h
        f = s[i + F]
        c0, c1, c2, c3 = f * s[i + C0], f * s[i + C1], f * s[i + C2], f * s[i + C3]
        s[i + DRIVE] = c0 + t * (c1 + t * (c2 + t * c3))
        x = t + T2 * h
        s[i + DRIVE + STAGE[1]] = c0 + x * (c1 + x * (c2 + x * c3))
        x = t + T3 * h
        s[i + DRIVE + STAGE[2]] = c0 + x * (c1 + x * (c2 + x * c3))
        x = t + T4 * h
        s[i + DRIVE + STAGE[3]] = c0 + x * (c1 + x * (c2 + x * c3))
        x = t + h
        end = c0 + x * (c1 + x * (c2 + x * c3))
        s[i + DRIVE + STAGE[4]] = end
        s[i + DRIVE + STAGE[5]] = end
        change = h * (c1 + t * (2.0 * c2 + t * 3.0 * c3))
        s[i + SOURCE] = D1 * change
        s[i + SOURCE + STAGE[1]] = D2 * change
        s[i + SOURCE + STAGE[2]] = D3 * change
        s[i + SOURCE + STAGE[3]] = D4 * change


@njit(cache=True, **_scalar)
def judge(w, s, n):  # type: ignore[no-untyped-def]
    """Decide in every lane whether the step is taken, and choose the next one."""
    for q in range(LANES):
        i = np.uint64(q)
        o = np.uint64(n) * R + i
        e = max(w[o + Y] * s[i + PER_I], w[o + J] * s[i + PER_U])
        e = e if e < 1e12 else 1e12  # includes what is not a number
        growth = SAFETY / np.sqrt(np.sqrt(max(e, 1e-8)))
        growth = min(max(growth, SHRINK), GROW)
        h, floor = s[i + H], s[i + FLOOR]
        bad = (e > 1.0) & ((h > floor * 1.0000001) | (e > 1e6))
        shorter = h * growth
        shorter = floor if (h > floor) & (floor > shorter) else shorter
        longer = h * (min(growth, 1.0) if s[i + REFUSED] > 0.5 else growth)
        s[i + WISH] = shorter if bad else longer
        s[i + REFUSED] = 1.0 if bad else 0.0
        s[i + KEEP] = 0.0 if bad else 1.0
        s[i + ENDED] = 1.0 if s[i + T] + h >= s[i + LENGTH] * (1.0 - 1e-14) else 0.0
        o = R + i
        k1, k2, k3, k4, k5 = w[o + K1], w[o + K2], w[o + K3], w[o + K4], w[o + K5]
        s[i + Q3] = Q31 * k1 + Q32 * k2 + Q33 * k3 + Q34 * k4 + Q35 * k5
        s[i + Q4] = Q41 * k1 + Q42 * k2 + Q43 * k3 + Q44 * k4 + Q45 * k5


# --- what is kept of a piece ----------------------------------------------------------
# Numbers are read from the records one by one: a view of a row would be counted as a
# reference each time, which costs more than the arithmetic.
@njit(cache=True, **_scalar)
def signal_at(x, t, h, u0, u1, q3, q4, c0, c1, c2, c3, kind, go):  # type: ignore[no-untyped-def]
    """Return given signal and answer (current or potential) at fraction x of a step."""
    when = t + x * h
    given = c0 + when * (c1 + when * (c2 + when * c3))
    u = u0 + x * (u1 - u0 + (1.0 - x) * (q3 + x * q4))
    if kind == 0:
        return given, go * (given - u)
    return given, u + given / go


@njit(cache=True, **_scalar)
def power_integral(m, count, c, kind, go):  # type: ignore[no-untyped-def]
    """Return the integral of potential times current over a piece (3-point Gauss)."""
    c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
    total = 0.0
    for s in range(count):
        t, h, u0, u1, q3, q4 = m[s, 0], m[s, 1], m[s, 2], m[s, 3], m[s, 4], m[s, 5]
        for g in range(3):
            x = 0.5 + (g - 1) * 0.3872983346207417
            weight = 4.0 / 9.0 if g == 1 else 5.0 / 18.0
            one, two = signal_at(x, t, h, u0, u1, q3, q4, c0, c1, c2, c3, kind, go)
            total += weight * h * one * two
    return total


@njit(cache=True, **_scalar)
def bends(m, count, c, layer):  # type: ignore[no-untyped-def]
    """Put sqrt(|signal''|) h/PARTS of each part of a step into the record; return the sum."""
    total = 0.0
    for s in range(count):
        t, h, q3, q4 = m[s, 0], m[s, 1], m[s, 4], m[s, 5]
        weight = 1.0 / PARTS if t + h > layer else LAYER_WEIGHT / PARTS
        least = LEAST_BEND * max(abs(2.0 * (q4 - q3)), abs(2.0 * q3 + 4.0 * q4))
        for g in range(PARTS):
            x = (g + 0.5) / PARTS
            curve = (2.0 * c[2] + 6.0 * c[3] * (t + x * h)) * h * h
            bend = max(abs(2.0 * (q4 - q3) - 6.0 * q4 * x), least)
            bend = max(bend - BEND_FLOOR * abs(m[s, 3] - m[s, 2]), 0.0)
            part = weight * np.sqrt(bend + abs(curve))
            m[s, 6 + g] = part
            total += part
    return total


@njit(cache=True, **_scalar)
def place_points(m, count, c, kind, go, layer, start, time, signal):  # type: ignore[no-untyped-def]
    """Store points where the signal bends: equal shares of sqrt(|signal''|)."""
    last = time.shape[0] - 1
    length = m[count - 1, 0] + m[count - 1, 1]
    total = bends(m, count, c, layer)
    c0, c1, c2, c3 = c[0], c[1], c[2], c[3]
    even = EVEN_SHARE / length if total > 0.0 else 1.0 / length
    curved = (1.0 - EVEN_SHARE) / total if total > 0.0 else 0.0
    apart = 1.0 / last
    done = 0.0
    j = 0
    for s in range(count):
        t, h, u0, u1, q3, q4 = m[s, 0], m[s, 1], m[s, 2], m[s, 3], m[s, 4], m[s, 5]
        for g in range(PARTS):
            share = even * h / PARTS + curved * m[s, 6 + g]
            end = done + share
            final = s == count - 1 and g == PARTS - 1
            until = last if final else min(int(end * last) + 1, last)
            slope = apart / (PARTS * share)
            first = (g - done / share) / PARTS
            for k in range(j, until):
                x = min(max(first + k * slope, 0.0), 1.0)
                time[k] = start + t + x * h
                signal[k] = signal_at(x, t, h, u0, u1, q3, q4, c0, c1, c2, c3, kind, go)[1]
            j = max(j, until)
            done = end
    s = count - 1
    time[last] = start + length
    signal[last] = signal_at(
        1.0, m[s, 0], m[s, 1], m[s, 2], m[s, 3], m[s, 4], m[s, 5], c0, c1, c2, c3, kind, go
    )[1]


@njit(cache=True, **_scalar)
def store_nodes(w, n, q, start, t, h, time, nodes, done):  # type: ignore[no-untyped-def]
    """Write the state of all nodes at the stored times within a step."""
    while done < time.shape[0] and time[done] - start <= (t + h) * (1.0 + 1e-14):
        x = min(max((time[done] - start - t) / h, 0.0), 1.0)
        for k in range(n):
            i = np.uint64(k + 1) * R + np.uint64(q)
            k1, k2, k3 = w[i + K1], w[i + K2], w[i + K3]
            k4, k5 = w[i + K4], w[i + K5]
            q3 = Q31 * k1 + Q32 * k2 + Q33 * k3 + Q34 * k4 + Q35 * k5
            q4 = Q41 * k1 + Q42 * k2 + Q43 * k3 + Q44 * k4 + Q45 * k5
            u0, u1 = w[i + U], w[i + X]
            nodes[done, k] = u0 + x * (u1 - u0 + (1.0 - x) * (q3 + x * q4))
        done += 1
    return done


@njit(cache=True, **_scalar)
def load(w, n, q, u, cap, par):  # type: ignore[no-untyped-def]
    """Put a circuit into lane q."""
    for k in range(n):
        i = np.uint64(k + 1) * R + np.uint64(q)
        for row in range(ROWS):
            w[i + np.uint64(row * LANES)] = 0.0
        w[i + U] = u[k]
        w[i + CAP] = cap[k]
        for m in range(N_PAR):
            w[i + PAR + np.uint64(m * LANES)] = par[m, k]


@njit(cache=True, **_scalar)
def begin_piece(w, s, q, lane, job, drive_data):  # type: ignore[no-untyped-def]
    """Set the first step of a piece so that it resolves the fastest node."""
    kinds, lengths, curves, limits, smallest = drive_data
    cap, g_open, g_first, scale_u = job[1], job[3], job[4], job[7]
    i = np.uint64(q)
    b, p = lane.who[q], lane.piece[q]
    length = lengths[b, p]
    given = kinds[p] == 0
    go = g_open[b] if given else 0.0
    s[i + GO] = go
    s[i + F] = g_open[b] if given else 1.0
    s[i + C0], s[i + C1] = curves[b, p, 0], curves[b, p, 1]
    s[i + C2], s[i + C3] = curves[b, p, 2], curves[b, p, 3]
    s[i + T] = 0.0
    s[i + REFUSED] = 0.0
    s[i + LENGTH] = length
    s[i + FLOOR] = smallest[p] * length
    lane.count[q] = 0
    lane.stored[q] = 0
    h = 0.5 * cap[b, 0] / (g_first[b] + go)
    h = max(min(h, 0.05 * length), smallest[p] * length)
    if not given and not np.isnan(limits[b, p]):
        current = curves[b, p, 0]
        room = limits[b, p] - w[R + i + U] - current / g_open[b]
        if room * np.sign(current) <= EVENT_TOLERANCE * scale_u[b]:
            h = 1e-12 * length  # the ohmic step alone passes the limit
    s[i + H] = h


@njit(cache=True, **_scalar)
def meet_limit(w, s, q, limit, go, bound):  # type: ignore[no-untyped-def]
    """End a piece at its potential limit, or refuse a step that passes it."""
    i = np.uint64(q)
    current = s[i + C0]
    sign = np.sign(current)
    over = sign * (w[R + i + X] + current / go - limit)
    room = sign * (limit - w[R + i + U] - current / go)
    if over <= bound or room <= bound:
        if over >= -bound:
            s[i + ENDED] = 1.0
        return
    s[i + WISH] = s[i + H] * min(max(room / (room + over), 1e-3), 1.0)
    s[i + REFUSED] = 1.0
    s[i + KEEP] = 0.0


# --- the run --------------------------------------------------------------------------
@njit(cache=True, **_scalar)
def end_piece(w, s, n, q, lane, drive_data, g_open, out):  # type: ignore[no-untyped-def]
    """Write the results of a finished piece."""
    kinds, curves = drive_data[0], drive_data[2]
    b, p, count = lane.who[q], lane.piece[q], lane.count[q]
    r = lane.records[q, :count]
    c, kind = curves[b, p], kinds[p]
    for k in range(n):
        out.ends[b, p, k] = w[np.uint64(k + 1) * R + np.uint64(q) + U]
    if not out.second:
        out.work[b, p] = power_integral(r, count, c, kind, g_open[b])
        at = p * out.width
        place_points(
            r, count, c, kind, g_open[b], LAYER * s[np.uint64(q) + FLOOR], lane.start[q],
            out.time[b, at : at + out.points], out.signal[b, at : at + out.points],
        )  # fmt: skip
    lane.start[q] += r[count - 1, 0] + r[count - 1, 1]
    lane.piece[q] += 1


@njit(cache=True, **_scalar)
def next_circuit(w, s, n, q, lane, b, job, tolerance):  # type: ignore[no-untyped-def]
    """Start circuit b in lane q."""
    u0, cap, par, g_open, g_first, lo, hi, scale_u, scale_i, strict = job
    load(w, n, q, u0[b], cap[b], par[:, b])
    lane.who[q] = b
    lane.piece[q] = 0
    lane.start[q] = 0.0
    i = np.uint64(q)
    s[i + LO], s[i + HI] = lo[b], hi[b]
    s[i + TOL_I] = tolerance[0] * strict[b]
    s[i + PER_I] = 1.0 / (s[i + TOL_I] * scale_i[b])
    s[i + PER_U] = 1.0 / (tolerance[1] * strict[b] * scale_u[b])


@njit(cache=True, **_scalar)
def take_steps(w, s, n, lane, job, drive_data, out):  # type: ignore[no-untyped-def]
    """Record the accepted steps of all lanes and set the next ones.

    Tuples are taken apart once: each access to an array in a tuple counts a reference,
    which in this loop would cost more than the arithmetic.
    """
    who, piece, count, stored, start, records = lane
    kinds, limits = drive_data[0], drive_data[3]
    g_open, scale_u = job[3], job[7]
    steps, outside, status = out.steps, out.outside, out.status
    time, nodes, second = out.time, out.nodes, out.second
    width, points = out.width, out.points
    o = np.uint64(n) * R
    for q in range(LANES):
        i = np.uint64(q)
        b = who[q]
        if b < 0:
            continue
        p = piece[q]
        steps[b] += 1
        if s[i + KEEP] > 0.5 and kinds[p] == 1 and not np.isnan(limits[b, p]):
            meet_limit(w, s, q, limits[b, p], g_open[b], EVENT_TOLERANCE * scale_u[b])
        if s[i + KEEP] > 0.5:
            # what is needed to draw the signal within the step
            m, t, h, end = count[q], s[i + T], s[i + H], w[R + i + X]
            records[q, m, 0], records[q, m, 1] = t, h
            records[q, m, 2], records[q, m, 3] = w[R + i + U], end
            records[q, m, 4], records[q, m, 5] = s[i + Q3], s[i + Q4]
            count[q] = m + 1
            if kinds[p] == 0:
                current = abs(s[i + DRIVE + STAGE[4]] - s[i + GO] * end)
                if current * s[i + TOL_I] * s[i + PER_I] > 1.0:
                    s[i + PER_I] = 1.0 / (s[i + TOL_I] * current)
            outside[b] = max(outside[b], w[o + i + CH])
            if second:
                at = p * width
                stored[q] = store_nodes(
                    w, n, q, start[q], t, h, time[b, at : at + points],
                    nodes[b, at : at + points], stored[q],
                )  # fmt: skip
            s[i + T] = t + h
            if m + 1 == MAX_RECORDS and s[i + ENDED] < 0.5:
                status[b] = TOO_MANY_STEPS
        else:
            s[i + ENDED] = 0.0
            if s[i + H] < 1e-15 * s[i + LENGTH]:
                status[b] = UNDER_RESOLVED
        s[i + H] = s[i + WISH]


@njit(cache=True, **_scalar)
def advance(first, last, w, s, n, lane, job, drive_data, tolerance, out):  # type: ignore[no-untyped-def]
    """Integrate circuits first..last-1 through all pieces of their protocols.

    The named tuples are described in :mod:`nanoslit.circuit.compiled`.
    """
    pieces = drive_data[1].shape[1]
    who, piece, status = lane.who, lane.piece, out.status
    ahead = first
    active = 0
    for q in range(LANES):
        # a lane without a circuit computes a copy of one and is never read
        next_circuit(w, s, n, q, lane, min(ahead, last - 1), job, tolerance)
        begin_piece(w, s, q, lane, job, drive_data)
        if ahead < last:
            ahead += 1
            active += 1
        else:
            who[q] = -1
    while active > 0:
        prepare(s)
        step(w, s, n)
        estimate(w, s, n)
        judge(w, s, n)
        take_steps(w, s, n, lane, job, drive_data, out)
        accept(w, s, n)
        for q in range(LANES):
            b = who[q]
            if b < 0 or (s[np.uint64(q) + ENDED] < 0.5 and status[b] == 0):
                continue
            if status[b] == 0:
                end_piece(w, s, n, q, lane, drive_data, job[3], out)
            if status[b] != 0 or piece[q] == pieces:
                if ahead == last:
                    who[q] = -1
                    active -= 1
                    continue
                next_circuit(w, s, n, q, lane, ahead, job, tolerance)
                ahead += 1
            begin_piece(w, s, q, lane, job, drive_data)


_PARTS = [
    "factorise",
    "stage",
    "step",
    "estimate",
    "accept",
    "prepare",
    "judge",
    "signal_at",
    "power_integral",
    "bends",
    "place_points",
    "store_nodes",
    "load",
    "begin_piece",
    "meet_limit",
    "end_piece",
    "next_circuit",
    "take_steps",
    "advance",
]


_tags = itertools.count()


def specialise(replaced: dict[str, Any]) -> Any:
    """Return :func:`advance` compiled around another law.

    Parameters
    ----------
    replaced : dict
        New values of ``resistor``, ``resistor_slopes``, ``kink``, ``capacity`` (compiled
        functions), ``N_PAR``, ``R`` and ``VARIES``.
    """
    scope = dict(globals()) | replaced
    tag = next(_tags)
    for name in _PARTS:
        old = globals()[name]
        options = {k: v for k, v in old.targetoptions.items() if k not in ("cache", "nopython")}
        body = types.FunctionType(old.py_func.__code__, scope, name)
        # machine code is linked by name: it must not be that of the built-in functions,
        # which are loaded from numba's cache with the names of the process that made it
        body.__qualname__ = f"{name}_of_law_{tag}"
        scope[name] = njit(**options)(body)
    return scope["advance"]
