"""Kinds of layers that weigh positions: softmax, attention; and sums around a block."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from framework_parity.common.judging.layer_kinds import (
    NOTHING,
    Change,
    Kind,
    Options,
    Roles,
    Tensors,
    applied,
)
from framework_parity.common.reference.layer_formulas import FUNCTIONS, Floats, attention, softmax


class Softmax(Kind):
    """exp(x / T) over its sum."""

    name = "softmax"
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X = inputs[0]
        if X.shape != target.shape:
            return
        for axis, log, mask in itertools.product(
            range(X.ndim - 1, 0, -1), (False, True), self.masks(X)
        ):
            options = {"axis": axis, "log": log, "mask": mask, "late": False, "temperature": 1.0}
            yield Change("", options)
            yield Change("", options, "temperature")

    @staticmethod
    def masks(X: Floats) -> Sequence[str]:
        square = X.ndim > 2 and X.shape[-1] == X.shape[-2]
        return (NOTHING, "causal", "its zeros") if square else (NOTHING, "its zeros")

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        X = inputs[0] / options["temperature"]
        mask = None
        if options["mask"] == "causal":
            mask = np.tril(np.ones(X.shape[-2:]))
        elif options["mask"] == "its zeros":
            mask = (exact != 0).astype(np.float64)
        if mask is not None and options["axis"] != X.ndim - 1:
            return np.full(X.shape, np.inf)
        found = softmax(X, options["axis"], mask, options["late"])
        return np.log(found) if options["log"] else found

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        yield Change("temperature", {}, "temperature")
        for axis in range(1, inputs[0].ndim):
            if axis != options["axis"]:
                yield Change("axis", {"axis": axis})
        yield Change("log", {"log": not options["log"]})
        for mask in self.masks(inputs[0]):
            if mask != options["mask"] and mask != "its zeros":
                yield Change("mask", {"mask": mask})
        if options["mask"] != NOTHING:
            yield Change("late", {"late": True})

    def say(self, label: str, options: Options) -> str:
        words = {
            "late": ("before the softmax", "after the softmax"),
            "log": ("not taken", "taken"),
        }
        return words[label][options[label]] if label in words else super().say(label, options)


class Attention(Kind):
    """softmax(s · Q Kᵀ) V."""

    name = "attention"
    arity = 3
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        Q, K, V = inputs
        if not (Q.ndim == 3 and Q.shape == K.shape == V.shape == target.shape):
            return
        d = Q.shape[-1]
        for heads in (h for h in range(1, d + 1) if d % h == 0):
            for mask in (NOTHING, "causal"):
                options = {"heads": heads, "mask": mask, "scale": math.sqrt(heads / d)}
                yield Change("", options)
        yield Change("", {"heads": 1, "mask": NOTHING, "scale": math.sqrt(1 / d)}, "scale")

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        Q, K, V = inputs
        return attention(Q, K, V, options["heads"], options["scale"], options["mask"])

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        yield from attention_changes(options, inputs[0].shape[-1])

    def say(self, label: str, options: Options) -> str:
        return say_mask(options) if label == "mask" else super().say(label, options)


class Scores(Kind):
    """s · Q Kᵀ."""

    name = "product of queries and keys"
    arity = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        Q, K = inputs
        if Q.ndim > 2 and Q.shape == K.shape and target.shape == (*Q.shape[:-1], Q.shape[-2]):
            yield Change("", {"scale": 1 / math.sqrt(Q.shape[-1])}, "scale")

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        Q, K = inputs
        return np.asarray(options["scale"] * (Q @ K.swapaxes(-1, -2)))

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        yield Change("scale", {}, "scale")


class Sum(Kind):
    """a + b: what goes around a block, and what comes out of it."""

    name = "sum"
    arity = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        if inputs[0].shape == inputs[1].shape == target.shape:
            for function in (NOTHING, "ReLU"):
                yield Change("", {"first": True, "second": True, "function": function})

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        kept = zip((options["first"], options["second"]), inputs, strict=True)
        total = sum((A for keep, A in kept if keep), np.zeros_like(inputs[0]))
        return applied(options["function"], total, 0.0)

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        yield Change("first", {"first": False})
        yield Change("second", {"second": False})
        for name in FUNCTIONS:
            if name != options["function"]:
                yield Change("function", {"function": name})

    def say(self, label: str, options: Options) -> str:
        if label == "function":
            return str(options["function"])
        return "added" if options[label] else "not added"


class AttentionLayer(Kind):
    """Attention of an array to itself, with the products before and after it."""

    name = "attention layer"
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X = inputs[0]
        if X.ndim != 3 or not {f"{role} weight" for role in PARTS} <= roles.keys():
            return
        d = parameters[roles["query weight"]].shape[-1]
        held = {
            role: roles.get(role, NOTHING)
            for part in PARTS
            for role in (f"{part} weight", f"{part} bias")
        }
        for heads in (h for h in range(1, d + 1) if d % h == 0):
            for mask in (NOTHING, "causal"):
                yield Change("", held | {"heads": heads, "mask": mask, "scale": (heads / d) ** 0.5})

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        def product(X: Floats, part: str) -> Floats:
            W, bias = parameters[options[f"{part} weight"]], options[f"{part} bias"]
            return np.asarray(X @ W + (0.0 if bias == NOTHING else parameters[bias]))

        Q, K, V = (product(inputs[0], part) for part in PARTS[:3])
        given = options["heads"], options["scale"], options["mask"]
        return product(attention(Q, K, V, *given), "output")

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        d = parameters[options["query weight"]].shape[-1]
        yield from attention_changes(options, d)
        for part in PARTS:
            if options[f"{part} bias"] != NOTHING:
                yield Change(f"{part} bias", {f"{part} bias": NOTHING})

    def say(self, label: str, options: Options) -> str:
        return say_mask(options) if label == "mask" else super().say(label, options)


PARTS = ("query", "key", "value", "output")


def attention_changes(options: Options, d: int) -> Iterator[Change]:
    """In what an attention of d features may differ."""
    yield Change("scale", {}, "scale")
    for heads in range(1, d + 1):
        if d % heads == 0 and heads != options["heads"]:
            yield Change("heads", {"heads": heads, "scale": math.sqrt(heads / d)})
    for mask in (NOTHING, "causal", "causal, late"):
        if mask != options["mask"]:
            yield Change("mask", {"mask": mask})


def say_mask(options: Options) -> str:
    """A mask of an attention in words."""
    late = options["mask"] == "causal, late"
    return "causal, on the weights, after the softmax" if late else str(options["mask"])
