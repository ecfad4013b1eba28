"""Grades and verdicts: their order, which of them fail, and the rules that every judge shares."""

from __future__ import annotations

from collections.abc import Sequence

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


def lifeless(
    moved: bool,
    fell: bool,
    reference_fell: bool,
    accuracy: float,
    num_outputs: int,
    parameters: str = "weights",
) -> str | None:
    """Why a run counts as not having learned anything, or None. Two dead models agree.

    Args:
        moved: whether its parameters did.
        fell: whether its loss did.
        reference_fell: whether the reference's did; where it does not, as in a single epoch at
            too high a learning rate, a run's need not either.
        accuracy: of the validation, at the end.
        num_outputs: classes.
        parameters: what the parameters are called.
    """
    if not moved:
        return f"the {parameters} never moved"
    if reference_fell and not fell:
        return "the loss did not fall"
    if not accuracy > 1 / num_outputs:
        return f"its accuracy is not above chance, {1 / num_outputs:.3g}"
    return None
