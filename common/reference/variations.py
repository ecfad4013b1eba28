"""Known discrepancies: each the plan's training in the reference with one thing changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.replay import Rows, Step, Training
from framework_parity.common.training.plan import Plan


class Variation(Training):
    """A replay with one thing changed.

    Args:
        value: the size of the change, which a fit finds; without meaning where it has none.
        nudge: by what part numbers are changed before they are rounded to a narrower format.
    """

    values_of_base: Mapping[type, float] = MappingProxyType({})
    """Of the classes of another change that is made as well; see :func:`both`."""

    def __init__(
        self, plan: Plan, data: DataModule, value: float = 0.0, nudge: float = 0.0, **options: Any
    ) -> None:
        self.values = {**dict.fromkeys(type(self).__mro__, value), **self.values_of_base}
        self.nudge = nudge
        super().__init__(plan, data, **options)


def both(base: type[Variation], value: float, kind: type[Variation]) -> type[Variation] | None:
    """A replay with two things changed; None where they are one.

    Args:
        base: one of the changes.
        value: its size.
        kind: the other, whose size is the new replay's ``value``.
    """
    if set(base.__mro__) & set(kind.__mro__) - set(Variation.__mro__):
        return None
    values = {**dict.fromkeys(base.__mro__, value), **base.values_of_base}
    return type(f"{base.__name__}And{kind.__name__}", (kind, base), {"values_of_base": values})


class LearningRate(Variation):
    """The learning rate times a factor."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        factor = W.dtype.type(self.values[LearningRate])
        super().update(W, b, factor * gradient_W, factor * gradient_b)


class WeightDecay(Variation):
    """The gradient plus a part of the parameter."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        decay = W.dtype.type(self.values[WeightDecay])
        super().update(W, b, gradient_W + decay * W, gradient_b + decay * b)


class WeightDecayOfWeights(Variation):
    """The same, the biases left alone."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        decay = W.dtype.type(self.values[WeightDecayOfWeights])
        super().update(W, b, gradient_W + decay * W, gradient_b)


class Momentum(Variation):
    """Updates by a velocity, v ← momentum × v + gradient."""

    nesterov = False

    def reset(self) -> None:
        self.velocity = None

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        m, gradients = W.dtype.type(self.values[Momentum]), (gradient_W, gradient_b)
        if self.velocity is None:
            moved = gradients
        else:
            moved = tuple(m * v + g for v, g in zip(self.velocity, gradients, strict=True))
        self.velocity = moved
        if self.nesterov:
            moved = tuple(g + m * v for v, g in zip(moved, gradients, strict=True))
        super().update(W, b, *moved)


class Nesterov(Momentum):
    """Nesterov's form: the step looks ahead along the velocity."""

    nesterov = True


class OrderReused(Variation):
    """Every epoch in the first one's order."""

    def rows(self, epoch: int) -> Iterable[Rows]:
        return self.plan.batches(0)


class LastBatchDropped(Variation):
    """Full batches only."""

    def rows(self, epoch: int) -> Iterable[Rows]:
        size = self.plan.recipe.batch_size
        return [rows for rows in self.plan.batches(epoch) if len(rows) == size]


class LastBatchOverBatchSize(Variation):
    """The short batch's sum divided by the size of a full one."""

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        loss, error = super().reduce(losses, error)
        part = error.dtype.type(len(error) / self.plan.recipe.batch_size)
        return loss * part, error * part


class LastBatchGradientOverBatchSize(Variation):
    """The same of the gradient alone; the loss is reported as a mean."""

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        loss, error = super().reduce(losses, error)
        return loss, error * error.dtype.type(len(error) / self.plan.recipe.batch_size)


class Sum(Variation):
    """The sum of the batch's losses in place of their mean."""

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        return losses.sum(), error


class AffineFeatures(Variation):
    """Features times a factor, plus a shift, from the stored ones in one rounding."""

    shift = 0.0

    def scaled(self, X: Array) -> Array:
        factor = self.values[AffineFeatures] / self.data.divisor
        return np.asarray(X * factor + self.shift, dtype=self.dtype)


class ChangedFeatures(Variation):
    """Features as another function of the planned ones: ``change``."""

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        X, y = super().examples(rows)
        if self.features is None:
            return self.change(X).astype(X.dtype), y
        changed = self.change(X[:, np.argsort(self.features)])
        return changed[:, self.features].astype(X.dtype), y


class ChangedLabels(Variation):
    """The labels that the record says were fed."""

    fed: Array

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        X, _ = super().examples(rows)
        return X, self.fed[rows].astype(np.int64)


class OrderAsFed(Variation):
    """The batches that the record says were fed, one for each step."""

    fed_batches: Sequence[Rows]

    def rows(self, epoch: int) -> Iterable[Rows]:
        first = epoch * self.plan.steps_per_epoch
        return self.fed_batches[first : first + self.plan.steps_per_epoch]


