"""A user's own model: what the file of ``model`` must hold, and the parameters drawn for it."""

from __future__ import annotations

import importlib.util
import inspect
import math
import reprlib
import traceback
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from framework_parity.common.core.archive import read_arrays
from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.machine import check_memory
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.matching import Names, Wanted, drawn, is_scale, symbolic

SUFFIX = "_model"
CALL = "(d2l, num_inputs, num_outputs, lr)"
SIZES = ("inputs", "outputs")
INITIAL = ("initial_parameters", "INITIAL")
"""A function of the file, or the name of an archive beside it."""
MEND = "give one array for each name of PARAMETERS"
T = TypeVar("T")
Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class OwnModel:
    """A file that gives the same model in several frameworks.

    Args:
        path: where it is.
        shapes: shape of each parameter by name, with ``"inputs"`` and ``"outputs"`` for the
            numbers of features and classes; empty where the file gives none: see :meth:`of`.
        backends: those that the file has a ``BACKEND_model`` for, in the file's order.
        module: the file, imported; None where it was only read.
        layers: of an activation that frameworks name otherwise, their names by backend.
        names: likewise of a parameter; several of a backend are one, side by side.
        wanted: the reference's parameters, where the file gives no shapes.
        makes_targets: whether it has a function ``targets``.
        loss_scale: its ``LOSS_SCALE``, of mixed precision.
    """

    path: Path
    shapes: dict[str, Shape]
    backends: tuple[str, ...]
    module: types.ModuleType | None = None
    layers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    names: Mapping[str, Mapping[str, str | list[str]]] = field(default_factory=dict)
    wanted: tuple[Wanted, ...] = ()
    makes_targets: bool = False
    loss_scale: float = 1.0

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
        shapes: Any = getattr(module, "PARAMETERS", {})
        if hasattr(module, "PARAMETERS") and (odd := _odd_shape(shapes)):
            raise ParityError(
                path,
                "PARAMETERS, a shape for each name, such as {'W': ('inputs', 'outputs'), 'b': "
                "('outputs',)}",
                odd,
                "define it so",
            )
        layers: Any = getattr(module, "LAYERS", {})
        if not _are_layers(layers):
            raise ParityError(
                path,
                "LAYERS, names of an activation by backend, such as {'hidden': {'alpha': 'net.0'}}",
                repr(layers),
                "write it so or leave it out",
            )
        names: Any = getattr(module, "NAMES", {})
        if not _are_names(names):
            raise ParityError(
                path,
                "NAMES, those of a parameter by backend, such as {'W': {'alpha': 'net.0.weight'}}",
                reprlib.repr(names),
                "write it so or leave it out",
            )
        those = tuple(name.removesuffix(SUFFIX) for name in found)
        shapes = {name: tuple(shape) for name, shape in shapes.items()}
        return cls(
            path,
            shapes,
            those,
            module,
            layers,
            names,
            makes_targets=callable(getattr(module, "targets", None)),
            loss_scale=_power_of_two(path, getattr(module, "LOSS_SCALE", 1.0)),
        )

    def names_of(self, backend: str) -> Names:
        """What a backend calls the parameters that the file names, by the file's name."""
        return {name: of[backend] for name, of in self.names.items() if backend in of}

    def of(self, wanted: Iterable[Wanted], num_inputs: int, num_outputs: int) -> OwnModel:
        """The same file with the reference's parameters for what it gives no shapes of."""
        made = tuple(wanted)
        return replace(self, shapes=symbolic(made, num_inputs, num_outputs), wanted=made)

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

    def draw(self, num_inputs: int, num_outputs: int, seed: int) -> Parameters:
        """Initial parameters, in float64: the file's, if it gives any.

        Else normal, of deviation 1/√(length of the first axis); vectors are zero, scales of norms
        one. The generator draws in the order of ``PARAMETERS``. Where the file gives no shapes,
        as :func:`matching.drawn` says.

        Raises:
            ParityError: if the file's are not those of ``PARAMETERS``.
        """
        shapes = self.check_memory(num_inputs, num_outputs)
        if (given := self._given(num_inputs, num_outputs, seed)) is not None:
            return _checked(*given, shapes)
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        if self.wanted:
            return {one.name: drawn(one, generator) for one in self.wanted}
        made: Parameters = {}
        for name, shape in shapes.items():
            values = generator.standard_normal(shape) / np.sqrt(shape[0])
            made[name] = values if len(shape) > 1 else np.full(shape, float(is_scale(name)))
        return made

    def check_memory(self, num_inputs: int, num_outputs: int) -> dict[str, tuple[int, ...]]:
        """The shapes in numbers alone, if parameters of them find room in memory.

        Raises:
            ParityError: if they do not.
        """
        shapes = {name: self.shape(name, num_inputs, num_outputs) for name in self.shapes}
        needed = 8 * sum(math.prod(shape) for shape in shapes.values())
        said = ", ".join(f"{n} of {' × '.join(map(str, s))}" for n, s in shapes.items())
        check_memory(f"{self.path}: PARAMETERS", needed, said, "lower them")
        return shapes

    def _given(self, num_inputs: int, num_outputs: int, seed: int) -> tuple[str, Any] | None:
        """What the file says of initial parameters, after the name of who does; None: nothing."""
        for name in INITIAL:
            if (said := getattr(self.module, name, None)) is None:
                continue
            source = name if callable(said) else f"{name} {said}"
            try:
                if callable(said):
                    return source, said(num_inputs, num_outputs, seed)
                return source, read_arrays(self.path.parent / said)
            except Exception as error:  # whatever the user's code raises, or NumPy of an archive
                raise ParityError(
                    source,
                    "an array for each parameter",
                    f"{type(error).__name__}: {told(error)}{place_in(self.path, error)}",
                    MEND,
                ) from None
        return None

    def permute(self, parameters: Parameters, features: Array, classes: Array) -> Parameters:
        """Parameters for examples whose features, and classes, are in another order.

        And what is like a parameter, with its name at the end: ``gradient/NAME``.
        """
        orders = {"inputs": features, "outputs": classes}
        permuted = {}
        for name, value in parameters.items():
            ends = [name.split("/", n)[-1] for n in range(3)]
            sizes = next((self.shapes[end] for end in ends if end in self.shapes), ())
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


