# ruff: noqa: PLR0915 - compiled loops, plain on purpose
"""Compiled evaluation of expressions: a stack machine over blocks of points.

A stack level owns two rows of a workspace of one block in turn, so that a result never
overlaps its operands, the compiler may vectorise, and the rows stay in the first-level
cache. Functions of single columns are looked up: they were computed once. Scores are
weighted least squares of ``a f + b`` in closed form (Keijzer, EuroGP 2003), summed from
the residuals where the closed form would lose digits. Nothing is "protected": what is not
finite is rejected.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nanoslit.discovery.compiled import compiled
from nanoslit.discovery.elementary import (
    cos_row,
    cosh_row,
    exp_row,
    log_row,
    sin_row,
    sinh_row,
    tanh_row,
)
from nanoslit.discovery.tokens import (
    ABS,
    ADD,
    BINARY,
    CONSTANT,
    COS,
    COSH,
    CUBE,
    DIV,
    EXP,
    INV,
    LOG,
    MUL,
    POW,
    PRIVATE,
    SIN,
    SINH,
    SQRT,
    SQUARE,
    SUB,
    TANH,
    UNARY,
    VARIABLE,
)

__all__ = [
    "BLOCK",
    "WORST",
    "Arrays",
    "evaluate_rows",
    "fit_constants",
    "normal_equations",
    "place_parameters",
    "score_rows",
    "tabulate",
]

BLOCK = 512
WORST = 1e30
EXACT = 1e-9  # misfit below which the closed form has lost too many digits
MISSING, NOT_FINITE = -1, -2  # instead of the row of a function of a column


class Arrays(NamedTuple):
    """What the kernels read: data in order, and their workspace.

    Parameters
    ----------
    bounds : ndarray of int64, shape (blocks, 3)
        First row, last + 1, and data set of each block.
    F : ndarray
        Columns and tabulated functions of columns one behind the other, then a workspace
        of rows of one block. One flat array: slices of it cost no reference count.
    base : int
        Where the workspace begins.
    lookup : ndarray of int64, shape (functions, columns)
        Where in F each function of each column begins.
    w, y, wy : ndarray, shape (rows,)
        Weights, target, and their product.
    norm : ndarray, shape (fit blocks, 2)
        Sum of w y y (centred if an offset is fitted) and sum of w.
    flags : ndarray of bool
        Weighted, offset, scaled, one scale per data set.
    """

    bounds: Any
    F: Any
    base: int
    lookup: Any
    w: Any
    y: Any
    wy: Any
    norm: Any
    flags: Any


@compiled
def apply_binary(op, u, v, y):
    """Write a binary operator's values to a row."""
    m = y.shape[0]
    if op == ADD:
        for i in range(m):
            y[i] = u[i] + v[i]
    elif op == SUB:
        for i in range(m):
            y[i] = u[i] - v[i]
    elif op == MUL:
        for i in range(m):
            y[i] = u[i] * v[i]
    elif op == DIV:
        for i in range(m):
            y[i] = u[i] / v[i]
    elif op == POW:
        for i in range(m):
            y[i] = u[i] ** v[i]


@compiled
def apply_unary(op, u, y):
    """Write a function's values to a row; return False if one is known not finite."""
    m = y.shape[0]
    if op == SQRT:
        for i in range(m):
            y[i] = np.sqrt(u[i])
    elif op == SQUARE:
        for i in range(m):
            y[i] = u[i] * u[i]
    elif op == CUBE:
        for i in range(m):
            y[i] = u[i] * u[i] * u[i]
    elif op == INV:
        for i in range(m):
            y[i] = 1.0 / u[i]
    elif op == ABS:
        for i in range(m):
            y[i] = abs(u[i])
    elif op == EXP:
        return exp_row(u, y)
    elif op == LOG:
        return log_row(u, y)
    elif op == SIN:
        sin_row(u, y)
    elif op == COS:
        cos_row(u, y)
    elif op == TANH:
        tanh_row(u, y)
    elif op == SINH:
        return sinh_row(u, y)
    elif op == COSH:
        return cosh_row(u, y)
    return True


