"""Small cases, waiting and comparing for the tests of whole runs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

from example_case import EXAMPLE

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    EXAMPLE.replace("sheets = 3", "sheets = 2").replace("cycles = 2", "cycles = 3")
    + '[numerics]\nmesh = "coarse"\n'
)


def command(*arguments):
    """Return the command line in a child process."""
    return [sys.executable, "-m", "nanoslit", *map(str, arguments)]


def environment():
    """Return the environment in which this tree is the one that is imported."""
    polite = {"OMPI_MCA_mpi_yield_when_idle": "1"}  # tests share the machine
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", **polite}


def start(folder, *arguments, prefix=(), new_group=False):
    """Start the command in a folder without waiting."""
    return subprocess.Popen(
        [*prefix, *command(*arguments)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_group,
    )


def run(folder, *arguments, prefix=()):
    """Run the command in a folder and return the finished process."""
    return subprocess.run(
        [*prefix, *command(*arguments)],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def finish(process):
    """Return exit code and messages of a started command."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def wait_for(condition, process=None, seconds=120.0):
    """Wait until something is true, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.stderr.read()}")
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def traces(path):
    """Return the traces of a result file by name."""
    with h5py.File(path) as file:
        return {
            name: data[()] for name, data in file["traces"].items() if data.dtype.kind in "if"
        }


def largest_difference(a, b):
    """Return the largest difference of two runs, each trace relative to its maximum."""
    worst = 0.0
    for name, values in a.items():
        if name.endswith("_mismatch") or name == "newton_iterations":
            continue  # rounding itself, and how the solver got there
        assert values.shape == b[name].shape, name
        scale = np.abs(values).max()
        if scale:
            worst = max(worst, float(np.abs(values - b[name]).max() / scale))
    return worst
