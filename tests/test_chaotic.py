"""Plans whose outcome rounding alone decides: a verdict of their own, compared as far as can be."""

import csv
import dataclasses
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from framework_parity.common.commands.judge_arrays import judge_arrays
from framework_parity.common.judging.baseline_difference import compare_with_golden
from framework_parity.common.judging.golden_record import golden_record
from framework_parity.common.judging.grades import can_be_compared, comparable_steps
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.replay import FORMS, Training, epoch_means
from framework_parity.common.report.junit import junit_xml
from framework_parity.common.report.markdown import markdown
from framework_parity.common.report.spreadsheet import csv_text
from framework_parity.common.report.terminal import print_report
from framework_parity.common.training.record import Record
from tests.comparisons import finished
from tests.helpers import COMPARE, PLAIN, run
from tests.replays import digits_judge, record_of

PLANS = {
    "small batches": {"lr": 6.0, "batch_size": 16, "max_epochs": 3},
    "smaller batches": {"lr": 4.0, "batch_size": 8, "max_epochs": 2},
    "an epoch that can be compared": {"lr": 5.0, "batch_size": 64, "max_epochs": 5},
    "large batches": {"lr": 6.0, "batch_size": 256, "max_epochs": 10},
    "one epoch": {"lr": 20.0, "batch_size": 64, "max_epochs": 1},
    "one example": {"lr": 2.0, "batch_size": 1, "max_epochs": 1},
}
DIGITS = {"lr": 6.0, "batch_size": 16, "max_epochs": 2}


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """The judge of each plan, made when it is first asked for."""
    made = {}

    def judge(name):
        if name not in made:
            made[name] = digits_judge(tmp_path_factory.mktemp("plan"), **PLANS[name])
        return made[name]

    return judge


class Jolted(Training):
    """Weights that are multiplied once, in a step of the training and in no single one."""

    def __init__(self, plan, data, at, factor):
        super().__init__(plan, data, plan.recipe.dtype)
        self.at, self.factor = at, self.lr.dtype.type(factor)

    def steps(self):
        for number, (step, W, b) in enumerate(super().steps()):
            if number == self.at:
                W *= self.factor
            yield step, W, b


def train(judge, kind=Training, *arguments, **options):
    with np.errstate(all="ignore"):
        return record_of(judge, kind(judge.plan, judge.data, *arguments, **options))


def judged(judge, *arguments, **options):
    with np.errstate(all="ignore"):
        return judge.judge(train(judge, *arguments, **options))


