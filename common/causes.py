"""Known discrepancies: each a replay of the plan in the reference with one thing changed.

A cause explains a run if its replay fits the run within rounding: the probed steps, stage by
stage, and the free run as far as is needed to tell the causes apart. What the change leaves open
(the factor of a learning rate, say) is fitted first. A cause is named only if it fits and no
other one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.agreement import Judge, Judgement
from common.data import Array, DataModule
from common.plan import Plan
from common.record import Record
from common.reference import BLOCK
from common.replay import (
    FORMS,
    WORST,
    Rows,
    Step,
    Training,
    losses_from_logits,
)

FIT_STEPS = (2, 16)
"""Updates of the free run that take part in a fit, first so many, then more: what is carried
from step to step shows from the second on, where its effect is still linear."""

NO_SHIFT = 1e-6
"""A shift of the features below this part of them is rounding of the fit."""

FURTHEST_STEP = 512
"""How far replays go to tell causes apart, lest it take longer than anyone waits."""

NUDGE = 2.0**-21
"""Numbers nearer than this part to the middle of two of a narrow format may be rounded to either:
a float32 that has come a few operations has that error."""

CHAOS = 1e-3
"""A replay is compared as far as its own rounding stays below this part of its weights."""

LEAST_MOMENTUM = 0.01
"""Below it Nesterov's momentum m cannot be told from a learning rate × (1 + m)."""

FIT_ROUNDS = 3
"""Gauss-Newton rounds at each; the effects are all but linear in what is fitted."""


@dataclass(frozen=True)
class Diagnosis:
    """A cause that fits a run.

    Args:
        name: of the cause.
        value: what was fitted, or None.
        sentence: the finding, for a report.
        envelopes: how well the replay fits, in rounding envelopes.
        runner_up: the next best cause, or None if none other was possible.
        runner_up_envelopes: how well that one fits.
    """

    name: str
    value: float | None
    sentence: str
    envelopes: float
    runner_up: str | None
    runner_up_envelopes: float | None

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object."""
        return vars(self).copy()


# What may be changed. ``value`` is what a fit finds; for others it is without meaning.


class Variation(Training):
    """A replay with one thing changed.

    Args:
        value: the size of the change.
        nudge: by what part numbers are changed before they are rounded to a narrower format.
    """

    def __init__(
        self,
        plan: Plan,
        data: DataModule,
        value: float = 0.0,
        nudge: float = 0.0,
        **options: Any,
    ) -> None:
        self.value, self.nudge = value, nudge
        super().__init__(plan, data, **options)


class LearningRate(Variation):
    """The learning rate times a factor."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        factor = W.dtype.type(self.value)
        super().update(W, b, factor * gradient_W, factor * gradient_b)


class WeightDecay(Variation):
    """The gradient plus a part of the parameter."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        decay = W.dtype.type(self.value)
        super().update(W, b, gradient_W + decay * W, gradient_b + decay * b)


class WeightDecayOfWeights(Variation):
    """The same, the biases left alone."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        super().update(W, b, gradient_W + W.dtype.type(self.value) * W, gradient_b)


class Momentum(Variation):
    """Updates by a velocity, v ← momentum × v + gradient."""

    nesterov = False

    def reset(self) -> None:
        self.velocity: tuple[Array, Array] | None = None

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        m, gradients = W.dtype.type(self.value), (gradient_W, gradient_b)
        if self.velocity is None:
            moved = gradients
        else:
            moved = tuple(m * v + g for v, g in zip(self.velocity, gradients, strict=True))
        self.velocity = moved
        if self.nesterov:
            moved = tuple(g + m * v for v, g in zip(moved, gradients, strict=True))
        super().update(W, b, *moved)


class Nesterov(Momentum):
    """Nesterov's form: the step looks ahead along the velocity."""

    nesterov = True


class OrderReused(Variation):
    """Every epoch in the first one's order."""

    def rows(self, epoch: int) -> Iterable[Rows]:
        return self.plan.batches(0)


class LastBatchDropped(Variation):
    """Full batches only."""

    def rows(self, epoch: int) -> Iterable[Rows]:
        size = self.plan.recipe.batch_size
        return [rows for rows in self.plan.batches(epoch) if len(rows) == size]


class LastBatchOverBatchSize(Variation):
    """The short batch's sum divided by the size of a full one."""

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        loss, error = super().reduce(losses, error)
        part = error.dtype.type(len(error) / self.plan.recipe.batch_size)
        return loss * part, error * part


class LastBatchGradientOverBatchSize(Variation):
    """The same of the gradient alone; the loss is reported as a mean."""

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        loss, error = super().reduce(losses, error)
        return loss, error * error.dtype.type(len(error) / self.plan.recipe.batch_size)


class Sum(Variation):
    """The sum of the batch's losses in place of their mean."""

    def reduce(self, losses: Array, error: Array) -> tuple[Array, Array]:
        return losses.sum(), error


