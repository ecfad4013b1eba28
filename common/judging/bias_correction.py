"""Adam's bias correction computed in float32, the one known cause of an update that is off.

``1 − 0.999`` is 1.3e-05 too small in float32, and so Optax and Keras compute it; PyTorch does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array

PROPORTIONAL = 1e-9
"""How far a first moment in float64 may be from a multiple of its gradient, relative."""


def betas(arrays: Mapping[str, Array], names: Sequence[str]) -> tuple[float, float] | None:
    """β₁ and β₂ of a float64 run, from its first step; None if that is no plain step of Adam."""
    found = []
    for kind, power in (("first_moment", 1), ("second_moment", 2)):
        try:
            moments = [arrays[f"probe/0/optimizer/{kind}/{name}"].ravel() for name in names]
            gradients = [arrays[f"probe/0/gradient/{name}"].ravel() for name in names]
        except KeyError:
            return None
        moment, part = np.concatenate(moments), np.concatenate(gradients) ** power
        square = float(part @ part)
        factor = float(moment @ part) / square if square else 0.0
        if not 0 < factor < 1 or np.abs(moment - factor * part).max() > PROPORTIONAL * np.ptp(part):
            return None
        found.append(round(1 - factor, 10))
    return found[0], found[1]


def factor_in(dtype: npt.DTypeLike, betas: tuple[float, float], count: int) -> float:
    """√(1 − β₂ᵗ) / (1 − β₁ᵗ), by which an update is multiplied, computed in a type."""
    number: Any = np.dtype(dtype).type
    first, second = (number(1) - number(beta) ** number(count) for beta in betas)
    return float(np.sqrt(second) / first)


def in_float32(betas: tuple[float, float], count: int) -> float:
    """What the update is multiplied with, in float32, relative to what it should be."""
    return factor_in("float32", betas, count) / factor_in("float64", betas, count)
