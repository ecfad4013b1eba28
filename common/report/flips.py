"""The predictions that a run changed, in words: a handful of them, the rest counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LISTED = 5
"""How many changed predictions of a run are shown one by one."""


def flip_lines(run: Mapping[str, Any]) -> Iterator[str]:
    """Lines on the changed predictions of a run; one by one only if it is not within rounding.

    Those that the error of the run's logits does not explain come first, then the widest margins.
    None where outcomes cannot be compared: they tell nothing there.

    Args:
        run: of a report's ``runs``, done.
    """
    flips = run["flips"]
    if not flips or flips[0]["explained"] is None:
        return
    count, unexplained = run["prediction_flips"], run["unexplained_flips"]
    yield (
        f"{count} prediction{'s' * (count != 1)} changed: {count - unexplained} explained by the "
        f"error of their logits, {unexplained} not"
    )
    if run["grade"] in ("exact", "rounding"):
        return
    ranked = sorted(flips, key=lambda flip: (flip["explained"], -flip["margin"]))
    for flip in ranked[:LISTED]:
        kind, sign = ("explained", "≤") if flip["explained"] else ("not explained", ">")
        yield (
            f"  example {flip['example']} (label {flip['label']}): reference {flip['reference']}, "
            f"run {flip['run']}; margin {flip['margin']:.2g} {sign} bound {flip['bound']:.2g}: "
            f"{kind}"
        )
    if count > LISTED:
        shown = sum(not flip["explained"] for flip in ranked[:LISTED])
        rest = count - min(LISTED, len(ranked))
        yield f"  and {rest} more, {unexplained - shown} of them not explained"
