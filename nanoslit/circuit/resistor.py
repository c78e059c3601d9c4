"""The law of the ladder's resistors: the linear one, or any expression.

A resistor k lies between node k-1 (potential a) and node k (potential b). A law turns
(a, b) into the current J and its derivatives, for NumPy arrays of all resistors at once
and, compiled by numba, for one resistor in the inner loop of the kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.rodas import KINK, KINK_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["NO_SATURATION", "LinearResistor", "Resistor"]

NO_SATURATION = 1e300


class Resistor:
    """A law with its parameters.

    Attributes
    ----------
    parameters : ndarray, shape (parameters, circuits, nodes)
        Constants of the resistor that feeds each node; the column of node 0 is unused.
    signature : tuple or None
        What a compiled kernel depends on; ``None`` for the built-in linear law.
    varies : bool
        Whether the capacitance depends on potential.
    """

    parameters: Array
    signature: tuple[Any, ...] | None = None
    varies = False

    def current(self, p: Array, a: Array, b: Array) -> Array:
        """Return J for parameters p (parameters, ...) and potentials a, b (...)."""
        raise NotImplementedError

    def slopes(self, p: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return J, dJ/da and dJ/db."""
        raise NotImplementedError

    def capacity(self, p: Array, u: Array) -> tuple[Array, Array]:
        """Return 1/g and (1/g)' for the capacitance factor g(u) of a slit."""
        return np.ones_like(u), np.zeros_like(u)

    def charge(self, p: Array, u: Array) -> Array:
        """Return the charge of a slit over its C_slit: the integral of g [V]."""
        return u

    def kinked(self, lower: Array, upper: Array) -> NDArray[np.bool_]:
        """Say of which circuits the law has a kink within potentials lower..upper."""
        return np.asarray((lower < 0) & (upper > 0))

    def kink(self, p: Array, old: Array, new: Array) -> Array:
        """Return the factor of the error of a step, larger if it straddles a kink.

        ``old`` and ``new`` are the potentials of all nodes before and after.
        """
        crosses = old * new < 0
        return np.where(crosses[:-1] | crosses[1:], KINK, 1.0)

    def compiled_parts(self) -> dict[str, Any]:
        """Return what :func:`nanoslit.circuit.kernel.specialise` replaces."""
        raise NotImplementedError

    def resistance(self, p: Array, a: Array, b: Array) -> Array:
        """Return (a - b)/J, at vanishing current its limit [Ohm or Ohm m]."""
        j, da, db = self.slopes(p, a, b)
        still = np.abs(a - b) < 1e-12 * (np.abs(a) + np.abs(b) + 1e-300)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(still, 2.0 / (da - db), (a - b) / j)

    def rest_conductance(self) -> Array:
        """Return 1/R of the uncharged ladder, shape (circuits, slits) [S or S/m]."""
        p = self.parameters[:, :, 1:]
        zero = np.zeros(p.shape[1:])
        return self.slopes(p, zero, zero)[1]


@dataclass
class LinearResistor(Resistor):
    """R = R_c - R_c gamma s, where s = |w| or w, limited to [-cap, cap].

    w = weight of a x charge at a + weight of b x charge at b.

    Rows of ``parameters``: R_c, R_c gamma, weight of a, weight of b (both over Q_max and
    the saturation), cap, sign (-1 for the absolute charge, 1 for the signed one).
    """

    parameters: Array

    def kinked(self, lower: Array, upper: Array) -> NDArray[np.bool_]:
        """Say of which circuits the law has a kink; see :meth:`Resistor.kinked`."""
        p = self.parameters[:, :, 1:]
        largest = np.maximum(np.abs(lower), np.abs(upper))[:, None]
        saturates = (np.abs(p[2]) + np.abs(p[3])) * largest > p[4]
        crosses = ((lower < 0) & (upper > 0))[:, None] & (p[5] < 0)
        return np.asarray(((saturates | crosses) & (p[1] != 0)).any(axis=1))

    def kink(self, p: Array, old: Array, new: Array) -> Array:
        """Return the factor of the error of a step; see :meth:`Resistor.kink`."""
        before, after = (p[2] * u[:-1] + p[3] * u[1:] for u in (old, new))
        crosses = (before * after < 0) & (np.abs(before - after) > KINK_SIZE) & (p[5] < 0)
        passes = (np.abs(before) < p[4]) != (np.abs(after) < p[4])
        return np.where(crosses | passes, KINK, 1.0)

    @cached_property
    def _parts(self) -> tuple[bool, bool]:
        """Say whether any resistor follows the node before it, and whether any saturates."""
        return bool(np.any(self.parameters[2])), bool(np.any(self.parameters[4] < 1e299))

    def _state(self, p: Array, a: Array, b: Array) -> tuple[Array, Array]:
        raw = p[3] * b
        if self._parts[0]:
            raw += p[2] * a
        other = p[5] * raw
        return raw, other

    def current(self, p: Array, a: Array, b: Array) -> Array:
        """Return J; see :meth:`Resistor.current`."""
        s, other = self._state(p, a, b)
        np.maximum(s, other, out=s)
        if self._parts[1]:
            np.clip(s, -p[4], p[4], out=s)
        s *= p[1]
        np.subtract(p[0], s, out=s)
        j = np.subtract(a, b, out=other)
        j /= s
        return j

    def slopes(self, p: Array, a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Return J and its derivatives; see :meth:`Resistor.slopes`."""
        raw, other = self._state(p, a, b)
        s = np.maximum(raw, other)
        slope = np.where(np.abs(s) < p[4], np.where(raw >= other, 1.0, p[5]), 0.0)
        g = 1.0 / (p[0] - p[1] * np.clip(s, -p[4], p[4]))
        j = (a - b) * g
        x = j * g * p[1] * slope
        return j, g + x * p[2], x * p[3] - g
