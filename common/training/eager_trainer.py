"""Trainer for frameworks that compute eagerly: a loop in Python over the batches of an epoch."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.classifier import Classifier, Parameters
from framework_parity.common.training.dropout import EVALUATION
from framework_parity.common.training.forward_checks import Activation, Pass
from framework_parity.common.training.optimizer_state import Memory, by_hand, by_kind, named
from framework_parity.common.training.trainer import (
    EpochMetrics,
    Indices,
    Trainer,
    batch_means,
    per_example,
    whole,
)


class EagerTrainer(Trainer):
    """Trains a framework's eager classifier, on data that is in memory as one tensor.

    A framework's own gives :meth:`train_step`, which holds the mathematics. It overrides whatever
    else it does better than what is here.

    Attributes:
        dtypes: the floating-point types that the framework computes in, as it claims.
    """

    dtypes: Sequence[str] = ("float32", "float64")

    @staticmethod
    @abstractmethod
    def train_step(model: Any, optimizer: Any, X: Any, y: Any) -> tuple[Any, Any, Any]:
        """Train on one batch: forward pass, loss, gradient, update.

        Args:
            model: the classifier.
            optimizer: what its ``configure_optimizers`` gave.
            X: features of the batch, a tensor.
            y: its targets, a tensor.

        Returns:
            ``y_hat`` and the mean loss, both from before the update; the gradients by the names of
            ``named_tensors``, or None where each tensor has its own in ``grad``.
        """

    def tensor(self, array: Array) -> Any:
        """A tensor that may share the memory of the ``array``, which nobody else writes to."""
        return self.model.tensor(array)

    def numpy(self, tensor: Any) -> Array:
        """The numbers of a ``tensor``, in NumPy."""
        return np.asarray(self.model.numpy(tensor))

    @staticmethod
    def without_gradients() -> AbstractContextManager[Any]:
        """A block in which nothing is noted for a gradient."""
        return nullcontext()

    def concatenate(self, tensors: Sequence[Any]) -> Any:
        """``tensors``, one after the other, as one."""
        return self.tensor(np.concatenate([self.numpy(tensor) for tensor in tensors]))

    @staticmethod
    def take(array: Any, rows: Any) -> Any:
        """``rows`` of a tensor of examples, the ``array``."""
        return array[rows]

    def gather(self, rows: Any) -> Any:
        """The features of a batch, in memory of their own or that of the batch before.

        Args:
            rows: of the training data, a tensor.
        """
        return self.take(self.X, rows)

    @staticmethod
    def project(X: Any, v: Any) -> Any:
        """``X @ v``, which tells what a step was fed."""
        return X @ v

    def wait(self) -> None:
        """Return once all that was asked for is computed."""

    def build(self, dtype: str) -> None:
        """Give lazy layers their shapes from examples of that ``dtype``."""
        with self.without_gradients(), self.evaluation(self.model):
            self.model(self.X[:2])

    def configured(self, model: Any, step: int = 0) -> tuple[Any, Callable[[], object]]:
        """A model's optimizer, new, and what its schedule does at the end of an epoch.

        Args:
            model: the classifier.
            step: the first one that it is to make: a schedule that counts is put to that.
        """
        return model.configure_optimizers(), lambda: None

    @staticmethod
    @contextmanager
    def evaluation(model: Any) -> Iterator[None]:
        """Inside the block the model computes as in evaluation; its ``training`` is false."""
        kept, model.training = model.training, False
        try:
            yield
        finally:
            model.training = kept

    @contextmanager
    def evaluating(self, examples: int) -> Iterator[None]:
        """Inside the block so many examples are evaluated."""
        rows = np.arange(examples)
        with self.without_gradients(), self.evaluation(self.model), self.masked(EVALUATION, rows):
            yield

    def in_format(self, model: Any) -> Any:
        """The model with passes in the format ``self.mixed``: one of the trainer's own.

        Args:
            model: the one that is trained.
        """
        return model

    @contextmanager
    def spare_model(self) -> Iterator[Any]:
        """A model that may be changed inside the block, and leaves the trained one as it is."""
        yield copy.deepcopy(self.model)

    # What the trainer asks of a framework

    def prepare(self, model: Classifier, data: DataModule, dtype: str) -> None:
        if dtype not in self.dtypes:
            raise ParityError(
                "dtype",
                f"{' or '.join(self.dtypes)}, all that this backend computes in",
                dtype,
                "leave the backend or --dtype away",
            )
        self.model, self.data = model, data
        self.place(*self.training_examples(dtype))
        self.X_val, self.y_val = map(self.tensor, data.examples(train=False, dtype=dtype))
        self.build(dtype)
        self.optim, self.end_epoch = self.configured(model)
        if self.mixed:
            self.model = self.in_format(model)

    def place(self, X: npt.NDArray[Any], y: Array) -> None:
        self.X, self.y = self.tensor(X), self.tensor(y)

    def fit_epoch(self, order: Indices) -> EpochMetrics:
        rows = self.rows_of(order)
        order = self.tensor(np.ascontiguousarray(order))
        y = self.take(self.y, order)
        losses, scores, fed = [], [], []
        v = None if self.watched is None else self.tensor(self.watched)
        for step, start in enumerate(range(0, len(order), self.batch_size), self.step):
            batch = slice(start, start + self.batch_size)
            X_batch, y_batch = self.gather(order[batch]), y[batch]
            if v is not None:
                fed.append((self.project(X_batch, v), y_batch))
            with self.masked(step, rows[batch]):
                y_hat, loss, _ = self.train_step(self.model, self.optim, X_batch, y_batch)
            losses.append(loss)
            scores.append(y_hat)
        correct = self.model.accuracy(self.concatenate(scores), y, averaged=False)
        self.wait()
        if fed:
            X, labels = ([self.numpy(part) for part in parts] for parts in zip(*fed, strict=True))
            sizes = [len(part) for part in labels]
            self.keep_fed(np.concatenate(X).ravel(), np.concatenate(labels), sizes)
        return EpochMetrics(
            np.array([self.numpy(loss) for loss in losses], np.float64),
            batch_means(per_example(self.numpy(correct), len(y)), self.batch_size),
        )

    def shuffle(self, num_examples: int) -> Indices:
        return np.random.permutation(num_examples).astype(np.int32)

    def training_batch(self, rows: Indices) -> tuple[Array, Array]:
        order = self.tensor(np.ascontiguousarray(rows))
        X, y = self.numpy(self.gather(order)), self.numpy(self.take(self.y, order))
        return np.array(X), whole(y)

    def validation_batches(self, size: int) -> Iterator[tuple[Any, Any]]:
        for start in range(0, len(self.X_val), size):
            yield self.X_val[start : start + size], self.y_val[start : start + size]

    def evaluate(self, X: Any, y: Any) -> tuple[float, float]:
        with self.evaluating(len(y)):
            y_hat = self.model(X)
            return float(self.model.loss(y_hat, y)), float(self.model.accuracy(y_hat, y))

    def predict(self, X: Any) -> Array:
        with self.evaluating(len(X)):
            return self.numpy(self.model(X))

    def watched_pass(self, model: Any, X: Any, training: bool) -> Pass:
        """Arguments as of :meth:`Trainer.watched_pass`; layers and modes are a framework's own."""
        told = nullcontext() if training else self.evaluation(model)
        with self.without_gradients(), model.noting() as calls, told:
            return Pass(self.numpy(model(X)), calls)

    def activations(
        self,
        parameters: Parameters,
        X: Array,
        step: int = 0,
        buffers: Parameters | None = None,
        rows: Indices | None = None,
        training: bool = True,
    ) -> dict[str, Activation]:
        with self.spare_model() as model, self._of(step, rows, len(X)):
            model.set_parameters(parameters)
            model.set_buffers(buffers or {})
            found = self.watched_pass(model, self.tensor(np.array(X)), training)
            y_hat = {} if training else {"y_hat": Activation("", found.y_hat)}
            return found.activations() | y_hat

    def _of(self, step: int, rows: Indices | None, examples: int) -> AbstractContextManager[None]:
        return self.masked(step, np.arange(examples) if rows is None else rows)

    def buffers(self) -> Parameters:
        found: Parameters = self.model.get_buffers()
        return found

    def set_buffers(self, buffers: Mapping[str, Array]) -> None:
        self.model.set_buffers(buffers)

    @staticmethod
    def memory(optimizer: Any, tensors: Mapping[str, Any]) -> Memory:
        """What an optimizer remembers of ``tensors``, the model's by name."""
        return by_hand(optimizer)

    @staticmethod
    def remember(optimizer: Any, tensors: Mapping[str, Any], memory: Memory) -> None:
        """Give an optimizer that made no step yet the ``memory`` of another."""
        optimizer.state = memory

    def optimizer_state(self) -> Parameters:
        return named(self.memory(self.optim, self.model.named_tensors()), self.model.read)

    def probe(
        self,
        parameters: Parameters,
        X: Array,
        y: Array,
        state: Parameters | None = None,
        step: int = 0,
        buffers: Parameters | None = None,
        rows: Indices | None = None,
    ) -> dict[str, Array]:
        X, y = self.tensor(np.array(X)), self.tensor(np.array(y))
        with self.spare_model() as model, self._of(step, rows, len(X)):
            model.set_parameters(parameters)
            model.set_buffers(buffers or {})
            (optimizer, _), tensors = self.configured(model, step), model.named_tensors()
            if state:
                self.remember(optimizer, tensors, by_kind(state, self._tensors))
            with model.before_clipping() as unclipped:
                y_hat, loss, gradients = self.train_step(model, optimizer, X, y)
            found = {
                "data/X": X,
                "data/y": y,
                "forward/y_hat": y_hat,
                "example_loss": model.loss(y_hat, y, averaged=False),
                "loss": loss,
                "metric/accuracy": model.accuracy(y_hat, y),
            }
            arrays = {name: np.array(self.numpy(value)) for name, value in found.items()}
            after = {"update": model.get_parameters(), "buffer": model.get_buffers()}
            after["gradient"] = unclipped or model.read_gradients(gradients)
            if state is not None:
                after["optimizer"] = named(self.memory(optimizer, tensors), model.read)
            for kind, values in after.items():
                arrays |= {f"{kind}/{name}": value for name, value in values.items()}
            return arrays

    def _tensors(self, parameters: Parameters) -> dict[str, Any]:
        return {n: self.tensor(array) for n, array in self.model.arrange(parameters).items()}
