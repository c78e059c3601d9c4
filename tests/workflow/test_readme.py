"""The README tells the truth: its commands run, its key table is that of the format."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanoslit.casefile import CASE
from nanoslit.schema import Either, ListOf, Record, Variants

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def keys(node):
    """Yield every key that a case file may hold."""
    if isinstance(node, Record):
        for key, inner in node.keys.items():
            yield key
            yield from keys(inner)
    elif isinstance(node, Variants):
        for kind, record in node.records.items():
            yield f'"{kind}"'
            yield from keys(record)
    elif isinstance(node, Either):
        yield from keys(node.table)
    elif isinstance(node, ListOf):
        yield from keys(node.item)


@pytest.mark.parametrize("key", sorted(set(keys(CASE))))
def test_every_key_is_explained(key):
    template = (ROOT / "nanoslit/cli/case_template.toml").read_text()
    assert re.search(rf"`(\[+[\w.]*)?{re.escape(key)}\]*`", README)
    assert re.search(rf"(?<!\w){re.escape(key)}(?!\w)", template)


def test_commands_by_hand_run(tmp_path):
    """The second block of the quick start, in a folder of its own."""
    block = re.search(r"```bash\n(\. jobs/bootstrap.*?)```", README, re.DOTALL).group(1)
    lines = [line.split("#")[0].strip() for line in block.splitlines()[1:]]
    (tmp_path / "results").mkdir()
    for line in lines:
        command, *arguments = line.split()
        assert command == "nanoslit"
        subprocess.run(
            [sys.executable, "-m", "nanoslit", *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
        )


def test_python_example_runs(tmp_path, example):
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/first.toml").write_text(example)
    shown = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    debye, theta = map(float, shown.stdout.split())
    assert debye == pytest.approx(0.3042e-9, rel=1e-3, abs=0)
    assert theta > 0


def test_files_named_exist():
    for name in re.findall(r"`((?:jobs|tests|nanoslit|cli|mpnp)/[\w/]+\.\w+)`", README):
        assert (ROOT / name).exists() or (ROOT / "nanoslit" / name).exists(), name
