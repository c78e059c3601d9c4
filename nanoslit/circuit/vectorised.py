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

BLOCK = 60_000  # nodes x circuits in one pass: stays in the cache
NODE_BLOCK = 40_000  # when all nodes are stored

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
        alive = np.flatnonzero(out.status[self.rows] == 0)
        while alive.size:
            alive = self.attempt(alive, kind, smallest, records, out, second)
        return records

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
        alive: NDArray[np.int64],
        kind: int,
        smallest: float,
        records: _Records,
        out: Outcome,
        second: bool,
    ) -> NDArray[np.int64]:
        """Try one step of the circuits ``alive``; return those not at the end."""
        everyone = alive.size == len(self.begin)
        pick: Any = slice(None) if everyone else alive
        rest = self.length[pick] - self.t[pick]
        h = self.h[pick]
        h = np.where(h >= 0.999 * rest, rest, np.where(h > 0.5 * rest, 0.5 * rest, h))
        u, t = self.u[:, pick], self.t[pick]
        go = self.go[pick] if kind == POTENTIAL else np.zeros(alive.size)
        new, k, slopes = self.step(pick, u, t, h, go, kind)
        kink = self.law.kink(self.par[:, 1:, pick], u, new)
        error = self.error(pick, k[5], slopes, go, kink)
        out.steps[self.rows][alive] += 1
        take, over, after = self.judge(pick, h, error, smallest, out, alive)
        if kind == CURRENT:
            self.meet_limit(pick, u, new, take, over, after)
        self.h[pick] = after
        who = alive[take]
        if who.size:
            self.keep(who, take, u, new, t, h, k, go, kind, records, out, second)
        full = records.count[who] >= MAX_RECORDS
        out.status[self.rows][who[full & ~over[take]]] = rodas.TOO_MANY_STEPS
        going = ~(take & over) & (out.status[self.rows][alive] == 0)
        return np.asarray(alive[going])

    def step(
        self, pick: Any, u: Array, t: Array, h: Array, go: Array, kind: int
    ) -> tuple[Array, list[Array], tuple[Array, Array]]:
        """Return the new state, the stages and the slopes of the resistors."""
        law, par, cap = self.law, self.par[:, :, pick], self.cap[:, pick]
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
        x = u
        for i in range(6):
            x = _combine(u, A_MATRIX[i], k) if i else u
            j = law.current(par[:, 1:], x[:-1], x[1:])
            y = np.empty_like(u)
            y[0] = f * _polynomial(curve, t + ALPHA[i] * h) - go * x[0]
            y[1:] = j
            y[:-1] -= j
            if law.varies:
                y[1:] *= law.capacity(par[:, 1:], x[1:])[0]
            if i:
                y += ch * _combine(None, C_MATRIX[i], k)
            y[0] += D_TIME[i] * change
            k.append(_solve(y, inverse, w, up))
        return x + k[5], k, (below, above)

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
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Array]:
        """Return which steps are taken, which reach the end, and the next steps."""
        length = self.length[pick]
        growth = rodas.SAFETY / np.sqrt(np.sqrt(np.maximum(error, 1e-8)))
        growth = np.clip(growth, rodas.MIN_GROWTH, rodas.MAX_GROWTH)
        floor = smallest * length
        bad = (error > 1.0) & ((h > floor * 1.0000001) | (error > 1e6))
        shorter = np.where((h > floor) & (floor > h * growth), floor, h * growth)
        out.status[self.rows][alive[bad & (h < 1e-15 * length)]] = rodas.UNDER_RESOLVED
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
        u1, h, t = new[:, take], h[take], t[take]
        if second:
            u0 = u[:, take]
            n3 = sum(d * x[:, take] for d, x in zip(DENSE_3, k, strict=False))
            n4 = sum(d * x[:, take] for d, x in zip(DENSE_4, k, strict=False))
            records.nodes.append((who, records.count[who].copy(), u0, u1, n3, n4))
        records.add(who, (t, h, u[0, take], u1[0], np.asarray(q3), np.asarray(q4)))
        outside = np.maximum((u1 - self.hi[who]).max(axis=0), (self.lo[who] - u1).max(axis=0))
        block = out.outside[self.rows]
        block[who] = np.maximum(block[who], outside)
        self.u[:, who] = u1
        self.t[who] = t + h
        if kind == POTENTIAL:
            given = self.go[who] * _polynomial(self.curve[:, who], t + h)
            current = np.abs(given - go[take] * u1[0])
            self.scale[who] = np.maximum(self.scale[who], current)

    # --- what is stored ----------------------------------------------------------------
    def store(self, p: int, records: _Records, out: Outcome, second: bool) -> None:
        """Place the stored points of piece p and evaluate the signal there."""
        kind = int(self.job.drive.kinds[p])
        data = records.data[:, : records.count.max(initial=1)]
        count = records.count
        valid = np.arange(data.shape[1])[:, None] < count
        last = np.maximum(count - 1, 0)
        columns = np.arange(len(count))
        length = data[0, last, columns] + data[1, last, columns]
        length = np.where(count > 0, length, 1.0)  # of a circuit that failed
        points = out.time.shape[2] - 1
        if not second:
            layer = rodas.LAYER * float(self.job.drive.smallest[p]) * self.length
            step, x = _place(data, valid, last, length, layer, self.curve, points)
            cell = data[:, step, columns[:, None]]
            out.time[self.rows, p] = self.begin[:, None] + cell[0] + x * cell[1]
            out.time[self.rows, p, -1] = self.begin + length
            out.signal[self.rows, p] = self.signal(cell, x, kind)
            out.work[self.rows, p] = self.work(data, valid, kind)
        else:
            self.store_nodes(p, data, records, out)
        self.begin = self.begin + length

    def signal(self, cell: Array, x: Array, kind: int) -> Array:
        """Return the current, or the potential if the current is given."""
        c = self.curve[:, :, None]
        given = _polynomial(c, cell[0] + x * cell[1])
        v = cell[2] + x * (cell[3] - cell[2] + (1.0 - x) * (cell[4] + x * cell[5]))
        go = self.go[:, None]
        return np.asarray(go * (given - v) if kind == POTENTIAL else v + given / go)

    def work(self, data: Array, valid: NDArray[np.bool_], kind: int) -> Array:
        """Return the integral of potential times current (3-point Gauss)."""
        cell = data.transpose(0, 2, 1)
        total = np.zeros(cell.shape[1])
        for g, weight in ((-1, 5 / 18), (0, 4 / 9), (1, 5 / 18)):
            x = np.full(cell.shape[1:], 0.5 + g * 0.3872983346207417)
            given = _polynomial(self.curve[:, :, None], cell[0] + x * cell[1])
            power = weight * cell[1] * given * self.signal(cell, x, kind)
            total += np.cumsum(np.where(valid.T, power, 0.0), axis=1)[:, -1]
        return total

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


