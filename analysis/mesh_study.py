"""Error of R_c, gamma and CV area against mesh preset and step tolerance.

    python -m analysis.mesh_study [--cases NAME ...] [--finer] [--time] [--json FILE]

Every case is run with the three presets at their own step tolerances. Errors refer to the
value that Richardson's formula of second order extrapolates from ``fine`` and a mesh 1.6
times coarser at one tolerance; with ``--finer`` from ``fine`` and a mesh 1.5 times finer
still, which takes many minutes per case. ``--order`` halves the standard mesh of a small
stack twice and prints the observed orders that justify this. With ``--time`` the mesh stays
at ``standard`` and the step tolerance varies. Exit code 1 if a preset breaks its promise for
R_c, gamma (potential at mid-slit) or CV area: coarse 5 %, standard 1 %, fine 0.2 %, relative.
Those of the electrochemical potential are told as well. All geometries are our choice.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from nanoslit.case import Case, Electrode, MeshSpacing, Numerics
from nanoslit.electrolyte import Electrolyte
from nanoslit.geometry import NanoslitNetwork
from nanoslit.mpnp.grid import PRESETS, resolve_spacing
from nanoslit.mpnp.simulation import TOLERANCES, Simulation
from nanoslit.protocol import CyclicVoltammetry
from nanoslit.results.summary import summarise
from nanoslit.units import nm

PROMISES = {"coarse": 0.05, "standard": 0.01, "fine": 0.002}
FINER = 1.5
COARSER = 1.6
QUANTITIES = ("R_c", "gamma", "CV area")
ELECTROCHEMICAL = ("R_c of mu", "gamma of mu")


def _case(
    d: float,
    a: float = 0.4,
    volts: float = 0.2,
    stern: float | None = None,
    molar: float = 1.0,
) -> Case:
    """Return a stack of three sheets: slit and ion size in nm, window in V, mol/L."""
    geometry = NanoslitNetwork(d * nm, 6 * nm, 1 * nm, 3, reservoir=4 * nm)
    return Case(
        f"d{d:g}_a{a:g}_{volts:g}V"
        + ("_stern" if stern else "")
        + (f"_{molar:g}M" if molar != 1 else ""),
        Electrolyte.symmetric(1000 * molar, ion_size=a * nm),
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
        _case(3.0, molar=0.1),
        _case(5.0, a=0.66, molar=0.3),
    )
}


def measure(case: Case, mesh: str | MeshSpacing, tolerance: float) -> dict[str, object]:
    """Run and return the values of every opening, the area, and what they cost."""
    numerics = Numerics(mesh=mesh, tolerance=tolerance)
    case = replace(case, numerics=numerics)
    begin = time.perf_counter()
    with Simulation(case) as simulation:
        summary = summarise(simulation.run(), case)
        nodes, steps = simulation.grid.n_nodes, simulation.cost.accepted
    openings, chemical = summary["openings"], summary["openings_electrochemical"]
    return {
        "R_c": [o["r_c"] for o in openings],
        "gamma": [o["gamma"] for o in openings],
        "R_c of mu": [o["r_c"] for o in chemical],
        "gamma of mu": [o["gamma"] for o in chemical],
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
    numbers = "  ".join(f"{q} {100 * e:8.4f} %" for q, e in errors.items())
    print(
        f"  {label:>10}  {run['nodes']:>6} nodes {run['steps']:>4} steps "
        f"{run['seconds']:6.1f} s   {numbers}",
        flush=True,
    )


def extrapolate(
    coarse: dict[str, object], fine: dict[str, object], ratio: float
) -> dict[str, object]:
    """Return the limit of second-order values on two meshes."""
    return {
        q: np.asarray(fine[q]) + (np.asarray(fine[q]) - np.asarray(coarse[q])) / (ratio**2 - 1)
        for q in QUANTITIES + ELECTROCHEMICAL
    }


def study_mesh(case: Case, finer: bool = False) -> dict[str, dict[str, float]]:
    """Print and return the errors of the presets."""
    tolerance = TOLERANCES["fine"]
    runs = {p: measure(case, p, TOLERANCES[p]) for p in PROMISES}
    fine = resolve_spacing(replace(case, numerics=Numerics("fine")))
    if finer:
        runs["finest"] = measure(case, fine.finer(FINER), tolerance)
        reference = extrapolate(runs["fine"], runs["finest"], FINER)
    else:
        coarser = measure(case, fine.finer(1 / COARSER), tolerance)
        reference = extrapolate(coarser, runs["fine"], COARSER)
    out = {}
    print(f"{case.name}: R_c {reference['R_c']} Ohm m, gamma {reference['gamma']}")
    for name, run in runs.items():
        out[name] = {q: error(run[q], reference[q]) for q in reference}
        for q in ("gamma", "gamma of mu"):
            absolute = np.abs(np.asarray(run[q]) - reference[q]).max()
            out[name][f"{q}, absolute"] = float(absolute)
        _show(name, run, out[name])
    return out


def study_order() -> None:
    """Print the observed order of every quantity on a small stack."""
    case = Case(
        "small",
        Electrolyte.symmetric(1000.0),
        NanoslitNetwork(1.5 * nm, 3 * nm, 1 * nm, 2, reservoir=2 * nm),
        CyclicVoltammetry(0.0, 0.2, 1e7, 2),
    )
    values = []
    for factor in (1, 2, 4):
        run = measure(case, PRESETS["standard"].finer(factor), TOLERANCES["fine"])
        values.append([np.ravel(run[q])[0] for q in QUANTITIES])
        print(
            f"  standard / {factor}: {run['nodes']:>6} nodes {run['seconds']:6.1f} s  "
            + "  ".join(f"{q} {v:.7g}" for q, v in zip(QUANTITIES, values[-1], strict=True)),
            flush=True,
        )
    change = np.abs(np.diff(values, axis=0))
    for q, order in zip(QUANTITIES, np.log2(change[0] / change[1]), strict=True):
        print(f"  order of {q}: {order:.2f}")


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
    parser.add_argument("--finer", action="store_true", help="sharper reference")
    parser.add_argument("--order", action="store_true", help="observed orders alone")
    parser.add_argument("--time", action="store_true", help="vary the step tolerance")
    parser.add_argument("--json", type=Path, help="write the errors to this file")
    options = parser.parse_args(arguments)
    if options.order:
        study_order()
        return 0
    errors = {
        name: study_time(CASES[name])
        if options.time
        else study_mesh(CASES[name], options.finer)
        for name in options.cases
    }
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
