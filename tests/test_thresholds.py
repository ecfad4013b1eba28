"""Where the grades part: what a user sets, what every report states, and what a dead model is."""

import io
import json
import math

import pytest
from rich.console import Console

from framework_parity.common.core.errors import ParityError
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.flips import LISTED, flip_lines
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report
from tests.helpers import COMPARE, PLAIN, REPORT, SMALL, check_complaint, run


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    """A comparison with thresholds of the user's own."""
    out = tmp_path_factory.mktemp("finished") / "out"
    own = ("--threshold", "3.5", "--drift-loss", "0.02", "--drift-predictions", "0.25")
    return run([*COMPARE, PLAIN, *SMALL, *own, "--quiet", "--out", out], cache), out


def test_every_report_states_the_users_thresholds(finished):
    process, out = finished
    assert process.returncode == 0, process.stderr
    stated = {"envelopes": 3.5, "drift_loss": 0.02, "drift_predictions": 0.25}
    assert json.loads((out / REPORT).read_text())["thresholds"] == stated
    assert Thresholds(**stated).sentence() in process.stdout
    for part in ("within 3.5 ×", "loss within 0.02 (relative)", "at most 0.25 of the predictions"):
        assert part in process.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--threshold", "0.5"),
        ("--threshold", "nan"),
        ("--threshold", "inf"),
        ("--drift-loss", "-1"),
        ("--drift-predictions", "1.5"),
    ],
)
def test_other_thresholds_are_refused(option, value):
    names = {"--threshold": "envelopes"}
    name = names.get(option, option.strip("-").replace("-", "_"))
    with pytest.raises(ParityError, match=rf"^{option}: expected .* received .*; give .*{option}"):
        Thresholds(**{name: float(value)})


def test_a_wrong_threshold_is_a_line_on_the_command_line(cache, tmp_path):
    out = tmp_path / "out"
    words = [*COMPARE, PLAIN, *SMALL, "--drift-loss", "nan", "--out", out]
    check_complaint(run(words, cache), "--drift-loss", "received nan")
    assert not out.exists()


def test_the_thresholds_decide(cache, tmp_path):
    """A run beyond one envelope, within four: another grade by another threshold alone."""
    grades = {}
    for threshold in ("1", "1000"):
        out = tmp_path / threshold
        words = [*COMPARE, PLAIN, "--data", "digits", "--max-epochs", "3", "--quiet"]
        words += ["--seed", "5"]
        process = run([*words, "--threshold", threshold, "--out", out], cache)
        report = Report.load(out)
        assert process.returncode == report.exit_status(), process.stderr
        for row in report.runs:
            expected = "rounding" if row["envelopes"] <= float(threshold) else "drift"
            assert row["grade"] == expected, row
            grades.setdefault(row["implementation"], set()).add(row["grade"])
    assert {"rounding", "drift"} in grades.values()


# Liveness


def test_a_run_need_not_learn_where_the_reference_does_not(cache, tmp_path):
    """One epoch at a learning rate so high that its mean loss ends above the first step's."""
    out = tmp_path / "out"
    words = [*COMPARE, PLAIN, *SMALL[:2], "--max-epochs", "1", "--batch-size", "64", "--lr", "100"]
    process = run([*words, "--implementation", "concise", "--quiet", "--out", out], cache)
    facts = Report.load(out).facts
    (row,) = facts["runs"]
    # The initial weights are nearly zero, so that the first loss is that of guessing.
    assert facts["reference"]["train_loss"][0] > 2 * math.log(facts["data"]["num_outputs"])
    assert (row["grade"], row["reason"]) == ("rounding", None)
    assert process.returncode == 0, process.stdout


# Changed predictions


def flip(example, margin, bound):
    facts = {"example": example, "label": 1, "reference": 2, "run": 3}
    return facts | {"margin": margin, "bound": bound, "explained": margin <= bound}


def a_run(grade, flips, more=0):
    unexplained = sum(not each["explained"] for each in flips)
    counts = {"prediction_flips": len(flips) + more, "unexplained_flips": unexplained}
    return {"grade": grade, "flips": flips} | counts


def test_no_changed_prediction_no_line():
    assert list(flip_lines(a_run("disagree", []))) == []


def test_a_run_within_rounding_has_its_changes_counted_only():
    flips = [flip(7, 1e-8, 1e-7)]
    assert list(flip_lines(a_run("rounding", flips))) == [
        "1 prediction differs from the reference's; the error of the run's logits is large enough "
        "to change it"
    ]


def test_the_unexplained_come_first_and_the_rest_is_counted():
    explained = [flip(i, i * 1e-8, 1e-3) for i in range(20)]
    odd = [flip(100, 0.5, 1e-6), flip(101, 0.7, 1e-6)]
    first, *listed, last = flip_lines(a_run("disagree", [*explained, *odd], more=3))
    assert first.startswith("25 predictions differ from the reference's; the error of")
    assert first.endswith("is large enough to change 23 of them, too small for 2")
    assert len(listed) == LISTED
    assert [int(line.split()[1]) for line in listed] == [101, 100, 19, 18, 17]
    assert "reference 2, run 3; the reference's logits are 0.7 apart" in listed[0]
    assert listed[0].endswith("the run's are off by up to 1e-06: too small to change it")
    assert "the reference's logits are 1.9e-07 apart" in listed[2]
    assert listed[2].endswith("the run's are off by up to 0.001: large enough to change it")
    assert last == "  and 20 more"


def test_more_unexplained_than_are_listed():
    *_, last = flip_lines(a_run("drift", [flip(i, 1.0 + i, 0.1) for i in range(9)]))
    assert last == "  and 4 more; the error is too small to change 4 of them"


def test_they_are_printed_with_the_name_of_their_run(finished):
    report = Report.load(finished[1])
    row = report.facts["runs"][1]
    odd = a_run("disagree", [flip(100, 0.5, 1e-6)])
    row |= odd
    text = io.StringIO()
    print_report(report, Console(file=text))
    assert f"{PLAIN} concise:   example 100 (label 1): reference 2, run 3" in text.getvalue()
