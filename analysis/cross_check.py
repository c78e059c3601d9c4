"""Compare ``nanoslit`` with the finite-element peer's reference numbers.

Run with the project's interpreter; FEniCSx is not needed, the reference is a file::

    python analysis/cross_check.py --mesh fine network-1.5nm

Prints, per case, the relative deviation of R_c and gamma of each opening (mid potential
and electrochemical potential), of the CV area and of the charges at the upper vertex,
beside the error estimates of the reference; exit code 1 if one exceeds ``--limit``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from nanoslit.casefile import case_from_toml
from nanoslit.mpnp.simulation import simulate

REFERENCE = Path(__file__).resolve().parent / "peer_reference.json"
POTENTIALS = {"": "slit_potential", "_chemical": "slit_electrochemical_potential"}


def law(
    drop: np.ndarray, current: np.ndarray, charge: np.ndarray, time_: np.ndarray
) -> tuple[float, float]:
    """Fit drop = R_c I (1 - gamma |Q|/Q_max), weighted by time; return R_c and gamma."""
    steps = np.diff(time_, prepend=time_[0], append=time_[-1])
    weight = np.sqrt(0.5 * (steps[1:] + steps[:-1]))  # trapezoidal rule
    regressors = np.stack([current, current * np.abs(charge / np.abs(charge).max())])
    scale = np.abs(current).max()
    solution, *_ = np.linalg.lstsq((regressors * weight).T / scale, drop * weight, rcond=None)
    return solution[0] / scale, -solution[1] / solution[0]


def observables(case: Any) -> dict[str, float]:
    """Run a case; return the compared numbers of its last cycle by name."""
    traces = simulate(case)
    instants, protocol = traces["time"], case.protocol
    ramp = (protocol.upper - protocol.lower) / protocol.scan_rate
    start = 2 * ramp * (protocol.cycles - 1)
    cycle = np.flatnonzero(instants >= start * (1 - 1e-9))
    vertex = np.abs(instants[cycle] - start - ramp).argmin()
    charge, slit = traces["electrode_charge"][cycle], traces["slit_charge"][cycle]
    found = {
        "cv_area": protocol.scan_rate * (2 * charge[vertex] - charge[0] - charge[-1]),
        "electrode charge": charge[vertex],
    }
    for k, q in enumerate(slit[vertex], start=1):
        found[f"slit {k} charge"] = q
    current = traces["opening_current"][cycle]
    for k in range(current.shape[1]):
        for suffix, name in POTENTIALS.items():
            drop = np.diff(traces[name][cycle], axis=1)[:, k]
            fitted = law(drop, current[:, k], slit[:, k], instants[cycle])
            for key, value in zip(("r_c", "gamma"), fitted, strict=True):
                found[f"opening {k + 1} {key}{suffix}"] = value
    return found


def named(entry: dict[str, Any]) -> dict[str, float]:
    """Return a block of the reference by the names of :func:`observables`."""
    vertices = entry["vertices"]
    out = {
        "cv_area": entry["cv_area"],
        "electrode charge": vertices["electrode_charge"][1],
    }
    out |= {f"slit {k} charge": q for k, q in enumerate(vertices["slit_charge"][1], start=1)}
    for k, opening in enumerate(entry["openings"], start=1):
        out |= {f"opening {k} {key}": value for key, value in opening.items()}
    return out


def main() -> None:
    """Run the command line."""
    stored = json.loads(REFERENCE.read_text(encoding="utf-8"))["cases"]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", help=f"all by default: {', '.join(stored)}")
    parser.add_argument("--mesh", default="standard", help="coarse, standard or fine")
    parser.add_argument("--limit", type=float, default=0.01, help="allowed deviation")
    arguments = parser.parse_args()
    worst = 0.0
    for name in arguments.cases or stored:
        entry = stored[name]
        text = f'{entry["case_file"]}[numerics]\nmesh = "{arguments.mesh}"\n'
        begin, begin_cpu = time.perf_counter(), time.process_time()
        found = observables(case_from_toml(text, name))
        wall, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
        exact, error = named(entry["value"]), named(entry["error"])
        print(f"{name} ({arguments.mesh}): {wall:.1f} s, {cpu:.1f} s of processor time")
        for key, value in found.items():
            deviation = value / exact[key] - 1
            worst = max(worst, abs(deviation))
            print(
                f"  {key:24s} {value:14.6g}  deviation {100 * deviation:+8.4f} %  "
                f"reference +- {100 * error[key] / abs(exact[key]):.4f} %"
            )
    print(f"largest deviation {100 * worst:.3f} %, limit {100 * arguments.limit:g} %")
    sys.exit(int(worst > arguments.limit))


if __name__ == "__main__":
    main()
