"""The float64 reference and the rounding envelope: ``python -m common.reference --help``.

The reference is the plan's training in NumPy float64 with the gradient derived by hand. The
envelope is how far mathematically identical trainings in the recipe's own dtype stray from it:
an ensemble whose members add up the same numbers in other orders and write the same loss in
another of its usual forms.

With softmax o = exp(z) / Σ exp(z) of the logits z = XW + b, the mean cross-entropy of n examples
has the gradient ∂L/∂z = (o − one_hot(y)) / n, hence ∂L/∂W = Xᵀ ∂L/∂z and ∂L/∂b = Σ ∂L/∂z
(*Dive into Deep Learning*, section 4.1.2).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.data import Array, DataModule
from common.plan import Plan

Floats = npt.NDArray[np.float64]

Form = Callable[[Array, Array], tuple[Array, Array]]
"""From logits and labels to the loss of each example and the probabilities."""

ENSEMBLE_MEMBERS = 9


@dataclass(frozen=True)
class Trajectory:
    """What one training leaves.

    Args:
        step_loss: mean loss of each step, before its update, shape ``(num_steps,)``.
        step_accuracy: likewise the accuracy.
        W: weights at the plan's snapshots, shape ``(s, num_inputs, num_outputs)``.
        b: biases there, shape ``(s, num_outputs)``.
        val_loss: mean validation loss after each epoch, shape ``(max_epochs,)``.
        val_accuracy: likewise the accuracy.
        val_logits: logits of the validation examples at the end.
    """

    step_loss: Floats
    step_accuracy: Floats
    W: Array
    b: Array
    val_loss: Floats
    val_accuracy: Floats
    val_logits: Array

    def save(self, path: Path) -> None:
        """Write the arrays to an ``.npz`` file: whole or not at all."""
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **vars(self))
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Trajectory:
        """Read a trajectory that :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            return cls(**{name: archive[name] for name in archive})


@dataclass(frozen=True)
class Envelope:
    """How far the ensemble's members strayed from the reference: the largest of their errors.

    Errors are running maxima over the training, since rounding is carried from step to step and
    a member that is near the reference by luck at one step says nothing of the next. None is
    smaller than half a unit in the last place: no number of the dtype can be nearer.

    Args:
        loss: of each step's loss, shape ``(num_steps,)``.
        train_loss: of each epoch's mean training loss, shape ``(max_epochs,)``.
        val_loss: likewise of its validation loss.
        W: largest error of a weight at each snapshot, shape ``(s,)``.
        b: likewise of a bias.
        logits: of the validation logits at the end, computed in float64 from the parameters.
        forward: largest rounding of a validation logit in the forward pass alone.
    """

    loss: Floats
    train_loss: Floats
    val_loss: Floats
    W: Floats
    b: Floats
    logits: float
    forward: float


def envelope(
    plan: Plan, data: DataModule, oracle: Trajectory, members: list[Trajectory]
) -> Envelope:
    """Measure the rounding envelope of a plan from its reference and its ensemble."""
    unit = float(np.finfo(plan.recipe.dtype).eps) / 2

    def largest(name: str, scale: Callable[[Array], Array]) -> Floats:
        value = scale(getattr(oracle, name))
        errors = [scale(getattr(member, name) - getattr(oracle, name)) for member in members]
        # A member whose plain softmax overflowed has no error to give, only the others have.
        finite = np.where(np.isfinite(errors), errors, 0.0).max(axis=0)
        return np.maximum.accumulate(np.maximum(finite, unit * np.maximum(value, 1.0)))

    def per_snapshot(values: Array) -> Array:
        return np.asarray(np.abs(values).reshape(len(values), -1).max(axis=1))

    X_val = data.examples(train=False, dtype="float64")[0]
    exact = oracle.val_logits
    logits, forward = [], []
    for member in members:
        from_parameters = X_val @ member.W[-1].astype(np.float64) + member.b[-1]
        logits.append(float(np.abs(centred(from_parameters - exact)).max()))
        forward.append(float(np.abs(member.val_logits - from_parameters).max()))
    return Envelope(
        loss=largest("step_loss", np.abs),
        train_loss=np.maximum.accumulate(
            np.max(
                [np.abs(epoch_means(m.step_loss - oracle.step_loss, plan)) for m in members], axis=0
            )
        ),
        val_loss=largest("val_loss", np.abs),
        W=largest("W", per_snapshot),
        b=largest("b", per_snapshot),
        logits=max(logits),
        forward=max(forward),
    )


def centred(logits: Array) -> Array:
    """Logits less their mean over the classes: all that the softmax and a prediction can see."""
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def losses_from_logits(logits: Array, y: Array) -> tuple[Array, Array]:
    """Losses logsumexp(z) − z_y and the probabilities of the stable softmax."""
    rows = np.arange(len(y))
    largest = logits.max(axis=1, keepdims=True)
    exp = np.exp(logits - largest)
    total = exp.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0] - logits[rows, y], exp / total


def losses_from_probabilities(logits: Array, y: Array) -> tuple[Array, Array]:
    """Losses by indexing the probabilities of the plain softmax, and those probabilities."""
    exp = np.exp(logits)
    probabilities = exp / exp.sum(axis=1, keepdims=True)
    return -np.log(probabilities[np.arange(len(y)), y]), probabilities


