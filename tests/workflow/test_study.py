"""A study from plan to report: ended at every stage, continued, cached; its settings."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from browser import Page, chromium
from nanoslit.errors import CaseError
from nanoslit.study.pipeline import Settings, settings_of
from nanoslit.sweep.plan import plan_from_toml

PLAN = Path(__file__).resolve().parents[2] / "sweeps" / "quickstart.toml"


def tiny_plan(path):
    text = PLAN.read_text().replace('["1.5 nm", "2 nm", "3 nm", "5 nm"]', '["2 nm", "3 nm"]')
    text = text.replace("sheets = 4", "sheets = 2").replace("ranks = 2", "ranks = 1")
    path.write_text(text.replace("= 20000", "= 2000").replace("= 1024", "= 64"))
    return path


def start(plan, folder):
    words = [sys.executable, "-m", "nanoslit", "study", plan, "-o", folder]
    return subprocess.Popen(
        [os.fspath(w) for w in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(plan, folder):
    with start(plan, folder) as child:
        said, _ = child.communicate(timeout=280)
    assert child.returncode == 0, said
    return said


def end_at(plan, folder, number, stage, reached=lambda: True):
    """Start the study and send a signal once it is at a stage and has come so far."""
    with start(plan, folder) as child:
        lines = []
        for line in child.stdout:
            lines.append(line)
            if line.startswith(f"{stage}:"):
                break
        while not reached() and child.poll() is None:
            time.sleep(0.02)
        child.send_signal(number)
        said, _ = child.communicate(timeout=120)
    return child.returncode, "".join(lines) + said


@pytest.mark.slow
def test_a_study_ended_at_any_stage_continues_to_the_same_report(tmp_path):
    plan = tiny_plan(tmp_path / "tiny.toml")
    folder = tmp_path / "one" / "study"
    circuits = "circuits against the solved cells"
    for number, stage, reached in (
        (signal.SIGTERM, "sweep", lambda: list(folder.glob("sweep/pts/*/*"))),
        (signal.SIGKILL, "sweep", lambda: list(folder.glob("sweep/pts/*/*/result.h5"))),
        (signal.SIGTERM, "law", lambda: True),
        (signal.SIGKILL, "law", lambda: True),
        (signal.SIGTERM, circuits, lambda: True),
        (signal.SIGKILL, circuits, lambda: True),
    ):
        code, said = end_at(plan, folder, number, stage, reached)
        if number == signal.SIGTERM:
            assert code == 85, said
            assert "the same command continues" in said
        else:
            assert code == -signal.SIGKILL, said
    said = finish(plan, folder)
    assert "sweep: cached, 2 points" in said
    assert "circuits against the solved cells: continuing" in said
    assert "law found: trans-slit voltage = " in said
    assert "claims of the paper: " in said
    page = (folder / "report.html").read_text()

    said = finish(plan, folder)
    assert "everything was cached" in said
    assert "computing" not in said
    assert (folder / "report.html").read_text() == page

    if chromium():
        with Page(tmp_path) as opened:
            opened.open(folder / "report.html")
            assert opened.errors == []
            assert opened.requests == []

    # the same from the same solved cells, never ended
    other = tmp_path / "two" / "study"
    shutil.copytree(folder / "sweep", other / "sweep")
    finish(plan, other)
    for name in ("LAW.json", "circuits.json", "explored.json", "claims.json", "report.html"):
        assert (other / name).read_bytes() == (folder / name).read_bytes(), name


def plan_with(table):
    return plan_from_toml(PLAN.read_text().split("[study]")[0] + table, "plan.toml")


def test_settings_come_from_the_plan_and_options_replace_them():
    plan = plan_with("[study]\nevaluations = 500\nseed = 7\n")
    assert settings_of(plan, {}) == Settings(evaluations=500, seed=7)
    assert settings_of(plan, {"seed": 3, "ranks": None}) == Settings(evaluations=500, seed=3)
    assert settings_of(plan_with(""), {}) == Settings()


@pytest.mark.parametrize(
    ("table", "told"),
    [("evaluations = 0", "evaluations"), ("sampels = 3", "samples"), ('seed = "a"', "seed")],
)
def test_wrong_settings_are_told(table, told):
    with pytest.raises(CaseError, match=told):
        settings_of(plan_with(f"[study]\n{table}\n"), {})


def test_a_report_needs_a_finished_study(tmp_path):
    words = [sys.executable, "-m", "nanoslit", "report", os.fspath(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert "is no finished study" in done.stderr
    assert "nanoslit study PLAN.toml" in done.stderr
