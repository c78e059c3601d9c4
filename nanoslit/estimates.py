"""Numbers that follow from a case by hand calculation, before anything is solved.

They are small-signal estimates: point charges in equilibrium across a slit (double
layer of Debye and Hueckel), uniform conductivity along it. The solver knows better;
the estimates tell whether a case is what its author had in mind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nanoslit.case import Case
from nanoslit.geometry import NanoslitNetwork

__all__ = ["CARBON_CAPACITANCE", "Estimates", "estimate", "memory_estimate"]

CARBON_CAPACITANCE = (0.05, 0.20)
"""Capacitance per wall area typical of measured carbons, 5-20 uF/cm^2 [F m^-2]."""

_WARN_RATIO = 3.0


@dataclass(frozen=True)
class Estimates:
    """Derived numbers of a case; None where the geometry has no slits.

    Parameters
    ----------
    debye_length : float
        [m].
    overlap : float or None
        Twice the Debye length over the slit size [-]; double layers overlap from 1.
    steric_fraction : float
        Volume fraction of ions in the bulk, 2 a^3 c0 for a 1:1 salt [-].
    conductivity : float
        Of the bulk [S m^-1].
    wall_capacitance : float
        At low voltage, per wall area: (eps / lambda_D) tanh(d / 2 lambda_D), in series
        with the Stern layer [F m^-2].
    R_c, C_slit : float or None
        Resistance l_path / (sigma d) of a slit [Ohm m] and capacitance L C_wall of
        its two half sheets [F m^-1], per metre of depth and half period.
    rc_time : float
        R_c C_slit; for a planar wall that of the reservoir [s].
    sweep_time : float
        Time in which the protocol crosses its window [s].
    theta : float
        N^2 R_c C_slit over the sweep time [-]; the sheets charge together for
        theta << 1, one after the other for theta >> 1.
    """

    debye_length: float
    overlap: float | None
    steric_fraction: float
    conductivity: float
    wall_capacitance: float
    R_c: float | None
    C_slit: float | None
    rc_time: float
    sweep_time: float
    theta: float

    @property
    def warnings(self) -> list[str]:
        """What a measured electrode would not show."""
        ratio = self.wall_capacitance / CARBON_CAPACITANCE[1]
        if ratio <= _WARN_RATIO:
            return []
        return [
            f"the wall capacitance is {ratio:.1f} times the 20 uF/cm^2 at the upper end of "
            "measured carbons: charge, current and RC times of this case are as much "
            "larger. A Stern layer lowers it: [electrode] stern_capacitance = "
            '"10 uF/cm^2"'
        ]


def _sweep_time(case: Case) -> float:
    """Half a period of a voltammogram, the whole of another protocol [s]."""
    period = getattr(case.protocol, "period", None)
    return case.protocol.duration if period is None else 0.5 * period


def estimate(case: Case) -> Estimates:
    """Return the derived numbers of a case."""
    salt, shape = case.electrolyte, case.geometry
    sigma, debye = salt.conductivity, salt.debye_length
    slits = shape if isinstance(shape, NanoslitNetwork) else None
    wall = salt.debye_capacitance
    if slits:
        wall *= math.tanh(slits.slit_size / (2 * debye))
    if case.electrode.stern_capacitance is not None:
        wall = 1 / (1 / wall + 1 / case.electrode.stern_capacitance)
    R_c = slits.path_length / (sigma * slits.slit_size) if slits else None
    C_slit = wall * slits.sheet_length if slits else None
    if R_c is not None and C_slit is not None:
        rc_time, n = R_c * C_slit, shape.sheets
    else:
        rc_time, n = wall * shape.reservoir / sigma, 1
    sweep_time = _sweep_time(case)
    return Estimates(
        debye_length=debye,
        overlap=2 * debye / slits.slit_size if slits else None,
        steric_fraction=salt.steric_fraction,
        conductivity=sigma,
        wall_capacitance=wall,
        R_c=R_c,
        C_slit=C_slit,
        rc_time=rc_time,
        sweep_time=sweep_time,
        theta=n**2 * rc_time / sweep_time,
    )


def memory_estimate(nodes: int, ions: int, lines: int, solver: str = "direct") -> float:
    """Return the memory that ``nanoslit run`` takes in one process [bytes].

    270 MB for the program, and per node and entry of its (ions + 1)^2 block 495 bytes with
    the iterative solver, 515 and 2 for each of the ``lines`` across the mesh with the LU of
    the direct one: measured on networks of 3 to 96 sheets of 1.5 and 5 nm with 1530 to
    126204 nodes, 20 to 142 lines across (peaks of 280 to 1080 MB, met within 5 %).

    Parameters
    ----------
    nodes, ions : int
    lines : int
        Nodes across the mesh, the shorter way.
    solver : {"direct", "iterative"}
    """
    entry = 495.0 if solver == "iterative" else 515.0 + 2.0 * lines
    return 270e6 + entry * nodes * (ions + 1) ** 2
