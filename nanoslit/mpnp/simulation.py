"""One run: equilibrium at the start, adaptive steps through the protocol, traces.

The stepper restarts at every kink or jump of the applied potential and lands on them.
A step that Newton's method cannot solve is cut; after many cuts the potential is also
approached by continuation at fixed step; if nothing helps the run fails with a message.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.mpnp.equilibrium import diffuse_potential, wall_charge
from nanoslit.mpnp.grid import Grid, build_grid
from nanoslit.mpnp.petsc import PetscCell, SolverCost, StepFailedError, unreachable
from nanoslit.mpnp.stepper import MAX_ORDER, History, Proposal, propose
from nanoslit.mpnp.traces import Observer, TraceRecorder, Traces

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray

    from nanoslit.case import Case

    Floats = NDArray[np.float64]

__all__ = ["TOLERANCES", "Simulation", "StepperCost", "simulate"]

TOLERANCES = {"coarse": 5e-4, "standard": 2e-4, "fine": 5e-5}
"""Relative local error per step that belongs to each mesh preset.

Much more would save little: longer steps need more Newton iterations each
(``python -m analysis.mesh_study --time``)."""

_MAX_CUTS = 12

_UNSOLVED = 4e-10
"""Residual of a step over the mean current of the protocol: bound of the sum over all nodes,
which is what balances may show. Where rounding forbids that, a fourth of it bounds the norm,
and one more iteration is made if a sum exceeds it."""


@dataclass
class StepperCost:
    """Counts of the time integration."""

    accepted: int = 0
    rejected_error: int = 0
    rejected_newton: int = 0
    wall_time: float = 0.0


@dataclass
class Simulation:
    """A run that can be advanced step by step; use as a context manager.

    Parameters
    ----------
    case : Case
    comm : communicator, optional
        One process alone by default.
    """

    case: Case
    comm: Any = None
    grid: Grid = field(init=False)
    cost: StepperCost = field(default_factory=StepperCost)

    def __post_init__(self) -> None:
        case = self.case
        self.grid = build_grid(case)
        self.cell = PetscCell(case, self.grid, self.comm)
        self.equations = self.cell.equations
        self.observer = Observer(case, self.grid, self.equations)
        self.recorder = TraceRecorder(case)
        self.history = History()
        self.scales = self.equations.scales
        self.kinks = case.protocol.breakpoints() / self.scales.time
        self.segment = 0
        numerics = case.numerics
        preset = numerics.mesh if isinstance(numerics.mesh, str) else "standard"
        self.tolerance = numerics.tolerance or TOLERANCES[preset]
        self.charge_scale = self._largest_charge()
        self.current_scale = self.charge_scale / np.diff(self.kinks).max()
        self._unsolved = _UNSOLVED * self.current_scale
        # concentrations change in proportion to potentials below the thermal voltage
        self._signal = min(1.0, max(case.largest_wall_potential / self.scales.potential, 1e-9))
        self._set_error_weights()
        field_norm = np.array([(self.equations.permittance**2).sum()])
        self._field_norm = float(np.sqrt(self.cell.sum(field_norm)[0]))
        self._flux_norm = 0.0

    def __enter__(self) -> Simulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cell.destroy()

    # -- scales and potentials -----------------------------------------------------

    def _largest_charge(self) -> float:
        """Return the charge of all walls of an electrode at the largest potential."""
        case, e = self.case, self.case.electrolyte
        v = max(case.largest_wall_potential, 1e-3 * e.thermal_voltage)
        charge = max(
            abs(wall_charge(e, diffuse_potential(e, case.electrode, s * v))) for s in (1, -1)
        )
        walls = self.grid.wall_area.sum() / self.grid.n_electrodes
        return float(charge * walls / self.scales.charge)

    def _set_error_weights(self) -> None:
        """Weigh local errors by volume, in the electrode and three Debye lengths off."""
        g, sub = self.grid, self.cell.sub
        front = self.case.geometry.reservoir - 3 * self.scales.length
        near = np.abs(g.x[sub.start : sub.stop]) > front
        weight = np.where(near, self.equations.volume, 0.0)
        total = self.cell.sum(np.array([weight.sum()]))[0]
        self._weight = weight / (total * self.equations.n_ions)

    def voltage(self, t: float, side: str = "left") -> float:
        """Return the applied potential [kT/e] at dimensionless time t."""
        v = self.case.protocol(t * self.scales.time, side=side)
        return float(v) / self.scales.potential

    # -- states ----------------------------------------------------------------------

    def equilibrium(self, voltage: float, guess: Floats | None = None) -> Floats:
        """Return the steady state at an applied potential [kT/e] (half cell).

        mu = 0 everywhere: a Poisson-Boltzmann problem, solved by continuation in the
        potential where one Newton solve does not reach it.
        """
        n, b = self.cell.sub.n_owned, self.equations.n_fields
        u = np.zeros((n, b)) if guess is None else guess
        # what is left of Poisson's equation enters the displacement current of the first step
        balance = self._unsolved * self._first_step(0)
        try:
            return self._reach(u, 0.0, voltage, atol=1e-13 * self.charge_scale, balance=balance)
        except StepFailedError as failure:
            raise unreachable(
                self.case, 0.0, voltage * self.scales.potential, 0.0, str(failure)
            ) from None

    def _reach(self, u: Floats, start: float, end: float, **solve: Any) -> Floats:
        """Solve at potential ``end`` by continuation from a state near ``start``.

        Raises
        ------
        StepFailedError
            If 1/1024 of the way is still too much for one Newton solve.
        """
        reached, step = 0.0, 1.0
        while reached < 1.0:
            target = min(1.0, reached + step)
            try:
                u = self.cell.solve(u, voltage=start + target * (end - start), **solve)
                reached = target
            except StepFailedError:
                step *= 0.5
                if step < 1e-3:
                    raise
        return u

    def start(self) -> None:
        """Set the equilibrium at the protocol's start potential and record it."""
        v = self.case.protocol.start_potential / self.scales.potential
        n, b = self.cell.sub.n_owned, self.equations.n_fields
        if v == 0:
            u = np.zeros((n, b))
        elif self.case.cell == "half":
            u = self.equilibrium(v)
        else:
            u = self._closed_equilibrium(v)
        self._accept(0.0, u, v, np.zeros(1), restart=True)

    def _closed_equilibrium(self, voltage: float) -> Floats:
        """Return the steady state of a closed cell: implicit steps to infinite time.

        Each step conserves the ions exactly; mu becomes uniform.
        """
        u = np.zeros((self.cell.sub.n_owned, self.equations.n_fields))
        length = np.ptp(self.grid.x_lines) / self.scales.length
        dt, v, reached = 1e-2, 0.0, 1e-2 * length**2
        while dt < 1e6 * reached:
            target = voltage * min(1.0, (abs(v) + 2.0) / abs(voltage))
            stored = self._stored(u)
            try:
                u = self.cell.solve(
                    u,
                    voltage=target,
                    shift=1 / dt,
                    history=-stored / dt,
                    atol=1e-13 * self.charge_scale / min(dt, 1e3),
                )
                v, dt = target, dt * 4
            except StepFailedError as failure:
                dt *= 0.1
                if dt < 1e-8:
                    raise unreachable(
                        self.case, 0.0, voltage * self.scales.potential, 0.0, str(failure)
                    ) from None
        return u

    def _stored(self, u: Floats) -> Floats:
        """Return the amounts S c of the owned nodes (n_owned, n_ions)."""
        eq = self.equations
        return eq.stored(self.cell.with_ghosts(u))

    # -- stepping --------------------------------------------------------------------

    @property
    def time(self) -> float:
        """Simulated time [s]."""
        return self.history.times[0] * self.scales.time

    @property
    def finished(self) -> bool:
        """Whether the protocol has ended."""
        return bool(self.history.times) and self.segment >= len(self.kinks) - 1

    def _first_step(self, segment: int) -> float:
        """Return the first step of a segment: what order 1 can take on the new slope."""
        a, b = self.kinks[segment : segment + 2]
        h = 1e-4 * (b - a)
        before = (
            self.voltage(a)
            if a > 0
            else self.case.protocol.start_potential / self.scales.potential
        )
        jump = abs(self.voltage(a, "right") - before)
        slope = abs(self.voltage(a + h) - self.voltage(a, "right")) / h
        step = min(h * 10, self.tolerance**0.5 / max(slope, 1e-30))
        return float(min(step, 1e-3) if jump > 1e-9 else step)

    def advance(self) -> None:
        """Make one accepted step.

        Raises
        ------
        ConvergenceError
            If no step can be solved.
        """
        begin = time.perf_counter()
        h = self.history
        end = self.kinks[self.segment + 1]
        for cut in range(3 * _MAX_CUTS):
            t0 = h.times[0]
            t = self._target(t0, end)
            try:
                u, w = self._solve(t, by_continuation=cut >= _MAX_CUTS)
            except StepFailedError:
                self.cost.rejected_newton += 1
                h.order, h.step, h.steps_at_order = 1, 0.2 * (t - t0), 0
                continue
            stored = self._stored(u)
            proposal = propose(h, t - t0, self._errors(t, stored))
            if not proposal.accept:
                self.cost.rejected_error += 1
                h.order, h.step, h.steps_at_order = proposal.order, proposal.step, 0
                continue
            self._finish_step(t, u, stored, w, proposal, end)
            self.cost.wall_time += time.perf_counter() - begin
            return
        raise unreachable(
            self.case,
            self.time,
            self.voltage(t) * self.scales.potential,
            h.step * self.scales.time,
            self.cell.reason,
        )

    def _target(self, t0: float, end: float) -> float:
        """Return the time of the next step; land on the kink without a tiny last step."""
        limit = self.case.numerics.max_step
        step = self.history.step
        if limit is not None:
            step = min(step, limit / self.scales.time)
        left = end - t0
        if step >= left * (1 - 1e-10):
            return end
        return t0 + (0.5 * left if step > 0.6 * left else step)

    def _solve(self, t: float, *, by_continuation: bool = False) -> tuple[Floats, Floats]:
        """Return the state at time t and the weights of its time derivative.

        Raises
        ------
        StepFailedError
            If Newton's method fails, with ``by_continuation`` also after approaching the
            potential in small parts at this fixed step.
        """
        h = self.history
        w = h.weights(t)
        voltage = self.voltage(t)
        # rounding of the field terms, times the shift, and of the differences of mu in the
        # ion fluxes bounds what can be reached: below it Newton's method only wastes time
        rounding = 4e-16 * w[0] * self._field_norm * max(abs(voltage), 1.0)
        mu_rounding = min(2.2e-16 * self._flux_norm, 0.25 * self._unsolved)
        strict = self._unsolved * self._care(t, w[0]) / self.grid.n_nodes**0.5
        solve = {
            "shift": w[0],
            "history": h.old_part(w, h.stored),
            "atol": max(strict, rounding, mu_rounding),
            "balance": self._unsolved,
        }
        if not by_continuation:
            guess = h.predict(t, h.states)
            return self.cell.solve(guess, voltage=voltage, **solve), w
        before = self.recorder.rows[-1]["applied_potential"] / self.scales.potential
        return self._reach(h.states[0], before, voltage, **solve), w

    def _errors(self, t: float, stored: Floats) -> dict[int, float]:
        """Return the weighted local error of the order used and its neighbours."""
        h = self.history
        errors = {}
        scale = self._error_scale(stored)
        for q in (h.order - 1, h.order, h.order + 1):
            e = h.error(t, stored, q) if q <= MAX_ORDER else None
            if e is not None:
                errors[q] = self._norm(e * scale)
        return errors

    def _care(self, t: float, weight: float) -> float:
        """Return by how much the last step before a kink has to be solved more exactly.

        What Poisson's equation leaves unsolved there enters the displacement current of
        the next step over that step's length, which may be far shorter.
        """
        if t < self.kinks[-1] and t == self.kinks[self.segment + 1]:
            return min(1.0, weight * self._first_step(self.segment + 1))
        return 1.0

    def _error_scale(self, stored: Floats) -> Floats:
        """Return what local errors of S c are multiplied by: tolerances and weights."""
        bulk = self.equations.volume[:, None] * self.equations.c_bulk
        allowed = self.tolerance * self._signal * (np.abs(stored) + bulk)
        return np.asarray(np.sqrt(self._weight)[:, None] / allowed)

    def _norm(self, weighted: Floats) -> float:
        """Return the root of the sum of squares over ranks (1 = tolerance)."""
        flat = weighted.ravel()
        return float(np.sqrt(self.cell.sum(np.array([flat @ flat]))[0]))

    def _finish_step(
        self, t: float, u: Floats, stored: Floats, w: Floats, proposal: Proposal, end: float
    ) -> None:
        h = self.history
        same = proposal.order == h.order and proposal.step == t - h.times[0]
        counted = h.steps_at_order + 1 if same else 0
        self._accept(t, u, self.voltage(t), w, stored=stored)
        h.order, h.step, h.steps_at_order = proposal.order, proposal.step, counted
        self.cost.accepted += 1
        if t == end:
            self.segment += 1
            if not self.finished:
                h.restart(self._first_step(self.segment))

    def _accept(
        self,
        t: float,
        u: Floats,
        voltage: float,
        weights: Floats,
        stored: Floats | None = None,
        restart: bool = False,
    ) -> None:
        """Record an accepted state and put it into the history."""
        h = self.history
        local = self.cell.with_ghosts(u)
        stored = self._stored(u) if stored is None else stored
        self._set_flux_norm(local)
        own = self.observer.charges(local, stored, voltage), self.observer.instant(local)
        total = self.cell.sum(np.concatenate(own))
        charges, instant = np.split(total, [own[0].size])
        rates = (
            np.zeros_like(charges)
            if restart
            else (weights[0] * charges + h.old_part(weights, h.observed))
        )
        protocol, seconds = self.case.protocol, t * self.scales.time
        row = {
            "time": seconds,
            "cycle": int(protocol.cycle(seconds)),
            "applied_potential": voltage * self.scales.potential,
            **self.observer.record(charges, rates, instant),
            "step_size": 0.0 if restart else (t - h.times[0]) * self.scales.time,
            "order": 0 if restart else h.order,
            "newton_iterations": self.cell.snes.getIterationNumber(),
        }
        self.recorder.add(row)
        h.push(t, u, stored, charges)
        if restart:
            h.restart(self._first_step(self.segment))

    def _set_flux_norm(self, local: Floats) -> None:
        """Keep the size of the ion fluxes of a state, which rounding is relative to."""
        flux = np.array([self.equations.flux_scale(local)])
        self._flux_norm = float(np.sqrt(self.cell.sum(flux)[0]))

    def run(self, on_step: Callable[[Simulation], None] | None = None) -> Traces:
        """Advance to the end of the protocol and return the traces."""
        if not self.history.times:
            self.start()
        while not self.finished:
            self.advance()
            if on_step is not None:
                on_step(self)
        return self.traces()

    def traces(self) -> Traces:
        """Return what has been recorded so far."""
        return self.recorder.traces()

    # -- checkpoints -----------------------------------------------------------------

    def state(self) -> dict[str, Any] | None:
        """Return all that the rest of the run depends on, on rank 0 (collective).

        Node values are in natural order, so another number of ranks can go on with them.
        The kept LU factorisation is made anew from the state that it belongs to.

        Returns
        -------
        dict or None
            Nested dictionary of arrays and numbers; None on other ranks.
        """
        h = self.history
        states = self.cell.gather(np.stack(h.states, axis=1))
        stored = self.cell.gather(np.stack(h.stored, axis=1))
        kept = self.cell.factorisation
        kept["state"] = self.cell.gather(kept["state"])
        if states is None or stored is None:
            return None
        return {
            "history": {
                "times": np.array(h.times),
                "observed": np.array(h.observed),
                "states": states,
                "stored": stored,
                "order": h.order,
                "step": h.step,
                "steps_at_order": h.steps_at_order,
            },
            "factorisation": kept,
            "segment": self.segment,
            "rows": self.recorder.columns(),
            "cost": vars(self.cost).copy(),
            "solver_cost": vars(self.cell.cost).copy(),
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from a state that rank 0 holds (collective); replaces :meth:`start`."""
        small = (
            None
            if state is None
            else {
                **state,
                "history": {
                    k: v for k, v in state["history"].items() if k not in ("states", "stored")
                },
                "factorisation": {
                    k: v for k, v in state["factorisation"].items() if k != "state"
                },
            }
        )
        small = self.cell.share(small)
        kept, h = small["history"], self.history
        h.times = [float(t) for t in kept["times"]]
        h.observed = list(kept["observed"])
        for name in ("states", "stored"):
            everything = None if state is None else state["history"][name]
            part = self.cell.scatter(everything)
            setattr(h, name, [part[:, i].copy() for i in range(part.shape[1])])
        self._set_flux_norm(self.cell.with_ghosts(h.states[0]))
        of = self.cell.scatter(None if state is None else state["factorisation"]["state"])
        self.cell.factorise({**small["factorisation"], "state": of})
        h.order, h.step = int(kept["order"]), float(kept["step"])
        h.steps_at_order = int(kept["steps_at_order"])
        self.segment = int(small["segment"])
        self.recorder.set_columns(small["rows"])
        for cost, values in (
            (self.cost, small["cost"]),
            (self.cell.cost, small["solver_cost"]),
        ):
            for name, value in values.items():
                setattr(cost, name, type(getattr(cost, name))(value))

    @property
    def solver_cost(self) -> SolverCost:
        """Counts and times of the nonlinear solver."""
        return self.cell.cost


def simulate(
    case: Case, comm: Any = None, on_step: Callable[[Simulation], None] | None = None
) -> Traces:
    """Run a case and return its traces (SI units).

    Parameters
    ----------
    case : Case
    comm : mpi4py or petsc4py communicator, optional
        One process alone by default; every rank gets the traces.
    on_step : callable, optional
        Called with the simulation after every accepted step.

    Raises
    ------
    ConvergenceError
        If the solver cannot go on, on all ranks.
    """
    with Simulation(case, comm) as simulation:
        return simulation.run(on_step)
