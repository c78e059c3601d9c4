# ruff: noqa: PLR0915 - compiled loops, plain on purpose
"""Compiled evaluation of expressions: a stack machine over blocks of points.

A stack level owns two rows of the workspace in turn, so that a result never overlaps
its operands and the compiler may vectorise. Blocks of a few hundred points stay in the
first-level cache. Scores are weighted least squares of ``a f + b`` in closed form
(Keijzer, EuroGP 2003). Nothing is "protected": what is not finite is rejected.
"""

from __future__ import annotations

import numpy as np

from nanoslit.discovery.compiled import compiled
from nanoslit.discovery.elementary import cos_row, exp_row, log_row, sin_row, tanh_row
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

__all__ = ["evaluate_rows", "fit_constants", "score_rows"]

BLOCK = 256
WORST = 1e30


@compiled
def apply_binary(op, W, r, a, b, s, e):
    """Apply a binary operator on points s..e of two rows.

    Views with an index from zero: the compiler vectorises only these loops.
    """
    u, v, y = W[a, s:e], W[b, s:e], W[r, s:e]
    m = e - s
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
def apply_unary(op, W, r, a, s, e):
    """Apply a function on points s..e of a row; return False if it is known not finite."""
    u, y = W[a, s:e], W[r, s:e]
    m = e - s
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
        for i in range(m):
            y[i] = np.sinh(u[i])
    elif op == COSH:
        for i in range(m):
            y[i] = np.cosh(u[i])
    return True


@compiled
def evaluate(tokens, n, C, bounds, W, columns, refs, k_block):
    """Evaluate one postfix row on one block; return the row of W with the result.

    -1 as soon as a value is known not to be finite.
    """
    s, e, g = bounds[k_block, 0], bounds[k_block, 1], bounds[k_block, 2]
    level = 0
    for t in range(n):
        op = tokens[t]
        if op >= VARIABLE:
            refs[level] = op - VARIABLE
            level += 1
        elif op < BINARY:
            row = columns + 2 * level
            W[row, s:e] = C[t, g]
            refs[level] = row
            level += 1
        elif op < UNARY:
            level -= 2
            a, b = refs[level], refs[level + 1]
            row = columns + 2 * level
            if row == a:
                row += 1
            apply_binary(op, W, row, a, b, s, e)
            refs[level] = row
            level += 1
        else:
            a = refs[level - 1]
            row = columns + 2 * (level - 1)
            if row == a:
                row += 1
            if not apply_unary(op, W, row, a, s, e):
                return -1
            refs[level - 1] = row
    return refs[0]


@compiled
def _sums(W, row, w, wy, weighted, offset, s, e, out):
    """Add sum w f f, sum w f y and sum w f over a block."""
    f, z, u = W[row, s:e], wy[s:e], w[s:e]
    ff, fy, f1 = 0.0, 0.0, 0.0
    if weighted:
        for i in range(e - s):
            ff += u[i] * f[i] * f[i]
            fy += z[i] * f[i]
        if offset:
            for i in range(e - s):
                f1 += u[i] * f[i]
    elif offset:
        for i in range(e - s):
            ff += f[i] * f[i]
            fy += z[i] * f[i]
            f1 += f[i]
        ff *= w[s]
        f1 *= w[s]
    else:
        for i in range(e - s):
            ff += f[i] * f[i]
            fy += z[i] * f[i]
        ff *= w[s]
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
def score_one(tokens, n, C, bounds, W, columns, refs, w, wy, norm, flags, S, A):
    """Return the normalised mean square misfit of one expression, scale fitted."""
    weighted, offset, scaled, by_set = flags[0], flags[1], flags[2], flags[3]
    S[:] = 0.0
    for k in range(bounds.shape[0]):
        row = evaluate(tokens, n, C, bounds, W, columns, refs, k)
        if row < 0:
            return WORST
        b = bounds[k, 2] if by_set else 0
        _sums(W, row, w, wy, weighted, offset, bounds[k, 0], bounds[k, 1], S[b])
        if not np.isfinite(S[b, 0]):
            return WORST
    return _solve_scale(S, norm.shape[0], norm, offset, scaled, A)


@compiled
def score_rows(T, N, C, bounds, W, columns, w, wy, norm, flags, errors, A):
    """Score a population: ``errors[p]`` and the scales ``A[p, block, (a, b)]``."""
    refs = np.zeros(T.shape[1] + 2, dtype=np.int64)
    S = np.zeros((norm.shape[0], 3))
    for p in range(T.shape[0]):
        errors[p] = score_one(
            T[p], N[p], C[p], bounds, W, columns, refs, w, wy, norm, flags, S, A[p]
        )


