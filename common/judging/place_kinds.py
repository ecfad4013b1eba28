"""Kinds of layers on images and sequences: convolution, pooling, flattening, means."""

from __future__ import annotations

import itertools
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
    near,
)
from framework_parity.common.reference.layer_formulas import (
    FUNCTIONS,
    PADDINGS,
    Floats,
    convolution,
    pooled,
)

EXAMPLES = 4
"""Of how many it is asked which filter a layer may have, before all are looked at."""
STRIDES = (1, 2, 3, 4)


def last(X: Floats, axis: int) -> Floats:
    """With the channels in the last axis."""
    return np.moveaxis(X, axis, -1)


def paddings(
    places: Sequence[int], out: Sequence[int], size: Sequence[int], stride: int
) -> Iterator[tuple[int, ...]]:
    """What may be padded before the first place, of each axis, with so many places afterwards."""
    ranges = []
    for n, o, k in zip(places, out, size, strict=True):
        need = (o - 1) * stride + k - n
        ranges.append([lo for lo in range(k) if -stride < need - lo <= k])
    return itertools.product(*ranges)


class Convolution(Kind):
    """A convolution and a bias."""

    name = "convolution"
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        if not 2 < inputs[0].ndim == target.ndim < 6:
            return
        for channels, (name, W) in itertools.product((target.ndim - 1, 1), parameters.items()):
            if W.ndim != target.ndim:
                continue
            X, Y = (last(A[:EXAMPLES], channels) for A in (inputs[0], target))
            for axes in itertools.permutations(range(W.ndim)):
                K = W.transpose(axes)
                groups = X.shape[-1] // K.shape[-2]
                if K.shape[-1] != Y.shape[-1] or groups * K.shape[-2] != X.shape[-1]:
                    continue
                if not groups or K.shape[-1] % groups or [*axes[:-2]] != sorted(axes[:-2]):
                    continue
                for stride in STRIDES:
                    out = Y.shape[1:-1]
                    for before in paddings(X.shape[1:-1], out, K.shape[:-2], stride):
                        Z = convolution(X, K, stride, out, before, groups=groups)
                        bias = self.bias(Y - Z, Y, parameters)
                        if bias is not None:
                            yield Change(
                                "",
                                {"weight": name, "axes": axes, "channels": channels}
                                | {"stride": stride, "out": out, "padding": before}
                                | {"groups": groups, "beyond": "zeros", "bias": bias}
                                | {"turned": False, "swapped": False},
                            )

    @staticmethod
    def bias(rest: Floats, Y: Floats, parameters: Tensors) -> str | None:
        """The bias that is all that is left; None if it is not."""
        for name, b in ((NOTHING, np.zeros(())), *parameters.items()):
            if (name == NOTHING or b.shape == rest.shape[-1:]) and near(Y - rest + b, Y):
                return name
        return None

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        K = parameters[options["weight"]].transpose(options["axes"])
        spatial = tuple(range(K.ndim - 2))
        K = np.flip(K, spatial) if options["turned"] else K
        K = K.transpose(*reversed(spatial), -2, -1) if options["swapped"] else K
        channels = options["channels"]
        X = last(inputs[0], channels)
        given = options["stride"], options["out"], options["padding"], options["beyond"]
        Y = convolution(X, K, *given, groups=options["groups"])
        Y = Y if options["bias"] == NOTHING else Y + parameters[options["bias"]]
        return np.moveaxis(Y, -1, channels)

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        W = parameters[options["weight"]]
        K = W.transpose(options["axes"])
        X = last(inputs[0], options["channels"])
        size = K.shape[:-2]
        for before in paddings(X.shape[1:-1], options["out"], size, options["stride"]):
            if before != options["padding"]:
                yield Change("padding", {"padding": before})
        for mode in PADDINGS:
            if mode != options["beyond"] and all(k > 1 for k in size):
                yield Change("beyond", {"beyond": mode})
        if options["bias"] != NOTHING:
            yield Change("bias", {"bias": NOTHING})
        yield Change("turned", {"turned": True})
        if len(size) > 1 and len(set(size)) == 1:
            yield Change("swapped", {"swapped": True})
        if K.shape[-1] == K.shape[-2]:
            axes = options["axes"]
            yield Change("transposition", {"axes": (*axes[:-2], axes[-1], axes[-2])})
        for name, other in parameters.items():
            if name != options["weight"] and other.shape == W.shape:
                yield Change("weight", {"weight": name})

    def say(self, label: str, options: Options) -> str:
        words = {"turned": ("as it is", "turned by 180°"), "swapped": ("as they are", "swapped")}
        if label in words:
            return words[label][options[label]]
        if label == "padding":
            return say_padding(options)
        if label == "transposition":
            return "inputs and outputs in the order of axes {}, {}".format(*options["axes"][-2:])
        return super().say(label, options)


def say_padding(options: Options) -> str:
    """How much is padded before the first place, in words."""
    return f"{' and '.join(map(str, options['padding']))} before the first place"


