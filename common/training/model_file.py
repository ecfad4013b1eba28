"""A user's own model: what the file of ``model`` must hold, and the parameters drawn for it."""

from __future__ import annotations

import importlib.util
import inspect
import reprlib
import traceback
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.training.classifier import Parameters

SUFFIX = "_model"
CALL = "(d2l, num_inputs, num_outputs, lr)"
SIZES = ("inputs", "outputs")
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
    """

    path: Path
    shapes: dict[str, Shape]
    backends: tuple[str, ...]
    module: types.ModuleType | None = None

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
            function = f"a function for each framework, such as {known[0]}{CALL}"
            raise ParityError(path, function, "none", "define some")
        for name in found:
            signature = inspect.signature(function := vars(module)[name])
            try:
                signature.bind(*CALL.split(","))
            except TypeError:
                line = getattr(getattr(function, "__code__", None), "co_firstlineno", "?")
                given = f"{name}{signature} (line {line})"
                raise ParityError(path, f"{name}{CALL}", given, "take these arguments") from None
        shapes: Any = getattr(module, "PARAMETERS", None)
        if odd := _odd_shape(shapes):
            raise ParityError(
                path,
                "PARAMETERS, a shape for each name, such as {'W': ('inputs', 'outputs'), 'b': "
                "('outputs',)}",
                odd,
                "define it so",
            )
        names = tuple(name.removesuffix(SUFFIX) for name in found)
        return cls(path, {name: tuple(shape) for name, shape in shapes.items()}, names, module)

    def check_backends(self, names: Iterable[str]) -> None:
        """Raise ParityError unless the file has a model for each of these backends."""
        if missing := [name for name in names if name not in self.backends]:
            raise ParityError(
                self.path,
                f"a model for {', '.join(missing)}",
                f"those for {', '.join(self.backends)}",
                f"define {missing[0]}{SUFFIX} or leave it out",
            )

    def build(self, backend: str, d2l: Any, num_inputs: int, num_outputs: int, lr: float) -> Any:
        """The model of one backend, whose public interface is what a notebook imports."""
        name = f"{backend}{SUFFIX}"
        model = getattr(self.module, name)(d2l, num_inputs, num_outputs, lr)
        if not isinstance(model, d2l.Classifier):
            wanted = f"{self.path}: {name}", "an instance of d2l.Classifier"
            raise ParityError(*wanted, reprlib.repr(model), "return one")
        return model

    def shape(self, name: str, num_inputs: int, num_outputs: int) -> tuple[int, ...]:
        """The shape of a parameter, in numbers alone."""
        sizes = {"inputs": num_inputs, "outputs": num_outputs}
        return tuple(size if isinstance(size, int) else sizes[size] for size in self.shapes[name])

    def draw(self, num_inputs: int, num_outputs: int, seed: int, dtype: str) -> Parameters:
        """Initial parameters: normal, of deviation 1/√(length of the first axis); vectors zero.

        The generator draws in the order of ``PARAMETERS``.
        """
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        drawn = {}
        for name in self.shapes:
            shape = self.shape(name, num_inputs, num_outputs)
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
        words = f"{type(error).__name__}: {told(error)}"
        raise ParityError(
            path,
            "a file that can be imported with NumPy alone",
            (words if isinstance(error, Exception) else repr(error)) + place_in(path, error),
            "import a framework inside the function that needs it"
            if isinstance(error, ImportError)
            else "mend it",
        ) from None
    return module


def place_in(path: Path, error: BaseException) -> str:
    """The last line of a file that an exception passed, in brackets; empty if it passed none."""
    passed = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in passed if frame.filename == str(path)]
    return f" ({path.name}, line {lines[-1]})" if lines else ""


def _odd_shape(shapes: object) -> str | None:
    """What is no name or no shape of a parameter; None if all are."""
    if not (isinstance(shapes, dict) and shapes):
        return reprlib.repr(shapes)
    for name, shape in shapes.items():
        said = f"{name!r}: {reprlib.repr(shape)}"
        if not isinstance(name, str):
            return f"{name!r}, a name that is no text"
        if not isinstance(shape, (tuple, list)):
            return f"{said}, which is no tuple"
        for size in shape:
            if not (isinstance(size, str) and size in SIZES) and not (
                type(size) is int and size > 0
            ):
                odd = reprlib.repr(size)
                return f"{said}, in which {odd} is none of {SIZES} and no whole number above 0"
        if not shape:
            return f"{said}, which has no axis"
    return None
