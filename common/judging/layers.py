"""Which activation of one framework is which of another's, and the rungs that they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from framework_parity.common.judging.ladder import Finding

Shapes = tuple[tuple[int, ...], ...]
"""Those of an activation in the probed steps."""

LISTED = 6
"""How many names a sentence lists."""


def partners(
    exact: Mapping[str, Shapes], received: Mapping[str, Shapes], fits: Callable[[str, str], bool]
) -> dict[str, str]:
    """Which activation of a run is which of the reference's, by the names of the latter.

    Of one shape these are: equal names, but for numbers of layers (``net.1``, ``Dense_1``), which
    count other things in each framework; then equal values; then the order, where there are as
    many; then equal numbers.

    Args:
        exact: shapes of the reference's, in the order of its network.
        received: likewise the run's.
        fits: whether one of the former and one of the latter are the same within rounding.
    """
    pairs: dict[str, str] = {}

    def are_open(name: str, other: str) -> bool:
        taken = name in pairs or other in pairs.values()
        return not taken and exact[name] == received.get(other)

    pairs |= {n: n for n in exact if not is_numbered(n) and are_open(n, n)}
    for name in exact:
        for other in received:
            if are_open(name, other) and fits(name, other):
                pairs[name] = other
    for shapes in set(exact.values()):
        ours = [n for n in exact if n not in pairs and exact[n] == shapes]
        others = [n for n in received if n not in pairs.values() and received[n] == shapes]
        pairs |= zip(ours, others, strict=True) if len(ours) == len(others) else ()
    return pairs | {n: n for n in exact if are_open(n, n)}


def is_numbered(name: str) -> bool:
    """Whether the name of a layer is its number among others."""
    return name.rpartition(".")[2].rpartition("_")[2].isdigit()


def listed(names: Sequence[str]) -> str:
    """Names in a sentence, the first ones of many."""
    more = f" and {len(names) - LISTED} more" * (len(names) > LISTED)
    return f"{', '.join(names[:LISTED])}{more}"


def worst_of_rungs(findings: Sequence[Finding]) -> list[Finding]:
    """The worst finding of each tensor, in the ladder's order."""
    worst = dict[tuple[str, str], Finding]()
    for found in findings:
        key = found.stage, found.tensor
        if key not in worst or found.envelopes > worst[key].envelopes:
            worst[key] = found
    return list(worst.values())
