"""Which law do the solver's own traces obey? Slit sizes and scan rates, three voltages.

``python -m analysis.law_on_traces FOLDER`` solves twelve cases (d = 1.5, 2, 3, 5 nm at 1e5,
3e5 and 1e6 V/s, four sheets, standard mesh; about 15 s each) unless their results are in
FOLDER, then searches on the lowest and highest rate, with 3e5 V/s held out. Sheet length,
opening, ion size, window and rates are our choice. For each law it prints the misfit with
constants private to each opening (charging half, which it learned from; discharging half),
then with one set of constants for each slit size (the same, and the held-out rate predicted
without any fit).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nanoslit import run
from nanoslit.casefile import case_from_toml
from nanoslit.discovery.problem import SearchSettings
from nanoslit.discovery.tables import ResultsTask

VOLTAGES = ("electrochemical", "counterion", "mid")
SIZES = ("1.5", "2", "3", "5")
RATES = ("1e5", "1e6", "3e5")
HELD_OUT = "3e5"
CASE = """
name = "law"
[electrolyte]
permittivity = 78.5
temperature = "298.15 K"
ion_size = "0.4 nm"
[[electrolyte.ions]]
name = "K+"
charge = 1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[[electrolyte.ions]]
name = "Cl-"
charge = -1
diffusivity = "2e-9 m^2/s"
concentration = "1 mol/L"
[geometry]
kind = "nanoslit-network"
slit_size = "{size} nm"
sheet_length = "10 nm"
opening = "1 nm"
sheets = 4
reservoir = "10 nm"
[protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "0.2 V"
scan_rate = "{rate} V/s"
cycles = 2
[numerics]
mesh = "standard"
"""


def results(folder: Path) -> list[Path]:
    """Return the result files, solving what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for size in SIZES:
        for rate in RATES:
            path = folder / f"d{size}_r{rate}.h5"
            if not path.exists():
                run(case_from_toml(CASE.format(size=size, rate=rate), "case"), path)
            paths.append(path)
    return paths


def row(name: str, *errors: float | None) -> str:
    """Return one line of percentages."""
    return f"{name:28}" + "".join(
        f"{'-':>10}" if e is None else f"{100 * e:9.1f}%" for e in errors
    )


def main() -> None:
    """Solve, search and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--evaluations", type=int, default=60_000)
    args = parser.parse_args()
    paths = results(args.folder)
    held = [p.stem for p in paths if HELD_OUT in p.stem]
    settings = SearchSettings(evaluations=args.evaluations)
    for voltage in VOLTAGES:
        for salt in (False, True):
            task = ResultsTask.from_files(paths, settings, held, voltage, "X", salt)
            law = task.run()
            assert law is not None
            best = law.best
            print(f"\n{voltage} potential, {'with' if salt else 'without'} ion content:")
            print(f"  {best.extra['template']}")
            print(f"  {law.extra['verdict']}")
            print(row("  its misfit", best.error_train, best.error_test))
        assert law is not None
        print(f"\n{'':28}{'opening':>20}{'slit size':>20}{'held out':>10}")
        shared: dict[str, Any] = law.extra["shared_by_slit_size"]
        for name, form in law.baselines.items():
            if name not in shared:
                continue
            s = shared[name]
            errors = (s["error_train"], s["error_test"], s["error_held_out"])
            print(row(name, form.error_train, form.error_test, *errors))
        for name, values in shared["ion_content_and_salt"]["constants"].items():
            print(f"  {name}: " + ", ".join(f"{k}: {v:.3f}" for k, v in values.items()))


if __name__ == "__main__":
    main()
