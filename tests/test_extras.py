"""Without the libraries of an extra all else works, and what needs them says which to install."""

import importlib.util
import json

import pytest

from framework_parity.common.commands.options import CompareOptions, SeedsOptions
from framework_parity.common.core.errors import ParityError
from framework_parity.common.report.page import NEEDED, PAGE, write_page
from framework_parity.common.report.report import Report
from tests.comparisons import finished
from tests.helpers import PLAIN


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A finished comparison of replays."""
    return finished(tmp_path_factory.mktemp("finished"), {(PLAIN, "concise"): 1.0})


@pytest.fixture
def lacking(monkeypatch):
    """A function that hides packages from whoever asks whether they are there."""

    def hide(*names):
        find = importlib.util.find_spec
        hidden = lambda name, *rest: None if name in names else find(name, *rest)  # noqa: E731
        monkeypatch.setattr(importlib.util, "find_spec", hidden)

    return hide


@pytest.mark.parametrize("name", NEEDED)
def test_a_report_without_its_page_says_what_to_install(report, tmp_path, lacking, name):
    report = Report(json.loads(json.dumps(report.facts)), tmp_path)
    report.save()
    lacking(name)
    write_page(report)
    assert not (tmp_path / PAGE).exists()
    (said,) = [line for line in Report.load(tmp_path).facts["notices"] if PAGE in line]
    assert f"received no {name}; install framework-parity[page]" in said


def test_a_notebook_shows_the_sentence_where_there_is_no_jinja2(report, lacking):
    assert "<" in report._repr_html_()
    lacking("jinja2")
    assert report._repr_html_() is None
    assert report.sentence in repr(report)


def test_a_figure_and_seeds_name_their_extra(report, lacking):
    lacking("matplotlib", "scipy")
    with pytest.raises(ParityError, match=r"figure: .*install framework-parity\[page\]"):
        report.plot_loss()
    with pytest.raises(ParityError, match=r"seeds: .*install framework-parity\[seeds\]"):
        SeedsOptions(count=3)
    CompareOptions()
