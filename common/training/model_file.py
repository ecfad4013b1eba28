"""A user's own model: what the file of ``model`` must hold, and the parameters drawn for it."""

from __future__ import annotations

import importlib.util
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.classifier import Parameters

SUFFIX = "_model"
SIZES = ("inputs", "outputs")
T = TypeVar("T")
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class OwnModel:
    """A file that gives the same model in several frameworks.

    Args:
        path: where it is.
        shapes: shape of each parameter by name, with ``"inputs"`` and ``"outputs"`` for the
            numbers of features and classes.
        backends: those that the file has a ``BACKEND_model`` for, in the file's order.
        module: the file, imported; None where it was only read.
        layers: of an activation that frameworks name otherwise, their names by backend.
    """

    path: Path
    shapes: dict[str, Shape]
    backends: tuple[str, ...]
    module: types.ModuleType | None = None
    layers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, backends: Iterable[str]) -> OwnModel:
        """Read a file; ``backends`` are the names of all that there are.

        Raises:
            ParityError: if it cannot be imported, or holds no model or no shapes.
        """
        module = _import(path)
        known = [f"{name}{SUFFIX}" for name in backends]
        found = [name for name in vars(module) if name in known and callable(vars(module)[name])]
        if not found:
            raise ParityError(
                path,
                f"a function for each framework, such as {known[0]}(d2l, num_inputs, num_outputs, "
                "lr)",
                "none",
                "define some",
            )
        shapes: Any = getattr(module, "PARAMETERS", None)
        if not _are_shapes(shapes):
            raise ParityError(
                path,
                "PARAMETERS, a shape for each name, such as {'W': ('inputs', 'outputs'), 'b': "
                "('outputs',)}",
                repr(shapes),
                "define it",
            )
        layers: Any = getattr(module, "LAYERS", {})
        if not _are_layers(layers):
            raise ParityError(
                path,
                "LAYERS, names of an activation by backend, such as {'hidden': {'alpha': 'net.0'}}",
                repr(layers),
                "write it so or leave it out",
            )
        names = tuple(name.removesuffix(SUFFIX) for name in found)
        shapes = {name: tuple(shape) for name, shape in shapes.items()}
        return cls(path, shapes, names, module, layers)

    def check_backends(self, names: Iterable[str]) -> None:
        """Raise ParityError unless the file has a model for each of these backends."""
        if missing := [name for name in names if name not in self.backends]:
            raise ParityError(
                self.path,
                f"a model for {', '.join(missing)}",
                f"those for {', '.join(self.backends)}",
                f"define {missing[0]}{SUFFIX} or leave it out",
            )

    def build(self, backend: str, face: Any, num_inputs: int, num_outputs: int, lr: float) -> Any:
        """The model of one backend, whose face is what a notebook imports."""
        assert self.module is not None
        return getattr(self.module, f"{backend}{SUFFIX}")(face, num_inputs, num_outputs, lr)

    def draw(self, num_inputs: int, num_outputs: int, seed: int, dtype: str) -> Parameters:
        """Initial parameters: normal, of deviation 1/√(length of the first axis); vectors zero.

        The generator draws in the order of ``PARAMETERS``.
        """
        sizes = {"inputs": num_inputs, "outputs": num_outputs}
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        drawn = {}
        for name, symbols in self.shapes.items():
            shape = [sizes[size] if isinstance(size, str) else size for size in symbols]
            values = generator.standard_normal(shape) / np.sqrt(shape[0])
            drawn[name] = (values if len(shape) > 1 else np.zeros(shape)).astype(dtype)
        return drawn

    def permute(self, parameters: Parameters, features: Array, classes: Array) -> Parameters:
        """Parameters for examples whose features, and classes, are in another order."""
        orders = {"inputs": features, "outputs": classes}
        permuted = {}
        for name, sizes in self.shapes.items():
            value = parameters[name]
            for axis, size in enumerate(sizes):
                if isinstance(size, str):
                    value = np.take(value, orders[size], axis=axis)
            permuted[name] = value
        return permuted

    def renamed(self, backend: str, activations: Mapping[str, T]) -> dict[str, T]:
        """Activations of a backend, by the names that the file gives them for all."""
        common = {names[backend]: name for name, names in self.layers.items() if backend in names}
        if missing := [name for name in common if name not in activations]:
            raise ParityError(
                self.path,
                f"LAYERS with activations of {backend}: {', '.join(activations) or 'it has none'}",
                ", ".join(missing),
                "give their names there, or leave them out",
            )
        taken = {*common.values()} - {*common}
        return {common.get(n, n): found for n, found in activations.items() if n not in taken}

    def has(self, size: str) -> bool:
        """Whether a parameter has an axis of ``"inputs"``, or of ``"outputs"``."""
        return any(size in shape for shape in self.shapes.values())


def _import(path: Path) -> types.ModuleType:
    try:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ParityError(path, "a Python file", "none", "name one that is")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ParityError:
        raise
    except BaseException as error:  # whatever the user's code raises, SystemExit included
        raise ParityError(
            path,
            "a file that can be imported with NumPy alone",
            repr(error),
            "import a framework inside the function that needs it",
        ) from None
    return module


def _are_layers(layers: object) -> bool:
    if not isinstance(layers, dict) or not all(isinstance(n, dict) for n in layers.values()):
        return False
    words = [
        *layers,
        *(word for names in layers.values() for pair in names.items() for word in pair),
    ]
    return all(isinstance(word, str) and "/" not in word for word in words)


def _are_shapes(shapes: object) -> bool:
    if not (isinstance(shapes, dict) and shapes):
        return False
    return all(
        isinstance(name, str)
        and isinstance(shape, (tuple, list))
        and len(shape) > 0
        and all(size in SIZES or (type(size) is int and size > 0) for size in shape)
        for name, shape in shapes.items()
    )
