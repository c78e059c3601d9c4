"""Figures of the sweep service: dispatch, catalogue, efficiency, memory.

    python -m analysis.bench_sweep [dispatch] [catalogue] [efficiency]

``dispatch``: 10,000 points whose solver does nothing but write a small file, through Dask
workers and solver processes; time and service memory per point. ``catalogue``: a plan of a
million points checked, filled into a catalogue, its status. ``efficiency``: 24 real points,
solver time over twice the wall time until the queue is empty (idle two-core machine).
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CASE = """
[case.electrolyte]
ion_size = "0.4 nm"
[[case.electrolyte.ions]]
name = "K+"
charge = 1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[[case.electrolyte.ions]]
name = "Cl-"
charge = -1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[case.geometry]
kind = "nanoslit-network"
slit_size = "1.5 nm"
sheet_length = "10 nm"
opening = "1 nm"
sheets = 3
reservoir = "10 nm"
[case.protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "0.2 V"
scan_rate = "1e5 V/s"
cycles = 2
[case.numerics]
mesh = "coarse"
"""


def grid(*counts: int) -> str:
    """Return a plan over slit size, concentration and scan rate."""
    d, c, v = counts
    return f"""name = "bench"
[axes]
geometry.slit_size = {{ from = "1.2 nm", to = "5 nm", points = {d} }}
"electrolyte.ions.*.concentration" = {{ from = "0.5 mol/L", to = "1 mol/L", points = {c} }}
protocol.scan_rate = {{ from = "1e5 V/s", to = "1e6 V/s", points = {v}, spacing = "log" }}
{CASE}"""


def nothing(request: dict[str, Any], point: Any, comm: Any, watch: Any) -> dict[str, Any]:
    """Write a small file instead of solving."""
    point.work.write_bytes(b"nothing")
    return {"finished": True, "size": 7}


def resident() -> float:
    """Return the memory of this process now [MB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def dispatch(folder: Path) -> None:
    """Print time and memory per point of 10,000 points that do nothing."""
    from nanoslit.sweep.cluster import Where
    from nanoslit.sweep.control import run
    from nanoslit.sweep.plan import plan_from_toml

    memory: list[tuple[int, float]] = []

    def tell(service: Any) -> None:
        done = service.catalogue.counts(service.plan)["done"]
        memory.append((done, resident()))

    plan = plan_from_toml(grid(100, 10, 10))
    begin = time.perf_counter()
    outcome = run(plan, folder, Where(), tell, solver="analysis.bench_sweep:nothing")
    whole = time.perf_counter() - begin
    n = outcome.counts["done"]
    working = outcome.ended - outcome.started
    print(
        f"dispatch: {n} points in {working:.1f} s = {1e3 * working / n:.2f} ms a point "
        f"(with start and end of the service {whole:.1f} s = {1e3 * whole / n:.2f} ms)"
    )
    if len(memory) > 1:
        half = [m for d, m in memory if d > n // 4]
        print(
            f"  memory of the service {half[0]:.0f} MB after a quarter, {half[-1]:.0f} MB at "
            "the end"
        )


def catalogue(folder: Path) -> None:
    """Print the times of a plan of a million points."""
    from nanoslit.sweep.catalogue import Catalogue
    from nanoslit.sweep.dryrun import dry_run
    from nanoslit.sweep.folder import Folder
    from nanoslit.sweep.plan import plan_from_toml
    from nanoslit.sweep.reconcile import enter_plan
    from nanoslit.sweep.status import sweep_status

    begin = time.perf_counter()
    plan = plan_from_toml(grid(100, 100, 100))
    facts = dry_run(plan)
    print(f"plan of {facts['points']} points, dry run: {time.perf_counter() - begin:.2f} s")
    place = Folder.create(folder)
    before, begin = resident(), time.perf_counter()
    with Catalogue(place.catalogue) as index:
        enter_plan(place, index, plan)
    took = time.perf_counter() - begin
    print(
        f"  filled in {took:.1f} s = {facts['points'] / took:.0f} points/s; memory grew by "
        f"{resident() - before:.0f} MB; {place.catalogue.stat().st_size / 1e6:.0f} MB on disk"
    )
    begin = time.perf_counter()
    sweep_status(folder)
    print(f"  status: {time.perf_counter() - begin:.2f} s")


def efficiency(folder: Path) -> None:
    """Print solver time over core time of 24 real points."""
    from nanoslit.sweep.cluster import Where
    from nanoslit.sweep.control import run
    from nanoslit.sweep.folder import Folder
    from nanoslit.sweep.plan import plan_from_toml

    text = grid(6, 2, 2).replace('mesh = "coarse"', 'mesh = "standard"')
    run(plan_from_toml(text), folder, Where(workers=2))
    records = [p.done or {} for _, p in Folder(folder).found()]
    begin = min(r["started"] for r in records)
    end = max(r["ended"] for r in records)
    cpu = sum(r["cpu"] for r in records)
    held = sum(r["ended"] - r["started"] for r in records)
    core_time = 2 * (end - begin)
    print(
        f"efficiency: {len(records)} points, {cpu:.1f} s of solver in {end - begin:.1f} s on 2 "
        f"cores = {cpu / core_time:.3f}; solvers held a point for {held / core_time:.3f} of "
        "the core time (the first is lower where others use the cores)"
    )


def main() -> None:
    """Run the parts named on the command line, all by default."""
    parts = {"dispatch": dispatch, "catalogue": catalogue, "efficiency": efficiency}
    for name in sys.argv[1:] or parts:
        with tempfile.TemporaryDirectory(prefix="ns-") as folder:
            parts[name](Path(folder) / "sweep")


if __name__ == "__main__":
    main()
