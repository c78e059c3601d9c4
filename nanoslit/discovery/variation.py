# ruff: noqa: PLR0915, SIM108, SIM109 - compiled state machines, plain on purpose
"""Compiled creation and variation of expressions that respect dimensions.

Every operator returns a consistent expression or reports failure; there is nothing to
repair afterwards. Random numbers come from a SplitMix64 stream per offspring whose seed
is drawn from the Philox generator of (run, island, generation), so that the result does
not depend on the order of work.
"""

from __future__ import annotations

import numpy as np

from nanoslit.discovery.compiled import compiled
from nanoslit.discovery.tokens import (
    ADD,
    BINARY,
    CONSTANT,
    CUBE,
    DIV,
    INV,
    MUL,
    POW,
    PRIVATE,
    SQRT,
    SQUARE,
    SUB,
    UNARY,
    VARIABLE,
)

__all__ = ["annotate", "breed_rows", "create_rows"]


@compiled
def _next(state):
    """Return 64 random bits (SplitMix64, Steele et al., OOPSLA 2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def _uniform(state):
    return np.float64(_next(state) >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@compiled
def _below(state, n):
    return min(np.int64(_uniform(state) * n), n - 1)


@compiled
def _normal(state):
    u = max(_uniform(state), 1e-300)
    return np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * np.pi * _uniform(state))


@compiled
def _mix(h):
    z = np.uint64(h) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@compiled
def unary_dimension(op, d, square, root, cube, inverse):
    """Return the dimension of a function's value, -1 if its operand's is not allowed."""
    if op == SQUARE:
        return square[d]
    if op == SQRT:
        return root[d]
    if op == CUBE:
        return cube[d]
    if op == INV:
        return inverse[d]
    if op == 30:  # abs keeps any dimension
        return d
    return 0 if d == 0 else -1


@compiled
def _is_factor(tokens, start, hashes, node, wanted):
    """Return whether a product (left-deep chain) has a factor of this hash."""
    while tokens[node] == MUL:
        right = node - 1
        if hashes[right] == wanted:
            return True
        node = start[right] - 1
        if hashes[node] == wanted:
            return True
    return False


@compiled
def annotate(tokens, n, cdim, tables, variables, target, limits, dims, start, hashes):
    """Check an expression and describe its nodes; return True if it is acceptable.

    Fills the dimension of each node, the first token of its subtree and a hash that
    ignores the order of commutative operands and the values of constants.
    """
    product, quotient, powers = tables
    depth = np.zeros(n, dtype=np.int64)
    numeric = np.zeros(n, dtype=np.bool_)
    nested = np.zeros(n, dtype=np.int64)
    stack = np.zeros(n + 1, dtype=np.int64)
    level = 0
    leaves = 0
    for t in range(n):
        op = tokens[t]
        if op >= VARIABLE:
            dims[t] = variables[op - VARIABLE]
            start[t] = t
            hashes[t] = _mix(np.uint64(op))
        elif op < BINARY:
            dims[t] = cdim[t]
            start[t] = t
            hashes[t] = _mix(np.uint64(op + 1))
            numeric[t] = True
            leaves += 1
        elif op < UNARY:
            b = stack[level - 1]
            a = stack[level - 2]
            level -= 2
            if op in (ADD, SUB):
                d = dims[a] if dims[a] == dims[b] else -1
            elif op == MUL:
                d = product[dims[a], dims[b]]
            elif op == DIV:
                d = quotient[dims[a], dims[b]]
            else:
                d = 0 if dims[a] == 0 and dims[b] == 0 else -1
            if d < 0 or (numeric[a] and numeric[b]):
                return False
            if op != MUL and op != POW and hashes[a] == hashes[b]:
                return False
            if op == DIV and (
                _is_factor(tokens, start, hashes, a, hashes[b])
                or _is_factor(tokens, start, hashes, b, hashes[a])
            ):
                return False
            if op == MUL and (
                (tokens[a] == DIV and hashes[a - 1] == hashes[b])
                or (tokens[b] == DIV and hashes[b - 1] == hashes[a])
            ):
                return False
            dims[t] = d
            start[t] = start[a]
            depth[t] = max(depth[a], depth[b]) + 1
            nested[t] = max(nested[a], nested[b]) + (1 if op == POW else 0)
            if op in (ADD, MUL):
                hashes[t] = _mix(hashes[a] + hashes[b] + np.uint64(op * 7919))
            else:
                hashes[t] = _mix(_mix(hashes[a] + np.uint64(op)) + hashes[b] * np.uint64(3))
        else:
            a = stack[level - 1]
            level -= 1
            d = unary_dimension(op, dims[a], powers[0], powers[1], powers[2], powers[3])
            if d < 0 or numeric[a]:
                return False
            if op == SQRT and (tokens[a] == SQUARE or tokens[a] == SQRT):
                return False
            if op == SQUARE and tokens[a] == SQRT or op == INV and tokens[a] == INV:
                return False
            dims[t] = d
            start[t] = start[a]
            depth[t] = depth[a] + 1
            simple = op == SQUARE or op == SQRT or op == CUBE or op == INV or op == 30
            nested[t] = nested[a] + (0 if simple else 1)
            hashes[t] = _mix(hashes[a] * np.uint64(5) + np.uint64(op))
        stack[level] = t
        level += 1
    if n > limits[0] or depth[n - 1] > limits[1] or nested[n - 1] > limits[2]:
        return False
    if leaves > limits[3]:
        return False
    return target < 0 or dims[n - 1] == target


@compiled
def _random_constant(state, private):
    u = _uniform(state)
    if u < 0.4:
        value = np.float64(1 + _below(state, 3))
    else:
        value = np.exp(1.2 * _normal(state))
    if _uniform(state) < 0.25:
        value = -value
    return value


@compiled
def grow(
    state,
    dim,
    budget,
    ops,
    tables,
    variables,
    allowed,
    smallest,
    witness,
    library,
    private,
    tokens,
    values,
    cdim,
    at,
):
    """Write a random expression of a dimension in postfix order from place ``at``.

    Returns the number of tokens, 0 if the budget is too small.
    """
    product, quotient, powers = tables
    K = smallest.shape[0]
    room = tokens.shape[0]
    if smallest[dim] > budget:
        return 0
    sd = np.zeros(room + 4, dtype=np.int64)
    sb = np.zeros(room + 4, dtype=np.int64)
    sd[0], sb[0] = dim, budget
    level = 1
    count = 0
    buffer = np.zeros(room + 4, dtype=np.int64)
    bvalue = np.zeros(room + 4)
    bdim = np.zeros(room + 4, dtype=np.int64)
    while level > 0:
        level -= 1
        d, s = sd[level], sb[level]
        if count >= room:
            return 0
        first, last = library[2][d, 0], library[2][d, 1]
        if (
            last > first
            and s > 1
            and _uniform(state) < (library[3] if library[4][d] else 0.5 + 0.5 * library[3])
        ):
            pick = first + _below(state, last - first)
            if _uniform(state) < 0.5:
                pick = first + _below(state, pick - first + 1)
            m = library[1][pick]
            if count + m < room:
                for j in range(m):
                    buffer[count] = library[0][pick, m - 1 - j]
                    count += 1
                continue
        can_leaf = smallest[d] == 1
        if can_leaf and (s < 2 or _uniform(state) < 1.0 / s):
            nvar = 0
            for v in range(variables.shape[0]):
                if variables[v] == d:
                    nvar += 1
            if nvar > 0 and (not allowed[d] or _uniform(state) < 0.75):
                pick = _below(state, nvar)
                for v in range(variables.shape[0]):
                    if variables[v] == d:
                        if pick == 0:
                            buffer[count] = VARIABLE + v
                        pick -= 1
            else:
                is_private = private and _uniform(state) < 0.5
                buffer[count] = PRIVATE if is_private else CONSTANT
                bvalue[count] = _random_constant(state, private)
                bdim[count] = d
            count += 1
            continue
        done = False
        for _try in range(8):
            op = ops[_below(state, ops.shape[0])]
            if op < UNARY:
                if s < 3:
                    continue
                if op in (ADD, SUB):
                    da, db = d, d
                elif op == POW:
                    if d != 0:
                        continue
                    da, db = 0, 0
                else:
                    u = _uniform(state)
                    if u < 0.25:
                        # a factor without dimension; in a quotient db is drawn first
                        da = d if op == MUL else 0
                    elif u < 0.7:
                        da = np.int64(variables[_below(state, variables.shape[0])])
                    else:
                        da = _below(state, K)
                    if op == MUL:
                        db = np.int64(quotient[d, da])
                    else:
                        db = da
                        da = np.int64(product[d, db])
                    if da < 0 or db < 0:
                        continue
                if smallest[da] + smallest[db] + 1 > s:
                    continue
                spare = s - 1 - smallest[da] - smallest[db]
                part = _below(state, spare + 1)
                buffer[count] = op
                count += 1
                sd[level], sb[level] = da, smallest[da] + part
                level += 1
                sd[level], sb[level] = db, smallest[db] + spare - part
                level += 1
                done = True
                break
            if s < 2:
                continue
            found = -1
            if op == SQUARE or op == SQRT or op == CUBE or op == INV or op == 30:
                for _scan in range(1):
                    begin = _below(state, K)
                    for j in range(K):
                        q = (begin + j) % K
                        if (
                            unary_dimension(op, q, powers[0], powers[1], powers[2], powers[3])
                            == d
                        ):
                            found = q
                            break
            elif d == 0:
                found = 0
            if found < 0 or smallest[found] + 1 > s:
                continue
            buffer[count] = op
            count += 1
            sd[level], sb[level] = found, s - 1
            level += 1
            done = True
            break
        if done:
            continue
        if witness[d, 0] < 0 or can_leaf:
            sd[level], sb[level] = d, 1
            if not can_leaf:
                return 0
            level += 1
            continue
        op = np.int64(witness[d, 0])
        buffer[count] = op
        count += 1
        da, db = np.int64(witness[d, 1]), np.int64(witness[d, 2])
        sd[level], sb[level] = da, smallest[da]
        level += 1
        if op < UNARY:
            sd[level], sb[level] = db, smallest[db]
            level += 1
    if at + count > room:
        return 0
    for j in range(count):
        tokens[at + j] = buffer[count - 1 - j]
        values[at + j] = bvalue[count - 1 - j]
        cdim[at + j] = bdim[count - 1 - j]
    return count


@compiled
def _splice(tokens, C, cdim, n, lo, hi, mt, mc, md, m, out, oC, od):
    """Replace tokens lo..hi by m new ones; return the new length or 0."""
    size = n - (hi - lo) + m
    if size > out.shape[0] or size < 1:
        return 0
    for t in range(lo):
        out[t] = tokens[t]
        od[t] = cdim[t]
        oC[t] = C[t]
    for j in range(m):
        out[lo + j] = mt[j]
        od[lo + j] = md[j]
        oC[lo + j] = mc[j]
    for t in range(hi, n):
        out[t - hi + lo + m] = tokens[t]
        od[t - hi + lo + m] = cdim[t]
        oC[t - hi + lo + m] = C[t]
    return size


@compiled
def create_rows(
    seeds,
    sizes,
    ops,
    tables,
    variables,
    target,
    allowed,
    smallest,
    witness,
    library,
    private,
    limits,
    T,
    N,
    C,
    Dm,
    H,
):
    """Fill rows with random expressions; ``N[p] = 0`` where none was found."""
    state = np.zeros(1, dtype=np.uint64)
    L = T.shape[1]
    dims = np.zeros(L, dtype=np.int64)
    start = np.zeros(L, dtype=np.int64)
    hashes = np.zeros(L, dtype=np.uint64)
    values = np.zeros(L)
    for p in range(T.shape[0]):
        state[0] = seeds[p]
        N[p] = 0
        for _try in range(10):
            d = target if target >= 0 else _below(state, smallest.shape[0])
            budget = max(sizes[p], smallest[d])
            if budget > limits[0]:
                continue
            values[:] = 0.0
            n = grow(
                state,
                d,
                budget,
                ops,
                tables,
                variables,
                allowed,
                smallest,
                witness,
                library,
                private,
                T[p],
                values,
                Dm[p],
                0,
            )
            if n > 0 and annotate(
                T[p], n, Dm[p], tables, variables, target, limits, dims, start, hashes
            ):
                N[p] = n
                H[p] = hashes[n - 1]
                for t in range(n):
                    C[p, t, :] = values[t]
                break


@compiled
def breed_rows(
    seeds,
    first,
    second,
    rates,
    ops,
    tables,
    variables,
    target,
    allowed,
    smallest,
    witness,
    library,
    private,
    limits,
    PT,
    PN,
    PC,
    PD,
    T,
    N,
    C,
    Dm,
    H,
):
    """Make one offspring per row from parents ``first[p]`` and ``second[p]``.

    ``rates`` are the cumulative chances of crossover, new subtree, new token, insertion,
    deletion and changed constant. ``N[p] = 0`` where no acceptable offspring was found.
    """
    state = np.zeros(1, dtype=np.uint64)
    L = T.shape[1]
    G = C.shape[2]
    dims = np.zeros(L, dtype=np.int64)
    start = np.zeros(L, dtype=np.int64)
    hashes = np.zeros(L, dtype=np.uint64)
    dims2 = np.zeros(L, dtype=np.int64)
    start2 = np.zeros(L, dtype=np.int64)
    mt = np.zeros(2 * L, dtype=np.int16)
    md = np.zeros(2 * L, dtype=np.int16)
    mv = np.zeros(2 * L)
    mc = np.zeros((2 * L, G))
    for p in range(T.shape[0]):
        state[0] = seeds[p]
        N[p] = 0
        for _try in range(6):
            A, nA = PT[first[p]], PN[first[p]]
            cA, dA = PC[first[p]], PD[first[p]]
            annotate(A, nA, dA, tables, variables, np.int64(-1), limits, dims, start, hashes)
            i = _below(state, nA)
            lo, hi = start[i], i + 1
            u = _uniform(state)
            n = 0
            if u < rates[0]:
                B, nB = PT[second[p]], PN[second[p]]
                annotate(
                    B,
                    nB,
                    PD[second[p]],
                    tables,
                    variables,
                    np.int64(-1),
                    limits,
                    dims2,
                    start2,
                    hashes,
                )
                free = i == nA - 1 and target < 0
                begin = _below(state, nB)
                for j in range(nB):
                    q = (begin + j) % nB
                    if free or dims2[q] == dims[i]:
                        m = q + 1 - start2[q]
                        n = _splice(
                            A,
                            cA,
                            dA,
                            nA,
                            lo,
                            hi,
                            B[start2[q] : q + 1],
                            PC[second[p]][start2[q] : q + 1],
                            PD[second[p]][start2[q] : q + 1],
                            m,
                            T[p],
                            C[p],
                            Dm[p],
                        )
                        break
            elif u < rates[1]:
                d = dims[i]
                budget = smallest[d] + _below(state, 10)
                mv[:] = 0.0
                m = grow(
                    state,
                    d,
                    budget,
                    ops,
                    tables,
                    variables,
                    allowed,
                    smallest,
                    witness,
                    library,
                    private,
                    mt[:L],
                    mv,
                    md,
                    0,
                )
                if m > 0:
                    for j in range(m):
                        mc[j, :] = mv[j]
                    n = _splice(A, cA, dA, nA, lo, hi, mt, mc, md, m, T[p], C[p], Dm[p])
            elif u < rates[2]:
                n = nA
                T[p, :n] = A[:n]
                C[p, :n] = cA[:n]
                Dm[p, :n] = dA[:n]
                op = A[i]
                if op >= BINARY and op < UNARY:
                    T[p, i] = ops[_below(state, ops.shape[0])]
                    if T[p, i] >= UNARY:
                        n = 0
                elif op >= UNARY and op < VARIABLE:
                    T[p, i] = ops[_below(state, ops.shape[0])]
                    if T[p, i] < UNARY:
                        n = 0
                elif private and op < BINARY and _uniform(state) < 0.5:
                    T[p, i] = PRIVATE if op == CONSTANT else CONSTANT
                    C[p, i, :] = np.mean(cA[i])
                else:
                    v = _below(state, variables.shape[0])
                    if allowed[dims[i]] and _uniform(state) < 0.2:
                        T[p, i] = CONSTANT
                        Dm[p, i] = dims[i]
                        C[p, i, :] = _random_constant(state, private)
                    else:
                        T[p, i] = VARIABLE + v
            elif u < rates[3]:
                # wrap the subtree: op(subtree, new) or op(new, subtree) or f(subtree)
                op = ops[_below(state, ops.shape[0])]
                m = hi - lo
                mt[:m] = A[lo:hi]
                md[:m] = dA[lo:hi]
                mc[:m] = cA[lo:hi]
                if op >= UNARY:
                    mt[m] = op
                    md[m] = 0
                    mc[m] = 0.0
                    n = _splice(A, cA, dA, nA, lo, hi, mt, mc, md, m + 1, T[p], C[p], Dm[p])
                else:
                    d = dims[i] if op in (ADD, SUB) else 0
                    if i == nA - 1 and target < 0 and op != ADD and op != SUB:
                        d = np.int64(variables[_below(state, variables.shape[0])])
                    budget = smallest[d] + _below(state, 7)
                    mv[:] = 0.0
                    k = grow(
                        state,
                        d,
                        budget,
                        ops,
                        tables,
                        variables,
                        allowed,
                        smallest,
                        witness,
                        library,
                        private,
                        mt[m : m + L],
                        mv[m:],
                        md[m:],
                        0,
                    )
                    if k > 0:
                        for j in range(m, m + k):
                            mc[j, :] = mv[j]
                        if d == 0 and dims[i] == 0 and _uniform(state) < 0.5:
                            # new operand first
                            size = m + k
                            qt = mt[:size].copy()
                            qd = md[:size].copy()
                            qc = mc[:size].copy()
                            mt[:k], mt[k:size] = qt[m:], qt[:m]
                            md[:k], md[k:size] = qd[m:], qd[:m]
                            mc[:k], mc[k:size] = qc[m:], qc[:m]
                        mt[m + k] = op
                        md[m + k] = 0
                        mc[m + k] = 0.0
                        n = _splice(
                            A,
                            cA,
                            dA,
                            nA,
                            lo,
                            hi,
                            mt,
                            mc,
                            md,
                            m + k + 1,
                            T[p],
                            C[p],
                            Dm[p],
                        )
            elif u < rates[4]:
                # replace a node by one of its descendants of the same dimension
                if hi - lo > 1:
                    begin = _below(state, hi - 1 - lo)
                    for j in range(hi - 1 - lo):
                        q = lo + (begin + j) % (hi - 1 - lo)
                        if dims[q] == dims[i]:
                            m = q + 1 - start[q]
                            n = _splice(
                                A,
                                cA,
                                dA,
                                nA,
                                lo,
                                hi,
                                A[start[q] : q + 1],
                                cA[start[q] : q + 1],
                                dA[start[q] : q + 1],
                                m,
                                T[p],
                                C[p],
                                Dm[p],
                            )
                            break
            else:
                n = nA
                T[p, :n] = A[:n]
                C[p, :n] = cA[:n]
                Dm[p, :n] = dA[:n]
                changed = False
                for t in range(n):
                    if A[t] < BINARY:
                        changed = True
                        if _uniform(state) < 0.1:
                            C[p, t, :] = _random_constant(state, private)
                        else:
                            factor = np.exp(0.5 * _normal(state))
                            for g in range(G):
                                C[p, t, g] *= factor
                if not changed:
                    n = 0
            if n > 0 and annotate(
                T[p], n, Dm[p], tables, variables, target, limits, dims, start, hashes
            ):
                N[p] = n
                H[p] = hashes[n - 1]
                break
