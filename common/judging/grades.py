"""Grades and verdicts: their order, which of them fail, and the rules that every judge shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.errors import ParityError
from framework_parity.common.judging.thresholds import Thresholds

GRADES = ("exact", "rounding", "chaotic", "drift", "disagree")
"""Of a run, from best to worst."""

NOT_SHOWN = "not shown"
"""The verdict where an outcome's equivalence over seeds was asked for and is not shown."""

VERDICTS = ("agree", "chaotic", "drift", NOT_SHOWN, "disagree", "incomplete")
"""Of a comparison, from best to worst."""

UNCONFIRMED = "unconfirmed"
"""The status of a run that trained, and is not graded: a second framework contradicts the
reference."""

SOUND = ("exact", "rounding", "chaotic")
"""The grades of runs in which nothing is beyond rounding."""

BEYOND = ("drift", "disagree")
"""The grades, and verdicts, beyond rounding."""

FAIL_ON = ("chaotic", *BEYOND)
"""What may be the mildest verdict that fails."""


def verdict(statuses: Sequence[str], grades: Sequence[str | None]) -> str:
    """The verdict of a comparison from the status and grade of its runs.

    Returns:
        ``incomplete`` if something asked for did not run, or nothing was asked for; else
        ``disagree``, ``drift``, ``chaotic`` or ``agree`` after the worst grade.
    """
    worst = max((GRADES.index(grade) for grade in grades if grade), default=0)
    if not statuses or any(status != "done" for status in statuses):
        return "incomplete"
    return {"exact": "agree", "rounding": "agree"}.get(GRADES[worst], GRADES[worst])


def over_seeds(seeds: Mapping[str, Any]) -> list[str]:
    """The verdicts of a comparison over seeds: each plan's, and what the tests ask for."""
    tests = [found for metrics in seeds.get("runs", {}).values() for found in metrics.values()]
    return [
        *seeds.get("verdicts", ()),
        *[NOT_SHOWN] * any(not found["equivalent"] for found in tests),
        *["incomplete"] * bool(seeds.get("failed")),
    ]


def worst_verdict(verdicts: Iterable[str]) -> str:
    """The worst of some verdicts; ``agree`` of none."""
    return max(verdicts, key=VERDICTS.index, default="agree")


def failing(fail_on: str) -> tuple[str, ...]:
    """The grades, and verdicts, that fail; what was to be shown and is not always does.

    Args:
        fail_on: one of :data:`FAIL_ON`: the mildest of them.

    Raises:
        ParityError: if it is something else.
    """
    if fail_on not in FAIL_ON:
        raise ParityError(
            "fail_on",
            f"{', '.join(FAIL_ON[:-1])} or {FAIL_ON[-1]}",
            repr(fail_on),
            "choose one of them",
        )
    return (*FAIL_ON[FAIL_ON.index(fail_on) :], NOT_SHOWN)


def can_be_compared(loss: npt.ArrayLike, thresholds: Thresholds) -> npt.NDArray[np.bool_]:
    """Whether free runs can be compared where rounding alone moves a loss by so much.

    They can as long as that is no more than drift may. A user who allows less drift than is
    usual asks for more, never for a comparison of single steps alone: it is the usual allowance
    that counts then.

    Args:
        loss: how far rounding alone moves it, relative; of any shape.
        thresholds: where the grades part.
    """
    return np.asarray(np.asarray(loss) <= max(thresholds.drift_loss, Thresholds.drift_loss))


def comparable_steps(
    epochs: npt.ArrayLike,
    steps: npt.ArrayLike,
    parameters: Mapping[int, float],
    thresholds: Thresholds,
) -> int:
    """How many of a plan's steps free runs can be compared in: all of them, or fewer.

    All the epochs before the first whose loss rounding alone moves by more than drift may, and
    of that one the steps before their loss, or the parameters, are moved by as much.

    Args:
        epochs: how far rounding alone moves the loss of each epoch, training and validation,
            relative, shape ``(max_epochs,)``.
        steps: likewise of each step, relative to its epoch's loss, shape ``(num_steps,)``.
        parameters: likewise of the parameters, by the number of updates they were recorded after.
        thresholds: where the grades part.
    """
    comparable, num_steps = can_be_compared(epochs, thresholds), np.size(steps)
    if comparable.all():
        return num_steps
    length = num_steps // np.size(epochs)
    first = int(np.argmin(comparable)) * length
    moved = {n for n, value in parameters.items() if not can_be_compared(value, thresholds)}
    for step in range(first, first + length):
        if not can_be_compared(np.asarray(steps)[step], thresholds) or step + 1 in moved:
            return step
    return first + length - 1


def not_comparable(steps: int, num_steps: int) -> str:
    """Why a run is chaotic: its free running can be compared in its first steps only."""
    return (
        f"its outcome cannot be compared: after {steps} of {num_steps} steps rounding alone drives "
        "equal trainings apart"
    )


@dataclass(frozen=True)
class Liveness:
    """The signs that a training has learned anything.

    Args:
        moved: its weights are not the initial ones.
        fell: its loss ended below its first step's.
        above_chance: its accuracy is better than that of a guess.
    """

    moved: bool
    fell: bool
    above_chance: bool


LIFELESS = {
    "moved": "its weights never moved",
    "fell": "its loss did not fall",
    "above_chance": "its accuracy is not above chance",
}
"""What is said where a sign is missing."""


def lifeless(run: Liveness, reference: Liveness) -> str | None:
    """Why a run counts as not having learned anything, or None. Two dead models agree.

    A plan may teach nothing: labels may be random, a rate too small. So a sign counts as missing
    only if the reference shows it, by more than rounding.
    """
    for sign, words in LIFELESS.items():
        if getattr(reference, sign) and not getattr(run, sign):
            return words
    return None


def unlearned(reference: Liveness) -> str | None:
    """What a reader should know of a plan by which even the reference learns nothing, or None."""
    missing = [words for sign, words in LIFELESS.items() if not getattr(reference, sign)]
    if not missing:
        return None
    return f"This plan teaches little, even to the float64 reference: {'; '.join(missing)}."
