"""Reference numbers of the finite-element peer, with error estimates, and its costs.

Runs with the same interpreter as ``peer_fenicsx.py`` (see there for the installation)::

    /usr/bin/python3 analysis/peer_study.py reference   # writes peer_reference.json
    /usr/bin/python3 analysis/peer_study.py cost        # seconds against error

``peer_reference.json`` holds, per built-in case: the case file's text, ``value`` and
``error`` (absolute, same shape) of R_c, gamma, CV area, charges and potentials at the
vertices, the runs behind them, and the versions used. SI units, per metre of depth, for
the simulated half period.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from peer_fenicsx import CASES, PRESETS, Discretisation, provenance, read_case, simulate

OBSERVABLES = ("openings", "cv_area", "vertices")
# corner singularities r^(2/3), doubled in functionals, with cells there as s^-2
SPACE_ORDER = 8 / 3


def combine(function: Any, *trees: Any) -> Any:
    """Apply a function of numbers to nested dictionaries and lists of equal shape."""
    if isinstance(trees[0], dict):
        return {key: combine(function, *(t[key] for t in trees)) for key in trees[0]}
    if isinstance(trees[0], list):
        return [combine(function, *branch) for branch in zip(*trees, strict=True)]
    return float(f"{function(*trees):.10g}")


def extrapolated(values: list[float], ratio: float, order: float) -> tuple[float, float]:
    """Return correction and error estimate of the last of three successive levels.

    The correction supposes the theoretical order. Its own size is the error estimate,
    or the last difference, if the differences do not fall as those of a convergent
    series should.
    """
    before, last = values[1] - values[0], values[2] - values[1]
    correction = last / (ratio**order - 1)
    converging = abs(last) * 1.5 < abs(before)
    return correction, abs(correction) if converging else max(abs(last), abs(correction))


def reference(name: str) -> dict[str, Any]:
    """Refine mesh and steps of a case; extrapolate both and estimate the errors.

    Value = finest mesh + mesh correction + step correction, the steps being refined on
    a coarser mesh; error = sum of both estimates and of how the effect of the steps
    depends on the mesh.
    """
    problem = read_case(CASES[name])

    def solve(mesh: float, steps: int) -> dict[str, Any]:
        disc = Discretisation(mesh=mesh, steps=steps, newton_tolerance=1e-4)
        result = simulate(problem, disc)
        log(
            f"{name}: level {mesh:.3g}, {steps} steps per ramp: {result['openings'][0]}"
            f", CV area {result['cv_area']:.6g}; {result['cost']}"
        )
        return result

    root = math.sqrt(2.0)
    space = [solve(mesh, 40) for mesh in (1.0, root, 2.0)]
    instants = [solve(1 / root, steps) for steps in (40, 80, 160, 320)]
    mixed = solve(1.0, 80)
    runs = [*space, *instants, mixed]

    def value_and_error(*v: float) -> tuple[float, float]:
        mesh, mesh_error = extrapolated(list(v[:3]), root, SPACE_ORDER)
        steps, steps_error = extrapolated(list(v[4:7]), 2.0, 2.0)
        steps += v[6] - v[3]
        mixed_error = abs((v[7] - v[0]) - (v[4] - v[3]))
        return v[2] + mesh + steps, mesh_error + steps_error + mixed_error

    trees = [{key: run[key] for key in OBSERVABLES} for run in runs]
    kept = ("openings", "cv_area", "cost", "discretisation")
    return {
        "case_file": CASES[name],
        "value": combine(lambda *v: value_and_error(*v)[0], *trees),
        "error": combine(lambda *v: value_and_error(*v)[1], *trees),
        "study": [{key: run[key] for key in kept} for run in runs],
    }


def largest_error(result: dict[str, Any], exact: dict[str, Any]) -> float:
    """Largest relative error of R_c, gamma (mid potential), and the CV area."""
    pairs = [(result["cv_area"], exact["cv_area"])]
    for mine, true in zip(result["openings"], exact["openings"], strict=True):
        pairs += [(mine[key], true[key]) for key in ("r_c", "gamma")]
    return max(abs(a / b - 1) for a, b in pairs)


def log(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def command_cost(arguments: argparse.Namespace) -> None:
    """Print seconds against error for the presets, with and without reuse of the LU."""
    stored = json.loads(arguments.reference.read_text(encoding="utf-8"))["cases"]
    problem = read_case(CASES[arguments.case])
    simulate(replace(problem, cycles=1), PRESETS["2 %"])  # compile kernels
    for name, preset in PRESETS.items():
        for reuse in (False, True):
            result = simulate(problem, replace(preset, reuse=reuse))
            error = largest_error(result, stored[arguments.case]["value"])
            row = {"preset": name, "reuse": reuse, "error": float(f"{error:.3g}")}
            print(json.dumps({**row, **result["cost"]}), flush=True)


def command_reference(arguments: argparse.Namespace) -> None:
    """Write reference numbers and their errors of the built-in cases."""
    output = arguments.output
    stored = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    cases = stored.get("cases", {})
    for name in arguments.cases or CASES:
        cases[name] = {**reference(name), "provenance": provenance()}
        temporary = output.with_suffix(".tmp")
        temporary.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")
        temporary.replace(output)


def main() -> None:
    """Run the command line."""
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(required=True)
    here = Path(__file__).resolve().parent / "peer_reference.json"
    cost = commands.add_parser("cost", help=command_cost.__doc__)
    cost.add_argument("case", nargs="?", choices=CASES, default="network-1.5nm")
    cost.add_argument("--reference", type=Path, default=here)
    cost.set_defaults(command=command_cost)
    study = commands.add_parser("reference", help=command_reference.__doc__)
    study.add_argument("cases", nargs="*", help="built-in cases; all by default")
    study.add_argument("-o", "--output", type=Path, default=here)
    study.set_defaults(command=command_reference)
    arguments = top.parse_args()
    arguments.command(arguments)


if __name__ == "__main__":
    main()
