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
    for reached in ("sweep/pts/*/*/result.h5", "study.json"):  # in the sweep; after the law
        killed = start(plan, folder)
        while not list(folder.glob(reached)) and killed.poll() is None:
            time.sleep(0.05)
        assert killed.poll() is None, killed.stdout.read()
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    last = start(plan, folder)
    said, _ = last.communicate(timeout=280)
    assert last.returncode == 0, said
    assert "sweep: cached, 2 points" in said
    assert "law: cached" in said
    assert "law found: trans-slit voltage = " in said
    page = (folder / "report.html").read_text()
    assert "Law found" in page
    third = start(plan, folder)
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 0
    assert "everything was cached" in said
    assert "computing" not in said
    assert (folder / "report.html").read_text() == page
