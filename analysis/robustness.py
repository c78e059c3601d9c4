"""Where the solver finishes: potentials, scan rates, slit sizes, stack heights.

    python -m analysis.robustness [--quick] [--rungs NAME ...] [--solver iterative]

Every rung is one run with independent checks of its answer: the balances of ions and
current, packing below 1, closure of charge and (for slow sweeps) the equilibrium charge of
the wall. A run that ends without error but fails a check counts as a silent wrong answer
and is the worst outcome. Exit code 1 unless every rung finishes and passes. All values are
our choice.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

from nanoslit.case import Case, Electrode, Numerics
from nanoslit.electrolyte import Electrolyte
from nanoslit.errors import NanoslitError
from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.simulation import Simulation
from nanoslit.mpnp.traces import Traces
from nanoslit.protocol import CyclicVoltammetry
from nanoslit.units import nm

BALANCE = 1e-9  # of the largest current


@dataclass(frozen=True)
class Rung:
    """One run of the ladder."""

    volts: float = 0.2
    rate: float = 1e6
    d: float = 1.5
    sheets: int = 2
    a: float = 0.66
    stern: float | None = None
    mesh: str = "coarse"
    solver: str = "direct"

    @property
    def case(self) -> Case:
        """The case of this rung."""
        geometry = NanoslitNetwork(self.d * nm, 6 * nm, 1 * nm, self.sheets, reservoir=4 * nm)
        return Case(
            "rung",
            Electrolyte.symmetric(1000.0, ion_size=self.a * nm),
            geometry,
            CyclicVoltammetry(0.0, self.volts, self.rate, 1),
            Electrode(self.stern),
            numerics=Numerics(mesh=self.mesh, linear_solver=self.solver),
        )


LADDER = {
    **{f"{v} V": Rung(volts=v) for v in (0.1, 0.3, 0.5, 0.7, 1.0)},
    **{f"{v} V, a = 0.4 nm": Rung(volts=v, a=0.4) for v in (0.5, 1.0)},
    **{f"{v} V, Stern": Rung(volts=v, stern=0.5) for v in (0.5, 1.0, 1.5)},
    "1.0 V, standard mesh": Rung(volts=1.0, mesh="standard"),
    "1.0 V, 1e8 V/s": Rung(volts=1.0, rate=1e8),
    "1.0 V, 1e3 V/s": Rung(volts=1.0, rate=1e3),
    **{f"{r:.0e} V/s": Rung(rate=r) for r in (1e2, 1e4, 1e5, 1e7, 1e8)},
    **{f"d = {d} nm": Rung(d=d) for d in (0.6, 1.0, 3.0, 10.0)},
    "d = 0.6 nm, 1.0 V": Rung(d=0.6, volts=1.0),
    "d = 10 nm, 1.0 V": Rung(d=10.0, volts=1.0),
    **{f"{n} sheets": Rung(sheets=n) for n in (1, 20, 100)},
    "point ions, 0.3 V": Rung(volts=0.3, a=0.0),
}
QUICK = (
    "0.5 V",
    "1.5 V, Stern",
    "1e+02 V/s",
    "1e+08 V/s",
    "d = 0.6 nm",
    "d = 10.0 nm",
    "1 sheets",
)


def wrong(simulation: Simulation, traces: Traces, packing: float) -> list[str]:
    """Return what is wrong with an answer."""
    found = []
    scale = float(np.abs(traces["electrode_current"]).max())
    for name in ("current_mismatch", "ion_mismatch"):
        worst = float(traces[name].max()) / scale
        if not worst <= BALANCE:
            found.append(f"{name} {worst:.1e}")
    if not all(np.isfinite(v).all() for k, v in traces.values.items() if "split" not in k):
        found.append("not finite")
    if not packing <= 1 + 1e-12:  # 1 - 1e-17 is possible, and rounds to 1
        found.append(f"packing {packing:.6f}")
    protocol = simulation.case.protocol
    if protocol.duration > 1e-4:  # slow: the charge at the top is that of equilibrium
        top = int(np.argmax(traces["applied_potential"]))
        v = traces["applied_potential"][top] / simulation.scales.potential
        u = simulation.equilibrium(float(v))
        q = simulation.equations.wall_charge(simulation.cell.with_ghosts(u), float(v)).sum()
        off = traces["electrode_charge"][top] / (q * simulation.scales.charge) - 1
        if not abs(off) < 2e-3:
            found.append(f"charge off equilibrium by {off:.1e}")
    return found


def climb(rung: Rung) -> tuple[str, str]:
    """Run one rung; return verdict (ok, FAILED, WRONG) and what happened."""
    fullest = [0.0]

    def watch(s: Simulation) -> None:
        c = s.equations.compose(s.cell.with_ghosts(s.history.states[0]))
        fullest[0] = max(fullest[0], float(c.packing.sum(axis=0).max()))

    begin = time.perf_counter()
    try:
        with Simulation(rung.case) as simulation:
            traces = simulation.run(watch)
            faults = wrong(simulation, traces, fullest[0])
            cost = simulation.cost
            detail = (
                f"{simulation.grid.n_nodes} nodes, {cost.accepted} steps "
                f"(+{cost.rejected_error} error, +{cost.rejected_newton} Newton), "
                f"packing {fullest[0]:.6f}, {time.perf_counter() - begin:.1f} s"
            )
    except NanoslitError as failure:
        return "FAILED", str(failure)
    return ("WRONG", ", ".join(faults)) if faults else ("ok", detail)


def main(arguments: list[str] | None = None) -> int:
    """Climb the ladder; return 1 unless every rung holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few rungs of every kind")
    parser.add_argument("--rungs", nargs="+", choices=LADDER)
    parser.add_argument("--solver", choices=("direct", "iterative"), default="direct")
    options = parser.parse_args(arguments)
    verdicts = []
    for name in options.rungs or (QUICK if options.quick else LADDER):
        verdict, detail = climb(replace(LADDER[name], solver=options.solver))
        verdicts.append(verdict)
        print(f"{name:>22}  {verdict:>6}  {detail}", flush=True)
    print(
        f"{verdicts.count('ok')} of {len(verdicts)} rungs hold, "
        f"{verdicts.count('WRONG')} silent wrong answers"
    )
    return 0 if all(v == "ok" for v in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
