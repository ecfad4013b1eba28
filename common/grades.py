"""Grades and verdicts: their order, which of them fail, and the rules that every judge shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.errors import ParityError
from common.thresholds import Thresholds

GRADES = ("exact", "rounding", "drift", "disagree")
"""Of a run, from best to worst."""

VERDICTS = ("agree", "drift", "disagree", "incomplete")
"""Of a comparison, from best to worst."""

BEYOND = ("drift", "disagree")
"""The grades, and verdicts, beyond rounding."""


def verdict(statuses: Sequence[str], grades: Sequence[str | None]) -> str:
    """The verdict of a comparison from the status and grade of its runs.

    Returns:
        ``incomplete`` if something asked for did not run, or nothing was asked for; else
        ``disagree``, ``drift`` or ``agree`` after the worst grade.
    """
    worst = max((GRADES.index(grade) for grade in grades if grade), default=0)
    if not statuses or any(status != "done" for status in statuses):
        return "incomplete"
    return {"exact": "agree", "rounding": "agree"}.get(GRADES[worst], GRADES[worst])


def failing(fail_on: str) -> tuple[str, ...]:
    """The grades, and verdicts, that fail.

    Args:
        fail_on: ``drift`` or ``disagree``: the mildest of them.

    Raises:
        ParityError: if it is something else.
    """
    if fail_on not in BEYOND:
        raise ParityError(
            f"fail_on: expected {' or '.join(BEYOND)}; received {fail_on!r}; choose one of them"
        )
    return BEYOND[BEYOND.index(fail_on) :]


def can_be_compared(loss: float, thresholds: Thresholds) -> bool:
    """Whether free runs decide the grade: rounding alone moves no loss by more than drift may.

    A user who allows less drift than is usual asks for more, never for a comparison of single
    steps alone: it is the usual allowance that counts then.

    Args:
        loss: how far rounding alone moves an epoch's loss, relative.
        thresholds: where the grades part.
    """
    return loss <= max(thresholds.drift_loss, Thresholds.drift_loss)


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

    Args:
        run: the signs of the run.
        reference: those that the reference shows by more than rounding.
    """
    for sign, words in LIFELESS.items():
        if getattr(reference, sign) and not getattr(run, sign):
            return words
    return None


def unlearned(reference: Liveness) -> str | None:
    """What a reader should know of a plan by which even the reference learns nothing, or None.

    Args:
        reference: the signs that it shows by more than rounding.
    """
    missing = [words for sign, words in LIFELESS.items() if not getattr(reference, sign)]
    if not missing:
        return None
    return f"This plan teaches little: of the float64 reference, too, {'; '.join(missing)}."
