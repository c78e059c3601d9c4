"""What pip builds and installs, seen from outside the checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow

REST_OF_THE_CHECKOUT = ["sweeps", "analysis", "jobs", "tests"]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """Return a copy of the checkout, so that building leaves nothing behind in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ["nanoslit", *REST_OF_THE_CHECKOUT]:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=skip)
    return folder


def test_wheel_holds_exactly_the_package(checkout, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", tmp_path, "."],
        cwd=checkout,
        check=True,
    )
    (wheel,) = tmp_path.glob("nanoslit-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"nanoslit"}
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "nanoslit").rglob("*.py")}
    assert modules <= set(names)
    assert "nanoslit/cli/case_template.toml" in names


def test_plain_environment_without_petsc(checkout, tmp_path):
    """`pip install .` with nothing but the package index gives help, new and check."""
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    subprocess.run([base, "-m", "venv", tmp_path / "env"], check=True)
    bin_ = tmp_path / "env" / "bin"
    subprocess.run([bin_ / "pip", "install", "-q", str(checkout)], check=True, cwd=tmp_path)

    def nanoslit(*arguments):
        return subprocess.run(
            [bin_ / "nanoslit", *arguments],
            cwd=tmp_path,
            env={"PATH": f"{bin_}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert "check" in nanoslit("--help").stdout
    assert nanoslit("new", "case.toml").returncode == 0
    shown = nanoslit("check", "case.toml")
    assert shown.returncode == 0, shown.stderr
    assert "0.3042 nm" in shown.stdout
    doctor = nanoslit("doctor")
    assert doctor.returncode == 1
    assert "petsc4py" in doctor.stdout
