# ruff: noqa: PLR0915, SIM108, SIM109 - compiled state machines, plain on purpose
"""Compiled creation and variation of expressions that respect dimensions.

Every operator returns a consistent expression or reports failure; there is nothing to
repair afterwards. Random numbers come from a SplitMix64 stream per offspring whose seed
is drawn from the Philox generator of (run, island, generation), so that the result does
not depend on the order of work.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nanoslit.discovery.compiled import compiled
from nanoslit.discovery.tokens import (
    ADD,
    BINARY,
    CONSTANT,
    CUBE,
    DIV,
    EXP,
    FIXED,
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

__all__ = ["Space", "annotate", "breed_rows", "create_rows"]


class Space(NamedTuple):
    """Which expressions there are.

    Parameters
    ----------
    ops : ndarray of int64
        Operators.
    tables : tuple
        Products, quotients and (square, root, cube, inverse) of numbered dimensions.
    variables, target
        Dimension of each column; of the whole, -1 for any.
    allowed, smallest, witness
        See :class:`~nanoslit.discovery.dimensions.DimensionTable`.
    library : tuple
        Products of powers: tokens, lengths, range of each dimension; chance that one is
        drawn at once; whether a dimension is that of a column.
    private : bool
        Whether constants may be private to each data set.
    limits : ndarray of int64
        Largest size, depth, nesting and number of constants.
    """

    ops: Any
    tables: Any
    variables: Any
    target: Any
    allowed: Any
    smallest: Any
    witness: Any
    library: Any
    private: bool
    limits: Any


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
def annotate(tokens, n, cdim, space, target, dims, start, hashes):
    """Check an expression and describe its nodes; return True if it is acceptable.

    Fills the dimension of each node, the first token of its subtree and a hash that
    ignores the order of commutative operands and the values of constants.
    """
    product, quotient, powers = space.tables
    variables, limits = space.variables, space.limits
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
def _random_constant(state):
    u = _uniform(state)
    if u < 0.4:
        value = np.float64(1 + _below(state, 3))
    else:
        value = np.exp(1.2 * _normal(state))
    if _uniform(state) < 0.25:
        value = -value
    return value


@compiled
def _draw_monomial(state, dim, library, out, at):
    """Write a product of powers of a dimension, short ones often, reversed; its length."""
    first, last = library[2][dim, 0], library[2][dim, 1]
    if last <= first:
        return 0
    pick = first + _below(state, last - first)
    if _uniform(state) < 0.5:
        pick = first + _below(state, pick - first + 1)
    m = library[1][pick]
    if at + m >= out.shape[0]:
        return 0
    for j in range(m):
        out[at + j] = library[0][pick, m - 1 - j]
    return m


@compiled
def grow(state, dim, budget, space, tokens, values, cdim, at):
    """Write a random expression of a dimension in postfix order from place ``at``.

    Returns the number of tokens, 0 if the budget is too small.
    """
    ops, variables, allowed = space.ops, space.variables, space.allowed
    smallest, witness, library = space.smallest, space.witness, space.library
    product, quotient, powers = space.tables
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
        if s > 1 and _uniform(state) < (
            library[3] if library[4][d] else 0.5 + 0.5 * library[3]
        ):
            m = _draw_monomial(state, d, library, buffer, count)
            if m > 0:
                count += m
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
                is_private = space.private and _uniform(state) < 0.5
                buffer[count] = PRIVATE if is_private else CONSTANT
                bvalue[count] = _random_constant(state)
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
def _splice(parent, n, lo, hi, piece, m, child):
    """Write the parent with tokens lo..hi replaced by m new ones; return its length or 0."""
    size = n - (hi - lo) + m
    if size > child[0].shape[0] or size < 1:
        return 0
    tokens, C, cdim = parent
    mt, mc, md = piece
    out, oC, od = child
    out[:lo], oC[:lo], od[:lo] = tokens[:lo], C[:lo], cdim[:lo]
    out[lo : lo + m], oC[lo : lo + m], od[lo : lo + m] = mt[:m], mc[:m], md[:m]
    out[lo + m : size], oC[lo + m : size] = tokens[hi:n], C[hi:n]
    od[lo + m : size] = cdim[hi:n]
    return size


@compiled
def create_rows(seeds, sizes, space, T, N, C, Dm, H):
    """Fill rows with random expressions; ``N[p] = 0`` where none was found."""
    state = np.zeros(1, dtype=np.uint64)
    L = T.shape[1]
    dims = np.zeros(L, dtype=np.int64)
    start = np.zeros(L, dtype=np.int64)
    hashes = np.zeros(L, dtype=np.uint64)
    values = np.zeros(L)
    target = space.target
    for p in range(T.shape[0]):
        state[0] = seeds[p]
        N[p] = 0
        for _try in range(10):
            d = target if target >= 0 else _below(state, space.smallest.shape[0])
            budget = max(sizes[p], space.smallest[d])
            if budget > space.limits[0]:
                continue
            values[:] = 0.0
            n = grow(state, d, budget, space, T[p], values, Dm[p], 0)
            if n > 0 and annotate(T[p], n, Dm[p], space, target, dims, start, hashes):
                N[p] = n
                H[p] = hashes[n - 1]
                for t in range(n):
                    C[p, t, :] = values[t]
                break


@compiled
def _grow_piece(state, dim, budget, space, piece, at):
    """Write a random expression to a piece from place ``at``; return its length."""
    mt, mc, md = piece
    values = np.zeros(mt.shape[0] - at)
    m = grow(state, dim, budget, space, mt[at:], values, md[at:], 0)
    for j in range(m):
        mc[at + j, :] = values[j]
    return m


@compiled
def _cross(state, space, parent, n, other, nother, i, dims, start, dims2, start2, child):
    """Replace node i by a subtree of the other parent, of the same dimension."""
    tokens, C, cdim = other
    free = i == n - 1 and space.target < 0
    begin = _below(state, nother)
    for j in range(nother):
        q = (begin + j) % nother
        if free or dims2[q] == dims[i]:
            lo = start2[q]
            piece = (tokens[lo : q + 1], C[lo : q + 1], cdim[lo : q + 1])
            return _splice(parent, n, start[i], i + 1, piece, q + 1 - lo, child)
    return 0


@compiled
def _change_token(state, space, parent, n, i, dims, child):
    """Replace one operator, function, column or constant by another."""
    tokens, C, _ = parent
    out, oC, od = child
    _splice(parent, n, 0, 0, child, 0, child)
    op = tokens[i]
    if BINARY <= op < VARIABLE:
        out[i] = space.ops[_below(state, space.ops.shape[0])]
        return n if (out[i] < UNARY) == (op < UNARY) else 0
    if space.private and op < BINARY and _uniform(state) < 0.5:
        out[i] = PRIVATE if op == CONSTANT else CONSTANT
        oC[i, :] = np.mean(C[i])
        return n
    v = _below(state, space.variables.shape[0])
    if space.allowed[dims[i]] and _uniform(state) < 0.2:
        out[i] = CONSTANT
        od[i] = dims[i]
        oC[i, :] = _random_constant(state)
    else:
        out[i] = VARIABLE + v
    return n


@compiled
def _copy_node(parent, lo, hi, piece, at):
    """Copy tokens lo..hi of the parent to a piece."""
    m = hi - lo
    piece[0][at : at + m] = parent[0][lo:hi]
    piece[1][at : at + m] = parent[1][lo:hi]
    piece[2][at : at + m] = parent[2][lo:hi]
    return m


@compiled
def _put(piece, at, op, value):
    """Write an operator or a plain number to a piece."""
    piece[0][at] = op
    piece[1][at, :] = value
    piece[2][at] = 0


@compiled
def _wrap(state, space, parent, n, i, dims, start, piece, child):
    """Replace a node by op(node, new), op(new, node) or f(node)."""
    lo, hi = start[i], i + 1
    op = space.ops[_below(state, space.ops.shape[0])]
    m = hi - lo
    if op >= UNARY:
        _copy_node(parent, lo, hi, piece, 0)
        _put(piece, m, op, 0.0)
        return _splice(parent, n, lo, hi, piece, m + 1, child)
    d = dims[i] if op in (ADD, SUB) else 0
    if i == n - 1 and space.target < 0 and op != ADD and op != SUB:
        d = np.int64(space.variables[_below(state, space.variables.shape[0])])
    budget = space.smallest[d] + _below(state, 7)
    swap = d == 0 and dims[i] == 0 and _uniform(state) < 0.5
    k = _grow_piece(state, d, budget, space, piece, 0 if swap else m)
    if k == 0:
        return 0
    _copy_node(parent, lo, hi, piece, k if swap else 0)
    _put(piece, m + k, op, 0.0)
    return _splice(parent, n, lo, hi, piece, m + k + 1, child)


@compiled
def _has(ops, op):
    found = False
    for k in range(ops.shape[0]):
        found = found or ops[k] == op
    return found


@compiled
def _put_group(state, space, piece, at):
    """Write a column or product of powers without dimension; return its length or 0."""
    plain = 0
    for v in range(space.variables.shape[0]):
        plain += 1 if space.variables[v] == 0 else 0
    if plain == 0 or _uniform(state) < 0.3:
        tokens = piece[0]
        k = _draw_monomial(state, 0, space.library, tokens, at)
        for j in range(k // 2):
            a, b = tokens[at + j], tokens[at + k - 1 - j]
            tokens[at + j], tokens[at + k - 1 - j] = b, a
        piece[1][at : at + k, :] = 0.0
        piece[2][at : at + k] = 0
        if k > 0:
            return k
    pick = _below(state, max(plain, 1))
    for v in range(space.variables.shape[0]):
        if space.variables[v] == 0:
            if pick == 0:
                _put(piece, at, VARIABLE + v, 0.0)
            pick -= 1
    return 1 if plain > 0 else 0


@compiled
def _multiply(state, space, parent, n, i, start, piece, child):
    """Multiply or divide a node by g, 1 + g or sqrt(1 + g), g without dimension.

    g is a column, a product of powers or a function of one. Such factors (saturation,
    decay, screening, relativity, one more variable in a product) make up many laws, and
    growing one by chance takes long.
    """
    lo, hi = start[i], i + 1
    m = _copy_node(parent, lo, hi, piece, 0)
    if m + 20 > piece[0].shape[0]:
        return 0
    operator = MUL if _uniform(state) < 0.5 else DIV
    sum_ = 0
    if _uniform(state) < 0.5:
        sum_ = ADD if _uniform(state) < 0.5 else SUB
        _put(piece, m, FIXED, 1.0)
        m += 1
    k = _put_group(state, space, piece, m)
    if k == 0:
        return 0
    m += k
    if _uniform(state) < 0.3:
        f = space.ops[_below(state, space.ops.shape[0])]
        if f == EXP and _uniform(state) < 0.5:
            _put(piece, m, FIXED, -1.0)
            _put(piece, m + 1, MUL, 0.0)
            m += 2
        if f >= UNARY:
            _put(piece, m, f, 0.0)
            m += 1
    if sum_ != 0:
        _put(piece, m, sum_, 0.0)
        m += 1
        if _uniform(state) < 0.3 and _has(space.ops, SQRT):
            _put(piece, m, SQRT, 0.0)
            m += 1
    if not _has(space.ops, operator) or (sum_ != 0 and not _has(space.ops, sum_)):
        return 0
    _put(piece, m, operator, 0.0)
    return _splice(parent, n, lo, hi, piece, m + 1, child)


@compiled
def _shorten(state, parent, n, i, dims, start, child):
    """Replace a node by one of its descendants of the same dimension."""
    tokens, C, cdim = parent
    lo = start[i]
    below = i - lo
    if below == 0:
        return 0
    begin = _below(state, below)
    for j in range(below):
        q = lo + (begin + j) % below
        if dims[q] == dims[i]:
            a = start[q]
            piece = (tokens[a : q + 1], C[a : q + 1], cdim[a : q + 1])
            return _splice(parent, n, lo, i + 1, piece, q + 1 - a, child)
    return 0


@compiled
def _change_constants(state, parent, n, child):
    """Scale all constants by random factors, or draw them anew."""
    _splice(parent, n, 0, 0, child, 0, child)
    changed = False
    for t in range(n):
        if parent[0][t] <= PRIVATE:
            changed = True
            if _uniform(state) < 0.1:
                child[1][t, :] = _random_constant(state)
            else:
                child[1][t] *= np.exp(0.5 * _normal(state))
    return n if changed else 0


@compiled
def breed_rows(seeds, first, second, rates, space, PT, PN, PC, PD, T, N, C, Dm, H):
    """Make one offspring per row from parents ``first[p]`` and ``second[p]``.

    ``rates`` are the cumulative chances of crossover, new subtree, new token, insertion,
    deletion, changed constants and new factor. ``N[p] = 0`` where no acceptable offspring
    was found.
    """
    state = np.zeros(1, dtype=np.uint64)
    L = T.shape[1]
    dims, dims2 = np.zeros(L, dtype=np.int64), np.zeros(L, dtype=np.int64)
    start, start2 = np.zeros(L, dtype=np.int64), np.zeros(L, dtype=np.int64)
    hashes = np.zeros(L, dtype=np.uint64)
    piece = (
        np.zeros(2 * L, dtype=np.int16),
        np.zeros((2 * L, C.shape[2])),
        np.zeros(2 * L, dtype=np.int64),
    )
    anything = np.int64(-1)
    for p in range(T.shape[0]):
        state[0] = seeds[p]
        N[p] = 0
        a, b = first[p], second[p]
        parent, nA = (PT[a], PC[a], PD[a]), PN[a]
        other, nB = (PT[b], PC[b], PD[b]), PN[b]
        child = (T[p], C[p], Dm[p])
        annotate(parent[0], nA, parent[2], space, anything, dims, start, hashes)
        for _try in range(6):
            i = _below(state, nA)
            u = _uniform(state)
            if u < rates[0]:
                annotate(other[0], nB, other[2], space, anything, dims2, start2, hashes)
                n = _cross(
                    state, space, parent, nA, other, nB, i, dims, start, dims2, start2, child
                )
            elif u < rates[1]:
                budget = space.smallest[dims[i]] + _below(state, 10)
                m = _grow_piece(state, dims[i], budget, space, piece, 0)
                n = _splice(parent, nA, start[i], i + 1, piece, m, child) if m > 0 else 0
            elif u < rates[2]:
                n = _change_token(state, space, parent, nA, i, dims, child)
            elif u < rates[3]:
                n = _wrap(state, space, parent, nA, i, dims, start, piece, child)
            elif u < rates[4]:
                n = _shorten(state, parent, nA, i, dims, start, child)
            elif u < rates[5]:
                n = _change_constants(state, parent, nA, child)
            else:
                n = _multiply(state, space, parent, nA, i, start, piece, child)
            if n > 0 and annotate(T[p], n, Dm[p], space, space.target, dims2, start2, hashes):
                N[p] = n
                H[p] = hashes[n - 1]
                break
