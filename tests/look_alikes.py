"""Faults that look like known ones, or are several: ``python -m tests.look_alikes [COUNT OFFSET]``.

Each is a training in float32 NumPy. A wrong name of one is worse than none: right is what explains
the run as far as it says, or no cause at all. What is right is asked of replays in float64 of what
was planted: names, values and steps.
"""

import sys
import tempfile
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from framework_parity.common.judging.causes import find_cause
from framework_parity.common.reference import variations
from framework_parity.common.reference.replay import Training
from framework_parity.common.reference.variations import Variation, both
from tests.replays import digits_judge, record_of


class Fault(NamedTuple):
    """A training with one or more things wrong; ``parts`` are those that have a name."""

    family: str
    label: str
    kind: type[Variation]
    value: float
    parts: dict[str, tuple[type[Variation], float]]


class Counted(Variation):
    """Knows how many updates it has made."""

    done = 0

    def reset(self):
        super().reset()
        self.done = 0

    def update(self, W, b, gradient_W, gradient_b):
        super().update(W, b, gradient_W, gradient_b)
        self.done += 1

    @property
    def epoch(self):
        return self.done // self.plan.steps_per_epoch


KNOWN = [
    ("learning rate", variations.LearningRate, 1.00001),
    ("learning rate", variations.LearningRate, 1.01),
    ("learning rate", variations.LearningRate, 0.5),
    ("weight decay", variations.WeightDecay, 1e-3),
    ("weight decay", variations.WeightDecayOfWeights, 1e-2),
    ("momentum", variations.Momentum, 0.9),
    ("Nesterov momentum", variations.Nesterov, 0.5),
    ("bias never updated", variations.BiasNeverUpdated, 0.0),
    ("gradient clipping", variations.Clipped, 0.3),
    ("sum instead of mean", variations.Sum, 0.0),
    ("last batch over batch_size", variations.LastBatchOverBatchSize, 0.0),
    ("no bias", variations.NoBias, 0.0),
    ("label smoothing", variations.LabelSmoothing, 0.01),
    ("log clipped", variations.ShiftedLog, 1e-3),
    ("softmax applied twice", variations.SoftmaxTwice, 0.0),
    ("order reused", variations.OrderReused, 0.0),
    ("last batch dropped", variations.LastBatchDropped, 0.0),
]
GATED = ("update", "reduce", "losses", "logits", "gradients")


def gated(kind, active):
    """A known fault that is there only now and then; ``active`` says so of a training."""

    def of(name):
        def method(self, *arguments):
            if active(self):
                return getattr(super(cls, self), name)(*arguments)
            base = Counted if name == "update" else Training
            return getattr(base, name)(self, *arguments)

        return method

    overridden = {n for c in kind.__mro__ if c is not Variation for n in vars(c)} - {"reset"}
    overridden &= {n for c in kind.__mro__[:-3] for n in vars(c)} & set(GATED)
    cls = type(f"Gated{kind.__name__}", (kind, Counted), {n: of(n) for n in overridden})
    return cls


def compounds():
    for (name, kind, value), (other, second, size) in combinations(KNOWN, 2):
        if "rows" in vars(kind) and "rows" in vars(second):
            continue  # they are one
        if (joined := both(kind, value, second)) is not None:
            yield Fault(
                "compound",
                f"{name} {value:g} and {other} {size:g}",
                joined,
                size,
                {name: (kind, value), other: (second, size)},
            )


def now_and_then():
    times = {
        "from step 12": lambda t: t.done >= 12,
        "from step 30": lambda t: t.done >= 30,
        "from step 50": lambda t: t.done >= 50,
        "every second step": lambda t: t.done % 2 == 1,
        "every fifth step": lambda t: t.done % 5 == 4,
        "in the second epoch": lambda t: t.epoch == 1,
        "in the first epoch": lambda t: t.epoch == 0,
        "until step 40": lambda t: t.done < 40,
    }
    for name, kind, value in KNOWN[:-2]:
        for when, active in times.items():
            late = when.startswith("from")
            yield Fault(
                "late" if late else "now and then",
                f"{name} {value:g} {when}",
                gated(kind, active),
                value,
                {name: (kind, value)},
            )


