"""Circuits against the field equations: d = 1.5 nm, 6 sheets, standard mesh.

    python -m analysis.circuit_vs_pde DIR

Numbers of the circuits come from one training run; the other cases are predictions.
Sheet length, opening, ions, scan rate and window are our choice.
"""

import sys
from pathlib import Path

from nanoslit import launch
from nanoslit.discovery.law import ResistanceLaw
from nanoslit.study.compare import compare, models_of
from nanoslit.study.parameters import ladder_parameters, read_cell

PLAN = Path(__file__).resolve().parents[1] / "nanoslit" / "cli" / "case_template.toml"
CASES = {
    "train": {},
    "rate5e4": {"protocol.scan_rate": "5e4 V/s"},
    "rate2e5": {"protocol.scan_rate": "2e5 V/s"},
    "window03": {"protocol.upper": "0.3 V"},
    "sheets9": {"geometry.sheets": "9"},
}


def call(words):
    """Run nanoslit and stop if it fails."""
    with launch.start(words) as child:
        if code := child.wait():
            sys.exit(f"nanoslit {words[0]}: {launch.explain_exit(code)}")


def solve(folder, name, changes):
    """Return the result file of a case, solved if it is missing."""
    result = folder / f"{name}.h5"
    changes = {"geometry.sheets": "6", **changes, "name": name}
    words = ["run", PLAN, "-o", result, "--resume", "--snapshots", "none"]
    words += [w for k, v in changes.items() for w in ("--set", f"{k}={v}")]
    if not result.exists():
        call(words)
    return result


def main():
    """Solve, discover on the training run alone, compare, print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/circuit_vs_pde")
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: solve(folder, name, changes) for name, changes in CASES.items()}
    law = folder / "LAW.json"
    if not law.exists():
        call(["discover", files["train"], "-o", law, "--voltage", "counterion",
              "--charge", "X", "--evaluations", "20000", "--quiet"])  # fmt: skip
    cell = read_cell(files["train"])
    parameters = ladder_parameters(cell)
    models = models_of(cell, ResistanceLaw.from_file(law))
    print({k: round(v, 4) for k, v in parameters.residuals.items()})
    print(f"{'case':10}" + "".join(f"{m.name:>16}" for m in models))
    for name, path in files.items():
        found = compare(models, read_cell(path))
        numbers = (f"{100 * found[m.name].deviation:>14.2f} %" for m in models)
        print(f"{name:10}" + "".join(numbers))


if __name__ == "__main__":
    main()
