"""Kinds of layers: how to see that a layer is of one, and in what a port of it may differ.

Which kind a layer is, and which parameters are its own, is told by numbers: by a formula that gives
the reference's float64 output from its input.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from framework_parity.common.reference.layer_formulas import (
    FUNCTIONS,
    SLOPED,
    Floats,
    normalised,
)

Options = dict[str, Any]
Tensors = Mapping[str, Floats]
Roles = Mapping[str, str]
NOTHING = "none"
FEW = 32
"""Of how many rows it is asked which parameters a layer may have, before all are looked at."""


class Change(NamedTuple):
    """What may be otherwise: a label, the options that are then others, the number to solve for."""

    label: str
    options: Options
    solve: str | None = None


class Kind(ABC):
    """A kind of layer.

    Attributes:
        name: in words.
        arity: how many arrays it is computed from.
        most: how many changes at once are tried.
        alone: labels of those that are tried alone.
    """

    name: str
    arity = 1
    most = 1
    alone: frozenset[str] = frozenset()

    @abstractmethod
    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        """What a layer may be that gives this output: options, and a number to solve for.

        ``roles`` are its own parameters by what they are in it, where that is known.
        """

    @abstractmethod
    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        """What it gives; ``exact`` is what it gives in the reference, for its zeros."""

    @abstractmethod
    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        """In what a port may differ from these options."""

    def say(self, label: str, options: Options) -> str:
        """What the options say of a label, in words."""
        return said(options[label])


def said(value: object) -> str:
    """A value in words; roots of whole numbers as such."""
    if not isinstance(value, float):
        return str(value)
    for power, words in ((-2, "1/√"), (2, "√")):
        number = value**power if value > 0 else 0.0
        k = round(number) if number < 1e5 else 0
        if k > 1 and math.isqrt(k) ** 2 != k and abs(number / k - 1) < 1e-9:
            return f"{value:.4g} ({words}{k})"
    return f"{value:.6g}"


def applied(function: str, X: Floats, slope: float) -> Floats:
    """A function by its name."""
    return SLOPED[function](X, slope) if function in SLOPED else FUNCTIONS[function](X)


def other_functions(function: str) -> Iterator[Change]:
    """All functions but one; of one that has a slope, another slope."""
    for name in FUNCTIONS:
        if name != function:
            yield Change("function", {"function": name})
    for name in SLOPED:
        yield Change("function", {"function": name, "slope": 0.1}, "slope")


def say_function(options: Options) -> str:
    """A function in words."""
    name = options["function"]
    return f"{name} of {said(options['slope'])}" if name in SLOPED else str(name)


class Function(Kind):
    """c · f(x), where it is not dropped."""

    name = "function of single numbers"
    plain: ClassVar[Options] = {"slope": 0.0, "factor": 1.0, "dropped": False}

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        if inputs[0].shape != target.shape:
            return
        for name in FUNCTIONS:
            yield Change("", {**self.plain, "function": name})
        for name in SLOPED:
            yield Change("", {**self.plain, "function": name, "slope": 0.1}, "slope")
        yield Change("", {**self.plain, "function": NOTHING}, "factor")
        zeros = np.count_nonzero(target == 0) / target.size
        if 0.01 < zeros < 1:
            yield Change("", {**self.plain, "function": NOTHING, "dropped": True}, "factor")

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        found = options["factor"] * applied(options["function"], inputs[0], options["slope"])
        return np.where(exact == 0, 0.0, found) if options["dropped"] else found

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        if not options["dropped"]:
            yield from other_functions(options["function"])
        yield Change("factor", {}, "factor")

    def say(self, label: str, options: Options) -> str:
        return say_function(options) if label == "function" else super().say(label, options)


class Dense(Kind):
    """f(x W + b)."""

    name = "dense layer"

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X, Y = inputs[0][:FEW], target[:FEW]
        for name, W in parameters.items():
            for k, transposed in itertools.product(range(1, W.ndim), (False, True)):
                V = W.T if transposed else W
                if (transposed and W.ndim > 2) or not fits(X, V, k, Y):
                    continue
                Z, shape = np.tensordot(X, V, k), V.shape[k:]
                added: dict[str, Any] = {
                    NOTHING: 0.0,
                    **{n: b for n, b in parameters.items() if b.shape == shape},
                }
                for function, (bias, b) in itertools.product(FUNCTIONS, added.items()):
                    if near(applied(function, Z + b, 0.0), Y):
                        yield Change(
                            "",
                            {"weight": name, "axes": k, "transposed": transposed, "bias": bias}
                            | {"function": function, "slope": 0.0, "factor": 1.0},
                        )

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        W, bias = parameters[options["weight"]], options["bias"]
        W = W.T if options["transposed"] else W
        Z = np.tensordot(inputs[0], W, options["axes"])
        Z = Z if bias == NOTHING else Z + parameters[bias]
        return np.asarray(options["factor"] * applied(options["function"], Z, options["slope"]))

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        W, bias = parameters[options["weight"]], options["bias"]
        if bias != NOTHING:
            yield Change("bias", {"bias": NOTHING})
        if W.ndim == 2 and W.shape[0] == W.shape[1]:
            yield Change("transposition", {"transposed": not options["transposed"]})
        for name, other in parameters.items():
            if name != options["weight"] and other.shape == W.shape:
                yield Change("weight", {"weight": name})
        yield from other_functions(options["function"])
        yield Change("factor", {}, "factor")

    def say(self, label: str, options: Options) -> str:
        if label == "transposition":
            place = "transposed" if options["transposed"] else "as it is on record"
            return f"{options['weight']} {place}"
        return say_function(options) if label == "function" else super().say(label, options)


def fits(X: Floats, W: Floats, k: int, Y: Floats) -> bool:
    """Whether a product over k axes has these shapes."""
    return X.ndim > k and X.shape[-k:] == W.shape[:k] and (*X.shape[:-k], *W.shape[k:]) == Y.shape


EXACT = 2.0**-30
"""How far from the reference's float64 output, relative to its largest entry, a formula may be that
is the layer's: float64 rounds by far less."""


