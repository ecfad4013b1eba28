"""The judge on records whose fault is known: rounding is rounding, and nothing else is."""

import dataclasses
import io
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework_parity.common.commands.run_facts import repeat_facts
from framework_parity.common.core.errors import ParityError
from framework_parity.common.execution.launcher import ENDED, Outcome, not_done
from framework_parity.common.execution.processes import repeat_name
from framework_parity.common.judging.grades import (
    GRADES,
    LIFELESS,
    Liveness,
    failing,
    lifeless,
    unlearned,
    verdict,
)
from framework_parity.common.judging.ladder import Finding, in_ulps
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS, member
from framework_parity.common.reference.replay import FORMS, Training, epoch_means
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.worker.train import train
from framework_parity.common.worker.worker import Worker
from tests.helpers import PLAIN, make_plan

HISTORY = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A plan, its judge, and the record that the plain backend leaves of it."""
    folder = tmp_path_factory.mktemp("case")
    plan, data = make_plan(folder)
    judge = SoftmaxJudge.measure(plan, data)
    judge.oracle.record().save(folder / "reference")
    worker = Worker(io.StringIO())
    train(worker, folder / "plan", PLAIN, "concise", folder / "reference").save(folder / "record")
    return SimpleNamespace(
        plan=plan,
        data=data,
        judge=judge,
        record=Record.load(folder / "record", plan.sha256),
    )


def changed(record, history=(), **arrays):
    """A copy of a record with other arrays, or another history."""
    facts = dict(record.facts)
    facts["history"] = facts["history"] | dict(history)
    merged = {**record.arrays, **{name.replace("__", "/"): a for name, a in arrays.items()}}
    return Record(facts, {name: array for name, array in merged.items() if array is not None})


def as_if(case, training):
    """The record of a worker that trained so; its lock-step stays the plain backend's."""
    trajectory = training.run()
    history = {
        "train_loss": epoch_means(trajectory.step_loss, case.plan).tolist(),
        "train_accuracy": epoch_means(trajectory.step_accuracy, case.plan).tolist(),
        "val_loss": trajectory.val_loss.tolist(),
        "val_accuracy": trajectory.val_accuracy.tolist(),
    }
    return changed(
        case.record,
        history,
        step_loss=trajectory.step_loss,
        step_accuracy=trajectory.step_accuracy,
        parameters__W=trajectory.parameters["W"],
        parameters__b=trajectory.parameters["b"],
        val_y_hat=trajectory.val_logits,
    )


def with_lr(case, factor):
    recipe = dataclasses.replace(case.plan.recipe, lr=case.plan.recipe.lr * factor)
    plan = dataclasses.replace(case.plan, recipe=recipe)
    return as_if(case, Training(plan, case.data, dtype="float32"))


# What is rounding


def test_a_faultless_worker_is_rounding(case):
    found = case.judge.judge(case.record)
    assert (found.grade, found.reason, found.divergence) == ("rounding", None, None)
    assert found.flips == []
    assert found.lockstep_envelopes <= 4


@pytest.mark.parametrize("index", range(ENSEMBLE_MEMBERS, ENSEMBLE_MEMBERS + 12))
def test_orders_of_summation_that_the_ensemble_has_not_are_rounding(case, index):
    found = case.judge.judge(as_if(case, member(case.plan, case.data, index)))
    assert (found.grade, found.reason, found.divergence) == ("rounding", None, None)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_loss_is_rounding(case, form):
    training = Training(case.plan, case.data, dtype="float32", form=form)
    assert case.judge.judge(as_if(case, training)).grade == "rounding"


def test_the_reference_itself_has_no_error(case):
    found = case.judge.judge(as_if(case, Training(case.plan, case.data)))
    assert found.grade == "rounding"
    assert found.loss_error == found.parameter_error == 0
    assert found.logits_error < 1e-14


# What is not


