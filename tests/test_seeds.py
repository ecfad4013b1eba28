"""Over repetitions and seeds: what repeats itself, and what counts as equivalent."""

import json
from io import StringIO
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from framework_parity.common.commands.options import SeedsOptions
from framework_parity.common.commands.seeds import independent_seeds
from framework_parity.common.core.errors import ParityError
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import REFERENCE, Execution
from framework_parity.common.judging.equivalence import equivalence
from framework_parity.common.judging.grades import (
    FAIL_ON,
    VERDICTS,
    failing,
    over_seeds,
    worst_verdict,
)
from framework_parity.common.report.advice import next_steps
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.junit import junit_xml
from framework_parity.common.report.markdown import markdown
from framework_parity.common.report.report import Report
from framework_parity.common.report.terminal import print_report
from framework_parity.compare import compare, compare_seeds
from tests.comparisons import finished
from tests.helpers import COMPARE, PLAIN, make_plan, run

SMALL = {"data": "synthetic:300x8x3", "max_epochs": 2, "batch_size": 32}


def test_no_significant_difference_is_not_agreement():
    ours, theirs = [0.80, 0.84, 0.82], [0.81, 0.79, 0.86]
    found = equivalence("val_accuracy", ours, theirs, margin=0.005, level=0.05, paired=False)
    assert found.low < 0 < found.high  # no null test would reject
    assert not found.equivalent


def test_equal_outcomes_are_equivalent():
    same = [0.8, 0.81, 0.82]
    found = equivalence("val_accuracy", same, same, margin=0.005, level=0.05, paired=True)
    assert found.equivalent
    assert found.difference == 0


def test_a_difference_beyond_the_margin_is_not_equivalent():
    ours, theirs = [0.80, 0.801, 0.802], [0.83, 0.831, 0.8325]
    assert not equivalence("val_accuracy", ours, theirs, 0.005, 0.05, paired=True).equivalent
    assert not equivalence("val_accuracy", ours, theirs, 0.005, 0.05, paired=False).equivalent


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=8),
    st.floats(0.001, 1),
    st.booleans(),
)
def test_equivalence_is_that_the_interval_lies_within_the_margin(values, margin, paired):
    theirs = [0.5 + 0.001 * i for i in range(len(values))]
    found = equivalence("val_loss", values, theirs, margin, 0.05, paired)
    inside = -margin < found.low and found.high < margin
    if min(abs(abs(found.low) - margin), abs(abs(found.high) - margin)) > 1e-9:
        assert found.equivalent == inside


@pytest.mark.parametrize(
    ("seeds", "margin", "level"), [(1, 0.1, 0.05), (3, 0.0, 0.05), (3, -1.0, 0.05), (3, 0.1, 0.5)]
)
def test_unusable_settings_are_refused(seeds, margin, level):
    with pytest.raises(ParityError, match="--count, --margin-loss, --margin-accuracy or --level"):
        equivalence("val_loss", [0.5] * seeds, [0.5] * seeds, margin, level, paired=True)


@pytest.mark.parametrize(
    ("verdicts", "base", "expected"),
    [
        (["agree", "agree"], "agree", "agree"),
        (["agree", "drift"], "agree", "drift"),
        (["drift", "disagree"], "drift", "disagree"),
        (["agree", "incomplete"], "agree", "incomplete"),
    ],
)
def test_the_worst_seed_decides(verdicts, base, expected):
    assert worst_verdict([base, *over_seeds({"verdicts": verdicts})]) == expected


def test_the_plain_backend_repeats_itself(tmp_path):
    report = compare([PLAIN], **SMALL, repeat=3, out=tmp_path / "out")
    for row in report.runs:
        assert row["repeats"]["identical"]
        assert row["repeats"]["trained"] == 3
        assert row["repeats"]["parameter_envelopes"] == 0


def test_seeds_that_are_shared_are_compared_in_pairs(tmp_path):
    report = compare_seeds([PLAIN], **SMALL, count=3, out=tmp_path / "out")
    seeds = report.facts["seeds"]
    assert seeds["mode"] == "shared"
    assert seeds["verdicts"] == ["agree"] * 3
    for metrics in seeds["runs"].values():
        assert all(found["equivalent"] and found["paired"] for found in metrics.values())
        assert all(len(set(found["values"])) > 1 for found in metrics.values())


def test_independent_seeds_draw_everything_themselves(tmp_path):
    options = SMALL | {"independent": True, "margin_loss": 1.0, "margin_accuracy": 1.0}
    report = compare_seeds([PLAIN], **options, count=3, out=tmp_path / "out")
    seeds = report.facts["seeds"]
    assert seeds["mode"] == "independent"
    assert seeds["failed"] == {}
    for metrics in seeds["runs"].values():
        values = metrics["val_loss"]["values"]
        assert len(set(values)) == 3
        assert not metrics["val_loss"]["paired"]
        assert not np.allclose(values, seeds["reference"]["val_loss"])
    assert report.verdict == "agree"


def test_a_reference_that_fails_is_no_distribution(tmp_path, monkeypatch):
    plan, data = make_plan(tmp_path)
    failed = {REFERENCE: Outcome("failed", "killed by SIGKILL", 1.0)}
    monkeypatch.setattr(Execution, "train_independently", lambda *_: {})
    monkeypatch.setattr(Execution, "train_reference", lambda _: failed)
    execution = Execution(plan, tmp_path, 1, 1, 60.0)
    with pytest.raises(ParityError, match=r"reference: expected .*failed: killed by SIGKILL"):
        independent_seeds(SeedsOptions(count=3), execution, data, [], {})