@compiled
def tabulate(op, u, y):
    """Write a function of a whole column; return whether all values are finite."""
    if not apply_unary(op, u, y):
        return False
    good = True
    for i in range(y.shape[0]):
        good = good and np.isfinite(y[i])
    return good


@compiled
def evaluate(tokens, n, C, data, refs, k_block):
    """Evaluate one postfix row on one block; return where in F the result begins.

    -1 as soon as a value is known not to be finite.
    """
    F, lookup, rows = data.F, data.lookup, data.w.shape[0]
    s, e, g = data.bounds[k_block, 0], data.bounds[k_block, 1], data.bounds[k_block, 2]
    m = e - s
    level = 0
    for t in range(n):
        op = tokens[t]
        own = data.base + 2 * level * BLOCK
        if op >= VARIABLE:
            refs[level] = (op - VARIABLE) * rows + s
            level += 1
        elif op < BINARY:
            F[own : own + m] = C[t, g]
            refs[level] = own
            level += 1
        elif op < UNARY:
            level -= 2
            a, b = refs[level], refs[level + 1]
            own -= 4 * BLOCK
            if own == a:
                own += BLOCK
            apply_binary(op, F[a : a + m], F[b : b + m], F[own : own + m])
            refs[level] = own
            level += 1
        else:
            operand = tokens[t - 1]
            if operand >= VARIABLE:
                known = lookup[op - UNARY - 1, operand - VARIABLE]
                if known == NOT_FINITE:
                    return -1
                if known >= 0:
                    refs[level - 1] = known + s
                    continue
            a = refs[level - 1]
            own -= 2 * BLOCK
            if own == a:
                own += BLOCK
            if not apply_unary(op, F[a : a + m], F[own : own + m]):
                return -1
            refs[level - 1] = own
    return refs[0]


@compiled
def _sums(f, u, z, weighted, offset, out):
    """Add sum w f f, sum w f y and sum w f over a block."""
    m = f.shape[0]
    ff, fy, f1 = 0.0, 0.0, 0.0
    if weighted:
        for i in range(m):
            ff += u[i] * f[i] * f[i]
            fy += z[i] * f[i]
        if offset:
            for i in range(m):
                f1 += u[i] * f[i]
    elif offset:
        for i in range(m):
            ff += f[i] * f[i]
            fy += z[i] * f[i]
            f1 += f[i]
        ff *= u[0]
        f1 *= u[0]
    else:
        for i in range(m):
            ff += f[i] * f[i]
            fy += z[i] * f[i]
        ff *= u[0]
    out[0] += ff
    out[1] += fy
    out[2] += f1


@compiled
def _solve_scale(S, B, norm, offset, scaled, A):
    """Return the misfit left by the best scale (and offset) of each fit block.

    ``norm[b]`` holds sum w y y (centred with an offset) and sum w.
    """
    total = 0.0
    for b in range(B):
        ff, fy = S[b, 0], S[b, 1]
        if not scaled:
            A[b, 0], A[b, 1] = 1.0, 0.0
            total += norm[b, 0] - 2.0 * fy + ff
            continue
        if offset:
            ff -= S[b, 2] * S[b, 2] / norm[b, 1]
            if not ff > 1e-14 * S[b, 0]:
                return WORST
        if not (np.isfinite(ff) and np.isfinite(fy) and ff > 1e-290):
            return WORST
        a = fy / ff
        A[b, 0] = a
        A[b, 1] = -a * S[b, 2] / norm[b, 1] if offset else 0.0
        total += norm[b, 0] - fy * a
    if not np.isfinite(total):
        return WORST
    return max(total, 0.0)


@compiled
def _residual_sum(tokens, n, C, data, refs, A):
    """Return sum w r r at given scales, residual by residual."""
    total = 0.0
    for k in range(data.bounds.shape[0]):
        s, e, g = data.bounds[k, 0], data.bounds[k, 1], data.bounds[k, 2]
        b = g if data.flags[3] else 0
        at = evaluate(tokens, n, C, data, refs, k)
        f = data.F[at : at + e - s]
        w, y = data.w[s:e], data.y[s:e]
        for i in range(e - s):
            r = y[i] - A[b, 0] * f[i] - A[b, 1]
            total += w[i] * r * r
    return total


