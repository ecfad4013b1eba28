"""Which numbers dropout keeps: the same in every framework, by step, layer and example.

A mask is no stream of random numbers, but a function: of the plan, the step, the layer's place
among those that drop something in a forward pass, the example's row and the number's place in
the example. So neither the order of the examples nor who asks first changes a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError

EVALUATION = 2**32 - 1
"""The step whose masks are used if something is dropped in evaluation; rows count from 0 there."""


class Masks:
    """The masks of a training; inside :meth:`of`, those of one forward pass after the other.

    Args:
        seed: a whole number below 2³².

    Attributes:
        step: shape ``(1,)``, in NumPy or in the tensors of a framework that compiles.
        rows: likewise of the training data, shape ``(n,)``; None outside a pass.
        layer: how many layers of the pass dropped something so far.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.step: Any = None
        self.rows: Any = None
        self.layer = 0

    @contextmanager
    def of(self, step: Any, rows: Any) -> Iterator[None]:
        """Inside the block dropout has the masks of this step and of these rows."""
        self.step = np.array([step]) if isinstance(step, int) else step
        self.rows, self.layer = rows, 0
        try:
            yield
        finally:
            self.step = self.rows = None

    def drops(self, rate: float) -> bool:
        """Whether a layer of this rate, which is not in evaluation, gets its mask from here."""
        return self.rows is not None and 0 < rate < 1

    def next_layer(self, shape: Sequence[int]) -> int:
        """The place of the layer that asks, whose input has this ``shape``.

        Raises:
            ParityError: if the first axis is not that of the examples.
        """
        n = int(self.rows.shape[0])
        if not shape or shape[0] % n:
            raise ParityError(
                "dropout",
                f"a first axis of examples, {n} of them",
                f"the shape {tuple(shape)}",
                "put the examples first where something is dropped",
            )
        self.layer += 1
        return self.layer - 1

    def keep(self, shape: Sequence[int], rate: float) -> Any:
        """Which numbers the layer that asks keeps, of an input of this ``shape``: a mask."""
        layer = self.next_layer(shape)
        return kept(self.seed, self.step, layer, self.rows, shape, rate)


def kept(seed: int, step: Any, layer: int, rows: Any, shape: Sequence[int], rate: float) -> Any:
    """A mask: true with the probability 1 − ``rate``.

    It is made with its axes in the order of their sizes: so it is the same where channels come
    first and where they come last, unless there are as many channels as places.

    Other arguments as of :class:`Masks`. In NumPy or JAX, whichever ``step`` and ``rows`` are.

    Args:
        shape: of the mask, the first axis that of the rows, or of several for each.
    """
    numbers = _mixed(np.arange(prod(shape) // rows.shape[0], dtype=np.uint32))
    keys = _mixed(rows.astype(np.uint32) ^ np.uint32(seed))
    keys = _mixed(_mixed(keys + step.astype(np.uint32)) + np.uint32(layer))
    drawn = _mixed(keys[:, None] ^ numbers[None])
    mask = drawn >= np.uint32(min(round(rate * 2**32), 2**32 - 1))
    axes = [0, *sorted(range(1, len(shape)), key=lambda axis: shape[axis])]
    return mask.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes).tolist())


def scaled(mask: Array, rate: float, dtype: Any) -> Array:
    """What dropout multiplies with: 0, or 1/(1 − ``rate``) where the ``mask`` is true."""
    return np.asarray((mask / (1 - rate)).astype(dtype))


def _mixed(x: Any) -> Any:
    """A hash of whole numbers of 32 bits, one to one: ``lowbias32`` of C. Wellons' search.

    https://nullprogram.com/blog/2018/07/31/
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
