"""Ion-resolved circuits against the field equations, and how fast they are.

    python -m analysis.ion_circuit_vs_pde DIR

Solves training runs at 1e5 V/s (6 sheets, 1 mol/L, 0 to 0.2 V, standard mesh) and runs that
the circuits did not see: other scan rates, windows, numbers of sheets, concentrations,
diffusivities, and a slit size between those of the training. Prints the L2 norm of the
difference of the currents over the last cycle, relative, and the times of solver and circuit
in this process. All values are our choice.
"""

import sys
import time
from pathlib import Path

from analysis.circuit_vs_pde import solve
from nanoslit.results.files import read_case_of, read_summary
from nanoslit.study.compare import deviation
from nanoslit.study.parameters import read_cell
from nanoslit.study.predict import train

RATE, SIZE, UPPER = "protocol.scan_rate", "geometry.slit_size", "protocol.upper"
SALT, SLOW = "electrolyte.ions.*.concentration", "electrolyte.ions.1.diffusivity"
ONE = {
    "train": {},
    "rate5e4": {RATE: "5e4 V/s"},
    "rate2e5": {RATE: "2e5 V/s"},
    "rate1e6": {RATE: "1e6 V/s"},
    "window03": {UPPER: "0.3 V"},
    "window05": {UPPER: "0.5 V"},
    "sheets9": {"geometry.sheets": "9"},
    "salt03": {SALT: "0.3 mol/L"},
    "salt03_rate1e6": {SALT: "0.3 mol/L", RATE: "1e6 V/s"},
    "slow_anion": {SLOW: "0.5e-9 m^2/s"},
}
SIZES = {
    "train": {},
    "d3": {SIZE: "3 nm"},
    "d5": {SIZE: "5 nm"},
    "d2": {SIZE: "2 nm"},
    "d2_rate1e6": {SIZE: "2 nm", RATE: "1e6 V/s"},
    "d5_rate1e6": {SIZE: "5 nm", RATE: "1e6 V/s"},
}


def table(folder, cases, trained):
    """Print deviations of circuits trained on some of the cases from all of them."""
    files = {name: solve(folder, name, changes) for name, changes in cases.items()}
    material = train([files[name] for name in trained])
    print(f"trained on {', '.join(trained)}")
    for run in material.trained:
        print("  misfits:", {k: round(v, 4) for k, v in run.residuals.items()})
    for name, path in files.items():
        case = read_case_of(path)
        off = deviation(material.circuit, read_cell(path))
        circuit, walls = material.circuit(case), []
        for _ in range(5):
            start = time.perf_counter()
            circuit.simulate(case.protocol)
            walls.append(time.perf_counter() - start)
        solver = read_summary(path)["cost"]["wall_time"]
        times = f"circuit {1e3 * min(walls):5.1f} ms, solver {solver:5.1f} s"
        print(f"  {name:16} {off:7.2%}   {times}", flush=True)


def main():
    """Solve, train, compare, print."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/circuit_vs_pde")
    folder.mkdir(parents=True, exist_ok=True)
    table(folder, ONE, ["train"])
    table(folder, SIZES, ["train", "d3", "d5"])


if __name__ == "__main__":
    main()
