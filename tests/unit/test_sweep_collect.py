"""Collecting many points: one at a time, into files, with the numbers that they hold."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from sweep_plans import sweep_plan

COLLECT = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from nanoslit.sweep import collect
from nanoslit.sweep.record import CV_SAMPLES

def anonymous():
    rows = dict(line.split(":") for line in open("/proc/self/status"))
    return int(rows["RssAnon"].split()[0]) / 1024

def records(folder, catalogue, number, states):
    # as they are read from the files of the points, a fresh object each
    for i in range(0, len(states), 2):
        states[i] = 4
        yield i, {
            "summary": {
                "capacitance": float(i), "openings": [{"r_c": i + 0.5}],
                "flux_parts": {"rising": {"opening_current_migration": [-1.0]}},
            },
            "cv": {n: [float(j) for j in range(CV_SAMPLES)] for n in collect._CV},
            "cpu": 2.0,
        }

from nanoslit.sweep.plan import read_plan
from nanoslit.sweep.folder import Folder
plan, root = read_plan(sys.argv[1]), Path(sys.argv[2])
collect._records = records
collect._LARGE = int(sys.argv[3])
collect.Folder.open = staticmethod(lambda root: None)
class Nothing:
    def __enter__(self): return self
    def __exit__(self, *error): pass
collect.open_catalogue = lambda folder: Nothing()
collect.current_plan = lambda folder, catalogue, name: (1, plan)
most, going = [anonymous()], True
def watch():
    while going:
        most.append(anonymous())
        time.sleep(0.005)
thread = threading.Thread(target=watch)
thread.start()
files = collect.collect(root)
going = False
thread.join()
print(json.dumps({"grown": max(most) - most[0], "files": [str(f) for f in files]}))
"""


def run_collect(tmp_path, points, large):
    """Collect a plan of so many points; return what the program says."""
    axis = f'{{ from = "1 nm", to = "5 nm", points = {points} }}'
    text = (
        sweep_plan((1, 2)).replace('["1 nm", "2 nm"]', axis).replace("sheets = 1", "sheets = 2")
    )
    plan = tmp_path / "plan.toml"
    plan.write_text(text)
    shown = subprocess.run(
        [sys.executable, "-c", COLLECT, str(plan), str(tmp_path / "sweep"), str(large)],
        capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    return json.loads(shown.stdout)


def arrays(path):
    with h5py.File(path) as file:
        return {n: item[()] for n, item in file.items() if isinstance(item, h5py.Dataset)}


def test_memory_does_not_grow_with_the_points(tmp_path):
    """Records of 25,000 points would take 500 MB."""
    points = 25_000
    said = run_collect(tmp_path, points, 1 << 16)
    assert said["grown"] < 150, said
    data = arrays(said["files"][0])
    done = np.arange(points) % 2 == 0
    np.testing.assert_array_equal(data["capacitance"][done], np.arange(points)[done])
    assert np.isnan(data["capacitance"][~done]).all()
    np.testing.assert_array_equal(data["r_c"][done, 0], np.arange(points)[done] + 0.5)
    assert (data["status"] == np.where(done, 4, 0)).all()
    with Path(said["files"][1]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == points
    assert [r["status"] for r in rows[:2]] == ["done", "planned"]
    assert float(rows[24_998]["r_c_1"]) == 24_998.5
    assert [
        p.name for p in (tmp_path / "sweep" / "collected").iterdir() if ".part" in p.name
    ] == []


def test_arrays_in_files_are_those_in_memory(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir(), second.mkdir()
    a = arrays(run_collect(first, 50, 1 << 30)["files"][0])
    b = arrays(run_collect(second, 50, 0)["files"][0])
    assert a.keys() == b.keys()
    assert {"cv_current", "sign_opening_current_migration_rising"} <= a.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize("name", ["data.csv", "data"])
def test_the_output_is_an_hdf5_file(nanoslit, tmp_path, name):
    shown = nanoslit("sweep", "collect", tmp_path, "-o", tmp_path / name)
    assert shown.returncode == 2
    assert "ending in .h5" in shown.stderr
    assert not (tmp_path / name).exists()
