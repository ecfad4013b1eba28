"""Which activation of one framework is which of another's, and the rungs that they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from framework_parity.common.judging.ladder import Finding

Layer = tuple[str, tuple[tuple[int, ...], ...]]
"""Of an activation the kind of its layer, as its framework calls it, and the shapes in probes."""

NEAR = 2.0**-4
"""How far off an activation may be, relative, for its values to say which one it is."""

LISTED = 6
"""How many names a sentence lists."""


def partners(
    exact: Mapping[str, Layer], received: Mapping[str, Layer], apart: Callable[[str, str], float]
) -> dict[str, str]:
    """Which activation of a run is which of the reference's, by the names of the latter.

    Of one shape these are: equal names, but for numbers of layers (``net.1``, ``Dense_1``), which
    count other things in each framework; then the nearest values; then the order among those of
    a kind, and among all, where there are as many; then equal numbers.

    Args:
        exact: the reference's, in the order of its network.
        received: likewise the run's.
        apart: how far one of the former and one of the latter are apart, relative.
    """
    pairs: dict[str, str] = {}

    def are_open(name: str, other: str) -> bool:
        taken = name in pairs or other in pairs.values()
        return not taken and other in received and exact[name][1] == received[other][1]

    pairs |= {n: n for n in exact if not is_numbered(n) and are_open(n, n)}
    both = [(name, other) for name in exact for other in received if are_open(name, other)]
    for name, other in sorted(both, key=lambda pair: apart(*pair)):
        if are_open(name, other) and apart(name, other) <= NEAR:
            pairs[name] = other
    for key in (plain_kind, lambda layer: ("", layer[1])):
        for kind in {key(layer) for layer in exact.values()}:
            ours = [n for n in exact if n not in pairs and key(exact[n]) == kind]
            others = [n for n in received if n not in pairs.values() and key(received[n]) == kind]
            pairs |= zip(ours, others, strict=True) if len(ours) == len(others) else ()
    return pairs | {n: n for n in exact if are_open(n, n)}


def plain_kind(layer: Layer) -> Layer:
    """A layer by the word for its kind that frameworks have in common."""
    word = re.sub(r"(\d+d|alization|ding)$", "", layer[0].lower())
    return {"linear": "dense"}.get(word, word), layer[1]


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
