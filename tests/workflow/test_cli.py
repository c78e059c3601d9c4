"""The console command from outside: help, new, check, doctor."""

import os
import re
import shutil

import pytest

from nanoslit.casefile import read_case
from nanoslit.cli import WORKFLOW, app


def test_help_is_one_screen_in_the_order_of_work(nanoslit):
    shown = nanoslit("--help", env={"COLUMNS": "100"})
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) <= 50
    lines = [re.match(r"│ ([a-z]+) ", line) for line in shown.stdout.splitlines()]
    commands = [m.group(1) for m in lines if m]
    order = [name for names in WORKFLOW.values() for name in names]
    assert {"new", "check", "doctor"} <= set(commands)
    assert commands == sorted(commands, key=order.index)


def test_every_command_has_a_place_and_a_one_line_help():
    names = {name for group in WORKFLOW.values() for name in group}
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert name in names
        assert command.callback.__doc__


def test_version(nanoslit):
    shown = nanoslit("--version")
    assert re.fullmatch(r"nanoslit \d+\.\d+\.\d+\S*\n", shown.stdout)


def test_new_then_check(nanoslit, tmp_path):
    path = tmp_path / "mine.toml"
    made = nanoslit("new", path)
    assert made.returncode == 0
    assert read_case(path).name == "example"
    again = nanoslit("new", path)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert nanoslit("new", path, "--force").returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["mine.toml"]


FIRST = {
    "plan": ["sweep", "plan", "{}"],
    "circuit": ["circuit", "{}", "-o", "x.h5"],
    "study": ["explore", "{}", "-o", "x.h5"],
}


@pytest.mark.parametrize("kind", FIRST)
def test_new_files_of_every_kind_work(nanoslit, tmp_path, kind):
    made = nanoslit("new", tmp_path / "mine.toml", "--kind", kind)
    assert made.returncode == 0, made.stderr
    words = [word.format(tmp_path / "mine.toml") for word in FIRST[kind]]
    assert f"next: nanoslit {' '.join(words[:2])}" in made.stdout
    done = nanoslit(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_templates_show_every_key():
    """Of circuits and studies: nothing else lists them."""
    from importlib.resources import files

    from nanoslit.circuit.configuration import GROUPS, RAW, _keys
    from nanoslit.circuit.observables import FEATURES

    def text(kind):
        return files("nanoslit.cli").joinpath(f"{kind}_template.toml").read_text()

    for key in {*_keys("absolute"), *RAW}:
        assert re.search(rf"\b{key}\b", text("circuit")), key
    for key in (*GROUPS, *FEATURES, "slit_size", "concentration"):
        assert re.search(rf"\b{key}\b", text("study")), key


def test_new_refuses_other_kinds(nanoslit, tmp_path):
    made = nanoslit("new", tmp_path / "mine.toml", "--kind", "cow")
    assert made.returncode == 2
    assert "case, plan, circuit, study" in made.stderr


def test_new_in_a_missing_folder(nanoslit, tmp_path):
    made = nanoslit("new", tmp_path / "no" / "mine.toml")
    assert made.returncode == 2
    assert "does not exist" in made.stderr


def test_check_prints_the_derived_numbers(nanoslit, example_file):
    shown = nanoslit("check", example_file)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    for expected in ("0.3042 nm", "15.02 S/m", "0.07708", "225.2 uF/cm^2", "5-20 uF/cm^2"):
        assert expected in shown.stdout
    assert "11.3 times" in shown.stdout
    assert "[electrode] stern_capacitance" in " ".join(shown.stdout.split())


def test_check_without_warning(nanoslit, example_file):
    shown = nanoslit("check", example_file, "--set", "electrode.stern_capacitance=10 uF/cm^2")
    assert shown.returncode == 0
    assert "warning:" not in shown.stdout


def test_check_planar(nanoslit, example_file):
    planar = "geometry={kind='planar', reservoir='20 nm'}"
    shown = nanoslit("check", example_file, "--set", planar)
    assert shown.returncode == 0
    assert "overlap" not in shown.stdout


def test_mistake_has_no_traceback_unless_asked(nanoslit, example_file):
    bad = ("check", example_file, "--set", "geometry.slit_size=1.5")
    plain = nanoslit(*bad)
    assert plain.returncode == 2
    assert "Traceback" not in plain.stderr
    assert plain.stdout == ""
    debugged = nanoslit(*bad, "--debug")
    assert "Traceback" in debugged.stderr
    assert debugged.returncode != 0


@pytest.mark.parametrize("arguments", [["chekc"], ["check"], ["check", "--no-such"]])
def test_wrong_usage(nanoslit, arguments):
    shown = nanoslit(*arguments)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


def test_failed_writing_is_one_message(nanoslit, tmp_path):
    made = nanoslit("new", tmp_path / ("long" * 100 + ".toml"))
    assert made.returncode == 1
    assert "File name too long" in made.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.mpi
@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="no mpiexec on PATH")
def test_doctor_finds_this_machine_complete(nanoslit):
    shown = nanoslit("doctor")
    assert shown.returncode == 0, shown.stdout
    for part in ("two ranks", "one MPI library", "MUMPS", "parallel HDF5", "Dask"):
        (line,) = [x for x in shown.stdout.splitlines() if x.startswith(part)]
        assert " ok " in line


def test_doctor_without_mpi(nanoslit, tmp_path):
    """With nothing on PATH it says what is missing, how to get it, and exits 1."""
    shown = nanoslit("doctor", env={"PATH": str(tmp_path)})
    assert shown.returncode == 1
    assert "mpirun is not on the PATH" in shown.stdout
    assert "jobs/bootstrap.sh" in shown.stdout


def test_doctor_outlives_a_launcher_that_crashes(nanoslit, tmp_path):
    launcher = tmp_path / "mpirun"
    launcher.write_text("#!/bin/sh\necho 'Error: no slots' >&2\nkill -SEGV $$\n")
    launcher.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    shown = nanoslit("doctor", env={"PATH": path})
    assert shown.returncode == 1
    assert "Error: no slots" in shown.stdout
