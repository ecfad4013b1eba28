"""Thresholds: the numbers that decide a grade, and their limits."""

from __future__ import annotations

from dataclasses import dataclass

from framework_parity.common.core.errors import ParityError

MOST = 1e12
"""Beyond it nothing is told from anything, and products with it leave float32."""


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide a grade; every report states them.

    Args:
        envelopes: how many rounding envelopes still count as rounding. Measured: the largest
            score of 653 clean runs of sound arithmetic is 2.7, and all 1,004 planted faults that
            are divergences are beyond 4 (``benchmarks/results/detection.md``).
        drift_loss: largest relative difference of an epoch's loss that is still drift.
        drift_predictions: largest part of the predictions that may change in drift.

    Raises:
        ParityError: if one of them is no such number.
    """

    envelopes: float = 4.0
    drift_loss: float = 1e-4
    drift_predictions: float = 1e-3

    def __post_init__(self) -> None:
        for option, value, least, most, example in (
            ("--threshold", self.envelopes, 1.0, MOST, "4"),
            ("--drift-loss", self.drift_loss, 0.0, MOST, "1e-4"),
            ("--drift-predictions", self.drift_predictions, 0.0, 1.0, "0.001"),
        ):
            if not least <= value <= most:
                limits = f"from {least:g} to {most:g}"
                raise ParityError(
                    option, f"a number {limits}", value, f"give for example {option} {example}"
                )

    def sentence(self) -> str:
        """What the grades mean with these numbers."""
        return (
            f"Grades: rounding, within {self.envelopes:g} × the rounding envelope; drift, beyond "
            f"it, but every epoch's loss within {self.drift_loss:g} (relative) and at most "
            f"{self.drift_predictions:.4g} of the predictions changed, none by more than the error "
            "of its logits; else disagree."
        )
