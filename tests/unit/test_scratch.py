"""Temporary folders are deleted by their owners, or by the next one if these were killed."""

import subprocess
import sys

import pytest

from nanoslit.scratch import Scratch

OWNER = """
import subprocess, sys, time
from nanoslit.scratch import Scratch
scratch = Scratch(sys.argv[1])
(scratch.path / "left").write_text("behind")
wait = [sys.executable, "-c", "import sys; sys.stdin.read()"]
if sys.argv[2] == "child":
    subprocess.Popen(wait, pass_fds=(scratch.lock,), stdout=subprocess.DEVNULL)
print(scratch.path.name, flush=True)
time.sleep(600)
"""


@pytest.fixture
def killed(tmp_path):
    """Start an owner, kill it; return the name of its folder and the owner."""
    owners = []

    def begin(kind):
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(tmp_path), kind],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        owners.append(owner)
        name = owner.stdout.readline().strip()
        owner.kill()
        owner.wait()
        return name, owner

    yield begin
    for owner in owners:
        owner.stdin.close()
        owner.stdout.close()


def test_the_owner_deletes_its_folder(tmp_path):
    with Scratch(tmp_path) as mine:
        assert mine.is_dir()
        with Scratch(tmp_path) as other:  # a second one does not touch the first
            assert mine.is_dir()
            assert other != mine
    assert list(tmp_path.iterdir()) == []


def test_the_next_owner_deletes_what_a_killed_one_left(tmp_path, killed):
    name, _ = killed("alone")
    assert (tmp_path / name / "left").exists()
    with Scratch(tmp_path) as mine:
        assert [p.name for p in tmp_path.iterdir()] == [mine.name]


def test_the_folder_of_a_living_program_stays(tmp_path, killed):
    """The program outlives the killed process that started it."""
    name, owner = killed("child")
    with Scratch(tmp_path):
        assert (tmp_path / name / "left").exists()
    owner.stdin.close()  # the program ends
    while (tmp_path / name).exists():
        Scratch(tmp_path).close()


def test_other_hosts_and_other_files_are_left_alone(tmp_path, killed):
    name, _ = killed("alone")
    (tmp_path / name / "owner").write_text("another-host")
    (tmp_path / "ns-notes").mkdir()
    Scratch(tmp_path).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "ns-notes"])
    assert list((tmp_path / "ns-notes").iterdir()) == []
