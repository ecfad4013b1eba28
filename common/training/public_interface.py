"""The public interface of a backend: its module, completed to that of the book's ``d2l``."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import numpy as np

from framework_parity.common.core.hyperparameters import HyperParameters, add_to_class
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.datasets import Digits, FashionMNIST, Synthetic
from framework_parity.common.training.eager_classifier import evaluate_accuracy
from framework_parity.common.training.progress_board import ProgressBoard


def complete(
    names: dict[str, Any], tensors: Callable[[Any, Any], tuple[Any, Any]] | None = None
) -> None:
    """Add to a backend's module what it does not define itself, and ``__all__``.

    Args:
        names: the module's names: ``globals()``, when ``Classifier``, ``tensor`` and ``numpy`` are
            among them.
        tensors: makes a batch of the data modules of ``X`` and ``y`` in NumPy, see
            :meth:`DataModule.tensors`; each with ``tensor`` if not given.
    """
    name = names["__name__"].rpartition(".")[2]
    shared: dict[str, Any] = {
        "HyperParameters": HyperParameters,
        "Module": names["Classifier"],
        "ProgressBoard": ProgressBoard,
        "add_to_class": add_to_class,
        "evaluate_accuracy": evaluate_accuracy,
        "versions": lambda: {name: _version(name)},
    }
    for base in (DataModule, FashionMNIST, Digits, Synthetic):
        shared[base.__name__] = _in_tensors(base, names, tensors)
    own = [
        key
        for key, value in names.items()
        if key[0] != "_" and getattr(value, "__module__", "").startswith(names["__name__"])
    ]
    names.update({key: value for key, value in shared.items() if key not in names})
    names["__all__"] = sorted({*own, *shared})


def _version(name: str) -> str:
    said: str | None = getattr(importlib.import_module(name), "__version__", None)
    return said or importlib.metadata.version(name)


def _in_tensors(base: Any, names: dict[str, Any], make: Any) -> type:
    """A data module whose batches are a framework's tensors."""
    tensor, numpy = names["tensor"], names["numpy"]

    class InTensors(base):  # type: ignore[misc]
        __doc__ = base.__doc__

        def tensors(self, X: Any, y: Any) -> tuple[Any, Any]:
            return make(X, y) if make else (tensor(X), tensor(y))

        def visualize(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
            # numpy.asarray refuses some tensors, and makes objects of others
            known = (np.ndarray, list, tuple)
            arrays = [part if isinstance(part, known) else numpy(part) for part in batch]
            return super().visualize(arrays, *args, **kwargs)

    InTensors.__name__ = InTensors.__qualname__ = base.__name__
    InTensors.__module__ = names["__name__"]
    return InTensors