@compiled
def score_one(tokens, n, C, data, refs, S, A):
    """Return the normalised mean square misfit of one expression, scale fitted."""
    weighted, offset, scaled, by_set = (
        data.flags[0],
        data.flags[1],
        data.flags[2],
        data.flags[3],
    )
    S[:] = 0.0
    for k in range(data.bounds.shape[0]):
        at = evaluate(tokens, n, C, data, refs, k)
        if at < 0:
            return WORST
        s, e = data.bounds[k, 0], data.bounds[k, 1]
        b = data.bounds[k, 2] if by_set else 0
        f = data.F[at : at + e - s]
        _sums(f, data.w[s:e], data.wy[s:e], weighted, offset, S[b])
        if not np.isfinite(S[b, 0]):
            return WORST
    error = _solve_scale(S, data.norm.shape[0], data.norm, offset, scaled, A)
    if error < EXACT:
        return _residual_sum(tokens, n, C, data, refs, A)
    return error


@compiled
def score_rows(T, N, C, data, errors, A):
    """Score a population: ``errors[p]`` and the scales ``A[p, block, (a, b)]``."""
    refs = np.zeros(T.shape[1] + 2, dtype=np.int64)
    S = np.zeros((data.norm.shape[0], 3))
    for p in range(T.shape[0]):
        errors[p] = score_one(T[p], N[p], C[p], data, refs, S, A[p])


@compiled
def evaluate_rows(T, N, C, data, out):
    """Write the values of each expression to ``out[p]``; NaN where not finite."""
    refs = np.zeros(T.shape[1] + 2, dtype=np.int64)
    for p in range(T.shape[0]):
        for k in range(data.bounds.shape[0]):
            s, e = data.bounds[k, 0], data.bounds[k, 1]
            at = evaluate(T[p], N[p], C[p], data, refs, k)
            if at < 0:
                out[p, s:e] = np.nan
            else:
                out[p, s:e] = data.F[at : at + e - s]


@compiled
def _derivative(op, u, y, d):
    """Write the derivative of a function to a row; u operand, y value."""
    m = d.shape[0]
    if op == SIN:
        cos_row(u, d)
    elif op == COS:
        sin_row(u, d)
        for i in range(m):
            d[i] = -d[i]
    elif op == SINH:
        cosh_row(u, d)
    elif op == COSH:
        sinh_row(u, d)
    else:
        for i in range(m):
            if op == SQRT:
                d[i] = 0.5 / y[i]
            elif op == SQUARE:
                d[i] = 2.0 * u[i]
            elif op == CUBE:
                d[i] = 3.0 * u[i] * u[i]
            elif op == INV:
                d[i] = -y[i] * y[i]
            elif op == ABS:
                d[i] = 1.0 if u[i] >= 0 else -1.0
            elif op == EXP:
                d[i] = y[i]
            elif op == LOG:
                d[i] = 1.0 / u[i]
            else:
                d[i] = 1.0 - y[i] * y[i]


@compiled
def _times(D, lo, hi, d):
    """Multiply tangents lo..hi by a row."""
    m = d.shape[0]
    for j in range(lo, hi):
        row = D[j, :m]
        for i in range(m):
            row[i] *= d[i]


@compiled
def _chain_binary(op, u, v, y, d, D, la, ha, lb, hb):
    """Multiply the tangents of both operands by the derivatives of an operator."""
    m = d.shape[0]
    if op == SUB:
        d[:] = -1.0
        _times(D, lb, hb, d)
    elif op == MUL:
        _times(D, la, ha, v)
        _times(D, lb, hb, u)
    elif op == DIV:
        for i in range(m):
            d[i] = 1.0 / v[i]
        _times(D, la, hb, d)
        for i in range(m):
            d[i] = -y[i]
        _times(D, lb, hb, d)
    elif op == POW:
        if ha > la:
            for i in range(m):
                d[i] = v[i] * y[i] / u[i]
            _times(D, la, ha, d)
        if hb > lb:
            for i in range(m):
                d[i] = np.log(u[i]) * y[i]
            _times(D, lb, hb, d)


