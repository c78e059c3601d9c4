"""What a simulated circuit returns: traces with the names of the field solver's."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nanoslit.circuit.drive import CURRENT
from nanoslit.circuit.integrator import integrate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanoslit.circuit.drive import Drive
    from nanoslit.circuit.integrator import Job, Outcome
    from nanoslit.circuit.ladder import NanoCircuit

    Array = NDArray[np.float64]

__all__ = ["CircuitResponse"]


@dataclass
class CircuitResponse:
    """Traces of one or many circuits, each on its own time points.

    The leading axis counts the circuits. Charging currents of a positive electrode are
    positive. In a symmetric cell ``applied_potential`` is that of the cell, and all that
    concerns slits is that of one electrode. Slit k = 1..N lies at index k-1; opening k
    lies between slits k and k+1. Units depend on ``circuit.basis``: A, C, Ohm
    (absolute), A/m, C/m, Ohm m (per depth) or A/m^2, C/m^2, Ohm m^2 (per area).

    Attributes
    ----------
    time, applied_potential, electrode_current : ndarray, shape (circuits, times)
        [s], [V], [A, A/m or A/m^2]; a time that occurs twice is a jump.
    cycle : ndarray of int, shape (times,)
        Cycle number of each point, from 1.
    q_max : ndarray, shape (circuits, slits)
        Charge that the law was normalised with [C, ...].
    """

    circuit: NanoCircuit
    job: Job
    outcome: Outcome
    q_max: Array
    options: dict[str, object] = field(default_factory=dict)
    backend: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        drive = self.job.drive
        keep = np.ones((drive.pieces, self.job.points + 1), bool)
        keep[1:, 0] = drive.jumps[1:]
        self._keep = keep.ravel()
        self._once = self.outcome.width == self.outcome.points  # nothing is stored twice
        cycles = drive.cycles[:, None].repeat(keep.shape[1], 1).ravel()
        self.cycle: NDArray[np.int64] = cycles[self._keep]
        given = (drive.kinds == CURRENT)[:, None].repeat(keep.shape[1], 1)
        self._current_given = given.ravel()[self._keep]

    @cached_property
    def time(self) -> Array:
        """Stored times of each circuit, (circuits, times) [s]."""
        return self._joined(self.outcome.times)

    @cached_property
    def _electrode_potential(self) -> Array:
        given = self._flat(self._given())
        if not self._current_given.any():
            return given
        return np.where(self._current_given, self._joined(self.outcome.signals), given)

    @property
    def applied_potential(self) -> Array:
        """Potential of the electrode, or of the cell, (circuits, times) [V]."""
        factor = 2.0 if self.circuit.cell == "symmetric" else 1.0
        return factor * self._electrode_potential

    @cached_property
    def electrode_current(self) -> Array:
        """Current into the electrode, (circuits, times) [A, A/m or A/m^2]."""
        signal = self._joined(self.outcome.signals)
        if not self._current_given.any():
            return signal
        return np.where(self._current_given, self._flat(self._given()), signal)

    def _flat(self, values: Array) -> Array:
        """Join the pieces, without the first point where nothing jumps."""
        shape = (values.shape[0], -1, *values.shape[3:])
        return values.reshape(shape)[:, self._keep]

    def _joined(self, stored: Array) -> Array:
        """Return stored points with each that no jump doubles once."""
        return stored if self._once else stored[:, self._keep]

    def _given(self) -> Array:
        time, drive = self.outcome.time, self.job.drive
        given = np.empty(time.shape)
        for p in range(drive.pieces):
            given[:, p] = drive.at(p, time[:, p] - time[:, p, :1])
        return given

    @property
    def circuits(self) -> int:
        """Number of circuits."""
        return int(self.time.shape[0])

    @cached_property
    def nodes(self) -> Array:
        """Electrode minus solution potential at node 0 and the slits [V].

        Shape (circuits, times, slits + 1). Computed when it is first asked for, by a
        second run over the same steps.
        """
        if self.outcome.potentials.size == 0:
            integrate(
                self.job, backend=self.backend, threads=self.threads, previous=self.outcome
            )
        return self._joined(self.outcome.potentials)

    def _laws(self) -> tuple[Array, Array, Array]:
        p = self.job.law.parameters[:, :, None, 1:]
        return p, self.nodes[..., :-1], self.nodes[..., 1:]

    @cached_property
    def slit_charge(self) -> Array:
        """Stored charge of each slit, (circuits, times, slits) [C, C/m or C/m^2]."""
        p, _, u = self._laws()
        c = self.job.capacitance[:, None, 1:]
        return np.asarray(c * self.job.law.charge(p, u))

    @property
    def slit_potential(self) -> Array:
        """Potential in each slit against the bulk, (circuits, times, slits) [V]."""
        return self._electrode_potential[..., None] - self.nodes[..., 1:]

    @property
    def open_potential(self) -> Array:
        """Potential of the open space (node 0) against the bulk [V]."""
        return self._electrode_potential - self.nodes[..., 0]

    @property
    def electrode_charge(self) -> Array:
        """Charge of the electrode, (circuits, times) [C, C/m or C/m^2]."""
        open_charge = self.job.capacitance[:, None, 0] * self.nodes[..., 0]
        return np.asarray(open_charge + self.slit_charge.sum(axis=-1))

    @cached_property
    def slit_inflow(self) -> Array:
        """Current into each slit from its outer side, (circuits, times, slits)."""
        return self.job.law.current(*self._laws())

    @property
    def mouth_current(self) -> Array:
        """Current from the open space into slit 1, (circuits, times)."""
        return self.slit_inflow[..., 0]

    @property
    def opening_current(self) -> Array:
        """Current from slit k to slit k+1, (circuits, times, slits - 1)."""
        return self.slit_inflow[..., 1:]

    @property
    def trans_slit_voltage(self) -> Array:
        """Potential of slit k+1 minus that of slit k, (circuits, times, slits - 1) [V]."""
        return self.nodes[..., 1:-1] - self.nodes[..., 2:]

    @property
    def slit_resistance(self) -> Array:
        """Resistance that feeds each slit, (circuits, times, slits) [Ohm, ...]."""
        return self.job.law.resistance(*self._laws())

    @property
    def work(self) -> Array:
        """Integral of potential times current over each piece, (circuits, pieces) [J]."""
        factor = 2.0 if self.circuit.cell == "symmetric" else 1.0
        return factor * self.outcome.work

    @property
    def drive(self) -> Drive:
        """Smooth pieces of the protocol, of one electrode."""
        return self.job.drive
