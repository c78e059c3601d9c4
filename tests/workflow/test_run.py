"""A run as a product: the command and what can be done with its file."""

import json
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

import nanoslit
from nanoslit.casefile import case_from_toml, case_to_toml, content_key
from nanoslit.cli import main
from nanoslit.errors import ResultFileError
from nanoslit.mpnp.traces import SPECS
from nanoslit.results.verify import verify_file
from run_cases import SMALL, environment, largest_difference, run, traces

CASE = SMALL.replace("cycles = 3", "cycles = 1").replace("sheets = 2", "sheets = 3")


@pytest.fixture
def call(folder, monkeypatch, capsys):
    """Return a function that runs the command in this process."""

    def call(*words, cwd=folder):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["nanoslit", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with case.toml, its result r.h5 and the run's log."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "case.toml").write_text(CASE)
    done = run(folder, "run", "case.toml", "-o", "r.h5")
    assert done.returncode == 0, done.stderr
    (folder / "log").write_text(done.stderr)
    return folder


def test_log_has_no_escape_codes(folder):
    log = (folder / "log").read_text()
    assert "\x1b" not in log
    assert "\r" not in log
    assert "next: nanoslit show r.h5" in log


def test_promised_names_are_there(folder):
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(folder / "r.h5", group="traces") as data:
        assert set(SPECS) <= set(data.variables)
        assert data.slit_charge.dims == ("time", "slit")
        assert data.opening_current_steric.dims == ("time", "opening")
        assert data.open_space_current.dims == ("time", "distance")
        assert data.sizes["opening"] == 2
        assert data.slit_current.attrs["units"] == "A m-1"
        # charge of each slit changes by what flows in and out
        t, q = data.time.values, data.slit_charge.values[:, 1]
        flow = data.opening_current.values
        inflow = flow[:, 1] - flow[:, 0]
        middle = 0.5 * (inflow[1:] + inflow[:-1]) * np.diff(t)
        assert np.abs(np.cumsum(middle) + q[1:] - q[0]).max() < 0.03 * np.abs(q).max()


def test_excess_parts_add_up_to_the_current(folder):
    t = traces(folder / "r.h5")
    total = sum(t[f"slit_current_{p}_excess"] for p in ("migration", "diffusion", "steric"))
    assert np.abs(total - t["slit_current"]).max() < 1e-6 * np.abs(t["slit_current"]).max()


def test_fields_are_those_of_the_walls_and_the_bulk(folder):
    with h5py.File(folder / "r.h5") as file:
        f = file["fields"]
        phi, volt = f["phi"][()], f["applied_potential"][()]
        c, x = f["concentration"][()], f["x"][()]
        np.testing.assert_allclose(np.nanmax(phi, axis=(1, 2)), np.maximum(volt, 0), atol=1e-3)
        assert (phi[:, 0] == 0).all()
        np.testing.assert_allclose(c[:, :, 0], 1000.0)
        assert np.isnan(phi[:, (x > 10.1e-9) & (x < 10.2e-9)]).any()
        # current into the stack through a plane of the open space, from the fields
        i = np.searchsorted(x, 8e-9)  # the plane lies midway of lines i - 1 and i
        density = f["current_density_x"][:, i - 1 : i + 1].mean(axis=1)
        y = f["y"][()]
        current = -(0.5 * (density[:, 1:] + density[:, :-1]) @ np.diff(y))
        assert file["traces/distance"][3] == 2e-9
        plane = file["traces/open_space_current"][:, 3]
        expected = np.interp(f["time"][()], file["traces/time"], plane)
        np.testing.assert_allclose(current, expected, atol=0.05 * np.abs(plane).max())


def test_provenance_repeats_the_run(folder, call):
    result = nanoslit.open_result(folder / "r.h5")
    with h5py.File(folder / "r.h5") as file:
        origin = dict(file["provenance"].attrs)
        assert file.attrs["content_key"] == content_key(result.case)
    assert content_key(result.case) == content_key(case_from_toml(CASE))
    assert origin["ranks"] == 1
    assert origin["version_petsc"].startswith("3.")
    assert {"host", "revision", "wall_time", "error_estimate", "version_hdf5"} <= set(origin)
    (folder / "again.toml").write_text(case_to_toml(result.case))
    assert call("run", "again.toml", "-o", "again.h5", "--snapshots", "none")[0] == 0
    assert largest_difference(traces(folder / "r.h5"), traces(folder / "again.h5")) == 0


def test_show(folder, call):
    code, text = call("show", "r.h5", "--json", "--per", "surface")
    assert code == 0
    s = json.loads(text.out)
    assert len(s["openings"]) == len(s["openings_electrochemical"]) == 2
    first = s["openings"][0]
    assert set(first) == {
        "r_c",
        "gamma",
        "r2",
        "r_max",
        "r_min",
        "resistivity_max",
        "resistivity_min",
    }
    assert first["resistivity_max"] == pytest.approx(first["r_max"] * 1.5 / 5.5)
    assert 0.5 < first["r2"] <= 1
    t = traces(folder / "r.h5")
    q, v = t["electrode_charge"], t["applied_potential"]
    vertex = int(np.argmax(v))
    assert s["cv_area"] == pytest.approx(1e5 * (2 * q[vertex] - q[0] - q[-1]))
    assert s["capacitance"] == pytest.approx(s["cv_area"] / (2 * 1e5 * 0.2))
    assert s["per"]["capacitance"]["unit"] == "uF/cm2"
    assert s["balances"]["current_mismatch_relative"] < 1e-6
    assert s["cost"]["accepted"] == t["time"].size - 1
    code, text = call("show", "r.h5", "--per", "mass")
    assert code == 0
    assert "F/g" in text.out
    assert "not an" in re.sub(r"\s+", " ", text.out)


@pytest.mark.parametrize("what", ["cv", "charge", "fluxes", "resistance", "voltage", "fields"])
def test_figures(folder, tmp_path, what):
    pytest.importorskip("matplotlib")
    from nanoslit.plotting.files import save
    from nanoslit.plotting.simulation import plot

    for ending in ("png", "svg", "pdf") if what == "cv" else ("png",):
        save(plot(folder / "r.h5", what, per="mass"), tmp_path / f"f.{ending}")
        assert (tmp_path / f"f.{ending}").stat().st_size > 4000


def test_plot_command_and_its_mistakes(call):
    assert call("plot", "r.h5", "-o", "cv.png")[0] == 0
    for words, text in ((("-o", "cv.gif"), ".png"), (("-o", "x.png", "--what", "cw"), "cv")):
        code, said = call("plot", "r.h5", *words)
        assert code == 2
        assert text in said.err


def test_export_tables(folder, tmp_path):
    pandas = pytest.importorskip("pandas")
    from nanoslit.results.export import export

    t = traces(folder / "r.h5")
    csv = pandas.read_csv(
        export(folder / "r.h5", "csv", tmp_path / "a.csv"),
        comment="#",
        float_precision="round_trip",
    )
    np.testing.assert_array_equal(csv["slit_charge_2 [C m-1]"], t["slit_charge"][:, 1])
    pytest.importorskip("pyarrow")
    table = pandas.read_parquet(
        export(folder / "r.h5", "parquet", tmp_path / "a.parquet", per="area")
    )
    np.testing.assert_allclose(
        table["electrode_charge [C/cm2]"], t["electrode_charge"] * 1e-4 / 5.5e-9
    )


def test_paraview_opens_the_fields(folder, tmp_path):
    pyvista = pytest.importorskip("pyvista")
    from nanoslit.results.export import export

    reader = pyvista.get_reader(export(folder / "r.h5", "vtk", tmp_path / "f.pvd"))
    with h5py.File(folder / "r.h5") as file:
        f = file["fields"]
        np.testing.assert_allclose(reader.time_values, f["time"])
        reader.set_active_time_value(reader.time_values[3])
        grid = reader.read()[0]
        back = grid["phi"].reshape(f["y"].size, f["x"].size).T
        np.testing.assert_array_equal(back, f["phi"][3])
        np.testing.assert_allclose(grid.x, f["x"][()] * 1e9)
        k = grid["c_K+"].reshape(f["y"].size, f["x"].size).T
        np.testing.assert_array_equal(k, f["concentration"][3, 0])


def test_wrong_input(call, tmp_path):
    (tmp_path / "text.h5").write_text("no result")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with h5py.File(tmp_path / "future.h5", "w") as file:
        file.attrs["schema"], file.attrs["schema_version"] = "nanoslit-result", 99
    for name, text in (
        ("none.h5", "cannot be read"),
        ("text.h5", "not an HDF5"),
        ("other.h5", "not a result"),
        ("future.h5", "version 99"),
    ):
        with pytest.raises(ResultFileError, match=text) as caught:
            nanoslit.open_result(tmp_path / name)
        assert caught.value.exit_code == 2
    for words, text in (
        (("run", "case.toml", "-o", "r.h5"), "--overwrite"),
        (("run", "case.toml", "-o", "no/r.h5"), "does not exist"),
        (("run", "case.toml", "-o", "x.h5", "--snapshots", "3 V"), "3 V"),
        (("show", "case.toml"), "not an HDF5"),
    ):
        code, said = call(*words)
        assert code == 2, words
        assert text in said.err
        assert "Traceback" not in said.err


def test_verify(folder, call, tmp_path):
    good = (folder / "r.h5").read_bytes()
    (tmp_path / "good.h5").write_bytes(good)
    (tmp_path / "short.h5").write_bytes(good[:-5000])
    flipped = bytearray(good)
    flipped[len(good) // 3] ^= 16
    (tmp_path / "flipped.h5").write_bytes(flipped)
    code, said = call("verify", "good.h5", cwd=tmp_path)
    assert code == 0
    assert "good" in said.out
    for name in ("short.h5", "flipped.h5"):
        code, said = call("verify", name, cwd=tmp_path)
        assert code == 1
        assert name in said.err


def test_resume_of_a_finished_run_does_nothing(folder, call):
    before = (folder / "r.h5").stat().st_mtime_ns
    assert call("run", "case.toml", "-o", "r.h5", "--resume")[0] == 0
    assert (folder / "r.h5").stat().st_mtime_ns == before


def test_python(tmp_path):
    pytest.importorskip("h5netcdf")
    case = case_from_toml(CASE, overrides=["geometry.sheets=1"])
    result = nanoslit.run(case, tmp_path / "one.h5")
    assert result.traces.sizes["opening"] == 0
    assert result.fields.phi.dims == ("snapshot", "x", "y")
    assert result.summary()["openings"] == []
    assert "<table>" in result._repr_html_()
    assert "one.h5" in repr(result)


@pytest.mark.parametrize(
    "change", ['cell.kind="full"', 'geometry={kind="planar", reservoir="5 nm"}']
)
def test_other_cells(tmp_path, change):
    case = case_from_toml(CASE, overrides=[change])
    result = nanoslit.run(case, tmp_path / "r.h5")
    summary = result.summary()
    assert summary["capacitance"] > 0
    if case.cell == "full":
        assert result.traces.electrode_charge.dims == ("time", "electrode")
        assert len(summary["openings_negative"]) == 2


@pytest.mark.mpi
def test_ranks_write_the_same_file(folder):
    words = ("run", "case.toml", "--ranks", 2, "-o", "two.h5")
    done = run(folder, *words)
    assert done.returncode == 0, done.stderr
    verify_file(folder / "two.h5")
    assert largest_difference(traces(folder / "r.h5"), traces(folder / "two.h5")) < 1e-8
    with h5py.File(folder / "r.h5") as one, h5py.File(folder / "two.h5") as two:
        names = []
        one.visit(names.append)
        other = []
        two.visit(other.append)
        assert names == other
        assert two["provenance"].attrs["ranks"] == 2
        for name in ("phi", "concentration", "ion_flux_x", "ion_flux_y"):
            a, b = one["fields"][name], two["fields"][name]
            assert a.dtype == b.dtype
            assert a.fletcher32
            assert b.fletcher32
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9 * np.nanmax(np.abs(a)))


SMALL_MEMORY = """
import resource, sys
import nanoslit
from nanoslit.casefile import read_case
from nanoslit.cli import main

# compiles, and maps all libraries
nanoslit.run(read_case("small.toml"), "small.h5", overwrite=True)
now = next(line for line in open("/proc/self/status") if line.startswith("VmPeak"))
limit = 1024 * int(now.split()[1]) + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
main()
"""


@pytest.mark.slow
def test_iterative_solver_works_where_the_lu_does_not_fit(tmp_path):
    """A wide mesh of 84,000 nodes: with the LU 440 MB, the iterative solver 280 MB."""
    (tmp_path / "small.toml").write_text(SMALL)
    wide = {
        "geometry.slit_size": '"5 nm"',
        "geometry.sheet_length": '"10 nm"',
        "geometry.sheets": "2",
        "protocol.upper": '"0.2 V"',
        "protocol.scan_rate": '"1e8 V/s"',
        "protocol.cycles": "1",
        "numerics.mesh": '"fine"',
        "numerics.tolerance": "0.05",
    }
    changes = [word for k, v in wide.items() for word in ("--set", f"{k}={v}")]

    def limited(solver):
        more = [*changes, "--set", f'numerics.linear_solver="{solver}"', "--snapshots", "none"]
        line = ["run", "small.toml", "-o", f"{solver}.h5", *more]
        return subprocess.run(
            [sys.executable, "-c", SMALL_MEMORY, str(355 * 2**20), *line],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )

    direct = limited("direct")
    assert direct.returncode == 1, direct.stderr
    assert "OutOfMemoryError" in direct.stderr
    assert 'linear_solver = "iterative"' in direct.stderr
    assert "Traceback" not in direct.stderr
    assert not (tmp_path / "direct.h5").exists()
    iterative = limited("iterative")
    assert iterative.returncode == 0, iterative.stderr
    assert (tmp_path / "iterative.h5").exists()
