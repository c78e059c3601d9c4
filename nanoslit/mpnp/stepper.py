r"""Variable-step, variable-order BDF on the amounts of ions themselves.

The derivative of the polynomial through the newest k + 1 values of c (here the amounts
S c of the nodes) is taken at the new time: dc/dt = a_0 c_{n+1} + sum_j a_j c_{n+1-j}.
It is linear in c, so ion content and charge are conserved exactly, and the same formula
applied to the displacement gives a total current that is equal on every cut.

Local error of order q from divided differences of c over q + 2 points,

    err_q = prod_{j<q} (t_{n+1} - t_{n-j}) c[t_{n+1}, ..., t_{n-q}] / a_0(q),

weighted by tol (c + c_bulk). Order and step follow the usual maximum-efficiency rule
(Hairer, Norsett & Wanner, Solving ODEs I, III.7; II, V). The history restarts at every
kink of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["MAX_ORDER", "History", "Proposal", "bdf_weights", "propose"]

MAX_ORDER = 5
_GROWTH = {1: 4.0, 2: 2.0, 3: 1.8, 4: 1.6, 5: 1.5}
_SAFETY = 0.8


def bdf_weights(times: Floats) -> Floats:
    """Return weights a_j of the derivative at times[0] from values at all times.

    Parameters
    ----------
    times : ndarray, shape (k + 1,)
        Newest first; distinct.
    """
    dt = times[0] - times[1:]
    # derivatives at t_0 of the Lagrange polynomials of the earlier points
    earlier = -dt.prod() / (dt**2 * _gaps(dt).prod(axis=0))
    return np.concatenate([[(1.0 / dt).sum()], earlier])


def extrapolate(times: Floats, at: float) -> Floats:
    """Return the weights of polynomial extrapolation from ``times`` to ``at``."""
    towards = np.where(np.eye(times.size, dtype=bool), 1.0, at - times)
    return np.asarray((towards / _gaps(times)).prod(axis=1))


def divided_difference(times: Floats) -> Floats:
    """Return the weights of the divided difference over all ``times``."""
    return np.asarray(1.0 / _gaps(times).prod(axis=1))


def _gaps(times: Floats) -> Floats:
    """Return t_i - t_j, and 1 on the diagonal."""
    return times[:, None] - times[None, :] + np.eye(times.size)


@dataclass
class History:
    """Accepted states since the last kink, newest first.

    Attributes
    ----------
    times : list of float
        Dimensionless.
    states : list of ndarray, shape (n_owned, fields)
    stored : list of ndarray, shape (n_owned, n_ions)
        Amounts of ions S c(u).
    observed : list of ndarray
        Linear functionals whose time derivative is reported (charges, displacement).
    order : int
        Order of the next step.
    step : float
        Length of the next step.
    steps_at_order : int
        Accepted steps since the order or the step changed.
    """

    times: list[float] = field(default_factory=list)
    states: list[Floats] = field(default_factory=list)
    stored: list[Floats] = field(default_factory=list)
    observed: list[Floats] = field(default_factory=list)
    order: int = 1
    step: float = 0.0
    steps_at_order: int = 0

    def push(self, t: float, u: Floats, stored: Floats, observed: Floats) -> None:
        """Add an accepted state; keep what order MAX_ORDER and its control need."""
        self.times.insert(0, t)
        self.states.insert(0, u)
        self.stored.insert(0, stored)
        self.observed.insert(0, observed)
        self._keep(MAX_ORDER + 2)

    def restart(self, step: float) -> None:
        """Forget all but the newest state (at a kink)."""
        self._keep(1)
        self.order, self.step, self.steps_at_order = 1, step, 0

    def _keep(self, n: int) -> None:
        for values in (self.times, self.states, self.stored, self.observed):
            del values[n:]

    def weights(self, t: float) -> Floats:
        """Return the BDF weights of a step of the present order to time t."""
        return bdf_weights(np.array([t, *self.times[: self.order]]))

    def old_part(self, weights: Floats, values: list[Floats]) -> Floats:
        """Return the contribution of earlier values to the time derivative."""
        return sum(
            (w * v for w, v in zip(weights[1:], values, strict=False)), np.zeros_like(values[0])
        )

    def predict(self, t: float, values: list[Floats], order: int | None = None) -> Floats:
        """Return the extrapolation of ``values`` to time t through order + 1 points."""
        n = min((self.order if order is None else order) + 1, len(self.times))
        w = extrapolate(np.array(self.times[:n]), t)
        return sum((a * v for a, v in zip(w, values, strict=False)), np.zeros_like(values[0]))

    def error(self, t: float, stored: Floats, order: int) -> Floats | None:
        """Return the local error of S c for a step of an order, None without history."""
        if order == 1 and len(self.times) == 1:
            return 0.5 * (stored - self.stored[0])  # no curvature known yet: pessimistic
        if len(self.times) < order + 1 or order < 1 or order > MAX_ORDER:
            return None
        times = np.array([t, *self.times[: order + 1]])
        w = divided_difference(times)
        difference = w[0] * stored
        for a, v in zip(w[1:], self.stored, strict=False):
            difference = difference + a * v
        scale = np.prod(t - times[1 : order + 1]) / (1.0 / (t - times[1 : order + 1])).sum()
        return np.asarray(scale * difference)


@dataclass(frozen=True)
class Proposal:
    """What the error control says about a step: accept it? next order and step."""

    accept: bool
    order: int
    step: float


def propose(history: History, taken: float, errors: dict[int, float]) -> Proposal:
    """Decide on a step of length ``taken`` from its weighted errors by order.

    Parameters
    ----------
    history : History
        Before the step is pushed.
    taken : float
        Length of the step.
    errors : dict of int to float
        Weighted error (1 is the tolerance) of the order used and its neighbours.
    """
    k = history.order
    if errors[k] > 1.0:
        factor = max(0.2, _SAFETY * errors[k] ** (-1 / (k + 1)))
        lower = k - 1 if k > 1 and errors.get(k - 1, np.inf) < errors[k] else k
        return Proposal(False, lower, taken * factor)
    factors = {q: _SAFETY * max(e, 1e-12) ** (-1 / (q + 1)) for q, e in errors.items()}
    if history.steps_at_order < k:  # let the formula fill with equal steps first
        factors = {k: factors[k]}
        if len(history.times) > 1 and k > 1:
            return Proposal(True, k, taken * min(1.0, factors[k] / _SAFETY))
    order = max(factors, key=lambda q: (factors[q], -q))
    if order != k and factors[order] < 1.1 * factors[k]:
        order = k
    factor = min(factors[order], _GROWTH[order])
    if 0.9 < factor < 1.3:  # equal steps keep the factorisation
        factor = 1.0
    return Proposal(True, order, taken * factor)
