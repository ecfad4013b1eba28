"""What a run reports of itself, against the reference and against its own numbers.

An accuracy is a count of examples: it may be another one only by those so near to a tie that the
rounding of their logits decides. What ``predict`` gives is the forward pass of the parameters
that the run ended with, on the validation examples in their order.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.ladder import Finding, order_rounding
from framework_parity.common.reference.ensemble import Envelope, unit_roundoff
from framework_parity.common.reference.replay import (
    NEAREST,
    WORST,
    Floats,
    Trajectory,
    epoch_means,
    losses_from_logits,
)
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record

ACCURACY_ROUNDING = float(np.finfo(np.float32).eps)
"""Accuracies are means of zeros and ones, taken in float32 whatever is trained."""


def accuracy_findings(
    plan: Plan,
    record: Record,
    oracle: Trajectory,
    envelope: Envelope,
    limit: float,
    num_val: int,
    steps: int,
) -> Iterator[Finding]:
    """The accuracies of a free run against the reference's, in the steps that can be compared."""
    sizes = step_sizes(plan)
    least = order_rounding(0.0, record.facts["y_hat"], unit_roundoff(plan))
    near = borderline(oracle.margins, np.maximum(limit * envelope.margin, least), sizes)
    errors = np.abs(record.arrays["step_accuracy"] - oracle.step_accuracy)
    if steps:
        looked_at = np.arange(steps)
        shown = errors[:steps], near[:steps], sizes[:steps]
        yield _first(plan, "step_accuracy", looked_at, *shown, limit)
    val_bounds = np.maximum(limit * envelope.val_margin, least)
    val_near = borderline(oracle.val_margins, val_bounds, num_val)
    train = epoch_means(oracle.step_accuracy, plan)
    train_near = near.reshape(plan.recipe.max_epochs, -1).sum(axis=1)
    epochs = steps // plan.steps_per_epoch
    if not epochs:
        return
    ends = (np.arange(epochs) + 1) * plan.steps_per_epoch - 1
    for name, exact, count, size in (
        ("train_accuracy", train, train_near, plan.order.shape[1]),
        ("val_accuracy", oracle.val_accuracy, val_near, num_val),
    ):
        errors = np.abs(np.array(record.facts["history"][name]) - exact)[:epochs]
        yield _first(plan, name, ends, errors, count[:epochs], np.full(epochs, size), limit)


def mean_findings(plan: Plan, record: Record) -> Iterator[Finding]:
    """Whether the training metrics of each epoch are the means of its steps'."""
    for name, values in (("train_loss", "step_loss"), ("train_accuracy", "step_accuracy")):
        if values not in record.arrays:  # of targets that are numbers
            continue
        means = epoch_means(record.arrays[values], plan)
        errors = np.abs(np.array(record.facts["history"][name]) - means)
        for epoch, (error, mean) in enumerate(zip(errors, means, strict=True)):
            step = (epoch + 1) * plan.steps_per_epoch - 1
            rounding = unit_roundoff(plan) * max(1.0, abs(float(mean)))
            if name == "train_accuracy":
                rounding = max(rounding, ACCURACY_ROUNDING / 2)
            yield finding(plan, step, name, float(error), rounding)


def count_findings(plan: Plan, record: Record, num_val: int, each: int = 1) -> Iterator[Finding]:
    """Whether each accuracy of a run is a count of its examples, chaotic or not.

    ``each``: how many predictions an example has.
    """
    steps, history = np.arange(plan.num_steps), record.facts["history"]
    ends = (np.arange(plan.recipe.max_epochs) + 1) * plan.steps_per_epoch - 1
    for name, received, sizes, places in (
        ("step_accuracy", record.arrays["step_accuracy"], each * step_sizes(plan), steps),
        ("train_accuracy", history["train_accuracy"], each * plan.order.shape[1], ends),
        ("val_accuracy", history["val_accuracy"], each * num_val, ends),
    ):
        values = np.asarray(received, np.float64)
        errors = np.abs(values - np.clip(np.rint(values * sizes), 0, sizes) / sizes)
        worst = int(errors.argmax())
        yield finding(plan, int(places[worst]), name, float(errors[worst]), ACCURACY_ROUNDING)


def prediction_finding(
    plan: Plan, record: Record, logits: Floats, oracle: Trajectory, envelope: Envelope
) -> Finding:
    """What ``predict`` gave against the forward pass of the run's own last parameters: logits."""
    scale = float(np.abs(logits).max()) / max(float(np.abs(oracle.val_logits).max()), 1e-30)
    bound, exact = envelope.forward * max(1.0, min(scale, WORST)), logits
    if record.facts["y_hat"] == "probabilities":
        # A probability p moves by p (1 - p) times what its logit does, and is rounded itself.
        exact = losses_from_logits(logits, np.zeros(len(logits), np.int64))[1]
        bound = bound / 2 + unit_roundoff(plan)
    error = float(np.abs(record.arrays["val_y_hat"] - exact).max())
    return finding(plan, len(record.arrays["step_loss"]) - 1, "val_y_hat", error, bound)


def borderline(margins: Floats, bounds: Floats, sizes: int | Array) -> Array:
    """How many examples are so near to a tie, shape ``(n,)``; all where all that are kept are."""
    found = np.count_nonzero(margins <= bounds[:, None], axis=1)
    return np.where(found == NEAREST, sizes, found)


def step_sizes(plan: Plan) -> Array:
    """How many examples each step has, shape ``(num_steps,)``."""
    sizes = np.full(plan.steps_per_epoch, plan.recipe.batch_size)
    sizes[-1] = plan.order.shape[1] - plan.recipe.batch_size * (plan.steps_per_epoch - 1)
    return np.tile(sizes, plan.recipe.max_epochs)


def excess(errors: Floats, near: Array, sizes: Array, limit: float, unit: float) -> Floats:
    """Envelopes of accuracies: half an example beyond those near to a tie is at the limit."""
    half = np.maximum(0.5 / sizes, limit * unit) / limit
    return np.asarray(np.maximum(errors - near / sizes, 0.0) / half)


def finding(plan: Plan, step: int, tensor: str, error: float, envelope: float) -> Finding:
    """A finding about a metric."""
    ulps = min(error / (2 * unit_roundoff(plan)), WORST)
    return Finding(step, "metric", tensor, "largest", error, ulps, min(error / envelope, WORST))


def _first(
    plan: Plan, name: str, steps: Array, errors: Floats, near: Array, sizes: Array, limit: float
) -> Finding:
    """The first place beyond the limit, else the worst."""
    ratios = excess(errors, near, sizes, limit, unit_roundoff(plan))
    outside = np.flatnonzero(ratios > limit)
    i = int(outside[0]) if len(outside) else int(ratios.argmax())
    error = float(errors[i])
    ulps = error / (2 * unit_roundoff(plan))
    return Finding(int(steps[i]), "metric", name, "largest", error, ulps, float(ratios[i]))
