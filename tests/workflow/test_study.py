"""A study from plan to report: killed in the middle, continued, and cached afterwards."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PLAN = Path(__file__).resolve().parents[2] / "sweeps" / "quickstart.toml"


def start(plan, folder):
    words = [sys.executable, "-m", "nanoslit", "study", plan, "-o", folder]
    words += ["--evaluations", "2000", "--samples", "64", "--ranks", "1"]
    return subprocess.Popen(
        [os.fspath(w) for w in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_study_continues_to_its_report(tmp_path):
    text = PLAN.read_text().replace('["1.5 nm", "2 nm", "3 nm", "5 nm"]', '["2 nm", "3 nm"]')
    plan = tmp_path / "tiny.toml"
    plan.write_text(text.replace("sheets = 4", "sheets = 2"))
    folder = tmp_path / "study"
    first = start(plan, folder)
    while not (folder / "study.json").exists() and first.poll() is None:
        time.sleep(0.05)
    assert first.poll() is None, first.stdout.read()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start(plan, folder)
    said, _ = second.communicate(timeout=280)
    assert second.returncode == 0, said
    assert "sweep slit_size = 2 nm: cached" in said
    assert "law found: trans-slit voltage = " in said
    page = (folder / "report.html").read_text()
    assert "Law found" in page
    third = start(plan, folder)
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 0
    assert "everything was cached" in said
    assert "computing" not in said
    assert (folder / "report.html").read_text() == page