def _combine(base: Array | None, weights: Array, k: list[Array]) -> Array:
    total = None if base is None else base.copy()
    for weight, stage in zip(weights, k, strict=False):
        if weight != 0.0:
            if total is None:
                total = weight * stage
            else:
                total += weight * stage
    assert total is not None
    return total


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
    for k in range(1, len(y)):
        y[k] -= w[k - 1] * y[k - 1]
    y[-1] *= inverse[-1]
    for k in range(len(y) - 2, -1, -1):
        y[k] = (y[k] - up[k] * y[k + 1]) * inverse[k]
    return y


def _place(
    data: Array,
    valid: NDArray[np.bool_],
    last: NDArray[np.int64],
    length: Array,
    layer: Array,
    curve: Array,
    points: int,
) -> tuple[NDArray[np.int64], Array]:
    """Return step and fraction of each stored point, (circuits, points + 1)."""
    parts = rodas.PARTS
    middles = (np.arange(parts)[:, None] + 0.5) / parts
    t, h, q3, q4 = (data[i][:, None] for i in (0, 1, 4, 5))  # (steps, 1, circuits)
    forced = (2 * curve[2] + 6 * curve[3] * (t + middles * h)) * h**2
    bend = np.abs(2 * (q4 - q3) - 6 * q4 * middles) + np.abs(forced)
    weight = np.where(valid[:, None], np.sqrt(bend), 0.0) / parts
    weight *= np.where(t + h <= layer, rodas.LAYER_WEIGHT, 1.0)
    weight = weight.reshape(-1, len(length))
    # one after the other, so that a circuit gives the same bits in any batch
    total = np.cumsum(weight, axis=0)[-1]
    bent = total > 0
    even = np.where(bent, rodas.EVEN_SHARE / length, 1.0 / length)
    curved = np.where(bent, (1.0 - rodas.EVEN_SHARE) / np.where(bent, total, 1.0), 0.0)
    lengths = np.where(valid, data[1], 0.0).repeat(parts, axis=0)
    share = even * lengths / parts + curved * weight
    done = np.cumsum(share, axis=0)
    target = np.arange(points + 1) / points
    offset = 2.0 * np.arange(len(length))
    flat = (done + offset).T.ravel()
    part = np.searchsorted(flat, (target + offset[:, None]).ravel())
    part = part.reshape(len(length), -1) - len(done) * np.arange(len(length))[:, None]
    part = np.clip(part, 0, parts * last[:, None] + parts - 1)
    columns = np.arange(len(length))[:, None]
    share_of = share[part, columns]
    x = (target - (done[part, columns] - share_of)) / np.where(share_of > 0, share_of, 1)
    step = part // parts
    x = np.clip((part % parts + x) / parts, 0.0, 1.0)
    x[:, -1] = 1.0
    step[:, -1] = last
    return step, x
