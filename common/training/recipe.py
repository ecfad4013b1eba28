"""Recipe: the hyperparameters of a run, validated."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from framework_parity.common.core.errors import ParityError

DTYPES = ("float32", "float64")
MIXED = {"bfloat16": 8, "float16": 11}
"""Formats of forward and backward passes while parameters and optimizer are float32, in bits."""
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
        mixed: the format of its passes if it is a narrower one, one of :data:`MIXED`.

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
    mixed: str = ""

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
        if self.mixed and (self.mixed not in MIXED or self.dtype != "float32"):
            raise ParityError(
                "mixed",
                f"one of {', '.join(MIXED)}, with float32",
                f"{self.mixed!r} with {self.dtype}",
                "choose one of them",
            )
        if self.dtype not in DTYPES:
            raise ParityError(
                "dtype", f"one of {', '.join(DTYPES)}", repr(self.dtype), "choose one of them"
            )

    def to_json(self) -> dict[str, Any]:
        """The recipe as a JSON object; without a format of passes if they have no other."""
        found = dataclasses.asdict(self)
        if not self.mixed:
            del found["mixed"]
        return found

    @property
    def unit(self) -> float:
        """Half the distance from one to the next number of the format of passes."""
        bits = {"float32": 24, "float64": 53}
        return 2.0 ** -(MIXED[self.mixed] if self.mixed else bits[self.dtype])


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