@compiled
def evaluate_with_tangents(tokens, n, C, data, refs, lo, hi, D, k_block):
    """As ``evaluate``; D[j] becomes the derivative by constant leaf j.

    In postfix order the leaves of a subtree are neighbours, so each leaf needs one row
    only, multiplied in place on the way to the root.
    """
    F, rows = data.F, data.w.shape[0]
    s, e, g = data.bounds[k_block, 0], data.bounds[k_block, 1], data.bounds[k_block, 2]
    m = e - s
    d = F[F.shape[0] - BLOCK : F.shape[0] - BLOCK + m]
    level = 0
    leaf = 0
    for t in range(n):
        op = tokens[t]
        own = data.base + 2 * level * BLOCK
        if op >= VARIABLE:
            refs[level] = (op - VARIABLE) * rows + s
            lo[level], hi[level] = leaf, leaf
            level += 1
        elif op < BINARY:
            F[own : own + m] = C[t, g]
            refs[level] = own
            lo[level] = leaf
            if op <= PRIVATE:
                D[leaf, :m] = 1.0
                leaf += 1
            hi[level] = leaf
            level += 1
        elif op < UNARY:
            level -= 2
            a, b = refs[level], refs[level + 1]
            la, ha, lb, hb = lo[level], hi[level], lo[level + 1], hi[level + 1]
            own -= 4 * BLOCK
            if own == a:
                own += BLOCK
            u, v, y = F[a : a + m], F[b : b + m], F[own : own + m]
            apply_binary(op, u, v, y)
            if hb > la:
                _chain_binary(op, u, v, y, d, D, la, ha, lb, hb)
            refs[level] = own
            lo[level], hi[level] = la, hb
            level += 1
        else:
            level -= 1
            a = refs[level]
            own -= 2 * BLOCK
            if own == a:
                own += BLOCK
            u, y = F[a : a + m], F[own : own + m]
            apply_unary(op, u, y)
            if hi[level] > lo[level]:
                _derivative(op, u, y, d)
                _times(D, lo[level], hi[level], d)
            refs[level] = own
            level += 1
    return refs[0]


@compiled
def _dot(u, v):
    total = 0.0
    for i in range(u.shape[0]):
        total += u[i] * v[i]
    return total


@compiled
def _accumulate(f, J, r, w, y, k, a, shift, extra, g, place, H, grad):
    """Add J^T W J and J^T W r of a block.

    The first k rows of J are d(f)/d(constant), spoiled here; the next two become f and 1.
    """
    m = f.shape[0]
    for i in range(m):
        r[i] = y[i] - a * f[i] - shift
    for p in range(k):
        row = J[p, :m]
        for i in range(m):
            row[i] *= a
    J[k, :m] = f
    J[k + 1, :m] = 1.0
    for p in range(k + extra):
        ip = place[p, g]
        row = J[p, :m]
        weighted = J[k + 2, :m]
        for i in range(m):
            weighted[i] = w[i] * row[i]
        grad[ip] += _dot(weighted, r)
        for q in range(p + 1):
            iq = place[q, g]
            total = _dot(weighted, J[q, :m])
            H[ip, iq] += total
            if ip != iq:
                H[iq, ip] += total


@compiled
def normal_equations(tokens, n, C, data, A, leaves, place, H, grad):
    """Fill H = J^T W J and grad = J^T W r at the given constants and scales."""
    offset, scaled, by_set = data.flags[1], data.flags[2], data.flags[3]
    refs = np.zeros(n + 2, dtype=np.int64)
    lo = np.zeros(n + 2, dtype=np.int64)
    hi = np.zeros(n + 2, dtype=np.int64)
    k = leaves.shape[0]
    J = np.empty((k + 3, BLOCK))
    r = np.empty(BLOCK)
    H[:] = 0.0
    grad[:] = 0.0
    extra = (1 if scaled else 0) + (1 if offset else 0)
    for j in range(data.bounds.shape[0]):
        s, e, g = data.bounds[j, 0], data.bounds[j, 1], data.bounds[j, 2]
        at = evaluate_with_tangents(tokens, n, C, data, refs, lo, hi, J, j)
        f = data.F[at : at + e - s]
        b = g if by_set else 0
        _accumulate(
            f,
            J,
            r[: e - s],
            data.w[s:e],
            data.y[s:e],
            k,
            A[b, 0],
            A[b, 1],
            extra,
            g,
            place,
            H,
            grad,
        )