class AffineFeatures(Variation):
    """Features times a factor, plus a shift, from the stored ones in one rounding."""

    shift = 0.0

    def scaled(self, X: Array) -> Array:
        factor = self.value / self.data.divisor
        return np.asarray(X * factor + self.shift, dtype=self.dtype)


class ChangedFeatures(Variation):
    """Features as a function of the planned ones."""

    change: Callable[[Array], Array]

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        X, y = super().examples(rows)
        if self.features is None:
            return self.change(X).astype(X.dtype), y
        changed = self.change(X[:, np.argsort(self.features)])
        return changed[:, self.features].astype(X.dtype), y


class ChangedLabels(Variation):
    """The labels that the record says were fed."""

    fed: Array

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        X, _ = super().examples(rows)
        return X, self.fed[rows].astype(np.int64)


class BlockOrder(Variation):
    """Examples batched as they are stored, and the batches shuffled.

    ``blocks`` holds the number of the block that was recognised at a place of the plan, by the
    row that the plan has first there; elsewhere in the free run the block is the one whose loss
    comes nearest to ``step_loss``, the recorded one.
    """

    blocks: dict[int, int]
    step_loss: Array
    scaled_all: Array | None = None
    """Every example, once for all steps; None where they are too many."""

    def examples(self, rows: Rows) -> tuple[Array, Array]:
        return super().examples(self.block_rows(self.blocks[int(rows[0])]))

    def block_rows(self, block: int) -> Rows:
        """The rows of a stored block."""
        size = self.plan.recipe.batch_size
        stop = min((block + 1) * size, len(self.labels))
        return np.arange(block * size, stop, dtype=np.int32)

    def losses_of_all(self, W: Array, b: Array) -> Array:
        """The loss of every example, in float32."""
        W, b = W.astype(np.float32), b.astype(np.float32)
        losses = []
        for rows in self.data.stored_pieces():
            if self.scaled_all is None:
                X = self.data.scale(self.data.X_train[rows[0] : rows[-1] + 1])
            else:
                X = self.scaled_all
            losses.append(self.losses(X @ W + b, self.labels[rows])[0])
        return np.concatenate(losses)

    def steps(self) -> Iterator[tuple[Step, Array, Array]]:
        W, b = self.initial()
        self.scaled_all = None if self.data.is_large else self.data.scale(self.data.X_train)
        starts = np.arange(0, len(self.labels), self.plan.recipe.batch_size)
        sizes = np.diff([*starts, len(self.labels)])
        for recorded in self.step_loss:
            losses = self.losses_of_all(W, b)
            means = np.add.reduceat(losses, starts) / sizes
            rows = self.block_rows(int(np.abs(means - recorded).argmin()))
            step = self.step_of(W, b, *super().examples(rows))
            self.update(W, b, step.gradient_W, step.gradient_b)
            yield step, W, b


class InitialParameters(Variation):
    """The initial parameters that the record says were set."""

    given: tuple[Array, Array]

    def initial(self) -> tuple[Array, Array]:
        W, b = (np.array(array, self.dtype) for array in self.given)
        return self.permuted(W), b


class NoBias(Variation):
    """A forward pass without biases."""

    def logits(self, X: Array, W: Array, b: Array) -> Array:
        return super().logits(X, W, 0 * b)

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        gradient_W, gradient_b = super().gradients(X, error)
        return gradient_W, 0 * gradient_b


class BiasNeverUpdated(Variation):
    """Biases that keep their initial values."""

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        super().update(W, b, gradient_W, 0 * gradient_b)


class LabelSmoothing(Variation):
    """A part of each label's weight spread evenly over all classes."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        losses, probabilities, error = super().losses(logits, y)
        part, rows = logits.dtype.type(self.value), np.arange(len(y))
        log_softmax = logits - (losses + logits[rows, y])[:, None]
        losses = (1 - part) * losses - part * log_softmax.mean(axis=1)
        error[rows, y] += part
        return losses, probabilities, error - part / error.dtype.type(error.shape[1])


class ClippedLog(Variation):
    """The logarithm of a probability that is kept from falling below an epsilon."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        losses, probabilities, error = super().losses(logits, y)
        most = -np.log(logits.dtype.type(self.value))
        return np.minimum(losses, most), probabilities, error * (losses < most)[:, None]


class ShiftedLog(Variation):
    """The logarithm of a probability plus an epsilon."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        _, probabilities, error = super().losses(logits, y)
        chosen = probabilities[np.arange(len(y)), y]
        shifted = chosen + logits.dtype.type(self.value)
        return -np.log(shifted), probabilities, error * (chosen / shifted)[:, None]


class SoftmaxTwice(Variation):
    """The probabilities taken for logits."""

    def losses(self, logits: Array, y: Array) -> tuple[Array, Array, Array]:
        _, first, _ = super().losses(logits, y)
        losses, second, error = super().losses(first, y)
        inner = (error * first).sum(axis=1, keepdims=True)
        return losses, self.shown(first, second), first * (error - inner)

    def shown(self, first: Array, second: Array) -> Array:
        """Which probabilities ``forward`` gives: the first, the second is the loss's."""
        return first