class Pooling(Kind):
    """The largest, or the mean, of windows of f(x), and perhaps flattened."""

    name = "pooling"
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X, Y = inputs[0][:EXAMPLES], target[:EXAMPLES]
        d = X.ndim - 2
        if not 0 < d < 4 or Y.ndim not in (2, X.ndim) or X.shape[1:] == Y.shape[1:]:
            return
        for channels, size, stride in itertools.product((d + 1, 1), (2, 3, 4), STRIDES):
            places = last(X, channels).shape[1:-1]
            plain = tuple((n - size) // stride + 1 for n in places)
            out = last(Y, channels).shape[1:-1] if Y.ndim == X.ndim else plain
            if min(out) < 1:
                continue
            options: Options = {"channels": channels, "size": size, "stride": stride, "out": out}
            orders = [NOTHING] if Y.ndim == X.ndim else itertools.permutations(range(1, X.ndim))
            ways = itertools.product(
                paddings(places, out, [size] * d, stride), ((1, 1), (0, 1), (0, 0)), orders
            )
            for before, (largest, counted), order in ways:
                options |= {"padding": before, "takes": largest > 0, "counted": counted > 0}
                options |= {"order of axes": order}
                for function in FUNCTIONS:
                    options |= {"function": function}
                    found = self.compute(options, [X], parameters, Y)
                    if found.shape != Y.shape:
                        break
                    if near(found, Y):
                        yield Change("", dict(options))

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        given = (options[name] for name in ("takes", "size", "stride", "out", "padding", "counted"))
        X = last(applied(options["function"], inputs[0], 0.0), options["channels"])
        Y = np.moveaxis(pooled(X, *given), -1, options["channels"])
        return reordered(Y, options["order of axes"])

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        X, out = last(inputs[0], options["channels"]), options["out"]
        yield Change("takes", {"takes": not options["takes"]})
        if not options["takes"]:
            yield Change("counted", {"counted": not options["counted"]})
        for size in (2, 3, 4):
            for before in paddings(X.shape[1:-1], out, [size] * len(out), options["stride"]):
                if size != options["size"]:
                    yield Change("size", {"size": size, "padding": before})
                elif before != options["padding"]:
                    yield Change("padding", {"padding": before})
        if options["order of axes"] != NOTHING:
            yield from other_orders(options["order of axes"])
        for name in FUNCTIONS:
            if name != options["function"]:
                yield Change("function", {"function": name})

    def say(self, label: str, options: Options) -> str:
        words = {
            "takes": ("the mean", "the largest"),
            "counted": ("not counted in the mean", "counted in the mean"),
        }
        if label in words:
            return words[label][options[label]]
        return say_padding(options) if label == "padding" else super().say(label, options)


def reordered(X: Floats, order: Sequence[int] | str) -> Floats:
    """As rows, the axes in an order; as it is, if there is none."""
    return X if isinstance(order, str) else X.transpose(0, *order).reshape(len(X), -1)


def other_orders(order: Sequence[int]) -> Iterator[Change]:
    """All other orders of some axes."""
    for other in itertools.permutations(sorted(order)):
        if other != tuple(order):
            yield Change("order of axes", {"order of axes": other})


class Reduction(Kind):
    """One number of all along some axes."""

    name = "reduction"
    ways = ("mean", "max", "sum", "first", "last")

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X = inputs[0]
        if not 1 < target.ndim < X.ndim < 6:
            return
        for axes in itertools.combinations(range(1, X.ndim), X.ndim - target.ndim):
            if X.mean(axes).shape == target.shape:
                for way in self.ways:
                    yield Change("", {"axes": axes, "takes": way})

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        X, axes, way = inputs[0], options["axes"], options["takes"]
        if way in ("first", "last"):
            at = [
                (0 if way == "first" else -1) if a in axes else slice(None) for a in range(X.ndim)
            ]
            return X[tuple(at)]
        return np.asarray(getattr(X, way)(axes))

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        for way in self.ways:
            if way != options["takes"]:
                yield Change("takes", {"takes": way})
        X = inputs[0]
        kept = X.mean(options["axes"]).shape
        for axes in itertools.combinations(range(1, X.ndim), len(options["axes"])):
            if axes != options["axes"] and X.mean(axes).shape == kept:
                yield Change("axes", {"axes": axes})


class Flattening(Kind):
    """f(x) as rows, its axes in some order."""

    name = "flattening"
    most = 2

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X = inputs[0]
        if 2 < X.ndim < 6 and target.shape == (len(X), X[0].size):
            for order in itertools.permutations(range(1, X.ndim)):
                for function in FUNCTIONS:
                    options = {"order of axes": order, "function": function}
                    if near(self.compute(options, [X[:EXAMPLES]], {}, X), target[:EXAMPLES]):
                        yield Change("", options)

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        return reordered(applied(options["function"], inputs[0], 0.0), options["order of axes"])

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        yield from other_orders(options["order of axes"])
        for name in FUNCTIONS:
            if name != options["function"]:
                yield Change("function", {"function": name})
