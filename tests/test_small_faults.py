"""Faults of a part in a million are put down to the stage that they are in.

Near a uniform prediction a loss, or a probability, rounds by as much as such a fault changes it,
while the gradient, which averages over the batch, already shows it.
"""

import numpy as np
import pytest

from framework_parity.common.judging.ladder import STAGES
from framework_parity.common.reference.replay import FORMS, less_labels
from framework_parity.common.reference.variations import LabelSmoothing, Variation
from tests.replays import digits_judge, record_of, with_probabilities


class Temperature(Variation):
    """Logits divided by a temperature in the forward pass."""

    stage = "forward"

    def logits(self, X, W, b):
        return super().logits(X, W, b) / W.dtype.type(self.values[type(self)])

    def losses(self, logits, y):
        losses, probabilities, error = super().losses(logits, y)
        return losses, probabilities, error / error.dtype.type(self.values[type(self)])


class TemperatureOfTheLoss(Variation):
    """Logits divided by a temperature in the loss alone."""

    stage = "example loss"

    def losses(self, logits, y):
        _, probabilities, _ = super().losses(logits, y)
        losses, _, error = super().losses(logits / logits.dtype.type(self.values[type(self)]), y)
        return losses, probabilities, error / error.dtype.type(self.values[type(self)])


class Softcap(Variation):
    """Logits kept below a cap by a hyperbolic tangent."""

    stage = "forward"

    def logits(self, X, W, b):
        cap = W.dtype.type(self.values[type(self)])
        return cap * np.tanh(super().logits(X, W, b) / cap)

    def losses(self, logits, y):
        losses, probabilities, error = super().losses(logits, y)
        return (
            losses,
            probabilities,
            error * (1 - (logits / error.dtype.type(self.values[type(self)])) ** 2),
        )


class Smoothing(LabelSmoothing):
    stage = "example loss"


class ErrorTimes(Variation):
    """A derivative that is not the loss's."""

    stage = "gradient"

    def losses(self, logits, y):
        losses, probabilities, error = super().losses(logits, y)
        return losses, probabilities, error * error.dtype.type(self.values[type(self)])


class GradientOfBiasTimes(Variation):
    stage = "gradient"

    def gradients(self, X, error):
        W, b = super().gradients(X, error)
        return W, b * b.dtype.type(self.values[type(self)])


class StepTimes(Variation):
    stage = "update"

    def update(self, W, b, gradient_W, gradient_b):
        factor = W.dtype.type(self.values[type(self)])
        super().update(W, b, gradient_W * factor, gradient_b * factor)


FAULTS = [
    *((Temperature, 1 + size) for size in (1e-6, -2e-6, 1e-5, 1e-3)),
    *((TemperatureOfTheLoss, 1 + size) for size in (1e-6, -2e-6, 1e-5, 1e-3)),
    *((Softcap, size) for size in (1000.0, 300.0, 30.0)),
    *((Smoothing, size) for size in (1e-6, 3e-6, 1e-5, 1e-3)),
    *((ErrorTimes, 1 + size) for size in (1e-6, 1e-5, 1e-2)),
    *((GradientOfBiasTimes, 1 + size) for size in (3e-6, 1e-4)),
    *((StepTimes, 1 + size) for size in (1e-5, 1e-3)),
]
PLANS = {
    "as usual": {"lr": 0.1},
    "small batches": {"lr": 0.1, "batch_size": 8, "max_epochs": 1},
    "steep": {"lr": 0.1, "sigma": 1.0, "max_epochs": 2},
}


@pytest.fixture(scope="module", params=PLANS)
def judge(request, tmp_path_factory):
    return digits_judge(tmp_path_factory.mktemp("plan"), **PLANS[request.param])


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__.removeprefix("losses_from_"))
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize(("fault", "size"), FAULTS, ids=lambda x: getattr(x, "__name__", str(x)))
def test_a_small_fault_is_put_down_to_its_own_stage(judge, fault, size, kind, form):
    training = fault(judge.plan, judge.data, size, dtype="float32", form=form)
    record = record_of(judge, training)
    if kind == "probabilities":
        record = with_probabilities(judge, record, training)
    found = judge.judge(record).divergence
    assert found is not None
    before = STAGES[: STAGES.index(found.stage)]
    assert found.stage == fault.stage or (
        "may be off as well" in found.note and fault.stage in before
    )


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
@pytest.mark.parametrize(
    ("fault", "size"),
    [
        *((Temperature, size) for size in (1.001, 1.1)),
        *((TemperatureOfTheLoss, size) for size in (1.001, 1.1)),
        *((Smoothing, size) for size in (1e-4, 0.01)),
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_a_fault_that_equal_logits_cannot_show_is_put_down_to_its_own_stage(
    tmp_path, fault, size, kind
):
    """Weights of zero: a temperature, or smoothed labels, are in the gradient alone at step 0."""
    judge = digits_judge(tmp_path, lr=1.0, batch_size=479, max_epochs=4, sigma=0.0)
    training = fault(judge.plan, judge.data, size, dtype="float32")
    record = record_of(judge, training)
    if kind == "probabilities":
        record = with_probabilities(judge, record, training)
    found = judge.judge(record).divergence
    assert (found.stage, found.step) == (fault.stage, 1)
    assert "is off from step 0 on, by too little to be seen here then" in found.note


def chosen(logits, y):
    """The probability of each example's class, and all of them."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities[np.arange(len(y)), y], probabilities


EQUAL_FORMS = {
    "log2": lambda p: np.log2(p) * p.dtype.type(np.log(2)),
    "log10": lambda p: np.log10(p) * p.dtype.type(np.log(10)),
    "scaled": lambda p: np.log(p * p.dtype.type(10)) - p.dtype.type(np.log(10)),
    "reciprocal": lambda p: -np.log(1 / p),
    "two roots": lambda p: 2 * np.log(np.sqrt(p)),
}
"""A logarithm in NumPy in other ways, whose error goes with its argument where that is narrow."""


@pytest.mark.parametrize("form", EQUAL_FORMS)
def test_an_equal_form_of_a_loss_is_rounding_where_predictions_are_nearly_uniform(judge, form):
    def losses(logits, y, order=None):
        p, probabilities = chosen(logits, y)
        return -EQUAL_FORMS[form](p), probabilities, less_labels(probabilities, y)

    training = Variation(judge.plan, judge.data, dtype="float32", form=losses)
    for i, step in enumerate(judge.plan.probes):
        stages = training.stages(judge.oracle.before(i), judge.plan.rows(step))
        found = judge.ladder.statistics(step, "example_loss", stages["example_loss"])
        bound = judge.ladder.envelopes[step, "example_loss", "spread"]
        assert found["spread"] <= 4 * bound
