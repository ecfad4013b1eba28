"""Replays of a plan in NumPy: softmax regression whose every stage can be looked at and replaced.

With softmax o = exp(z) / Σ exp(z) of the logits z = XW + b, the mean cross-entropy of n examples
has the gradient ∂L/∂z = (o − one_hot(y)) / n, hence ∂L/∂W = Xᵀ ∂L/∂z and ∂L/∂b = Σ ∂L/∂z
(*Dive into Deep Learning*, section 4.1.2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import batch_sizes

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int32]

WORST = 1e99
"""What stands for an infinite error or number of envelopes, because JSON has no infinity."""

NEAREST = 64
"""How many examples of a batch have their margins kept: those that are nearest to a tie."""

FAR = 1e30
"""The margin of what is never near a tie: what a short batch lacks, or the only class."""

Form = Callable[..., tuple[Array, Array, Array]]
"""From logits and labels to the loss of each example, the probabilities, and ∂(its loss)/∂logits;
a third argument is the order in which :func:`sum_of_classes` adds up."""

Order = npt.NDArray[np.intp]


def sum_of_classes(exp: Array, order: Order | None) -> Array:
    """The sum of each row, shape ``(n, 1)``: one class after the other, or as NumPy adds."""
    if order is None:
        return np.asarray(exp.sum(axis=1, keepdims=True))
    return np.asarray(exp[:, order].cumsum(axis=1)[:, -1:])


def losses_from_logits(
    logits: Array, y: Array, order: Order | None = None
) -> tuple[Array, Array, Array]:
    """Losses logsumexp(z) − z_y and the probabilities of the stable softmax."""
    largest = logits.max(axis=1, keepdims=True)
    exp = np.exp(logits - largest)
    total = sum_of_classes(exp, order)
    losses = (largest + np.log(total))[:, 0] - logits[np.arange(len(y)), y]
    probabilities = exp / total
    return losses, probabilities, less_labels(probabilities, y)


def losses_from_log_softmax(
    logits: Array, y: Array, order: Order | None = None
) -> tuple[Array, Array, Array]:
    """Losses by indexing the logarithms of the softmax, whose exponentials the gradient takes."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(sum_of_classes(np.exp(shifted), order))
    probabilities = np.exp(log_softmax)
    return -log_softmax[np.arange(len(y)), y], probabilities, less_labels(probabilities, y)


def less_labels(probabilities: Array, y: Array) -> Array:
    """∂(loss)/∂logits as it is derived by hand: the probabilities less the one-hot labels."""
    error = probabilities.copy()
    error[np.arange(len(y)), y] -= 1
    return error


def losses_from_probabilities(
    logits: Array, y: Array, order: Order | None = None
) -> tuple[Array, Array, Array]:
    """Losses by indexing the plain softmax p, differentiated as one function: p ⊙ (g − Σ g ⊙ p).

    With g = ∂(−log p_y)/∂p it is p − one_hot(y), but not as precise where p_y is near one.
    """
    exp = np.exp(logits)
    probabilities = exp / sum_of_classes(exp, order)
    rows = np.arange(len(y))
    chosen = probabilities[rows, y]
    by_chosen = -1 / chosen
    total = by_chosen * chosen
    error = probabilities * -total[:, None]
    error[rows, y] = chosen * (by_chosen - total)
    return -np.log(whole_digits(chosen)), probabilities, error


def losses_from_quotients(
    logits: Array, y: Array, order: Order | None = None
) -> tuple[Array, Array, Array]:
    """The same losses, differentiated one operation after the other: exp(z) times r = 1 / Σ exp(z).

    As automatic differentiation goes: the mean over the n examples is the first that is
    differentiated, and a label's two terms are multiplied and added in one rounding, as
    processors do and compilers ask them to.
    """
    exp = np.exp(logits)
    reciprocal = 1 / sum_of_classes(exp, order)
    probabilities = exp * reciprocal
    rows, n = np.arange(len(y)), logits.dtype.type(len(y))
    chosen, own, reciprocal = probabilities[rows, y], exp[rows, y], reciprocal[:, 0]
    by_chosen = -1 / chosen / n
    by_total = -by_chosen * own * reciprocal * reciprocal
    error = exp * by_total[:, None]
    error[rows, y] = own.astype(np.longdouble) * by_total + own * (by_chosen * reciprocal)
    return -np.log(whole_digits(chosen)), probabilities, error * n


