"""The nano-circuitry model: an RC ladder whose resistors depend on the stored charge.

Half cell: R_open and C_open of the open electrolyte, then N slits, each a resistor
R = R_c (1 - gamma Q/Q_max) and a capacitor C_slit (Zhan et al. 2021). ``gamma = 0`` is
the transmission-line model. What the paper leaves open is a named option; parameters
that it does not publish are the caller's choice and stored with every result.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoslit.circuit.assembly import Reach, charge_scale, law_factor, resistor_of
from nanoslit.circuit.capacitance import PREFIX, CapacitanceTable, table_from
from nanoslit.circuit.drive import Drive
from nanoslit.circuit.integrator import Job, Tolerance, integrate
from nanoslit.circuit.laws import LadderLaw, law_from
from nanoslit.circuit.options import (
    ACCESS,
    BASES,
    CELLS,
    CHARGES,
    GOVERNORS,
    Q_MAX,
    choose,
)
from nanoslit.circuit.periodic import periodic_start
from nanoslit.circuit.resistor import Resistor
from nanoslit.circuit.response import CircuitResponse
from nanoslit.errors import CircuitError, ProtocolError
from nanoslit.protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Array = NDArray[np.float64]

__all__ = ["NanoCircuit"]

POINTS = 400  # intervals between stored points of a smooth piece of a short protocol
TOTAL_POINTS = 8000  # for protocols of many pieces
CYCLE_TOLERANCE = 1e-6  # of Q_max when it is the maximum of the reported cycle
OUTSIDE = 1e-3  # of the range: how far a node may leave it


class NanoCircuit:
    """One circuit or a batch of them.

    A parameter is a scalar, (circuits,) or (circuits, slits); a batch is as large as its
    largest parameter.

    Parameters
    ----------
    n_slits : int
        Number N of slits.
    r_c : array_like, optional
        Resistance R_c that feeds each slit when it is uncharged [Ohm, Ohm m, Ohm m^2].
    gamma : array_like
        Fall of the resistance at Q_max [-]; 0 is the transmission-line model.
    c_slit : array_like
        Capacitance of a slit [F, F/m, F/m^2].
    r_open, c_open : array_like, shape () or (circuits,)
        Resistance and capacitance of the open electrolyte.
    governor : {"inner", "outer", "outer_open", "mean"}, optional
        Whose charge rules resistor k, which feeds slit k: slit k (``inner``, default),
        slit k-1 with a constant first resistor (``outer``), or with the charge of the
        open space for the first one (``outer_open``), or the mean of slits k-1 and k
        (``mean``; the first resistor follows slit 1).
    q_max : {"window", "cycle"} or array_like, optional
        ``window`` (default): C_slit times the largest |potential| of the protocol.
        ``cycle``: largest |Q| of each slit over the reported cycle (charge beyond it, in
        other cycles, counts as Q_max). A number is a charge [C, C/m, C/m^2].
    charge : {"abs", "signed"}, optional
        Whether |Q| (default) or Q enters the law.
    saturation : float, optional
        q: the resistance no longer changes beyond Q = q Q_max.
    access : {"dynamic", "constant"}
        Whether the first resistor follows the law.
    cell : {"half", "symmetric"}
        ``symmetric``: two such electrodes in series, potentials are those of the cell;
        exact for ``charge="abs"``, where both electrodes are alike.
    c_law : str or mapping, optional
        Factor g(u) of C_slit, u the potential of a slit [V]: an expression such as
        ``"1 + a*u**2"``, or a table ``{"potential": [...], "factor": [...]}`` (monotone
        cubic between its points). The charge is C_slit times the integral of g.
    c_law_constants : dict, optional
        Values of the other names in ``c_law``, each scalar, (circuits,) or
        (circuits, slits).
    r_mouth, gamma_mouth : array_like, optional
        R_c and gamma of the first resistor; with a ``law``, by the law's governor, charge
        rule and Q_max (its bulk charge, if it has no Q_max).
    law : ResistanceLaw, path of a LAW.json or LadderLaw, optional
        Instead of r_c and gamma. It brings its governor, charge rule and Q_max.
    mouth_law : the same, optional
        Law of the first resistor alone, with its own charge rule and Q_max; instead of
        r_mouth and gamma_mouth.
    case : str, optional
        Which data set's constants and Q_max of the law to use.
    bulk_charge : float, optional
        Charge of the bulk ion content of a slit, if the law's charges are relative to it
        and its file does not say it [C/m].
    basis : {"absolute", "per depth", "per area"}
        What R and C mean: Ohm and F, Ohm m and F/m of depth, Ohm m^2 and F/m^2.
    depth : float, optional
        Depth of the electrode [m]; relates a law per depth to absolute values.
    height : float, optional
        Height of the simulated half period [m]; relates a law per depth to values per
        area.

    Raises
    ------
    CircuitError
        If a value is impossible (the message names the circuit), shapes do not fit, or
        an option contradicts the law.
    """

    def __init__(
        self,
        n_slits: int,
        r_c: ArrayLike | None = None,
        gamma: ArrayLike = 0.0,
        c_slit: ArrayLike = np.nan,
        r_open: ArrayLike = np.nan,
        c_open: ArrayLike = np.nan,
        *,
        governor: str | None = None,
        q_max: str | ArrayLike | None = None,
        charge: str | None = None,
        saturation: ArrayLike | None = None,
        access: str = "dynamic",
        cell: str = "half",
        c_law: str | Mapping[str, ArrayLike] | CapacitanceTable | None = None,
        c_law_constants: dict[str, ArrayLike] | None = None,
        r_mouth: ArrayLike | None = None,
        gamma_mouth: ArrayLike | None = None,
        law: Any = None,
        mouth_law: Any = None,
        case: str | None = None,
        bulk_charge: float | None = None,
        basis: str | None = None,
        depth: float | None = None,
        height: float | None = None,
    ) -> None:
        if isinstance(n_slits, bool) or int(n_slits) != n_slits or n_slits < 1:
            raise CircuitError(f"n_slits = {n_slits!r} must be a whole number >= 1")
        self.n_slits = int(n_slits)
        self.access = choose("access", access, ACCESS)
        self.cell = choose("cell", cell, CELLS)
        self.depth, self.height = depth, height
        self.c_law = c_law if c_law is None or isinstance(c_law, str) else table_from(c_law)
        if c_law_constants and not isinstance(c_law, str):
            raise CircuitError("c_law_constants belong to an expression c_law")
        self.law: LadderLaw | None = None if law is None else law_from(law, case, bulk_charge)
        self._options(governor, q_max, charge, basis)
        self.mouth_law = self._mouth(mouth_law, case, bulk_charge, r_mouth, gamma_mouth)
        given: dict[str, Any] = {
            "c_slit": c_slit, "r_open": r_open, "c_open": c_open, "saturation": saturation
        }  # fmt: skip
        if self.law is None:
            given |= {"r_c": r_c, "gamma": gamma}
            if mouth_law is None:
                given |= {"r_mouth": r_mouth, "gamma_mouth": gamma_mouth}
        else:
            self._refuse_with_law(r_c, gamma, saturation)
        for prefix, one in (("law ", self.law), ("mouth law ", self.mouth_law)):
            if one is not None:
                given |= {f"{prefix}constant {k}": v for k, v in one.constants.items()}
                given |= {prefix + "q_max": one.q_max, prefix + "bulk_charge": one.bulk_charge}
        if self.q_max == "given":
            given["q_max"] = q_max
        for name, value in (c_law_constants or {}).items():
            given[PREFIX + name] = value
        self._broadcast(given)
        self._check()

    # --- set-up -------------------------------------------------------------------------
    def _options(
        self,
        governor: str | None,
        q_max: Any,
        charge: str | None,
        basis: str | None,
    ) -> None:
        """Settle the options: those of the law hold, the defaults otherwise."""
        law = self.law
        if governor is not None:
            choose("governor", governor, GOVERNORS)
        if charge is not None:
            choose("charge", charge, CHARGES)
        if isinstance(q_max, str):
            choose("q_max", q_max, Q_MAX)
        if law is not None:
            for key, mine, theirs in (
                ("governor", governor, law.governor),
                ("charge", charge, law.charge),
            ):
                if mine is not None and mine != theirs:
                    raise CircuitError(
                        f"{key} = {mine!r} contradicts the law, which was learned with "
                        f"{theirs!r}; leave {key} out"
                    )
            if q_max is not None:
                raise CircuitError(
                    f"q_max = {q_max!r} contradicts the law, which brings its own "
                    "charges; leave q_max out"
                )
        self.governor = law.governor if law else (governor or "inner")
        self.charge = law.charge if law else (charge or "abs")
        # what Q_max is, always a word; a charge that is given stands among the values
        given = "given" if q_max is not None and not isinstance(q_max, str) else q_max
        self.q_max = "law" if law else str(given or "window")
        default = "absolute" if law is None else law.basis
        self.basis = choose("basis", basis or default, BASES)
        if self.cell == "symmetric" and self.charge == "signed":
            raise CircuitError(
                "cell = 'symmetric' needs charge = 'abs': with signed charge the two "
                "electrodes differ; simulate two half cells"
            )

    def _mouth(
        self, law: Any, case: str | None, bulk_charge: float | None, r_mouth: Any, gamma: Any
    ) -> LadderLaw | None:
        """Return the law of the first resistor if it has one of its own."""
        own = r_mouth is not None or gamma is not None
        if law is not None:
            if own:
                raise CircuitError("give mouth_law, or r_mouth and gamma_mouth, not both")
            if self.access == "constant":
                raise CircuitError(
                    "access = 'constant' contradicts mouth_law; leave one of them out"
                )
            mouth = law_from(law, case, bulk_charge)
            if self.cell == "symmetric" and mouth.charge == "signed":
                raise CircuitError("cell = 'symmetric' needs a mouth_law with charge = 'abs'")
            return mouth
        if self.law is None or not own:
            return None
        return self._linear_mouth(self.law, r_mouth, gamma)

    def _linear_mouth(self, law: LadderLaw, r_mouth: Any, gamma: Any) -> LadderLaw:
        """Return R_mouth (1 - gamma_mouth q) in the charges of the law of the others."""
        if r_mouth is None:
            raise CircuitError("gamma_mouth with a law needs r_mouth, too")
        constants = {"r_mouth": r_mouth, "gamma_mouth": 0.0 if gamma is None else gamma}
        kind, scale = ("q", law.q_max) if law.q_max is not None else ("X", law.bulk_charge)
        if scale is None and np.any(np.asarray(constants["gamma_mouth"]) != 0):
            raise CircuitError(
                "gamma_mouth refers to Q_max, which this law does not have; give mouth_law"
            )
        if self.access == "constant":
            constants["gamma_mouth"] = 0.0
        own = replace(law, basis=self.basis)
        # a resistance of the circuit's basis, charges of the law's
        factor = 1.0 if scale is None else law_factor(self, law)
        fall = "" if scale is None else f"*(1-gamma_mouth*{kind}_{law.governor})"
        return replace(
            own, expression="I*r_mouth" + fall, constants=constants,
            q_max=None if law.q_max is None else np.asarray(law.q_max, float) / factor,
            bulk_charge=None
            if law.bulk_charge is None
            else np.asarray(law.bulk_charge, float) / factor,
        )  # fmt: skip

    def _refuse_with_law(self, r_c: Any, gamma: Any, saturation: Any) -> None:
        given = [
            key
            for key, value in (("r_c", r_c), ("saturation", saturation))
            if value is not None
        ]
        if np.any(np.asarray(gamma) != 0):
            given.append("gamma")
        if given:
            raise CircuitError(f"{given} cannot be given together with a law")

    def _broadcast(self, given: dict[str, Any]) -> None:
        arrays = {}
        circuits = 1
        for key, value in given.items():
            if value is None:
                continue
            try:
                a = np.asarray(value, float)
            except (TypeError, ValueError):
                raise CircuitError(f"{key} = {value!r} must be numbers") from None
            per_slit = key not in ("r_open", "c_open", "r_mouth", "gamma_mouth")
            if a.ndim > (2 if per_slit else 1):
                shape = "(circuits,) or (circuits, slits)" if per_slit else "(circuits,)"
                raise CircuitError(f"{key} has shape {a.shape}; give a scalar or {shape}")
            if a.ndim == 2 and a.shape[1] not in (1, self.n_slits):
                raise CircuitError(
                    f"{key} has shape {a.shape}; its second axis must be the "
                    f"{self.n_slits} slits"
                )
            size = a.shape[0] if a.ndim else 1
            if size != 1 and circuits not in (1, size):
                raise CircuitError(
                    f"{key} has {size} circuits, another parameter has {circuits}"
                )
            circuits = max(circuits, size)
            arrays[key] = a
        self.circuits = circuits
        self._values = {k: self._shaped(k, a) for k, a in arrays.items()}

    def _shaped(self, key: str, a: Array) -> Array:
        if key in ("r_open", "c_open", "r_mouth", "gamma_mouth"):
            return np.broadcast_to(a, (self.circuits,)).copy()
        if a.ndim == 1:
            a = a[:, None]
        return np.broadcast_to(a, (self.circuits, self.n_slits)).copy()

    def _check(self) -> None:
        """Raise for values that no circuit can have, naming the first circuit."""
        for key in ("r_c", "c_slit", "r_open", "c_open", "r_mouth", "saturation", "q_max"):
            if key in self._values:
                self._require(key, self._values[key] > 0, "positive and finite")
            elif key in ("r_c",) and self.law is None:
                raise CircuitError("r_c is missing: give r_c (and gamma), or a law")
        for key, value in self._values.items():
            self._require(key, np.isfinite(value), "finite")
        for key in ("depth", "height"):
            value = getattr(self, key)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise CircuitError(f"{key} = {value!r} m must be positive and finite")

    def _require(self, key: str, good: Any, what: str) -> None:
        value = self._values[key]
        bad = ~(np.asarray(good) & np.isfinite(value))
        if bad.any():
            where = np.argwhere(bad)[0]
            slit = f", slit {where[1] + 1}" if value.ndim == 2 else ""
            shown = value[tuple(where)]
            if key in ("c_slit", "r_open", "c_open") and np.isnan(value).all():
                raise CircuitError(f"{key} is missing or not a number; it must be {what}")
            raise CircuitError(f"{key} = {shown:g} of circuit {where[0]}{slit} must be {what}")

    @property
    def depends_on_charge(self) -> bool:
        """Whether any resistor depends on charge."""
        return self.law is not None or bool(np.any(self.value("gamma") != 0))

    # --- parameters ---------------------------------------------------------------------
    def value(self, key: str) -> Array:
        """Return a parameter, (circuits,) or (circuits, slits).

        Keys: r_c, gamma (both with the mouth's own value in the first slit), c_slit,
        r_open, c_open, saturation.
        """
        a = self._values[key].copy()
        mouth = {"r_c": "r_mouth", "gamma": "gamma_mouth"}.get(key)
        if mouth in self._values:
            a[:, 0] = self._values[mouth]
        if key == "gamma" and self.access == "constant":
            a[:, 0] = 0.0
        return a

    @property
    def capacitance(self) -> Array:
        """C_open and C_slit, (circuits, slits + 1)."""
        return np.concatenate([self.value("c_open")[:, None], self.value("c_slit")], axis=1)

    @property
    def total_capacitance(self) -> Array:
        """C_open + sum of C_slit, (circuits,)."""
        return np.asarray(self.capacitance.sum(axis=1))

    def resistor(self, reach: Reach) -> Resistor:
        """Return the resistors with their numbers, for what a protocol asks of them."""
        return resistor_of(self, reach)

    # --- simulation ---------------------------------------------------------------------
    def simulate(
        self,
        protocol: Protocol | Sequence[Protocol] | Drive,
        *,
        cycle: int | str | None = None,
        points: int | None = None,
        tolerance: Tolerance | None = None,
        backend: str = "auto",
        threads: int | None = None,
    ) -> CircuitResponse:
        """Simulate every circuit, from rest at the protocol's start potential.

        Parameters
        ----------
        protocol : Protocol or sequence of Protocol
            One for all circuits or one for each.
        cycle : int or "periodic", optional
            Report one cycle only (from 1), or the cycle of the periodic state that is
            reached after many; by default the whole protocol.
        points : int, optional
            Intervals between stored points of a smooth piece (half sweep); by default
            400, fewer for protocols of many pieces.
        tolerance : Tolerance, optional
        backend : {"auto", "numba", "numpy"}
        threads : int, optional
            Of the compiled back end; all cores by default.

        Returns
        -------
        CircuitResponse

        Raises
        ------
        CircuitError
            If the resistance of a circuit would not stay positive.
        ConvergenceError
            If a circuit could not be integrated.
        """
        drive = self.drive(protocol)
        circuit = self._sized(drive.circuits)
        wanted = _cycle_pieces(drive, cycle)
        points = points or int(np.clip(TOTAL_POINTS // drive.pieces, 8, POINTS))
        run = _Run(circuit, drive, wanted, points, tolerance or Tolerance())
        run.backend = backend
        run.threads = threads
        return run.response(cycle)

    def impedance(
        self, frequency: ArrayLike, bias: float = 0.0, window: float | None = None
    ) -> NDArray[np.complex128]:
        """Return the impedance around rest; see :mod:`nanoslit.circuit.impedance`."""
        from nanoslit.circuit.impedance import impedance

        return impedance(self, frequency, bias, window)

    def drive(self, protocol: Protocol | Sequence[Protocol] | Drive) -> Drive:
        """Return the drive of one electrode for all circuits."""
        if isinstance(protocol, Drive):
            drive = protocol
        else:
            count = self.circuits
            if not isinstance(protocol, Protocol) and count == 1:
                count = len(protocol)
            drive = Drive.of(protocol, count)
        if drive.circuits == 1 and self.circuits > 1:
            drive = drive.select(np.zeros(self.circuits, np.int64))
        return drive.halved() if self.cell == "symmetric" else drive

    def _sized(self, circuits: int) -> NanoCircuit:
        """Return this circuit repeated for a batch of protocols."""
        if circuits == self.circuits:
            return self
        if self.circuits != 1:
            raise ProtocolError(
                f"{circuits} protocols given for {self.circuits} circuits; give one, or "
                "one for each"
            )
        return self.select(np.zeros(circuits, np.int64))

    def select(self, rows: Any) -> NanoCircuit:
        """Return some of the circuits, with repetition if ``rows`` repeats indices."""
        other: NanoCircuit = object.__new__(type(self))
        other.__dict__ |= self.__dict__
        other._values = {k: v[rows] for k, v in self._values.items()}
        other.circuits = len(next(iter(other._values.values())))
        return other

    def options(self) -> dict[str, object]:
        """Return the named options, as stored with every result."""
        return {
            "n_slits": self.n_slits, "governor": self.governor, "charge": self.charge,
            "q_max": self.q_max,
            "access": self.access, "cell": self.cell, "basis": self.basis,
            "c_law": "constant" if self.c_law is None else self.c_law,
            "law": "linear" if self.law is None else self.law.expression,
            "mouth_law": "as the others" if self.mouth_law is None
            else self.mouth_law.expression,
            "voltage": "not stated" if self.law is None else self.law.voltage,
        }  # fmt: skip


def _cycle_pieces(drive: Drive, cycle: int | str | None) -> NDArray[np.int64] | None:
    """Return the pieces of the cycle to report; None for all."""
    if cycle is None:
        return None
    if cycle == "periodic":
        first = 1
    elif isinstance(cycle, (int, np.integer)) and not isinstance(cycle, bool):
        first = int(cycle)
    else:
        raise CircuitError(f"cycle = {cycle!r} must be a whole number or 'periodic'")
    pieces = np.flatnonzero(drive.cycles == first)
    if not pieces.size:
        raise CircuitError(
            f"cycle = {cycle!r} is not in the protocol, which has {drive.cycles.max()}"
        )
    return pieces


class _Run:
    """One call of :meth:`NanoCircuit.simulate`."""

    backend = "auto"
    threads: int | None = None

    def __init__(
        self,
        circuit: NanoCircuit,
        drive: Drive,
        wanted: NDArray[np.int64] | None,
        points: int,
        tolerance: Tolerance,
    ) -> None:
        self.circuit, self.full, self.points = circuit, drive, points
        self.tolerance = tolerance
        lo, hi = drive.bounds()
        self.reach = Reach(lo, hi)
        self.before = None
        self.shown = drive
        if wanted is not None:
            self.shown = drive.take(wanted)
            if wanted[0] > 0:
                self.before = drive.take(np.arange(wanted[0]))

    def job(self, law: Resistor, drive: Drive, start: Array | None) -> Job:
        c = self.circuit
        if start is None:
            start = np.tile(self.full.start[:, None], (1, c.n_slits + 1))
        return Job(
            start, c.capacitance, law, 1.0 / c.value("r_open"), drive, self.points,
            self.tolerance,
        )  # fmt: skip

    def solve(self, law: Resistor, periodic: bool) -> tuple[Job, Any]:
        """Integrate with a given law; return the job of the shown pieces."""
        start = None
        settings: dict[str, Any] = {"backend": self.backend, "threads": self.threads}
        if periodic:
            start = periodic_start(self.job(law, self.shown, None), **settings)
        elif self.before is not None:
            first = self.job(law, self.before, None)
            first.points = 4
            start = integrate(first, **settings).ends[:, -1].copy()
        job = self.job(law, self.shown, start)
        return job, integrate(job, **settings)

    def response(self, cycle: int | str | None) -> CircuitResponse:
        circuit = self.circuit
        periodic = cycle == "periodic"
        law = circuit.resistor(self.reach)
        job, outcome = self.solve(law, periodic)
        answer = self.wrap(job, outcome)
        if circuit.q_max == "cycle":
            answer = self.iterate(answer, periodic)
        outside = outcome.outside > OUTSIDE * job.potential_scale
        if outside.any() and not (job.drive.kinds == 1).any():
            job, outcome = self.tighter(law, periodic)
            answer = self.wrap(job, outcome)
        return answer

    def wrap(self, job: Job, outcome: Any, reach: Reach | None = None) -> CircuitResponse:
        q_max = charge_scale(self.circuit, reach or self.reach)[:, 1:]
        return CircuitResponse(
            self.circuit, job, outcome, q_max, self.circuit.options(), self.backend,
            self.threads,
        )  # fmt: skip

    def iterate(self, answer: CircuitResponse, periodic: bool) -> CircuitResponse:
        """Repeat until Q_max is the largest charge of the reported cycle."""
        old = charge_scale(self.circuit, self.reach)
        for _ in range(60):
            open_charge = self.circuit.capacitance[:, :1] * np.abs(answer.nodes[..., 0]).max(
                axis=1, keepdims=True
            )
            charge = np.concatenate(
                [open_charge, np.abs(answer.slit_charge).max(axis=1)], axis=1
            )
            charge = np.maximum(charge, 1e-12 * old.max(axis=1, keepdims=True))
            reach = replace(self.reach, cycle_charge=charge)
            law = self.circuit.resistor(reach)
            answer = self.wrap(*self.solve(law, periodic), reach)
            if np.all(np.abs(charge - old) <= CYCLE_TOLERANCE * charge):
                return answer
            old = charge
        worst = int(np.argmax((np.abs(charge - old) / charge).max(axis=1)))
        raise CircuitError(
            f"q_max = 'cycle' of circuit {worst} did not settle; use 'window' or a number"
        )

    def tighter(self, law: Resistor, periodic: bool) -> tuple[Job, Any]:
        """Repeat with a tenth of the tolerance; refuse a circuit that still escapes."""
        self.tolerance = Tolerance(0.1 * self.tolerance.current, 0.1 * self.tolerance.potential)
        job, outcome = self.solve(law, periodic)
        bad = np.flatnonzero(outcome.outside > OUTSIDE * job.potential_scale)
        if bad.size:
            raise CircuitError(
                f"circuit {bad[0]} left the range of its drive by "
                f"{outcome.outside[bad[0]]:.3g} V ({bad.size} circuits): its resistance "
                "does not stay positive, or the tolerance is too loose"
            )
        return job, outcome
