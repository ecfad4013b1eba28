"""A report in other forms, and ``compare.py show``."""

import copy
import csv
import html
import io
import json
import os
import re
import xml.etree.ElementTree as ET

import pytest
from junitparser import Error, Failure, JUnitXml

from framework_parity.common.commands.accepted_differences import Accepted
from framework_parity.common.core.files import write_whole
from framework_parity.common.environments.backend import IMPLEMENTATIONS, ROOT
from framework_parity.common.report.junit import clean, junit_xml
from framework_parity.common.report.markdown import LONGEST_LINE, MOST_BYTES, escaped, markdown
from framework_parity.common.report.report import Report
from framework_parity.common.report.spreadsheet import csv_text
from tests.helpers import COMPARE, PLAIN, REPORT, SMALL, check_complaint, run

NASTY = "a<b>&\"'|`*_[x](y) ~~ $1$ #2 @me ]]> \x00\x1b[31m\ud800 ünï\n| --- |\n# head"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """One small comparison with every export, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    files = exports(folder / "made" / "of")
    process = run([*COMPARE, PLAIN, *SMALL, "--quiet", *files, "--out", folder / "out"], cache)
    assert process.returncode == 0, process.stderr
    return folder


def exports(folder):
    return [
        word
        for name, ending in (("junit", "xml"), ("markdown", "md"), ("csv", "csv"))
        for word in (f"--{name}", folder / f"report.{ending}")
    ]


@pytest.fixture
def report(finished):
    """The report, to be changed."""
    loaded = Report.load(finished / "out")
    return Report(copy.deepcopy(loaded.facts), loaded.folder)


def spoil(report, verdict):
    """Give the first run a verdict, a divergence and a reason full of markup."""
    report.facts["verdict"] = verdict
    row = report.facts["runs"][0]
    row["reason"] = NASTY
    if verdict == "incomplete":
        row |= dict.fromkeys(("grade", "seconds", "divergence", "cause", "val_loss"))
        row |= {"status": "failed", "flips": None, "version": None}
    else:
        row["grade"] = verdict
        where = {"step": 3, "stage": "update", "tensor": "W", "statistic": "gain"}
        row["divergence"] = where | {"error": 1e-5, "ulps": 1.0, "envelopes": 168.0}
        row["cause"] = {"sentence": f"learning rate {NASTY}"}


# JUnit


def junit(report, fail_on="disagree"):
    return JUnitXml.fromstring(junit_xml(report, fail_on).encode())


@pytest.mark.parametrize("verdict", ["agree", "chaotic", "drift", "disagree", "incomplete"])
@pytest.mark.parametrize("fail_on", ["chaotic", "drift", "disagree"])
def test_junit_fails_where_the_exit_status_does(report, verdict, fail_on):
    if verdict != "agree":
        spoil(report, verdict)
    found = junit(report, fail_on)
    (suite,) = found
    cases = list(suite)
    assert [(case.classname, case.name) for case in cases] == [
        (PLAIN, "scratch"),
        (PLAIN, "concise"),
    ]
    results = [type(result) for case in cases for result in case.result]
    expected = {0: [], 1: [Failure], 3: [Error]}[report.exit_status(fail_on)]
    assert results == expected
    assert (found.tests, found.failures, found.errors) == (
        2,
        results.count(Failure),
        results.count(Error),
    )
    assert suite.time > 0
    assert {p.name: p.value for p in suite.properties()}["verdict"] == verdict


def test_junit_tells_step_stage_tensor_and_cause(report):
    spoil(report, "disagree")
    (result,) = next(iter(next(iter(junit(report))))).result
    assert "step 3, stage update, W" in result.text
    assert "learning rate" in result.text
    assert result.type == "disagree"


def test_junit_has_what_the_common_schema_asks_for(finished):
    root = ET.parse(finished / "made" / "of" / "report.xml").getroot()  # noqa: S314
    (suite,) = root
    assert (root.tag, suite.tag) == ("testsuites", "testsuite")
    required = {"name", "tests", "failures", "errors", "time", "timestamp", "hostname", "id"}
    assert required <= set(suite.attrib)
    order = [child.tag for child in suite]
    assert order == ["properties", *["testcase"] * 2, "system-out"]
    for case in suite.iter("testcase"):
        assert {"name", "classname", "time"} == set(case.attrib)


def test_junit_holds_any_text(report):
    spoil(report, "disagree")
    report.facts["runs"][0]["backend"] = NASTY
    (suite,) = junit(report)
    case = next(iter(suite))
    assert case.classname.split() == clean(NASTY).split()
    assert "\x00" not in case.result[0].text
    assert "a<b>&" in case.result[0].text


# Markdown


@pytest.mark.parametrize("verdict", ["agree", "chaotic", "drift", "disagree", "incomplete"])
def test_markdown_says_what_the_terminal_says(report, verdict):
    if verdict != "agree":
        spoil(report, verdict)
        report.facts["runs"][0]["reason"] = "plain words"
    text = markdown(report)
    assert f"framework-parity: {verdict}" in text
    assert f"{PLAIN} | " in text
    if verdict != "agree":
        assert "plain words" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(report.runs)
    assert len({line.count(" | ") for line in table if "---" not in line}) == 1


def test_markdown_has_no_foreign_markup(report):
    for verdict in ("disagree", "incomplete"):
        spoil(report, verdict)
        report.facts["runs"][0]["backend"] = NASTY
        plain = markdown(report)
        assert "<b>" not in plain
        assert "\x1b" not in plain
        assert "\n# head" not in plain
        assert not [line for line in plain.splitlines() if line.startswith("| ---")]
        table = [line for line in plain.splitlines() if line.startswith("| ")]
        cells = [line.replace("\\|", "").count("|") for line in table]
        assert len(set(cells)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.9.1", "1.9.1"),
        ("1. one", "1\\. one"),
        ("- one", "\\- one"),
        ("--- one", "\\--- one"),
        ("-0.5", "-0.5"),
        ("# one", "\\# one"),
        ("a_b*c", "a\\_b\\*c"),
        ("<script>", "&lt;script&gt;"),
        ("two\nlines", "two lines"),
        ("\\|", "\\\\\\|"),
    ],
)
def test_text_is_no_markup(text, expected):
    assert escaped(text) == expected


def test_markdown_fits_a_job_summary(report):
    spoil(report, "disagree")
    row = report.facts["runs"][0] | {"reason": "<" * 10_000}
    report.facts["runs"] = [copy.deepcopy(row) for _ in range(2000)]
    text = markdown(report)
    assert len(text.encode()) < MOST_BYTES + 200
    assert "more lines" in text
    assert max(map(len, text.splitlines())) < 10 * LONGEST_LINE + 200 or "|" in text


# CSV


def test_csv_has_a_line_for_every_run(report):
    rows = list(csv.DictReader(io.StringIO(csv_text(report))))
    assert len(rows) == 2
    for row, run_ in zip(rows, report.runs, strict=True):
        assert row["backend"] == PLAIN
        assert row["implementation"] == run_["implementation"]
        assert float(row["val_loss"]) == run_["val_loss"][-1]
        assert float(row["parameter_error"]) == run_["parameter_error"]
        assert row["reason"] == ""


@pytest.mark.parametrize("verdict", ["drift", "incomplete"])
def test_csv_holds_any_text_and_no_formula(report, verdict):
    spoil(report, verdict)
    report.facts["runs"][0]["reason"] = NASTY
    report.facts["runs"][1]["reason"] = "=1+1"
    first, second = csv.DictReader(io.StringIO(csv_text(report)))
    assert first["reason"] == NASTY
    assert second["reason"] == "'=1+1"
    assert first["divergence_stage"] == ("update" if verdict == "drift" else "")


# Files, and show


def test_show_prints_and_converts_without_training(finished, cache, tmp_path):
    files = exports(tmp_path)
    process = run([*COMPARE, "show", finished / "out", *files], cache)
    assert (process.returncode, process.stderr) == (0, "")
    assert "agree: 2 runs" in process.stdout
    for name in ("report.xml", "report.md", "report.csv"):
        made = finished / "made" / "of" / name
        assert (tmp_path / name).read_bytes() == made.read_bytes()
    again = run([*COMPARE, "show", finished / "out" / REPORT, "--quiet"], cache)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("verdict", "status"), [("chaotic", 0), ("drift", 0), ("disagree", 1), ("incomplete", 3)]
)
def test_show_ends_as_the_comparison_did(report, cache, tmp_path, verdict, status):
    spoil(report, verdict)
    report.facts["runs"][0]["reason"] = NASTY.encode("utf-8", "replace").decode()
    Report(report.facts, tmp_path).save()
    process = run([*COMPARE, "show", tmp_path, *exports(tmp_path)], cache)
    assert process.returncode == status, process.stderr
    assert "[31m" in process.stdout  # markup of the reason is printed, not obeyed
    if verdict == "drift":
        assert run([*COMPARE, "show", tmp_path, "--fail-on", "drift"], cache).returncode == 1


def test_show_of_what_is_no_report(finished, cache, tmp_path):
    check_complaint(
        run([*COMPARE, "show", tmp_path], cache), tmp_path, "received No such file or directory;"
    )
    for broken in ("", "{", "[]", "{}", '{"schema": 1}'):
        (tmp_path / REPORT).write_text(broken)
        process = run([*COMPARE, "show", tmp_path], cache)
        check_complaint(process, tmp_path, "report")
        assert not re.search(r"Error\(|Errno", process.stderr)
    facts = json.loads((finished / "out" / REPORT).read_text())
    for damage in ("runs", "thresholds", "recipe"):
        (tmp_path / REPORT).write_text(json.dumps({k: v for k, v in facts.items() if k != damage}))
        process = run([*COMPARE, "show", tmp_path, "--csv", tmp_path / "c.csv"], cache)
        check_complaint(process, f"a broken one (no '{damage}')", damage)
        assert not (tmp_path / "c.csv").exists()


def test_a_file_that_cannot_be_written_is_refused_before_training(cache, tmp_path):
    (tmp_path / "file").write_text("kept")
    words = [*COMPARE, PLAIN, *SMALL, "--out", tmp_path / "out"]
    for place in (tmp_path, tmp_path / "file" / "below", "/proc/report"):
        check_complaint(run([*words, "--junit", place], cache), "--junit", place)
    both = tmp_path / "both"
    check_complaint(run([*words, "--csv", both, "--markdown", both], cache), "--csv")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize("name", ["r" * 255, "報" * 85], ids=["letters", "characters"])
def test_files_may_have_names_as_long_as_the_system_takes(tmp_path, name):
    write_whole(tmp_path / name, "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "whole")]


def test_an_export_to_standard_output(finished, cache):
    words = [*COMPARE, "show", finished / "out", "--quiet", "--markdown", "/dev/stdout"]
    process = run(words, cache)
    assert process.stdout == (finished / "made" / "of" / "report.md").read_text()
    assert html.unescape(process.stdout).startswith("## ✅ framework-parity: agree")


def test_the_workflow_to_copy_uses_options_that_exist(cache):
    text = (ROOT / "docs" / "examples" / "workflow.yml").read_text()
    command = text.partition("compare.py")[2].partition("- uses")[0]
    known = set(re.findall(r"--[a-z-]+", run([*COMPARE, "--help"], cache).stdout))
    used = set(re.findall(r"--[a-z-]+", command))
    assert len(used) > 4
    assert used <= known


def test_the_workflow_of_the_project_runs_what_the_readme_says():
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (command,) = re.findall(r"run: (\S+)", text)
    assert os.access(ROOT / command, os.X_OK)


def test_the_example_of_accepted_differences_is_one():
    (entry,) = Accepted.load(ROOT / "docs" / "examples" / "accepted.toml").entries
    assert entry.implementation in IMPLEMENTATIONS
    assert entry.reason