@pytest.mark.parametrize("factor", [1.001, 0.999, 1.0001])
def test_a_learning_rate_that_is_off_is_found(case, factor):
    found = case.judge.judge(with_lr(case, factor))
    assert found.grade in ("drift", "disagree")
    assert found.divergence.stage == "update"
    assert "rounding" in found.reason
    assert found.parameter_envelopes > 4


def test_a_little_is_drift_and_much_disagrees(case):
    little, much = (case.judge.judge(with_lr(case, factor)) for factor in (1.0001, 1.2))
    assert little.grade == "drift"
    assert "the outcome is the same" in little.reason
    assert much.grade == "disagree"
    assert "loss is off by" in much.reason
    assert much.parameter_envelopes > little.parameter_envelopes


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("val_loss", lambda value: 1.01 * value),
        ("val_loss", lambda value: value + 1e-3),
        ("val_accuracy", lambda value: value - 1 / 30),  # two of sixty examples
        ("train_loss", lambda value: 0.99 * value),
        ("train_accuracy", lambda value: value - 1 / 300),
    ],
)
def test_a_wrong_metric_is_found(case, name, change):
    history = {name: [change(value) for value in case.record.facts["history"][name]]}
    found = case.judge.judge(changed(case.record, history))
    assert found.grade == "disagree"
    assert found.divergence.stage == "metric"
    assert found.divergence.tensor == name
    assert name in found.reason


def test_other_initial_parameters_are_found(case):
    W = case.plan.W.copy()
    W[0, 0] = np.nextafter(W[0, 0], np.float32(1))
    found = case.judge.judge(changed(case.record, initial__W=W))
    assert found.grade != "rounding"
    assert found.divergence.stage == "data"


@pytest.mark.parametrize("made", [1, 14, 16])
def test_another_number_of_steps_is_found(case, made):
    assert case.plan.num_steps == 15
    kept = sum(step <= made for step in case.plan.snapshots)
    arrays = {
        name: np.resize(case.record.arrays[name], made) for name in ("step_loss", "step_accuracy")
    }
    for name in ("snapshots", "parameters/W", "parameters/b"):
        arrays[name.replace("/", "__")] = case.record.arrays[name][:kept]
    found = case.judge.judge(changed(case.record, **arrays))
    assert found.grade == "disagree"
    assert found.divergence.tensor == "number of steps"


@pytest.mark.parametrize("drift_loss", [1e-7, 0.0])
def test_to_allow_less_drift_makes_no_grade_milder(case, drift_loss):
    """Not even if it is less than rounding alone moves the loss by."""
    strict = dataclasses.replace(case.judge, thresholds=Thresholds(drift_loss=drift_loss))
    assert strict.free_running.loss > drift_loss
    assert strict.free_running.informative
    assert strict.judge(with_lr(case, 1.001)).grade == "disagree"
    assert strict.judge(case.record).grade == "rounding"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_units_in_the_last_place_are_those_of_the_dtype(dtype):
    plan, _ = make_plan(dtype=dtype)
    eps = float(np.finfo(dtype).eps)
    assert in_ulps(plan, 3 * eps, 1.5) == 3
    found = Finding(0, "forward", "logits", "largest", 3 * eps, 3.0, 1.0)
    assert found.relative(plan) == pytest.approx(3 * eps)
    assert dataclasses.replace(found, statistic="gain").relative(plan) == 3 * eps


