"""Faults of metrics: the training is right, what is reported of it is not.

Needs NumPy and the standard library only: workers import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework_parity.benchmarks.planting import Fault, Planter, Setup, with_changes
from framework_parity.common.core.arrays import Array
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.trainer import EpochMetrics

FAMILY = "metrics"
Pair = tuple[float, float]


def reports(change: Callable[[Any, float, float, Any], Pair]) -> Planter:
    """Other validation metrics: ``change(trainer, loss, accuracy, size)``."""

    def planter(setup: Setup, size: Any) -> Setup:
        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def evaluate_accuracy_and_loss(self) -> Pair:
                return change(self, *super().evaluate_accuracy_and_loss(), size)

        return with_changes(setup, Trainer=Faulty)

    return planter


def evaluated(batches: Callable[[Any, Any], list[tuple[Any, Any]]]) -> Planter:
    """Validation metrics of other examples: ``batches(trainer, size)``, weighted by their sizes."""

    def planter(setup: Setup, size: Any) -> Setup:
        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def evaluate_accuracy_and_loss(self) -> Pair:
                sums = np.zeros(3)
                for X, y in batches(self, size):
                    sums += len(y) * np.array([*self.evaluate(X, y), 1.0])
                return float(sums[0] / sums[2]), float(sums[1] / sums[2])

        return with_changes(setup, Trainer=Faulty)

    return planter


def steps(change: Callable[[Any, EpochMetrics, Rows], EpochMetrics]) -> Planter:
    """Other metrics of steps: ``change(trainer, metrics, order)``."""

    def planter(setup: Setup, _: Any) -> Setup:
        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def fit_epoch(self, order: Rows) -> EpochMetrics:
                return change(self, super().fit_epoch(order), order)

        return with_changes(setup, Trainer=Faulty)

    return planter


def histories(change: Callable[[Any], None]) -> Planter:
    """Another history: ``change(trainer)`` alters its last entries."""

    def planter(setup: Setup, _: Any) -> Setup:
        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def _fit_segments(self, order: Rows) -> None:
                super()._fit_segments(order)
                change(self)

        return with_changes(setup, Trainer=Faulty)

    return planter


def predictions(change: Callable[[Array, Any], Array]) -> Planter:
    """Other values of ``predict``."""

    def planter(setup: Setup, size: Any) -> Setup:
        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def predict(self, X: Any) -> Array:
                found = super().predict(X)
                return np.asarray(change(np.array(found), size)).astype(found.dtype)

        return with_changes(setup, Trainer=Faulty)

    return planter


# Of the validation


def smoothed(trainer: Any, loss: float, accuracy: float, part: float) -> Pair:
    """A running mean over the epochs."""
    if trainer.history["val_loss"]:
        loss = part * trainer.history["val_loss"][-1] + (1 - part) * loss
    return loss, accuracy


def late(trainer: Any, loss: float, accuracy: float, since: int) -> Pair:
    """What the epoch before said, from an epoch on."""
    history = trainer.history
    stale = len(history["val_loss"]) >= since
    return (history["val_loss"][-1], history["val_accuracy"][-1]) if stale else (loss, accuracy)


def without_last(trainer: Any, count: int) -> list[tuple[Any, Any]]:
    """All validation examples but the last ones."""
    return [
        (X[: len(y) - count], y[: len(y) - count]) for X, y in trainer.validation_batches(10**6)
    ]


def full_batches(trainer: Any, _: None) -> list[tuple[Any, Any]]:
    """Full batches only."""
    size = trainer.batch_size
    return [(X, y) for X, y in trainer.validation_batches(size) if len(y) == size]


# Of the steps


def one_late(trainer: Any, metrics: EpochMetrics, order: Rows) -> EpochMetrics:
    """Each step reports the step before."""
    last = vars(trainer).get("last_reported", (metrics.loss[0], metrics.accuracy[0]))
    trainer.last_reported = metrics.loss[-1], metrics.accuracy[-1]
    return EpochMetrics(
        *(np.append(first, of[:-1]) for first, of in zip(last, metrics, strict=True))
    )


def running_means(trainer: Any, metrics: EpochMetrics, order: Rows) -> EpochMetrics:
    """Each step reports the mean since the epoch began."""
    if trainer.step % trainer.num_train_batches == 0:
        trainer.seen = [np.empty(0), np.empty(0)]
    trainer.seen = [np.append(seen, new) for seen, new in zip(trainer.seen, metrics, strict=True)]
    found = [np.cumsum(seen) / np.arange(1, len(seen) + 1) for seen in trainer.seen]
    return EpochMetrics(*(means[-len(metrics.loss) :] for means in found))


def accuracy_of_next(trainer: Any, metrics: EpochMetrics, order: Rows) -> EpochMetrics:
    """The accuracy after each update, on its own batch, as far as the last one says."""
    return EpochMetrics(metrics.loss, np.append(metrics.accuracy[1:], metrics.accuracy[-1:]))


def sums(trainer: Any, metrics: EpochMetrics, order: Rows) -> EpochMetrics:
    """Sums over the batch."""
    return EpochMetrics(metrics.loss * trainer.batch_size, metrics.accuracy)


def mean_of_batches(trainer: Any) -> None:
    """An epoch's metrics as means over batches, of which the last one is short."""
    count = trainer.num_train_batches
    trainer.history["train_loss"][-1] = float(trainer.step_loss[-count:].mean())
    trainer.history["train_accuracy"][-1] = float(trainer.step_accuracy[-count:].mean())


