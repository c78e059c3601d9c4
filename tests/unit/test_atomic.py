"""Files are replaced as a whole or not at all."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nanoslit.atomic import write_text


def test_replaces_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.toml"
    write_text(path, "old")
    write_text(path, "new µ")
    assert path.read_text(encoding="utf-8") == "new µ"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.toml"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\udc80")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a.toml"
    write_text(path, "0" * 1_000_000)
    code = (
        "import sys; from nanoslit.atomic import write_text\n"
        "while True:\n"
        "    for digit in '123': write_text(sys.argv[1], digit * 1_000_000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    while path.read_text()[0] == "0":
        time.sleep(0.01)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    text = path.read_text()
    assert text == text[0] * 1_000_000
