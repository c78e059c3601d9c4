"""Pieces of result files: seal, layout, summary, bases, snapshots, checkpoints, launch."""

import json
import sys

import h5py
import numpy as np
import pytest

from example_case import EXAMPLE
from nanoslit.casefile import case_from_toml, content_key
from nanoslit.errors import (
    CaseError,
    DamagedFileError,
    LaunchError,
    ProtocolError,
    ResultFileError,
    WriteFailedError,
)
from nanoslit.launch import clean_environment, command_line, explain_exit
from nanoslit.results import sealed
from nanoslit.results.basis import BASES, basis
from nanoslit.results.checkpoint import Checkpoints
from nanoslit.results.layout import Table, write_table
from nanoslit.results.snapshots import snapshot_times
from nanoslit.results.summary import cv_area, dissipated_energy, fit_opening, time_weights

CASE = case_from_toml(EXAMPLE)


def changed(*changes):
    return case_from_toml(EXAMPLE, overrides=changes)


# -- seal ----------------------------------------------------------------------------------


@pytest.fixture
def sealed_file(tmp_path):
    path = tmp_path / "file.h5"
    numbers = np.random.default_rng(1).random(5000)
    sealed.write_sealed(path, lambda file: file.create_dataset("a", data=numbers))
    return path


def test_sealed_file_is_plain_hdf5(sealed_file):
    sealed.check(sealed_file)
    with h5py.File(sealed_file) as file:
        assert file["a"].shape == (5000,)


@pytest.mark.parametrize("lost", [1, 60, 128, 200, 20_000])
def test_truncation_is_found(sealed_file, lost):
    with sealed_file.open("r+b") as file:
        file.truncate(sealed_file.stat().st_size - lost)
    with pytest.raises(DamagedFileError):
        sealed.check(sealed_file)


def test_any_flipped_bit_is_found(sealed_file):
    good = sealed_file.read_bytes()
    rng = np.random.default_rng(2)
    for place in [9, len(good) - 70, *rng.integers(8, len(good) - 2, 40)]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        if bad.split() == good.split():
            continue  # one kind of white space for another in the padding
        sealed_file.write_bytes(bad)
        with pytest.raises(DamagedFileError):
            sealed.check(sealed_file)