class SoftmaxTwiceInForward(SoftmaxTwice):
    """The same where ``forward`` applies the second one, too."""

    def shown(self, first: Array, second: Array) -> Array:
        return second


class RoundedProducts(Variation):
    """Both factors of every matrix product rounded to a narrower format."""

    narrow: Callable[[Array], Array]
    backward = True

    def rounded(self, A: Array) -> Array:
        """What was computed, and has rounding of its own, in the narrower format."""
        return self.narrow(A * A.dtype.type(1 + self.nudge))

    def logits(self, X: Array, W: Array, b: Array) -> Array:
        return super().logits(self.narrow(X), self.narrow(W), b)

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        if not self.backward:
            return super().gradients(X, error)
        gradient_W, _ = super().gradients(self.narrow(X), self.rounded(error))
        return gradient_W, super().gradients(X, error)[1]


class StraightThrough(RoundedProducts):
    """Rounded forward; the gradient multiplies the rounded features with an exact error."""

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        gradient_W, gradient_b = Training.gradients(self, self.narrow(X), error)
        return gradient_W, gradient_b


class RoundedResults(RoundedProducts):
    """The same, and the products themselves rounded, too."""

    def product(self, A: Array, B: Array) -> Array:
        return self.rounded(super().product(A, B))


class ForwardOnly(RoundedProducts):
    """Rounded factors in the forward pass alone."""

    backward = False


class Clipped(Variation):
    """Gradients kept within a bound, before the update looks at them."""

    in_place = False

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        """The gradients within the bound: here the norm of all of them together."""
        norm = np.sqrt((gradient_W**2).sum() + (gradient_b**2).sum())
        part = gradient_W.dtype.type(min(1.0, self.value / norm) if norm else 1.0)
        return part * gradient_W, part * gradient_b

    def gradients(self, X: Array, error: Array) -> tuple[Array, Array]:
        gradients = super().gradients(X, error)
        return self.clip(*gradients) if self.in_place else gradients

    def update(self, W: Array, b: Array, gradient_W: Array, gradient_b: Array) -> None:
        gradients = gradient_W, gradient_b
        super().update(W, b, *(gradients if self.in_place else self.clip(*gradients)))


class ClippedNearly(Clipped):
    """The same with 1e-6 added to the norm, lest it be zero, as PyTorch does."""

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        norm = np.sqrt((gradient_W**2).sum() + (gradient_b**2).sum()) + 1e-6
        part = gradient_W.dtype.type(min(1.0, self.value / norm))
        return part * gradient_W, part * gradient_b


class ClippedEach(Clipped):
    """Each parameter's gradient scaled down to a largest norm."""

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        norms = [max(float(np.sqrt((g**2).sum())), 1e-30) for g in (gradient_W, gradient_b)]
        parts = [gradient_W.dtype.type(min(1.0, self.value / norm)) for norm in norms]
        return parts[0] * gradient_W, parts[1] * gradient_b


class ClippedEntries(Clipped):
    """Each entry of the gradient kept within a bound."""

    def clip(self, gradient_W: Array, gradient_b: Array) -> tuple[Array, Array]:
        most = gradient_W.dtype.type(self.value)
        return np.clip(gradient_W, -most, most), np.clip(gradient_b, -most, most)


def bfloat16(X: Array) -> Array:
    """Numbers rounded to 8 bits of significand."""
    return _keep_bits(X, 8)


def tf32(X: Array) -> Array:
    """Numbers rounded to 11 bits of significand, with float32's range."""
    return _keep_bits(X, 11)


def float16(X: Array) -> Array:
    """Numbers rounded to IEEE half precision, subnormals and all."""
    with np.errstate(over="ignore"):
        return X.astype(np.float16).astype(X.dtype)


def _keep_bits(X: Array, bits: int) -> Array:
    """Round the significands to so many bits, ties to even, the leading one counted."""
    fraction, exponent = np.frexp(X)
    rounded = np.round(np.ldexp(fraction, bits))
    return np.asarray(np.ldexp(rounded, exponent - bits), dtype=X.dtype)


FORMATS: dict[str, Callable[[Array], Array]] = {
    "bfloat16": bfloat16,
    "float16": float16,
    "TF32": tf32,
}


STORED_FORMATS = ("bfloat16", "float16")
"""Those that numbers are kept in; TF32 is a format of products alone."""

SAME_PRECISION = ("float16 products", "TF32 products")
"""Formats of 11 bits each, which differ only where numbers are tiny or huge."""


# From a run's record to the variations that are worth a replay


