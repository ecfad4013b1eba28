"""Which parameter of one framework is which of another: by a file's names, else by the layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.layers import Entry

Names = Mapping[str, str | Sequence[str]]
"""Of canonical names those of one framework: several of them are one, side by side."""


@dataclass(frozen=True)
class Wanted:
    """A parameter of the reference, for which each framework must have a partner.

    Args:
        name: the canonical one.
        kind, role, layer, trainable: as of :class:`Entry`; no kind: whatever has the shape.
        shape: the canonical one.
    """

    name: str
    kind: str
    role: str
    shape: tuple[int, ...]
    layer: str = ""
    trainable: bool = True

    @classmethod
    def like(cls, name: str, one: Wanted | Entry) -> Wanted:
        """What a parameter is, under another name."""
        return cls(name, one.kind, one.role, one.shape, one.layer, one.trainable)

    def facts(self) -> dict[str, Any]:
        """As a record holds it."""
        return {**vars(self), "shape": list(self.shape)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Wanted:
        """Undoes :meth:`facts`."""
        return cls(**{**facts, "shape": tuple(facts["shape"])})


def described(one: Wanted | Entry) -> str:
    """A parameter in words: ``net.0.bias (linear bias, 10)``."""
    return f"{one.name} ({', '.join(said_of(one))})"


def said_of(one: Wanted | Entry) -> tuple[str, str]:
    """What a parameter is, and its shape."""
    words = [f"{one.kind} {one.role}".strip() or "by hand", "" if one.trainable else "not trained"]
    return ", ".join(filter(None, words)), " × ".join(map(str, one.shape)) or "a number"


def named(entries: Sequence[Entry], names: Names, backend: str) -> dict[str, Entry]:
    """Those entries that a file names, by canonical name; arguments as of :func:`match`.

    Raises:
        ParityError: if it has no parameter of such a name, or it is named twice.
    """
    held, found = {entry.name: entry for entry in entries}, {}
    free = list(held)
    for name, said in names.items():
        parts = [said] if isinstance(said, str) else list(said)
        for one in parts:
            if one not in free:
                expected = f"NAMES of its parameters, each once: {', '.join(held)}"
                raise ParityError(backend, expected, f"{one} for {name}", "name one of these")
            free.remove(one)
        found[name] = side_by_side([held[one] for one in parts])
    return found


def side_by_side(parts: Sequence[Entry]) -> Entry:
    """Several parameters as one: their last axes one behind another."""
    if len(parts) == 1:
        return parts[0]

    def layout(*arrays: Array) -> Array:
        rest, made = list(arrays), []
        for part in parts:
            made.append(part.layout(*(rest.pop(0) for _ in part.tensors)))
        return np.concatenate(made, axis=-1)

    name = " + ".join(part.name for part in parts)
    tensors = {tensor: shape for part in parts for tensor, shape in part.tensors.items()}
    return replace(parts[0], name=name, tensors=tensors, layout=layout)


def table(entries: Sequence[Entry], names: Names, backend: str) -> dict[str, Entry]:
    """The reference's own parameters, by what are the canonical names from here on."""
    known = named(entries, names, backend)
    whose = {tensor: name for name, entry in known.items() for tensor in _keys(entry)}
    found: dict[str, Entry] = {}
    for entry in entries:
        name = next((whose[key] for key in _keys(entry) if key in whose), None)
        found.setdefault(name or entry.name, known[name] if name else entry)
    return found


def _keys(entry: Entry) -> list[str]:
    return entry.name.split(" + ")


def match(
    wanted: Sequence[Wanted],
    entries: Sequence[Entry],
    names: Names,
    by: str,
    backend: str,
) -> dict[str, Entry]:
    """The partner of each parameter, in the order of ``wanted``.

    That is the one of the file's names; else by hand the one of the same name and shape; else those
    of the same kind of layer, role and shape, in the order of the network, or of equal paths (a
    bias in the layer that has its weight); where the kinds differ, those of the same role and
    shape; at last of the same shape.

    Args:
        wanted: the reference's.
        entries: what a framework has.
        names: its part of the file's names.
        by: the reference's framework, for the error.
        backend: the framework, for the error.

    Raises:
        ParityError: if any parameter of one is none of the other.
    """
    given = {one.name: one for one in wanted}
    if unknown := [name for name in names if name not in given]:
        expected = f"NAMES of parameters of {by}: {', '.join(given)}"
        raise ParityError(backend, expected, unknown[0], f"say in NAMES which it is in {by}, too")
    found = named(entries, names, backend)
    used = {key for entry in found.values() for key in _keys(entry)}
    left = [one for one in wanted if one.name not in found]
    free = [entry for entry in entries if entry.name not in used]
    for name, entry in found.items():
        if entry.shape != given[name].shape:
            raise _alone(by, backend, [given[name]], [entry], {})
    for alike in (
        lambda one: id(one) if one.kind else (one.trainable, one.name, one.shape),
        lambda one: (one.trainable, one.kind, one.role, one.shape),
        lambda one: (one.trainable, one.role, one.shape),
        lambda one: (one.trainable, one.shape),
    ):
        keys = {alike(one): one.role.endswith(LATER) for one in left}
        for key in sorted(keys, key=lambda key: keys[key]):
            ours = [one for one in left if alike(one) == key]
            theirs = [one for one in free if alike(one) == key]
            pairs = _pairs(ours, theirs, _layers(given, found))
            found |= {one.name: entry for one, entry in pairs}
            taken = {id(entry) for _, entry in pairs}
            left = [one for one in left if one.name not in found]
            free = [entry for entry in free if id(entry) not in taken]
    if left or free:
        raise _alone(by, backend, left, free, _layers(given, found))
    return {one.name: found[one.name] for one in wanted}