@compiled
def place_parameters(tokens, sets, flags, leaves, place):
    """Give each (leaf, data set) its parameter number; return how many there are.

    After the leaves come the scale and, if fitted, the offset of each fit block.
    """
    offset, scaled, by_set = flags[1], flags[2], flags[3]
    count = 0
    k = leaves.shape[0]
    for j in range(k):
        for g in range(sets):
            place[j, g] = count
            if tokens[leaves[j]] == PRIVATE:
                count += 1
        if tokens[leaves[j]] == CONSTANT:
            count += 1
    extra = (1 if scaled else 0) + (1 if offset else 0)
    for p in range(extra):
        for g in range(sets):
            place[k + p, g] = count
            if by_set:
                count += 1
        if not by_set:
            count += 1
    return count


@compiled
def _find_leaves(tokens, n):
    """Return the places of the constants that may be fitted."""
    found = np.zeros(n, dtype=np.int64)
    k = 0
    for t in range(n):
        if tokens[t] <= PRIVATE:
            found[k] = t
            k += 1
    return found[:k]


@compiled
def _damped_step(H, grad, damping):
    """Return the step of Levenberg and Marquardt, each parameter in its own measure."""
    m = grad.shape[0]
    scale = np.ones(m)
    for p in range(m):
        if H[p, p] > 0:
            scale[p] = 1.0 / np.sqrt(H[p, p])
    M = np.zeros((m, m))
    v = np.zeros(m)
    for p in range(m):
        v[p] = grad[p] * scale[p]
        for q in range(m):
            M[p, q] = H[p, q] * scale[p] * scale[q]
        M[p, p] += damping + 1e-15
    return np.linalg.solve(M, v) * scale


@compiled
def fit_constants(tokens, n, C, data, iterations, A):
    """Improve the constants in place by Levenberg-Marquardt.

    Returns the misfit and the number of evaluations: one per residual and one per
    Jacobian column. Scales are refitted in closed form after each step.
    """
    sets = C.shape[1]
    leaves = _find_leaves(tokens, n)
    k = leaves.shape[0]
    refs = np.zeros(n + 2, dtype=np.int64)
    S = np.zeros((data.norm.shape[0], 3))
    error = score_one(tokens, n, C, data, refs, S, A)
    count = 1
    if k == 0 or error >= WORST:
        return error, count
    place = np.zeros((k + 2, sets), dtype=np.int64)
    m = place_parameters(tokens, sets, data.flags, leaves, place)
    H = np.zeros((m, m))
    grad = np.zeros(m)
    trial = C.copy()
    damping = 1e-3
    B = A.copy()
    new = error
    for _ in range(iterations):
        normal_equations(tokens, n, C, data, A, leaves, place, H, grad)
        count += 1 + k
        if not (np.isfinite(grad).all() and np.isfinite(H).all()):
            break
        improved = False
        # a fit that is meant to be final shortens its step until it helps
        for _try in range(3 if iterations < 20 else 10):
            step = _damped_step(H, grad, damping)
            for j in range(k):
                for g in range(sets):
                    trial[leaves[j], g] = C[leaves[j], g] + step[place[j, g]]
            new = score_one(tokens, n, trial, data, refs, S, B)
            count += 1
            if new < error:
                improved = True
                break
            damping = min(damping * 10.0, 1e6)
        if not improved:
            break
        gain = error - new
        C[:] = trial
        A[:] = B
        error = new
        damping = max(damping * 0.1, 1e-10)
        if gain <= 1e-10 * error or error < 1e-28:
            break
    return error, count
