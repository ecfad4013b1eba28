"""The float64 reference and the rounding envelope.

The reference is the plan's training in NumPy float64 with the gradient derived by hand. The
envelope is how far mathematically identical trainings in the recipe's own dtype stray from it:
an ensemble whose members add up the same numbers in other orders (permuted, pairwise, one block
after the other) and write the same loss in another of its usual forms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from framework_parity.common.core.arrays import Array, largest_in_each
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.threads import in_threads
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.replay import (
    FAR,
    FORMS,
    Course,
    Floats,
    Training,
    Trajectory,
    epoch_means,
    losses_from_logits,
    reference_dtype,
)
from framework_parity.common.training.plan import Plan

# What fresh members, which the ensemble does not have, say of each part of the envelope is in
# ``benchmarks/results/envelope.md``: a part without which none of them is flagged has no place here
# (of one, POOLED_STEPS, that is so since another part was added: it is the next to go).

ENSEMBLE_MEMBERS = 8
"""Two for each form of the loss: one adds up as NumPy's BLAS does, one in small blocks. Without
the blocks 1,545 of 6,768 faultless runs are flagged that are not with them. The fourth form
of the loss is asked for by drawn plans (docs/verdict.md)."""

POOLED_STEPS = 16
"""How many of the first steps share the largest error of their losses: eight errors of one
number are too few before the running maximum has seen some more. Before free runs were allowed what
their single steps are, three of 4,932 runs were flagged without it; since then none of 6,768 is."""

METRIC_EPOCHS = 10
"""How many epochs, spread evenly from the first to the last, give the rounding of their mean
validation loss: eight errors of one number are too few. With the last epoch alone 22 of 6,768
are flagged; with the last ten, runs whose first epochs have far larger losses."""

LEAST = 1e-30
"""What nothing is smaller than, so that nothing is divided by zero; far below any rounding."""

LOCKSTEP_MEMBERS = 32
"""More for single steps, where they cost little: the largest of eight errors of a small tensor is
too often a small one. With eight, 56 of 6,768 faultless runs are flagged that are not with 32; with
sixteen, 3. A quarter of them add up one number after the other."""

BLOCK = 8
"""Frameworks may add up one number after the other, with an error that grows as the root of
their number; blocks of eight come within a factor of two to three of that, at a bearable cost."""

AFFORDABLE_PRODUCTS = 5e8
"""Multiplications of a training up to which members add up one number after the other, not in
blocks: it takes seconds. Five of 300 drawn plans are flagged without it, none with it."""


Kind = TypeVar("Kind", bound=Course)


@dataclass(frozen=True)
class Bounds:
    """How far an ensemble's members strayed from the reference: the largest of their errors.

    Errors are running maxima over the training, since rounding is carried from step to step and
    a member that is near the reference by luck at one step says nothing of the next. None is
    smaller than half a unit in the last place: no number of the dtype can be nearer.

    Args:
        loss: of each step's loss, shape ``(num_steps,)``; the first steps share theirs.
        unshared_loss: the same, where none shares its own with another.
        train_loss: of each epoch's mean training loss, shape ``(max_epochs,)``.
        val_loss: likewise of its validation loss.
        parameters: of each parameter by its name, at every point on record, shape ``(s,)``.
        logits: of what ``forward`` gives for the validation examples at the end.
    """

    loss: Floats
    unshared_loss: Floats
    train_loss: Floats
    val_loss: Floats
    parameters: Mapping[str, Floats]
    logits: float

    def save(self, path: Path) -> None:
        """Write the numbers to an ``.npz`` file: whole or not at all."""
        named = {f"parameters/{name}": values for name, values in self.parameters.items()}
        single = {name: value for name, value in vars(self).items() if name != "parameters"}
        write_whole(path, single | named)


@dataclass(frozen=True)
class Envelope(Bounds):
    """That of softmax regression, whose ``logits`` are computed in float64 from the parameters.

    Args:
        forward: largest rounding of a validation logit in the forward pass alone.
        metric: largest rounding of the mean validation loss, given the parameters.
        margin: of each step's margins, shape ``(num_steps,)``: an example nearer to a tie may be
            classified either way.
        val_margin: likewise of the validation examples after each epoch, shape ``(max_epochs,)``.
    """

    forward: float
    metric: float
    margin: Floats
    val_margin: Floats


def reference(plan: Plan, data: DataModule) -> Training:
    """The training that all runs are measured against."""
    return Training(plan, data, dtype=reference_dtype(plan))


def member(plan: Plan, data: DataModule, index: int) -> Training:
    """One member of the ensemble: the plan in its own dtype with other summation orders.

    Member 0 keeps the plan's order; the forms of the loss take turns; every other three members
    add up in small blocks, of one number from the tenth on, or from the fourth if it is affordable.
    """
    products = plan.W.size * plan.order.size
    block = (None, 1 if products <= AFFORDABLE_PRODUCTS else BLOCK, None, 1)[
        index // len(FORMS) % 4
    ]
    random = np.random.default_rng([index, 0x5EED])
    classes = np.random.default_rng([index, 0xC1A55])
    permuted = index > 0
    return Training(
        plan,
        data,
        dtype=plan.recipe.dtype,
        features=random.permutation(data.num_inputs) if permuted else None,
        shuffle=random if permuted else None,
        form=FORMS[index % len(FORMS)],
        block=block,
        class_order=None if block is None else classes.permutation(data.num_outputs),
    )


@np.errstate(all="ignore")  # of members whose plain softmax overflowed
def measure_envelope(
    plan: Plan,
    data: DataModule,
    oracle: Trajectory,
    members: Sequence[Trajectory],
    *,
    pooled_steps: int = POOLED_STEPS,
    metric_epochs: int = METRIC_EPOCHS,
) -> Envelope:
    """Measure the rounding envelope of a plan from its reference and its ensemble.

    Args:
        plan: what is trained.
        data: its examples.
        oracle: its reference.
        members: trainings that differ from it by rounding alone.
        pooled_steps: how many of the first steps share the largest error of their losses.
        metric_epochs: how many epochs give their validation loss's rounding.
    """
    unit = unit_roundoff(plan)

    def largest(of: Callable[[Trajectory], Array], least: float = 0.0) -> Floats:
        return running_envelope(plan, oracle, members, of, least)

    exact = reference_dtype(plan)
    X_val = data.examples(train=False, dtype=exact)[0]
    y_val = np.asarray(data.y_val, dtype=np.int64)
    ends = [(i, epoch - 1) for epoch, i in plan.epoch_ends.items()]
    spread = np.linspace(len(ends) - 1, 0, min(metric_epochs, len(ends))).astype(int)
    ends = [ends[place] for place in spread]

    def outcome(member: Trajectory) -> tuple[float, float, float]:
        """A member's errors of the logits, of the forward pass alone, and of the mean losses."""
        # One product for all epochs: several times as fast as one for each.
        places = [-1, *(i for i, _ in ends)]
        side_by_side = np.hstack([W.astype(exact) for W in member.parameters["W"][places]])
        products = np.split(X_val @ side_by_side, len(places), axis=1)
        from_parameters = products[0] + member.parameters["b"][-1]
        if not np.isfinite(from_parameters).all():
            return 0.0, 0.0, 0.0
        metric = 0.0
        for (i, epoch), product in zip(ends, products[1:], strict=True):
            exact_loss = losses_from_logits(product + member.parameters["b"][i], y_val)[0].mean()
            error = np.nan_to_num(abs(member.val_loss[epoch] - exact_loss), posinf=0.0)
            metric = max(metric, float(error))
        logits = np.abs(centred(from_parameters - oracle.val_logits)).max()
        return float(logits), float(np.abs(member.val_logits - from_parameters).max()), metric

    least = unit * max(float(np.abs(oracle.val_logits).max()), LEAST)
    logits, forward, metric = zip(*in_threads(outcome, members), strict=True)
    # Logits of n examples that round independently: their mean loss by a √n-th of it.
    of_mean = max(
        unit * max(1.0, float(oracle.val_loss.max())), max(forward) / np.sqrt(len(y_val)), *metric
    )
    return Envelope(
        loss=loss_envelope(plan, oracle, members, pooled_steps=pooled_steps),
        unshared_loss=loss_envelope(plan, oracle, members, pooled_steps=1),
        train_loss=largest(lambda t: epoch_means(t.step_loss, plan), least=1.0),
        # At the first epoch the members' few means may all be near by luck.
        val_loss=np.maximum(largest(lambda t: t.val_loss, least=1.0), of_mean),
        parameters={name: largest(_parameter(name)) for name in oracle.parameters},
        logits=max(least, *logits),
        forward=max(least, *forward),
        metric=of_mean,
        margin=margin_envelope(plan, oracle, members, lambda t: t.margins),
        val_margin=margin_envelope(plan, oracle, members, lambda t: t.val_margins),
    )


