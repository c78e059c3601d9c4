"""Error of R_c, gamma and CV area against mesh preset and step tolerance.

    python -m analysis.mesh_study [--cases NAME ...] [--time] [--json FILE]

Every case is run with the three presets and with a mesh 1.5 times finer than ``fine``;
Richardson's formula of second order on the last two gives the value that the errors refer
to. Its own uncertainty is the size of that last correction. With ``--time`` the mesh stays
at ``standard`` and the step tolerance varies. Exit code 1 if a preset breaks its promise:
coarse 5 %, standard 1 %, fine 0.2 %. All geometries are our choice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from nanoslit.case import Case, Electrode, MeshSpacing, Numerics
from nanoslit.electrolyte import Electrolyte
from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.grid import PRESETS
from nanoslit.mpnp.simulation import TOLERANCES, Simulation
from nanoslit.protocol import CyclicVoltammetry
from nanoslit.results.summary import summarise
from nanoslit.units import nm

PROMISES = {"coarse": 0.05, "standard": 0.01, "fine": 0.002}
FINER = 1.5
QUANTITIES = ("R_c", "gamma", "CV area")


def _case(d: float, a: float = 0.4, volts: float = 0.2, stern: float | None = None) -> Case:
    """Return a stack of three sheets: slit and ion size in nm, window in V."""
    geometry = NanoslitNetwork(d * nm, 6 * nm, 1 * nm, 3, reservoir=4 * nm)
    return Case(
        f"d{d:g}_a{a:g}_{volts:g}V" + ("_stern" if stern else ""),
        Electrolyte.symmetric(1000.0, ion_size=a * nm),
        geometry,
        CyclicVoltammetry(0.0, volts, volts * 5e6, 2),
        Electrode(stern),
    )


CASES = {
    c.name: c
    for c in (
        _case(0.8),
        _case(1.5),
        _case(3.0),
        _case(5.0),
        _case(1.5, a=0.3),
        _case(1.5, a=0.66),
        _case(1.5, volts=0.5),
        _case(1.5, a=0.66, volts=0.5),
        _case(1.5, volts=0.5, stern=0.5),
    )
}


def measure(case: Case, mesh: str | MeshSpacing, tolerance: float) -> dict[str, object]:
    """Run and return the values of every opening, the area, and what they cost."""
    numerics = Numerics(mesh=mesh, tolerance=tolerance)
    case = Case(
        case.name,
        case.electrolyte,
        case.geometry,
        case.protocol,
        case.electrode,
        numerics=numerics,
    )
    begin = time.perf_counter()
    with Simulation(case) as simulation:
        summary = summarise(simulation.run(), case)
        nodes, steps = simulation.grid.n_nodes, simulation.cost.accepted
    openings = summary["openings"]
    return {
        "R_c": [o["r_c"] for o in openings],
        "gamma": [o["gamma"] for o in openings],
        "CV area": [summary["cv_area"]],
        "nodes": nodes,
        "steps": steps,
        "seconds": time.perf_counter() - begin,
    }


def error(values: object, reference: object) -> float:
    """Return the largest relative error over openings."""
    v, r = np.asarray(values, float), np.asarray(reference, float)
    return float(np.abs(v / r - 1).max())


def _show(label: str, run: dict[str, object], errors: dict[str, float]) -> None:
    numbers = "  ".join(f"{q} {100 * errors[q]:8.4f} %" for q in QUANTITIES)
    print(
        f"  {label:>10}  {run['nodes']:>6} nodes {run['steps']:>4} steps "
        f"{run['seconds']:6.1f} s   {numbers}",
        flush=True,
    )


def study_mesh(case: Case) -> dict[str, dict[str, float]]:
    """Print and return the errors of the presets."""
    fine = PRESETS["fine"]
    finest = MeshSpacing(fine.wall / FINER, fine.growth / FINER, fine.largest / FINER)
    runs = {p: measure(case, p, TOLERANCES[p]) for p in PROMISES}
    runs["finest"] = measure(case, finest, TOLERANCES["fine"] / 2)
    reference = {
        q: np.asarray(runs["finest"][q])
        + (np.asarray(runs["finest"][q]) - np.asarray(runs["fine"][q])) / (FINER**2 - 1)
        for q in QUANTITIES
    }
    out = {}
    print(f"{case.name}: R_c {reference['R_c']} Ohm m, gamma {reference['gamma']}")
    for name, run in runs.items():
        out[name] = {q: error(run[q], reference[q]) for q in QUANTITIES}
        _show(name, run, out[name])
    return out


def study_time(case: Case) -> dict[str, dict[str, float]]:
    """Print and return the errors of step tolerances at the standard mesh."""
    reference = measure(case, "standard", 1e-6)
    out = {}
    print(f"{case.name}: tolerance, against 1e-6 ({reference['steps']} steps)")
    for tolerance in (1e-2, 5e-3, 1e-3, 1e-4, 1e-5):
        run = measure(case, "standard", tolerance)
        label = f"{tolerance:g}"
        out[label] = {q: error(run[q], reference[q]) for q in QUANTITIES}
        _show(label, run, out[label])
    return out


def main(arguments: list[str] | None = None) -> int:
    """Run the study; return 1 if a preset is worse than promised."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--time", action="store_true", help="vary the step tolerance")
    parser.add_argument("--json", type=Path, help="write the errors to this file")
    options = parser.parse_args(arguments)
    study = study_time if options.time else study_mesh
    errors = {name: study(CASES[name]) for name in options.cases}
    if options.json:
        options.json.write_text(json.dumps(errors, indent=1))
    if options.time:
        return 0
    kept = True
    for preset, bound in PROMISES.items():
        worst = max((e[preset][q], n, q) for n, e in errors.items() for q in QUANTITIES)
        good = worst[0] <= bound
        kept &= good
        print(
            f"{preset}: largest error {100 * worst[0]:.3f} % ({worst[2]}, {worst[1]}), "
            f"promised {100 * bound:g} %: {'kept' if good else 'BROKEN'}"
        )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
