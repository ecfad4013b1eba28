"""Which known discrepancy explains a run.

A cause explains a run if its replay fits the run within rounding: the probed steps, stage by
stage, and the free run as far as is needed to tell the causes apart. What the change leaves open
(the factor of a learning rate, say) is fitted first. A cause is named only if it fits and no
other one does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.agreement import Judge, Judgement
from common.arrays import Array
from common.candidates import Candidate, Clues
from common.parallel import in_threads
from common.record import Record
from common.reference import BLOCK
from common.replay import (
    FORMS,
    WORST,
    Rows,
    Training,
    losses_from_logits,
)

FIT_STEPS = (2, 16)
"""Updates of the free run that take part in a fit, first so many, then more: what is carried
from step to step shows from the second on, where its effect is still linear."""

FURTHEST_STEP = 512
"""How far replays go to tell causes apart, lest it take longer than anyone waits: on Fashion-MNIST,
batch 256, naming one takes 0.8 to 1.6 s on one core. With 16 no case of ``tests/test_causes.py``
changes."""

NUDGE = 2.0**-21
"""Numbers nearer than this part to the middle of two of a narrow format may be rounded to either:
a float32 that has come a few operations has that error."""

CHAOS = 1e-3
"""A replay is compared as far as its own rounding stays below this part of its weights. From 1e-5
to 1e-2 it makes no difference to the 32 cases of ``tests/test_causes.py``."""

FIT_ROUNDS = 3
"""Gauss-Newton rounds at each; the effects are all but linear in what is fitted. With one round one
of the 32 cases of ``tests/test_causes.py`` (Nesterov momentum 0.9) is misnamed."""


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


SAME_PRECISION = ("float16 products", "TF32 products")
"""Formats of 11 bits each, which differ only where numbers are tiny or huge."""


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
        self.clues = Clues(judge, record, judgement, self.probes)
        self.loss_envelope = max(
            (self.ladder.envelopes[step, "loss", "largest"] for step in self.plan.probes),
            default=0.0,
        )

    def run(self) -> Diagnosis | None:
        candidates = list(self.clues.candidates())
        in_threads(self.try_out, candidates)
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

    def try_out(self, candidate: Candidate) -> None:
        """Fit a candidate's value, and see how well it reproduces the first steps."""
        with np.errstate(all="ignore"):  # of this thread
            if candidate.value is not None:
                if candidate.fitted:
                    self.fit(candidate)
                if not candidate.least <= candidate.value <= candidate.most:
                    return
            candidate.envelopes = self.misfit(candidate, FIT_STEPS[-1])

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
            labels = probe.get("data/y")  # a program that is not ours may leave them out
            if labels is not None and not np.array_equal(labels, self.batch(exact, step)[1]):
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
            if key == "loss":
                # A few replays measure a single number badly, and nothing is graded by it here:
                # a fit that is worth a name may be as far off as the largest of the probed steps.
                envelope = max(envelope, self.loss_envelope)
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


def _metric_cause(judge: Judge, record: Record) -> Diagnosis | None:
    """Which other number a run's validation metrics are, if it is a known one.

    Compared are the loss, in rounding envelopes, and the accuracy, in half examples, of every
    epoch at whose end the parameters were recorded, as at its beginning.
    """
    plan, data, history = judge.plan, judge.data, record.facts["history"]
    W, b = (record.arrays[f"parameters/{name}"].astype(np.float64) for name in "Wb")
    states = {epoch: (W[i], b[i]) for epoch, i in plan.epoch_ends.items()}
    states[0] = plan.W.astype(np.float64), plan.b.astype(np.float64)
    epochs = [epoch for epoch in states if epoch and epoch - 1 in states]
    if not epochs:
        return None

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
            evaluate(judge.validation, y_val, *states[e - 1]), np.mean
        ),
    }
    misfits = {}
    for name, predict in metrics.items():
        worst = 0.0
        for e in epochs:
            loss, accuracy = predict(e)
            worst = max(worst, abs(history["val_loss"][e - 1] - loss) / judge.envelope.metric)
            examples = abs(history["val_accuracy"][e - 1] - accuracy) * data.num_val
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


def _names(candidates: Sequence[Candidate]) -> set[str]:
    return {candidate.name for candidate in candidates}


def _short(envelopes: float) -> str:
    return "> 1e6" if envelopes > 1e6 else f"{envelopes:.2g}"
