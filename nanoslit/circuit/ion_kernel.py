"""Compiled integrator of :mod:`nanoslit.circuit.ions`: a chain of boxes, two ions each.

Box ``j`` has the state (u, w): ``u`` electrode minus solution potential U, ``w`` the salt
potential; ion s has V_s = U + w/z_s. Balance of each ion, with the current J_s,j from box j
towards the bath through link j:

    F z_s dN_s,j/dt = J_s,j+1 - J_s,j,     J_s,j = k_s (V_s,j - V_s,j-1) / S_s,j,
    S_s,j = path_j/N_s + passage_j/n_s + access_j/c_s

with contents N of slits, contents n per length of an opening in equilibrium at the mean state
of both sides, and concentrations c. Time: variable-step BDF2 in the contents N, so that ions
are conserved; restarted with BDF1 where the protocol has a kink. The local error is estimated
from the distance to the polynomial through earlier points.
"""

from __future__ import annotations

import math

import numpy as np

from nanoslit.errors import MissingExtraError

try:
    from numba import njit
except ImportError as error:
    raise MissingExtraError(
        "ion-resolved circuits need numba: install nanoslit[fast]"
    ) from error

__all__ = ["DONE", "LEFT_TABLE", "STUCK", "TOO_MANY", "advance"]

DONE, LEFT_TABLE, STUCK, TOO_MANY = 0, 1, 2, 3
OPEN, FRONT, SLIT = 0, 1, 2
_NEWTON = 12
_FARADAY = 96485.33212331001  # frozen into the cached code; a test compares it with units


@njit(cache=True)
def _patch(table, grid, u, w, value, by_u, by_w):
    """Bicubic Hermite interpolation of both ions; False outside of the table."""
    x, y = (u - grid[0]) / grid[1], (w - grid[2]) / grid[3]
    if not (0.0 <= x <= table.shape[0] - 1.0 and 0.0 <= y <= table.shape[1] - 1.0):
        return False
    i = min(int(x), table.shape[0] - 2)
    k = min(int(y), table.shape[1] - 2)
    s, t = x - i, y - k
    hs = ((1 + 2 * s) * (1 - s) ** 2, s * (1 - s) ** 2, s * s * (3 - 2 * s), s * s * (s - 1))
    ht = ((1 + 2 * t) * (1 - t) ** 2, t * (1 - t) ** 2, t * t * (3 - 2 * t), t * t * (t - 1))
    ds = (6 * s * (s - 1), (1 - s) * (1 - 3 * s), 6 * s * (1 - s), s * (3 * s - 2))
    dt = (6 * t * (t - 1), (1 - t) * (1 - 3 * t), 6 * t * (1 - t), t * (3 * t - 2))
    for ion in range(2):
        value[ion] = by_u[ion] = by_w[ion] = 0.0
        for a in range(2):
            for b in range(2):
                f = table[i + a, k + b, ion]
                left = ht[2 * b] * f[0] + ht[2 * b + 1] * f[2]
                right = ht[2 * b] * f[1] + ht[2 * b + 1] * f[3]
                slope = dt[2 * b] * f[0] + dt[2 * b + 1] * f[2]
                bend = dt[2 * b] * f[1] + dt[2 * b + 1] * f[3]
                value[ion] += hs[2 * a] * left + hs[2 * a + 1] * right
                by_u[ion] += (ds[2 * a] * left + ds[2 * a + 1] * right) / grid[1]
                by_w[ion] += (hs[2 * a] * slope + hs[2 * a + 1] * bend) / grid[3]
    return True


@njit(cache=True)
def _solution(salt, w, unit, c, slope):
    """Concentrations of both ions in a neutral solution, and their slopes in w."""
    rise = math.exp(w / unit)
    r0, r1 = salt[0] * rise, salt[1] * rise
    free = 1.0 / (1.0 + salt[2] * (r0 + r1))
    c[0], c[1] = r0 * free, r1 * free
    slope[0], slope[1] = c[0] * free / unit, c[1] * free / unit


