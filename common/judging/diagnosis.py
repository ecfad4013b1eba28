"""A cause that was found for a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Diagnosis:
    """A cause that fits a run.

    Args:
        name: of the cause.
        value: what was fitted, or None.
        sentence: the finding, for a report.
        envelopes: how well the replay fits, in rounding envelopes.
        runner_up: the next best cause, or None if none other was possible.
        runner_up_envelopes: how well that one fits.
        from_step: the first step that the cause explains.
        through_step: the last one; beyond it rounding decides, or ``then``. None of a metric.
        num_steps: how many steps the run has.
        then: what else there is: ``name`` and ``value`` of a further cause, or null where none is
            known and :data:`THE_PLAN` where the cause ends, and ``from_step``, or null where it
            is the validation metrics.
    """

    name: str
    value: float | None
    sentence: str
    envelopes: float
    runner_up: str | None
    runner_up_envelopes: float | None
    from_step: int = 0
    through_step: int | None = None
    num_steps: int | None = None
    then: dict[str, Any] | None = None


def short(envelopes: float) -> str:
    """A number of envelopes in a sentence."""
    return "> 1e6" if envelopes > 1e6 else f"{envelopes:.2g}"
