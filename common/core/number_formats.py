"""Number formats, their numbers one by one, and where exp leaves them.

Bisection asks for one number after the other, so that the answer is the framework's own and not
a formula's. NumPy is not needed.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class NumberFormat(ABC):
    """A format's numbers from zero up: ``value(0)`` is 0, ``value(last)`` the largest."""

    @property
    @abstractmethod
    def last(self) -> int:
        """How many numbers are above zero."""

    @property
    def least(self) -> int:
        """How many numbers are below zero."""
        return self.last

    @abstractmethod
    def value(self, index: int) -> float:
        """The number at a place from zero up, exactly."""

    @property
    def smallest(self) -> float:
        """The smallest number above zero."""
        return self.value(1)

    @property
    def largest(self) -> float:
        """The largest number."""
        return self.value(self.last)

    @property
    def decibels(self) -> float:
        """The dynamic range: the largest by the smallest number above zero, 20 log10 of it."""
        return 20 * (math.log10(self.largest) - math.log10(self.smallest))


@dataclass(frozen=True)
class Floating(NumberFormat):
    """A binary floating-point format with subnormals, as IEEE 754 has them.

    ``mantissa_bits`` are those that are stored: one less than its precision.
    """

    exponent_bits: int
    mantissa_bits: int

    @property
    def last(self) -> int:
        return ((1 << self.exponent_bits) - 1 << self.mantissa_bits) - 1

    def value(self, index: int) -> float:
        exponent, mantissa = divmod(index, 1 << self.mantissa_bits)
        if exponent:
            mantissa += 1 << self.mantissa_bits
        bias = (1 << self.exponent_bits - 1) - 1
        return math.ldexp(mantissa, max(exponent, 1) - bias - self.mantissa_bits)

    @property
    def smallest_normal(self) -> float:
        """The smallest number above zero of full precision."""
        return self.value(1 << self.mantissa_bits)


@dataclass(frozen=True)
class Whole(NumberFormat):
    """Integers in two's complement: one more below zero than above it."""

    bits: int

    @property
    def last(self) -> int:
        return (1 << self.bits - 1) - 1

    @property
    def least(self) -> int:
        return self.last + 1

    def value(self, index: int) -> float:
        return float(index)


FORMATS: dict[str, Floating | Whole] = {
    "FP64": Floating(11, 52),
    "FP32": Floating(8, 23),
    "TF32": Floating(8, 10),
    "BF16": Floating(8, 7),
    "FP16": Floating(5, 10),
    "INT8": Whole(8),
}

COMPUTED_IN = {"TF32": "FP32"}
"""What a format's numbers are computed in where no processor of the suite computes in it.

TF32 is how some GPUs read the factors of a product: float32 numbers of which ten bits of the
mantissa are used. No framework has a type of it, and exp is computed in float32.
"""


def last_holding(holds: Callable[[int], bool], last: int) -> int:
    """The last place at which a condition holds that holds at 0 and, once it fails, for good."""
    if holds(last):
        return last
    good, bad = 0, last
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def limits_of_exp(name: str, exp: Callable[[float], float]) -> dict[str, Any]:
    """Between which numbers of a format exp neither overflows nor underflows.

    Overflow is an infinite result, or, where the result is an integer, one of less than half the
    power: integers have no infinity.

    Args:
        name: a key of :data:`FORMATS`.
        exp: the function as somebody computes it.

    Returns:
        ``largest``, the last number whose exp does not overflow; ``smallest``, the last one,
        downwards, whose exp is above zero; and ``smallest_normal``, whose exp has full precision
        (None where the format is no floating-point format).
    """
    numbers = FORMATS[name]

    def fits(index: int) -> bool:
        value = numbers.value(index)
        power = exp(value)
        return math.isfinite(power) and 2 * power >= _exp(value)

    def last_below(least: float) -> float:
        place = last_holding(lambda i: exp(-numbers.value(i)) >= least, numbers.least)
        return 0.0 - numbers.value(place)

    normal = numbers.smallest_normal if isinstance(numbers, Floating) else None
    return {
        "largest": numbers.value(last_holding(fits, numbers.last)),
        "smallest": last_below(math.ulp(0.0)),
        "smallest_normal": None if normal is None else last_below(normal),
    }


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
