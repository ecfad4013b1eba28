"""Judges softmax regression, whose reference, envelope and outcome NumPy computes by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array, largest_in_each
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.judging.grades import Liveness, lifeless
from framework_parity.common.judging.judge import Floats, Judge
from framework_parity.common.judging.ladder import (
    EXAMPLE,
    Finding,
    Ladder,
    count_borderline,
    order_rounding,
    unequal,
)
from framework_parity.common.judging.metrics import (
    accuracy_findings,
    borderline,
    count_findings,
    excess,
    finding,
    mean_findings,
    prediction_finding,
    step_sizes,
)
from framework_parity.common.judging.record_check import check_record
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import (
    ENSEMBLE_MEMBERS,
    LEAST,
    Envelope,
    centred,
    measure_envelope,
    member,
    reference,
    unit_roundoff,
)
from framework_parity.common.reference.recording_data import planned_sha256
from framework_parity.common.reference.replay import (
    Trajectory,
    epoch_means,
    losses_from_logits,
    reference_dtype,
)
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record


@dataclass(frozen=True)
class SoftmaxJudge(Judge):
    """Judges the runs of softmax regression; arguments as of :class:`Judge`."""

    oracle: Trajectory
    envelope: Envelope
    ladder: Ladder

    @classmethod
    @np.errstate(all="ignore")  # of members whose plain softmax overflowed
    def measure(
        cls,
        plan: Plan,
        data: DataModule,
        oracle: Trajectory | None = None,
        members: Sequence[Trajectory] = (),
        thresholds: Thresholds | None = None,
    ) -> SoftmaxJudge:
        """The judge of a plan, its rounding measured: the one place where a judge is put together.

        A reference, or an ensemble, that is not given is trained here.
        """
        oracle = oracle or reference(plan, data).run()
        members = members or [member(plan, data, i).run() for i in range(ENSEMBLE_MEMBERS)]
        ladder = Ladder(plan, data, oracle)
        # What a single step rounds by, which more members measured, its free run does as well.
        envelope = with_single_steps(measure_envelope(plan, data, oracle, members), ladder)
        return cls(plan, data, oracle, envelope, ladder, thresholds or Thresholds())

    def reprobed(self, plan: Plan, oracle: Trajectory) -> SoftmaxJudge:
        """The judge of the same training by other probed steps: those of this plan and oracle."""
        ladder = Ladder(plan, self.data, oracle)
        envelope = with_single_steps(self.envelope, ladder)
        return replace(self, plan=plan, oracle=oracle, ladder=ladder, envelope=envelope)

    @property
    def points(self) -> Sequence[int]:
        return self.plan.snapshots

    @property
    def initial(self) -> Mapping[str, Array]:
        return self.plan.parameters

    def moved(self) -> Floats:
        largest = np.maximum(largest_in_each(self.oracle.parameters["W"]), LEAST)
        return np.asarray(self.envelope.parameters["W"] / largest)

    def check(self, record: Record) -> None:
        check_record(self.plan, self.data, record)

    @cached_property
    def validation(self) -> Floats:
        """The validation features in the reference's type, shape ``(num_val, num_inputs)``."""
        return self.data.examples(train=False, dtype=reference_dtype(self.plan))[0]

    def scores(self, record: Record) -> Floats:
        exact = reference_dtype(self.plan)
        W, b = (record.arrays[f"parameters/{name}"][-1].astype(exact) for name in "Wb")
        return np.asarray(self.validation @ W + b)

    def score_errors(self, scores: Floats) -> Floats:
        return centred(super().score_errors(scores))

    @cached_property
    def fed_sha256(self) -> str | None:
        """What a run says of what it was fed; None of data that are never in memory at once."""
        return None if self.data.is_large else planned_sha256(self.plan, self.data)

    def label_finding(self, record: Record) -> Finding | None:
        """The first step whose batch holds a label that is not the data's.

        Of the labels all that training was given are on record: a few wrong ones may be in none
        of the probed batches.
        """
        fed, planned = record.arrays["fed/y_train"], np.asarray(self.data.y_train)
        if np.array_equal(fed, planned):
            return None
        step = int(np.argmax((fed != planned)[self.plan.order[0]])) // self.plan.recipe.batch_size
        error = float(np.abs(fed.astype(np.float64) - planned).max())
        ulps = error / (2 * unit_roundoff(self.plan))
        return unequal(step, "data", "labels", error, ulps)

    def metric_findings(self, record: Record) -> Iterator[Finding]:
        """What the run reported of itself against what its parameters and steps say.

        Validation loss and accuracy are recomputed in float64 from the parameters at the end of
        each epoch; a training metric from the steps. An accuracy may differ by the examples
        whose two best logits are closer than the forward pass rounds.
        """
        history, exact_type = record.facts["history"], reference_dtype(self.plan)
        W, b = (record.arrays[f"parameters/{name}"].astype(exact_type) for name in "Wb")
        unit = unit_roundoff(self.plan)
        y = np.asarray(self.data.y_val, dtype=np.int64)
        kind = record.facts["y_hat"]
        ends = {epoch: i for epoch, i in self.plan.epoch_ends.items() if i < len(W)}
        stacked = np.concatenate([W[i] for i in ends.values()], axis=1) if ends else None
        scores = None if stacked is None else self.validation @ stacked
        for place, (epoch, i) in enumerate(ends.items()):
            assert scores is not None
            classes = W.shape[2]
            logits = scores[:, place * classes : (place + 1) * classes] + b[i]
            losses = losses_from_logits(logits, y)[0]
            error = abs(history["val_loss"][epoch - 1] - float(losses.mean()))
            step = epoch * self.plan.steps_per_epoch - 1
            yield finding(self.plan, step, "val_loss", error, self.envelope.metric)
            borderline = count_borderline(logits, self.envelope.forward, kind, unit)
            exact = float(np.mean(logits.argmax(axis=1) == y))
            error = abs(history["val_accuracy"][epoch - 1] - exact)
            error = max(error - borderline / len(y), 0.0)
            yield finding(self.plan, step, "val_accuracy", error, EXAMPLE / len(y))
        if len(record.arrays["step_loss"]) == self.plan.num_steps:
            yield from mean_findings(self.plan, record)
            yield from count_findings(self.plan, record, self.data.num_val)
            yield prediction_finding(
                self.plan, record, self.scores(record), self.oracle, self.envelope
            )
            yield from accuracy_findings(
                self.plan,
                record,
                self.oracle,
                self.envelope,
                self.thresholds.envelopes,
                self.data.num_val,
                self.free_running.steps,
            )

    def metric_ratios(self, name: str, errors: Floats, limit: float) -> Floats:
        plan, oracle, envelope = self.plan, self.oracle, self.envelope
        if name in ("train_loss", "val_loss"):
            return np.asarray(errors / getattr(envelope, name))
        size = self.data.num_val
        near = borderline(oracle.val_margins, limit * envelope.val_margin, size)
        if name == "train_accuracy":
            size = len(plan.order[0])
            near = borderline(oracle.margins, limit * envelope.margin, step_sizes(plan))
            near = near.reshape(plan.recipe.max_epochs, -1).sum(axis=1)
        return excess(errors, near, np.full(len(errors), size), limit, unit_roundoff(plan))

    def flip_bound(
        self, record: Record, scores: Floats, example: int, classes: tuple[int, int]
    ) -> float:
        """The error of a run's logits there: of its parameters, and the rounding of two logits."""
        exact = self.oracle.val_logits
        ours, theirs = (scores[example, c] - exact[example, c] for c in classes)
        unit = unit_roundoff(self.plan)
        rounding = order_rounding(self.envelope.forward, record.facts["y_hat"], unit)
        return abs(float(theirs - ours)) + rounding

    @cached_property
    def liveness(self) -> Liveness:
        """The signs of learning that the reference shows by more than rounding."""
        oracle, envelope, limit = self.oracle, self.envelope, self.thresholds.envelopes
        moved = (
            largest_in_each(oracle.parameters["W"] - self.plan.W) > limit * envelope.parameters["W"]
        )
        comparable = self.free_running.informative  # else rounding may decide the outcome
        fall = oracle.step_loss[0] - epoch_means(oracle.step_loss, self.plan)[-1]
        # An example counts as right only where no run within rounding classifies it otherwise.
        logits, y = oracle.val_logits, np.asarray(self.data.y_val, dtype=np.int64)
        rows = np.arange(len(y))
        others = logits.copy()
        others[rows, y] = -np.inf
        # Probabilities tie where logits are nearer than they round.
        near = 2 * limit * max(envelope.logits + envelope.forward, unit_roundoff(self.plan))
        right = float(np.mean(logits[rows, y] - others.max(axis=1) > near))
        return Liveness(
            moved=bool(moved.any()),
            fell=comparable and bool(fall > limit * (envelope.loss[0] + envelope.train_loss[-1])),
            above_chance=comparable and right > 1 / self.data.num_outputs,
        )

    @property
    def envelope_facts(self) -> dict[str, Any]:
        return {"logits": self.envelope.logits, "forward": self.envelope.forward}

    def lifeless(self, record: Record) -> str | None:
        """Why the run counts as not having learned anything: :func:`grades.lifeless`."""
        arrays, history = record.arrays, record.facts["history"]
        run = Liveness(
            moved=not np.array_equal(arrays["parameters/W"][-1], arrays["initial/W"]),
            fell=bool(history["train_loss"][-1] < arrays["step_loss"][0]),
            above_chance=history["val_accuracy"][-1] > 1 / self.data.num_outputs,
        )
        return lifeless(run, self.liveness)


def with_single_steps(envelope: Envelope, ladder: Ladder) -> Envelope:
    """The envelope of free runs, nowhere below that of the single steps that they are made of.

    An error of a probed step's loss or update is carried on from there, as all rounding is.
    """
    plan = ladder.plan
    loss, unshared = envelope.loss.copy(), envelope.unshared_loss.copy()
    parameters = {name: values.copy() for name, values in envelope.parameters.items()}
    for step in plan.probes:
        for values in (loss, unshared):
            bound = ladder.envelopes[step, "loss", "largest"]
            values[step:] = np.maximum(values[step:], bound)
        after = np.array(plan.snapshots) > step
        for name, values in parameters.items():
            bound = ladder.envelopes[step, f"update/{name}", "largest"]
            values[after] = np.maximum(values[after], bound)
    return replace(envelope, loss=loss, unshared_loss=unshared, parameters=parameters)
