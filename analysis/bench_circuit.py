"""Voltammograms per second: this package, ngspice and SciPy, at stated error, in one run.

One voltammogram = one cycle 0..1 V from rest. Population (our choice): theta 0.1-3,
gamma -0.9..0.9, R_open/R_c and C_open/C_slit 0.1-2, all log-uniform but gamma, seed 1.
Error: largest deviation of the returned current, joined linearly between its stored
points, from SciPy's Radau at 1e-10, over the peak, outside the first 0.2 % of a half
sweep. Compilation is excluded. Run: ``python -m analysis.bench_circuit [--quick]``; takes
2-4 minutes; the machine should do nothing else. ``--study`` times a study of a million
circuits with Sobol indices instead.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp

from nanoslit import CyclicVoltammetry, NanoCircuit
from nanoslit.circuit import Tolerance
from nanoslit.circuit.configuration import Constraint, Study, Variable
from nanoslit.circuit.explorer import explore
from nanoslit.circuit.spice import netlist

CV = CyclicVoltammetry(lower=0.0, upper=1.0, scan_rate=1.0, cycles=1)
SETTINGS = {"points": 176, "tolerance": Tolerance(6e-5, 1e-4)}
SIZES = {6: 40_000, 20: 12_000, 100: 2_400, 1000: 240}
CHECKED = {6: 24, 20: 8, 100: 3, 1000: 1}


def population(n: int, count: int) -> NanoCircuit:
    """Return random circuits with N slits."""
    rng = np.random.default_rng(1)
    theta = 10 ** rng.uniform(-1, np.log10(3), count)
    r_c = theta / n**2
    rho, c = 10 ** rng.uniform(-1, np.log10(2), (2, count))
    return NanoCircuit(n, r_c, rng.uniform(-0.9, 0.9, count), 1.0, rho * r_c, c)


def reference(circuit: NanoCircuit, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return time and current of each half sweep from an independent integration."""
    one = circuit.select([k])
    cap, r_open = one.capacitance[0], one.value("r_open")[0]
    r_c, gamma = one.value("r_c")[0], one.value("gamma")[0]
    n = len(cap)
    u = np.zeros(n)
    sweeps = []
    for first, slope in ((0.0, 1.0), (1.0, -1.0)):

        def rate(t: float, u: np.ndarray, first: float = first, slope: float = slope):
            flow = np.zeros(n + 1)
            flow[0] = (first + slope * t - u[0]) / r_open
            flow[1:-1] = (u[:-1] - u[1:]) / (r_c * (1 - gamma * np.abs(u[1:])))
            return (flow[:-1] - flow[1:]) / cap

        band = {"lband": 1, "uband": 1} if n > 30 else {}
        method = "LSODA" if n > 30 else "Radau"
        s = solve_ivp(
            rate, (0, 1), u, method=method, rtol=1e-10, atol=1e-12, dense_output=True, **band
        )
        t = np.linspace(0, 1, 4001) ** 2
        sweeps.append((t, (first + slope * t - s.sol(t)[0]) / r_open))
        u = s.y[:, -1]
    return sweeps


def deviation(time_: np.ndarray, current: np.ndarray, sweeps: list) -> float:
    """Return the error of a current against the reference, over its peak."""
    peak = max(np.abs(i).max() for _, i in sweeps)
    worst = 0.0
    for k, (t, i) in enumerate(sweeps):
        part = (time_ >= k - 1e-9) & (time_ <= k + 1 + 1e-9)
        keep = t > 0.002
        found = np.interp(t[keep] + k, time_[part], current[part])
        worst = max(worst, float(np.abs(found - i[keep]).max()))
    return worst / peak


def processor_time() -> float:
    """Return the processor time of this process and its children [s]."""
    use = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in use)


def timed(action, repeat: int = 3) -> tuple[float, float]:
    """Return the shortest wall and processor times of some repeats."""
    best = np.inf, np.inf
    for _ in range(repeat):
        wall, work = time.perf_counter(), processor_time()
        action()
        now = time.perf_counter() - wall, processor_time() - work
        best = min(best[0], now[0]), min(best[1], now[1])
    return best


def ours(quick: bool) -> float:
    """Print throughput and error of both back ends; return the rate at N = 6."""
    cores = len(os.sched_getaffinity(0))
    head = "error: median / max"
    print(
        f"{'N':>5} {'back end':<18} {'CV/s':>8} {'CV per s of':>12} {'ns per slit':>12}\n"
        f"{'':>5} {'':<18} {'wall':>8} {'processor':>12} {'processor':>12}  {head}"
    )
    rate_6 = 0.0
    for n, count in SIZES.items():
        count = count // 8 if quick else count
        batch = population(n, count)
        few = population(n, CHECKED[n])
        truth = [reference(few, k) for k in range(CHECKED[n])]
        for backend, threads in (("numba", 1), ("numba", cores), ("numpy", 1)):
            if backend == "numpy" and n > 20:
                continue
            few.simulate(CV, backend=backend, **SETTINGS)  # compiles
            r = few.simulate(CV, backend=backend, **SETTINGS)
            errors = [
                deviation(r.time[k], r.electrode_current[k], truth[k])
                for k in range(len(truth))
            ]

            def run(batch=batch, backend: str = backend, threads: int = threads) -> None:
                batch.simulate(
                    CV, backend=backend, threads=threads, **SETTINGS
                ).electrode_current.sum()

            wall, work = timed(run)
            rate = count / work
            if (n, backend, threads) == (6, "numba", 1):
                rate_6 = rate
            name = f"{backend}, {threads} thread{'s' * (threads > 1)}"
            spread = f"{np.median(errors):.1e} / {max(errors):.1e}"
            print(
                f"{n:>5} {name:<18} {count / wall:>8.0f} {rate:>12.0f} {1e9 / rate / n:>12.0f}"
                f"  {spread}",
                flush=True,
            )
            if cores == 1 and backend == "numba":
                break
    return rate_6