def near(found: Floats, exact: Floats) -> bool:
    """Whether one is the other, but for float64's rounding."""
    if found.shape != exact.shape:
        return False
    scale = float(np.abs(exact).max(initial=0.0))
    return scale > 0 and bool((np.abs(found - exact) <= EXACT * scale).all())


class Normalisation(Kind):
    """γ (x − mean) / √(variance + ε) + β."""

    name = "normalisation"
    most = 3
    alone = frozenset({"over", "scale", "shift"})

    def guesses(
        self, inputs: Sequence[Floats], target: Floats, parameters: Tensors, roles: Roles
    ) -> Iterator[Change]:
        X = inputs[0]
        if X.shape != target.shape or X.ndim < 2:
            return
        for over in self.ways(X):
            shape = places(X, over)
            for centred in (True, False):
                Z = normalised(X, over, 1e-5, centred, moments=moments_of(parameters, over))
                scales = self.near_slope(Z, target, shape, parameters)
                shifts = [n for n, p in parameters.items() if p.size == math.prod(shape)]
                for scale, shift in itertools.product(scales, [NOTHING, *shifts]):
                    affine = 1.0 if scale == NOTHING else parameters[scale].reshape(shape)
                    rest = target - affine * Z
                    moved = 0.0 if shift == NOTHING else parameters[shift].reshape(shape)
                    if np.median(np.abs(rest - moved)) > 0.05 * np.abs(target).max():
                        continue
                    for biased, inside in itertools.product((True, False), repeat=2):
                        options: Options = {"over": over, "centred": centred, "variance": biased}
                        options |= {"place": inside, "scale": scale, "shift": shift}
                        yield Change("", options | {"epsilon": 1e-5}, "epsilon")

    @staticmethod
    def ways(X: Floats) -> Iterator[tuple[str, int, int]]:
        """Over what numbers like these may be normalised."""
        yield from (("features", k, 0) for k in range(1, X.ndim))
        channels = sorted({1, X.ndim - 1})
        yield from (("batch", axis, 0) for axis in reversed(channels))
        if X.ndim > 2:
            for axis in reversed(channels):
                size = X.shape[axis]
                yield from (("groups", axis, g) for g in range(1, size + 1) if size % g == 0)

    @staticmethod
    def near_slope(
        Z: Floats, target: Floats, shape: Sequence[int], parameters: Tensors
    ) -> Iterator[str]:
        """The parameters that what is normalised may be multiplied with; nothing, too."""
        whole = (1,) * (Z.ndim - len(shape)) + tuple(shape)
        axes = tuple(a for a, size in enumerate(whole) if size == 1)
        centred, moved = (A - A.mean(axes, keepdims=True) for A in (Z, target))
        square = (centred**2).sum(axes, keepdims=True)
        slopes = ((centred * moved).sum(axes, keepdims=True) / square).ravel()
        given = {NOTHING: np.ones(math.prod(shape))}
        given |= {n: p.ravel() for n, p in parameters.items() if p.size == math.prod(shape)}
        for name, values in given.items():
            scale = np.abs(values).max()
            if scale and np.nanmedian(np.abs(slopes - values)) <= 0.1 * scale:
                yield name

    def compute(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors, exact: Floats
    ) -> Floats:
        over = options["over"]
        shape = places(inputs[0], over)
        given = options["epsilon"], options["centred"], options["variance"], options["place"]
        found = normalised(inputs[0], over, *given, moments_of(parameters, over))
        if options["scale"] != NOTHING:
            found = found * parameters[options["scale"]].reshape(shape)
        if options["shift"] != NOTHING:
            found = found + parameters[options["shift"]].reshape(shape)
        return found

    def changes(
        self, options: Options, inputs: Sequence[Floats], parameters: Tensors
    ) -> Iterator[Change]:
        yield Change("epsilon", {}, "epsilon")
        for label in ("place", "variance", "centred"):
            yield Change(label, {label: not options[label]})
        for label in ("scale", "shift"):
            if options[label] != NOTHING:
                yield Change(label, {label: NOTHING})
        size = math.prod(places(inputs[0], options["over"]))
        for over in self.ways(inputs[0]):
            if over != options["over"] and (
                options["scale"] == options["shift"] == NOTHING
                or math.prod(places(inputs[0], over)) == size
            ):
                yield Change("over", {"over": over})

    def say(self, label: str, options: Options) -> str:
        value = options[label]
        words = {
            "place": ("outside the root", "inside the root"),
            "variance": ("divided by n − 1", "divided by n"),
            "centred": ("not subtracted", "subtracted"),
        }
        if label in words:
            return words[label][value]
        if label != "over":
            return super().say(label, options)
        kind, axis, groups = value
        if kind == "features":
            return "the last axis" if axis == 1 else f"the last {axis} axes"
        if kind == "batch":
            return f"all axes but {axis}"
        return f"{groups} groups along axis {axis}"


MOMENTS = "moments of axis "
"""Among the parameters: mean, variance and number of what a layer is given, by channel, where not
all of that is on record."""


def moments_of(parameters: Tensors, over: tuple[str, int, int]) -> Floats | None:
    """The moments of the whole batch, where they are on record."""
    kind, axis, _ = over
    return parameters.get(f"{MOMENTS}{axis}") if kind == "batch" else None


def places(X: Floats, over: tuple[str, int, int]) -> tuple[int, ...]:
    """The shape of a scale or shift that goes with a normalisation."""
    kind, axis, _ = over
    if kind == "features":
        return X.shape[-axis:]
    return tuple(size if a == axis else 1 for a, size in enumerate(X.shape))
