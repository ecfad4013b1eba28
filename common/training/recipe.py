"""Recipe: the hyperparameters of a run, validated."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from framework_parity.common.core.errors import ParityError

DTYPES = ("float32", "float64")
MOST = 2**31 - 1
"""Batch sizes and epochs count with 32 bits in some frameworks."""
MOST_SEED = 2**128 - 1
"""As many bits as NumPy's generators have of their own."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Hyperparameters of one comparison; the defaults are the book's.

    Args:
        data: name of a data set, or the path of an ``.npz`` file; in a plan, of such a file its
            name without the ending.
        batch_size: examples per step; the short last batch of an epoch is used.
        lr: learning rate of plain minibatch SGD.
        max_epochs: passes over the training data.
        sigma: standard deviation of the initial weights.
        seed: seed of the initial weights and of the order of the examples.
        dtype: floating-point type of the training, ``float32`` or ``float64``.

    Raises:
        ParityError: if a value is outside its range.
    """

    data: str = "fashion-mnist"
    batch_size: int = 256
    lr: float = 0.1
    max_epochs: int = 10
    sigma: float = 0.01
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_epochs"):
            _whole(name, getattr(self, name), least=1, most=MOST)
        _whole("seed", self.seed, least=0, most=MOST_SEED)
        for name in ("lr", "sigma"):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (is_number and 0 <= value <= sys.float_info.max):
                raise ParityError(
                    name,
                    "a finite number, zero or larger",
                    repr(value),
                    f"give for example --{name} {getattr(type(self), name)}",
                )
            # 1 and 1.0 are the same rate, and must be the same text in a plan's digest.
            object.__setattr__(self, name, float(value))
        if self.dtype not in DTYPES:
            raise ParityError(
                "dtype", f"one of {', '.join(DTYPES)}", repr(self.dtype), "choose one of them"
            )

    def to_json(self) -> dict[str, Any]:
        """The recipe as a JSON object."""
        return dataclasses.asdict(self)


def _whole(name: str, value: object, least: int, most: int | None = None) -> None:
    beyond = most is not None and isinstance(value, int) and value > most
    if not isinstance(value, int) or isinstance(value, bool) or value < least or beyond:
        limit = f"up to {most}" if beyond else f"{least} or larger"
        raise ParityError(
            name,
            f"a whole number, {limit}",
            repr(value),
            f"give for example --{name.replace('_', '-')} {max(least, 1)}",
        )
