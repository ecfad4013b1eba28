"""What a user's own model learns, and what is measured of it, where the file says so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.training.model_file import place_in

FUNCTION = "targets"
"""The function of a file that makes targets of features and classes: ``targets(X, y)``."""

METRICS = "METRICS"
RESERVED = ("loss", "accuracy")

Metrics = Mapping[str, Callable[[Array, Array], float]]
"""By name, functions of what ``forward`` gave for examples and of their targets, in NumPy."""


def make_targets(path: Path, module: ModuleType | None, X: Array, y: Array) -> Array:
    """The targets of examples as the file makes them.

    Args:
        path: the file.
        module: the file, imported.
        X: features, float32, shape ``(n, num_inputs)``.
        y: what the data set has as targets, shape ``(n, …)``.

    Returns:
        Shape ``(n, …)``; numbers as float32, classes as they are.

    Raises:
        ParityError: if it gives something else.
    """
    try:
        made = np.asarray(getattr(module, FUNCTION)(X, y))
    except Exception as error:  # whatever the user's code raises
        received = f"{type(error).__name__}: {told(error)}{place_in(path, error)}"
        raise ParityError(FUNCTION, f"targets of {len(X)} examples", received, "mend it") from None
    if made.shape[:1] != (len(X),) or made.dtype.kind not in "fiu":
        raise ParityError(
            FUNCTION,
            f"an array of numbers or classes, a row for each of {len(X)} examples",
            f"{made.dtype} of shape {made.shape}",
            "return one",
        )
    return made


def read_metrics(path: Path, module: ModuleType) -> Metrics:
    """The metrics that a file names; none if it names none.

    Raises:
        ParityError: if they are no functions by name.
    """
    metrics: Any = getattr(module, METRICS, {})
    held: dict[str, Any] = metrics if isinstance(metrics, dict) else {"": None}
    for name, function in held.items():
        named = isinstance(name, str) and name.isidentifier() and name not in RESERVED
        if not named or not callable(function):
            raise ParityError(
                path,
                f"{METRICS}, functions of y_hat and y by names other than "
                f"{' and '.join(RESERVED)}, such as {{'mae': …}}",
                repr(metrics),
                "write it so or leave it out",
            )
    return held


def measure(path: Path, metrics: Metrics, y_hat: Array, y: Array) -> dict[str, float]:
    """Each metric of validation examples.

    Raises:
        ParityError: if one is no finite number.
    """
    found = {}
    for name, function in metrics.items():
        try:
            found[name] = float(function(y_hat, y))
            received = repr(found[name])
        except Exception as error:  # whatever the user's code raises
            found[name] = math.nan
            received = f"{type(error).__name__}: {told(error)}{place_in(path, error)}"
        if not math.isfinite(found[name]):
            raise ParityError(f"{METRICS}: {name}", "a finite number", received, "mend it")
    return found
