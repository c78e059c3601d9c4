"""The report of two solved cells, opened in a browser: quiet, interactive, complete.

The page of a whole study is looked at in ``test_study.py``.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

import nanoslit
from browser import Page, chromium
from example_case import EXAMPLE
from nanoslit.casefile import case_from_toml
from nanoslit.discovery.law import LawForm, ResistanceLaw
from nanoslit.errors import CircuitError
from nanoslit.findings.claims import CLAIMS, write_claims
from nanoslit.report import write_report
from nanoslit.report.page import LIMITS
from nanoslit.study.evaluation import evaluate, explore_slit_sizes

needs_browser = pytest.mark.skipif(
    chromium() is None, reason="no chromium; see tests/debian.txt"
)
SIZES = ("2 nm", "3 nm")

# elements below the shadow roots in which bokeh hides its own
DEEP = """
(selector) => {
  const found = [], look = (root) => {
    found.push(...root.querySelectorAll(selector));
    for (const e of root.querySelectorAll('*')) if (e.shadowRoot) look(e.shadowRoot);
  };
  look(document);
  return found;
}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of a study: two solved cells, a given law, and all that follows from both."""
    folder = tmp_path_factory.mktemp("report") / "study"
    cells = folder / "cells"
    cells.mkdir(parents=True)
    for d in SIZES:
        changes = {
            "geometry.slit_size": d, "geometry.sheets": 2, "numerics.mesh": "coarse",
            "protocol.upper": "0.2 V", "output.snapshot_potentials": ["0.1 V"],
        }  # fmt: skip
        nanoslit.run(case_from_toml(EXAMPLE, "example", changes), cells / f"d{d[0]}.h5")
    results = sorted(cells.glob("*.h5"))
    some_law().to_file(folder / "LAW.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nanoslit.study.compare._refitted", left_out)
        evaluate(results, folder / "LAW.json", folder / "circuits.json")
    explore_slit_sizes(results, folder / "explored.json", 64)
    write_claims(folder)
    return folder


def left_out(*_, **__):
    """Stand in for the fits to voltammograms, which take most of the time."""

    def make(_):
        raise CircuitError("left out of this test")

    return make


def some_law():
    """Return a law with front and rivals without searching for it."""
    found = ResistanceLaw.linear(0.29, 0.8)
    best = replace(found.best, complexity=11, error_train=0.1, error_test=0.2)
    constants = {"R_c": {"unit": "Ohm*m", "value": 0.3}, "b": {"unit": "", "value": 1.1}}
    donnan = LawForm("R_c*I/sqrt(1 + (b*X_inner)**2)", constants, 13, 0.05, 0.1)
    return replace(
        found, best=best, front=(best,),
        baselines={"paper_inner": best, "donnan_inner": donnan},
        meaning={**found.meaning, "voltage": "counterion"}, evaluations=500, seed=1,
        extra={"verdict": "found by the search"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(study):
    return write_report(study)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    with Page(tmp_path_factory.mktemp("browser")) as opened:
        opened.open(report)
        yield opened


def box(page, selector, number=0):
    """Bring an element into view and return its place in the window."""
    script = f"""(async () => {{
      const e = ({DEEP})({json.dumps(selector)})[{number}];
      e.scrollIntoView({{block: 'center'}});
      await new Promise((done) => setTimeout(done, 300));
      const r = e.getBoundingClientRect();
      return [r.left, r.top, r.width, r.height];
    }})()"""
    return page.run(script)


@needs_browser
def test_page_is_quiet(page):
    assert page.errors == []
    assert page.requests == []


@needs_browser
def test_slider_changes_pictures_caption_and_mark(page):
    state = """(() => {
      const d = Bokeh.documents[0], s = d.get_model_by_name('field-slider');
      const mark = d.get_model_by_name('field-mark').data_source.data;
      const image = d.get_model_by_name('field-phi').data_source.data.phi[0];
      return JSON.stringify([s.value, d.get_model_by_name('field-caption').text,
                             mark.x[0], Array.from(image).slice(0, 400)]);
    })()"""
    before = json.loads(page.run(state))
    left, top, width, height = box(page, ".noUi-handle")
    bar = box(page, ".noUi-base")
    x, y = left + width / 2, top + height / 2
    options = {"button": "left", "clickCount": 1}
    page.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, **options)
    end = bar[0] + 1
    for k in range(1, 11):
        page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x + (end - x) * k / 10, y=y,
                  button="left", buttons=1)  # fmt: skip
    page.call("Input.dispatchMouseEvent", type="mouseReleased", x=end, y=y, **options)
    page.wait("Bokeh.documents[0].get_model_by_name('field-slider').value === 0")
    after = json.loads(page.run(state))
    for was, now in zip(before, after, strict=True):
        assert was != now
    assert page.errors == []


@needs_browser
def test_pointer_shows_numbers(page):
    left, top, width, height = box(page, ".bk-Canvas")
    shown = f"""({DEEP})('.bk-Tooltip').filter((e) => e.getBoundingClientRect().width > 0)
        .map((e) => e.shadowRoot.textContent).join(' ')"""
    found = ""
    for k in range(4, 60):  # downwards through the curves
        page.point_at(left + 0.55 * width, top + height * k / 60)
        found = page.run(f"new Promise((d) => requestAnimationFrame(() => d({shown})))")
        if "A/m" in found:
            break
    assert re.search(r"current.*A/m", found, re.DOTALL), found


@needs_browser
@pytest.mark.parametrize("width", [420, 800, 1600])
def test_page_fits_the_window(page, width):
    page.resize(width, 900)
    page.wait(f"document.documentElement.clientWidth <= {width}")
    page.run("new Promise((done) => setTimeout(done, 500))")
    sizes = page.run("[document.documentElement.scrollWidth, window.innerWidth]")
    assert sizes[0] <= sizes[1]
    assert page.errors == []


def test_page_is_complete(report):
    text = report.read_text()
    assert len(text) < 10e6
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", outside)
    assert not re.findall(r"<script[^>]+src=", text)
    for limit in LIMITS:
        assert limit in outside
    for claim in CLAIMS:
        assert f">{claim.number}<" in outside
    for name in ("Randin", "Iamprasertkun", "content key", "mesh preset coarse", "law found"):
        assert name in text


def copied(study, folder):
    target = folder / "study"
    shutil.copytree(study, target)
    return target


def test_numbers_that_are_none_are_left_out(study, tmp_path):
    folder = copied(study, tmp_path)
    path = folder / "circuits.json"
    data = json.loads(path.read_text())
    first = next(iter(data["cells"][0]["outcomes"]))
    data["cells"][0]["outcomes"][first] |= {
        "current": None, "deviation": float("nan"), "note": "no circuit <here>",
    }  # fmt: skip
    data["cells"][1]["outcomes"].pop(first)
    data["predictions"] = [{"case": "unseen rate", "law": 0.031, "paper": None}]
    path.write_text(json.dumps(data))  # NaN as older studies wrote it
    assert "NaN" not in (study / "circuits.json").read_text()
    text = write_report(folder).read_text()
    assert "left out of this test" in text
    assert "no circuit &lt;here&gt;" in text
    assert "unseen rate" in text
    shown = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r">\s*(nan|None)\b[^<]*<", shown)


def test_report_without_a_law_or_claims(study, tmp_path):
    folder = copied(study, tmp_path)
    (folder / "LAW.json").unlink()
    (folder / "claims.json").unlink()
    text = write_report(folder).read_text()
    assert "No law search in this folder" in text
    assert "Not judged yet" in text


def test_equal_studies_give_equal_pages(study, tmp_path):
    folder = copied(study, tmp_path)
    texts = []
    for _ in range(2):
        words = [sys.executable, "-m", "nanoslit", "report", os.fspath(folder)]
        subprocess.run(words, check=True, capture_output=True)
        texts.append((folder / "report.html").read_bytes())
    assert texts[0] == texts[1]


def test_claims_program_prints_every_claim(study, tmp_path):
    folder = copied(study, tmp_path)
    (folder / "claims.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "analysis.claims", os.fspath(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("=>") == len(CLAIMS)
    assert (folder / "claims.json").read_bytes() == (study / "claims.json").read_bytes()
