"""What a report and its figures show of themselves in a notebook."""

import html
import re
from html.parser import HTMLParser

import pytest

from framework_parity.common.data.datasets import Digits
from framework_parity.common.report.advice import where
from framework_parity.common.report.page import PAGE
from framework_parity.common.report.report import Report
from framework_parity.common.report.style import GLYPHS
from tests.comparisons import finished

MARKUP = "<b><img src=x onerror=alert(1)>"
REASON = "no <script>alert(2)</script> & <b>nothing</b>"
RUNS = {
    ("alpha", "scratch"): 1.0,
    ("alpha", "concise"): 1.001,
    (MARKUP, "scratch"): 3.0,
    ("gone", "scratch"): REASON,
}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("cell"), RUNS, Digits(), max_epochs=2, lr=0.1)


class Text(HTMLParser):
    """Tags, addresses and text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.addresses, self.text = set(), [], ""
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ("href", "src")]

    def handle_data(self, data):
        self.text += data


def test_it_says_what_the_page_says_first(report):
    said = Text(report._repr_html_()).text
    assert f"{GLYPHS[report.verdict]} {report.sentence}" in said
    for run in report.runs:
        assert run["backend"] in said
        word = run["grade"] or run["status"]
        assert f"{GLYPHS[word]}{word}" in said
        if run["status"] == "done":
            assert f"{run['val_loss'][-1]:.6f}" in said


def test_it_names_first_divergences_and_causes(report):
    said = Text(report._repr_html_()).text
    apart = [run for run in report.runs if run["status"] == "done" and run["divergence"]]
    assert len(apart) == 2
    for run in apart:
        assert where(run["divergence"]) in said
        assert run["cause"]["sentence"] in said
    assert REASON in said


def test_markup_in_names_and_reasons_stays_text(report):
    source = report._repr_html_()
    assert not Text(source).tags & {"script", "img", "b"}
    assert html.escape(MARKUP) in source


def test_it_leads_to_the_page(report, monkeypatch, tmp_path):
    monkeypatch.chdir(report.folder.parent)
    path = f"{report.folder.name}/{PAGE}"
    assert Text(report._repr_html_()).addresses == [path]
    assert Text(Report(report.facts, tmp_path)._repr_html_()).addresses == []


def test_it_holds_nothing_of_the_machine(report, monkeypatch):
    monkeypatch.chdir(report.folder)
    assert str(report.folder) not in report._repr_html_()


def test_it_needs_no_style_sheet(report):
    # Front ends that do not trust a notebook drop those.
    without = re.sub(r"<style>.*?</style>", "", report._repr_html_(), flags=re.DOTALL)
    grades = re.findall(r'<span class="grade \w+"( style="color: #[0-9a-f]{6})?', without)
    assert len(grades) == 2 * len(report.runs)
    assert all(grades)


def test_what_moved_since_a_baseline_is_said(report):
    facts = report.facts | {
        "baseline": {
            "file": "golden <1>.npz",
            "saved": "2026-01-01T00:00:00Z",
            "because": "a & b",
            "new": ["beta scratch"],
            "not_trained": [],
        }
    }
    said = Text(Report(facts, report.folder)._repr_html_()).text
    assert "Baseline golden <1>.npz, saved 2026-01-01T00:00:00Z, because: a & b" in said
    assert "beta scratch: not in the baseline" in said


def test_its_representation_is_a_line(report):
    assert repr(report) == f"<Report {report.folder}: {report.sentence}>"


@pytest.mark.parametrize("name", ["loss", "error", "wrong_images"])
def test_figures_show_themselves(report, name):
    figure = getattr(report, f"plot_{name}")()
    assert figure._repr_png_().startswith(b"\x89PNG")
