"""Every sentence that the judge can print is on one page, and none is a riddle."""

import re

import pytest

from framework_parity.common.judging.thresholds import Thresholds
from tests.facts_of_reports import finding, findings, run
from tests.sentences import page
from tests.templates import templates

MARK = re.compile(r"[.*?Wb]*, carried over steps[.*?]*|\(what was fed is not on record\)")
"""Marks of a tensor's name, which :mod:`report.findings` puts into words."""

NO_SENTENCES = {
    *("bold magenta", "bold red", "bold green", "[bold magenta].*?[/]"),
    *("<?xml version='1.0' encoding='utf-8'?> .*?", "Precision loss", "the plan"),
    *("whole numbers of shape .*?", "the row of each example that was fed, shape .*?"),
    "parameters before the end",
    *("… .*? more lines: `compare.py show` prints them.", "bit for bit the same"),
    "or bisect by bits",
}
"""Prose that is not printed as a sentence: styles, a filter of warnings, the name of no cause, the
end of what is cut off, parts of a complaint that is raised."""

RIDDLES = (
    r"of a stage\b",
    r"\bexplain",
    r"largest error",
    r"\b(gain|offset|decay) error",
    r"ulps at most",
    r"must not differ at all",
    r"carried over steps",
    r"\bparts\b",
    r"e\+99|\binf\b|\bnan\b|\bNone\b",
    r"\bon on\b|  +\S",
)
"""What no reader can take the sense of who has not read the code."""


@pytest.fixture(scope="module")
def sentences():
    return page()


def test_no_sentence_of_the_sources_is_missing(sentences):
    said = "\n".join(flat(line) for group in sentences.values() for line in group)
    missing = [
        f"{where}: {pattern}"
        for where, pattern in templates()
        if (text := pattern.replace("\\", "")) not in NO_SENTENCES
        and not MARK.fullmatch(text)
        and not re.search(pattern, said)
    ]
    assert not missing, "put them on the page: tests/sentences.py\n" + "\n".join(missing)


def test_the_search_sees_a_sentence_that_is_not_there(sentences):
    """Prose of a file that is none of the judge's."""
    said = "\n".join(flat(line) for group in sentences.values() for line in group)
    others = [pattern for _, pattern in templates(["commands/options"])]
    assert others
    assert not any(re.search(pattern, said) for pattern in others if len(pattern) > 40)


@pytest.mark.parametrize("riddle", RIDDLES)
def test_no_sentence_is_a_riddle(sentences, riddle):
    for group, lines in sentences.items():
        if group.startswith("On the terminal"):
            lines = [flat(line) for line in lines]
        for line in lines:
            assert not re.search(riddle, line.strip()), (group, line)


def test_a_divergence_says_what_where_and_how_much(sentences):
    number = r"[\d.]+(e[+-]\d+)? × rounding"
    equal = "must be equal|not what the plan says|not on record any more|another shape"
    lines = sentences["Where a run first diverges, and how far"] + sentences["What a step was fed"]
    for line in lines:
        if line.startswith("first divergence"):
            assert re.match(r"first divergence at step \d+, stage [a-z ]+, \S", line), line
            assert re.search(f"{number}|{equal}", line), line
            assert re.search(r"own training|single step|stage (data|metric)", line), line


def test_labels_differ_and_are_not_subtracted():
    """A difference of class numbers has no meaning."""
    for group, lines in page_of_labels().items():
        assert not re.search(r"\b[39]\b(?! of)", lines.partition(":")[2]), group


def page_of_labels():
    from framework_parity.common.report.findings import how_far

    return {
        tensor: f"{tensor}: {how_far(finding('data', tensor, error=9.0, envelopes=1e99))}"
        for tensor in ("y", "labels")
    }


@pytest.mark.parametrize("free", [False, True])
def test_a_run_has_one_number_in_table_sentence_tile_and_ladder(free, tmp_path):
    """What is larger elsewhere stands with its own name."""
    from framework_parity.common.report.findings import cell, count, tile
    from framework_parity.common.report.markdown import markdown
    from framework_parity.common.report.report import Report
    from framework_parity.common.report.wording import run_lines
    from tests.facts_of_reports import report

    first = finding("gradient", "W", envelopes=10.4)
    worst = finding("gradient", "W", step=16, envelopes=7.0 if free else 45.5)
    facts = {"stages": {"gradient": worst}, "parameter_envelopes": 45.5, "envelopes": 45.5}
    row = run(divergence=first, **facts)
    where, farthest, *_ = run_lines(row)
    for text in (where, tile(row), cell(row), markdown(Report(report("drift", [row]), tmp_path))):
        assert "10.4 ×" in text
    assert "45.5" not in where
    assert farthest.startswith("farthest ")
    assert "45.5 × rounding" in farthest
    assert ("own training" in where) == free == ("own training" in farthest)
    assert count(10.4) == "10.4 ×"


def test_every_kind_of_finding_is_worded():
    """None is called by the name that the code has for it."""
    from framework_parity.common.report.findings import how_far

    said = {how_far(found) for found, _ in findings()}
    assert len(said) > 10
    assert not any(re.search("gain|offset|decay|largest", line) for line in said)
    assert "gain" not in Thresholds().sentence()


def flat(text):
    """On one line."""
    return re.sub(r"\s+", " ", text).strip()
