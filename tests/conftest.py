"""Shared by all tests: example case, the command line in a child process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

EXAMPLE = """
name = "example"
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
slit_size = "1.5 nm"
sheet_length = "10 nm"
sheet_thickness = "0.335 nm"
opening = "1 nm"
sheets = 3
arrangement = "staggered"
reservoir = "10 nm"
[protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "0.2 V"
scan_rate = "1e5 V/s"
cycles = 2
"""


@pytest.fixture
def example() -> str:
    """Return the text of the example case, without optional tables."""
    return EXAMPLE


@pytest.fixture
def example_file(tmp_path, example):
    """Return the example case as a file."""
    path = tmp_path / "case.toml"
    path.write_text(example)
    return path


@pytest.fixture
def nanoslit():
    """Return a function that runs the command in a child process."""

    def run(*arguments, **settings):
        return subprocess.run(
            [sys.executable, "-m", "nanoslit", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=settings.pop("cwd", ROOT),
            env={**os.environ, "COLUMNS": "100", **settings.pop("env", {})},
            **settings,
        )

    return run