class Cleared(Counted, variations.Momentum):
    def update(self, W, b, gradient_W, gradient_b):
        if self.done % self.plan.steps_per_epoch == 0:
            self.velocity = None
        super().update(W, b, gradient_W, gradient_b)


class Corrupted(Counted):
    def update(self, W, b, gradient_W, gradient_b):
        super().update(W, b, gradient_W, gradient_b)
        if self.done == 50:
            W[7, 3] += 0.01


class RateAndCorrupted(Corrupted, variations.LearningRate):
    pass


class Rotated(Variation):
    def rows(self, epoch):
        if epoch != 1:
            return self.plan.batches(epoch)
        size = self.plan.recipe.batch_size
        order = np.roll(self.plan.order[epoch], 1)
        return [order[i : i + size] for i in range(0, len(order), size)]


class Temperature(Variation):
    def losses(self, logits, y):
        losses, probabilities, error = super().losses(logits * np.float32(self.size), y)
        return losses, probabilities, error * np.float32(self.size)


class Softcap(Variation):
    def losses(self, logits, y):
        cap = np.float32(self.size)
        losses, probabilities, error = super().losses(cap * np.tanh(logits / cap), y)
        return losses, probabilities, error * (1 - np.tanh(logits / cap) ** 2)


class ClassWeights(Variation):
    classes = 10

    def losses(self, logits, y):
        losses, probabilities, error = super().losses(logits, y)
        weight = np.where(y < self.classes, self.size, 1).astype(losses.dtype)
        return losses * weight, probabilities, error * weight[:, None]


class Focal(Variation):
    def losses(self, logits, y):
        losses, p, error = super().losses(logits, y)
        rest = 1 - np.exp(-losses)
        gamma = np.float32(self.size)
        factor = rest**gamma + gamma * rest ** (gamma - 1) * (1 - rest) * losses
        return losses * rest**gamma, p, error * factor[:, None]


class Hinge(Variation):
    def losses(self, logits, y):
        _, probabilities, _ = super().losses(logits, y)
        rows = np.arange(len(y))
        margins = np.maximum(0, 1 + logits - logits[rows, y][:, None])
        margins[rows, y] = 0
        error = (margins > 0).astype(logits.dtype)
        error[rows, y] = -error.sum(axis=1)
        return margins.sum(axis=1), probabilities, error


class Scaled(Counted):
    """The gradient times something."""

    def update(self, W, b, gradient_W, gradient_b):
        a = np.float32(self.factor())
        super().update(W, b, a * gradient_W, a * gradient_b)


class DecayPerEpoch(Scaled):
    def factor(self):
        return self.size**self.epoch


class DecayPerStep(Scaled):
    def factor(self):
        return self.size**self.done


class WarmUp(Scaled):
    def factor(self):
        return min(1.0, (self.done + 1) / self.size)


class InverseDecay(Scaled):
    def factor(self):
        return 1 / (1 + self.size * self.done)


class Adam(Counted):
    def reset(self):
        super().reset()
        self.squares = [0.0, 0.0]

    def update(self, W, b, *gradients):
        kept = np.float32(self.size)
        self.squares = [
            kept * s + (1 - kept) * g**2 for s, g in zip(self.squares, gradients, strict=False)
        ]
        scaled = [
            g / (np.sqrt(s) + np.float32(1e-3))
            for s, g in zip(self.squares, gradients, strict=False)
        ]
        super().update(W, b, *(np.float32(0.01) * g for g in scaled))


class Noise(Counted):
    def update(self, W, b, gradient_W, gradient_b):
        noise = np.random.default_rng(self.done).standard_normal(W.shape).astype(W.dtype)
        super().update(W, b, gradient_W + np.float32(self.size) * noise, gradient_b)