@pytest.mark.parametrize("content", [b"", b"plain text", b"\x89HD"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with (
        pytest.raises(ResultFileError, match="not an HDF5 file"),
        sealed.open_sealed(path),
    ):
        pass
    with pytest.raises(ResultFileError, match="cannot be read"):
        sealed.check(tmp_path / "none.h5")


def test_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "missing" / "x.h5"
    with pytest.raises(WriteFailedError, match="cannot be written"):
        sealed.write_sealed(path, lambda file: file.create_group("a"))
    assert list(tmp_path.iterdir()) == []


# -- layout --------------------------------------------------------------------------------


@pytest.mark.parametrize("openings", [0, 2])
def test_xarray_reads_a_table(tmp_path, openings):
    xarray = pytest.importorskip("xarray")
    table = Table({}, {"description": "test"})
    table.add("time", ("time",), np.arange(3.0), "s", "time")
    table.add("ion", ("ion",), np.array(["K+", "Cl-"]), "1", "ion")
    table.add("opening", ("opening",), np.arange(openings), "1", "opening")
    table.add("i", ("time", "opening"), np.ones((3, openings)), "A m-1", "current")
    table.add("c", ("time", "ion"), np.ones((3, 2)), "mol m-3", "concentration")
    path = tmp_path / "t.h5"
    sealed.write_sealed(path, lambda file: write_table(file.create_group("traces"), table))
    with xarray.open_dataset(path, engine="h5netcdf", group="traces") as data:
        assert dict(data.sizes) == {"time": 3, "ion": 2, "opening": openings}
        assert data.i.dims == ("time", "opening")
        assert data.c.attrs["units"] == "mol m-3"
        assert list(data.ion.values) == ["K+", "Cl-"]


# -- summary -------------------------------------------------------------------------------


def test_planted_law_is_read_back_whatever_the_steps():
    t = np.sort(np.random.default_rng(3).random(400)) * 2 * np.pi
    i, q = np.sin(t), 2e-9 * (1.2 - np.cos(t))
    v = i * 0.3 * (1 - 0.4 * q / q.max())
    fit = fit_opening(v, i, -q, time_weights(t))
    assert fit["r_c"] == pytest.approx(0.3)
    assert fit["gamma"] == pytest.approx(0.4)
    assert fit["r2"] == pytest.approx(1)
    assert 0.18 <= fit["r_min"] < fit["r_max"] <= 0.3


def test_no_current_gives_no_numbers():
    zero = np.zeros(5)
    assert np.isnan(list(fit_opening(zero, zero, zero, np.full(5, 0.2)).values())).all()


def rc_cycle(n=60):
    """Return time, potential, charge, current of R and C in series, triangle wave."""
    tau, slope = 0.4, 1.0
    out = [np.zeros((4, 1))]
    t0 = q0 = v0 = 0.0
    for sign in (1, -1):
        t = np.linspace(0, 1, n + 1)[1:]
        v = v0 + sign * slope * t
        lag = sign * slope * tau
        q = v - lag + (q0 - v0 + lag) * np.exp(-t / tau)
        out.append(np.array([t0 + t, v, q, (v - q) / tau]))
        t0, q0, v0 = t0 + 1, q[-1], v[-1]
    return np.concatenate(out, axis=1)


def test_integrals_of_an_rc_cycle():
    t, v, q, i = rc_cycle()
    vertex, end = q[60], q[-1]
    assert cv_area(t, v, q) == pytest.approx(2 * vertex - end)
    fine = rc_cycle(20_000)
    expected = float(0.5 * (fine[1][1:] + fine[1][:-1]) @ np.diff(fine[2]))
    assert dissipated_energy(t, v, q, i, np.array([0.0, 1.0, 2.0])) == pytest.approx(
        expected, rel=1e-3
    )


# -- bases ---------------------------------------------------------------------------------


def test_bases_by_hand():
    assert basis(CASE, "depth").factor == 1
    g = CASE.geometry
    assert basis(CASE, "area").factor == pytest.approx(1e-4 / 5.5e-9)
    assert basis(CASE, "volume").factor == pytest.approx(1e-6 / (5.5e-9 * g.thickness))
    assert basis(CASE, "mass").factor == pytest.approx(1e-3 / (3 * 5e-9 * 0.76e-6))
    wall = basis(CASE, "surface")
    assert wall.factor == pytest.approx(1e6 * 1e-4 / g.wall_area)
    assert wall.unit("F") == "uF/cm2"
    assert "electrode" in wall.label


def test_full_cell_says_cell_and_the_factor_of_two():
    full = changed('cell.kind="full"')
    for name in BASES:
        both = 1 if name in ("depth", "area") else 2
        assert basis(full, name).factor == pytest.approx(basis(CASE, name).factor / both)
        assert basis(full, name).label.startswith("cell")
        assert f"{2 * both} times" in basis(full, name).label


def test_wrong_basis():
    with pytest.raises(CaseError, match="did you mean 'mass'"):
        basis(CASE, "mas")


# -- snapshots -----------------------------------------------------------------------------


def test_default_snapshots_are_vertices_and_thirds_of_the_last_cycle():
    assert snapshot_times(CASE) == pytest.approx(np.linspace(4e-6, 8e-6, 7))


def test_chosen_snapshots():
    case = changed(
        'output.snapshot_potentials=["50 mV"]',
        'output.snapshot_times=["1 us"]',
        "output.snapshot_vertices=false",
    )
    assert snapshot_times(case) == pytest.approx([1e-6, 4.5e-6, 7.5e-6])
    assert content_key(case) == content_key(CASE)


@pytest.mark.parametrize(
    "change", ['output.snapshot_potentials=["1 V"]', 'output.snapshot_times=["1 ms"]']
)
def test_impossible_snapshots(change):
    with pytest.raises(ProtocolError):
        snapshot_times(changed(change))


def test_snapshots_of_steps_see_the_potential_before_a_jump():
    case = changed('protocol={kind="potential-step", levels=["0.1 V"], durations=["1 us"]}')
    assert snapshot_times(case)[-1] == pytest.approx(1e-6)


# -- checkpoints ---------------------------------------------------------------------------


def test_slots_take_turns_and_a_torn_one_is_left_out(tmp_path):
    slots, told = Checkpoints(tmp_path / "r.h5", "key"), []
    assert slots.read(told.append) is None
    for n in range(3):
        slots.write({"n": n, "part": {"x": np.arange(4.0) + n}})
    assert slots.read(told.append)["n"] == 2
    newest = slots.slots[0]
    newest.write_bytes(newest.read_bytes()[:-10])
    state = slots.read(told.append)
    assert state["n"] == 1
    np.testing.assert_array_equal(state["part"]["x"], np.arange(4.0) + 1)
    assert len(told) == 1
    slots.write({"n": 3})  # over the torn one
    assert slots.read(told.append)["n"] == 3
    with pytest.raises(ResultFileError, match="another case"):
        Checkpoints(tmp_path / "r.h5", "other").read(told.append)
    for slot in slots.slots:
        slot.write_bytes(slot.read_bytes()[:-10])
    with pytest.raises(DamagedFileError, match="--overwrite"):
        slots.read(told.append)
    slots.remove()
    assert list(tmp_path.iterdir()) == []


# -- launch --------------------------------------------------------------------------------


def test_child_of_a_rank_sees_no_rank():
    rank = {
        "OMPI_COMM_WORLD_RANK": "0",
        "PMIX_ID": "1",
        "OMPI_MCA_orte_x": "1",
        "OMPI_MCA_btl": "self",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "PATH": "/bin",
    }
    kept = clean_environment(rank)
    assert {"OMPI_MCA_btl", "OMPI_ALLOW_RUN_AS_ROOT", "PATH"} <= set(kept)
    assert not {"OMPI_COMM_WORLD_RANK", "PMIX_ID", "OMPI_MCA_orte_x"} & set(kept)
    assert kept["OMP_NUM_THREADS"] == "1"
    del rank["OMPI_COMM_WORLD_RANK"]
    assert "OMPI_MCA_orte_x" in clean_environment(rank)


def test_launch_line():
    assert command_line(["run", "a b"]) == [sys.executable, "-m", "nanoslit", "run", "a b"]
    line = command_line(["run"], 3, "env X={ranks}")
    assert line[:2] == ["env", "X=3"]
    with pytest.raises(LaunchError, match="at least 1"):
        command_line([], 0)
    with pytest.raises(LaunchError, match="PATH"):
        command_line([], 2, "no-such-launcher -n {ranks}")
    with pytest.raises(LaunchError, match="template"):
        command_line([], 2, "mpirun -n {size}")


def test_exit_codes_in_words():
    assert "--resume" in explain_exit(85)
    assert "SIGKILL" in explain_exit(137)
    assert "SIGKILL" in explain_exit(-9)
    assert json.dumps(explain_exit(255))
