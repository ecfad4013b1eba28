"""Classifier for frameworks that compute eagerly: all of it but the mathematics."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.classifier import Classifier, Parameters
from framework_parity.common.training.forward_checks import Call
from framework_parity.common.training.layers import Converter, Entry, as_it_is, transposed

TRANSPOSED = ".T"


class EagerClassifier(Classifier):
    """A classifier that reads and sets what is trained by name.

    A framework's own gives :meth:`tensor`, :meth:`numpy`, :meth:`named_tensors`,
    :meth:`set_tensor` and the mathematics: ``forward``, ``loss`` and an optimizer.

    Attributes:
        names: the tensor that each parameter is, by name; ``.T`` after it where the framework
            keeps outputs × inputs. Empty where both are called alike.
        training: whether a forward pass is one of training; its trainer says so.
    """

    names: Mapping[str, str] = {}
    converter: Converter | None = None
    training = True
    _noted: list[Call] | None = None

    @staticmethod
    @abstractmethod
    def tensor(values: Any) -> Any:
        """A tensor of the framework made of ``values``, of the same type if they are an array."""

    @staticmethod
    @abstractmethod
    def numpy(tensor: Any) -> npt.NDArray[Any]:
        """The numbers of a ``tensor``, in NumPy."""

    @abstractmethod
    def named_tensors(self) -> dict[str, Any]:
        """The tensors that are trained, by the framework's names."""

    @abstractmethod
    def set_tensor(self, name: str, value: npt.NDArray[Any]) -> None:
        """Give one of :meth:`named_tensors` other numbers; their type is kept.

        Args:
            name: the framework's name.
            value: in the framework's layout.
        """

    def get_buffers(self) -> Parameters:
        """Copies of what is kept besides what is trained, by names as of :mod:`buffers`."""
        return {}

    def set_buffers(self, buffers: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set some of them; their type is kept.

        Args:
            buffers: arrays as :meth:`get_buffers` gives them.
        """

    def __call__(self, X: Any) -> Any:
        return self.forward(X)

    def forward(self, X: Any) -> Any:
        return self.net(X)  # type: ignore[attr-defined]

    def named(self, name: str, X: Any) -> Any:
        if self._noted is not None:
            array = np.array(self.numpy(X))
            self._noted.append((name, "", array, array))
        return X

    @contextmanager
    def noting(self) -> Iterator[list[Call]]:
        """Inside the block what ``forward`` names is noted."""
        noted: list[Call] = []
        object.__setattr__(self, "_noted", noted)
        try:
            yield noted
        finally:
            object.__delattr__(self, "_noted")

    def accuracy(self, y_hat: Any, y: Any, averaged: bool = True) -> Any:
        if self.learns_numbers:
            return np.nan if averaged else np.full(len(y), np.nan)
        scores = self.numpy(y_hat)
        predicted = scores.reshape(-1, scores.shape[-1]).argmax(axis=1)
        correct = (predicted == self.numpy(y).reshape(-1)).astype(np.float32)
        return correct.mean() if averaged else correct

    def clip_gradients(self, gradients: Mapping[str, Any] | None = None) -> Any:
        """Make gradients smaller that are too large; called before each update, does nothing here.

        As the book's ``Trainer.clip_gradients``. A model overrides it with its framework's own
        function, say ``torch.nn.utils.clip_grad_norm_(self.parameters(), 1.0)``.

        Args:
            gradients: by name where tensors have none of their own; then others are given back.
        """
        return gradients

    @contextmanager
    def before_clipping(self) -> Iterator[Parameters]:
        """Inside the block gradients are noted as they are before they are clipped."""
        noted: Parameters = {}
        clip = self.clip_gradients

        def note(*gradients: Any) -> Any:
            noted.update(self.read_gradients(*gradients))
            return clip(*gradients)

        object.__setattr__(self, "clip_gradients", note)
        try:
            yield noted
        finally:
            object.__delattr__(self, "clip_gradients")

    def training_step(self, batch: Any) -> Any:
        """Mean loss of one batch.

        Args:
            batch: ``(X, y)`` in the framework's tensors.
        """
        return self.loss(self(*batch[:-1]), batch[-1])

    def validation_step(self, batch: Any) -> tuple[Any, Any]:
        """Mean loss and accuracy of one batch.

        Args:
            batch: ``(X, y)`` in the framework's tensors.
        """
        y_hat = self(*batch[:-1])
        return self.loss(y_hat, batch[-1]), self.accuracy(y_hat, batch[-1])

    def entries(self, X: npt.NDArray[Any]) -> list[Entry]:
        tensors, found = self.named_tensors(), []
        for name, place in (self.names or {name: name for name in tensors}).items():
            held = place.removesuffix(TRANSPOSED)
            shape = self.numpy(tensors[held]).shape
            layout = as_it_is if held == place else transposed
            found.append(Entry(name, "", "", "", {held: shape}, layout))
        return found

    def read(self, tensors: Mapping[str, Any]) -> Parameters:
        """Copies of tensors in NumPy, by the parameters' names and in their layout.

        Args:
            tensors: parameters, or their gradients, as of :meth:`named_tensors`.
        """
        if self.converter is not None:
            return self.converter.read({name: self.numpy(t) for name, t in tensors.items()})
        found = {}
        for name, place in (self.names or {name: name for name in tensors}).items():
            if (held := place.removesuffix(TRANSPOSED)) in tensors:  # not all have a velocity
                value = self.numpy(tensors[held])
                found[name] = np.array(value.T if held != place else value, order="C")
        return found

    def arrange(self, parameters: Mapping[str, npt.NDArray[Any]]) -> Parameters:
        """Arrays by the framework's names and in its layout; undoes :meth:`read`."""
        if self.converter is not None:
            return self.converter.arrange(parameters)
        found = {}
        for name, value in parameters.items():
            held = (place := self.names.get(name, name)).removesuffix(TRANSPOSED)
            found[held] = np.array(value.T if held != place else value, order="C")
        return found

    def read_gradients(self, gradients: Mapping[str, Any] | None = None) -> Parameters:
        """``gradients`` as :meth:`read` gives them; by default what the last pass left behind."""
        if gradients is None:
            gradients = {name: tensor.grad for name, tensor in self.named_tensors().items()}
        return self.read(gradients)

    def get_parameters(self) -> Parameters:
        return self.read(self.named_tensors())

    def set_parameters(self, parameters: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, value in self.arrange(parameters).items():
            self.set_tensor(name, value)


def evaluate_accuracy(model: EagerClassifier, data: DataModule) -> float:
    """Accuracy of a model on the validation examples of a data module.

    Args:
        model: a classifier that has parameters.
        data: gives the batches.

    Returns:
        The part of the examples that is classified rightly, 0 to 1.
    """
    batches = data.val_dataloader()
    correct = [model.numpy(model.accuracy(model(X), y, averaged=False)) for X, y in batches]
    return float(np.concatenate(correct).mean())