class Quantised(Variation):
    def update(self, W, b, gradient_W, gradient_b):
        unit = np.float32(self.size)
        super().update(W, b, np.round(gradient_W / unit) * unit, gradient_b)


class SignFlipped(Variation):
    def update(self, W, b, gradient_W, gradient_b):
        gradient_W = gradient_W.copy()
        gradient_W[:, int(self.size)] *= -1
        super().update(W, b, gradient_W, gradient_b)


class Stale(Counted):
    def reset(self):
        super().reset()
        self.before = None

    def update(self, W, b, *gradients):
        super().update(W, b, *(self.before or [0 * g for g in gradients]))
        self.before = gradients


class Accumulated(Counted):
    def update(self, W, b, *gradients):
        if self.done % 2 == 0:
            self.before = gradients
            super().update(W, b, *(0 * g for g in gradients))
        else:
            mean = [
                (g + h) * np.float32(self.size)
                for g, h in zip(gradients, self.before, strict=False)
            ]
            super().update(W, b, *mean)


class L1(Variation):
    def update(self, W, b, gradient_W, gradient_b):
        super().update(W, b, gradient_W + np.float32(self.size) * np.sign(W), gradient_b)


class DecayOfBias(Variation):
    def update(self, W, b, gradient_W, gradient_b):
        super().update(W, b, gradient_W, gradient_b + np.float32(self.size) * b)


class RateOfBias(Variation):
    def update(self, W, b, gradient_W, gradient_b):
        super().update(W, b, gradient_W, np.float32(self.size) * gradient_b)


class Masked(Variation):
    def logits(self, X, W, b):
        mask = np.random.default_rng(1).random(W.shape[0]) > self.size
        return super().logits(X * mask.astype(X.dtype), W, b)


class Average(Counted):
    def update(self, W, b, gradient_W, gradient_b):
        before = W.copy()
        super().update(W, b, gradient_W, gradient_b)
        W += np.float32(self.size) * (before - W) * np.float32(self.done > 0)


UNKNOWN = [
    (Temperature, (0.5, 0.9, 0.99, 1.001, 1.1, 2.0)),
    (Softcap, (1.0, 5.0, 30.0, 50.0)),
    (ClassWeights, (0.5, 0.9, 0.999, 1.01, 2.0)),
    (Focal, (0.5, 1.0, 2.0)),
    (Hinge, (0.0,)),
    (DecayPerEpoch, (0.5, 0.9, 0.99, 0.9999)),
    (DecayPerStep, (0.9, 0.99, 0.999, 0.99999)),
    (WarmUp, (2, 5, 10, 40, 100)),
    (InverseDecay, (1e-5, 1e-3, 1e-2, 0.1)),
    (Adam, (0.9, 0.99, 0.999)),
    (Noise, (1e-5, 1e-4, 1e-3, 1e-2)),
    (Quantised, (1e-4, 1e-3, 1e-2)),
    (SignFlipped, (0, 3, 9)),
    (Stale, (0.0,)),
    (Accumulated, (0.5, 1.0)),
    (L1, (1e-5, 1e-4, 1e-3, 1e-2)),
    (DecayOfBias, (1e-3, 1e-2, 0.1)),
    (RateOfBias, (0.5, 0.9, 0.999, 1.01, 2.0)),
    (Masked, (0.1, 0.3, 0.5)),
    (Average, (1e-4, 0.01, 0.1)),
    (Rotated, (0.0,)),
]


def look_alikes():
    for kind, sizes in UNKNOWN:
        for size in sizes:
            cls = type(kind.__name__, (kind,), {"size": size})
            if kind is ClassWeights:
                cls.classes = 5
            yield Fault("look-alike", f"{kind.__name__} {size:g}", cls, 0.0, {})
    for size in (0.1, 0.5, 0.9):
        parts = {"momentum": (variations.Momentum, size)}
        yield Fault("state", f"velocity cleared {size}", Cleared, size, parts)
    for size in (1.00001, 1.001, 0.9):
        yield Fault(
            "state",
            f"rate {size} and a corrupted weight",
            RateAndCorrupted,
            size,
            {"learning rate": (variations.LearningRate, size)},
        )
    yield Fault("state", "a corrupted weight", Corrupted, 0.0, {})