# What can be compared


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("block", [None, 5, 32])
@pytest.mark.parametrize("form", [FORMS[0], FORMS[2]])
def test_faultless_runs_are_chaotic_and_no_prediction_is_explained(judges, name, form, block):
    judge = judges(name)
    free = judge.free_running
    assert not free.informative
    assert 0 < free.steps < judge.plan.num_steps
    found = judged(judge, dtype="float32", form=form, block=block)
    assert found.grade == "chaotic"
    assert f"after {free.steps} of {judge.plan.num_steps} steps" in found.reason
    assert found.divergence is None
    assert found.unexplained_flips == 0
    assert all(flip["explained"] is None for flip in found.flips)
    assert 0 < found.free_envelopes <= 4


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("factor", [1.1, 1.001])
def test_a_fault_before_the_end_of_what_can_be_compared_is_graded(judges, name, factor):
    judge = judges(name)
    steps = judge.free_running.steps
    for at in {1, steps // 2}:
        found = judged(judge, Jolted, at, factor)
        assert found.grade == "disagree"
        assert found.lockstep_envelopes <= 4, "it shows in no single step"
        assert found.divergence.step < steps
        assert f"its own training, in the first {steps} steps, is off by" in found.reason


@pytest.mark.parametrize("name", PLANS)
def test_a_small_fault_is_drift(judges, name):
    judge = judges(name)
    found = judged(judge, Jolted, 1, 1 + 1e-5)
    assert (found.grade, found.divergence.stage) == ("drift", "update")


class MovedBias(Training):
    """A bias gets a little more in every update; it is zero before the first one."""

    def update(self, W, b, gradient_W, gradient_b):
        super().update(W, b, gradient_W, gradient_b)
        b[3] += b.dtype.type(1e-6)


def test_an_update_of_a_bias_of_zero_is_as_far_off_as_its_update(tmp_path):
    judge = digits_judge(tmp_path, lr=8.0, max_epochs=8)
    found = judged(judge, MovedBias, dtype="float32")
    assert not judge.free_running.informative
    assert (found.divergence.step, found.divergence.tensor) == (0, "b")
    assert found.divergence.ulps < 1e4
    assert found.grade == "drift", found.reason


@pytest.mark.parametrize("name", PLANS)
def test_a_fault_after_it_tells_nothing_but_a_wrong_step_does(judges, name):
    judge = judges(name)
    steps = judge.free_running.steps
    assert judged(judge, Jolted, steps, 1.1).grade == "chaotic"
    late = judge.plan.probes[-1]
    assert late >= steps
    record = train(judge, dtype="float32")
    record.arrays[f"probe/{late}/gradient/W"] *= np.float32(1.001)
    found = judge.judge(record)
    assert (found.grade, found.divergence.stage) == ("disagree", "gradient")
    assert found.divergence.step == late


@pytest.mark.parametrize("name", PLANS)
def test_accuracies_are_compared_as_far_as_can_be(judges, name):
    judge = judges(name)
    steps, length = judge.free_running.steps, judge.plan.steps_per_epoch

    def changed(step):
        """The same run with another accuracy of a step; its epoch's is the mean of its steps'."""
        record = train(judge, dtype="float32")
        accuracies = record.arrays["step_accuracy"]
        accuracies[step] = 1 - accuracies[step]
        means = epoch_means(accuracies, judge.plan)
        history = record.facts["history"] | {"train_accuracy": means.tolist()}
        with np.errstate(all="ignore"):
            return judge.judge(Record({**record.facts, "history": history}, record.arrays))

    early = int(np.flatnonzero(judge.oracle.step_accuracy[:steps] != 0.5)[0])
    found = changed(early)
    assert found.grade == "disagree"
    assert found.divergence.stage == "metric"
    assert found.divergence.step in (early, (early // length + 1) * length - 1)
    assert changed(judge.plan.num_steps - 1).grade == "chaotic"


@pytest.mark.parametrize("name", PLANS)
def test_only_what_is_unsound_decides_between_drift_and_disagree(judges, name):
    """A sound stage may be far off, relatively: a gradient that is rounding noise."""
    judge = judges(name)
    record = train(judge, dtype="float32")
    record.arrays["probe/0/loss"] *= np.float32(1 + 2e-5)
    found = judge.judge(record)
    assert (found.grade, found.divergence.stage) == ("drift", "loss")


@pytest.mark.parametrize("name", ["small batches", "large batches", "one epoch"])
def test_float64_puts_it_off(judges, name, tmp_path):
    other = digits_judge(tmp_path, **PLANS[name], dtype="float64")
    assert other.free_running.steps > judges(name).free_running.steps
    assert judged(other, dtype="float64", block=5).grade in ("rounding", "chaotic")


@pytest.mark.parametrize("name", PLANS)
def test_to_allow_more_drift_compares_more_and_to_allow_less_no_fewer(judges, name):
    judge = judges(name)
    steps = [
        dataclasses.replace(judge, thresholds=Thresholds(drift_loss=allowed)).free_running.steps
        for allowed in (0.0, 1e-7, 1e-4, 1e-2, 1e9)
    ]
    assert steps == sorted(steps)
    assert steps[0] == judge.free_running.steps
    assert steps[-1] == judge.plan.num_steps


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.data(),
)
def test_the_steps_that_can_be_compared(max_epochs, length, data):
    moved = st.floats(0, 1) | st.just(0.0)
    epochs = data.draw(st.lists(moved, min_size=max_epochs, max_size=max_epochs))
    steps = data.draw(st.lists(moved, min_size=max_epochs * length, max_size=max_epochs * length))
    parameters = data.draw(st.dictionaries(st.integers(1, max_epochs * length), moved))
    limits = Thresholds()
    found = comparable_steps(epochs, steps, parameters, limits)
    sound = can_be_compared(epochs, limits)
    if sound.all():
        assert found == max_epochs * length
        return
    whole = int(np.argmin(sound)) * length
    assert whole <= found < whole + length
    assert can_be_compared(steps[whole:found], limits).all()
    assert all(can_be_compared(v, limits) for n, v in parameters.items() if whole < n <= found)


# Against a golden record


@pytest.mark.parametrize("name", ["small batches", "large batches"])
def test_what_moved_since_the_baseline_is_compared_as_far_as_it_can_be(judges, name):
    judge = judges(name)
    facts = {"python": "3"}

    def row(record):
        history = record.facts["history"]
        record.facts.update(versions=facts, fed_sha256="0" * 64)
        return history | {
            "backend": PLAIN, "implementation": "concise", "version": "1", "asked_version": None,
            "grade": "chaotic", "divergence": None, "cause": None, "envelopes": 1.0,
            "versions": facts, "fed_sha256": "0" * 64,
        }  # fmt: skip

    before = train(judge, dtype="float32")
    kept = golden_record(judge, before, row(before), {})
    for training, grade in (
        ((Training, "float32"), "exact"),
        ((Training, "float32", None, None, FORMS[2], 5), "chaotic"),
        ((Jolted, 2, 1.1), "disagree"),
        ((Jolted, judge.free_running.steps, 1.1), "chaotic"),
    ):
        record = train(judge, *training)
        found = compare_with_golden(judge, kept, record, row(record), {})
        assert found.grade == grade, training


# What a report says


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A finished comparison of a chaotic plan: two faultless runs."""
    from framework_parity.common.data.datasets import Digits

    runs = {(PLAIN, "scratch"): 1.0, (PLAIN, "concise"): 1.0}
    with np.errstate(all="ignore"):
        return finished(tmp_path_factory.mktemp("report"), runs, Digits(), **DIGITS)


def printed(report):
    text = io.StringIO()
    print_report(report, Console(file=text, width=400))
    return text.getvalue()


FORMS_OF_A_REPORT = {
    "terminal": printed,
    "page": lambda report: (report.folder / "report.html").read_text(),
    "notebook": lambda report: report._repr_html_(),
    "markdown": markdown,
    "junit": junit_xml,
}


@pytest.mark.parametrize("form", FORMS_OF_A_REPORT)
def test_every_form_says_how_far_it_was_compared_and_what_to_change(report, form):
    text = FORMS_OF_A_REPORT[form](report).replace("\\", "").replace("&#39;", "'")
    free = report.facts["free_running"]
    assert f"in the first {free['steps']} steps of the training" in text
    assert "Outcomes cannot be, since rounding alone drives equal trainings apart" in text
    assert f"From step {free['steps']} of 180 on it moves a loss" in text
    assert "lower --lr (6 here)" in text
    assert "--dtype float64 puts it off" in text
    assert "to change" not in text.partition("<script")[0].replace(
        "is large enough to change the prediction", ""
    ).replace("what to change", "")


def test_the_verdict_names_the_outcomes_it_does_not_compare(report):
    assert report.verdict == "chaotic"
    assert report.sentence.startswith("chaotic: 2 runs within 4 × rounding")
    ends = [*(r["val_loss"][-1] for r in report.runs), report.facts["reference"]["val_loss"][-1]]
    assert f"validation losses end at {min(ends):.6f} to {max(ends):.6f}" in report.sentence


def test_an_epoch_that_can_be_compared_is_named(tmp_path):
    from framework_parity.common.data.datasets import Digits

    plan = PLANS["an epoch that can be compared"]
    with np.errstate(all="ignore"):
        found = finished(tmp_path, {(PLAIN, "concise"): 1.0}, Digits(), **plan)
    assert found.facts["free_running"]["steps"] == 23
    assert "train --max-epochs 1, which can be compared" in printed(found)


def test_it_passes_unless_one_fails_on_it(report):
    assert [report.exit_status(word) for word in ("chaotic", "drift", "disagree")] == [1, 0, 0]
    cases = junit_xml(report, "chaotic").count("<failure"), junit_xml(report).count("<failure")
    assert cases == (2, 0)


def test_csv_and_json_have_the_word(report):
    assert [row["grade"] for row in csv.DictReader(io.StringIO(csv_text(report)))] == [
        "chaotic"
    ] * 2
    facts = json.loads((report.folder / "report.json").read_text())
    assert facts["verdict"] == facts["runs"][0]["grade"] == "chaotic"
    assert set(facts["free_running"]) >= {"informative", "steps", "val_loss"}


def test_a_drift_of_a_chaotic_plan_claims_no_outcome(tmp_path):
    from framework_parity.common.data.datasets import Digits

    runs = {(PLAIN, "scratch"): 1.0, (PLAIN, "concise"): 1 + 1e-5}
    with np.errstate(all="ignore"):
        found = finished(tmp_path, runs, Digits(), **DIGITS)
    assert [run["grade"] for run in found.runs] == ["chaotic", "drift"]
    assert "same outcome" not in found.sentence
    assert "outcomes cannot be" in found.sentence


def test_the_command_line_and_show(tmp_path):
    words = ["--data", "digits", "--implementation", "concise", "--quiet"]
    words += [w for name, v in DIGITS.items() for w in (f"--{name.replace('_', '-')}", str(v))]
    out = tmp_path / "out"
    for more, status in (
        (["--out", out], 0),
        (["--out", out, "--overwrite", "--fail-on", "chaotic"], 1),
    ):
        process = run([*COMPARE, PLAIN, *words, *more], tmp_path)
        assert process.returncode == status, process.stderr
        assert "\nchaotic: 1 run within 4 × rounding" in process.stdout
    for more, status in (([], 0), (["--fail-on", "chaotic"], 1)):
        process = run([*COMPARE, "show", out, *more], tmp_path)
        assert process.returncode == status
        assert "\nchaotic: 1 run within 4 × rounding" in process.stdout


def test_a_training_of_other_code(judges):
    judge = judges("small batches")
    found = judge_arrays(judge, train(judge, dtype="float32").arrays)
    assert found.grade == "chaotic"
    assert any("its outcome cannot be compared" in line for line in found.lines())
