"""What a model keeps besides its parameters and a forward pass moves: running statistics, say.

Its names are those of the layer and of what is kept, ``bn1.running_mean``. Which one is which of
another framework's is told by the layers' order in the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

BUFFER = "buffer/"
"""What comes before these names in a record."""
INITIAL = "initial_buffer"
"""The kind of those before the first step."""
WORDS = {
    **dict.fromkeys(("mean", "moving_mean"), "running_mean"),
    **dict.fromkeys(("var", "variance", "moving_var", "moving_variance"), "running_var"),
    "running_variance": "running_var",
}
"""What frameworks call otherwise."""


def parts(name: str) -> tuple[str, str]:
    """The layer of a buffer, and what it is; the layer is empty if it is the model itself."""
    layer, _, kept = name.rpartition(".")
    return layer, WORDS.get(kept, kept)


def in_order(names: Iterable[str], layers: Sequence[str]) -> list[str]:
    """Names of buffers in the order in which the network comes to their layers.

    Args:
        names: of one model.
        layers: names of what layers gave, in that order. Of others there is no telling: they keep
            their order behind them.
    """
    plain = [name.partition("#")[0] for name in layers]

    def place(name: str) -> int:
        layer = parts(name)[0]
        inside = (i for i, other in enumerate(plain) if f"{other}.".startswith(f"{layer}."))
        return next(inside, len(plain)) if layer else len(plain)

    return sorted(names, key=place)


def partners(
    own: Mapping[str, tuple[int, ...]], exact: Mapping[str, tuple[int, ...]]
) -> dict[str, str]:
    """Which buffer is which of the reference's, by the names of the former.

    Of what is kept and shaped alike these are: equal names, where all have them; then the order,
    where there are as many; else equal names.

    Args:
        own: shapes by name, in the order of the network.
        exact: likewise the reference's.
    """
    pairs: dict[str, str] = {}
    alike = {(parts(name)[1], shape) for name, shape in own.items()}
    for kind in alike:
        ours, theirs = (
            [name for name, shape in held.items() if (parts(name)[1], shape) == kind]
            for held in (own, exact)
        )
        if len(ours) == len(theirs) and {*map(same_name, ours)} != {*map(same_name, theirs)}:
            pairs |= zip(ours, theirs, strict=True)
        else:
            found = {same_name(name): name for name in theirs}
            pairs |= {n: found[same_name(n)] for n in ours if same_name(n) in found}
    return {name: pairs[name] for name in own if name in pairs}


def same_name(name: str) -> str:
    """A name that is the same in all frameworks where the layers are called alike."""
    layer, kept = parts(name)
    return f"{layer}.{kept}" if layer else kept
