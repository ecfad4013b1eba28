"""What a bisection found, in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from framework_parity.common.environments.specifier import label
from framework_parity.common.report.findings import count, how_far, is_boundless, where


def bisection_lines(facts: dict[str, Any]) -> Iterator[str]:
    """The pair of releases, what was passed over, and for each implementation what changed."""
    name, before, after = facts["backend"], facts["last_alike"], facts["first_different"]
    releases, tried = facts["releases"], facts["tried"]
    for release, reason in facts["skipped"].items():
        yield f"{label(name, release)}: passed over, it cannot be had: {reason}"
    what = "grade is" if facts["by"] == "grade" else "record is, bit for bit,"
    yield (
        f"bisection: {label(name, after)} is the first of {len(releases)} releases from "
        f"{releases[0]} to {releases[-1]} whose {what} not the oldest's; {label(name, before)} is "
        f"the last before it; {len(tried)} tried."
    )
    if between := facts["between"]:
        yield (
            f"bisection: it may as well be one of those between them that cannot be had: "
            f"{', '.join(between)}"
        )
    for change in facts["changes"]:
        yield from _change_lines(change)


def _change_lines(change: dict[str, Any]) -> Iterator[str]:
    name = change["implementation"]
    before, after = change["grades"]
    if before != after:
        because = f": {change['reason']}" if change["reason"] else ""
        yield f"{name}: {before} → {after}{because}"
    if found := change["divergence"]:
        yield f"{name}: first divergence at {where(found)}: {how_far(found)}"
    if change["cause"]:
        yield f"{name}: {change['cause']}"
    if first := change["first"]:
        how = "missing, or of another shape, in one of them"
        if not is_boundless(first["error"]):
            how = f"differs by up to {first['error']:.2g}, {count(first['envelopes'])} rounding"
        yield f"{name}: first difference of the two at {where(first)}: {how}"
    if change["parameter_error"] is not None:
        yield (
            f"{name}: after training a parameter of the two differs by up to "
            f"{change['parameter_error']:.2g}, {count(change['parameter_envelopes'])} rounding"
        )
    moved = [f"{library} {old} → {new}" for library, (old, new) in change["versions"].items()]
    if moved:
        yield f"{name}: libraries: {', '.join(moved)}"
