"""Shared by all tests: example case, the command line in a child process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from example_case import EXAMPLE

ROOT = Path(__file__).resolve().parents[1]


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