@dataclass
class Candidate:
    """A variation of the plan that may explain a run.

    Args:
        name: of the cause.
        make: the replay, from a value and the options of :class:`Training`.
        value: the size of the change, or where its fit starts; None if it has no size.
        fitted: whether the value is to be fitted; else the record gave it.
        scale: the derivative's step in a fit, at least.
        least: the smallest value that deserves the cause's name.
        most: the largest.
        describe: the cause in words, from the value.
        envelopes: how well it fits.
    """

    name: str
    make: Callable[..., Training]
    value: float | None = None
    scale: float = 1e-4
    fitted: bool = True
    least: float = -np.inf
    most: float = np.inf
    describe: Callable[[float], str] = lambda _: ""
    envelopes: float = WORST

    def replay(self, **options: Any) -> Training:
        """The replay at the value found so far."""
        return self.make(self.value or 0.0, **options)

    @property
    def words(self) -> str:
        """The cause in words."""
        return self.describe(self.value or 0.0) or self.name


def find_cause(judge: Judge, record: Record, judgement: Judgement) -> Diagnosis | None:
    """The one known discrepancy that reproduces a run, or None.

    Args:
        judge: of the run's plan.
        record: the run.
        judgement: what the judge said of it.
    """
    planned = np.dtype(judge.plan.recipe.dtype)
    used = record.arrays["parameters/W"].dtype
    if judgement.divergence is None:
        if used != planned:
            sentence = f"computes in {used}, the plan says {planned}"
            return Diagnosis(f"{used}", None, sentence, judge.worst(judgement), None, None)
        return None
    if judgement.divergence.stage == "metric":
        return _metric_cause(judge, record)
    with np.errstate(all="ignore"):
        return _Search(judge, record, judgement).run()


