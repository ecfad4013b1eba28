"""Over repetitions and seeds: what repeats itself, and what counts as equivalent."""

from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from common.equivalence import equivalence
from common.errors import ParityError
from common.execution import REFERENCE, Execution
from common.launcher import Outcome
from common.report import print_report
from common.report.advice import next_steps
from common.seeds import Margins, independent_seeds, worst_verdict
from compare import compare
from tests.comparisons import finished
from tests.helpers import PLAIN, make_plan

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
    with pytest.raises(ParityError, match="--seeds, --margin or --level"):
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
    assert worst_verdict({"verdicts": verdicts}, base) == expected


def test_the_plain_backend_repeats_itself(tmp_path):
    report = compare([PLAIN], **SMALL, repeat=3, out=tmp_path / "out")
    for run in report.runs:
        assert run["repeats"]["identical"]
        assert run["repeats"]["trained"] == 3
        assert run["repeats"]["parameter_envelopes"] == 0


def test_seeds_that_are_shared_are_compared_in_pairs(tmp_path):
    report = compare([PLAIN], **SMALL, seeds=3, out=tmp_path / "out")
    seeds = report.facts["seeds"]
    assert seeds["mode"] == "shared"
    assert seeds["verdicts"] == ["agree"] * 3
    for metrics in seeds["runs"].values():
        assert all(found["equivalent"] and found["paired"] for found in metrics.values())
        assert all(len(set(found["values"])) > 1 for found in metrics.values())


def test_independent_seeds_draw_everything_themselves(tmp_path):
    margins = Margins(val_loss=1.0, val_accuracy=1.0)
    report = compare(
        [PLAIN], **SMALL, seeds=3, independent=True, margins=margins, out=tmp_path / "out"
    )
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
        independent_seeds(execution, data, [], range(3), Margins())


def test_independence_needs_seeds(tmp_path):
    with pytest.raises(ParityError, match="--independent"):
        compare([PLAIN], **SMALL, independent=True, out=tmp_path / "out")


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