@njit(cache=True)
def _boxes(state, kind, size, face, salt, unit, grid, slit, wall, box):
    """Fill contents of all boxes with their slopes; False outside the tables.

    ``box`` (boxes, 2 ions, 5): N, dN/du, dN/dw; of the open space also c, dc/dw.
    """
    value, by_u, by_w = np.empty(2), np.empty(2), np.empty(2)
    c, slope = np.empty(2), np.empty(2)
    for j in range(len(kind)):
        u, w = state[j, 0], state[j, 1]
        if kind[j] == SLIT:
            if not _patch(slit, grid, u, w, value, by_u, by_w):
                return False
            for s in range(2):
                n = size[j, s] * math.exp(value[s])
                box[j, s, 0] = n
                box[j, s, 1] = n * by_u[s]
                box[j, s, 2] = n * by_w[s]
            continue
        _solution(salt, w, unit, c, slope)
        for s in range(2):
            box[j, s, 0] = size[j, s] * c[s]
            box[j, s, 1] = 0.0
            box[j, s, 2] = size[j, s] * slope[s]
            box[j, s, 3], box[j, s, 4] = c[s], slope[s]
        if kind[j] == FRONT:
            if not _patch(wall, grid, u, w, value, by_u, by_w):
                return False
            for s in range(2):
                box[j, s, 0] += face * value[s]
                box[j, s, 1] += face * by_u[s]
                box[j, s, 2] += face * by_w[s]
    return True


@njit(cache=True)
def _currents(state, applied, box, kind, grid, links, z, bulk, j, flow, slopes):
    """Currents of both ions through link j, and their slopes in (u, w) of its two boxes.

    False if the state of an opening is outside its table.
    """
    path, passage, access, mobility, gate = links
    inside = kind[j] == SLIT
    first = inside and kind[j - 1] == FRONT
    value, by_u, by_w = np.empty(2), np.empty(2), np.empty(2)
    if inside:
        u = 0.5 * (state[j, 0] + state[j - 1, 0])
        w = 0.5 * (state[j, 1] + state[j - 1, 1])
        if not _patch(gate, grid, u, w, value, by_u, by_w):
            return False
    for s in range(2):
        here = applied - state[j, 0] + state[j, 1] / z[s]
        there = 0.0
        if j > 0:
            there = applied - state[j - 1, 0] + state[j - 1, 1] / z[s]
        total = left_u = left_w = right_u = right_w = 0.0  # S and its slopes
        if inside:
            share = 1.0 if first else 0.5
            n = share * box[j, s, 0] + (1 - share) * box[j - 1, s, 0]
            part = path[j] / n
            total += part
            right_u -= part * share * box[j, s, 1] / n
            right_w -= part * share * box[j, s, 2] / n
            if not first:
                left_u -= part * 0.5 * box[j - 1, s, 1] / n
                left_w -= part * 0.5 * box[j - 1, s, 2] / n
            part = passage[j] * math.exp(-value[s])
            total += part
            left_u -= 0.5 * part * by_u[s]
            right_u -= 0.5 * part * by_u[s]
            left_w -= 0.5 * part * by_w[s]
            right_w -= 0.5 * part * by_w[s]
            if first:
                part = access[j] / box[j - 1, s, 3]
                total += part
                left_w -= part * box[j - 1, s, 4] / box[j - 1, s, 3]
        else:
            c = 0.5 * (box[j, s, 3] + (box[j - 1, s, 3] if j > 0 else bulk[s]))
            part = access[j] / c
            total += part
            right_w -= 0.5 * part * box[j, s, 4] / c
            if j > 0:
                left_w -= 0.5 * part * box[j - 1, s, 4] / c
        g, drop = mobility[s] / total, here - there
        flow[s] = g * drop
        slopes[s, 2] = -g - flow[s] * right_u / total
        slopes[s, 3] = g / z[s] - flow[s] * right_w / total
        slopes[s, 0] = g - flow[s] * left_u / total
        slopes[s, 1] = -g / z[s] - flow[s] * left_w / total
    return True