class _Search:
    """Fits the candidates to a run and drops those that do not fit."""

    def __init__(self, judge: Judge, record: Record, judgement: Judgement) -> None:
        self.judge, self.record, self.judgement = judge, record, judgement
        self.plan, self.data, self.ladder = judge.plan, judge.data, judge.ladder
        self.limit = judge.thresholds.envelopes
        self.probes = {step: self.ladder.probe(record, step) for step in self.plan.probes}
        self.recorded = [int(step) for step in record.arrays["snapshots"]]

    def run(self) -> Diagnosis | None:
        candidates = list(self.candidates())
        for candidate in candidates:
            if candidate.value is not None:
                if candidate.fitted:
                    self.fit(candidate)
                if not candidate.least <= candidate.value <= candidate.most:
                    continue
            candidate.envelopes = self.misfit(candidate, FIT_STEPS[-1])
        horizons = [step for step in self.recorded if step > FIT_STEPS[-1]]
        if not self.judge.free_running.informative:
            horizons = []
        for horizon in horizons:
            rivals = [c for c in candidates if c.envelopes <= self.limit]
            names = _names(rivals)
            told_apart = len(names) <= 1 or names <= set(SAME_PRECISION)
            if horizon > FURTHEST_STEP or (told_apart and horizon > self.first_bad()):
                break
            for candidate in rivals:
                candidate.envelopes = self.misfit(candidate, horizon)
        return self.name(candidates)

    def first_bad(self) -> int:
        """The snapshot that shows the divergence: a replay must come at least as far."""
        outside = self.judgement.parameter_envelopes_per_snapshot > self.limit
        return self.recorded[int(np.argmax(outside))] if outside.any() else 0

    def name(self, candidates: Sequence[Candidate]) -> Diagnosis | None:
        """The best candidate, if it fits and no other cause does."""
        ranked = sorted(candidates, key=lambda candidate: candidate.envelopes)
        if not ranked or ranked[0].envelopes > self.limit:
            return None
        best = ranked[0]
        fitting = _names([c for c in ranked if c.envelopes <= self.limit])
        alike = fitting <= set(SAME_PRECISION)
        if len(fitting) > 1 and not alike:
            return None
        if alike and len(fitting) > 1:
            best.name = " or ".join(sorted(fitting))
        others = [c for c in ranked if c.name not in {*fitting, best.name}]
        sentence = f"{best.words} reproduces this run ({best.envelopes:.2g} × rounding"
        if others:
            sentence += f"; next best, {others[0].name}, {_short(others[0].envelopes)} ×"
        return Diagnosis(
            best.name,
            best.value,
            sentence + ")",
            best.envelopes,
            others[0].name if others else None,
            others[0].envelopes if others else None,
        )

    # How well a candidate fits

    def misfit(self, candidate: Candidate, horizon: int) -> float:
        """The largest difference between a run and a replay, in envelopes.

        The replay has its own rounding, which can be larger than the reference's where its
        numbers are: if it does not fit the reference's envelope, it is replayed in the recipe's
        dtype as well, in several summation orders.
        """
        exact = candidate.replay()
        worst = self.lockstep_misfit(exact, [])
        if worst > 1e3 * self.limit:
            own = [candidate.replay(**options) for options in self.orders()]
            worst = self.lockstep_misfit(exact, own)
            if worst > self.limit:
                return worst
        worst = max(worst, self.free_misfit(exact, [], horizon))
        if worst > self.limit:
            own = [candidate.replay(**options) for options in self.orders()]
            worst = max(self.lockstep_misfit(exact, own), self.free_misfit(exact, own, horizon))
        return min(worst, WORST)

    def orders(self) -> list[dict[str, Any]]:
        """Options of the replays that measure a candidate's own rounding."""
        dtype = self.plan.recipe.dtype
        blocks = [{"dtype": dtype, "block": block} for block in (BLOCK, 8 * BLOCK)]
        forms = [{"dtype": dtype, "form": form} for form in FORMS[1:]]
        nudges = [{"dtype": dtype, "nudge": nudge} for nudge in (NUDGE, -NUDGE)]
        return [{"dtype": dtype}, *blocks, *forms, *nudges]

    def lockstep_misfit(self, exact: Training, own: Sequence[Training]) -> float:
        """The largest difference in any tensor of any probed step."""
        worst = 0.0
        for i, (step, probe) in enumerate(self.probes.items()):
            stages = self.stages(exact, i, step)
            if stages is None or "data/missing" in probe:
                if (stages is None) != ("data/missing" in probe):
                    return WORST
                continue
            if not np.array_equal(probe["data/y"], self.batch(exact, step)[1]):
                return WORST
            rounded = [stages_ for o in own if (stages_ := self.stages(o, i, step)) is not None]
            for key, received in probe.items():
                if key in stages:
                    worst = max(worst, self.ratio(step, key, received, stages[key], rounded))
        return worst

    def ratio(
        self, step: int, key: str, received: Array, exact: Array, own: Sequence[dict[str, Array]]
    ) -> float:
        """One tensor's worst statistic in envelopes: the reference's, or the replay's own."""
        if received.shape != exact.shape or not np.isfinite(received).all():
            return WORST
        values = self.ladder.statistics(step, key, received, exact)
        largest = float(np.abs(self.ladder.exact[step][key]).max())
        growth = max(1.0, float(np.abs(exact).max()) / largest) if largest else 1.0
        own_values = [self.ladder.statistics(step, key, array[key], exact) for array in own]
        worst = 0.0
        for name, value in values.items():
            envelope = self.ladder.envelopes[step, key, name]
            if name in ("largest", "offset"):
                envelope *= growth
            envelope = max([envelope, *(v[name] for v in own_values if np.isfinite(v[name]))])
            worst = max(worst, value / envelope)
        return worst

    def stages(self, training: Training, i: int, step: int) -> dict[str, Array] | None:
        """The replay's stages from the reference's state; None where it has no such step."""
        rows = self.rows(training, step)
        if rows is None:
            return None
        oracle = self.judge.oracle
        return training.stages(oracle.probe_W[i], oracle.probe_b[i], rows)

    def rows(self, training: Training, step: int) -> Rows | None:
        epoch, place = divmod(step, self.plan.steps_per_epoch)
        return next((rows for j, rows in enumerate(training.rows(epoch)) if j == place), None)

    def batch(self, training: Training, step: int) -> tuple[Array, Array]:
        rows = self.rows(training, step)
        assert rows is not None
        return training.examples(rows)

    def free_misfit(self, exact: Training, own: Sequence[Training], horizon: int) -> float:
        """The largest difference of the free run up to a number of updates."""
        envelope, worst = self.judge.envelope, 0.0
        runs = zip(exact.steps(), *(training.steps() for training in own), strict=True)
        step_loss, W_run, b_run = (
            self.record.arrays[name] for name in ("step_loss", "parameters/W", "parameters/b")
        )
        loss_own = W_own = b_own = 0.0
        for done, ((step, W, b), *others) in enumerate(runs, 1):
            if done > min(horizon, len(step_loss)):
                break
            for other, W_other, b_other in others:
                loss_own = max(loss_own, np.nan_to_num(abs(other.loss - step.loss)))
                W_own = max(W_own, float(np.nan_to_num(np.abs(W_other - W).max())))
                b_own = max(b_own, float(np.nan_to_num(np.abs(b_other - b).max())))
            if W_own > CHAOS * float(np.abs(W).max()):
                break
            error = abs(step_loss[done - 1] - step.loss)
            known = min(done, self.plan.num_steps) - 1
            worst = max(worst, error / max(envelope.loss[known], loss_own))
            if done in self.recorded:
                i = self.recorded.index(done)
                W_error, b_error = np.abs(W_run[i] - W).max(), np.abs(b_run[i] - b).max()
                worst = max(worst, W_error / max(envelope.W[i], W_own))
                worst = max(worst, b_error / max(envelope.b[i], b_own))
            if not worst <= 1e6:  # or not a number: no further step will mend it
                return float(WORST)
        return float(worst)

    # What a fit finds

    def fit(self, candidate: Candidate) -> None:
        """Find a candidate's value by least squares on the probed steps and the first updates."""
        assert candidate.value is not None
        for steps in np.repeat(FIT_STEPS, FIT_ROUNDS):
            value = candidate.value
            delta = max(abs(value) * 1e-4, candidate.scale)
            here = self.residual(candidate.make(value), steps)
            there = self.residual(candidate.make(value + delta), steps)
            if here is None or there is None:
                return
            slope = (there - here) / delta
            square = float(slope @ slope)
            if not square or not np.isfinite(square):
                return
            candidate.value = value - float(slope @ here) / square

    def residual(self, training: Training, steps: int) -> npt.NDArray[np.float64] | None:
        """Replay less run, every entry in envelopes; None if their shapes differ."""
        parts = []
        for i, (step, probe) in enumerate(self.probes.items()):
            stages = self.stages(training, i, step)
            if stages is None or "data/missing" in probe:
                continue
            for key, received in probe.items():
                if key in stages and key != "metric/accuracy":
                    if received.shape != stages[key].shape:
                        return None
                    envelope = self.ladder.envelopes[step, key, "largest"]
                    parts.append(((stages[key] - received) / envelope).ravel())
        envelope_W = self.judge.envelope.W
        for done, (_, W, _) in enumerate(training.steps(), 1):
            if done > steps:
                break
            if done in self.recorded:
                i = self.recorded.index(done)
                run = self.record.arrays["parameters/W"][i]
                parts.append(((W - run) / envelope_W[i]).ravel())
        joined = np.concatenate(parts)
        return joined if np.isfinite(joined).all() else None

    # Which candidates a run's record suggests

    def candidates(self) -> Iterator[Candidate]:
        """The causes that the stage of the first divergence allows.

        In lock-step every stage below it is sound, so that what would show there is ruled out.
        What only the free run shows may be anything.
        """
        divergence = self.judgement.divergence
        assert divergence is not None
        if divergence.stage == "data":
            yield from self.data_candidates()
            yield from self.order_candidates()
            return
        anything = self.judgement.lockstep_envelopes <= self.limit
        if anything or divergence.stage in ("forward", "gradient"):
            yield from self.forward_candidates()
        if anything or divergence.stage in ("forward", "example loss", "loss", "gradient"):
            yield from self.loss_candidates()
        if anything or divergence.stage in ("gradient", "update"):
            yield from self.update_candidates()

    def simple(self, name: str, kind: type[Variation]) -> Candidate:
        """A candidate with nothing to fit."""
        return Candidate(name, self.of(kind))

    def of(self, kind: type[Variation], **attributes: Any) -> Callable[..., Training]:
        """What makes a replay of this kind; attributes stand for what the record showed."""
        cls = type(kind.__name__, (kind,), attributes) if attributes else kind
        return lambda value, **options: cls(self.plan, self.data, value, **options)

    def update_candidates(self) -> Iterator[Candidate]:
        yield Candidate(
            "learning rate",
            self.of(LearningRate),
            self.gain(),
            1e-6,
            describe=lambda v: f"learning rate × {v:.7g}",
        )
        for decay in (WeightDecay, WeightDecayOfWeights):
            yield Candidate(
                "weight decay",
                self.of(decay),
                0.0,
                1e-7,
                least=0.0,
                describe=lambda v: f"weight decay {v:.4g}",
            )
        for name, kind in (("momentum", Momentum), ("Nesterov momentum", Nesterov)):
            yield Candidate(
                name,
                self.of(kind),
                0.5,
                least=LEAST_MOMENTUM,
                most=1.0,
                describe=_naming(name),
            )
        yield self.simple("bias never updated", BiasNeverUpdated)
        clippings: tuple[tuple[type[Variation], float], ...] = (
            (Clipped, self.largest_update(joint=True)),
            (ClippedNearly, self.largest_update(joint=True)),
            (ClippedEach, self.largest_update(joint=False)),
            (ClippedEntries, self.largest_entry()),
        )
        # Where gradients are clipped in place, they show clipped.
        in_place = self.judgement.divergence is not None and (
            self.judgement.divergence.stage == "gradient"
        )
        for clipping, bound in clippings:
            yield Candidate(
                "gradient clipping",
                self.of(clipping, in_place=in_place),
                bound,
                1e-6,
                least=0.0,
                describe=lambda v: f"gradient clipping at {v:.4g}",
            )

    def loss_candidates(self) -> Iterator[Candidate]:
        yield self.simple("sum instead of mean", Sum)
        yield self.simple("last batch over batch_size", LastBatchOverBatchSize)
        yield self.simple("last batch over batch_size", LastBatchGradientOverBatchSize)
        yield Candidate(
            "label smoothing",
            self.of(LabelSmoothing),
            0.0,
            1e-6,
            least=0.0,
            describe=lambda v: f"label smoothing {v:.4g}",
        )
        largest = self.largest_loss()
        yield Candidate(
            "log clipped",
            self.of(ClippedLog),
            float(np.exp(-largest)),
            1e-9,
            least=0.0,
            describe=lambda v: f"logarithm clipped at {v:.4g}",
        )
        yield Candidate(
            "log clipped",
            self.of(ShiftedLog),
            0.0,
            1e-9,
            least=0.0,
            describe=lambda v: f"logarithm of p + {v:.4g}",
        )
        yield self.simple("softmax applied twice", SoftmaxTwice)
        yield self.simple("softmax applied twice", SoftmaxTwiceInForward)

    def forward_candidates(self) -> Iterator[Candidate]:
        yield self.simple("no bias", NoBias)
        for name, narrow in FORMATS.items():
            for kind in (RoundedProducts, ForwardOnly, StraightThrough, RoundedResults):
                make = self.of(kind, narrow=staticmethod(narrow))
                yield Candidate(f"{name} products", make)

    def order_candidates(self) -> Iterator[Candidate]:
        yield self.simple("order reused", OrderReused)
        yield self.simple("last batch dropped", LastBatchDropped)
        if blocks := self.blocks():
            yield Candidate(
                "batches shuffled",
                self.of(BlockOrder, blocks=blocks, step_loss=self.record.arrays["step_loss"]),
            )

    def data_candidates(self) -> Iterator[Candidate]:
        initial = tuple(self.record.arrays[f"initial/{name}"] for name in "Wb")
        if not np.array_equal(initial[0], self.plan.W):
            make = self.of(InitialParameters, given=initial)
            yield Candidate("another initial W", make)
        fed, planned = self.record.arrays["fed/y_train"], np.asarray(self.data.y_train)
        if fed.shape == planned.shape and (wrong := int(np.count_nonzero(fed != planned))):
            name = "wrong labels" if wrong < len(fed) / 20 else "permuted classes"
            make = self.of(ChangedLabels, fed=fed)
            yield Candidate(name, make, describe=lambda _: f"{name} ({wrong} differ)")
        yield from self.feature_candidates()

    def feature_candidates(self) -> Iterator[Candidate]:
        """From the first batch as the framework held it: a scale, a shift, a format, an order."""
        received = self.probes.get(0, {}).get("data/X")
        stored = self.data.stored_rows(self.ladder.rows(0)).astype(np.float64)
        planned = stored / self.data.divisor
        if received is None or received.shape != planned.shape:
            return
        if self.data.image_shape:
            shape = self.data.image_shape

            def transposed(X: Array) -> Array:
                return X.reshape(-1, *shape).transpose(0, 2, 1).reshape(len(X), -1)

            make = self.of(ChangedFeatures, change=staticmethod(transposed))
            yield Candidate("transposed images", make)
        for name in STORED_FORMATS:
            make = self.of(ChangedFeatures, change=staticmethod(FORMATS[name]))
            yield Candidate(f"{name} inputs", make)
        factor, shift = np.polyfit(planned.ravel(), received.astype(np.float64).ravel(), 1)
        if abs(shift) <= NO_SHIFT * max(abs(factor), 1.0):
            shift = 0.0
        name = self.scaling_name(factor, shift)
        shifted = f" {shift:+.7g}" if shift else ""
        yield Candidate(
            name,
            self.of(AffineFeatures, shift=float(shift)),
            float(factor),
            fitted=False,
            describe=lambda v: f"{name} (features × {v:.7g}{shifted})",
        )

    def scaling_name(self, factor: float, shift: float) -> str:
        """What a factor and a shift of the features are usually called."""
        divisor = self.data.divisor
        if shift:
            return "normalisation"
        if np.isclose(factor, divisor / (divisor + 1), rtol=1e-6):
            return f"scale by {divisor + 1:g}"
        return "no scaling" if np.isclose(factor, divisor, rtol=1e-6) else "scale"

    def blocks(self) -> dict[int, int]:
        """The stored blocks that the probed batches are, by the plan's first row there."""
        size, labels = self.plan.recipe.batch_size, np.asarray(self.data.y_train)
        found = {}
        for step, probe in self.probes.items():
            if "data/y" not in probe:
                return {}
            y = probe["data/y"]
            starts = range(0, len(labels) - len(y) + 1, size)
            fitting = [s for s in starts if np.array_equal(labels[s : s + len(y)], y)]
            if not fitting:
                return {}
            losses = [self.losses_of_block(step, s, len(y)) for s in fitting]
            errors = [float(np.abs(loss - probe["example_loss"]).max()) for loss in losses]
            found[int(self.ladder.rows(step)[0])] = fitting[int(np.argmin(errors))] // size
        return found

    def losses_of_block(self, step: int, start: int, length: int) -> Array:
        """The reference's loss of each example of a stored block, at a probed step."""
        i, training = self.plan.probes.index(step), Training(self.plan, self.data)
        rows = np.arange(start, start + length, dtype=np.int32)
        W, b = (
            np.asarray(a[i], np.float64)
            for a in (self.judge.oracle.probe_W, self.judge.oracle.probe_b)
        )
        return training.step_of(W, b, *training.examples(rows)).losses

    # First guesses

    def gain(self) -> float:
        """The update as a multiple of the one that is due, at the first probed step."""
        received = self.probes.get(0, {}).get("update/W")
        exact = self.ladder.exact[0]["update/W"]
        if received is None or received.shape != exact.shape or not exact.any():
            return 1.0
        return float((received * exact).sum() / (exact * exact).sum())

    def largest_update(self, joint: bool) -> float:
        """The largest norm of a probed update, as a gradient's."""
        norms = []
        for probe in self.probes.values():
            if "update/W" in probe and "update/b" in probe:
                squares = [float((probe[f"update/{name}"] ** 2).sum()) for name in "Wb"]
                norms.append(np.sqrt(sum(squares) if joint else max(squares)))
        return float(max(norms, default=1.0)) / max(self.plan.recipe.lr, 1e-30)

    def largest_entry(self) -> float:
        """The largest entry of a probed update, as a gradient's."""
        entries = [
            float(np.abs(p["update/W"]).max()) for p in self.probes.values() if "update/W" in p
        ]
        return max(entries, default=1.0) / max(self.plan.recipe.lr, 1e-30)

    def largest_loss(self) -> float:
        """The largest loss of a probed example."""
        found = [
            float(p["example_loss"].max()) for p in self.probes.values() if "example_loss" in p
        ]
        return max(found, default=1.0)


