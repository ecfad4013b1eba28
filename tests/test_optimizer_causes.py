"""Which change of the optimizer explains updates that are off: planted ones, one at a time."""

import io
from functools import cache

import pytest

from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.training.plan import Plan
from framework_parity.common.worker.own_model import own_model
from framework_parity.common.worker.worker import Worker
from tests.helpers import PLAIN, make_plan

FILE = """
import numpy as np

PARAMETERS = {"W1": ("inputs", 8), "b1": (8,), "W2": (8, "outputs"), "b2": ("outputs",)}


def PLAIN_model(d2l, num_inputs, num_outputs, lr):
    class Lagging(d2l.SGD):
        def change(self, name, gradient):
            kept = self.state.setdefault("velocity", {})
            step = self.state["count"] - 1
            last = self.lr(max(step - 1, 0)) / self.lr(step)
            kept[name] = last * kept.get(name, np.zeros_like(gradient))
            return super().change(name, gradient)

    class Rounded(d2l.Adam):
        def correction(self, beta):
            count = np.float32(self.state["count"])
            return float(np.float32(1) - np.float32(beta) ** count)

    class OneFaster(d2l.Adam):
        def change(self, name, gradient):
            return super().change(name, gradient) * (1.1 if name == "b1" else 1)

    class Sign(d2l.SGD):
        def change(self, name, gradient):
            return np.sign(super().change(name, gradient))

    class Counting:
        calls, state = 0, {}

        def __init__(self, parameters, lr):
            self.parameters = parameters

        def step(self, gradients):
            for name, gradient in gradients.items():
                self.parameters[name] -= lr * 0.9**self.calls * gradient
            self.calls += 1

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.W1, self.b1 = np.zeros((num_inputs, 8)), np.zeros(8)
            self.W2, self.b2 = np.zeros((8, num_outputs)), np.zeros(num_outputs)

        def forward(self, X):
            return np.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2

        def gradients(self, X, y_hat, y):
            exp = np.exp(y_hat - y_hat.max(axis=1, keepdims=True))
            error = exp / exp.sum(axis=1, keepdims=True)
            error[np.arange(len(y)), y] -= 1
            error /= error.dtype.type(len(y))
            H = np.tanh(X @ self.W1 + self.b1)
            hidden = error @ self.W2.T * (1 - H**2)
            of = {"W1": X.T @ hidden, "b1": hidden.sum(axis=0)}
            return of | {"W2": H.T @ error, "b2": error.sum(axis=0)}

        def clip_gradients(self, gradients):
            return CLIPPED

        def configure_optimizers(self):
            return OPTIMIZER

    return Mine()
"""
EPOCH = 10
EPOCHS = 2
"""Steps of an epoch, and epochs."""


class Bench:
    """Trains the model with any optimizer, in this process."""

    def __init__(self, folder):
        self.folder, self.number = folder, 0
        make_plan(folder, Synthetic(200, 12, 3), batch_size=20, max_epochs=EPOCHS, lr=0.01)
        self.plan = Plan.load(folder / "plan")

    def train(self, optimizer, clip, dtype, reference=None, member=None):
        self.number += 1
        file = self.folder / f"mine{self.number}.py"
        text = FILE.replace("PLAIN", PLAIN).replace("CLIPPED", clip)
        file.write_text(text.replace("OPTIMIZER", optimizer.replace("(p", "(self.named_tensors()")))
        given = self.folder / "plan", PLAIN, file, dtype, reference, member
        return own_model(Worker(io.StringIO()), *given)

    @cache  # noqa: B019  # a few, for one module
    def judge(self, optimizer, clip="gradients"):
        reference = self.train(optimizer, clip, "float64")
        place = self.folder / f"reference{self.number}"
        facts = {"plan_sha256": self.plan.sha256, "fed_sha256": "", "peak_rss_bytes": 0}
        reference = type(reference)({**facts, **reference.facts}, reference.arrays)
        reference.save(place)
        members = [
            self.train(optimizer, clip, "float32", place, member)
            for member in range(ENSEMBLE_MEMBERS)
        ]
        judge = ModelJudge.measure(self.plan, self.plan.data(), reference, members)
        return judge, place

    def cause(self, sound, optimizer, clip="gradients", sound_clip="gradients"):
        judge, place = self.judge(sound, sound_clip)
        record = self.train(optimizer, clip, "float32", place)
        judgement = judge.judge(record)
        return judgement, judge.cause(record, judgement)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return Bench(tmp_path_factory.mktemp("bench"))