def _layers(given: Mapping[str, Wanted], found: Mapping[str, Entry]) -> dict[str, str]:
    """Of layers that have one partner, whose partner they are, too, that one."""
    pairs = {(given[name].layer, entry.layer) for name, entry in found.items()}
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    return {a: b for a, b in pairs if a and b and ours.count(a) == theirs.count(b) == 1}


LATER = ("bias", "offset", "mean", "variance")
"""How roles end whose partner is in the layer that is the partner of their own."""


def _pairs(
    ours: Sequence[Wanted], theirs: Sequence[Entry], layers: Mapping[str, str]
) -> list[tuple[Wanted, Entry]]:
    """Of parameters that are alike those of paired ``layers``.

    Of the rest, where there are as many on both sides, those of equal paths, else in their order.
    """
    held = {entry.layer: entry for entry in theirs}
    pairs = [(one, held[layers[one.layer]]) for one in ours if layers.get(one.layer) in held]
    ours = [one for one in ours if one.layer not in layers]
    theirs = [entry for entry in theirs if entry.layer not in layers.values()]
    paths = {entry.layer: entry for entry in theirs}
    if len(paths) == len(theirs) and paths.keys() == {one.layer for one in ours}:
        theirs = [paths[one.layer] for one in ours]
    return pairs + list(zip(ours, theirs, strict=True)) if len(ours) == len(theirs) else pairs


def _alone(
    by: str,
    backend: str,
    left: Sequence[Wanted],
    free: Sequence[Entry],
    layers: Mapping[str, str],
) -> ParityError:
    """The error that names those without a partner: of as many alike, the last ones."""
    known = {*layers, *layers.values()}
    rest, alone = list(free), list[Wanted]()
    for one in left:
        alike = (e for e in rest if (e.role, e.shape) == (one.role, one.shape))
        partner = next((e for e in alike if not known & {one.layer, e.layer}), None)
        if partner is None:
            alone.append(one)
        else:
            rest.remove(partner)
    sides: list[tuple[Sequence[Wanted | Entry], str]] = [(alone, by), (rest, backend)]
    said = [f"{', '.join(map(described, side))} of {whose}" for side, whose in sides if side]
    twice = all(one.role == "recurrent bias" for side, _ in sides for one in side)
    return ParityError(
        backend,
        f"a partner for each parameter of {by}, and the other way round",
        f"none for {', and none for '.join(said)}",
        "a second bias that is trained makes another model: hold it at zero and do not train it, "
        "or have it in both"
        if twice
        else "make the models alike, or pair them in NAMES",
    )


def symbolic(
    wanted: Sequence[Wanted], num_inputs: int, num_outputs: int
) -> dict[str, tuple[int | str, ...]]:
    """Shapes with ``"inputs"`` and ``"outputs"`` for the numbers of features and classes.

    They are these where the first layer is linear and takes as many, or the last one is and gives
    as many. Whether their order does not matter is for a trial to tell.
    """
    shapes: dict[str, tuple[int | str, ...]] = {one.name: one.shape for one in wanted}
    linear = [one for one in wanted if (one.kind, one.role) == ("linear", "weight")]
    if linear and linear[0] == wanted[0] and linear[0].shape[0] == num_inputs:
        shapes[linear[0].name] = ("inputs", *shapes[linear[0].name][1:])
    if linear and linear[-1].layer == wanted[-1].layer and linear[-1].shape[1] == num_outputs:
        for one in wanted:
            if one.layer == linear[-1].layer:
                shapes[one.name] = (*shapes[one.name][:-1], "outputs")
    return shapes


def drawn(one: Wanted, generator: np.random.Generator) -> Array:
    """The first values of a layer's parameter, in float64, by its role.

    Weights are normal, of deviation 1/√(what a unit adds up), an embedding's 1/√(its features);
    scales and variances are one, the rest zero.
    """
    if one.role in ("scale", "variance") or (
        not one.role and len(one.shape) == 1 and is_scale(one.name)
    ):
        return np.ones(one.shape)
    if len(one.shape) < 2 or one.role.endswith(("bias", "offset", "mean")):
        return np.zeros(one.shape)
    length = one.shape[-1] if one.kind == "embedding" else np.prod(one.shape[:-1])
    return np.asarray(generator.standard_normal(one.shape) / np.sqrt(length))


def is_scale(name: str) -> bool:
    """Whether a vector is what a norm multiplies with, by its name."""
    low = name.lower()
    return low.endswith(("scale", "gamma")) or ("norm" in low and low.endswith("weight"))
