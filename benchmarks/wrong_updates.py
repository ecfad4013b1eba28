"""Faults of updates: what a framework made of a step is replaced by what a rule makes of it.

So are planted optimizers with a state, faults that begin late, last one step or come and go, and
those that look like a known one. Needs NumPy and the standard library only: workers import this
module.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from framework_parity.benchmarks.planting import Fault, Planter, Setup, at, since, with_changes
from framework_parity.common.core.arrays import Array
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.trainer import EpochMetrics

Rule = Callable[[Any, Array, Array], "Array | None"]
"""``rule(s, W, g)``: the change of a parameter from its value and its gradient, None where it is
right already. ``s`` knows ``name``, ``lr``, ``size``, ``step``, ``epoch``, whether this step
``starts`` or ``ends`` an epoch, and ``kept``: what the rule keeps of this parameter."""


def updates(rule: Rule) -> Planter:
    """Updates by a rule, in training and in probes, which are first steps."""

    def planter(setup: Setup, size: Any) -> Setup:
        plan, lr = setup.plan, setup.plan.recipe.lr

        def ruled(before: Parameters, after: Parameters, step: int, kept: Any) -> Parameters:
            epoch, place = divmod(step, plan.steps_per_epoch)
            found = {}
            for name, W in before.items():
                W = np.asarray(W, np.float64)
                s = SimpleNamespace(name=name, lr=lr, size=size, step=step, epoch=epoch)
                s.starts, s.ends = place == 0, place == plan.steps_per_epoch - 1
                s.kept = kept.setdefault(name, {})
                change = rule(s, W, (W - after[name]) / lr)
                new = after[name] if change is None else W + change
                found[name] = np.asarray(new).astype(after[name].dtype)
            return found

        class Faulty(setup.backend.Trainer):  # type: ignore[name-defined,misc]
            def fit_epoch(self, order: Rows) -> EpochMetrics:
                kept = vars(self).setdefault("kept_by_rule", {})
                metrics = []
                for i, start in enumerate(range(0, len(order), self.batch_size)):
                    before = copied(self.model.get_parameters())
                    metrics.append(super().fit_epoch(order[start : start + self.batch_size]))
                    after = copied(self.model.get_parameters())
                    setup.put(self, ruled(before, after, self.step + i, kept))
                return EpochMetrics(*map(np.concatenate, zip(*metrics, strict=True)))

            def probe(self, parameters: Parameters, X: Array, y: Array) -> Any:
                found = dict(super().probe(parameters, X, y))
                after = {name: found[f"update/{name}"] for name in parameters}
                new = ruled(parameters, after, 0, {})
                return found | {f"update/{name}": value for name, value in new.items()}

        return with_changes(setup, Trainer=Faulty)

    return planter


def copied(parameters: Parameters) -> Parameters:
    """Copies: a framework may give its own memory."""
    return {name: np.array(value) for name, value in parameters.items()}


def when(active: Callable[[int], bool], rule: Rule) -> Rule:
    """A rule that holds at some steps only."""
    return lambda s, W, g: rule(s, W, g) if active(s.step) else None


def now_and_then(step: int) -> bool:
    """At every tenth step."""
    return step % 10 == 9


# Rules without a state


def rate(s: Any, W: Array, g: Array) -> Array:
    """Another learning rate."""
    return -s.lr * s.size * g


def corrupted(s: Any, W: Array, g: Array) -> Array:
    """One weight is off."""
    change = -s.lr * g
    if s.name == "W":
        change[20, 3] += s.size
    return change


def flipped(s: Any, W: Array, g: Array) -> Array:
    """The wrong sign in one class."""
    change = -s.lr * g
    change[..., 4] *= -1
    return change


def one_class(s: Any, W: Array, g: Array) -> Array:
    """Another learning rate in one class."""
    change = -s.lr * g
    change[..., 4] *= s.size
    return change


def clipped_by_norm(s: Any, W: Array, g: Array) -> Array:
    """Each gradient clipped by its own norm."""
    return -s.lr * g * min(1.0, s.size / max(float(np.sqrt((g * g).sum())), 1e-30))


def bounded(s: Any, W: Array, g: Array) -> Array:
    """Columns kept from growing longer than a norm."""
    new = W - s.lr * g
    if s.name == "W":
        norms = np.sqrt((new * new).sum(axis=0))
        new *= np.minimum(1.0, s.size / np.maximum(norms, 1e-30))
    return new - W


def noisy(s: Any, W: Array, g: Array) -> Array:
    """Noise on the gradient."""
    random = np.random.default_rng([s.step, len(s.name), W.ndim])
    return -s.lr * (g + s.size * random.standard_normal(g.shape))


# Rules with a state


def stale(s: Any, W: Array, g: Array) -> Array:
    """The gradient of the step before."""
    last, s.kept["g"] = s.kept.get("g", 0 * g), g
    return -s.lr * last


def accumulated(s: Any, W: Array, g: Array) -> Array:
    """One update from two batches."""
    if s.step % 2 == 0:
        s.kept["g"] = g
        return 0 * W
    return -s.lr * (s.kept.get("g", g) + g) / 2


def averaged_in_epoch(s: Any, W: Array, g: Array) -> Array:
    """Parameters averaged at the end of each epoch."""
    new = W - s.lr * g
    total, count = s.kept.get("sum", 0 * W) + new, s.kept.get("count", 0) + 1
    s.kept |= {"sum": 0 * W, "count": 0} if s.ends else {"sum": total, "count": count}
    return (total / count if s.ends else new) - W


def momentum(
    reset: bool = False,
    only: str = "Wb",
    dampening: float = 0.0,
    corrected: bool = False,
    narrow: bool = False,
) -> Rule:
    """Momentum with something wrong about its velocity."""

    def rule(s: Any, W: Array, g: Array) -> Array | None:
        if s.name not in only:
            return None
        v = s.kept.get("v")
        v = g if v is None or (reset and s.starts) else s.size * v + (1 - dampening) * g
        s.kept["v"] = v = v.astype(np.float16).astype(np.float64) if narrow else v
        s.kept["t"] = t = s.kept.get("t", 0) + 1
        return -s.lr * (v * (1 - s.size) / (1 - s.size**t) if corrected else v)

    return rule


def adaptive(beta: float, corrected: bool = True, squares: float = 0.999) -> Rule:
    """Adam: with ``beta`` 0 RMSprop; with squares 1 Adagrad."""

    def rule(s: Any, W: Array, g: Array) -> Array:
        t = s.kept["t"] = s.kept.get("t", 0) + 1
        m = s.kept["m"] = beta * s.kept.get("m", 0 * g) + (1 - beta) * g
        share = 1 if squares == 1 else 1 - squares
        v = s.kept["v"] = squares * s.kept.get("v", 0 * g) + share * g * g
        if corrected and squares < 1:
            m, v = m / (1 - beta**t), v / (1 - squares**t)
        return -s.size * m / (np.sqrt(v) + 1e-8)

    return rule


def fault(family: str, name: str, *sizes: Any, causes: tuple[str, ...] = ()) -> Fault:
    """A fault of an update."""
    return Fault(name, sizes, ("update",), "all before it is right", family=family, causes=causes)


CLIPPED = ("gradient clipping",)
LATE, ALIKE, STATE = "late", "look-alike", "optimizer state"
FAULTS: dict[Fault, Planter] = {
    planted: updates(rule)
    for planted, rule in {
        fault(LATE, "learning rate from step 50 on", 1.001, 1.1, causes=("learning rate",)): when(
            since(50), rate
        ),
        fault(LATE, "learning rate at one step", 2.0): when(at(50), rate),
        fault(LATE, "learning rate now and then", 1.1): when(now_and_then, rate),
        fault(LATE, "learning rate in odd epochs", 1.01): when(
            lambda step: step // 23 % 2 == 1, rate
        ),
        fault(LATE, "a weight corrupted at step 50", 1e-3, 1e-1): when(at(50), corrupted),
        fault(LATE, "a weight corrupted at step 2", 1e-4): when(at(2), corrupted),
        fault(LATE, "weight decay from the third epoch on", 1e-2, causes=("weight decay",)): when(
            since(46), lambda s, W, g: -s.lr * (g + s.size * W)
        ),
        fault(LATE, "parameters through float16 once", None): when(
            at(45), lambda s, W, g: (W - s.lr * g).astype(np.float16).astype(np.float64) - W
        ),
        fault(LATE, "an update skipped", None): when(at(30), lambda s, W, g: 0 * W),
        fault(LATE, "an update made twice", 2.0): when(at(10), rate),
        fault(
            LATE, "biases frozen from the second epoch on", None, causes=("bias never updated",)
        ): when(since(23), lambda s, W, g: 0 * W if s.name == "b" else None),
        fault(LATE, "momentum from the third epoch on", 0.9, causes=("momentum",)): when(
            since(46), momentum()
        ),
        fault(LATE, "a column's sign at one step", None): when(at(20), flipped),
        fault(LATE, "noise in the last epoch", 1e-3): when(since(92), noisy),
        fault(ALIKE, "decoupled decay", 1e-4, causes=("weight decay",)): lambda s, W, g: (
            -s.lr * g - s.size * W
        ),
        fault(ALIKE, "decay of the weights only", 1e-3, causes=("weight decay",)): (
            lambda s, W, g: -s.lr * (g + s.size * W * (s.name == "W"))
        ),
        fault(ALIKE, "decay by the sign", 1e-4): lambda s, W, g: -s.lr * (g + s.size * np.sign(W)),
        fault(ALIKE, "a column's sign", None): flipped,
        fault(ALIKE, "learning rate of one class", 1.01): one_class,
        fault(ALIKE, "learning rate of the biases", 1.01, 2.0): lambda s, W, g: (
            -s.lr * g * (s.size if s.name == "b" else 1)
        ),
        fault(ALIKE, "gradient clipped by entry", 0.02, causes=CLIPPED): lambda s, W, g: (
            -s.lr * np.clip(g, -s.size, s.size)
        ),
        fault(ALIKE, "gradients clipped by their own norms", 0.3, causes=CLIPPED): clipped_by_norm,
        fault(ALIKE, "gradients centralized", None): lambda s, W, g: (
            -s.lr * (g - g.mean(axis=0)) if s.name == "W" else -s.lr * g
        ),
        fault(ALIKE, "columns kept from growing", 0.5): bounded,
        fault(ALIKE, "gradient noise", 1e-4, 1e-2): noisy,
        fault(ALIKE, "learning rate that decays", 1e-5, 1e-2): lambda s, W, g: (
            -s.lr * g / (1 + s.size * s.step)
        ),
        fault(ALIKE, "learning rate by epoch", 0.5): lambda s, W, g: -s.lr * g * s.size**s.epoch,
        fault(ALIKE, "learning rate along a cosine", 115): lambda s, W, g: (
            -s.lr * g * (1 + np.cos(np.pi * min(1.0, s.step / s.size))) / 2
        ),
        fault(ALIKE, "warm-up", 10): lambda s, W, g: (
            -s.lr * g * (s.step + 1) / s.size if s.step + 1 < s.size else None
        ),
        fault(ALIKE, "a stale gradient", None): stale,
        fault(ALIKE, "one update from two batches", None): accumulated,
        fault(ALIKE, "averaged parameters", None): averaged_in_epoch,
        fault(STATE, "velocity cleared each epoch", 0.1, 0.9, causes=("momentum",)): momentum(
            reset=True
        ),
        fault(STATE, "momentum of the weights only", 0.5): momentum(only="W"),
        fault(STATE, "momentum of the biases only", 0.9): momentum(only="b"),
        fault(STATE, "momentum with dampening", 0.5, 0.9): momentum(dampening=0.5),
        fault(STATE, "momentum as a mean", 0.9): momentum(corrected=True),
        fault(STATE, "velocity in float16", 0.9, causes=("momentum",)): momentum(narrow=True),
        fault(STATE, "Adam", 1e-3): adaptive(0.9),
        fault(STATE, "Adam without bias correction", 1e-3): adaptive(0.9, corrected=False),
        fault(STATE, "RMSprop", 1e-3): adaptive(0.0),
        fault(STATE, "Adagrad", 1e-2): adaptive(0.0, squares=1.0),
    }.items()
}
"""What is planted, and how."""