def last_batch(trainer: Any) -> None:
    """An epoch's metrics of its last batch."""
    trainer.history["train_loss"][-1] = float(trainer.step_loss[-1])
    trainer.history["train_accuracy"][-1] = float(trainer.step_accuracy[-1])


def fault(name: str, *sizes: Any, stages: tuple[str, ...] = ("metric",), **facts: Any) -> Fault:
    """A fault of this family."""
    return Fault(name, sizes, stages, "the training is right", family=FAMILY, **facts)


STEPS = ("loss", "metric")
"""A step's own loss and accuracy have stages of their own."""
OUTPUT = ("metric", "forward")
AVERAGED = ("metric averaged over batches",)
FAULTS: dict[Fault, Planter] = {
    fault("loss in bits", None): reports(
        lambda t, loss, accuracy, _: (loss / float(np.log(2)), accuracy)
    ),
    fault("metrics of few digits", 3): reports(
        lambda t, loss, accuracy, digits: (round(loss, digits), round(accuracy, digits))
    ),
    fault("errors for accuracy", None): reports(lambda t, loss, accuracy, _: (loss, 1 - accuracy)),
    fault("accuracy in percent", None): reports(
        lambda t, loss, accuracy, _: (loss, 100 * accuracy)
    ),
    fault("accuracy of the training", None, causes=("metric on the training data",)): reports(
        lambda t, loss, accuracy, _: (loss, t.history["train_accuracy"][-1])
    ),
    fault("loss of the training", None): reports(
        lambda t, loss, accuracy, _: (t.history["train_loss"][-1], accuracy)
    ),
    fault("running mean over epochs", 0.1): reports(smoothed),
    fault("stale metrics from an epoch on", 3): reports(late),
    fault("last examples not validated", 1, 20): evaluated(without_last),
    fault("full batches validated only", None): evaluated(full_batches),
    fault("steps report the step before", None, stages=STEPS): steps(one_late),
    fault("steps report running means", None, stages=STEPS): steps(running_means),
    fault("accuracy after the update", None, stages=STEPS): steps(accuracy_of_next),
    fault("losses of steps summed", None, stages=STEPS): steps(sums),
    fault("training metrics averaged over batches", None, causes=AVERAGED): histories(
        mean_of_batches
    ),
    fault("training metrics of the last batch", None): histories(last_batch),
    fault("predictions shifted", 1.0, stages=OUTPUT): predictions(lambda v, size: v + size),
    fault("predictions scaled", 1.001, stages=OUTPUT): predictions(lambda v, size: v * size),
    fault("predictions of other examples", 1, stages=OUTPUT): predictions(
        lambda v, by: np.roll(v, by, axis=0)
    ),
}
"""What is planted, and how."""
