"""What the loop of a training was fed, step by step, against the plan.

Every batch is projected on one vector inside the framework's own loop, from the tensors that it
trains on. A projection tells a row from the others, and costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.training.trainer import Trainer

COUNTS = ("fed/examples", "fed/wrong_rows", "fed/wrong_labels")
"""Of each step how many examples it was fed, and how many of them are not the planned ones."""

PROJECTED = ("fed/projections", "fed/labels")
"""What a program leaves of each example in place of these counts."""

PIECE = 4096
"""Examples that are projected at once."""

ROWS = "fed/rows"
"""The row of each example that was fed, in order; on record only if something is wrong."""


class Feeding:
    """Compares what a trainer was fed with the plan, as the training goes on."""

    def __init__(self, plan: Plan, data: DataModule) -> None:
        self.plan, self.v = plan, plan.direction
        self.targets = data.scaled_targets(data.y_train, plan.recipe.dtype)
        exact, size = [], []
        v = self.v.astype(np.float64)
        for start in range(0, data.num_train, PIECE):  # small: a product's factors are copied
            X = data.scale(data.X_train[start : start + PIECE])
            exact.append(X @ v)
            size.append(np.abs(X) @ np.abs(v))
        self.exact = np.concatenate(exact)
        # The bound of a sum of products in any order: Higham, Accuracy and Stability, 3.5.
        unit = float(np.finfo(plan.recipe.dtype).eps)
        self.bound = (data.num_inputs + 2) * unit * np.concatenate(size)
        self.sorted = np.argsort(self.exact, kind="stable")
        self.counts: list[tuple[int, int, int]] = []
        self.rows: list[Array] = []

    def take(self, trainer: Trainer) -> None:
        """Compare what the trainer kept since the last call."""
        for projections, labels, sizes in trainer.fed:
            self.add(projections, labels, sizes)
        trainer.fed = []

    def add(self, projections: Array, labels: Array, sizes: Array) -> None:
        """Compare some steps more: of all their examples the projections and labels, in order."""
        ends = np.cumsum(sizes)[:-1]
        for step in zip(np.split(projections, ends), np.split(labels, ends), strict=True):
            self._step(*step)

    def _step(self, values: Array, labels: Array) -> None:
        step, n = len(self.counts), len(values)
        planned = self.plan.rows(step) if step < self.plan.num_steps else np.empty(0, np.int32)
        places = min(n, len(planned))
        rows = np.full(n, -1, np.int32)
        rows[:places] = planned[:places]
        expected, received = self.targets[planned[:places]], labels[:places]
        if expected.shape == received.shape:  # every number of a target counts
            other = (received != expected).any(axis=tuple(range(1, expected.ndim)))
        else:
            other = np.ones(places, bool)
        wrong_labels = int(np.count_nonzero(other))
        right = np.zeros(n, bool)
        right[:places] = self._fits(values[:places], planned[:places])
        if not right.all():
            rows[~right] = self._nearest(values[~right])
        wrong = int(np.count_nonzero(~right))
        self.counts.append((n, wrong, wrong_labels + n - places))
        self.rows.append(rows)

    def _fits(self, values: Array, rows: Array) -> Array:
        return np.asarray(np.abs(values - self.exact[rows]) <= self.bound[rows])

    def _nearest(self, values: Array) -> Array:
        after = np.searchsorted(self.exact, values, sorter=self.sorted)
        last = len(self.sorted) - 1
        one, other = self.sorted[np.clip(after - 1, 0, last)], self.sorted[np.clip(after, 0, last)]
        closer = np.abs(values - self.exact[one]) <= np.abs(values - self.exact[other])
        nearest = np.where(closer, one, other)
        return np.where(self._fits(values, nearest), nearest, -1).astype(np.int32)

    def arrays(self) -> dict[str, Array]:
        """What the record holds of it; nothing if the backend does not watch."""
        if not self.counts:
            return {}
        counts = np.array(self.counts, np.int32).T
        found: dict[str, Array] = dict(zip(COUNTS, counts, strict=True))
        planned = self.plan.num_steps == len(self.counts) and not counts[1:].any()
        sizes = [len(self.plan.rows(step)) for step in range(self.plan.num_steps)]
        if not planned or counts[0].tolist() != sizes:
            found[ROWS] = np.concatenate(self.rows)
        return found


def with_counts(plan: Plan, data: DataModule, record: Record) -> Record:
    """The record with counts in place of the projections that a program of its own left.

    These are ``fed/projections`` and ``fed/labels``, each example's in the order of use, and
    ``fed/examples``, the size of each batch; any other record is given back as it is.

    Raises:
        RecordError: if their lengths do not fit each other.
    """
    if not set(PROJECTED) & set(record.arrays):
        return record
    none = np.empty((0, 0))
    arrays = dict(record.arrays)
    projections, labels = (arrays.pop(name, none) for name in PROJECTED)
    sizes = arrays.get(COUNTS[0], none)
    whole = sizes.dtype.kind == labels.dtype.kind == "i" and not (sizes < 0).any()
    if not whole or {projections.shape, labels.shape} != {(int(sizes.sum()),)} or sizes.ndim != 1:
        shapes = f"shapes {projections.shape} and {labels.shape}"
        raise RecordError(", ".join(PROJECTED), f"one number for each of the {COUNTS[0]}", shapes)
    feeding = Feeding(plan, data)
    feeding.add(projections.astype(np.float64), labels, sizes)
    return replace(record, arrays=arrays | feeding.arrays())


def feeding_resolution(plan: Plan) -> float:
    """By what part features may be off without being seen in what a step was fed.

    The bound of a projection's rounding over the projection, which is a sum of numbers of either
    sign: of n equal ones about the root of n times smaller than their magnitudes' sum.
    """
    n = len(plan.W)
    return float((n + 2) * np.finfo(plan.recipe.dtype).eps * np.sqrt(n))


def check_feeding(plan: Plan, arrays: Mapping[str, Array]) -> None:
    """Look at what a record says of its feeding: all of it, or nothing.

    Raises:
        RecordError: if an array is missing, or has not a whole number for each step or example.
    """
    found = {name: arrays[name] for name in (*COUNTS, ROWS) if name in arrays}
    if not found:
        return
    for name in COUNTS:
        steps = found[next(iter(found))].shape[:1]
        values = _whole_numbers(found, name, steps, f"whole numbers of shape {steps}")
        if (values < 0).any():
            raise RecordError(name, f"whole numbers of shape {steps}", steps)
    examples, *wrong = (found[name] for name in COUNTS)
    sizes = [len(plan.rows(step)) for step in range(plan.num_steps)]
    planned = examples.tolist() == sizes and not any(values.any() for values in wrong)
    if not planned or ROWS in found:
        shape = (int(examples.sum()),)
        _whole_numbers(found, ROWS, shape, f"the row of each example that was fed, shape {shape}")


def _whole_numbers(
    found: Mapping[str, Array], name: str, shape: tuple[int, ...], expected: str
) -> Array:
    values = found.get(name)
    if values is None or values.shape != shape or values.dtype.kind != "i":
        raise RecordError(name, expected, None if values is None else values.shape)
    return values


def first_wrong_batch(plan: Plan, arrays: Mapping[str, Array]) -> tuple[int, int, str] | None:
    """The first step that was not fed what the plan says: its number, of how many examples, words.

    None if there is none, or nothing is on record.
    """
    if ROWS not in arrays:
        return None
    examples, wrong_rows, wrong_labels = (arrays[name] for name in COUNTS)
    fed = np.split(arrays[ROWS], np.cumsum(examples)[:-1])
    for step in range(max(len(fed), plan.num_steps)):
        epoch, place = divmod(step, plan.steps_per_epoch)
        where = f"batch {place + 1} of epoch {epoch + 1}"
        if step >= plan.num_steps:
            return step, len(fed[step]), f"{where}: the plan has no such epoch"
        planned = plan.rows(step)
        if step >= len(fed):
            return step, len(planned), f"{where}: batch dropped, training ended before it"
        rows, n = fed[step], len(fed[step])
        same = n == len(planned)
        other = int(np.count_nonzero(rows != planned)) if same else abs(n - len(planned))
        if count := max(int(wrong_rows[step]), other):
            return step, count, f"{where}: {_seen(plan, step, rows, planned, count)}"
        if count := int(wrong_labels[step]):
            kept = next((a for name, a in arrays.items() if name.endswith("/data/y")), rows)
            what = "targets" if kept.dtype.kind == "f" else "labels"
            return step, count, f"{where}: {count} of {n} {what} are not those of their examples"
    return None


def _seen(plan: Plan, step: int, rows: Array, planned: Array, count: int) -> str:
    """What a step was fed in place of the planned rows."""
    epoch = step // plan.steps_per_epoch
    if step + 1 < plan.num_steps and np.array_equal(rows, plan.rows(step + 1)):
        return "batch dropped, the next one is in its place"
    if step and np.array_equal(rows, plan.rows(step - 1)):
        return "the batch before it again"
    if epoch and np.array_equal(rows, plan.rows(step - plan.steps_per_epoch)):
        return f"the order of epoch {epoch} again"
    if len(rows) != len(planned):
        padded = len(rows) > len(planned) and np.array_equal(rows[: len(planned)], planned)
        return f"{len(rows)} examples, the plan has {len(planned)}{' (padded)' * padded}"
    if np.array_equal(np.sort(rows), np.sort(planned)):
        return "the planned examples in another order"
    unknown = int(np.count_nonzero(rows == -1))
    words = f"{count} of {len(rows)} examples are not the planned ones"
    return f"{words}, {unknown} of them none of the data" if unknown else words