class BlockOrder(Variation):
    """Examples batched as they are stored, and the batches shuffled.

    ``blocks`` holds the number of the block that was recognised at a place of the plan, by the
    row that the plan has first there; elsewhere in the free run the block is the one whose loss
    comes nearest to ``step_loss``, the recorded one.
    """

    blocks: dict[int, int]
    step_loss: Array
    scaled_all: Array | None = None
    """Every example, once for all steps; None where they are too many."""

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        return super().examples(self.block_rows(self.blocks[int(rows[0])]))

    def block_rows(self, block: int) -> Rows:
        """The rows of a stored block."""
        size = self.plan.recipe.batch_size
        stop = min((block + 1) * size, len(self.labels))
        return np.arange(block * size, stop, dtype=np.int32)

    def losses_of_all(self, W: Array, b: Array) -> Array:
        """The loss of every example, in float32."""
        W, b = W.astype(np.float32), b.astype(np.float32)
        losses = []
        for rows in self.data.stored_pieces():
            X = self.scaled_all
            if X is None:
                X = self.data.scale(self.data.X_train[rows[0] : rows[-1] + 1])
            losses.append(self.losses(X @ W + b, self.labels[rows])[0])
        return np.concatenate(losses)

    def steps(self) -> Iterator[tuple[Step, Array, Array]]:
        W, b = self.initial()
        self.scaled_all = None if self.data.is_large else self.data.scale(self.data.X_train)
        starts = np.arange(0, len(self.labels), self.plan.recipe.batch_size)
        sizes = np.diff([*starts, len(self.labels)])
        for recorded in self.step_loss:
            losses = self.losses_of_all(W, b)
            means = np.add.reduceat(losses, starts) / sizes
            rows = self.block_rows(int(np.abs(means - recorded).argmin()))
            step = self.step_of(W, b, *super().examples(rows))
            self.update(W, b, step.gradient_W, step.gradient_b)
            yield step, W, b


class InitialParameters(Variation):
    """The initial parameters that the record says were set."""

    given: tuple[Array, Array]

    def initial(self) -> tuple[Array, Array]:
        W, b = (np.array(array, self.dtype) for array in self.given)
        return self.permuted(W), b


class NoBias(Variation):
    """A forward pass without biases."""

    def logits(self, X: Array, W: Array, b: Array) -> Array:
        return super().logits(X, W, 0 * b)

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        gradient_W, gradient_b = super().gradients(X, error)
        return gradient_W, 0 * gradient_b


class BiasNeverUpdated(Variation):
    """Biases that keep their initial values."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        super().update(W, b, gradient_W, 0 * gradient_b)


class LabelSmoothing(Variation):
    """A part of each label's weight spread evenly over all classes."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        losses, probabilities, error = super().losses(logits, y)
        part, rows = logits.dtype.type(self.values[LabelSmoothing]), np.arange(len(y))
        log_softmax = logits - (losses + logits[rows, y])[:, None]
        losses = (1 - part) * losses - part * log_softmax.mean(axis=1)
        error[rows, y] += part
        return losses, probabilities, error - part / error.dtype.type(error.shape[1])


class ClippedLog(Variation):
    """The logarithm of a probability that is kept from falling below an epsilon."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        losses, probabilities, error = super().losses(logits, y)
        most = -np.log(logits.dtype.type(self.values[ClippedLog]))
        return np.minimum(losses, most), probabilities, error * (losses < most)[:, None]


class ShiftedLog(Variation):
    """The logarithm of a probability plus an epsilon."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        _, probabilities, error = super().losses(logits, y)
        chosen = probabilities[np.arange(len(y)), y]
        shifted = chosen + logits.dtype.type(self.values[ShiftedLog])
        return -np.log(shifted), probabilities, error * (chosen / shifted)[:, None]


class PlainSoftmax(Variation):
    """The softmax exp(z) / S, with S = Σ exp(z), and its gradient, one operation after the other.

    All in the plan's own number format, whose smallest numbers have few digits or none. By the
    chain rule the loss −log p_y has the gradient exp(z_y) / (p_y S²) by the sum S, and a factor of
    it may be too small where p_y is not. What entries other than the label's get is lost then.
    """

    flushed = False
    """Whether subnormal numbers are taken for zero."""
    backward = "derived"
    """How the gradient is computed: ``derived``, as p − one_hot(y), or by the chain rule, in
    ``quotients`` of two or with 1 / S² as a ``factor``."""

    def kept(self, X: Array) -> Array:
        """What the plan's format holds of numbers; the digits of normal ones are left alone."""
        narrow = X.astype(self.plan.recipe.dtype)
        normal = np.abs(narrow) >= np.finfo(narrow.dtype).smallest_normal
        if self.flushed:
            narrow[~normal] = 0
        return np.asarray(np.where(normal & np.isfinite(narrow), X, narrow.astype(X.dtype)))

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        rows, kept = np.arange(len(y)), self.kept
        exp = kept(np.exp(logits))
        total = exp.sum(axis=1)
        probabilities = kept(exp / total[:, None])
        chosen = probabilities[rows, y]
        if self.backward == "derived":
            error = probabilities.copy()
            error[rows, y] -= 1
            return -np.log(chosen), probabilities, error
        by_chosen = kept(-1 / chosen / logits.dtype.type(len(y)))  # of the mean loss
        if self.backward == "quotients":
            by_total = by_chosen * kept(chosen / total)
        else:
            by_total = kept(by_chosen * kept(1 / kept(total * total))) * exp[rows, y]
        error = exp * -by_total[:, None]
        error[rows, y] += exp[rows, y] * kept(by_chosen / total)
        return -np.log(chosen), probabilities, error * logits.dtype.type(len(y))