def whole_digits(probabilities: Array) -> Array:
    """Probabilities; those below the smallest normal number, which lost digits, are no numbers."""
    normal = probabilities >= np.finfo(probabilities.dtype).smallest_normal
    return np.where(normal, probabilities, np.nan)


PLAIN_FORMS: tuple[Form, ...] = (losses_from_probabilities, losses_from_quotients)
"""Those of the plain softmax, which may overflow."""

FORMS = (
    losses_from_logits,
    losses_from_probabilities,
    losses_from_log_softmax,
    losses_from_quotients,
)
"""The usual ways to write the same loss and its gradient: equal but for rounding."""


def nearest_margins(logits: Array, y: Array, size: int) -> Floats:
    """How far the examples of a batch are from another answer, right or wrong: the nearest.

    Args:
        logits: shape ``(n, num_outputs)``.
        y: their classes.
        size: of a whole batch.

    Returns:
        The smallest distances of a label's logit from the largest of the others, in order, shape
        ``(min(size, NEAREST),)``.
    """
    others = logits.astype(np.float64)
    rows = np.arange(len(y))
    own = others[rows, y]
    others[rows, y] = -np.inf
    margins = np.full(max(size, len(y)), FAR)
    margins[: len(y)] = np.minimum(np.abs(own - others.max(axis=1)), FAR)
    return np.sort(margins)[: min(size, NEAREST)]


AT_ONCE = 2**18
"""Numbers of the partial products that are kept at once: as many as a processor's cache holds."""


