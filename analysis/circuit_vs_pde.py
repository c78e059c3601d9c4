"""Circuits against the field equations: d = 1.5 nm, 6 sheets, standard mesh.

    python -m analysis.circuit_vs_pde DIR

Law and numbers of the circuits come from one training run by the rules of
:mod:`nanoslit.study.parameters`; the other cases are predictions. The table gives the L2
norm of the difference of the currents over the last cycle, relative to that of the solved
cell's current; read from the right, it says what each step of the rules gains. Sheet
length, opening, ions, scan rate and window are our choice.
"""

import sys
from pathlib import Path

from nanoslit import launch
from nanoslit.discovery.law import ResistanceLaw
from nanoslit.study.compare import MODELS, compare, models_of, usable_form
from nanoslit.study.parameters import POTENTIALS, ladder_parameters, read_cell

PLAN = Path(__file__).resolve().parents[1] / "nanoslit" / "cli" / "case_template.toml"
CASES = {
    "train": {},
    "rate5e4": {"protocol.scan_rate": "5e4 V/s"},
    "rate2e5": {"protocol.scan_rate": "2e5 V/s"},
    "rate1e6": {"protocol.scan_rate": "1e6 V/s"},
    "window03": {"protocol.upper": "0.3 V"},
    "sheets9": {"geometry.sheets": "9"},
}


def call(words):
    """Run nanoslit and stop if it fails."""
    with launch.start(words) as child:
        if code := child.wait():
            sys.exit(f"nanoslit {words[0]}: {launch.explain_exit(code)}")


def solve(folder, name, changes, snapshots="none"):
    """Return the result file of a case, solved if it is missing."""
    result = folder / f"{name}.h5"
    changes = {"geometry.sheets": "6", **changes, "name": name}
    words = ["run", PLAN, "-o", result, "--resume", "--snapshots", snapshots]
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
    found = ResistanceLaw.from_file(law)
    form, remark = usable_form(found)
    print(f"law: {form.expression} ({remark or 'the best of the front'})")
    for potential in POTENTIALS:
        p = ladder_parameters(read_cell(files["train"], potential))
        print(f"misfits, {potential}:", {k: round(v, 4) for k, v in p.residuals.items()})
    models = models_of(cell, found)
    for i, model in enumerate(models):
        print(f"({i}) {model.name}: {MODELS[model.name]}")
    print(f"{'case':10}" + "".join(f"{f'({i})':>10}" for i in range(len(models))))
    for name, path in files.items():
        outcomes = compare(models, read_cell(path)).values()
        numbers = (f"{100 * o.deviation:8.2f} %" if not o.note else f"{'none':>10}"
                   for o in outcomes)  # fmt: skip
        print(f"{name:10}" + "".join(numbers), flush=True)


if __name__ == "__main__":
    main()