class SoftmaxTwice(Variation):
    """The probabilities taken for logits."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        _, first, _ = super().losses(logits, y)
        losses, second, error = super().losses(first, y)
        inner = (error * first).sum(axis=1, keepdims=True)
        return losses, self.shown(first, second), first * (error - inner)

    def shown(self, first: Array, second: Array) -> Array:
        """Which probabilities ``forward`` gives: the first, the second is the loss's."""
        return first


class SoftmaxTwiceInForward(SoftmaxTwice):
    """The same where ``forward`` applies the second one, too."""

    def shown(self, first: Array, second: Array) -> Array:
        return second


class RoundedProducts(Variation):
    """Both factors of every matrix product rounded to a narrower format."""

    narrow: Callable[[Array], Array]
    backward = True

    def rounded(self, A: Array) -> Array:
        """What was computed, and has rounding of its own, in the narrower format."""
        return self.narrow(A * A.dtype.type(1 + self.nudge))

    def logits(self, X: Array, W: Array, b: Array) -> Array:
        return super().logits(self.narrow(X), self.narrow(W), b)

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        if not self.backward:
            return super().gradients(X, error)
        gradient_W, _ = super().gradients(self.narrow(X), self.rounded(error))
        return gradient_W, super().gradients(X, error)[1]


class StraightThrough(RoundedProducts):
    """Rounded forward; the gradient multiplies the rounded features with an exact error."""

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        return Training.gradients(self, self.narrow(X), error)


class RoundedResults(RoundedProducts):
    """The same, and the products themselves rounded, too."""

    def product(self, A: Array, B: Array) -> Array:
        return self.rounded(super().product(A, B))


class ForwardOnly(RoundedProducts):
    """Rounded factors in the forward pass alone."""

    backward = False


class Clipped(Variation):
    """Gradients kept within a bound, before the update looks at them."""

    in_place = False

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        """The gradients within the bound: here the norm of all of them together."""
        norm = np.sqrt((gradient_W**2).sum() + (gradient_b**2).sum())
        part = gradient_W.dtype.type(min(1.0, self.values[Clipped] / norm) if norm else 1.0)
        return part * gradient_W, part * gradient_b

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        gradients = super().gradients(X, error)
        return self.clip(*gradients) if self.in_place else gradients

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        gradients = gradient_W, gradient_b
        super().update(W, b, *(gradients if self.in_place else self.clip(*gradients)))


class ClippedNearly(Clipped):
    """The same with 1e-6 added to the norm, lest it be zero, as PyTorch does."""

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        norm = np.sqrt((gradient_W**2).sum() + (gradient_b**2).sum()) + 1e-6
        part = gradient_W.dtype.type(min(1.0, self.values[ClippedNearly] / norm))
        return part * gradient_W, part * gradient_b


class ClippedEach(Clipped):
    """Each parameter's gradient scaled down to a largest norm."""

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        norms = [max(float(np.sqrt((g**2).sum())), 1e-30) for g in (gradient_W, gradient_b)]
        parts = [gradient_W.dtype.type(min(1.0, self.values[ClippedEach] / norm)) for norm in norms]
        return parts[0] * gradient_W, parts[1] * gradient_b


class ClippedEntries(Clipped):
    """Each entry of the gradient kept within a bound."""

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        most = gradient_W.dtype.type(self.values[ClippedEntries])
        return np.clip(gradient_W, -most, most), np.clip(gradient_b, -most, most)


def bfloat16(X: Array) -> Array:
    """Numbers rounded to 8 bits of significand."""
    return _keep_bits(X, 8)


def tf32(X: Array) -> Array:
    """Numbers rounded to 11 bits of significand, with float32's range."""
    return _keep_bits(X, 11)


def float16(X: Array) -> Array:
    """Numbers rounded to IEEE half precision, subnormals and all."""
    with np.errstate(over="ignore"):
        return X.astype(np.float16).astype(X.dtype)


def _keep_bits(X: Array, bits: int) -> Array:
    """Round the significands to so many bits, ties to even, the leading one counted."""
    fraction, exponent = np.frexp(X)
    rounded = np.round(np.ldexp(fraction, bits))
    return np.asarray(np.ldexp(rounded, exponent - bits), dtype=X.dtype)


FORMATS: dict[str, Callable[[Array], Array]]
FORMATS = {"bfloat16": bfloat16, "float16": float16, "TF32": tf32}

STORED_FORMATS = ("bfloat16", "float16")
"""Those that numbers are kept in; TF32 is a format of products alone."""
