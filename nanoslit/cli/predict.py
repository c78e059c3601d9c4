"""Command ``predict``: cells that were not solved, from cells that were."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nanoslit.atomic import json_text
from nanoslit.cli import app
from nanoslit.cli.options import require_free
from nanoslit.errors import CaseError

if TYPE_CHECKING:
    from nanoslit.study.ions import IonMaterial

__all__ = ["predict"]


@app.command()
def predict(
    cells: Annotated[list[Path], typer.Argument(metavar="RESULT.h5...", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="HDF5 file, or a .csv table of a --plan.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A change of the first cell's case."),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="PLAN.toml", help="All points of a sweep instead."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", metavar="RESULT.h5", help="Solved cells to compare with."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Predict other scan rates, windows, sheets, concentrations from solved half cells.

    Trains an ion-resolved circuit on the results (of one slit size, or of several to
    predict those in between) and integrates it, in milliseconds a case.
    """
    from nanoslit.study.predict import deviations, train

    require_free(output, overwrite=overwrite)
    if plan is not None and set_:
        raise CaseError("--plan and --set: give one of the two; a plan holds its own case")
    if (plan is not None) != (output.suffix == ".csv"):
        raise CaseError(f"{output}: a --plan is written to .csv, one prediction to .h5")
    material = train(cells)
    off = {
        "trained_on": deviations(material, cells),
        "against": deviations(material, against or []),
    }
    out: dict[str, Any] = {"output": str(output), **off}
    if plan is None:
        out["numbers"] = _one(material, set_ or [], output, off["trained_on"])
    else:
        out |= _many(material, plan, output)
    if json_:
        typer.echo(json_text(out))
        return
    for kind, text in (("trained_on", "trained on"), ("against", "against")):
        for path, value in off[kind].items():
            typer.echo(f"{text} {path}: current off by {value:.2%} (L2 norm, last cycle)")
    _tell(out)


def _one(
    material: IonMaterial, changes: list[str], output: Path, off: dict[str, float]
) -> dict[str, float]:
    from nanoslit.casefile import case_from_toml, case_to_toml
    from nanoslit.study.predict import write_prediction

    text = case_to_toml(material.trained[0].case)
    case = case_from_toml(text, "the first result", changes)
    response = material.circuit(case).simulate(case.protocol)
    return write_prediction(output, response, case, off)


def _many(material: IonMaterial, path: Path, output: Path) -> dict[str, Any]:
    import csv
    import io

    from nanoslit import atomic
    from nanoslit.study.predict import NUMBERS, predict_all
    from nanoslit.sweep.plan import read_plan
    from nanoslit.sweep.points import Points

    points = Points(read_plan(path))
    count = len(points)
    values, failed = predict_all(material, (points.case(i) for i in range(count)))
    text = io.StringIO()
    keys = list(points.overrides(0))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *(f"{k}/({NUMBERS[k][0]})" for k in values), "remark"])
    for i in range(count):
        changes = points.overrides(i)
        row = [f"{column[i]:.8g}" for column in values.values()]
        writer.writerow([*(changes[k] for k in keys), *row, failed.get(i, "")])
    atomic.write_text(output, text.getvalue())
    return {
        "points": count,
        "without_circuit": len(failed),
        "remarks": sorted(set(failed.values())),
    }


def _tell(out: dict[str, Any]) -> None:
    from nanoslit.study.predict import NUMBERS

    for key, value in out.get("numbers", {}).items():
        unit, meaning = NUMBERS[key]
        typer.echo(f"{key:18} {value:11.4g} {unit:4} {meaning}")
    if "points" in out:
        typer.echo(f"{out['points']} points, {out['without_circuit']} without a circuit")
        for text in out["remarks"][:5]:
            typer.echo(f"  {text}")
    typer.echo(f"wrote {out['output']}")