def losses_from_log_softmax(logits: Array, y: Array) -> tuple[Array, Array]:
    """Losses by indexing the logarithms of the softmax, whose exponentials the gradient takes."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_softmax[np.arange(len(y)), y], np.exp(log_softmax)


FORMS = (losses_from_logits, losses_from_probabilities, losses_from_log_softmax)
"""The three usual ways to write the same loss and its gradient: equal but for rounding."""


class Training:
    """One training of a plan in NumPy.

    Args:
        plan: what to train.
        data: its examples.
        dtype: floating-point type of everything.
        features: a permutation of the features, shape ``(num_inputs,)``: the same numbers are
            added up in another order.
        shuffle: permutes the examples inside each batch, to the same end.
        form: which of :data:`FORMS` computes losses and probabilities.
    """

    def __init__(
        self,
        plan: Plan,
        data: DataModule,
        dtype: str = "float64",
        features: npt.NDArray[np.intp] | None = None,
        shuffle: np.random.Generator | None = None,
        form: Form = losses_from_logits,
    ) -> None:
        self.plan, self.data, self.dtype = plan, data, dtype
        self.features, self.shuffle, self.form = features, shuffle, form
        # Stored features are permuted once; a batch is scaled when it is gathered, which keeps
        # the working set at a byte a pixel.
        self.X = data.X_train if features is None else data.X_train.take(features, axis=1)
        self.y = np.asarray(data.y_train, dtype=np.int64)
        self.X_val = self._scaled(
            data.X_val if features is None else data.X_val.take(features, axis=1)
        )
        self.y_val = np.asarray(data.y_val, dtype=np.int64)

    def run(self, tell: Callable[[int], None] = lambda _: None) -> Trajectory:
        """Train.

        Args:
            tell: called after every epoch with their number so far.
        """
        plan = self.plan
        W = np.array(plan.W if self.features is None else plan.W[self.features], self.dtype)
        b = np.array(plan.b, self.dtype)
        lr = np.dtype(self.dtype).type(plan.recipe.lr)
        snapshots = set(plan.snapshots)
        step_loss, step_accuracy = np.empty(plan.num_steps), np.empty(plan.num_steps)
        kept: list[tuple[Array, Array]] = []
        validation: list[tuple[float, float]] = []
        step = 0
        for epoch in range(plan.recipe.max_epochs):
            for rows in plan.batches(epoch):
                if self.shuffle is not None:
                    rows = self.shuffle.permutation(rows)
                X, y = self._scaled(self.X[rows]), self.y[rows]
                logits = X @ W + b
                losses, probabilities = self.form(logits, y)
                step_loss[step] = losses.mean()
                step_accuracy[step] = np.mean(logits.argmax(axis=1) == y)
                error = probabilities
                error[np.arange(len(y)), y] -= 1
                error /= error.dtype.type(len(y))
                W -= lr * (X.T @ error)
                b -= lr * error.sum(axis=0)
                step += 1
                if step in snapshots:
                    kept.append((self._unpermuted(W), b.copy()))
            logits = self.X_val @ W + b
            losses, _ = self.form(logits, self.y_val)
            validation.append(
                (float(losses.mean()), float(np.mean(logits.argmax(1) == self.y_val)))
            )
            tell(epoch + 1)
        return Trajectory(
            step_loss,
            step_accuracy,
            np.stack([W for W, _ in kept]),
            np.stack([b for _, b in kept]),
            np.array([loss for loss, _ in validation]),
            np.array([accuracy for _, accuracy in validation]),
            logits,
        )

    def _scaled(self, X: Array) -> Array:
        return self.data.scale(X).astype(self.dtype, copy=False)

    def _unpermuted(self, W: Array) -> Array:
        if self.features is None:
            return W.copy()
        original = np.empty_like(W)
        original[self.features] = W
        return original


def member(plan: Plan, data: DataModule, index: int) -> Training:
    """One member of the ensemble: the plan in its own dtype with other summation orders.

    Member 0 keeps the plan's order; the forms of the loss take turns.
    """
    random = np.random.default_rng([index, 0x5EED])
    permuted = index > 0
    return Training(
        plan,
        data,
        dtype=plan.recipe.dtype,
        features=random.permutation(data.num_inputs) if permuted else None,
        shuffle=random if permuted else None,
        form=FORMS[index % len(FORMS)],
    )


def epoch_means(values: Floats, plan: Plan) -> Floats:
    """Means over the examples of each epoch of a value per step, shape ``(max_epochs,)``."""
    size, num_train = plan.recipe.batch_size, plan.order.shape[1]
    weights = np.full(plan.steps_per_epoch, size)
    weights[-1] = num_train - size * (plan.steps_per_epoch - 1)
    return np.asarray(np.average(values.reshape(-1, plan.steps_per_epoch), axis=1, weights=weights))


def main() -> None:
    """The command line: one training, the reference or a member of the ensemble."""
    parser = argparse.ArgumentParser(prog="python -m common.reference", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan")
    parser.add_argument(
        "--member", type=int, help="member of the ensemble; the reference if not given"
    )
    parser.add_argument("--out", type=Path, required=True, help=".npz file to write")
    arguments = parser.parse_args()
    plan = Plan.load(arguments.plan)
    data = plan.data()
    training = (
        Training(plan, data) if arguments.member is None else member(plan, data, arguments.member)
    )

    def tell(epoch: int) -> None:
        facts = {"event": "training", "epoch": epoch, "max_epochs": plan.recipe.max_epochs}
        print(json.dumps(facts), flush=True)

    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        training.run(tell).save(arguments.out)


if __name__ == "__main__":
    main()
