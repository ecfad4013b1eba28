"""What a model does that a comparison cannot hold equal: random numbers that it draws by itself.

Two frameworks would be compared in what they drew, not in what they compute.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from framework_parity.common.core.arrays import Array

ROUNDINGS = 256
"""How many units of rounding two results may differ by, and still be the same."""

Call = tuple[str, str, Array, Array]
"""One of a layer: its name, its kind, input and output. What a model names itself has no kind."""


INPUT = "input/"
"""What comes in a record before the name of an activation, of what its layer was given."""
MOMENTS = "moments/"
"""Likewise of its mean, variance and number by channel, where it is not there as a whole."""


def moments(X: Array, axis: int) -> Array:
    """Mean, variance and number of each channel, in float64, shape ``(3, channels)``."""
    axes = tuple(a for a in range(X.ndim) if a != axis)
    values = X.astype(np.float64)
    count = np.full(X.shape[axis], float(X.size // X.shape[axis]))
    return np.stack([values.mean(axes), values.var(axes), count])


class Activation(NamedTuple):
    """What a layer of this kind gave, and what it was given; None if that is not known."""

    kind: str
    values: Array
    given: Array | None = None


class Pass(NamedTuple):
    """One forward pass, watched.

    ``calls`` are in the order of their ends; ``before`` and ``after`` hold the states of the
    framework's random generators by name, ``buffers`` what the model keeps besides its parameters.
    """

    y_hat: Array
    calls: Sequence[Call] = ()
    before: Mapping[str, Array] = {}
    after: Mapping[str, Array] = {}
    buffers: Mapping[str, Array] = {}

    def activations(self) -> dict[str, Activation]:
        """What the calls gave, by name: of a further call its number stands after it.

        Fractions alone, and finite ones: of others there is no rounding.
        """
        found, times = {}, Counter[str]()
        for name, kind, X, output in self.calls:
            times[name] += 1
            if output.dtype.kind == "f" and np.isfinite(output).all():
                further = f"#{times[name]}" * (times[name] > 1)
                given = X if kind and X.size and np.isfinite(X).all() else None
                found[name.replace("/", ".") + further] = Activation(kind, output, given)
        return found


def unequal(run: Callable[[bool], Pass]) -> tuple[list[str], bool]:
    """What a comparison cannot hold equal, by name: nothing of most models.

    And whether the model computes otherwise in training than in evaluation.

    Args:
        run: makes a forward pass, of the same parameters, buffers and batch; as in training if
            true, else as in evaluation.
    """
    drawn = _generators()
    passes = [run(training) for training in (True, True, False, False)]
    moved = [n for p in passes for n in p.before if not np.array_equal(p.before[n], p.after[n])]
    moved += [name for name, state in _generators().items() if state != drawn[name]]
    found = [f"{', '.join(dict.fromkeys(moved))} changed by a forward pass"] if moved else []
    for one, other in (passes[:2], passes[2:]):
        if not _equal(one.y_hat, other.y_hat):
            return [*found, f"random numbers in {_where(one, other)}"], True
        if odd := [n for n, kept in one.buffers.items() if not _equal(kept, other.buffers[n])]:
            return [*found, f"random numbers in {', '.join(odd)}"], True
    return found, not _equal(passes[0].y_hat, passes[2].y_hat)


def changing(
    trained: Mapping[str, Array], probes: Sequence[Mapping[str, Array]], eps: float = 0.0
) -> Iterator[str]:
    """What one step, probed twice, gives otherwise the second time, or gave when it was trained.

    ``trained`` is what training itself left of it, by the names of a probe; ``eps`` twice the
    rounding of the format in which it is computed.
    """
    first, second = probes
    gradients = [array for name, array in first.items() if name.startswith("gradient/")]
    largest = max((float(np.abs(array).max(initial=0.0)) for array in gradients), default=0.0)

    def is_equal(name: str, value: Array) -> bool:
        expected, gradient = first[name], first.get(name.replace("update/", "gradient/", 1))
        if name.startswith("update/") and gradient is not None and gradient.shape == value.shape:
            # Of a gradient that is rounding alone (an attention's bias of its keys has none in
            # exact numbers), Adam makes a step as large as any.
            unit = max(eps, float(np.finfo(gradient.dtype).eps))
            rounding = np.abs(gradient) <= ROUNDINGS * unit * largest
            value = np.where(rounding, expected, value)
        # A loss is a sum of logarithms of numbers near one, whose rounding is that of one.
        return _equal(value, expected, float("loss" in name), eps)

    for other in (second, trained):
        found = [name for name, value in other.items() if not is_equal(name, value)]
        if found:
            named = ", ".join(name.replace("/", " of ") for name in found)
            yield f"another {named} from the same parameters and examples"
            return


def _generators() -> dict[str, str]:
    """The states of the generators that a framework does not know."""
    return {
        "NumPy's random generator": str(np.random.get_state()),
        "Python's random generator": str(random.getstate()),
    }


def _where(one: Pass, other: Pass) -> str:
    """The first layer that gives another output for the same input."""
    for (name, kind, X, y), (*_, other_X, other_y) in zip(one.calls, other.calls, strict=False):
        if _equal(X, other_X) and not _equal(y, other_y):
            return f"{name} ({kind})"
    return "forward"


def _equal(one: Array, other: Array, least: float = 0.0, eps: float = 0.0) -> bool:
    """Whether two results are the same: a library may add up otherwise in other memory.

    Numbers may differ by rounding relative to the largest of them, or to ``least`` if that is more;
    it is that of their type, or ``eps`` if that is more.
    """
    if one.shape != other.shape:
        return False
    floats = [array.dtype for array in (one, other) if array.dtype.kind == "f"]
    eps = max([eps, *(float(np.finfo(dtype).eps) for dtype in floats)])
    scale = float(np.abs(one).max(initial=least))
    near = np.abs(one - other) <= ROUNDINGS * eps * scale
    return bool((near | (one == other) | (np.isnan(one) & np.isnan(other))).all())
