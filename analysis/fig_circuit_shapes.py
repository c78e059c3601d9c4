"""Shapes of voltammograms against gamma and R_c (trends of Figs 4d and 4e of the paper).

gamma -0.9..0.9 at R_c = 5 Ohm, and R_c 1..10 Ohm at gamma = 0.9, are the paper's. All
other values are our choice and stated in the figure: N = 6, R_open = R_c/2 (at 5 Ohm),
C_open = C_slit/2, C_slit = 0.4 mF, window 0..1 V, periodic state, governor "inner",
Q_max "window". Prints the numbers behind the trends. Run:
``python -m analysis.fig_circuit_shapes [-o FIG.png]``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nanoslit import CyclicVoltammetry, NanoCircuit
from nanoslit.circuit import observables
from nanoslit.plotting.circuit import draw_shapes
from nanoslit.plotting.files import save

N, R_C, C_SLIT = 6, 5.0, 4e-4
GAMMAS = np.array([-0.9, -0.5, 0.0, 0.5, 0.9])
RESISTANCES = np.array([1.0, 2.0, 4.0, 6.0, 8.0, 10.0])
SHOWN = ("asymmetry", "relative_area", "corner", "contrast", "peak_potential")


def protocol(theta: float) -> CyclicVoltammetry:
    """Return the sweep 0..1 V whose theta is that of R_c = 5 Ohm."""
    return CyclicVoltammetry(0.0, 1.0, theta / (N * N * R_C * C_SLIT), cycles=1)


def main() -> None:
    """Compute, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("circuit_shapes.png"))
    chosen = parser.parse_args()
    panels = []
    for theta in (0.3, 1.0):
        circuit = NanoCircuit(N, R_C, GAMMAS, C_SLIT, 0.5 * R_C, 0.5 * C_SLIT)
        response = circuit.simulate(protocol(theta), cycle="periodic")
        report(f"gamma varies, theta = {theta}", GAMMAS, response)
        labels = [f"gamma = {g:g}" for g in GAMMAS]
        panels.append((f"R_c = 5 Ohm, theta = {theta} (cf. Fig. 4d)", labels, response))
    for theta in (0.14, 0.54):
        circuit = NanoCircuit(N, RESISTANCES, 0.9, C_SLIT, 0.5 * R_C, 0.5 * C_SLIT)
        response = circuit.simulate(protocol(theta), cycle="periodic")
        report(f"R_c varies, gamma = 0.9, theta = {theta} at 5 Ohm", RESISTANCES, response)
        labels = [f"R_c = {r:g} Ohm" for r in RESISTANCES]
        panels.append(
            (f"gamma = 0.9, theta = {theta} at 5 Ohm (cf. Fig. 4e)", labels, response)
        )
    saturating = NanoCircuit(
        N, R_C, 0.9, C_SLIT, 0.5 * R_C, 0.5 * C_SLIT, saturation=[0.9, 0.7, 0.4]
    )
    response = saturating.simulate(protocol(0.6), cycle="periodic")
    report("saturation varies, gamma = 0.9, theta = 0.6", [0.9, 0.7, 0.4], response)
    labels = [f"saturation at {q} Q_max" for q in (0.9, 0.7, 0.4)]
    panels.append(("gamma = 0.9, R constant beyond saturation, theta = 0.6", labels, response))
    note = (
        "our choice: N = 6, R_open = 2.5 Ohm, C_open = 0.2 mF, C_slit = 0.4 mF, 0..1 V, "
        "periodic, Q_max = C_slit x 1 V"
    )
    save(draw_shapes(panels, note), chosen.output)
    print(
        "Without saturation the current is largest exactly at the upper vertex (a cusp, "
        "peak_potential nan); only a saturating resistance makes a hump inside the window."
    )
    print(f"wrote {chosen.output}")


def report(title: str, values: object, response: object) -> None:
    """Print the shape numbers of a batch."""
    numbers = observables.features(response)
    print(title)
    print(f"{'':>8}" + "".join(f"{k:>16}" for k in SHOWN))
    for k, value in enumerate(np.asarray(values)):
        print(f"{value:>8g}" + "".join(f"{numbers[n][k]:>16.4f}" for n in SHOWN))


if __name__ == "__main__":
    main()