def faults():
    return [*look_alikes(), *now_and_then(), *compounds()]


def path(training):
    """The loss of each step and the parameters after it."""
    return [(step.loss, np.vstack([W, b])) for step, W, b in training.steps()]


def starts(judge, fault, kind, value):
    """From which steps it may be said that a fault is something else than this one thing.

    The first at which they differ, or later as long as no loss shows it.
    """
    said = path(kind(judge.plan, judge.data, value))
    true = path(fault.kind(judge.plan, judge.data, fault.value))
    pairs = list(zip(said, true, strict=False))
    ends = len(pairs)
    differs = [
        abs(a - c) > 1e-10 * abs(c) or np.abs(b - d).max() > 1e-10 for (a, b), (c, d) in pairs
    ]
    visible = 2 * judge.thresholds.envelopes * judge.envelope.loss.max()
    shows = [abs(a - c) > visible for (a, _), (c, _) in pairs]
    first = next((i for i, differ in enumerate(differs) if differ), ends)
    seen = next((i for i, show in enumerate(shows) if show), ends)
    return range(first, max(first, seen - 1, ends if seen == ends else 0) + 1)


def is_near(value, planted):
    """Whether a value is that of the fault, to a hundredth of what it changes."""
    change = abs(planted - 1) if abs(planted - 1) < 0.1 else planted
    return value is None or abs(value - planted) <= max(0.01 * change, 2e-7)


def is_right(judge, fault, cause):
    """Whether all that is said of a fault is so: names, values and steps."""
    then = cause.then or {}
    said = [(cause.name, cause.value)]
    said += [(then["name"], then["value"])] if then.get("name") else []
    for name, value in said:
        if name != "the plan" and not (
            name in fault.parts and is_near(value, fault.parts[name][1])
        ):
            return False
    if cause.from_step:
        return cause.from_step in starts(judge, fault, Variation, 0.0)
    kind, value = fault.parts[cause.name]
    rate = fault.parts.get("learning rate", (None, 1.0))[1]
    begin = then.get("from_step") or cause.through_step + 1
    # A size that is not said may be its product with the rate.
    sizes = [value, value * rate] if cause.value is None else [value]
    begins = {begin, begin + 1} if "its update or the next loss" in cause.sentence else {begin}
    return any(begins & {*starts(judge, fault, kind, size)} for size in sizes)


def verdict(judge, fault):
    """``right``, ``none``, ``part`` or ``wrong``, and what is said."""
    with np.errstate(all="ignore"):
        training = fault.kind(judge.plan, judge.data, fault.value, dtype="float32", block=8)
        record = record_of(judge, training)
        found = judge.judge(record)
        if found.divergence is None:
            return "sound", ""
        cause = find_cause(judge, record, found)
        if cause is None:
            return "none", f"({found.divergence.stage})"
        if not is_right(judge, fault, cause):
            return "wrong", cause.sentence
    whole = cause.then is None or bool(cause.then["name"])
    return ("right" if whole else "part"), cause.sentence


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    chosen = faults()
    if count:
        chosen = chosen[int(sys.argv[2]) :: -(-len(chosen) // count)]
    seen = Counter()
    with tempfile.TemporaryDirectory() as folder:
        judge = digits_judge(Path(folder))
        for fault in chosen:
            said, words = verdict(judge, fault)
            seen[fault.family, said] += 1
            print(f"{said:5} {fault.family}: {fault.label} | {words}", flush=True)
    for (family, said), number in sorted(seen.items()):
        print(f"{family:12} {said:5} {number}")


if __name__ == "__main__":
    main()
