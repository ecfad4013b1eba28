"""One step of an optimizer by hand, from what a probed step began with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.model_ladder import ModelLadder
from framework_parity.common.reference import optimizers
from framework_parity.common.reference.optimizers import Adam, Optimizer, clip_factors
from framework_parity.common.training.optimizer_state import ARGUMENTS, OPTIMIZER
from framework_parity.common.training.record import Record

SAMPLE = 1024
"""How many entries of a tensor a first fit looks at."""


@dataclass(frozen=True)
class Begin:
    """What a probed step began with, in float64.

    Args:
        step: counted from 0.
        parameters: by name.
        gradients: the run's; before they were clipped, if they were.
        memory: what the optimizer had, by kind and name.
        norms: of the whole gradients.
    """

    step: int
    parameters: Mapping[str, Array]
    gradients: Mapping[str, Array]
    memory: Mapping[str, Any]
    norms: Mapping[str, float]

    @classmethod
    def of(cls, ladder: ModelLadder, record: Record, step: int) -> Begin:
        """What a run was given at a step: the reference's state, as far as the run has the like.

        Gradients are its own, which are the reference's but for their rounding.
        """
        names, arrays = ladder.parameters, record.arrays
        gradients = {n: arrays[f"probe/{step}/gradient/{n}"].astype(np.float64) for n in names}
        own, given = record.states()[step], ladder.reference.states()[step]
        memory: dict[str, Any] = {}
        for name in own if step else ():
            if not name.startswith(OPTIMIZER):
                continue
            kind, _, whose = name.removeprefix(OPTIMIZER).partition("/")
            value = given.get(name, own[name])
            if kind == "count":
                memory[kind] = int(value)
            else:
                cast = value.astype(ladder.plan.recipe.dtype).astype(np.float64)
                memory.setdefault(kind, {})[whose] = cast
        return cls(
            step,
            {name: ladder.given(step, name) for name in names},
            gradients,
            memory,
            {name: float(np.linalg.norm(value)) for name, value in gradients.items()},
        )

    def sampled(self) -> Begin:
        """Some entries of each tensor: all that an optimizer computes is by entry."""
        memory = {
            kind: sampled_each(kept) if isinstance(kept, Mapping) else kept
            for kind, kept in self.memory.items()
        }
        parts = sampled_each(self.parameters), sampled_each(self.gradients)
        return Begin(self.step, *parts, memory, self.norms)


def sampled(array: Array) -> Array:
    """Some entries of a tensor, always the same ones."""
    flat = np.ravel(array)
    return flat[:: max(flat.size // SAMPLE, 1)]


def sampled_each(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Some entries of each tensor."""
    return {name: sampled(array) for name, array in arrays.items()}


