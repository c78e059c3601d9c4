"""Time the field solver on the reference case: ours, the plain way, the peer, size, ranks.

    python analysis/bench_mpnp.py [--finer 2]     # reference case and the plain way
    python analysis/bench_mpnp.py --peer          # FEniCSx on three sheets, same run
    python analysis/bench_mpnp.py --sheets 6 24 96
    python analysis/bench_mpnp.py --ranks 1 2 [--sheets 24 96]
    python analysis/bench_mpnp.py --solvers 96 [--mesh fine]   # LU, MUMPS, iterative

The *plain way* is what a first implementation does with the same mesh and equations: 400
fixed BDF2 steps and a fresh MUMPS factorisation in every Newton iteration. Errors are
relative to a run on the ``fine`` mesh with strict steps; those of the time steps alone, to
strict steps on the same mesh: there they cannot hide behind an error of the mesh with the
other sign. Times are processor seconds of the stepping (set-up, imports and compilation
excluded), the smallest of ``--repeat`` runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # before numpy loads
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

from nanoslit.case import Case, MeshSpacing, Numerics  # noqa: E402
from nanoslit.electrolyte import Electrolyte  # noqa: E402
from nanoslit.geometry import NanoslitNetwork  # noqa: E402
from nanoslit.mpnp.grid import PRESETS  # noqa: E402
from nanoslit.mpnp.simulation import TOLERANCES, Simulation  # noqa: E402
from nanoslit.mpnp.stepper import Proposal  # noqa: E402
from nanoslit.mpnp.traces import Traces  # noqa: E402
from nanoslit.protocol import CyclicVoltammetry  # noqa: E402
from nanoslit.results.summary import fit_opening, time_weights  # noqa: E402

PEER = Path(__file__).resolve().parent / "peer_fenicsx.py"


def reference_case(sheets: int = 6, mesh: str = "standard", cycles: int = 2) -> Case:
    """Return the reference case: 1 M 1:1 salt, d = 1.5 nm, 0 -> 0.2 V -> 0, 1e5 V/s."""
    return Case(
        f"reference-{sheets}",
        Electrolyte.symmetric(1000.0),
        NanoslitNetwork(1.5e-9, 10e-9, 1e-9, sheets),
        CyclicVoltammetry(0.0, 0.2, 1e5, cycles),
        numerics=Numerics(mesh),
    )


@dataclass
class Run:
    """One timed run."""

    traces: Traces
    seconds: float
    simulation: Simulation

    def laws(self) -> np.ndarray:
        """Return R_c and gamma of every opening (openings, 2)."""
        t = self.traces
        i = t.in_cycle()
        weights = time_weights(t["time"][i])
        fits = [
            fit_opening(
                t["trans_slit_voltage"][i, k],
                t["opening_current"][i, k],
                t["slit_charge"][i, k],
                weights,
            )
            for k in range(t["opening_current"].shape[1])
        ]
        return np.array([[f["r_c"], f["gamma"]] for f in fits])


def adaptive(case: Case) -> Run:
    """Run a case as the product does."""
    with Simulation(case) as simulation:
        simulation.start()
        begin = time.process_time()
        traces = simulation.run()
        return Run(traces, time.process_time() - begin, simulation)


class PlainSimulation(Simulation):
    """Fixed BDF2 steps, MUMPS, a new Jacobian and factorisation each Newton iteration."""

    steps = 400

    def __post_init__(self) -> None:
        """Set the solver up the plain way."""
        super().__post_init__()
        cell = self.cell
        options = cell.PETSc.Options()
        options["mpnp_snes_lag_jacobian"] = "1"
        cell.use_mumps()
        cell.snes.setFromOptions()
        del options["mpnp_snes_lag_jacobian"]
        cell.snes.setJacobian(self._fresh_jacobian, cell._A)

    def _fresh_jacobian(self, *arguments: Any) -> None:
        self.cell._factored_shift = 0.0  # forget the factorisation
        self.cell._jacobian(*arguments)

    def advance(self) -> None:
        """Make one fixed step of order 2 (1 after a kink)."""
        h = self.history
        end = self.kinks[self.segment + 1]
        t = min(h.times[0] + self.kinks[-1] / self.steps, end)
        if end - t < 1e-9 * end:
            t = end
        h.order = min(2, len(h.times))
        u, weights = self._solve(t)
        stored = self._stored(u)
        proposal = Proposal(accept=True, order=h.order, step=t - h.times[0])
        self._finish_step(t, u, stored, weights, proposal, end)


def plain(case: Case) -> Run:
    """Run a case the plain way."""
    with PlainSimulation(case) as simulation:
        simulation.start()
        begin = time.process_time()
        traces = simulation.run()
        return Run(traces, time.process_time() - begin, simulation)


def report(
    name: str, run: Run, truth: np.ndarray | None = None, steps: np.ndarray | None = None
) -> None:
    """Print cost, shares and errors of a run; ``steps`` is the limit of small time steps."""
    s, c = run.simulation, run.simulation.solver_cost
    n = s.grid.n_nodes
    unknowns = n * s.equations.n_fields
    parts = {
        "residual": c.residual_time,
        "assembly": c.assembly_time,
        "factorisation": c.factor_time,
        "Krylov": c.solve_time,
    }
    shares = ", ".join(f"{k} {100 * v / run.seconds:.0f} %" for k, v in parts.items())
    print(
        f"{name}: {run.seconds:.2f} s, {n} nodes, {s.cost.accepted} steps "
        f"({s.cost.rejected_error} rejected), {c.newton_iterations} Newton, "
        f"{c.linear_iterations} Krylov, {c.jacobians} Jacobians, "
        f"{c.factorisations} factorisations"
    )
    print(
        f"    {shares}; {1e6 * run.seconds / s.cost.accepted / unknowns:.2f} us per "
        f"unknown and step; peak memory "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    )
    for of, limit in (("in all", truth), ("of the time steps alone", steps)):
        if limit is not None:
            e = 100 * np.abs(run.laws() / limit - 1).max(axis=0)
            print(f"    largest error {of}: R_c {e[0]:.3f} %, gamma {e[1]:.3f} %", flush=True)


def best(run: Any, repeat: int) -> Run:
    """Return the quickest of several runs."""
    return min((run() for _ in range(repeat)), key=lambda r: r.seconds)


STRICT = 1e-5
"""Step tolerance whose errors do not count beside those of any preset."""


def compare_plain(repeat: int, finer: float) -> None:
    """Print the reference case by ours and the plain way, with their errors."""

    def settings(mesh: str, tolerance: float | None = None) -> Case:
        spacing = PRESETS[mesh].finer(finer)
        tolerance = tolerance or TOLERANCES[mesh]
        return replace(reference_case(), numerics=Numerics(spacing, tolerance=tolerance))

    adaptive(reference_case(1, "coarse", 1))  # compile
    truth = adaptive(replace(reference_case(), numerics=Numerics("fine", STRICT))).laws()
    limits = {m: adaptive(settings(m, STRICT)).laws() for m in ("standard", "coarse")}
    ours = best(lambda: adaptive(settings("standard")), repeat)
    report("ours, standard", ours, truth, limits["standard"])
    loose = best(lambda: adaptive(settings("standard", 1e-3)), repeat)
    report("ours, standard, tolerance 1e-3", loose, truth, limits["standard"])
    coarse = best(lambda: adaptive(settings("coarse")), repeat)
    report("ours, coarse", coarse, truth, limits["coarse"])
    slow = plain(settings("standard"))
    report("plain way, standard", slow, truth, limits["standard"])
    print(
        f"plain / ours: {slow.seconds / ours.seconds:.1f} (default tolerance), "
        f"{slow.seconds / loose.seconds:.1f} (tolerance 1e-3)"
    )


def compare_sizes(sheets: list[int]) -> None:
    """Cost per unknown and step against the number of sheets."""
    adaptive(reference_case(1, "coarse", 1))
    base = None
    for n in sheets:
        run = adaptive(reference_case(n, cycles=1))
        report(f"{n} sheets", run)
        s = run.simulation
        cost = run.seconds / s.cost.accepted / s.grid.n_nodes
        base = base or cost
        print(
            f"    cost per unknown and step relative to {sheets[0]} sheets: {cost / base:.2f}"
        )


def compare_ranks(ranks: list[int], sheets: list[int]) -> None:
    """Wall time of stacks on several ranks, best of three."""
    program = """