def block_product(A: Array, B: Array, block: int, start: Array | None = None) -> Array:
    """The matrix product, added up in blocks of so many, one block after the other.

    Args:
        A: the left factor.
        B: the right one.
        block: how many products are added up at once.
        start: what the sum begins with, a row of the result; zero if not given.

    Several partial products are computed by one call, and their sum is taken along the first
    axis, where NumPy adds one after the other: bit for bit what a loop over the blocks gives.
    """
    size, length = len(A) * B.shape[1], len(B)
    # Single numbers NumPy would add pairwise.
    count = length // block if 1 < size <= AT_ONCE // 2 else 0
    left = A[:, : count * block].reshape(len(A), count, block).transpose(1, 0, 2)
    right = B[: count * block].reshape(count, block, B.shape[1])
    total = None if start is None else np.tile(start, (len(A), 1))
    for first in range(0, count, max(1, AT_ONCE // size)):
        group = slice(first, first + AT_ONCE // size)
        products = left[group] @ right[group]
        if total is not None:
            products[0] += total
        total = np.add.reduce(products, axis=0)
    for first in range(count * block, length, block):
        product = A[:, first : first + block] @ B[first : first + block]
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None
    return np.asarray(total)


class Step(NamedTuple):
    """Every stage of one step, before its update.

    ``losses`` and ``loss`` are those that training reports.
    """

    X: Array
    y: Array
    logits: Array
    probabilities: Array
    losses: Array
    loss: float
    accuracy: float
    gradient_W: Array
    gradient_b: Array


class Training:
    """One training of a plan; a subclass changes one thing by overriding one method.

    Args:
        plan: what to train.
        data: its examples.
        dtype: floating-point type of everything.
        features: a permutation of the features, shape ``(num_inputs,)``: the same numbers are
            added up in another order.
        shuffle: permutes the examples inside each batch, to the same end.
        form: which of :data:`FORMS` computes losses and probabilities.
        block: add up products in blocks of so many, one block after the other, and means one
            number after the other; None leaves both to NumPy, which adds pairwise.
        class_order: in which the softmax's sum is added up, one class after the other;
            None leaves it to NumPy.
    """

    def __init__(
        self,
        plan: Plan,
        data: DataModule,
        dtype: str = "float64",
        features: Order | None = None,
        shuffle: np.random.Generator | None = None,
        form: Form = losses_from_logits,
        block: int | None = None,
        class_order: Order | None = None,
    ) -> None:
        self.plan, self.data, self.dtype = plan, data, dtype
        self.features, self.shuffle, self.form, self.block = features, shuffle, form, block
        self.class_order = class_order
        self.lr = np.dtype(dtype).type(plan.recipe.lr)
        self.stored: Array | None = None
        self.velocity: tuple[Array, Array] | None = None  # of a training with momentum
        self.labels = np.asarray(data.y_train, dtype=np.int64)

    # The stages of a step

    def initial(self) -> tuple[Array, Array]:
        """Copies of the initial weights and biases, features in this training's order."""
        W, b = np.array(self.plan.W, self.dtype), np.array(self.plan.b, self.dtype)
        return self.permuted(W), b

    def rows(self, epoch: int) -> Iterable[Rows]:
        """The rows of each batch of an epoch."""
        return self.plan.batches(epoch)

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        """A batch: scaled features and labels."""
        X = self.data.stored_rows(rows) if self.stored is None else self.stored[rows]
        return self.scaled(self.reordered(X) if self.stored is None else X), self.labels[rows]

    def change(self, X: Array) -> Array:
        """What a training makes of its scaled features; the plan's leaves them as they are."""
        return X

    def logits(self, X: Array, W: Array, b: Array) -> Array:
        """The forward pass; in blocks the sum begins with the bias, as it does in some layers."""
        if self.block is None:
            return self.product(X, W) + b
        return block_product(X, W, self.block, start=b)

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        """The loss of each example, the probabilities, and ∂(its loss)/∂logits."""
        return self.form(logits, y, self.class_order)

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        """The loss of the batch, a scalar, and its derivative by the logits."""
        return self.mean(losses), error / error.dtype.type(len(error))

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        """Gradients of the batch's loss by W and b."""
        return self.product(X.T, error), error.sum(axis=0)

    def reset(self) -> None:
        """Forget what one step leaves to the next; plain SGD leaves nothing."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        """Change the parameters in place."""
        W -= self.lr * gradient_W
        b -= self.lr * gradient_b

    # Their composition

    def step(self, W: Array, b: Array, rows: Rows) -> Step:
        """All stages of one step from given parameters, without the update."""
        if self.shuffle is not None:
            rows = self.shuffle.permutation(rows)
        return self.step_of(W, b, *self.examples(rows))

    def step_of(self, W: Array, b: Array, X: Array, y: Array) -> Step:
        """All stages of one step on a given batch."""
        logits = self.logits(X, W, b)
        losses, probabilities, error = self.losses(logits, y)
        loss, error = self.reduce(losses, error)
        accuracy = float(np.mean(logits.argmax(axis=1) == y))
        return Step(
            X, y, logits, probabilities, losses, float(loss), accuracy, *self.gradients(X, error)
        )

    def steps(self) -> Iterator[tuple[Step, Array, Array]]:
        """Train: each step with the weights and biases after it, which go on changing."""
        if self.features is not None and self.stored is None and not self.data.is_large:
            # Stored features are permuted once; a batch is scaled when it is gathered, which
            # keeps the working set at a byte a pixel.
            self.stored = self.reordered(self.data.X_train)
        W, b = self.initial()
        self.reset()
        for epoch in range(self.plan.recipe.max_epochs):
            for rows in self.rows(epoch):
                step = self.step(W, b, rows)
                self.update(W, b, step.gradient_W, step.gradient_b)
                yield step, W, b

    def run(self, tell: Callable[[int], None] = lambda _: None) -> Trajectory:
        """Train to the end and keep what a judge needs.

        Args:
            tell: called after every epoch with their number so far.
        """
        plan = self.plan
        snapshots, probes = set(plan.snapshots), set(plan.probes)
        X_val = self.scaled(self.reordered(self.data.X_val))
        y_val = np.asarray(self.data.y_val, dtype=np.int64)
        losses, accuracies, validation, logits = [], [], [], np.empty(0)
        margins: list[Floats] = []
        val_margins: list[Floats] = []
        kept: list[tuple[Array, Array]] = []
        states = [self.initial()]  # before step 0, which every plan probes
        for done, (step, W, b) in enumerate(self.steps(), 1):
            losses.append(step.loss)
            accuracies.append(step.accuracy)
            margins.append(nearest_margins(step.logits, step.y, plan.recipe.batch_size))
            if done in snapshots:
                kept.append((self.unpermuted(W), b.copy()))
            if done in probes:
                states.append((W.copy(), b.copy()))
            if done % plan.steps_per_epoch == 0:
                logits = self.logits(X_val, W, b)
                val_losses, _, _ = self.losses(logits, y_val)
                if self.shuffle is not None:
                    val_losses = self.shuffle.permutation(val_losses)
                accuracy = np.mean(logits.argmax(axis=1) == y_val)
                validation.append((float(self.mean(val_losses)), float(accuracy)))
                val_margins.append(nearest_margins(logits, y_val, len(y_val)))
                tell(done // plan.steps_per_epoch)
        val_loss, val_accuracy = np.array(validation).T
        arrays = {
            "step_loss": np.array(losses),
            "step_accuracy": np.array(accuracies),
            "margins": np.stack(margins),
            "val_margins": np.stack(val_margins),
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
            "val_logits": logits,
        }
        before = [(self.unpermuted(W), b) for W, b in states]
        return Trajectory(
            **{name: _at_most_float64(array) for name, array in arrays.items()},
            parameters={n: _at_most_float64(array) for n, array in stacked(kept).items()},
            probed={n: array.astype(plan.recipe.dtype) for n, array in stacked(before).items()},
        )

    def stages(self, parameters: Parameters, rows: Rows) -> dict[str, Array]:
        """One step from given parameters as :meth:`trainer.Trainer.probe` shows it.

        ``forward/logits`` and ``forward/probabilities`` stand for ``forward/y_hat``, which is
        one or the other; ``update/NAME`` is the change of the parameter.
        """
        W, b = (parameters[name].astype(self.dtype) for name in ("W", "b"))
        W = self.permuted(W)
        self.reset()
        step = self.step(W, b, rows)
        W_after, b_after = W.copy(), b.copy()
        self.update(W_after, b_after, step.gradient_W, step.gradient_b)
        return {
            "forward/logits": step.logits,
            "forward/probabilities": step.probabilities,
            "example_loss": step.losses,
            "loss": np.array(step.loss),
            "gradient/W": self.unpermuted(step.gradient_W),
            "gradient/b": step.gradient_b,
            "update/W": self.unpermuted(_difference(W_after, W)),
            "update/b": _difference(b_after, b),
            "metric/accuracy": np.array(step.accuracy),
        }

    # Small helpers

    def product(self, A: Array, B: Array) -> Array:
        """The matrix product, added up as this training does."""
        if self.block is None:
            return np.asarray(A @ B)
        return block_product(A, B, self.block)

    def mean(self, values: Array) -> Array:
        """The mean of a vector, added up as this training does."""
        if self.block is None:
            return np.asarray(values.mean())
        return np.asarray(np.cumsum(values)[-1] / values.dtype.type(len(values)))

    def reordered(self, X: Array) -> Array:
        """Features in this training's order."""
        return X if self.features is None else X.take(self.features, axis=1)

    def scaled(self, X: Array) -> Array:
        """Stored features in floating point."""
        return self.data.scale(X).astype(self.dtype, copy=False)

    def permuted(self, W: Array) -> Array:
        """A copy of weights with the features in this training's order."""
        return W.copy() if self.features is None else W[self.features]

    def unpermuted(self, W: Array) -> Array:
        """A copy of weights with the features in the data's order."""
        if self.features is None:
            return W.copy()
        original = np.empty_like(W)
        original[self.features] = W
        return original


def stacked(states: Sequence[tuple[Array, Array]]) -> Parameters:
    """Weights and biases of several steps, one behind another, by their names."""
    return {
        name: np.stack(values) for name, values in zip("Wb", zip(*states, strict=True), strict=True)
    }


def difference(received: Array, expected: Array) -> float:
    """The largest difference of two arrays; :data:`WORST` if their shapes differ."""
    if received.shape != expected.shape:
        return WORST
    return float(np.abs(received.astype(np.float64) - expected).max())


def _difference(after: Array, before: Array) -> Array:
    """What was added to a parameter, without a rounding of its own."""
    exact = np.promote_types(after.dtype, np.float64)
    return np.asarray(after.astype(exact) - before)


def _at_most_float64(array: Array) -> Array:
    """Numbers that a file holds on every machine."""
    return array.astype(np.float64) if array.dtype.itemsize > 8 else array


def reference_dtype(plan: Plan) -> str:
    """The type that the reference computes in: more digits than the plan's, where NumPy has them.

    A reference in the plan's own type would round as the runs do, and lend them its own errors.
    """
    return "longdouble" if plan.recipe.dtype == "float64" else "float64"


KEPT, PROBED = "parameters/", "probe_"
"""What the names of a trajectory's parameters begin with in its record."""


@dataclass(frozen=True)
class Course:
    """What one training of any model leaves.

    Args:
        step_loss: mean loss of each step, before its update, shape ``(num_steps,)``.
        step_accuracy: likewise the accuracy.
        parameters: each by its name at the points on record, shape ``(s, …)``.
        val_loss: mean validation loss after each epoch, shape ``(max_epochs,)``.
        val_accuracy: likewise the accuracy.
        val_logits: what ``forward`` gives for the validation examples at the end.
    """

    step_loss: Floats
    step_accuracy: Floats
    parameters: Parameters
    val_loss: Floats
    val_accuracy: Floats
    val_logits: Array


@dataclass(frozen=True)
class Trajectory(Course):
    """What one training of softmax regression leaves.

    Args:
        margins: of each step's examples those nearest to a tie, see :func:`nearest_margins`.
        val_margins: likewise of the validation examples after each epoch.
        probed: each parameter before every one of the plan's probed steps, in the recipe's dtype.
    """

    margins: Floats
    val_margins: Floats
    probed: Parameters

    def before(self, place: int) -> Parameters:
        """The parameters before one of the probed steps, given by its place among them."""
        return {name: values[place] for name, values in self.probed.items()}

    def record(self) -> Record:
        """The record that holds it."""
        arrays = {
            name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        arrays |= {f"{KEPT}{name}": values for name, values in self.parameters.items()}
        return Record({}, arrays | {f"{PROBED}{name}": a for name, a in self.probed.items()})

    @classmethod
    def load(cls, folder: Path) -> Trajectory:
        """Read a trajectory from the folder of its record."""
        arrays, named = dict(Record.read(folder).arrays), {}
        for kind in (KEPT, PROBED):
            keys = [key for key in arrays if key.startswith(kind)]
            named[kind] = {key.removeprefix(kind): arrays.pop(key) for key in keys}
        return cls(**arrays, parameters=named[KEPT], probed=named[PROBED])


def epoch_means(values: Floats, plan: Plan) -> Floats:
    """Means over the examples of each epoch of a value per step, shape ``(max_epochs,)``."""
    weights = batch_sizes(plan.order.shape[1], plan.recipe.batch_size)
    return np.asarray(np.average(values.reshape(-1, plan.steps_per_epoch), axis=1, weights=weights))
