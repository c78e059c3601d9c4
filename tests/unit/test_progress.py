"""What a run says while it works."""

import json
import math
import re

from nanoslit.cli import progress
from nanoslit.results.running import Progress

STEP = Progress(1e-6, 4e-6, 0.1, 2e-8, 30, 90, 12.0, 36.0)


def test_line_tells_time_potential_step_newton_and_eta():
    text = progress.line(STEP.as_dict())
    for part in ("25.0 %", "1e-06 s", "+0.1000 V", "2e-08 s", "30 steps", "90 Newton", "36 s"):
        assert part in text


def test_durations():
    assert progress.duration_text(8.2) == "8 s"
    assert progress.duration_text(185) == "3:05"
    assert progress.duration_text(7384) == "2:03:04"
    assert progress.duration_text(math.nan) == "unknown"


def test_log_gets_one_line_a_minute_and_the_heartbeat_the_numbers(
    tmp_path, capsys, monkeypatch
):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    beat = tmp_path / "beat.json"
    reporter = progress.Reporter(tmp_path / "r.h5", beat)
    reporter.start("case", 1)
    assert json.loads(beat.read_text())["state"] == "starting"
    for _ in range(125):
        now[0] += 1.0
        reporter.report(STEP)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3  # the start, and two minutes
    assert "\x1b" not in "".join(said)
    assert json.loads(beat.read_text())["newton_iterations"] == 90
    reporter.end(False)
    assert "--resume" in capsys.readouterr().err
    assert json.loads(beat.read_text())["state"] == "checkpointed"


def test_bar_shows_the_same_on_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(progress, "_BAR_EVERY", 0.0)
    reporter = progress.Reporter(tmp_path / "r.h5")
    reporter.start("case", 2, bar=True)
    reporter.report(STEP)
    reporter.end(True)
    said = re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)
    for part in ("1e-06 s", "+0.100 V", "2.0e-08 s", "90 Newton", "ETA 36 s"):
        assert part in said
