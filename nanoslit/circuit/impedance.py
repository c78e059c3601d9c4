"""Small-signal impedance of the ladder around a bias.

At rest no current flows, so the derivative of a resistance with charge multiplies zero:
the linearised circuit is exactly the ladder with every R_k and C_k frozen at the bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.circuit.assembly import Reach
from nanoslit.circuit.curves import Column, Curve, unit_of
from nanoslit.errors import CaseError, CircuitError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from nanoslit.circuit.ladder import NanoCircuit

    Array = NDArray[np.float64]

__all__ = ["Spectrum", "at_rest", "impedance"]


@dataclass(frozen=True)
class Spectrum:
    """An impedance spectrum as a file asks for it.

    Parameters
    ----------
    lowest, highest : float
        Frequencies [Hz].
    per_decade : int
        Frequencies in a factor of ten.
    bias : float
        Potential of the electrode or cell [V].
    window : float, optional
        Largest |potential| of the protocol that ``q_max = "window"`` refers to [V].
    """

    lowest: float
    highest: float
    per_decade: int = 10
    bias: float = 0.0
    window: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.lowest < self.highest:
            raise CaseError(
                f"lowest = {self.lowest:g} Hz must be positive and below highest = "
                f"{self.highest:g} Hz"
            )

    @property
    def frequency(self) -> Array:
        """Frequencies, rising [Hz]."""
        decades = np.log10(self.highest / self.lowest)
        count = max(2, int(np.ceil(decades * self.per_decade)) + 1)
        return np.geomspace(self.lowest, self.highest, count)

    def of(self, circuit: NanoCircuit) -> NDArray[np.complex128]:
        """Return the impedance, (circuits, frequencies) [Ohm, ...]."""
        return impedance(circuit, self.frequency, self.bias, self.window)

    def curve(self, circuit: NanoCircuit) -> Curve:
        """Return the spectrum of one circuit."""
        z, ohm = self.of(circuit)[0], unit_of("Ohm", circuit)
        columns = {
            "frequency": Column("frequency", "Hz", self.frequency),
            "real": Column("Re(Z)", ohm, z.real),
            "imag": Column("Im(Z)", ohm, z.imag),
        }
        return Curve("impedance", columns, {"bias": self.bias})


def at_rest(circuit: NanoCircuit, bias: float, window: float | None) -> tuple[Array, Array]:
    """Return conductances of the resistors and capacitances of the nodes at rest.

    Shapes (circuits, slits) [S, ...] and (circuits, slits + 1) [F, ...].

    Raises
    ------
    CircuitError
        If Q_max refers to a window that is not given.
    """
    if circuit.cell == "symmetric":
        bias = 0.5 * bias
        window = None if window is None else 0.5 * window
    if circuit.q_max == "cycle":
        raise CircuitError("q_max = 'cycle' has no meaning at rest; use 'window' or a number")
    if window is None:
        if circuit.q_max == "window" and bias != 0 and circuit.depends_on_charge:
            raise CircuitError(
                "q_max = 'window' refers to the largest |potential| of a protocol: give "
                "window = that potential [V]"
            )
        window = abs(bias) or 1.0
    if abs(bias) > abs(window) * (1 + 1e-12):
        raise CircuitError(f"bias = {bias:g} V lies outside the window of {window:g} V")
    end = np.full(circuit.circuits, np.copysign(abs(window), bias))
    law = circuit.resistor(Reach(np.minimum(end, 0.0), np.maximum(end, 0.0)))
    p = law.parameters[:, :, 1:]
    u = np.full(p.shape[1:], float(bias))
    _, da, db = law.slopes(p, u, u)
    c = circuit.capacitance
    c[:, 1:] /= law.capacity(p, u)[0]
    return 0.5 * (da - db), c


def impedance(
    circuit: NanoCircuit,
    frequency: ArrayLike,
    bias: float = 0.0,
    window: float | None = None,
) -> NDArray[np.complex128]:
    """Return the impedance spectrum around rest at a bias: a continued fraction.

    Parameters
    ----------
    circuit : NanoCircuit
    frequency : array_like, shape (frequencies,)
        [Hz], positive.
    bias : float
        Potential of the electrode or cell [V].
    window : float, optional
        Largest |potential| of the protocol that ``q_max = "window"`` refers to [V].

    Returns
    -------
    ndarray of complex, shape (circuits, frequencies)
        [Ohm, Ohm m or Ohm m^2]; twice that of one electrode in a symmetric cell.

    Raises
    ------
    CircuitError
        If a frequency is not positive, or Q_max refers to a window that is not given.
    """
    f = np.atleast_1d(np.asarray(frequency, float))
    if not (np.all(f > 0) and np.all(np.isfinite(f))):
        raise CircuitError("frequencies must be positive and finite")
    g, c = at_rest(circuit, bias, window)
    s = 2j * np.pi * f
    admittance = s * c[:, -1:]
    for k in range(circuit.n_slits, 0, -1):
        admittance = s * c[:, k - 1 : k] + 1.0 / (1.0 / g[:, k - 1 : k] + 1.0 / admittance)
    z = circuit.value("r_open")[:, None] + 1.0 / admittance
    return np.asarray(z * (2.0 if circuit.cell == "symmetric" else 1.0))