@dataclass(frozen=True)
class Rule:
    """An optimizer, with all that decides its steps.

    Args:
        kind: its class.
        options: arguments of that, but parameters and learning rate.
        rates: the learning rate of each step.
        decoupled: whether weight decay is.
        clip: limit, kind and eps of :func:`optimizers.clipped`; None: nothing is clipped.
        factor: by which gradients are multiplied.
        first_count: the number of steps that a new optimizer says it made.
        lagging: whether a velocity keeps the rate of the step that it comes from, as in Keras and
            MXNet: ``v ← m v − lr g``.
    """

    kind: type[Optimizer]
    options: Mapping[str, Any]
    rates: tuple[float, ...]
    decoupled: bool = False
    clip: tuple[float, str, float] | None = None
    factor: float = 1.0
    first_count: int = 0
    lagging: bool = False

    @classmethod
    def of(cls, record: Record, num_steps: int) -> Rule | None:
        """What a record says of its optimizer; None if it does not, or of a kind unknown here."""
        said = dict(record.facts.get(ARGUMENTS) or {})
        kind = getattr(optimizers, str(said.pop("kind", "")), None)
        if kind is None:
            return None
        lr, clip = said.pop("lr"), said.pop("clip", None)
        rates = [float(lr)] * num_steps if isinstance(lr, (int, float)) else lr
        if len(rates) < num_steps:
            return None
        decoupled, lagging = said.pop("decoupled", kind.decoupled), said.pop("lagging", False)
        defaults = {n: p.default for n, p in [*inspect.signature(kind).parameters.items()][2:]}
        given = {n: tuple(v) if isinstance(v, list) else v for n, v in said.items()}
        kind = Adam if kind.decoupled else kind
        clip = clip and tuple(clip)
        return cls(kind, defaults | given, tuple(rates), decoupled, clip, lagging=lagging)

    def after(self, begin: Begin) -> dict[str, Array]:
        """The changes of the parameters and what is remembered then, by the names of a probe."""
        step, parameters = begin.step, {n: np.array(v) for n, v in begin.parameters.items()}
        rate = self.rates[step]
        optimizer = self.kind(parameters, rate, **self.options)
        optimizer.decoupled = self.decoupled
        if step:
            held = {k: dict(v) if isinstance(v, Mapping) else v for k, v in begin.memory.items()}
            optimizer.state = {"count": step, **held}
        else:
            optimizer.state["count"] = self.first_count
        if self.lagging and step and "velocity" in optimizer.state:
            last = self.rates[step - 1] / rate
            kept = optimizer.state["velocity"].items()
            optimizer.state["velocity"] = {name: last * value for name, value in kept}
        optimizer.step(self.gradients(begin))
        found = {f"update/{n}": parameters[n] - begin.parameters[n] for n in parameters}
        for kind, kept in optimizer.state.items():
            if kind == "count":
                found[f"{OPTIMIZER}{kind}"] = np.array(float(kept))
            else:
                found |= {f"{OPTIMIZER}{kind}/{name}": value for name, value in kept.items()}
        return found

    def gradients(self, begin: Begin) -> dict[str, Array]:
        """What the optimizer is given."""
        found = {name: self.factor * value for name, value in begin.gradients.items()}
        if self.clip is None:
            return found
        limit, by, eps = self.clip
        if by == "value":
            return {name: np.clip(value, -limit, limit) for name, value in found.items()}
        norms = {name: self.factor * norm for name, norm in begin.norms.items()}
        factors = clip_factors(norms, limit, by, eps)
        return {name: factors[name] * value for name, value in found.items()}

    def differences(self, other: Rule) -> list[str]:
        """In what its arguments differ from another's, in words: its own, and the other's."""
        mine, its = self.arguments(), other.arguments()
        found = [f"{n} {mine[n]}, not {its.get(n, 'none')}" for n in mine if mine[n] != its.get(n)]
        steps = min(len(self.rates), len(other.rates))
        ours, others = (np.array(rule.rates[:steps]) for rule in (self, other))
        if not np.allclose(ours, others, rtol=ROUNDED, atol=0):
            same = np.allclose(ours[[0, -1]], others[[0, -1]], rtol=ROUNDED, atol=0)
            ends = f"lr {ends_of(ours)}, not {ends_of(others)}"
            found.append("another schedule of lr" if same else ends)
        return found

    def arguments(self) -> dict[str, object]:
        """What it is, but for the learning rate."""
        decays = self.options["weight_decay"]
        has_decay = any(decays.values()) if isinstance(decays, Mapping) else decays
        held = {"kind": self.kind.__name__, **self.options, "clip": self.clip}
        return held | ({"decoupled": self.decoupled} if has_decay else {})


ROUNDED = 1e-6
"""How far learning rates of two optimizers that are the same may be apart, relative: some keep
theirs in float32."""


def ends_of(rates: Array) -> str:
    """Learning rates in words."""
    first, last = f"{rates[0]:.6g}", f"{rates[-1]:.6g}"
    return f"from {first} to {last}" if np.ptp(rates) else first


class Corrected32(Adam):
    """Its bias correction ``1 − βᵗ`` is computed in float32: ``1 − 0.999`` is 1.3e-05 too small."""

    def correction(self, beta: float) -> float:
        one, count = np.float32(1), np.float32(self.state["count"])
        return float(one - np.float32(beta) ** count)


class Weighted32(Adam):
    """Its ``1 − β`` of what is new in an average is computed in float32."""

    def rest(self, beta: float) -> float:
        return float(np.float32(1) - np.float32(beta))


class Uncorrected(Adam):
    """It has no bias correction."""

    def correction(self, beta: float) -> float:
        return 1.0