@pytest.mark.parametrize("made", [None, 14])
def test_repetitions_may_differ_in_what_they_recorded(case, tmp_path, made):
    """One that made fewer steps is another one; one without an array is none at all."""
    arrays = {"val_y_hat": None}
    if made:
        kept = sum(step <= made for step in case.plan.snapshots)
        arrays = {name: case.record.arrays[name][:made] for name in ("step_loss", "step_accuracy")}
        for name in ("snapshots", "parameters/W", "parameters/b"):
            arrays[name.replace("/", "__")] = case.record.arrays[name][:kept]
    execution = SimpleNamespace(record_folder=lambda name: tmp_path / name)
    contender = SimpleNamespace(
        name="a",
        environment=SimpleNamespace(python="python"),
        read=lambda folder, plan_sha256, _: Record.load(folder, plan_sha256),
    )
    case.record.save(tmp_path / "a")
    changed(case.record, **arrays).save(tmp_path / repeat_name(contender, 1))
    outcomes = dict.fromkeys(("a", repeat_name(contender, 1)), Outcome("done", None, 1.0))
    facts = repeat_facts(case.judge, execution, contender, outcomes, 2)["repeats"]
    assert facts["trained"] == (2 if made else 1)
    if made:
        assert facts["identical"] is False
        assert facts["parameter_error"] == 0


# Predictions


def test_flips_are_explained_by_the_logits_or_counted(case):
    judge, exact = case.judge, case.judge.oracle.val_logits
    order = np.sort(exact, axis=1)
    i = int((order[:, -1] - order[:, -2]).argmin())
    first, second = exact[i].argsort()[::-1][:2]
    margin = exact[i, first] - exact[i, second]
    y_hat = exact.copy()
    y_hat[i, second] += 1.5 * margin
    record = changed(case.record, val_y_hat=y_hat)
    # Its parameters give such logits: the flip is what they ask for.
    (explained,) = judge.flips(record, y_hat)
    # They do not: the flip was made on the way from the parameters to the prediction.
    (unexplained,) = judge.flips(record, exact)
    for flip, holds in ((explained, True), (unexplained, False)):
        assert flip["explained"] is holds
        assert (flip["example"], flip["reference"], flip["run"]) == (i, first, second)
        assert flip["margin"] == pytest.approx(margin)
        assert flip["label"] == case.data.y_val[i]
    assert margin <= explained["bound"] < 2 * margin
    assert unexplained["bound"] < margin


def test_an_unexplained_flip_disagrees(case):
    y_hat = case.record.arrays["val_y_hat"].copy()
    y_hat[7] = np.roll(y_hat[7], 1)
    found = case.judge.judge(changed(case.record, val_y_hat=y_hat))
    assert len(found.flips) == found.unexplained_flips == 1
    assert found.grade == "disagree"
    assert "1 of its predictions" in found.reason


# Dead models


@pytest.mark.parametrize(
    ("arrays", "history", "part"),
    [
        (("parameters/W", lambda values, plan: values * 0 + plan.W), {}, "never moved"),
        (("step_loss", lambda values, plan: values * 0), {}, "did not fall"),
        (None, {"train_loss": [1.0, 1.1, 1.2]}, "did not fall"),
        (None, {"val_accuracy": [0.6, 0.5, 1 / 3]}, "not above chance"),
    ],
    ids=["still", "flat", "rising", "chance"],
)
def test_dead_models_do_not_agree(case, arrays, history, part):
    changes = {}
    if arrays:
        name, change = arrays
        changes[name.replace("/", "__")] = change(case.record.arrays[name], case.plan)
    found = case.judge.judge(changed(case.record, history, **changes))
    assert found.grade == "disagree"
    assert "it learned nothing, though the reference did" in found.reason
    assert part in found.reason


# What cannot be judged


@pytest.mark.parametrize(
    "name",
    [
        "step_loss",
        "step_accuracy",
        "snapshots",
        "parameters/W",
        "parameters/b",
        "initial/W",
        "val_y_hat",
    ],
)
def test_a_missing_or_misshapen_array_is_an_error(case, name):
    key, array = name.replace("/", "__"), case.record.arrays[name]
    for value in (None, array[..., np.newaxis], array[:0], array.ravel()[:1].reshape(())):
        with pytest.raises(RecordError):
            case.judge.judge(changed(case.record, **{key: value}))


