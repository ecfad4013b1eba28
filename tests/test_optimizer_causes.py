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

    p = None
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


@pytest.mark.parametrize(("sound", "wrong", "name", "value"), PLANTED)
def test_a_mistake_of_the_optimizer_is_named_with_its_value(bench, sound, wrong, name, value):
    judgement, cause = bench.cause(sound, wrong)
    assert judgement.divergence.stage == "update"
    assert cause is not None
    assert cause.name == name, cause.sentence
    if value is None:
        assert cause.value is None
    else:
        assert cause.value == pytest.approx(value, rel=0.02)
