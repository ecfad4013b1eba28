"""Which other number a run's validation metrics are, if it is a known one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.diagnosis import Diagnosis, short
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.replay import losses_from_logits
from framework_parity.common.training.record import Record


def metric_cause(judge: SoftmaxJudge, record: Record) -> Diagnosis | None:
    """Which other number a run's validation metrics are, if it is a known one.

    Compared are the loss, in rounding envelopes, and the accuracy, in half examples, of every
    epoch at whose end the parameters were recorded, as at its beginning.
    """
    plan, data, history = judge.plan, judge.data, record.facts["history"]
    if len(record.arrays["step_loss"]) != plan.num_steps:  # its epochs end elsewhere
        return None
    W, b = (record.arrays[f"parameters/{name}"].astype(np.float64) for name in "Wb")
    states = {epoch: (W[i], b[i]) for epoch, i in plan.epoch_ends.items()}
    states[0] = plan.W.astype(np.float64), plan.b.astype(np.float64)
    epochs = [epoch for epoch in states if epoch and epoch - 1 in states]
    if not epochs:
        return None

    def evaluate(X: Array, y: Array, W: Array, b: Array) -> tuple[Array, Array]:
        logits = X @ W + b
        return losses_from_logits(logits, y)[0], logits.argmax(axis=1) == y

    def evaluate_training(W: Array, b: Array) -> tuple[Array, Array]:
        parts = [
            evaluate(data.scale(data.X_train[rows[0] : rows[-1] + 1]), y_train[rows], W, b)
            for rows in data.stored_pieces()
        ]
        losses, correct = (np.concatenate(column) for column in zip(*parts, strict=True))
        return losses, correct

    def batched(values: Array) -> float:
        size = plan.recipe.batch_size
        return float(np.mean([values[i : i + size].mean() for i in range(0, len(values), size)]))

    y_val, y_train = (np.asarray(y, np.int64) for y in (data.y_val, data.y_train))
    metrics: dict[str, Callable[[int], tuple[float, float]]] = {
        "metric averaged over batches": lambda e: _pair(
            evaluate(judge.validation, y_val, *states[e]), batched
        ),
        "metric on the training data": lambda e: _pair(evaluate_training(*states[e]), np.mean),
        "metric before the epoch": lambda e: _pair(
            evaluate(judge.validation, y_val, *states[e - 1]), np.mean
        ),
    }

    def right(e: int) -> tuple[float, float]:
        return _pair(evaluate(judge.validation, y_val, *states[e]), np.mean)

    misfits, evidence = {}, False
    for name, predict in metrics.items():
        worst = 0.0
        for e in epochs:
            loss, accuracy = predict(e)
            worst = max(worst, abs(history["val_loss"][e - 1] - loss) / judge.envelope.metric)
            examples = abs(history["val_accuracy"][e - 1] - accuracy) * data.num_val
            worst = max(worst, examples / 2)  # two borderline examples are one envelope
        misfits[name] = worst
    first, second = sorted(misfits, key=lambda name: misfits[name])[:2]
    limit = judge.thresholds.envelopes
    if misfits[first] > limit or misfits[second] <= limit:
        return None
    for e in epochs:  # a number that is the right one as well, as of equal batches, is no evidence
        (loss, accuracy), (exact, exact_accuracy) = metrics[first](e), right(e)
        evidence |= abs(loss - exact) > 2 * limit * judge.envelope.metric
        evidence |= abs(accuracy - exact_accuracy) * data.num_val > 2 * limit
    if not evidence:
        return None
    sentence = (
        f"{first} reproduces its validation metrics (within {misfits[first]:.2g} × rounding; the "
        f"next best, {second}, at {short(misfits[second])} ×)"
    )
    return Diagnosis(first, None, sentence, misfits[first], second, misfits[second])


def _pair(values: tuple[Array, Array], mean: Callable[[Array], Any]) -> tuple[float, float]:
    losses, correct = values
    return float(mean(losses)), float(mean(correct.astype(np.float64)))
