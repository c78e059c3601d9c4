"""What results cost: share of a run's time, and a 96-sheet result.

    python -m analysis.bench_results [--sheets 96] [--mesh coarse]

Prints, for the reference case (6 sheets, standard mesh) and for the large one, the wall
time of the run, of a checkpoint and of the result file, their sizes, and the peak memory
of the process before and after writing.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

from nanoslit import Case, CyclicVoltammetry, Electrolyte, Ion, NanoslitNetwork
from nanoslit.case import Numerics
from nanoslit.casefile import case_from_toml, case_to_toml
from nanoslit.mpnp.excess import add_excess
from nanoslit.mpnp.simulation import Simulation
from nanoslit.results.checkpoint import Checkpoints
from nanoslit.results.files import write_result
from nanoslit.results.provenance import describe
from nanoslit.results.running import CHECKPOINT_EVERY
from nanoslit.results.sealed import check
from nanoslit.results.snapshots import Snapshots, snapshot_times


def reference(sheets: int, mesh: str) -> Case:
    """Return the reference case with so many sheets."""
    ions = (Ion("K+", 1, 2e-9, 1e3), Ion("Cl-", -1, 2e-9, 1e3))
    return Case(
        name=f"{sheets}-sheets",
        electrolyte=Electrolyte(ions, 78.5, 298.15, 0.4e-9),
        geometry=NanoslitNetwork(1.5e-9, 10e-9, 1e-9, sheets, reservoir=10e-9),
        protocol=CyclicVoltammetry(0.0, 0.2, 1e5, cycles=2),
        numerics=Numerics(mesh=mesh),
    )


def peak() -> float:
    """Return the largest memory of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(case: Case, folder: Path, most_steps: int | None = None) -> None:
    """Run a case and print what its files cost."""
    path = folder / f"{case.name}.h5"
    cpu = time.process_time
    case = case_from_toml(case_to_toml(case))  # as from a file: loads the units, too
    with Simulation(case) as run:
        begin, began = time.perf_counter(), cpu()
        snapshots = Snapshots(snapshot_times(case))
        run.start()
        snapshots(run)
        while not run.finished and run.cost.accepted != most_steps:
            run.advance()
            snapshots(run)
        solved, work = time.perf_counter() - begin, cpu() - began
        traces = run.traces()
        begin = time.perf_counter()
        if run.finished:
            add_excess(run, traces)
        excess = time.perf_counter() - begin
        before = peak()
        begin = time.perf_counter()
        state, taken = run.state(), snapshots.state(run)
        assert state is not None
        assert taken is not None
        slot = Checkpoints(path, "benchmark").write({"simulation": state, "snapshots": taken})
        saved = time.perf_counter() - begin
        times, works = [], []
        provenance = describe(case)  # asked for once, when a run starts
        for _ in range(3):
            begin, began = time.perf_counter(), cpu()
            write_result(path, run, traces, snapshots, provenance)
            times.append(time.perf_counter() - begin)
            works.append(cpu() - began)
        written, work_written = sorted(times)[1], sorted(works)[1]
        after = peak()
        begin = time.perf_counter()
        check(path)
        verified = time.perf_counter() - begin
        nodes, steps = run.grid.n_nodes, run.cost.accepted
    count = solved / CHECKPOINT_EVERY  # checkpoints in a run of this length
    share = (written + count * saved) / (solved + excess + written + count * saved)
    whole = "whole run" if most_steps is None else f"first {most_steps} steps only"
    print(f"{case.name}, {case.numerics.mesh} mesh, {nodes} nodes, {steps} steps ({whole})")
    print(f"  solving {solved:.2f} s, equilibria for the excess currents {excess:.2f} s")
    print(
        f"  result: {path.stat().st_size / 1e6:.2f} MB in {written:.2f} s (median of 3), "
        f"{len(snapshots.taken)} snapshots, verified in {verified:.2f} s"
    )
    print(
        f"  checkpoint: {slot.stat().st_size / 1e6:.2f} MB written in {saved:.2f} s, one "
        f"every {CHECKPOINT_EVERY:.0f} s"
    )
    busy = work_written / (work + work_written)
    print(
        f"  share of files: {100 * share:.1f} % of the wall time; the result alone takes "
        f"{100 * busy:.1f} % of the processor time ({work_written:.2f} s of "
        f"{work + work_written:.1f} s)"
    )
    print(f"  peak memory: {before:.0f} MB before, {after:.0f} MB after writing")


def main() -> None:
    """Measure the reference case and a large one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheets", type=int, default=96)
    parser.add_argument("--mesh", default="coarse")
    parser.add_argument("--large-only", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if not options.large_only:
            measure(reference(6, "standard"), Path(folder))
        measure(reference(options.sheets, options.mesh), Path(folder))


if __name__ == "__main__":
    main()
