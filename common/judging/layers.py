"""Which activation of one framework is which of another's, and the rungs that they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from math import inf

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.ladder import Finding

Layer = tuple[str, tuple[tuple[int, ...], ...]]
"""Of an activation the kind of its layer, as its framework calls it, and the shapes in probes."""

NEAR = 2.0**-4
"""How far off an activation may be, relative, for its values to say which one it is."""

SURE = 2.0**-4
"""How much nearer than any other a transposition must bring an activation to be the one."""

LISTED = 6
"""How many names a sentence lists."""


def partners(
    exact: Mapping[str, Layer],
    received: Mapping[str, Layer],
    apart: Callable[[str, str], float],
    given_apart: Callable[[str, str], float] = lambda *_: inf,
) -> dict[str, str]:
    """Which activation of a run is which of the reference's, by the names of the latter.

    Of one shape these are: equal names, but for numbers of layers (``net.1``, ``Dense_1``), which
    count other things in each framework; then the nearest values; then those whose layers alone
    are given the same; then the order among those of a kind, and among all, where there are as
    many; then equal numbers.

    Args:
        exact: the reference's, in the order of its network.
        received: likewise the run's.
        apart: how far one of the former and one of the latter are apart, relative.
        given_apart: likewise what their layers were given; infinite where that is not known.
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
    both = [pair for pair in both if are_open(*pair) and given_apart(*pair) <= NEAR]
    for name, other in both:
        if all((n == name) == (o == other) for n, o in both):
            pairs[name] = other
    for key in (plain_kind, lambda layer: ("", layer[1])):
        for kind in {key(layer) for layer in exact.values()}:
            ours = [n for n in exact if n not in pairs and key(exact[n]) == kind]
            others = [n for n in received if n not in pairs.values() and key(received[n]) == kind]
            pairs |= zip(ours, others, strict=True) if len(ours) == len(others) else ()
    return pairs | {n: n for n in exact if are_open(n, n)}


def turned(exact: Mapping[str, Array], received: Mapping[str, Array]) -> dict[str, tuple[int, ...]]:
    """By which transposition of its axes an activation of a run is one of the reference's.

    That is told by values: where one transposition alone brings an activation near to one of the
    reference's. Of what is near to none, it is that of all others of as many axes and of the same
    sizes.

    Args:
        exact: the reference's, of one step.
        received: likewise the run's.
    """
    found: dict[str, tuple[int, ...]] = {}
    left = []
    for name, value in received.items():
        alike = [a for a in exact.values() if sorted(a.shape) == sorted(value.shape)]
        if value.ndim < 3 or not alike:
            continue
        apart: dict[tuple[int, ...], float] = {}
        for axes in permutations(range(value.ndim)):
            other = value.transpose(axes)
            errors = [far(other, array) for array in alike if array.shape == other.shape]
            if errors:
                apart[axes] = min(errors)
        least, *others = sorted(apart, key=lambda axes: apart[axes])
        if apart[least] <= NEAR and all(apart[least] <= SURE * apart[o] for o in others):
            found[name] = least
        else:
            left.append((name, value, {a.shape for a in alike}))
    for name, value, shapes in left:
        axes_of = {axes for axes in found.values() if len(axes) == value.ndim}
        if len(axes_of) == 1 and value.transpose(*axes_of).shape in shapes:
            found[name] = axes_of.pop()
    return {name: axes for name, axes in found.items() if axes != tuple(range(len(axes)))}


def far(received: Array, exact: Array) -> float:
    """How far one array is from another of its shape, relative to the latter's largest entry."""
    scale = float(np.abs(exact).max(initial=0.0))
    return float(np.abs(received - exact).max(initial=0.0)) / scale if scale else 0.0


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