import sys, time
from mpi4py import MPI
from analysis.bench_mpnp import Simulation, adaptive, reference_case

adaptive(reference_case(1, "coarse", 1))  # compiles
best = float("inf")
for _ in range(3):
    with Simulation(reference_case(int(sys.argv[1]), cycles=1), MPI.COMM_WORLD) as s:
        s.start()
        MPI.COMM_WORLD.barrier()
        begin = time.perf_counter()
        s.run()
        best = min(best, time.perf_counter() - begin)
if MPI.COMM_WORLD.rank == 0:
    print("seconds", best)
"""
    for n_sheets in sheets:
        base = None
        for n in ranks:
            out = subprocess.run(
                ["mpirun", "-n", str(n), sys.executable, "-c", program, str(n_sheets)],
                capture_output=True,
                text=True,
                check=True,
                cwd=Path(__file__).resolve().parent.parent,
            )
            seconds = float(out.stdout.split()[-1])
            base = base or seconds
            print(
                f"{n_sheets} sheets on {n} rank(s): {seconds:.2f} s wall, {base / seconds:.2f} "
                f"times as fast as on {ranks[0]}",
                flush=True,
            )


def compare_solvers(sheets: int, mesh: str, steps: int = 40) -> None:
    """First steps of a long stack by each linear solver, each in a process of its own."""
    program = (
        "import json, resource, sys, time; from dataclasses import replace;"
        "from nanoslit.case import Numerics; import nanoslit.mpnp.petsc as p;"
        "from nanoslit.mpnp.simulation import Simulation;"
        "from analysis.bench_mpnp import adaptive, reference_case;"
        "kind, sheets, mesh, steps = sys.argv[1:];"
        "adaptive(reference_case(1, 'coarse', 1));"
        "p.CHAIN_WIDTH = 0 if kind == 'MUMPS' else 10**6;"
        "solver = 'iterative' if kind == 'iterative' else 'direct';"
        "case = replace(reference_case(int(sheets), mesh), numerics=Numerics(mesh, "
        "linear_solver=solver));"
        "s = Simulation(case); s.start();"
        "memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024;"
        "before = memory(); t = time.process_time();"
        "[s.advance() for _ in range(int(steps))];"
        "c = s.solver_cost; print(json.dumps([time.process_time() - t, before, memory(), "
        "s.grid.n_nodes, c.newton_iterations, c.linear_iterations, c.factorisations]))"
    )
    for kind in ("LU", "MUMPS", "iterative"):
        out = subprocess.run(
            [sys.executable, "-c", program, kind, str(sheets), mesh, str(steps)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        seconds, before, peak, nodes, newton, krylov, factored = json.loads(out.stdout)
        print(
            f"{sheets} sheets, {mesh}, {nodes} nodes, {steps} steps, {kind}: {seconds:.1f} s, "
            f"{newton} Newton, {krylov / newton:.1f} Krylov each, {factored} factorisations, "
            f"memory {before:.0f} -> {peak:.0f} MB",
            flush=True,
        )


AS_GOOD_AS_PEER = {
    "2 %": Numerics(MeshSpacing(wall=1.1, growth=1.1, largest=20.0), tolerance=3e-3),
    "0.2 %": Numerics(MeshSpacing(wall=0.65, growth=0.65, largest=20.0), tolerance=5e-4),
}
"""Like the presets of the peer, the coarsest that are as good in this case."""


def compare_peer(repeat: int) -> None:
    """Three sheets: ours and FEniCSx (its own interpreter) at about 2 % and 0.2 %."""
    adaptive(reference_case(1, "coarse", 1))
    reference = json.loads((PEER.parent / "peer_reference.json").read_text())
    openings = reference["cases"]["network-1.5nm"]["value"]["openings"]
    truth = np.array([[o["r_c"], o["gamma"]] for o in openings])
    for name, numerics in AS_GOOD_AS_PEER.items():
        case = replace(reference_case(3), numerics=numerics)
        report(f"ours, {name}", best(lambda case=case: adaptive(case), repeat), truth)
    for preset in ("2 %", "0.2 %"):
        for reuse in ("--no-reuse", "--reuse"):
            command = [
                "/usr/bin/python3",
                str(PEER),
                "network-1.5nm",
                "--preset",
                preset,
                reuse,
            ]
            seconds = []
            for _ in range(repeat + 1):  # the first compiles the forms
                out = subprocess.run(command, capture_output=True, text=True, check=True)
                seconds.append(json.loads(out.stdout)["cost"]["wall_time_s"])
            print(f"FEniCSx, {preset}, {reuse[2:]}: {min(seconds[1:]):.2f} s wall")


def main() -> None:
    """Parse the options and run what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--finer", type=float, default=1.0, help="divides the spacing of the presets"
    )
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--sheets", type=int, nargs="+")
    parser.add_argument("--ranks", type=int, nargs="+")
    parser.add_argument("--solvers", type=int, metavar="SHEETS")
    parser.add_argument("--mesh", default="standard", help="of --solvers")
    options = parser.parse_args()
    if options.solvers:
        compare_solvers(options.solvers, options.mesh)
    elif options.ranks:
        compare_ranks(options.ranks, options.sheets or [24])
    elif options.sheets:
        compare_sizes(options.sheets)
    elif options.peer:
        compare_peer(options.repeat)
    else:
        compare_plain(options.repeat, options.finer)


if __name__ == "__main__":
    main()
