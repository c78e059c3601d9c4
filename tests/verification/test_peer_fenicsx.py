"""The finite-element peer reproduces its own stored reference numbers."""

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "analysis" / "peer_reference.json"
PYTHON = "/usr/bin/python3"  # the peer needs Debian's own packages


def peer_is_installed() -> bool:
    if not Path(PYTHON).exists():
        return False
    probe = [PYTHON, "-c", "import dolfinx"]
    return subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.slow
def test_coarse_peer_agrees_with_reference():
    if not peer_is_installed():
        pytest.skip("python3-dolfinx is not installed")
    name = "network-1nm"
    command = [PYTHON, "analysis/peer_fenicsx.py", name, "--preset", "2 %"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    exact = json.loads(REFERENCE.read_text())["cases"][name]["value"]
    assert found["cv_area"] == pytest.approx(exact["cv_area"], rel=0.02)
    for mine, true in zip(found["openings"], exact["openings"], strict=True):
        for key in ("r_c", "gamma"):
            assert mine[key] == pytest.approx(true[key], rel=0.025)
    for key in ("electrode_charge", "slit_charge"):
        assert found["vertices"][key][1] == pytest.approx(exact["vertices"][key][1], rel=0.02)


@pytest.mark.parametrize("name", ["network-1.5nm", "network-3nm", "network-1nm"])
def test_reference_is_sharp(name):
    """Its error estimates are small enough to judge a solver by (0.3 %)."""
    case = json.loads(REFERENCE.read_text())["cases"][name]
    value, error = case["value"], case["error"]
    assert error["cv_area"] < 1e-3 * value["cv_area"]
    for exact, bound in zip(value["openings"], error["openings"], strict=True):
        for key in exact:
            assert 0 < bound[key] < 3e-3 * exact[key]