@njit(cache=True)
def _solve(lower, middle, upper, right):
    """Block Thomas elimination, 2 x 2 blocks; the solution replaces ``right``."""
    n = len(right)
    for j in range(n):
        if j > 0:
            for r in range(2):
                a, b = lower[j, r, 0], lower[j, r, 1]
                right[j, r] -= a * right[j - 1, 0] + b * right[j - 1, 1]
                for q in range(2):
                    middle[j, r, q] -= a * upper[j - 1, 0, q] + b * upper[j - 1, 1, q]
        a, b = middle[j, 0, 0], middle[j, 0, 1]
        c, d = middle[j, 1, 0], middle[j, 1, 1]
        over = 1.0 / (a * d - b * c)
        x, y = right[j, 0], right[j, 1]
        right[j, 0], right[j, 1] = (d * x - b * y) * over, (a * y - c * x) * over
        for q in range(2):
            x, y = upper[j, 0, q], upper[j, 1, q]
            upper[j, 0, q], upper[j, 1, q] = (d * x - b * y) * over, (a * y - c * x) * over
    for j in range(n - 2, -1, -1):
        for r in range(2):
            right[j, r] -= upper[j, r, 0] * right[j + 1, 0] + upper[j, r, 1] * right[j + 1, 1]


@njit(cache=True)
def _newton(state, applied, a0, known, model, box, work, bound):
    """Solve F z (a0 N + known) = J_j+1 - J_j for the state; return DONE or what failed."""
    kind, size, face, salt, unit, grid, slit, wall, links, z, bulk = model
    lower, middle, upper, right = work
    n = len(kind)
    flow, slopes = np.empty(2), np.zeros((2, 4))
    for _ in range(_NEWTON):
        if not _boxes(state, kind, size, face, salt, unit, grid, slit, wall, box):
            return LEFT_TABLE
        upper[:] = 0.0
        for j in range(n):
            for s in range(2):
                charge = _FARADAY * z[s]
                right[j, s] = -charge * (a0 * box[j, s, 0] + known[j, s])
                middle[j, s, 0] = charge * a0 * box[j, s, 1]
                middle[j, s, 1] = charge * a0 * box[j, s, 2]
        for j in range(n):
            if not _currents(state, applied, box, kind, grid, links, z, bulk, j, flow, slopes):
                return LEFT_TABLE
            for s in range(2):
                right[j, s] -= flow[s]
                for q in range(2):
                    middle[j, s, q] += slopes[s, 2 + q]
                    if j > 0:
                        lower[j, s, q] = slopes[s, q]
                        middle[j - 1, s, q] -= slopes[s, q]
                        upper[j - 1, s, q] = -slopes[s, 2 + q]
                if j > 0:
                    right[j - 1, s] += flow[s]
        _solve(lower, middle, upper, right)
        largest = 0.0
        for j in range(n):
            for q in range(2):
                largest = max(largest, abs(right[j, q]))
        if not largest < 1e3:
            return STUCK
        damping = min(1.0, 4.0 * unit / largest)
        for j in range(n):
            for q in range(2):
                state[j, q] += damping * right[j, q]
        if largest < bound:
            inside = _boxes(state, kind, size, face, salt, unit, grid, slit, wall, box)
            return DONE if inside else LEFT_TABLE
    return STUCK


@njit(cache=True)
def _error(state, guess, kind):
    """Largest distance of the state from its prediction; u of open boxes may jump."""
    largest = 0.0
    for j in range(len(kind)):
        largest = max(largest, abs(state[j, 1] - guess[j, 1]))
        if kind[j] != OPEN:
            largest = max(largest, abs(state[j, 0] - guess[j, 0]))
    return largest


@njit(cache=True)
def _predict(y, t, have, step, guess):
    """Continue the polynomial through the points of the piece, up to second order."""
    guess[:] = y[0]
    if have > 1:
        slope = (y[0] - y[1]) / (t[0] - t[1])
        guess += step * slope
    if have > 2:
        bend = (slope - (y[1] - y[2]) / (t[1] - t[2])) / (t[0] - t[2])
        guess += step * (step + t[0] - t[1]) * bend