SGD, ADAM = "d2l.SGD(p, lr, momentum=0.9)", "d2l.Adam(p, lr)"
RMSPROP, ADAGRAD = "d2l.RMSprop(p, lr)", "d2l.Adagrad(p, lr, eps=1e-6)"
ADAMW = "d2l.AdamW(p, lr, weight_decay=0.01)"
PLANTED = [
    (SGD, "d2l.SGD(p, lr, momentum=0.8)", "momentum", 0.8),
    (SGD, "d2l.SGD(p, lr, momentum=0.9, nesterov=True)", "Nesterov's momentum", None),
    (SGD, "d2l.SGD(p, lr, momentum=0.9, dampening=0.5)", "dampening of the momentum", 0.5),
    (SGD, "d2l.SGD(p, lr)", "no momentum", None),
    (SGD, "d2l.SGD(p, lr * 1.01, momentum=0.9)", "learning rate", 1.01),
    (SGD, "d2l.SGD(p, lr, momentum=0.9, weight_decay=0.001)", "coupled weight decay", 0.001),
    (ADAM, "d2l.Adam(p, lr, eps=1e-4)", "ε beside √v̂", 1e-4),
    (ADAM, "d2l.Adam(p, lr, eps=1e-4, eps_hat=True)", "ε beside √v", 1e-4),
    (ADAM, "d2l.Adam(p, lr, eps=1e-6, eps_inside=True)", "ε inside √(v̂ + ε)", 1e-6),
    (ADAM, "d2l.Adam(p, lr, (0.8, 0.999))", "β₁", 0.8),
    (ADAM, "d2l.Adam(p, lr, (0.9, 0.99))", "β₂", 0.99),
    (ADAM, "d2l.Adam(p, lr / 10)", "learning rate", 0.1),
    (ADAM, "d2l.AdamW(p, lr, weight_decay=0.01)", "decoupled weight decay", 0.01),
    (ADAM, "d2l.Adam(p, lr, weight_decay=0.01)", "coupled weight decay", 0.01),
    (ADAMW, "d2l.Adam(p, lr, weight_decay=0.01)", "coupled weight decay", 0.01),
    (ADAMW, "d2l.AdamW(p, lr, weight_decay=0.0001)", "decoupled weight decay", 1e-4),
    (
        ADAMW,
        "d2l.AdamW(p, lr, weight_decay={'W1': 0.01, 'W2': 0.01})",
        "decoupled weight decay of matrices alone",
        0.01,
    ),
    (RMSPROP, "d2l.RMSprop(p, lr, 0.9)", "α", 0.9),
    (RMSPROP, "d2l.RMSprop(p, lr, eps=1e-4)", "ε beside √v", 1e-4),
    (RMSPROP, "d2l.RMSprop(p, lr, eps=1e-5, eps_inside=True)", "ε inside √(v + ε)", 1e-5),
    (ADAGRAD, "d2l.Adagrad(p, lr, 0.1, eps=1e-6)", "first sum of squares", 0.1),
    (ADAGRAD, "d2l.Adagrad(p, lr, eps=1e-4)", "ε beside √s", 1e-4),
]

STEPS = "d2l.SGD(p, lambda s: lr * 0.5 ** (s // 10), momentum=0.9)"
COSINE = "d2l.Adam(p, lambda s: lr * (1.1 + np.cos(np.pi * s / 20)))"
SCHEDULES = [
    (
        STEPS,
        STEPS.replace("(s // 10)", "0"),
        "no schedule of the learning rate or a schedule one epoch late",
        None,
    ),
    (STEPS, STEPS.replace("(s //", "((s + 1) //"), "a schedule one step early", None),
    (STEPS, STEPS.replace("(s //", "(max(s - 1, 0) //"), "a schedule one step late", None),
    (
        STEPS,
        STEPS.replace("(s // 10)", "s"),
        "a schedule that goes on per step, not per epoch",
        None,
    ),
    (
        STEPS,
        STEPS.replace("d2l.SGD", "Lagging"),
        "a velocity that holds the learning rates of its steps (v ← m v − lr g)",
        None,
    ),
    (COSINE, COSINE.replace("/ 20", "/ 19"), "a schedule that is one step shorter", None),
    (COSINE, COSINE.replace("/ 20", "/ 30"), "a schedule that is one epoch longer", None),
    (COSINE, COSINE.replace("/ 20", "/ 25"), "length of the schedule", 1.25),
    (
        COSINE,
        COSINE.replace("* s /", "* (s // 10) /"),
        "a schedule that goes on per epoch, not per step",
        None,
    ),
    (COSINE, COSINE.replace("lr *", "1.1 * lr *"), "learning rate", 1.1),
]
CLIP = "d2l.clipped(gradients, 0.1)"
CLIPPINGS = [
    ("gradients", CLIP, "clipping of the norm of all gradients", 0.1),
    (CLIP, "gradients", "no clipping of gradients", None),
    (CLIP, CLIP.replace("0.1", "0.12"), "clipping of the norm of all gradients", 0.12),
    (CLIP, CLIP.replace("0.1", "0.1, 'norm'"), "clipping of each gradient's norm", 0.1),
    (CLIP, CLIP.replace("0.1", "0.01, 'value'"), "clipping of each entry", 0.01),
    (
        CLIP,
        CLIP.replace("0.1", "0.1, eps=1e-6"),
        "clipping with 1e-06 added to the norm that divides",
        None,
    ),
]


