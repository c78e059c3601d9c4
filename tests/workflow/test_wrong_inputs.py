"""Whatever a command is given: one message, exit code 1 or 2, and nothing written."""

import re
import resource
import shlex
import shutil
import sys

import h5py
import numpy as np
import pytest

from nanoslit.cli import main
from run_cases import SMALL, run
from sweep_plans import sweep_plan

CIRCUIT = """
[circuit]
n_slits = 3
r_c = "5 ohm"
gamma = 0.5
c_slit = "0.4 mF"
r_open = "1 ohm"
c_open = "0.4 mF"
[protocol]
kind = "cyclic-voltammetry"
lower = "0 V"
upper = "1 V"
scan_rate = "10 V/s"
"""
STUDY = """
[circuit]
n_slits = 3
[protocol]
lower = "0 V"
upper = "1 V"
[sampling]
samples = 16
[vary.theta]
lower = 0.1
upper = 1.0
[vary.rho]
lower = 0.1
upper = 1.0
[vary.c]
lower = 0.1
upper = 1.0
"""
FILM = "--film-thickness 10um --sheet-length 1um"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Return a folder of good and damaged inputs."""
    folder = tmp_path_factory.mktemp("inputs")
    good = folder / "good.h5"
    (folder / "case.toml").write_text(SMALL)
    done = run(folder, "run", "case.toml", "-o", good)
    assert done.returncode == 0, done.stderr
    content = good.read_bytes()
    (folder / "short.h5").write_bytes(content[: len(content) // 2])
    (folder / "empty.h5").write_bytes(b"")
    damaged = bytearray(content)
    damaged[3000::997] = bytes(b ^ 0x55 for b in damaged[3000::997])
    (folder / "damaged.h5").write_bytes(damaged)
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = np.arange(3)
    shutil.copy(good, folder / "new.h5")
    with h5py.File(folder / "new.h5", "r+") as file:
        file.attrs["schema_version"] = 999
    (folder / "circuit.toml").write_text(CIRCUIT)
    (folder / "study.toml").write_text(STUDY)
    (folder / "plan.toml").write_text(sweep_plan((1, 2)))
    (folder / "launcher.toml").write_text(
        sweep_plan((1, 2), more='[execution]\nlauncher = "srun -n {rank}"')
    )
    (folder / "binary.toml").write_bytes(bytes(range(128, 256)))
    (folder / "list.json").write_text("[1]")
    (folder / "cv.csv").write_text(
        "time/s,potential/V,current/A\n"
        + "\n".join(f"{0.1 * k},{0.01 * k},1e-3" for k in range(30))
        + "\n"
    )
    (folder / "folder").mkdir()
    return folder


def say(capfd, monkeypatch, words):
    """Return exit code and messages of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["nanoslit", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capfd.readouterr()
    assert "Traceback" not in out + err
    return ended.value.code, err


READERS = [
    "show {}", "verify {}", "plot {} -o fig.png", "export {} --to csv -o out.csv",
    f"scale {{}} {FILM}", "sweep status {}", "report {}",
]  # fmt: skip
FILES = [
    "missing.h5", "folder", "empty.h5", "short.h5", "damaged.h5", "other.h5", "new.h5",
    "case.toml",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("command", READERS)
def test_files_that_are_no_results(command, name, inputs, capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, error = say(capfd, monkeypatch, command.format(inputs / name).split())
    assert code in (1, 2)
    assert name in error
    assert list(tmp_path.iterdir()) == []


MISTAKES = [
    # command, words of the message
    ("run case.toml -o x.h5 --ranks 0", "--ranks"),
    ("run case.toml -o x.h5 --checkpoint-every 5", "--checkpoint-every '5'.*no unit"),
    ("run case.toml -o x.h5 --checkpoint-every -5min", "must be positive"),
    ("check case.toml --set geometry.reservoir='1 m'", "at most 0.0001 m.*nanoslit scale"),
    ("check binary.toml", "not UTF-8"),
    ("new folder", "exists already"),
    ("plot good.h5 -o none/x.png", "none.*does not exist"),
    ("plot good.h5 -o folder", "figures are written as"),
    ("plot good.h5 -o x.xyz", "figures are written as"),
    ("plot good.h5 -o x.png --what cows", "choose among"),
    ("show good.h5 --per litre", "litre"),
    ("export good.h5 --to xls", "xls"),
    ("export good.h5 --to csv -o none/x.csv", "none.*does not exist"),
    ("verify other.h5", "nanoslit did not write"),
    (f"scale good.h5 {FILM} --upper '-1 V'", "--upper.*must be positive"),
    (f"scale good.h5 {FILM} --scan-rate '10 mV'", "--scan-rate '10 mV'"),
    (f"scale list.json {FILM} --result good.h5", "law"),
    ("scale good.h5 --film-thickness 10 --sheet-length 1um", "no unit"),
    ("circuit circuit.toml -o x.h5 --figure x.abc", "figures are written as"),
    ("circuit circuit.toml -o none/x.h5", "does not exist"),
    ("circuit case.toml -o x.h5", "unknown key"),
    ("explore study.toml -o x.h5 --threads -1", "--threads"),
    ("explore study.toml -o x.h5 --figure x.abc", "figures are written as"),
    ("explore circuit.toml -o x.h5", "vary: missing key"),
    ("fit cv.csv --slits 0", "--slits"),
    ("fit cv.csv --slits 3 --mass '-5 mg'", "--mass '-5 mg' must be positive"),
    ("fit cv.csv --slits 3 --mass '5 m'", "--mass '5 m'"),
    ("fit cv.csv --slits 3 --pzc x", "--pzc 'x'"),
    ("fit cv.csv --slits 3 --current-sign 3", "1 or -1"),
    ("fit good.h5 --slits 3", "binary"),
    ("fit folder --slits 3", "cannot be read"),
    ("discover --table cv.csv --target none", "none|column"),
    ("sweep plan case.toml", "unknown key"),
    ("sweep plan launcher.toml", "no template"),
    ("sweep run plan.toml -o x --workers 0", "--workers 0"),
    ("sweep run plan.toml -o x --cluster foo", "neither local nor slurm"),
    ("sweep run plan.toml -o good.h5", "is a file"),
    ("sweep collect folder -o x.csv", "ending in .h5"),
    ("sweep resume folder", "no folder of a sweep"),
    ("job solve case.toml -o x.h5 --memory '5 V' --print", "--memory '5 V'"),
    ("job solve case.toml -o x.h5 --time '-4 h' --print", "must be positive"),
    ("job solve case.toml -o x.h5 --print --submit", "keep one"),
    ("job solve case.toml -o x.h5 --site none.env --print", "none.env"),
    ("job discover none.h5 --print", "none.h5: no such file"),
    ("job pipeline plan.toml -o x --explore none.toml --print", "none.toml: no such file"),
    ("job pipeline plan.toml -o x --discover '\"' --print", "--discover"),
    ("study plan.toml -o good.h5", "good.h5"),
    ("study plan.toml -o x --samples 0", "study.samples"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[c for c, _ in MISTAKES])
def test_mistakes_are_told_in_one_message(command, message, inputs, capfd, monkeypatch):
    before = sorted(inputs.iterdir())
    monkeypatch.chdir(inputs)
    code, error = say(capfd, monkeypatch, shlex.split(command))
    assert code == 2, error
    assert re.search(message, " ".join(error.split())), error
    assert sorted(inputs.iterdir()) == before


def test_an_address_that_is_none(nanoslit, inputs, tmp_path):
    shown = nanoslit(
        "sweep", "run", inputs / "plan.toml", "-o", tmp_path / "x", "--address", "here"
    )
    assert shown.returncode == 2
    assert "no Dask scheduler answers at here" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_files_of_circuits_are_verified(nanoslit, inputs, tmp_path):
    path = tmp_path / "cv.h5"
    assert nanoslit("circuit", inputs / "circuit.toml", "-o", path).returncode == 0
    assert "good (nanoslit-circuit)" in nanoslit("verify", path).stdout
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    damaged = nanoslit("verify", path)
    assert damaged.returncode == 1
    assert "sha256 differs" in damaged.stderr


def test_an_export_deletes_nothing_but_an_export(nanoslit, inputs, tmp_path):
    """The folder of good.pvd is called good: it may be anything."""
    shutil.copy(inputs / "good.h5", tmp_path)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "notes.txt").write_text("mine")
    shown = nanoslit("export", tmp_path / "good.h5", "--to", "vtk")
    assert shown.returncode == 2
    assert "holds other files" in shown.stderr
    assert (tmp_path / "good" / "notes.txt").read_text() == "mine"
    (tmp_path / "good" / "notes.txt").unlink()
    for _ in range(2):  # an older export is replaced
        assert nanoslit("export", tmp_path / "good.h5", "--to", "vtk").returncode == 0


FULL = [
    "circuit circuit.toml -o {}/x.h5", "explore study.toml -o {}/x.h5",
    "plot good.h5 -o {}/x.png", "export good.h5 --to csv -o {}/x.csv",
    "export good.h5 --to vtk -o {}/x.pvd", "sweep run plan.toml -o {}/x",
]  # fmt: skip


@pytest.mark.parametrize("command", FULL)
def test_no_room(command, nanoslit, inputs, tmp_path):
    """Files may not grow beyond some kilobytes, as on a full disk."""

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    words = command.format(tmp_path).split()
    shown = nanoslit(*words, cwd=inputs, preexec_fn=little_room)
    assert shown.returncode == 1, shown.stdout
    assert "Traceback" not in shown.stderr
    assert re.search("File too large|disk|cannot be written", shown.stderr), shown.stderr
    left = [p.name for p in tmp_path.iterdir() if "sweep run" not in command]
    assert left == []


def test_no_memory(nanoslit, inputs, tmp_path):
    """A study of 10^8 circuits in 1.5 GB of addresses."""
    text = (inputs / "study.toml").read_text()
    huge, changed = re.subn(r"(?m)^samples = \d+", "samples = 67108864", text)
    assert changed == 1
    (tmp_path / "huge.toml").write_text(huge)

    def little_memory():
        resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000, resource.RLIM_INFINITY))

    shown = nanoslit(
        "explore", "huge.toml", "-o", "x.h5", cwd=tmp_path, preexec_fn=little_memory
    )
    assert shown.returncode == 1, shown.stdout
    assert "MemoryError: the memory is not enough" in shown.stderr
    assert "Traceback" not in shown.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["huge.toml"]
