"""A cause is named if its replay fits the run and no other one does."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from framework_parity.benchmarks import drawn_plans
from framework_parity.common.commands.reprobe import judge_of_steps, second_look, steps_to_probe
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.judging.candidates import (
    STORED_FORMATS,
    UNDERFLOW,
    Clues,
    digits,
    is_permutation,
)
from framework_parity.common.judging.causes import find_cause
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference import variations
from framework_parity.common.reference.replay import (
    Training,
    losses_from_logits,
    losses_from_probabilities,
)
from framework_parity.common.report.findings import count, divergence_line
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from tests import look_alikes
from tests.replays import digits_judge, probe_of, record_of


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return digits_judge(tmp_path_factory.mktemp("digits"))


def variation(judge, kind, value=0.0, **attributes):
    """A replay of a known cause in float32."""
    if attributes:
        kind = type(kind.__name__, (kind,), attributes)
    return kind(judge.plan, judge.data, value, dtype="float32")


def diagnose(judge, record):
    with np.errstate(all="ignore"):
        found = judge.judge(record)
        return found, find_cause(judge, record, found)


def narrow(function):
    return {"narrow": staticmethod(function)}


CASES = [
    ("learning rate", variations.LearningRate, 1.00001, {}, "update"),
    ("learning rate", variations.LearningRate, 1.1, {}, "update"),
    ("weight decay", variations.WeightDecay, 1e-6, {}, "update"),
    ("weight decay", variations.WeightDecayOfWeights, 1e-2, {}, "update"),
    ("momentum", variations.Momentum, 0.1, {}, "update"),
    ("momentum", variations.Momentum, 0.9, {}, "update"),
    ("Nesterov momentum", variations.Nesterov, 0.9, {}, "update"),
    ("bias never updated", variations.BiasNeverUpdated, 0.0, {}, "update"),
    ("gradient clipping", variations.Clipped, 0.3, {}, "update"),
    ("gradient clipping", variations.ClippedEach, 0.3, {"in_place": True}, "gradient"),
    ("order reused", variations.OrderReused, 0.0, {}, "data"),
    ("last batch dropped", variations.LastBatchDropped, 0.0, {}, "data"),
    ("last batch over batch_size", variations.LastBatchOverBatchSize, 0.0, {}, "loss"),
    ("sum instead of mean", variations.Sum, 0.0, {}, "loss"),
    ("no bias", variations.NoBias, 0.0, {}, "gradient"),
    ("label smoothing", variations.LabelSmoothing, 1e-4, {}, "example loss"),
    ("label smoothing", variations.LabelSmoothing, 0.1, {}, "example loss"),
    ("log clipped", variations.ShiftedLog, 1e-3, {}, "example loss"),
    ("softmax applied twice", variations.SoftmaxTwice, 0.0, {}, "example loss"),
    ("bfloat16 products", variations.RoundedProducts, 0.0, narrow(variations.bfloat16), "forward"),
    ("scale by 17", variations.AffineFeatures, 16 / 17, {}, "data"),
    ("no scaling", variations.AffineFeatures, 16.0, {}, "data"),
    ("normalisation", variations.AffineFeatures, 3.0, {"shift": -0.8}, "data"),
]


@pytest.mark.parametrize(("name", "kind", "value", "attributes", "stage"), CASES)
def test_a_known_cause_is_named_and_placed(judge, name, kind, value, attributes, stage):
    found, cause = diagnose(judge, record_of(judge, variation(judge, kind, value, **attributes)))
    assert found.grade in ("drift", "disagree")
    assert found.divergence.stage == stage
    assert cause is not None
    assert cause.name == name
    assert cause.envelopes <= judge.thresholds.envelopes
    assert cause.runner_up_envelopes > judge.thresholds.envelopes
    if cause.value is not None:
        assert cause.value == pytest.approx(value, rel=0.02)


@pytest.fixture(scope="module")
def steep():
    """Weights so large that a plain softmax has hardly a number for what it computes."""
    random = np.random.default_rng(0)
    X, y = random.standard_normal((240, 260), np.float32), random.integers(0, 3, 240)
    data = DataModule(X[:200], y[:200], X[200:], y[200:], name="made", num_outputs=3)
    data.batch_size = 50
    plan = Plan.make(Recipe("made", 50, 1e-3, 2, sigma=1.0), data, Path("made"))
    return SoftmaxJudge.measure(plan, data)


def plain_softmax(steep, **attributes):
    kind = type("PlainSoftmax", (variations.PlainSoftmax,), attributes)
    form = {"dtype": "float32", "form": losses_from_probabilities}
    with np.errstate(all="ignore"):
        return drawn_plans.record_of(steep, kind(steep.plan, steep.data, **form))


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("backward", ["quotients", "factor"])
def test_an_underflow_of_the_plain_softmax_is_named(steep, flushed, backward):
    """What a framework differentiates itself: the loss is right, a part of the gradient is lost."""
    found, cause = diagnose(steep, plain_softmax(steep, flushed=flushed, backward=backward))
    assert found.divergence.stage == "gradient"
    assert cause.name == UNDERFLOW
    assert "reproduces this run" in cause.sentence


@pytest.mark.parametrize("index", [43, 683])
def test_an_underflow_inside_the_derivative_alone_is_named(index):
    """Where each probability has all its digits, and its quotient by the sum has lost some."""
    drawn = drawn_plans.draw_one(0, index)
    data = drawn.data()
    plan = Plan.make(drawn.recipe, data, Path("drawn"))
    judge = SoftmaxJudge.measure(plan, data)
    for features in (None, np.random.default_rng(7).permutation(data.num_inputs)):
        kind = type("PlainSoftmax", (variations.PlainSoftmax,), {"backward": "quotients"})
        with np.errstate(all="ignore"):
            training = kind(
                plan, data, dtype="float32", features=features, form=losses_from_probabilities
            )
            found, cause = diagnose(judge, drawn_plans.record_of(judge, training))
        assert found.divergence.stage == "gradient"
        assert cause.name == UNDERFLOW
        assert "reproduces this run" in cause.sentence


def test_a_plain_softmax_that_does_not_underflow_has_no_cause(steep):
    found, cause = diagnose(steep, plain_softmax(steep, backward="derived"))
    assert (found.grade, cause) == ("rounding", None)


def test_formats_of_the_same_precision_are_both_named(judge):
    training = variation(judge, variations.RoundedProducts, **narrow(variations.tf32))
    found, cause = diagnose(judge, record_of(judge, training))
    assert found.divergence.stage == "forward"
    assert "TF32 products" in cause.name


@pytest.mark.parametrize("wrong", [1, 10])
def test_wrong_labels_are_counted(judge, wrong):
    fed = np.asarray(judge.data.y_train, np.int32).copy()
    rows = judge.plan.order[0][100 : 100 + wrong]
    fed[rows] = (fed[rows] + 1) % 10
    record = record_of(judge, variation(judge, variations.ChangedLabels, fed=fed), fed)
    found, cause = diagnose(judge, record)
    assert (found.divergence.stage, found.divergence.step) == ("data", 1)
    assert cause.name == "wrong labels"
    assert f"{wrong} differ" in cause.sentence


def test_other_initial_weights_are_named(judge):
    given = np.roll(judge.plan.W, 1, axis=0), judge.plan.b
    found, cause = diagnose(
        judge, record_of(judge, variation(judge, variations.InitialParameters, given=given))
    )
    assert found.divergence.tensor == "initial W"
    assert cause.name == "another initial W"


def test_what_is_not_known_is_not_named(judge):
    class Odd(variations.Variation):
        def update(self, W, b, gradient_W, gradient_b):
            super().update(W, b, gradient_W * (1 + 0.01 * np.sign(W)), gradient_b)

    found, cause = diagnose(judge, record_of(judge, variation(judge, Odd)))
    assert found.divergence.stage == "update"
    assert cause is None


SOMETHING = "it is something that no known cause reproduces"
MAYBE = f"(its update or the next loss) {SOMETHING}"


def test_a_corrupted_weight_ends_what_a_learning_rate_explains(judge):
    training = variation(judge, look_alikes.RateAndCorrupted, 1.00001)
    _, cause = diagnose(judge, record_of(judge, training))
    said = f"learning rate × 1.00001 reproduces steps 0 to 49 of this run; from step 50 on {MAYBE}"
    assert cause.sentence == said


def test_a_velocity_that_is_cleared_each_epoch_is_momentum_in_the_first_alone(judge):
    _, cause = diagnose(judge, record_of(judge, variation(judge, look_alikes.Cleared, 0.9)))
    assert (
        cause.sentence
        == f"momentum 0.9 reproduces steps 0 to 22 of this run; from step 23 on {MAYBE}"
    )
    assert (cause.through_step, cause.then["from_step"], cause.then["name"]) == (22, 23, None)


def test_an_order_that_is_rotated_in_one_epoch_is_no_known_cause(judge):
    _, cause = diagnose(judge, record_of(judge, variation(judge, look_alikes.Rotated)))
    assert cause is None


def test_random_labels_are_no_permutation(judge):
    rng, fed = np.random.default_rng(0), np.asarray(judge.data.y_train, np.int32).copy()
    rows = rng.choice(len(fed), len(fed) // 10, replace=False)
    fed[rows] = rng.integers(0, 10, len(rows))
    record = record_of(judge, variation(judge, variations.ChangedLabels, fed=fed), fed)
    assert diagnose(judge, record)[1].name == "wrong labels"


@pytest.mark.parametrize(
    ("fed", "expected"),
    [
        ([1, 2, 0, 1], True),
        ([0, 1, 2, 0], True),  # each as itself
        ([1, 1, 0, 1], False),  # two as the same
        ([1, 2, 0, 2], False),  # one as two
        ([5, 2, 0, 5], True),
    ],
)
def test_a_permutation_of_classes_is_one(fed, expected):
    assert is_permutation(np.array([0, 1, 2, 0]), np.array(fed)) is expected


@pytest.mark.parametrize("batch_size", [60, 360, 1000])
def test_batches_that_are_equal_or_one_are_not_averaged_over(tmp_path, batch_size):
    """There the mean over batches is the right answer, and what is wrong is something else."""
    judge = digits_judge(tmp_path, batch_size=batch_size, max_epochs=2)
    record = record_of(judge, Training(judge.plan, judge.data, dtype="float32"))
    history = record.facts["history"]
    wrong = history | {"train_loss": [1.1 * loss for loss in history["train_loss"]]}
    record = dataclasses.replace(record, facts={**record.facts, "history": wrong})
    found, cause = diagnose(judge, record)
    assert (found.divergence.stage, cause) == ("metric", None)


LATE = [
    ("learning rate", variations.LearningRate, 0.5, 12),
    ("weight decay", variations.WeightDecayOfWeights, 1e-2, 30),
    ("no bias", variations.NoBias, 0.0, 47),
    ("label smoothing", variations.LabelSmoothing, 0.01, 50),
]


@pytest.mark.parametrize(("name", "kind", "value", "start"), LATE)
def test_what_begins_late_is_named_from_its_first_step(judge, name, kind, value, start):
    late = look_alikes.gated(kind, lambda training: training.done >= start)
    _, cause = diagnose(judge, record_of(judge, variation(judge, late, value)))
    assert (cause.name, cause.from_step) == (name, start)
    assert f"from step {start} on reproduces" in cause.sentence


@pytest.mark.parametrize(("name", "kind", "value", "end"), LATE)
def test_what_ends_early_is_named_through_its_last_step(judge, name, kind, value, end):
    early = look_alikes.gated(kind, lambda training: training.done < end)
    _, cause = diagnose(judge, record_of(judge, variation(judge, early, value)))
    assert (cause.name, cause.through_step) == (name, end - 1)
    assert (
        f"reproduces steps 0 to {end - 1} of this run; from step {end} on it follows the plan"
        in cause.sentence
    )
    assert cause.then["name"] == "the plan"


def later(kind, size, start, name):
    """A learning rate, and something unknown as well from a step on, in one of its methods."""
    unknown = type(kind.__name__, (kind, look_alikes.Counted), {"size": size})

    def method(self, *arguments):
        cls = unknown if self.done >= start else look_alikes.Counted
        return getattr(cls, name)(self, *arguments)

    return type("Later", (unknown, variations.LearningRate), {name: method})


UNKNOWN = [
    (look_alikes.L1, 1e-2, "update", 50, 50),
    (look_alikes.Temperature, 0.5, "losses", 50, 49),  # the update of step 49 may be to blame
    (look_alikes.Temperature, 0.5, "losses", 23, 23),  # after it parameters are recorded
]


@pytest.mark.parametrize(("kind", "size", "method", "start", "said"), UNKNOWN)
def test_what_is_not_known_begins_where_it_is_proved(judge, kind, size, method, start, said):
    training = variation(judge, later(kind, size, start, method), 1.01)
    _, cause = diagnose(judge, record_of(judge, training))
    words = SOMETHING if start == 23 else MAYBE
    assert cause.sentence == (
        f"learning rate × 1.01 reproduces steps 0 to {said - 1} of this run; "
        f"from step {said} on {words}"
    )


@pytest.mark.parametrize("start", [5, 9, 30, 46, 49, 60])
def test_what_begins_late_is_put_down_to_its_step(judge, start):
    """Parameters are recorded after some steps only, the loss of every step is."""
    late = look_alikes.gated(look_alikes.L1, lambda training: training.done >= start)
    record = record_of(judge, variation(judge, late, size=0.1))
    found = judge.judge(record).divergence
    assert (found.step, found.stage) == (start, "update")
    if start + 1 not in judge.plan.snapshots:
        assert found.tensor.startswith("the next loss")
        assert f"or step {start + 1} itself is wrong" in found.note
        sentence = divergence_line({"divergence": dataclasses.asdict(found), "stages": {}})
        assert f"step {start}, stage update, the next loss: differs by" in sentence
        assert count(found.envelopes) in sentence


@pytest.mark.parametrize("start", [10, 31, 50])
def test_a_late_loss_is_one_of_the_two_steps_that_are_said(judge, start):
    late = look_alikes.gated(look_alikes.Temperature, lambda training: training.done >= start)
    found = judge.judge(record_of(judge, variation(judge, late, size=0.5))).divergence
    assert found.step == start - 1
    assert f"or step {start} itself is wrong" in found.note


@pytest.mark.parametrize("start", [23, 46])
def test_a_late_loss_after_parameters_that_are_known_to_be_right_is_a_loss(judge, start):
    assert start in judge.plan.snapshots
    late = look_alikes.gated(look_alikes.Temperature, lambda training: training.done >= start)
    found = judge.judge(record_of(judge, variation(judge, late, size=0.5))).divergence
    assert (found.step, found.stage) == (start, "loss")


FAULTS = [f for f in look_alikes.faults() if f.family in ("compound", "look-alike")]
SAMPLE = [FAULTS[i] for i in np.random.default_rng(13).permutation(len(FAULTS))[:25]]


@pytest.mark.parametrize("fault", SAMPLE, ids=lambda fault: fault.label)
def test_look_alikes_have_no_wrong_cause(judge, fault):
    said, words = look_alikes.verdict(judge, fault)
    assert said != "wrong", words


@pytest.mark.parametrize(
    ("value", "unchanged", "uncertainty", "shown"),
    [
        (1.00001003, 1.0, 1e-7, "1.00001"),
        (1.0000003, 1.0, 1e-7, "1.0000003"),
        (1.0000003, 1.0, 1e-3, "1.0000003"),
        (0.99999996, 1.0, 1e-8, "0.99999996"),
        (0.5000000049, 1.0, 1e-8, "0.5"),
        (0.89999997, 0.0, 1e-7, "0.9"),
        (1.0002e-6, 0.0, 1e-9, "1e-06"),
        (16.0, 1.0, 0.0, "16"),
        (1.0, 1.0, 0.0, "1"),
    ],
)
def test_a_value_has_the_digits_that_are_known(value, unchanged, uncertainty, shown):
    assert digits(value, unchanged, uncertainty) == shown


def test_where_every_step_is_clipped_the_bound_is_known_with_the_rate_alone(judge):
    """A hundredth more at a rate that is a hundredth less is the same."""
    both = variations.both(variations.LearningRate, 1.01, variations.Clipped)
    _, cause = diagnose(judge, record_of(judge, variation(judge, both, 0.3)))
    assert (cause.name, cause.value) == ("gradient clipping", None)
    assert "gradient clipping at 0.303, or in that product with another" in cause.sentence


def test_a_sound_run_has_no_cause(judge):
    training = Training(judge.plan, judge.data, dtype="float32")
    found, cause = diagnose(judge, record_of(judge, training))
    assert (found.grade, found.divergence, cause) == ("rounding", None, None)


def test_a_second_look_finds_what_no_probed_step_showed(judge):
    """An update that is wrong in step 30 alone: a step that no plan of this size probes."""

    class Once(variations.Variation):
        def reset(self):
            self.steps_made = 0
            self.wrong = False

        def rows(self, epoch):
            for rows in super().rows(epoch):
                self.wrong = self.steps_made == 30
                self.steps_made += 1
                yield rows

        def reduce(self, losses, error):
            loss, error = super().reduce(losses, error)
            return (loss, error * error.dtype.type(1.5)) if self.wrong else (loss, error)

    assert 30 not in judge.plan.probes
    training = variation(judge, Once)
    with np.errstate(all="ignore"):
        record = record_of(judge, training)
        found = judge.judge(record)
        assert found.lockstep_envelopes <= judge.thresholds.envelopes
        assert found.divergence.stage == "update"
        steps = steps_to_probe(judge, record, found)
        assert 30 in steps
        other = judge_of_steps(judge, steps)
        arrays = dict(record.arrays)
        for i, step in enumerate(other.plan.probes):
            training.wrong = step == 30
            state = other.oracle.before(i)
            rows = other.plan.rows(step)
            plain = Training.rows(training, 0)
            assert len(list(plain))
            probe = probe_of(other.plan, judge.data, _Still(training, rows), step, state)
            arrays |= probe
        again = other.judge(dataclasses.replace(record, arrays=arrays))
    assert (again.divergence.step, again.divergence.stage) == (30, "gradient")


class Clamped(variations.Variation):
    """Logits that are kept within a bound, which the first steps do not reach."""

    def logits(self, X, W, b):
        return np.clip(super().logits(X, W, b), -self.bound, self.bound)


@pytest.mark.parametrize("bound", [1.0, 1.5, 2.0, 2.5])
def test_what_begins_with_a_threshold_is_placed_where_it_begins(tmp_path, bound):
    """Of the probed steps only late ones reach the bound; the losses say when it is reached."""
    judge = digits_judge(tmp_path, lr=0.3, max_epochs=5)
    training = variation(judge, Clamped, bound=np.float32(bound))
    record = record_of(judge, training)
    found = judge.judge(record)
    first = int(np.flatnonzero(found.loss_envelopes_per_step > 4)[0])
    assert found.lockstep_envelopes > 4
    if found.divergence.step > first:
        assert f"its own training is off from step {first - 1} on" in found.divergence.note
        assert first in steps_to_probe(judge, record, found)
        other = judge_of_steps(judge, steps_to_probe(judge, record, found))
        found = other.judge(record_of(other, training))
    assert (found.divergence.stage, found.divergence.step) == ("forward", first)


class _Still:
    """A replay whose batch is given, so that probing it does not move it on."""

    def __init__(self, training, rows):
        self.training, self.given = training, rows

    def rows(self, epoch):
        place = self.training.plan.steps_per_epoch
        return [self.given] * place

    def examples(self, rows):
        return self.training.examples(rows)

    def stages(self, parameters, rows):
        wrong = self.training.wrong
        self.training.reset = lambda: setattr(self.training, "wrong", wrong)
        stages = self.training.stages(parameters, rows)
        del self.training.reset
        return stages


def test_metrics_are_told_apart(judge):
    training = Training(judge.plan, judge.data, dtype="float32")
    record = record_of(judge, training)
    history = record.facts["history"]
    ends = [
        judge.plan.snapshots.index((epoch + 1) * judge.plan.steps_per_epoch) for epoch in range(3)
    ]
    W, b = (record.arrays[f"parameters/{name}"] for name in "Wb")
    X, y = judge.data.examples(train=True, dtype="float64")
    logits = [X @ W[i] + b[i] for i in ends]
    losses = [losses_from_logits(z, y.astype(np.int64))[0].mean() for z in logits]
    accuracies = [float(np.mean(z.argmax(1) == y)) for z in logits]
    wrong = history | {"val_loss": [float(v) for v in losses], "val_accuracy": accuracies}
    record = dataclasses.replace(record, facts={**record.facts, "history": wrong})
    found, cause = diagnose(judge, record)
    assert found.divergence.stage == "metric"
    assert cause.name == "metric on the training data"


def with_metric_of_the_training_data(judge, record):
    """What a run would report that evaluates the wrong examples."""
    X, y = judge.data.examples(train=True, dtype="float64")
    W, b = (record.arrays[f"parameters/{name}"] for name in "Wb")
    history = {name: list(values) for name, values in record.facts["history"].items()}
    for epoch, i in judge.plan.epoch_ends.items():
        logits = X @ W[i] + b[i]
        history["val_loss"][epoch - 1] = float(losses_from_logits(logits, y)[0].mean())
        history["val_accuracy"][epoch - 1] = float(np.mean(logits.argmax(1) == y))
    return dataclasses.replace(record, facts={**record.facts, "history": history})


def test_a_metric_is_told_where_not_every_epoch_s_end_is_recorded(tmp_path):
    long = digits_judge(tmp_path, max_epochs=101, batch_size=1437)
    assert len(long.plan.epoch_ends) < long.plan.recipe.max_epochs
    record = record_of(long, Training(long.plan, long.data, dtype="float32"))
    found, cause = diagnose(long, with_metric_of_the_training_data(long, record))
    assert found.divergence.stage == "metric"
    assert cause.name == "metric on the training data"


def test_labels_that_are_not_recorded_are_not_compared(judge):
    record = record_of(judge, variation(judge, variations.LearningRate, 1.1))
    arrays = {name: a for name, a in record.arrays.items() if not name.endswith("data/y")}
    _, cause = diagnose(judge, dataclasses.replace(record, arrays=arrays))
    assert cause.name == "learning rate"


def test_features_that_are_all_alike_have_no_scale(judge):
    zeros = np.zeros((2, 4))
    data = SimpleNamespace(stored_rows=lambda _: zeros, divisor=1.0, image_shape=None)
    probes = {0: {"data/X": zeros + 1}}
    clues = SimpleNamespace(probes=probes, data=data, plan=judge.plan, of=lambda *_, **__: None)
    names = [candidate.name for candidate in Clues.feature_candidates(clues)]
    assert names == [f"{name} inputs" for name in STORED_FORMATS]


def test_a_second_look_may_be_taken_again(judge, tmp_path):
    """As a bisection does, which judges each release once more at its end."""
    record = record_of(judge, variation(judge, variations.Momentum, 0.9))
    judged = {"a": (record, judge.judge(record))}
    asked = []

    def look_again(contenders):
        asked.extend(contender.name for contender in contenders)
        return {"a": Outcome("failed", "killed", 1.0)}

    execution = SimpleNamespace(folder=tmp_path, look_again=look_again)
    for _ in range(2):
        assert second_look(judge, execution, [SimpleNamespace(name="a")], judged) == {}
    assert asked == ["a", "a"]


def test_metrics_of_a_run_with_other_steps_are_named_after_nothing(judge):
    record = record_of(judge, variation(judge, variations.LastBatchDropped))
    for metrics in ([9.0] * 3, [0.1] * 3, record.facts["history"]["train_loss"]):
        wrong = record.facts["history"] | {"val_loss": metrics, "val_accuracy": [0.5] * 3}
        _, cause = diagnose(
            judge, dataclasses.replace(record, facts=record.facts | {"history": wrong})
        )
        assert cause is None or cause.name == "last batch dropped"