def spice(rate_6: float, n: int = 6) -> None:
    """Print ngspice's time for a new process and for one more run in the same one."""
    program = shutil.which("ngspice")
    if program is None:
        print("ngspice is not installed: no comparison")
        return
    few = population(n, 2)
    truth = reference(few, 0)
    print("\nngspice, N = 6: points, new process, marginal run (processor time), error")
    for steps in (200, 2000, 8000):
        text = netlist(few, CV, index=0, steps=steps)
        base, _, _ = text.partition(".end\n")

        def run(runs: int, base: str = base) -> str:
            control = ["set wr_singlescale", "set numdgt=12", *["run"] * runs]
            lines = "\n".join([".control", *control, "wrdata out.txt v(in) i(vdrive)"])
            with tempfile.TemporaryDirectory() as folder:
                Path(folder, "x.cir").write_text(base + lines + "\nquit\n.endc\n.end\n")
                subprocess.run(
                    [program, "-b", "x.cir"], cwd=folder, capture_output=True, check=True
                )
                return Path(folder, "out.txt").read_text()

        one = timed(lambda: run(1), 2)[1]
        many = timed(lambda: run(6), 2)[1]
        marginal = (many - one) / 5
        rows = np.array([line.split() for line in run(1).splitlines()], float)
        error = deviation(rows[:, 0], -rows[:, 2], truth)
        print(
            f"{steps:>6} {1e3 * one:8.1f} ms {1e3 * marginal:8.1f} ms {error:10.1e}"
            f"   ours {marginal * rate_6:,.0f}x faster than a marginal run",
            flush=True,
        )


def scipy_solvers(n: int = 6) -> None:
    """Print SciPy's time per voltammogram."""
    few = population(n, 1)
    truth = reference(few, 0)
    one = few.select([0])
    cap, r_open = one.capacitance[0], one.value("r_open")[0]
    r_c, gamma = one.value("r_c")[0], one.value("gamma")[0]

    def rate(t: float, u: np.ndarray) -> np.ndarray:
        v = t if t < 1 else 2 - t
        flow = np.zeros(n + 2)
        flow[0] = (v - u[0]) / r_open
        flow[1:-1] = (u[:-1] - u[1:]) / (r_c * (1 - gamma * np.abs(u[1:])))
        return (flow[:-1] - flow[1:]) / cap

    print("\nSciPy, N = 6: method, processor time per CV, error (200 points a half sweep)")
    grid = np.linspace(0, 1, 201) ** 2
    for method, rtol in (("LSODA", 1e-6), ("Radau", 1e-6)):

        def run(method: str = method, rtol: float = rtol) -> tuple[np.ndarray, np.ndarray]:
            u, out = np.zeros(n + 1), []
            for first in (0.0, 1.0):
                s = solve_ivp(
                    rate, (first, first + 1), u, method=method, rtol=rtol, atol=1e-8,
                    t_eval=first + grid,
                )  # fmt: skip
                v = np.where(s.t <= 1, s.t, 2 - s.t)
                out.append((s.t, (v - s.y[0]) / r_open))
                u = s.y[:, -1]
            return tuple(np.concatenate(x) for x in zip(*out, strict=True))

        error = deviation(*run(), truth)
        print(
            f"{method:>6} {rtol:.0e} {1e3 * timed(run, 2)[1]:8.1f} ms {error:10.1e}", flush=True
        )


def million(count: int) -> None:
    """Time a study with Sobol indices of five variables, in the periodic state."""
    log = {"scale": "log"}
    study = Study(
        "bench", {"n_slits": 6},
        (
            Variable("theta", 0.05, 3.0, **log), Variable("gamma", -0.9, 0.9),
            Variable("rho", 0.1, 2.0, **log), Variable("c", 0.1, 2.0, **log),
            Variable("upper", 0.5, 1.5), Variable("saturation", 0.5, 2.0),
        ),
        0.0, 1.0, None, "periodic", "sensitivity", count, 1,
        constraints=(Constraint("asymmetry", max=0.1),),
    )  # fmt: skip
    small = Study(**{**study.__dict__, "samples": 64})
    explore(small)  # compiles
    start = time.perf_counter()
    cpu = time.process_time()
    result = explore(study)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{len(result.feasible)} circuits, Sobol indices of {len(study.variables)} variables: "
        f"{wall:.0f} s wall, {cpu:.0f} s of processor time on "
        f"{len(os.sched_getaffinity(0))} cores, {peak:.2f} GB peak memory"
    )


def main() -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an eighth of the circuits")
    parser.add_argument("--study", action="store_true", help="only the large study")
    parser.add_argument("--circuits", type=int, default=1_048_576)
    chosen = parser.parse_args()
    if chosen.study:
        million(chosen.circuits)
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; settings {SETTINGS}")
    rate_6 = ours(chosen.quick)
    spice(rate_6)
    scipy_solvers()


if __name__ == "__main__":
    main()
