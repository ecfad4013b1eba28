"""The predictions that a run changed, in words: a handful of them, the rest counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LISTED = 5
"""How many changed predictions of a run are shown one by one."""


def flip_lines(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines on the changed predictions of a run; one by one only if it is not within rounding.

    Those that do not follow from the error of the run's logits come first, then the widest margins.
    None where outcomes cannot be compared: they tell nothing there.
    """
    flips = run["flips"]
    if not flips or flips[0]["explained"] is None:
        return
    count, unexplained = run["prediction_flips"], run["unexplained_flips"]
    differ = "prediction differs" if count == 1 else "predictions differ"
    which = f"{count - unexplained} of them, too small for {unexplained}"
    if not unexplained:
        which = "it" if count == 1 else "all of them"
    yield (
        f"{count} {differ} from the reference's; the error of the run's logits is large enough to "
        f"change {which}"
    )
    if run["grade"] in ("exact", "rounding"):
        return
    ranked = sorted(flips, key=lambda flip: (flip["explained"], -flip["margin"]))
    for flip in ranked[:LISTED]:
        fits = "large enough" if flip["explained"] else "too small"
        yield (
            f"  example {flip['example']} (label {flip['label']}): reference {flip['reference']}, "
            f"run {flip['run']}; the reference's logits are {flip['margin']:.2g} apart, the run's "
            f"are off by up to {flip['bound']:.2g}: {fits} to change it"
        )
    if count > LISTED:
        shown = sum(not flip["explained"] for flip in ranked[:LISTED])
        rest, left = count - min(LISTED, len(ranked)), unexplained - shown
        words = f"; the error is too small to change {left} of them" * (left > 0)
        yield f"  and {rest} more{words}"