@njit(cache=True)
def _storage(contents, t, have, step, known):
    """Fill the known part of dN/dt and return the factor of the new contents."""
    if have == 1:
        known[:] = -contents[0] / step
        return 1.0 / step
    ratio = step / (t[0] - t[1])
    past = ratio * ratio / (1 + ratio)
    known[:] = (past * contents[1] - (1 + ratio) * contents[0]) / step
    return (1 + 2 * ratio) / (1 + ratio) / step


@njit(cache=True)
def advance(first, lengths, curves, model, tolerance, times, states, currents):
    """Integrate a protocol from a given state; return (number of stored points, status).

    Parameters
    ----------
    first : ndarray, shape (boxes, 2)
        (u, w) at time 0 [V].
    lengths, curves : ndarray, shape (pieces,), (pieces, 4)
        Of the applied potential, see :class:`nanoslit.circuit.drive.Drive`.
    model : tuple
        Kinds, sizes, face, salt, thermal voltage, grid and tables, links; see
        :class:`nanoslit.circuit.ions.IonCircuit`.
    tolerance : float
        Of a step's local error [V].
    times, states, currents : ndarray, shape (points,), (points, boxes, 2), (points, 2)
        Filled with every accepted step; currents of both ions from the bath.
    """
    kind, size, face, salt, unit, grid, slit, wall, links, z, bulk = model
    n = len(kind)
    box = np.empty((n, 2, 5))
    work = (np.zeros((n, 2, 2)), np.empty((n, 2, 2)), np.zeros((n, 2, 2)), np.empty((n, 2)))
    flow, slopes = np.empty(2), np.zeros((2, 4))
    # the last three points of the piece, newest first, and contents of the last two
    y, t = np.empty((3, n, 2)), np.zeros(3)
    contents, known = np.empty((2, n, 2)), np.empty((n, 2))
    state, guess = first.copy(), np.empty((n, 2))
    if not _boxes(state, kind, size, face, salt, unit, grid, slit, wall, box):
        return 0, LEFT_TABLE
    count, origin = 0, 0.0
    for piece in range(len(lengths)):
        length, curve = lengths[piece], curves[piece]
        y[0], t[0], have = state, 0.0, 1
        contents[0] = box[:, :, 0]
        step = 1e-7 * length
        while t[0] < length:
            if count == len(times):
                return count, TOO_MANY
            step = min(step, 0.05 * length, length - t[0])
            now = t[0] + step
            if length - now < 1e-9 * length:
                now, step = length, length - t[0]
            _predict(y, t, have, step, guess)
            a0 = _storage(contents, t, have, step, known)
            applied = curve[0] + now * (curve[1] + now * (curve[2] + now * curve[3]))
            state[:] = guess
            verdict = _newton(state, applied, a0, known, model, box, work, 1e-2 * tolerance)
            share = 0.5 if have < 3 else step / (now - t[2])
            error = share * _error(state, guess, kind) / tolerance
            order = 1 if have < 2 else 2
            if verdict != DONE or not error <= 1.0:
                if verdict != DONE:
                    step *= 0.25
                else:
                    step *= max(0.2, 0.8 * error ** (-1.0 / (order + 1)))
                if step < 1e-14 * length:
                    return count, STUCK if verdict == DONE else verdict
                continue
            y[2], y[1], t[2], t[1] = y[1], y[0], t[1], t[0]
            contents[1] = contents[0]
            y[0], t[0] = state, now
            contents[0] = box[:, :, 0]
            have = min(have + 1, 3)
            _currents(state, applied, box, kind, grid, links, z, bulk, 0, flow, slopes)
            times[count], states[count] = origin + now, state
            currents[count, 0], currents[count, 1] = flow[0], flow[1]
            count += 1
            step *= min(2.5, max(0.3, 0.8 * max(error, 1e-6) ** (-1.0 / (order + 1))))
        origin += length
    return count, DONE