@compiled
def evaluate_rows(T, N, C, bounds, W, columns, out):
    """Write the values of each expression to ``out[p]``."""
    refs = np.zeros(T.shape[1] + 2, dtype=np.int64)
    for p in range(T.shape[0]):
        for k in range(bounds.shape[0]):
            row = evaluate(T[p], N[p], C[p], bounds, W, columns, refs, k)
            for i in range(bounds[k, 0], bounds[k, 1]):
                out[p, i] = W[row, i] if row >= 0 else np.nan


@compiled
def _scale_rows(D, lo, hi, W, row, s, e, divide, sign):
    for j in range(lo, hi):
        if divide:
            for i in range(s, e):
                D[j, i] = sign * D[j, i] / W[row, i]
        else:
            for i in range(s, e):
                D[j, i] = sign * D[j, i] * W[row, i]


@compiled
def _chain_unary(op, D, lo, hi, W, a, r, s, e):
    """Multiply tangents by the derivative of a function; a operand, r result."""
    for j in range(lo, hi):
        for i in range(s, e):
            x = W[a, i]
            y = W[r, i]
            if op == SQRT:
                d = 0.5 / y
            elif op == SQUARE:
                d = 2.0 * x
            elif op == CUBE:
                d = 3.0 * x * x
            elif op == INV:
                d = -y * y
            elif op == ABS:
                d = 1.0 if x >= 0 else -1.0
            elif op == EXP:
                d = y
            elif op == LOG:
                d = 1.0 / x
            elif op == SIN:
                d = np.cos(x)
            elif op == COS:
                d = -np.sin(x)
            elif op == TANH:
                d = 1.0 - y * y
            elif op == SINH:
                d = np.cosh(x)
            else:
                d = np.sinh(x)
            D[j, i] *= d


@compiled
def evaluate_with_tangents(tokens, n, C, bounds, W, columns, refs, lo, hi, D, k_block):
    """As ``evaluate``; D[j] becomes the derivative by constant leaf j.

    In postfix order the leaves of a subtree are neighbours, so each leaf needs one row
    only, multiplied in place on the way to the root.
    """
    s, e, g = bounds[k_block, 0], bounds[k_block, 1], bounds[k_block, 2]
    level = 0
    leaf = 0
    for t in range(n):
        op = tokens[t]
        if op >= VARIABLE:
            refs[level] = op - VARIABLE
            lo[level], hi[level] = leaf, leaf
            level += 1
        elif op < BINARY:
            row = columns + 2 * level
            W[row, s:e] = C[t, g]
            refs[level] = row
            lo[level] = leaf
            if op <= PRIVATE:
                for i in range(s, e):
                    D[leaf, i] = 1.0
                leaf += 1
            hi[level] = leaf
            level += 1
        elif op < UNARY:
            level -= 2
            a, b = refs[level], refs[level + 1]
            la, ha, lb, hb = lo[level], hi[level], lo[level + 1], hi[level + 1]
            row = columns + 2 * level
            if row == a:
                row += 1
            apply_binary(op, W, row, a, b, s, e)
            if op == SUB:
                for j in range(lb, hb):
                    for i in range(s, e):
                        D[j, i] = -D[j, i]
            elif op == MUL:
                _scale_rows(D, la, ha, W, b, s, e, False, 1.0)
                _scale_rows(D, lb, hb, W, a, s, e, False, 1.0)
            elif op == DIV:
                _scale_rows(D, la, hb, W, b, s, e, True, 1.0)
                _scale_rows(D, lb, hb, W, row, s, e, False, -1.0)
            elif op == POW:
                for j in range(la, ha):
                    for i in range(s, e):
                        D[j, i] *= W[b, i] * W[row, i] / W[a, i]
                for j in range(lb, hb):
                    for i in range(s, e):
                        D[j, i] *= np.log(W[a, i]) * W[row, i]
            refs[level] = row
            lo[level], hi[level] = la, hb
            level += 1
        else:
            a = refs[level - 1]
            row = columns + 2 * (level - 1)
            if row == a:
                row += 1
            apply_unary(op, W, row, a, s, e)
            _chain_unary(op, D, lo[level - 1], hi[level - 1], W, a, row, s, e)
            refs[level - 1] = row
    return refs[0]


