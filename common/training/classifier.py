"""Classifier: what a model must offer to be trained and compared, whatever its framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.hyperparameters import HyperParameters
from framework_parity.common.training.layers import Converter, Entry

Parameters = dict[str, npt.NDArray[np.floating[Any]]]
"""Parameters by name, in NumPy, in the layout of the mathematics: inputs × outputs."""


class Classifier(HyperParameters, ABC):
    """The framework-free half of the contract; each backend's own classifier is the other half.

    A backend's ``Classifier`` implements every method below for its framework, so that a model
    needs no more than its parameters and ``forward``. ``y_hat`` are probabilities or logits, as
    the model's ``forward`` and ``loss`` agree among themselves.

    Attributes:
        converter: by which parameters are read and set, if they are to have canonical names and
            layouts; None: they are as the framework has them.
        learns_numbers: whether the targets of its fit are numbers, of which there is no accuracy.
    """

    converter: Converter | None
    learns_numbers = False

    @abstractmethod
    def forward(self, X: Any) -> Any:
        """Scores of the classes.

        Args:
            X: examples, shape ``(n, num_inputs)`` or ``(n, …)``, in the framework's tensors.

        Returns:
            Probabilities or logits, shape ``(n, num_outputs)``.
        """

    @abstractmethod
    def named(self, name: str, X: Any) -> Any:
        """Give ``X`` back. Called in ``forward`` it makes ``X`` a rung of the forward stage.

        That is looked at in probes alone, and costs training nothing.

        Args:
            name: of the rung, the same in each framework.
            X: a tensor that ``forward`` computed.
        """

    @abstractmethod
    def loss(self, y_hat: Any, y: Any, averaged: bool = True) -> Any:
        """Cross-entropy of ``forward``'s result.

        Args:
            y_hat: what ``forward`` gave, shape ``(n, num_outputs)``.
            y: classes, integers, shape ``(n,)``.
            averaged: the mean over examples, a scalar; else the loss of each, shape ``(n,)``.
        """

    @abstractmethod
    def accuracy(self, y_hat: Any, y: Any, averaged: bool = True) -> Any:
        """Part of the examples whose largest score is that of their class.

        Arguments as of :meth:`loss`; a tie goes to the lowest class. NaN where the model
        ``learns_numbers``.
        """

    @abstractmethod
    def configure_optimizers(self) -> Any:
        """The optimizer ("updater") that a fit uses: plain SGD with ``self.lr`` by default."""

    def convert(self, converter: Converter) -> None:
        """From now on read and set parameters by that: see :attr:`converter`."""
        object.__setattr__(self, "converter", converter)  # a module of Flax is frozen

    @abstractmethod
    def entries(self, X: npt.NDArray[Any]) -> list[Entry]:
        """The parameters and buffers of its layers, in the order of the network.

        A lazy model is built.

        Args:
            X: a few examples.
        """

    @abstractmethod
    def get_parameters(self) -> Parameters:
        """Copies of the parameters; softmax regression gives ``W`` and ``b``.

        Returns:
            By name, ``W`` of shape ``(num_inputs, num_outputs)`` and ``b`` of shape
            ``(num_outputs,)``, whatever layout the framework keeps inside.
        """

    @abstractmethod
    def set_parameters(self, parameters: Mapping[str, npt.NDArray[Any]]) -> None:
        """Set the parameters by name; a lazy layer is built from their shapes.

        Args:
            parameters: arrays as :meth:`get_parameters` gives them; their dtype is kept.
        """