def _metric_cause(judge: Judge, record: Record) -> Diagnosis | None:
    """Which other number a run's validation metrics are, if it is a known one.

    Compared are the loss, in rounding envelopes, and the accuracy, in half examples.
    """
    plan, data, history = judge.plan, judge.data, record.facts["history"]
    W, b = (record.arrays[f"parameters/{name}"].astype(np.float64) for name in "Wb")
    ends = [
        plan.snapshots.index((e + 1) * plan.steps_per_epoch) for e in range(plan.recipe.max_epochs)
    ]
    states = [(W[i], b[i]) for i in ends]
    before = [(plan.W.astype(np.float64), plan.b.astype(np.float64)), *states[:-1]]

    def evaluate(X: Array, y: Array, W: Array, b: Array) -> tuple[Array, Array]:
        logits = X @ W + b
        return losses_from_logits(logits, y)[0], logits.argmax(axis=1) == y

    def evaluate_training(W: Array, b: Array) -> tuple[Array, Array]:
        parts = [
            evaluate(data.scale(data.X_train[rows[0] : rows[-1] + 1]), y_train[rows], W, b)
            for rows in data.stored_pieces()
        ]
        losses, correct = (np.concatenate(column) for column in zip(*parts, strict=True))
        return losses, correct

    def batched(values: Array) -> float:
        size = plan.recipe.batch_size
        return float(np.mean([values[i : i + size].mean() for i in range(0, len(values), size)]))

    y_val, y_train = (np.asarray(y, np.int64) for y in (data.y_val, data.y_train))
    metrics: dict[str, Callable[[int], tuple[float, float]]] = {
        "metric averaged over batches": lambda e: _pair(
            evaluate(judge.validation, y_val, *states[e]), batched
        ),
        "metric on the training data": lambda e: _pair(evaluate_training(*states[e]), np.mean),
        "metric before the epoch": lambda e: _pair(
            evaluate(judge.validation, y_val, *before[e]), np.mean
        ),
    }
    misfits = {}
    for name, predict in metrics.items():
        worst = 0.0
        for e in range(plan.recipe.max_epochs):
            loss, accuracy = predict(e)
            worst = max(worst, abs(history["val_loss"][e] - loss) / judge.envelope.metric)
            examples = abs(history["val_accuracy"][e] - accuracy) * data.num_val
            worst = max(worst, examples / 2)  # two borderline examples are one envelope
        misfits[name] = worst
    first, second = sorted(misfits, key=lambda name: misfits[name])[:2]
    limit = judge.thresholds.envelopes
    if misfits[first] > limit or misfits[second] <= limit:
        return None
    sentence = (
        f"{first} reproduces its validation metrics ({misfits[first]:.2g} × rounding; next best, "
        f"{second}, {_short(misfits[second])} ×)"
    )
    return Diagnosis(first, None, sentence, misfits[first], second, misfits[second])


def _pair(values: tuple[Array, Array], mean: Callable[[Array], Any]) -> tuple[float, float]:
    losses, correct = values
    return float(mean(losses)), float(mean(correct.astype(np.float64)))


def _naming(name: str) -> Callable[[float], str]:
    return lambda value: f"{name} {value:.4g}"


def _names(candidates: Sequence[Candidate]) -> set[str]:
    return {candidate.name for candidate in candidates}


def _short(envelopes: float) -> str:
    return "> 1e6" if envelopes > 1e6 else f"{envelopes:.2g}"