@compiled
def _accumulate(W, row, D, k, w, y, A, b, g, s, e, place, offset, scaled, H, grad):
    """Add J^T W J and J^T W r of a block; J holds d(model)/d(parameter)."""
    a, shift = A[b, 0], A[b, 1]
    m = k + (1 if scaled else 0) + (1 if offset else 0)
    for p in range(m):
        ip = place[p, g]
        acc = 0.0
        if p < k:
            for i in range(s, e):
                acc += w[i] * D[p, i] * (y[i] - a * W[row, i] - shift)
            acc *= a
        elif p == k:
            for i in range(s, e):
                acc += w[i] * W[row, i] * (y[i] - a * W[row, i] - shift)
        else:
            for i in range(s, e):
                acc += w[i] * (y[i] - a * W[row, i] - shift)
        grad[ip] += acc
        for q in range(p + 1):
            acc = 0.0
            if p < k:
                for i in range(s, e):
                    acc += w[i] * D[p, i] * D[q, i]
                acc *= a * a
            elif p == k:
                if q < k:
                    for i in range(s, e):
                        acc += w[i] * W[row, i] * D[q, i]
                    acc *= a
                else:
                    for i in range(s, e):
                        acc += w[i] * W[row, i] * W[row, i]
            elif q < k:
                for i in range(s, e):
                    acc += w[i] * D[q, i]
                acc *= a
            elif q == k:
                for i in range(s, e):
                    acc += w[i] * W[row, i]
            else:
                for i in range(s, e):
                    acc += w[i]
            iq = place[q, g]
            H[ip, iq] += acc
            if ip != iq:
                H[iq, ip] += acc


@compiled
def normal_equations(
    tokens, n, C, bounds, W, columns, w, y, norm, flags, A, leaves, place, D, H, grad
):
    """Fill H = J^T W J and grad = J^T W r at the given constants and scales."""
    offset, scaled, by_set = flags[1], flags[2], flags[3]
    refs = np.zeros(n + 2, dtype=np.int64)
    lo = np.zeros(n + 2, dtype=np.int64)
    hi = np.zeros(n + 2, dtype=np.int64)
    H[:] = 0.0
    grad[:] = 0.0
    k = leaves.shape[0]
    for j in range(bounds.shape[0]):
        row = evaluate_with_tangents(tokens, n, C, bounds, W, columns, refs, lo, hi, D, j)
        g = bounds[j, 2]
        b = g if by_set else 0
        _accumulate(
            W,
            row,
            D,
            k,
            w,
            y,
            A,
            b,
            g,
            bounds[j, 0],
            bounds[j, 1],
            place,
            offset,
            scaled,
            H,
            grad,
        )


@compiled
def place_parameters(tokens, n, sets, flags, leaves, place):
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
def fit_constants(tokens, n, C, bounds, W, columns, w, y, wy, norm, flags, iterations, A):
    """Improve the constants in place by Levenberg-Marquardt.

    Returns the misfit and the number of evaluations: one per residual and one per
    Jacobian column. Scales are refitted in closed form after each step.
    """
    sets = C.shape[1]
    k = 0
    for t in range(n):
        if tokens[t] <= PRIVATE:
            k += 1
    leaves = np.zeros(k, dtype=np.int64)
    k = 0
    for t in range(n):
        if tokens[t] <= PRIVATE:
            leaves[k] = t
            k += 1
    place = np.zeros((k + 2, sets), dtype=np.int64)
    m = place_parameters(tokens, n, sets, flags, leaves, place)
    refs = np.zeros(n + 2, dtype=np.int64)
    S = np.zeros((norm.shape[0], 3))
    D = np.empty((max(k, 1), W.shape[1]))
    H = np.zeros((m, m))
    grad = np.zeros(m)
    trial = C.copy()
    error = score_one(tokens, n, C, bounds, W, columns, refs, w, wy, norm, flags, S, A)
    count = 1
    if k == 0 or error >= WORST:
        return error, count
    damping = 1e-3
    B = A.copy()
    for _ in range(iterations):
        normal_equations(
            tokens,
            n,
            C,
            bounds,
            W,
            columns,
            w,
            y,
            norm,
            flags,
            A,
            leaves,
            place,
            D,
            H,
            grad,
        )
        count += 1 + k
        good = True
        for p in range(m):
            if not np.isfinite(grad[p]):
                good = False
            for q in range(m):
                if not np.isfinite(H[p, q]):
                    good = False
        if not good:
            break
        scale = np.ones(m)
        for p in range(m):
            if H[p, p] > 0:
                scale[p] = 1.0 / np.sqrt(H[p, p])
        improved = False
        # a fit that is meant to be final shortens its step until it helps
        for _try in range(3 if iterations < 20 else 10):
            M = np.zeros((m, m))
            v = np.zeros(m)
            for p in range(m):
                v[p] = grad[p] * scale[p]
                for q in range(m):
                    M[p, q] = H[p, q] * scale[p] * scale[q]
                M[p, p] += damping + 1e-15
            x = np.linalg.solve(M, v)
            for j in range(k):
                for g in range(sets):
                    p = place[j, g]
                    trial[leaves[j], g] = C[leaves[j], g] + x[p] * scale[p]
            new = score_one(
                tokens, n, trial, bounds, W, columns, refs, w, wy, norm, flags, S, B
            )
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