def _checked(source: str, given: Any, shapes: dict[str, tuple[int, ...]]) -> Parameters:
    """Initial parameters in float64; those that are given must be those of the shapes."""
    held = given if isinstance(given, dict) else {}
    if held.keys() != shapes.keys():
        received = ", ".join(map(str, held)) or repr(given)
        raise ParityError(source, f"the parameters {', '.join(shapes)}", received, MEND)
    arrays: Parameters = {}
    for name, shape in shapes.items():
        array = np.asarray(given[name])
        received = f"{array.dtype} of shape {array.shape}"
        if array.dtype.kind in "fiu" and not np.isfinite(array).all():
            received += ", not finite"
        if received != f"{array.dtype} of shape {shape}" or array.dtype.kind not in "fiu":
            raise ParityError(source, f"{name} of shape {shape}, all finite", received, MEND)
        arrays[name] = array.astype(np.float64)
    return arrays


def _power_of_two(path: Path, scale: object) -> float:
    """A loss scale, which then rounds nothing."""
    known = isinstance(scale, (int, float)) and 0 < scale < 2.0**100
    if not known or math.frexp(float(scale))[0] != 0.5:  # type: ignore[arg-type]
        raise ParityError(path, "LOSS_SCALE, a power of two", repr(scale), "write for example 1024")
    return float(scale)  # type: ignore[arg-type]


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
            (words if isinstance(error, Exception) else f"{error!r}, which ends its process")
            + place_in(path, error),
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


def _are_layers(layers: object) -> bool:
    if not isinstance(layers, dict) or not all(isinstance(n, dict) for n in layers.values()):
        return False
    words = [
        *layers,
        *(word for names in layers.values() for pair in names.items() for word in pair),
    ]
    return all(isinstance(word, str) and "/" not in word for word in words)


def _are_names(names: object) -> bool:
    if not isinstance(names, dict) or not all(isinstance(of, dict) for of in names.values()):
        return False
    said = [part for of in names.values() for part in of.values()]
    lists = [part if isinstance(part, (list, tuple)) else [part] for part in said]
    words = [*names, *(word for of in names.values() for word in of)]
    words += [word for part in lists for word in part]
    return all(lists) and all(isinstance(word, str) for word in words)


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