def _parameter(name: str) -> Callable[[Trajectory], Array]:
    return lambda trajectory: trajectory.parameters[name]


def running_envelope(
    plan: Plan,
    oracle: Kind,
    members: Sequence[Kind],
    of: Callable[[Kind], Array],
    least: float = 0.0,
    unit: float | None = None,
) -> Floats:
    """The largest error of any member up to each place along the first axis of an array.

    Args:
        plan: what is trained.
        oracle: its reference.
        members: trainings that differ from it by rounding alone.
        of: the array that is compared, shape ``(n, …)``.
        least: the smallest magnitude whose rounding counts.
        unit: half a unit in the last place of one; that of the passes' format if not given.

    Returns:
        Shape ``(n,)``; never below half a unit in the last place.
    """
    unit, exact = plan.recipe.unit if unit is None else unit, of(oracle)
    values = np.maximum(largest_in_each(exact), least)
    errors = [largest_in_each(of(member) - exact) for member in members]
    least_of_all = unit * LEAST  # nothing is divided by zero where a model stays at zero
    floor = np.maximum(unit * values, least_of_all)
    return np.asarray(np.maximum.accumulate(np.maximum(_largest(errors), floor)))


def loss_envelope(
    plan: Plan,
    oracle: Course,
    members: Sequence[Course],
    *,
    pooled_steps: int = POOLED_STEPS,
) -> Floats:
    """The envelope of each step's loss, shape ``(num_steps,)``; see :func:`measure_envelope`."""
    # Losses are sums of logarithms of numbers near one, whose rounding is that of one.
    loss = running_envelope(plan, oracle, members, lambda t: t.step_loss, least=1.0)
    # A few errors of one number tell too little: the first steps share the largest of theirs.
    loss[:pooled_steps] = loss[:pooled_steps].max()
    return loss


def margin_envelope(
    plan: Plan,
    oracle: Trajectory,
    members: Sequence[Trajectory],
    of: Callable[[Trajectory], Floats],
) -> Floats:
    """The envelope of the margins of each step or epoch; see :func:`measure_envelope`."""
    near = of(oracle) < FAR
    exact = np.where(near, of(oracle), 0.0)
    errors = [np.abs(np.where(near, of(member) - exact, 0.0)).max(axis=1) for member in members]
    floor = unit_roundoff(plan) * np.maximum(exact.max(axis=1), LEAST)
    largest = np.maximum(_largest(errors), floor)
    largest[:POOLED_STEPS] = largest[:POOLED_STEPS].max()
    return np.asarray(np.maximum.accumulate(largest))


def _largest(errors: Sequence[Floats]) -> Floats:
    # A member whose plain softmax overflowed has no error to give, only the others have.
    return np.asarray(np.where(np.isfinite(errors), errors, 0.0).max(axis=0))


def unit_roundoff(plan: Plan) -> float:
    """Half the distance from one to the next number of the recipe's dtype."""
    return float(np.finfo(plan.recipe.dtype).eps) / 2


def centred(logits: Array) -> Array:
    """Logits less their mean over the classes: all that the softmax and a prediction can see."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))
