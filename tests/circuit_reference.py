"""The ladder written down once more, plainly, for SciPy's stiff solvers."""

import numpy as np
from scipy.integrate import solve_ivp
from scipy.sparse import diags


def reference(response, k=0, rtol=1e-10):
    """Return (time, current) of each piece of circuit k of a response."""
    circuit, drive = response.circuit, response.drive
    cap, r_open = circuit.capacitance[k], circuit.value("r_open")[k]
    r_c, fall, outer, inner, cap_s, sign = response.job.law.parameters[:, k, 1:]
    n = len(cap)
    u, begin, pieces = response.job.start[k], 0.0, []
    settings = {"jac_sparsity": diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(n, n))}
    for p in range(drive.pieces):
        length, first, slope = drive.lengths[k, p], *drive.curves[k, p, :2]

        def rate(t, u, first=first, slope=slope):
            raw = outer * u[:-1] + inner * u[1:]
            s = np.clip(np.where(sign < 0, np.abs(raw), raw), -cap_s, cap_s)
            flow = np.zeros(n + 1)
            flow[0] = (first + slope * t - u[0]) / r_open
            flow[1:-1] = (u[:-1] - u[1:]) / (r_c - fall * s)
            return (flow[:-1] - flow[1:]) / cap

        solved = solve_ivp(
            rate, (0, length), u, method="Radau", rtol=rtol, atol=1e-2 * rtol,
            dense_output=True, **(settings if n > 30 else {}),
        )  # fmt: skip
        t = length * np.linspace(0, 1, 3001) ** 2
        pieces.append((begin + t, (first + slope * t - solved.sol(t)[0]) / r_open))
        u, begin = solved.y[:, -1], begin + length
    return pieces


def deviation(response, pieces, k=0, layer=0.002):
    """Return the largest error of the current over its peak, outside the vertex layers."""
    peak = max(np.abs(i).max() for _, i in pieces)
    worst = 0.0
    for t, i in pieces:
        keep = t - t[0] > layer * (t[-1] - t[0])
        found = np.interp(t[keep], response.time[k], response.electrode_current[k])
        worst = max(worst, float(np.abs(found - i[keep]).max()))
    return worst / peak
