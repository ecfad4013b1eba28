"""Faults of feeding: the loop of a trainer is fed other examples than it was told to use.

Everything before the loop is right: the data, their hash, the order that the trainer was given.
Needs NumPy and the standard library only: workers import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np

from framework_parity.benchmarks.planting import Fault, Planter, Setup, at, since, with_changes
from framework_parity.common.core.arrays import Array, aligned
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.trainer import EpochMetrics

FAMILY = "feeding"
LATER = 46
"""The first step of the third epoch of the plans with digits."""


def orders(change: Callable[[Plan, Rows, int, Any], Rows]) -> Planter:
    """Other rows: ``change(plan, rows, step, size)`` gives those that a step is fed."""

    def planter(setup: Setup, size: Any) -> Setup:
        plan = setup.plan

        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def fit_epoch(self, order: Rows) -> EpochMetrics:
                length = self.batch_size
                batches = [order[i : i + length] for i in range(0, len(order), length)]
                fed = [change(plan, rows, self.step + i, size) for i, rows in enumerate(batches)]
                return super().fit_epoch(np.concatenate(fed).astype(order.dtype))

        return with_changes(setup, Trainer=Faulty)

    return planter


def examples(change: Callable[[Array, Array, Any], None], when: Callable[[int], bool]) -> Planter:
    """Other examples: ``change(X, y, size)`` alters copies, used at the steps ``when`` says."""

    def planter(setup: Setup, size: Any) -> Setup:
        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def fit_epoch(self, order: Rows) -> EpochMetrics:
                X, y = self.data.examples(train=True, dtype=setup.plan.recipe.dtype)
                wrong = X.copy(), y.copy()
                change(*wrong, size)
                batch, metrics = self.batch_size, []
                steps = range(-(-len(order) // batch))
                for is_wrong, group in groupby(steps, key=lambda i: when(self.step + i)):
                    places = list(group)
                    self.place(*map(aligned, wrong if is_wrong else (X.copy(), y.copy())))
                    part = order[places[0] * batch : (places[-1] + 1) * batch]
                    metrics.append(super().fit_epoch(part))
                self.place(aligned(X.copy()), aligned(y.copy()))
                return EpochMetrics(*map(np.concatenate, zip(*metrics, strict=True)))

        return with_changes(setup, Trainer=Faulty)

    return planter


# Other rows


def batch_repeated(plan: Plan, rows: Rows, step: int, every: int) -> Rows:
    """Feed a batch twice, and the one after it not at all."""
    again = plan.rows(step - 1) if step % every == every - 1 else rows
    return again if len(again) == len(rows) else rows


def rows_swapped(plan: Plan, rows: Rows, step: int, at: int) -> Rows:
    """Swap an example of one batch with one of the next."""
    if step == at:
        return np.append(rows[:-1], plan.rows(at + 1)[:1])
    return np.append(plan.rows(at)[-1:], rows[1:]) if step == at + 1 else rows


def lagged(plan: Plan, rows: Rows, step: int, by: int) -> Rows:
    """Feed the batch of an earlier epoch."""
    return plan.rows(
        step % plan.steps_per_epoch + plan.steps_per_epoch * max(0, epoch(plan, step) - by)
    )


def prefetched(plan: Plan, rows: Rows, step: int, _: None) -> Rows:
    """Feed the batch before, as a buffer that is one behind."""
    found = plan.rows(max(0, step - 1))
    return found if len(found) == len(rows) else rows


def in_order(plan: Plan, rows: Rows, step: int, since: int) -> Rows:
    """Do not shuffle, from an epoch on."""
    return (
        slice_of(plan, np.arange(plan.order.shape[1]), step) if epoch(plan, step) >= since else rows
    )


def padded(plan: Plan, rows: Rows, step: int, _: None) -> Rows:
    """Fill the short last batch up with the epoch's first examples."""
    missing = plan.recipe.batch_size - len(rows)
    return np.append(rows, plan.order[epoch(plan, step)][:missing])


def epoch(plan: Plan, step: int) -> int:
    """The epoch of a step."""
    return step // plan.steps_per_epoch


def slice_of(plan: Plan, order: Array, step: int) -> Rows:
    """The rows of a step in an epoch's order."""
    start = step % plan.steps_per_epoch * plan.recipe.batch_size
    return order[start : start + plan.recipe.batch_size]


# Other examples


def rolled(X: Array, y: Array, by: int) -> None:
    """Give each example the label of another."""
    y[:] = np.roll(y, by)


def dimmed(X: Array, y: Array, factor: float) -> None:
    """Scale the features."""
    X *= X.dtype.type(factor)


def noisy(X: Array, y: Array, sigma: float) -> None:
    """Add noise to the features."""
    X += (sigma * np.random.default_rng(1).standard_normal(X.shape)).astype(X.dtype)


def mirrored(X: Array, y: Array, _: None) -> None:
    """Reverse the features."""
    X[:] = X[:, ::-1].copy()


def merged(X: Array, y: Array, _: None) -> None:
    """Take one class for another."""
    y[y == 3] = 8


def fault(name: str, *sizes: Any, causes: tuple[str, ...] = ()) -> Fault:
    """A fault of this family."""
    return Fault(name, sizes, ("data",), "other examples", family=FAMILY, causes=causes)


LABELS = ("wrong labels", "permuted classes")
AS_FED = "order as it was fed"
"""What is right of every fault of the order: all else is as planned."""
FAULTS: dict[Fault, Planter] = {
    fault("a batch fed twice", 6, 20, causes=(AS_FED,)): orders(batch_repeated),
    fault("two rows swapped", 5, 60, causes=(AS_FED,)): orders(rows_swapped),
    fault("order lagged by an epoch", 1, causes=("order reused", AS_FED)): orders(lagged),
    fault("prefetched batch one behind", None, causes=(AS_FED,)): orders(prefetched),
    fault("order rotated", 1, 640, causes=(AS_FED,)): orders(
        lambda plan, rows, step, by: slice_of(
            plan, np.roll(plan.order[epoch(plan, step)], by), step
        )
    ),
    fault("order reversed", None, causes=(AS_FED,)): orders(
        lambda plan, rows, step, _: slice_of(plan, plan.order[epoch(plan, step)][::-1], step)
    ),
    fault("not shuffled", 0, 2, causes=("batches shuffled", AS_FED)): orders(in_order),
    fault("short batch padded", None, causes=(AS_FED,)): orders(padded),
    fault("drawn with replacement", None, causes=(AS_FED,)): orders(
        lambda plan, rows, step, _: np.random.default_rng(step).choice(rows, len(rows))
    ),
    fault("examples never used", 1, 30, causes=(AS_FED,)): orders(
        lambda plan, rows, step, count: np.where(rows < count, rows + count, rows)
    ),
    fault("labels rolled against features", 1): examples(rolled, since(0)),
    fault("labels rolled from the third epoch on", 1): examples(rolled, since(LATER)),
    fault("labels rolled at one step", 1): examples(rolled, at(30)),
    fault("features scaled at one step", 0.5): examples(dimmed, at(7)),
    fault("features scaled from the third epoch on", 255 / 256): examples(dimmed, since(LATER)),
    fault("noise added to features", 1e-3): examples(noisy, since(0)),
    fault("features mirrored now and then", None): examples(mirrored, lambda step: step % 9 == 8),
    fault("a class taken for another", None, causes=LABELS): examples(merged, since(0)),
}
"""What is planted, and how."""