@pytest.mark.parametrize("name", HISTORY)
@pytest.mark.parametrize("values", [[], [0.5], [0.5] * 4, [0.5, 0.5, float("nan")]])
def test_a_history_that_is_not_one_number_per_epoch_is_an_error(case, name, values):
    with pytest.raises(RecordError, match=name):
        case.judge.judge(changed(case.record, {name: values}))


def test_a_probe_of_a_step_that_is_none_is_an_error(case):
    with pytest.raises(RecordError, match="expected one of 15 steps"):
        case.judge.judge(changed(case.record, probe__15__loss=np.array(1.0)))


def test_other_snapshots_are_an_error(case):
    with pytest.raises(RecordError, match="other steps"):
        case.judge.judge(changed(case.record, snapshots=case.record.arrays["snapshots"] + 1))


def test_a_record_without_probes_is_not_rounding(case):
    probes = {name.replace("/", "__"): None for name in case.record.arrays if "probe/" in name}
    found = case.judge.judge(changed(case.record, **probes))
    assert found.grade != "rounding"
    assert found.divergence.stage == "data"


# The verdict


@pytest.mark.parametrize(
    ("statuses", "grades", "expected"),
    [
        ([], [], "incomplete"),
        (["done"], ["exact"], "agree"),
        (["done"], ["rounding"], "agree"),
        (["done"], ["drift"], "drift"),
        (["done", "done"], ["chaotic", "exact"], "chaotic"),
        (["done", "done"], ["chaotic", "drift"], "drift"),
        (["done"], ["disagree"], "disagree"),
        (["done", "done"], ["exact", "rounding"], "agree"),
        (["done", "done"], ["rounding", "drift"], "drift"),
        (["done", "done"], ["disagree", "drift"], "disagree"),
        (["done", "failed"], ["rounding", None], "incomplete"),
        (["timeout", "done"], [None, "disagree"], "incomplete"),
        (["unavailable"], [None], "incomplete"),
    ],
)
def test_verdict(statuses, grades, expected):
    assert verdict(statuses, grades) == expected


@given(
    runs=st.lists(
        st.sampled_from(GRADES).map(lambda grade: ("done", grade))
        | st.sampled_from(["failed", "timeout", "unavailable"]).map(lambda status: (status, None))
    )
)
def test_no_verdict_is_better_than_the_worst_run(runs):
    statuses, grades = [status for status, _ in runs], [grade for _, grade in runs]
    found = verdict(statuses, grades)
    assert (found == "incomplete") == (not runs or None in grades)
    if found != "incomplete":
        worst = max(grades, key=GRADES.index)
        assert found == ("agree" if worst in ("exact", "rounding") else worst)
    assert verdict(statuses[::-1], grades[::-1]) == found


@pytest.mark.parametrize("fail_on", ["Drift", "rounding", "", None])
def test_what_fails_is_from_the_mildest_on_and_what_is_not_shown(fail_on):
    assert failing("chaotic") == ("chaotic", "drift", "disagree", "not shown")
    assert failing("drift") == ("drift", "disagree", "not shown")
    assert failing("disagree") == ("disagree", "not shown")
    with pytest.raises(ParityError, match="expected chaotic, drift or disagree"):
        failing(fail_on)


@pytest.mark.parametrize("sign", LIFELESS)
def test_a_sign_of_life_counts_where_the_reference_shows_it(sign):
    alive, dead = Liveness(True, True, True), Liveness(True, True, True)
    dead = dataclasses.replace(dead, **{sign: False})
    assert lifeless(dead, alive) == LIFELESS[sign]
    assert lifeless(dead, dead) is lifeless(alive, alive) is lifeless(alive, dead) is None
    assert LIFELESS[sign] in unlearned(dead)
    assert unlearned(alive) is None


def test_those_that_are_at_fault_come_first():
    reasons = {"a": ENDED, "b": "killed", "c": None}
    outcomes = {n: Outcome("failed" if r else "done", r, 1.0) for n, r in reasons.items()}
    assert not_done(outcomes, "abc") == ["b", "a"]
