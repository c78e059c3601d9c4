"""The law of one ion at an opening, searched in the traces of solved cells.

    python -m analysis.ion_law TABLE.csv RESULT.h5 [RESULT.h5 ...] [options of discover]

Writes voltage V, current I and contents n of each ion at every opening (over the last cycle,
evenly in time), and lets `nanoslit discover --table` find V from I, the contents of the outer
and the inner slit, their mean, those of the other ion, and the applied potential, with
constants private to each ion. Ion-resolved circuits take V = R I/n_mean for the path through
the slits, and the content of the opening for its passage.
"""

import sys
from pathlib import Path

import numpy as np

from nanoslit import launch
from nanoslit.circuit.files import write_table
from nanoslit.results.files import read_case_of, read_traces

UNITS = "I=A/m,n_outer=mol/m,n_inner=mol/m,n_mean=mol/m,n_other=mol/m,phi=V,V=V"
POINTS = 60  # times of each opening


def rows_of(path):
    """Return the columns of one result as arrays over (ion, time, opening)."""
    case, traces = read_case_of(path), read_traces(path)
    rows = traces.in_cycle()
    time = traces["time"][rows]
    evenly = np.searchsorted(time, np.linspace(time[0], time[-1], POINTS + 2)[1:-1])
    rows = rows[evenly]
    content = np.moveaxis(traces["slit_ion_content"][rows], -1, 0)
    potential = np.moveaxis(traces["slit_ion_potential"][rows], -1, 0)
    current = np.moveaxis(traces["opening_ion_current"][rows], -1, 0)
    mean = 0.5 * (content[..., 1:] + content[..., :-1])
    shape = current.shape
    applied = np.broadcast_to(traces["applied_potential"][rows][None, :, None], shape)
    ion = np.broadcast_to(np.arange(len(case.electrolyte.ions))[:, None, None], shape)
    return {
        "ion": ion, "I": current, "n_outer": content[..., :-1], "n_inner": content[..., 1:],
        "n_mean": mean, "n_other": mean[::-1], "phi": applied, "V": np.diff(potential, axis=-1),
    }  # fmt: skip


def main():
    """Write the table and search it."""
    table, *words = sys.argv[1:]
    files = [w for w in words if w.endswith(".h5")]
    options = [w for w in words if not w.endswith(".h5")]
    parts = [rows_of(p) for p in files]
    columns = {k: np.concatenate([p[k].ravel() for p in parts]) for k in parts[0]}
    write_table(table, columns)
    law = Path(table).with_suffix(".json")
    call = ["discover", "--table", table, "--target", "V", "--group", "ion", "--units", UNITS]
    call += ["--constant-units", "scale"]  # one factor carries the unit
    with launch.start([*call, "-o", law, *options]) as child:
        sys.exit(child.wait())


if __name__ == "__main__":
    main()
