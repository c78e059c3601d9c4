"""The figure of the README: one solved slit network, and circuits that predict others.

    python -m analysis.fig_readme DIR -o analysis/readme.png

Reads (or solves) runs of ``analysis.ion_circuit_vs_pde`` in DIR. Above: where the anions are
in the middle of the last upward sweep of the training run. Below: voltammograms of the field
equations, and of circuits trained on the run at 1e5 V/s alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.figure import Figure

from analysis.circuit_vs_pde import solve
from analysis.ion_circuit_vs_pde import ONE
from nanoslit.plotting.files import save
from nanoslit.study.compare import deviation, simulate
from nanoslit.study.parameters import read_cell
from nanoslit.study.predict import train

HALF = 0.1  # of the window [V]
PANELS = {
    "scan rate": {"rate5e4": "5e4 V/s", "train": "1e5 V/s (training)", "rate1e6": "1e6 V/s"},
    "window, sheets, concentration": {
        "window03": "0.3 V", "sheets9": "9 sheets", "salt03": "0.3 mol/L",
    },
}  # fmt: skip


def draw_fields(figure: Any, axis: Any, path: Path) -> None:
    """Draw the concentration of the anions in the first snapshot."""
    with h5py.File(path) as file:
        fields = file["fields"]
        x, y = fields["x"][()] * 1e9, fields["y"][()] * 1e9
        volts = fields["applied_potential"][()]
        index = int(np.argmin(np.abs(volts - HALF)))
        anions = fields["concentration"][index, 1] / 1e3
    picture = axis.pcolormesh(
        x, y, anions.T, cmap="viridis", norm="log", shading="nearest", rasterized=True
    )
    figure.colorbar(picture, ax=axis, label="mol/L", pad=0.01)
    axis.set_facecolor("0.55")
    axis.set(
        xlabel="x [nm]", ylabel="y [nm]", xlim=(x[0], x[-1]), ylim=(y[0], y[-1]),
        title=f"anions at {volts[index]:.1f} V; slits 1.5 nm wide, sheets grey",
    )  # fmt: skip


def main() -> None:
    """Solve what is missing, train, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    names = [name for panel in PANELS.values() for name in panel]
    files = {name: solve(options.folder, name, ONE[name]) for name in names}
    material = train([files["train"]])

    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.0, 1.7))
    draw_fields(top, top.subplots(), solve(options.folder, "fields", {}, f"{HALF} V"))
    for axis, (title, runs) in zip(bottom.subplots(1, 2), PANELS.items(), strict=True):
        for k, (name, label) in enumerate(runs.items()):
            cell = read_cell(files[name])
            scale = 1e9 / cell.case.protocol.scan_rate
            current = simulate(material.circuit(cell.case), cell)[0]
            off = deviation(material.circuit, cell)
            wide = {"color": f"C{k}", "lw": 4, "alpha": 0.4, "label": f"{label}: {off:.1%}"}
            axis.plot(cell.applied, scale * cell.current, **wide)
            axis.plot(cell.applied, scale * current, color="k", lw=0.9)
        axis.set(xlabel="applied potential [V]", title=title)
        axis.set_ylabel("current / scan rate [nF/m]")
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.3 * (high - low))
        axis.legend(frameon=False, fontsize="small", loc="upper left")
    figure.suptitle(
        "field equations (wide, coloured) and circuits trained on one run (thin, black)",
        fontsize="medium",
    )
    save(figure, options.output)


if __name__ == "__main__":
    main()
