"""The ladder integrator in NumPy: the same steps as the compiled kernel, array-wise.

Arrays are (nodes, circuits); every operation runs over all circuits that still move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit import rodas
from nanoslit.circuit.drive import CURRENT, POTENTIAL
from nanoslit.circuit.rodas import A_MATRIX, ALPHA, C_MATRIX, D_TIME, DENSE_3, DENSE_4

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.integrator import Job, Outcome

    Array = NDArray[np.float64]

__all__ = ["integrate"]

BLOCK = 24_000  # nodes x circuits in one pass: stays in the cache
NODE_BLOCK = 40_000  # when all nodes are stored
KEPT = 0.85  # share of moving circuits below which the others are left out
POINT_BLOCK = 20_000  # stored points placed in one pass

MAX_RECORDS = 4000


def integrate(job: Job, out: Outcome, second: bool, threads: int | None) -> None:
    """Fill ``out``; the arguments are those of the compiled back end."""
    circuits, n = job.start.shape
    block = max(1, (NODE_BLOCK if second else BLOCK) // n)
    for first in range(0, circuits, block):
        _Block(job, slice(first, min(first + block, circuits))).run(out, second)


def _polynomial(c: Array, t: Array) -> Array:
    return np.asarray(c[0] + t * (c[1] + t * (c[2] + t * c[3])))


@dataclass
class _Records:
    """Accepted steps of a piece: (7, steps, circuits), and all nodes on request."""

    data: Array
    count: NDArray[np.int64]
    nodes: list[tuple[Any, ...]]

    @classmethod
    def empty(cls, circuits: int) -> _Records:
        return cls(np.zeros((7, 64, circuits)), np.zeros(circuits, np.int64), [])

    def add(self, who: NDArray[np.int64], values: tuple[Array, ...]) -> None:
        if self.count[who].max(initial=0) >= self.data.shape[1]:
            self.data = np.concatenate([self.data, np.zeros_like(self.data)], axis=1)
        for row, value in enumerate(values):
            self.data[row, self.count[who], who] = value
        self.count[who] += 1


class _Block:
    """A block of circuits that are integrated together."""

    def __init__(self, job: Job, rows: slice) -> None:
        self.job, self.rows = job, rows
        self.u = job.start[rows].T.copy()
        self.cap = job.capacitance[rows].T.copy()
        self.par = job.law.parameters[:, rows].transpose(0, 2, 1).copy()
        self.go = job.g_open[rows]
        self.scale = job.current_scale[rows].copy()
        self.scale_u = job.potential_scale[rows]
        self.strict = job.strictness[rows]
        self.lo, self.hi = job.lower[rows], job.upper[rows]
        self.begin = np.zeros(self.u.shape[1])
        self.law = job.law

    def run(self, out: Outcome, second: bool) -> None:
        """Integrate all pieces."""
        for piece in range(self.job.drive.pieces):
            records = self.piece(piece, out, second)
            out.ends[self.rows, piece] = self.u.T
            self.store(piece, records, out, second)

    # --- one piece ---------------------------------------------------------------------
    def piece(self, p: int, out: Outcome, second: bool) -> _Records:
        """Advance every circuit to the end of piece p."""
        drive = self.job.drive
        kind, smallest = int(drive.kinds[p]), float(drive.smallest[p])
        self.length = drive.lengths[self.rows, p]
        self.curve = drive.curves[self.rows, p].T.copy()
        self.limit = drive.limits[self.rows, p]
        self.t = np.zeros_like(self.begin)
        self.h = self.first_step(kind, smallest)
        self.refused = np.zeros(len(self.begin), bool)
        records = _Records.empty(len(self.begin))
        current = np.flatnonzero(out.status[self.rows] == 0)
        active = np.ones(current.size, bool)
        self.cut(current)
        while active.any():
            # those that have arrived are computed along until leaving them out pays
            if active.sum() < KEPT * current.size or out.status[self.rows].any():
                current = current[active]
                active = np.ones(current.size, bool)
                self.cut(current)
            active = self.attempt(current, active, kind, smallest, records, out, second)
        return records

    def cut(self, current: NDArray[np.int64]) -> None:
        """Copy the constants of some circuits, which the steps read many times."""
        self.pick: Any = slice(None) if current.size == len(self.begin) else current
        self.some_par = self.par[:, :, self.pick]
        self.some_cap = self.cap[:, self.pick]

    def first_step(self, kind: int, smallest: float) -> Array:
        """Return a first step that resolves the fastest node."""
        rate = self.job.g_first[self.rows] + (self.go if kind == POTENTIAL else 0.0)
        h = 0.5 * self.cap[0] / rate
        h = np.maximum(np.minimum(h, 0.05 * self.length), smallest * self.length)
        if kind == CURRENT:
            room = self.limit - self.u[0] - self.curve[0] / self.go
            met = room * np.sign(self.curve[0]) <= rodas.EVENT_TOLERANCE * self.scale_u
            h = np.where(met, 1e-12 * self.length, h)
        return np.asarray(h)

    def attempt(
        self,
        current: NDArray[np.int64],
        active: NDArray[np.bool_],
        kind: int,
        smallest: float,
        records: _Records,
        out: Outcome,
        second: bool,
    ) -> NDArray[np.bool_]:
        """Try one step of the circuits ``current``; return which are not at the end."""
        pick = self.pick
        u, t = self.u[:, pick], self.t[pick]
        rest = np.where(active, self.length[pick] - t, self.length[pick])
        h = self.h[pick]
        h = np.where(h >= 0.999 * rest, rest, np.where(h > 0.5 * rest, 0.5 * rest, h))
        go = self.go[pick] if kind == POTENTIAL else np.zeros(current.size)
        new, k, slopes = self.step(pick, u, t, h, go, kind)
        kink = self.law.kink(self.some_par[:, 1:], u, new)
        error = self.error(pick, k[5], slopes, go, kink)
        out.steps[self.rows][current] += active
        take, over, after = self.judge(pick, h, error, smallest, out, current[active], active)
        if kind == CURRENT:
            self.meet_limit(pick, u, new, take, over, after)
        self.h[pick] = after
        take &= active
        who = current[take]
        if who.size:
            self.keep(who, take, u, new, t, h, k, go, kind, records, out, second)
        full = records.count[who] >= MAX_RECORDS
        out.status[self.rows][who[full & ~over[take]]] = rodas.TOO_MANY_STEPS
        going = active & ~(take & over) & (out.status[self.rows][current] == 0)
        return np.asarray(going)

    def step(
        self, pick: Any, u: Array, t: Array, h: Array, go: Array, kind: int
    ) -> tuple[Array, list[Array], tuple[Array, Array]]:
        """Return the new state, the stages and the slopes of the resistors."""
        law, par, cap = self.law, self.some_par, self.some_cap
        curve = self.curve[:, pick]
        f = self.go[pick] if kind == POTENTIAL else np.ones_like(h)
        change = f * (curve[1] + t * (2 * curve[2] + t * 3 * curve[3])) * h
        j, below, above = law.slopes(par[:, 1:], u[:-1], u[1:])
        ch = cap / h
        diagonal = ch / rodas.GAMMA
        extra = np.zeros_like(u)
        extra[0] += go
        extra[1:] -= above
        extra[:-1] += below
        if law.varies:
            ig, slope = law.capacity(par[:, 1:], u[1:])
            net = j.copy()
            net[:-1] -= j[1:]
            extra[1:] = extra[1:] * ig - net * slope
            low = -below * ig
            up = above.copy()
            up[1:] *= ig[:-1]
        else:
            low, up = -below, above
        inverse, w = _factorise(diagonal + extra, low, up)
        k: list[Array] = []
        x, y, part = u.copy(), np.empty_like(u), np.empty_like(u)
        for i in range(6):
            if i == 5:
                x += k[4]  # the last stage starts where the one before ended
            elif i:
                np.copyto(x, u)
                _add(x, A_MATRIX[i], k, part)
            if i:
                y[...] = 0.0
                _add(y, C_MATRIX[i], k, part)
                y *= ch
            else:
                y[...] = 0.0
            j = law.current(par[:, 1:], x[:-1], x[1:])
            if law.varies:
                net = j.copy()
                net[:-1] -= j[1:]
                y[1:] += net * law.capacity(par[:, 1:], x[1:])[0]
            else:
                y[1:] += j
                y[1:-1] -= j[1:]
            y[0] += f * _polynomial(curve, t + ALPHA[i] * h) - go * x[0] - j[0]
            y[0] += D_TIME[i] * change
            k.append(_solve(y.copy(), inverse, w, up))
        x += k[5]
        return x, k, (below, above)

    def error(
        self, pick: Any, e: Array, slopes: tuple[Array, Array], go: Array, kink: Array
    ) -> Array:
        """Return the error of a step over what is allowed."""
        below, above = slopes
        flow = (kink * np.abs(below * e[:-1] + above * e[1:])).max(axis=0, initial=0.0)
        flow = np.maximum(flow, np.abs(go * e[0]))
        tolerance = self.job.tolerance
        error = np.maximum(
            flow / (tolerance.current * self.strict[pick] * self.scale[pick]),
            np.abs(e).max(axis=0)
            / (tolerance.potential * self.strict[pick] * self.scale_u[pick]),
        )
        return np.where(error < 1e12, error, 1e12)

    def judge(
        self,
        pick: Any,
        h: Array,
        error: Array,
        smallest: float,
        out: Outcome,
        alive: NDArray[np.int64],
        active: NDArray[np.bool_],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
        """Return which steps are taken, which reach the end, and the next steps."""
        length = self.length[pick]
        growth = rodas.SAFETY / np.sqrt(np.sqrt(np.maximum(error, 1e-8)))
        growth = np.clip(growth, rodas.MIN_GROWTH, rodas.MAX_GROWTH)
        floor = smallest * length
        bad = (error > 1.0) & ((h > floor * 1.0000001) | (error > 1e6))
        shorter = np.where((h > floor) & (floor > h * growth), floor, h * growth)
        short = bad & (h < 1e-15 * length)
        out.status[self.rows][alive[short[active]]] = rodas.UNDER_RESOLVED
        refused = self.refused[pick]
        wish = h * np.where(refused, np.minimum(growth, 1.0), growth)
        self.refused[pick] = bad
        over = ~bad & (self.t[pick] + h >= length * (1.0 - 1e-14))
        return ~bad, over, np.where(bad, shorter, wish)

    def meet_limit(
        self,
        pick: Any,
        u: Array,
        new: Array,
        take: NDArray[np.bool_],
        over: NDArray[np.bool_],
        after: Array,
    ) -> None:
        """End pieces at their potential limit; refuse steps beyond it (in place)."""
        c, go, limit = self.curve[0, pick], self.go[pick], self.limit[pick]
        sign, bound = np.sign(c), rodas.EVENT_TOLERANCE * self.scale_u[pick]
        beyond = sign * (new[0] + c / go - limit)
        room = sign * (limit - u[0] - c / go)
        limited = take & ~np.isnan(limit)
        far = limited & (beyond > bound) & (room > bound)
        met = limited & ~far & (beyond >= -bound)
        over[met] = True
        over[far] = False
        take[far] = False
        shorten = np.clip(room[far] / (room[far] + beyond[far]), 1e-3, 1.0)
        rest = self.length[pick] - self.t[pick]
        h = np.minimum(self._tried(pick, rest), rest)
        after[far] = h[far] * shorten
        refused = self.refused[pick]
        refused[far] = True
        self.refused[pick] = refused

    def _tried(self, pick: Any, rest: Array) -> Array:
        h = self.h[pick]
        return np.where(h >= 0.999 * rest, rest, np.where(h > 0.5 * rest, 0.5 * rest, h))

    def keep(
        self,
        who: NDArray[np.int64],
        take: NDArray[np.bool_],
        u: Array,
        new: Array,
        t: Array,
        h: Array,
        k: list[Array],
        go: Array,
        kind: int,
        records: _Records,
        out: Outcome,
        second: bool,
    ) -> None:
        """Record the accepted steps and move on."""
        k0 = [x[0, take] for x in k[:5]]
        q3 = sum(d * x for d, x in zip(DENSE_3, k0, strict=True))
        q4 = sum(d * x for d, x in zip(DENSE_4, k0, strict=True))
        everyone = who.size == len(self.begin)
        u1, h, t = (new if everyone else new[:, take]), h[take], t[take]
        if second:
            u0 = u[:, take]
            n3 = sum(d * x[:, take] for d, x in zip(DENSE_3, k, strict=False))
            n4 = sum(d * x[:, take] for d, x in zip(DENSE_4, k, strict=False))
            records.nodes.append((who, records.count[who].copy(), u0, u1, n3, n4))
        records.add(who, (t, h, u[0, take], u1[0], np.asarray(q3), np.asarray(q4)))
        outside = np.maximum((u1 - self.hi[who]).max(axis=0), (self.lo[who] - u1).max(axis=0))
        block = out.outside[self.rows]
        block[who] = np.maximum(block[who], outside)
        if everyone:
            self.u = u1
        else:
            self.u[:, who] = u1
        self.t[who] = t + h
        if kind == POTENTIAL:
            given = go[take] * _polynomial(self.curve[:, who], t + h)
            current = np.abs(given - go[take] * u1[0])
            self.scale[who] = np.maximum(self.scale[who], current)

    # --- what is stored ----------------------------------------------------------------
    def store(self, p: int, records: _Records, out: Outcome, second: bool) -> None:
        """Place the stored points of piece p and evaluate the signal there."""
        data = records.data[:, : records.count.max(initial=1)]
        if second:
            last = np.maximum(records.count - 1, 0)
            self.store_nodes(p, data, records, out)
        else:
            last = self.store_signal(p, data, records.count, out)
        columns = np.arange(len(last))
        length = data[0, last, columns] + data[1, last, columns]
        self.begin = self.begin + np.where(records.count > 0, length, 1.0)

    def store_signal(
        self, p: int, data: Array, count: NDArray[np.int64], out: Outcome
    ) -> NDArray[np.int64]:
        """Write times and signal of piece p, a few circuits at a time; return last steps."""
        kind = int(self.job.drive.kinds[p])
        layer = rodas.LAYER * float(self.job.drive.smallest[p])
        last = np.maximum(count - 1, 0)
        points = out.points
        times, signals, work = (x[self.rows, p] for x in (out.time, out.signal, out.work))
        several = max(1, POINT_BLOCK // points)
        for first in range(0, len(count), several):
            part = slice(first, first + several)
            # one row of steps for each circuit
            cells = np.ascontiguousarray(data[:6, :, part].transpose(0, 2, 1))
            curve = self.curve[:, part, None]
            valid = np.arange(cells.shape[2]) < count[part, None]
            given, signal = _cubics(cells, curve, self.go[part, None], kind)
            work[part] = _work(given, signal, np.where(valid, cells[1], 0.0))
            ends = cells[0] + cells[1]
            length = np.take_along_axis(ends, last[part, None], 1)
            length = np.where(count[part, None] > 0, length, 1.0)  # of one that failed
            step, x = _place(
                cells, valid, last[part], length, layer * self.length[part, None], curve, points
            )
            begin = self.begin[part, None]
            t0, h, s0, s1, s2, s3 = (
                v.ravel()[step] for v in (cells[0], cells[1], *signal)
            )  # fmt: skip
            times[part, :-1] = begin + (t0 + x * h).reshape(-1, points)
            signals[part, :-1] = (s0 + x * (s1 + x * (s2 + x * s3))).reshape(-1, points)
            at_end = signal[0] + signal[1] + signal[2] + signal[3]
            final = np.take_along_axis(at_end, last[part, None], 1)
            times[part, -1:] = begin + length
            signals[part, -1:] = final
        return last

    def store_nodes(self, p: int, data: Array, records: _Records, out: Outcome) -> None:
        """Evaluate all nodes at the stored times of piece p."""
        time = out.time[self.rows, p] - self.begin[:, None]
        nodes = out.nodes[self.rows, p]
        for who, count, u0, u1, q3, q4 in records.nodes:
            t, h = data[0, count, who], data[1, count, who]
            end = np.where(count == records.count[who] - 1, np.inf, (t + h) * (1 + 1e-14))
            begin = np.where(count == 0, -np.inf, t * (1 + 1e-14))
            inside = (time[who] > begin[:, None]) & (time[who] <= end[:, None])
            row, point = np.nonzero(inside)
            x = np.clip((time[who[row], point] - t[row]) / h[row], 0.0, 1.0)
            value = u0[:, row] + x * (
                u1[:, row] - u0[:, row] + (1.0 - x) * (q3[:, row] + x * q4[:, row])
            )
            nodes[who[row], point] = value.T


def _cubics(cells: Array, c: Array, go: Array, kind: int) -> tuple[list[Array], list[Array]]:
    """Return given signal and answer as cubics in the fraction x of a step.

    Coefficients of 1, x, x^2, x^3, each (circuits, steps): the protocol is a cubic of
    time, the potential of the open space one of x.
    """
    t, h, u0, u1, q3, q4 = cells
    given = [
        c[0] + t * (c[1] + t * (c[2] + t * c[3])),
        h * (c[1] + t * (2 * c[2] + t * 3 * c[3])),
        h**2 * (c[2] + 3 * t * c[3]),
        h**3 * c[3],
    ]
    u = [u0, u1 - u0 + q3, q4 - q3, -q4]
    if kind == POTENTIAL:
        return given, [go * (g - v) for g, v in zip(given, u, strict=True)]
    return given, [v + g / go for g, v in zip(given, u, strict=True)]


def _work(one: list[Array], two: list[Array], h: Array) -> Array:
    """Return the integral of the product of two cubics over all steps, (circuits,)."""
    total = sum(a * b / (i + k + 1.0) for i, a in enumerate(one) for k, b in enumerate(two))
    # one after the other, so that a circuit gives the same bits in any batch
    return np.asarray(np.cumsum(total * h, axis=1)[:, -1])


def _place(
    cells: Array,
    valid: NDArray[np.bool_],
    last: NDArray[np.int64],
    length: Array,
    layer: Array,
    c: Array,
    points: int,
) -> tuple[NDArray[np.int64], Array]:
    """Return step (of the flattened cells) and fraction of all stored points but the last.

    Equal shares of sqrt(|signal''|), as :func:`nanoslit.circuit.kernel.place_points`.
    """
    parts = rodas.PARTS
    t, h, u0, u1, q3, q4 = cells
    circuits, steps = t.shape
    weight = np.empty((circuits, steps, parts))
    factor = np.where(t + h <= layer, rodas.LAYER_WEIGHT, 1.0) * valid / parts
    bend, bend_slope = 2 * (q4 - q3), 6 * q4
    least = rodas.LEAST_BEND * np.maximum(np.abs(bend), np.abs(2 * q3 + 4 * q4))
    straight = not c[2:].any()
    for g in range(parts):
        x = (g + 0.5) / parts
        size = np.maximum(np.abs(bend - bend_slope * x), least)
        size = np.maximum(size - rodas.BEND_FLOOR * np.abs(u1 - u0), 0.0)
        if not straight:
            size += np.abs((2 * c[2] + 6 * c[3] * (t + x * h)) * h**2)
        weight[:, :, g] = factor * np.sqrt(size)
    weight = weight.reshape(circuits, -1)
    # one after the other, so that a circuit gives the same bits in any batch
    total = np.cumsum(weight, axis=1)[:, -1:]
    bent = total > 0
    even = np.where(bent, rodas.EVEN_SHARE / length, 1.0 / length)
    curved = np.where(bent, (1.0 - rodas.EVEN_SHARE) / np.where(bent, total, 1.0), 0.0)
    share = (even / parts) * (h * valid).repeat(parts, axis=1) + curved * weight
    done = np.cumsum(share, axis=1)
    until = np.minimum((done * points).astype(np.int64) + 1, points)
    index = np.arange(steps * parts)
    until[index >= parts * last[:, None] + parts - 1] = points
    counts = np.diff(until, axis=1, prepend=0)
    # fraction of the step as a straight line in the number of the point
    safe = np.where(share > 0, share, 1.0)
    slope = 1.0 / (points * parts * safe)
    first = (index % parts - (done - share) / safe) / parts
    place = np.repeat(np.arange(until.size), counts.ravel())
    j = np.tile(np.arange(points), circuits)
    x = np.clip(first.ravel()[place] + j * slope.ravel()[place], 0.0, 1.0)
    return place // parts, x


def _add(total: Array, weights: Array, k: list[Array], part: Array) -> None:
    """Add the weighted stages to ``total``; ``part`` is scratch."""
    for weight, stage in zip(weights, k, strict=False):
        if weight != 0.0:
            np.multiply(stage, weight, out=part)
            total += part


def _factorise(diagonal: Array, low: Array, up: Array) -> tuple[Array, Array]:
    """Factorise tridiagonal matrices; low and up have one row less than diagonal."""
    inverse = np.empty_like(diagonal)
    w = np.empty_like(low)
    inverse[0] = 1.0 / diagonal[0]
    for k in range(1, len(diagonal)):
        w[k - 1] = low[k - 1] * inverse[k - 1]
        inverse[k] = 1.0 / (diagonal[k] - w[k - 1] * up[k - 1])
    return inverse, w


def _solve(y: Array, inverse: Array, w: Array, up: Array) -> Array:
    part = np.empty_like(y[0])
    for k in range(1, len(y)):
        y[k] -= np.multiply(w[k - 1], y[k - 1], out=part)
    y[-1] *= inverse[-1]
    for k in range(len(y) - 2, -1, -1):
        y[k] -= np.multiply(up[k], y[k + 1], out=part)
        y[k] *= inverse[k]
    return y