def test_independence_needs_seeds(tmp_path):
    with pytest.raises(ParityError, match="--count: expected 2 seeds or more; received 1"):
        compare_seeds([PLAIN], **SMALL, count=1, independent=True, out=tmp_path / "out")


def test_runs_of_further_seeds_are_named(tmp_path):
    """The verdict over seeds says of which seed it is, and so does what is to be done."""
    report = finished(tmp_path, {("a", "scratch"): 1.0, ("a", "concise"): 1.0})
    facts = report.facts
    facts["seeds"] = {
        "mode": "shared",
        "seeds": [0, 1, 2],
        "verdicts": ["agree", "drift", "incomplete"],
        "grades": {"a-scratch": ["rounding", "drift", None], "a-concise": ["rounding"] * 3},
        "runs": {},
    }
    for verdict, said in (
        ("drift", "drift: a scratch (seed 1) outside rounding"),
        ("incomplete", "incomplete: a scratch (seed 2) did not run"),
    ):
        facts["verdict"] = verdict
        assert said in report.sentence
        steps = list(next_steps(facts))
        assert not any("Nothing is to be mended" in step for step in steps)
        assert "Look at a scratch on seed 1: the same command with --seed 1." in steps
    out = StringIO()
    print_report(report, Console(file=out, width=200))
    assert "verdict by seed: 0 agree, 1 drift, 2 incomplete" in out.getvalue()


# What is not shown


NARROW = ("--count", "3", "--independent", "--margin-loss", "1e-9", "--margin-accuracy", "1")
WIDE = ("--count", "3", "--independent", "--margin-loss", "9", "--margin-accuracy", "9")


@pytest.fixture(scope="module")
def over_three(tmp_path_factory):
    """Independent seeds: equivalence shown in no loss and in all accuracies; and in all."""
    folder = tmp_path_factory.mktemp("over_three")
    words = [*COMPARE, "seeds", PLAIN, "--data", SMALL["data"], "--max-epochs", "2", "--quiet"]
    return {
        name: run([*words, *margins, "--out", folder / name], folder)
        for name, margins in (("not", NARROW), ("shown", WIDE))
    } | {"folder": folder}


def test_what_is_not_shown_is_no_agreement_on_any_way_out(over_three, tmp_path):
    folder, process = over_three["folder"], over_three["not"]
    said = "Over 3 seeds equivalence is shown for 2 of 4 final losses and accuracies; not shown"
    assert process.returncode == 1, process.stderr
    report = Report.load(folder / "not")
    assert report.verdict == json.loads((folder / "not" / FILE).read_text())["verdict"]
    assert report.verdict == report.deciding_verdict == "not shown"
    assert [report.exit_status(word) for word in FAIL_ON] == [1] * 3
    assert report.sentence.startswith("not shown: 2 runs (2 rounding)")
    assert said in report.sentence
    assert f"{PLAIN}-scratch val_loss (p = " in report.sentence
    assert "val_accuracy (p" not in report.sentence
    ways = {"terminal": process.stdout, "page": (folder / "not" / "report.html").read_text()}
    for name in ("markdown", "junit"):
        file = tmp_path / name
        shown = run([*COMPARE, "show", folder / "not", f"--{name}", file], folder)
        assert shown.returncode == 1
        assert said in shown.stdout
        ways[name] = file.read_text()
    ways["notebook"] = report._repr_html_()
    for name, text in ways.items():
        assert said in text, name
        assert "equivalence not shown" in text or name == "notebook"
    suite = ElementTree.fromstring(ways["junit"])[0]  # noqa: S314
    failed = {
        case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None
    }
    assert failed == {f"{PLAIN}-{name} val_loss" for name in ("scratch", "concise")}
    assert "Train on more seeds (--count)" in " ".join(next_steps(report.facts))
    assert "Nothing is to be mended" not in " ".join(next_steps(report.facts))


def test_what_is_shown_is_counted_and_agrees(over_three):
    process = over_three["shown"]
    assert process.returncode == 0, process.stderr
    assert (
        "Over 3 seeds equivalence is shown for 4 of 4 final losses and accuracies."
        in process.stdout
    )
    assert "\nagree: " in process.stdout


@pytest.mark.parametrize("base", VERDICTS)
@pytest.mark.parametrize("shared", [(), ("agree", "drift"), ("chaotic",), ("disagree",)])
@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("failed", [{}, {"a-scratch": "seed 1: killed"}])
def test_over_seeds_nothing_makes_a_verdict_better(base, shared, shown, failed):
    """What is not shown is worse than drift, what did not run is worst of all."""
    tests = {"a-concise": {"val_loss": {"equivalent": True}, "val_accuracy": {"equivalent": shown}}}
    seeds = {"verdicts": list(shared), "runs": tests, "failed": failed}
    expected = max(
        [base, *shared, *["not shown"] * (not shown), *["incomplete"] * bool(failed)],
        key=VERDICTS.index,
    )
    assert worst_verdict([base, *over_seeds(seeds)]) == expected
    if not shown:
        assert expected in failing("disagree") or expected == "incomplete"


def test_a_training_that_failed_over_seeds_is_not_passed_over(tmp_path):
    report = finished(tmp_path, {("a", "scratch"): 1.0})
    report.facts["seeds"] = {
        "mode": "independent",
        "seeds": [0, 1],
        "runs": {},
        "failed": {"a-scratch": "seed 1: killed"},
    }
    report.facts["verdict"] = worst_verdict(["agree", *over_seeds(report.facts["seeds"])])
    assert report.exit_status() == 3
    assert report.sentence.startswith("incomplete: a-scratch over seeds did not run")
    assert "seed 1: killed" in markdown(report)
    assert "<error" in junit_xml(report)