def check(judgement, cause, name, value):
    assert judgement.divergence.stage == "update"
    assert cause is not None
    assert cause.name == name, cause.sentence
    assert cause.value == (None if value is None else pytest.approx(value, rel=0.02))
    assert "reproduces every probed update" in cause.sentence


@pytest.mark.parametrize(("sound", "wrong", "name", "value"), SCHEDULES)
def test_a_mistake_of_a_schedule_is_named(bench, sound, wrong, name, value):
    check(*bench.cause(sound, wrong), name, value)


@pytest.mark.parametrize(("sound", "wrong", "name", "value"), CLIPPINGS)
def test_a_mistake_of_clipping_by_hand_is_named(bench, sound, wrong, name, value):
    check(*bench.cause(SGD, SGD, wrong, sound), name, value)


@pytest.mark.parametrize("sound", [SGD, ADAM, ADAMW, RMSPROP, ADAGRAD, STEPS, COSINE])
def test_a_sound_run_has_no_cause(bench, sound):
    judgement, cause = bench.cause(sound, sound)
    assert judgement.divergence is None
    assert cause is None


@pytest.mark.parametrize(
    ("sound", "wrong"),
    [
        (ADAM, ADAM.replace("d2l.Adam", "OneFaster")),
        (SGD, SGD.replace("d2l.SGD", "Sign")),
        (SGD, "Sign(p, lr / 9, 0.9)"),
    ],
)
def test_of_a_mistake_that_is_not_known_no_cause_is_named(bench, sound, wrong):
    judgement, cause = bench.cause(sound, wrong)
    assert judgement.divergence.stage == "update"
    assert cause is None


def test_rounding_is_told_alone_and_beside_another_cause(bench):
    words = "bias correction 1 − βᵗ in float32"
    check(*bench.cause(ADAM, "Rounded(p, lr)"), words, None)
    check(*bench.cause(ADAM, "Rounded(p, lr, eps=1e-5)"), f"ε beside √v̂ and {words}", 1e-5)


def test_causes_that_cannot_be_told_apart_are_all_said(bench):
    """Every step is clipped: another limit is another learning rate."""
    _, cause = bench.cause("d2l.SGD(p, lr)", "d2l.SGD(p, lr)", CLIP.replace("0.1", "0.05"), CLIP)
    assert "learning rate" in cause.name
    assert "clipping of the norm of all gradients" in cause.name
    assert "cannot be told apart" in cause.sentence
    assert cause.value is None


def test_of_a_rate_that_counts_its_own_steps_late_steps_are_not_probed(bench):
    """A probe would have the rate of the first step: no fault of the optimizer is claimed."""
    judge, place = bench.judge("d2l.SGD(p, lambda s: lr * 0.9**s)")
    record = bench.train("Counting(p, lr)", "gradients", "float32", place)
    assert "Counting" in record.facts["unknown_optimizer"]
    judgement = judge.judge(record)
    assert judgement.grade == "rounding"
    assert judge.cause(record, judgement) is None


def test_several_mistakes_are_named_by_the_run_s_own_arguments(bench):
    _, cause = bench.cause(ADAM, "d2l.AdamW(p, lr, (0.8, 0.99), 1e-5, weight_decay=0.1)")
    for part in ("betas (0.8, 0.99)", "eps 1e-05", "weight_decay 0.1", "decoupled True"):
        assert part in cause.name


@pytest.mark.parametrize(("sound", "wrong", "name", "value"), PLANTED)
def test_a_mistake_of_the_optimizer_is_named_with_its_value(bench, sound, wrong, name, value):
    check(*bench.cause(sound, wrong), name, value)
