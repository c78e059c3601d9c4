import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import sympy

from nanoslit.cli import main
from nanoslit.discovery.law import ResistanceLaw
from synthetic_results import write_result


@pytest.fixture
def here(monkeypatch, capfd):
    """Run the command in this process, which has loaded everything already."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["nanoslit", *map(str, words)])
        capfd.readouterr()
        try:
            code = main() or 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


def table(path, **columns):
    names = list(columns)
    rows = zip(*columns.values(), strict=True)
    text = "\n".join([",".join(names), *(",".join(str(v) for v in r) for r in rows)])
    path.write_text(text + "\n")
    return path


@pytest.fixture
def energies(tmp_path):
    rng = np.random.default_rng(0)
    m, v, junk = rng.uniform(1, 5, (3, 200))
    return table(tmp_path / "e.csv", m=m, v=v, junk=junk, E=0.5 * m * v**2)


def test_a_table_gives_a_law_file_that_sympy_reads(nanoslit, tmp_path, energies):
    law = tmp_path / "LAW.json"
    done = nanoslit(
        "discover", "--table", energies, "--target", "E", "--units", "m=kg,v=m/s,junk=s,E=J",
        "-o", law, "--evaluations", 5000,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\x1b[" not in done.stderr
    record = json.loads(law.read_text())
    assert set(record["best"]) >= {
        "expression", "latex", "constants", "standard_errors", "complexity",
        "error_train", "error_test",
    }  # fmt: skip
    assert {"front", "baselines", "evaluations", "seed"} <= set(record)
    m, v = sympy.symbols("m v")
    found = sympy.sympify(record["best"]["expression"], locals={"m": m, "v": v})
    assert float(found.subs({m: 2, v: 3})) == pytest.approx(9.0)
    assert record["best"]["error_train"] < 1e-12
    assert nanoslit("discover", "--table", energies, "--target", "E", "-o", law).returncode == 2


def test_results_give_the_planted_resistance_law(here, tmp_path):
    files = [
        write_result(tmp_path / f"r{k}.h5", r_c=2.0 + k, gamma=0.5, rate=1.0 + k)
        for k in range(2)
    ]
    law_file = tmp_path / "LAW.json"
    done = here("discover", files[0], "-o", law_file, "--evaluations", 8000, "--charge", "q")
    assert done.returncode == 0, done.stderr
    law = ResistanceLaw.from_file(law_file)
    assert law.governor == "outer"
    assert law.best.error_test < 1e-6
    assert law.meaning["q_max"]["definition"] == "cycle"
    q = np.linspace(0, 1, 5)
    for case in law.meaning["q_max"]["per_case"]:
        charges = {f"q_{g}": q for g in ("outer", "inner", "mean")}
        charges |= {f"X_{g}": q for g in ("outer", "inner", "mean")}
        np.testing.assert_allclose(
            law.resistance(charges, case if law.cases else None), 2 * (1 - 0.5 * q), rtol=1e-4
        )
        slope = law.meaning["slope"]["per_case"][case]
        assert slope["value"] == pytest.approx(
            -1.0 / law.meaning["q_max"]["per_case"][case], rel=1e-4
        )
    assert law.baselines["paper_outer"].error_test < 1e-6
    assert law.baselines["paper_inner"].error_test > 1e-4


def test_salt_that_lags_behind_is_seen(here, tmp_path):
    file = write_result(tmp_path / "r.h5", r_c=3.0, salt=1.4)
    words = ["discover", file, "--voltage", "electrochemical", "--evaluations", 8000]
    laws = []
    for more in ([], ["--salt"]):
        law_file = tmp_path / f"LAW{len(more)}.json"
        done = here(*words, *more, "-o", law_file)
        assert done.returncode == 0, done.stderr
        laws.append(ResistanceLaw.from_file(law_file))
    for law in laws:
        rival = law.baselines["ion_content_and_salt"]
        assert rival.error_test < 1e-4
        for case in rival.cases:
            assert rival.values(case)["R_c"] == pytest.approx(3.0, rel=1e-3)
            assert rival.values(case)["beta"] == pytest.approx(1.4, rel=1e-2)
    blind, seeing = laws
    assert "see --salt" in blind.extra["verdict"]
    assert "S_" not in blind.best.expression
    assert "I_salt" not in blind.best.expression
    assert blind.best.error_test > 10 * seeing.best.error_test
    assert "ion_content" not in blind.extra["verdict"].split(";")[0]
    gamma = blind.extra["gamma"]["per_case"]["r:1"]
    assert gamma["profile_95"][0] < gamma["value"] < gamma["profile_95"][1]
    assert gamma["block_error"] > 0


def test_a_left_out_result_only_tests(here, tmp_path):
    files = [write_result(tmp_path / f"r{k}.h5", r_c=2.0 + k, rate=1.0 + k) for k in range(3)]
    law_file = tmp_path / "LAW.json"
    done = here("discover", *files, "-o", law_file, "--evaluations", 6000, "--hold-out", "r2")
    assert done.returncode == 0, done.stderr
    held = json.loads(law_file.read_text())["held_out"]
    assert set(held["best"]) == {"r2:1", "r2:2"}
    assert set(held["paper_outer"]) == {"r2:1", "r2:2"}
    shared = json.loads(law_file.read_text())["shared_by_slit_size"]
    assert set(shared["paper_outer"]["constants"]["R_c"]) == {"1.5e-09"}
    # two planted values of R_c cannot be one: no constants of one size fit the third
    assert shared["paper_outer"]["error_held_out"] > 0.1


RNG = np.random.default_rng(0)
GOOD = {"a": RNG.uniform(1, 2, 30), "b": RNG.uniform(1, 2, 30)}
GOOD["y"] = GOOD["a"] * GOOD["b"]


def changed(name, index, value):
    column = GOOD[name].copy().astype(object)
    column[index] = value
    return {**GOOD, name: column}


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (changed("a", 3, "nan"), [], "not finite.*row 3"),
        (changed("y", 5, "inf"), [], "not finite"),
        (changed("a", 5, "seven"), ["--features", "a,b"], "holds text"),
        ({**GOOD, "a": np.ones(30)}, [], "'a' is constant"),
        ({**GOOD, "y": np.ones(30)}, [], "'y' is constant"),
        ({k: v[:3] for k, v in GOOD.items()}, [], "3 row"),
        (GOOD, ["--features", "a,z"], "no column 'z'"),
        (GOOD, ["--target", "z"], "no column 'z'"),
        (GOOD, ["--units", "a=m,b=s,y=V"], "no combination"),
        (GOOD, ["--units", "a=m,b=blorb,y=m"], "not understood"),
        (GOOD, ["--units", "a=m,y=m"], r"not of \['b'\]"),
        (GOOD, ["--units", "a=m,b=1,y=m,z=s"], "no column"),
        (GOOD, ["--units", "a"], "NAME=UNIT"),
        (GOOD, ["--operators", "+ magic"], "unknown operators"),
        (GOOD, ["--evaluations", "0"], "at least 1"),
        (GOOD, ["--loss", "cubes"], "must be one of"),
        (GOOD, ["--hold-out", "x"], "--hold-out needs --group"),
        (GOOD, ["--group", "nope"], "no column 'nope'"),
    ],
)
def test_bad_tables_and_options_end_with_one_message(
    monkeypatch, capsys, tmp_path, columns, options, message
):
    path = table(tmp_path / "t.csv", **columns)
    target = [] if "--target" in options else ["--target", "y"]
    words = ["discover", "--table", path, *target, "-o", tmp_path / "L.json", *options]
    monkeypatch.setattr(sys, "argv", ["nanoslit", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "L.json").exists()


def test_bad_files(here, tmp_path):
    output = ["-o", tmp_path / "L.json"]
    (tmp_path / "x.h5").write_text("no")
    plain = write_result(tmp_path / "plain.h5")
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(plain.read_bytes()[:3000])
    for words, message in (
        ([tmp_path / "none.h5"], "no result file"),
        ([tmp_path / "x.h5"], "not an HDF5 file"),
        ([damaged], "HDF5 cannot"),
        (["--table", tmp_path / "none.csv", "--target", "y"], "no table"),
        (["--table", tmp_path / "x.h5", "--target", "y"], "cannot read"),
        (["--table", tmp_path / "x.doc", "--target", "y"], "kind"),
        ([], "nothing to read"),
        ([plain, "--salt"], "no ion content"),
    ):
        done = here("discover", *words, *output)
        assert done.returncode == (1 if words == [damaged] else 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
