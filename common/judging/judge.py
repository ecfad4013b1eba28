"""Records to grades and a verdict. Pure functions: no files, no processes, no clock."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array, largest_in_each
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.judging.grades import (
    Liveness,
    comparable_steps,
    not_comparable,
)
from framework_parity.common.judging.ladder import (
    STAGES,
    Finding,
    carried,
    fed_finding,
    first_divergence,
    may_begin_in,
    off,
    off_before,
    seen_in_loss,
    unequal,
)
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import POOLED_STEPS, Bounds, unit_roundoff
from framework_parity.common.reference.replay import WORST, Course, epoch_means, reference_dtype
from framework_parity.common.training.feeding import feeding_resolution
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FreeRunning:
    """What rounding alone does to this plan's training, and whether free runs can be compared.

    They can as long as rounding moves no loss by more than drift may: beyond it, two faultless
    runs would differ in their outcome. See :func:`grades.comparable_steps`.

    Args:
        informative: whether free runs can be compared to the end, hence their outcomes.
        steps: the first steps in which they can be: all, or as many as come before rounding
            parts them.
        first: the ensemble's largest relative error of the weights after the first update.
        last: likewise after the last one.
        loss: the ensemble's largest relative error of an epoch's loss.
        val_loss: its largest error of the last epoch's validation loss.
    """

    informative: bool
    steps: int
    first: float
    last: float
    loss: float
    val_loss: float

    @classmethod
    def measured(
        cls,
        epochs: Floats,
        losses: Floats,
        moved: Mapping[int, float],
        val_loss: float,
        thresholds: Thresholds,
    ) -> FreeRunning:
        """By how far rounding moves losses and parameters; see :func:`grades.comparable_steps`."""
        steps, parameters = comparable_steps(epochs, losses, moved, thresholds), [*moved.values()]
        ends = parameters[0], parameters[-1]
        return cls(steps == losses.size, steps, *ends, float(epochs.max()), float(val_loss))


@dataclass(frozen=True)
class Judgement:
    """What the judging of one run found. Errors are against the float64 reference.

    Args:
        grade: one of :data:`grades.GRADES`.
        reason: why it is not rounding, or None.
        divergence: the first divergence, or None.
        stages: the worst finding of each stage of the ladder, by its name.
        loss_error: largest error of a step's or an epoch's loss.
        parameter_error: largest error of a parameter at a snapshot.
        logits_error: largest error of a validation logit, recomputed from the parameters; what
            all classes share does not count.
        loss_envelopes: the first in rounding envelopes, at its worst place.
        parameter_envelopes: likewise.
        logits_envelopes: likewise.
        lockstep_envelopes: the worst finding of the ladder.
        flips: validation examples classified differently from the reference, each with its
            margin and bound.
        loss_errors_per_step: shape ``(num_steps,)``.
        loss_envelopes_per_step: the same in envelopes.
        parameter_envelopes_per_snapshot: shape ``(s,)``.
        free_envelopes: the largest of the free run's, as far as it can be compared.
        free_relative: likewise its largest error of a loss, relative to the epoch's.
    """

    grade: str
    reason: str | None
    divergence: Finding | None
    stages: dict[str, Finding]
    loss_error: float
    parameter_error: float
    logits_error: float
    loss_envelopes: float
    parameter_envelopes: float
    logits_envelopes: float
    lockstep_envelopes: float
    flips: list[dict[str, Any]]
    loss_errors_per_step: Floats
    loss_envelopes_per_step: Floats
    parameter_envelopes_per_snapshot: Floats
    free_envelopes: float
    free_relative: float

    @property
    def unexplained_flips(self) -> int:
        """How many flips the error of the run's logits does not cover."""
        return sum(flip["explained"] is False for flip in self.flips)

    def to_json(self) -> dict[str, Any]:
        """What a report states of it."""
        names = (
            *("grade", "reason", "flips", "unexplained_flips"),
            *("loss_error", "parameter_error", "logits_error"),
            *("loss_envelopes", "parameter_envelopes", "logits_envelopes", "lockstep_envelopes"),
        )
        return {name: getattr(self, name) for name in names} | {
            "divergence": self.divergence and asdict(self.divergence),
            "stages": {stage: asdict(found) for stage, found in self.stages.items()},
            "prediction_flips": len(self.flips),
        }


class Stages(Protocol):
    """The stages of a plan's probed steps, each with its envelope."""

    def findings(self, record: Record) -> Iterator[Finding]:
        """Every tensor of every probed step, in the ladder's order."""

    def locate(self, record: Record, threshold: float) -> Finding | None:
        """Where a record first leaves its envelopes; None if nowhere."""

    def stages(self, record: Record) -> Iterator[tuple[int, str, str, Array, Array]]:
        """The probed steps of a record, stage by stage.

        Yields:
            step, stage, tensor, the array as it was recorded, and the values: an update's as the
            change of its parameter. Tensors that are missing, or have another shape than they
            should, are left out.
        """

    def may_lack(self, tensor: str) -> bool:
        """Whether a sound record may have no such tensor."""

    @property
    def steps(self) -> Sequence[int]:
        """The steps that are probed."""

    def before(self, step: int) -> Mapping[str, Array]:
        """The state that a probed step begins with."""

    def coherent_parts(self, step: int, tensor: str, values: Array) -> dict[str, float]:
        """What entries of values have in common, signed, in every way that is looked at."""

    def ratios(self, step: int, tensor: str, values: Mapping[str, float]) -> dict[str, float]:
        """Errors of a tensor in their envelopes: the ``largest``, and of coherent parts."""

    def magnitude(self, step: int, tensor: str) -> float:
        """The largest entry of a tensor; of an update, of its parameter before it."""


@dataclass(frozen=True)
class Judge(ABC):
    """Judges the runs of one plan and model against its reference and rounding envelope.

    What is known of one kind of model alone is its own: softmax regression's is
    :class:`softmax_judge.SoftmaxJudge`, that of a user's file :class:`model_judge.ModelJudge`.

    Args:
        plan: what was to be trained.
        data: its examples.
        oracle: the float64 reference.
        envelope: the measured rounding of this plan.
        ladder: the stages of its probed steps.
        thresholds: where the grades part.
    """

    plan: Plan
    data: DataModule
    oracle: Course
    envelope: Bounds
    ladder: Stages
    thresholds: Thresholds = field(default_factory=Thresholds)

    # What is known of one kind of model alone

    @property
    @abstractmethod
    def points(self) -> Sequence[int]:
        """The numbers of updates after which parameters are on record."""

    @abstractmethod
    def moved(self) -> Floats:
        """How far rounding alone moves the parameters at each point, relative."""

    @abstractmethod
    def check(self, record: Record) -> None:
        """Raise RecordError unless the record has the arrays of this plan and model."""

    @property
    @abstractmethod
    def initial(self) -> Mapping[str, Array]:
        """The parameters that training is to begin with."""

    def held(self, record: Record) -> Mapping[str, Array]:
        """What is on record at every point, by the names of the reference's."""
        return record.parameters()

    @abstractmethod
    def scores(self, record: Record) -> Floats:
        """What ``forward`` gives for the validation examples at the end, in float64."""

    def score_errors(self, scores: Floats) -> Floats:
        """How far they are from the reference's."""
        return scores - self.oracle.val_logits

    @abstractmethod
    def metric_findings(self, record: Record) -> Iterator[Finding]:
        """What the run reported of itself, against the reference and its own numbers."""

    @abstractmethod
    def metric_ratios(self, name: str, errors: Floats, limit: float) -> Floats:
        """In envelopes how far a metric is off at each epoch, of which ``limit`` are rounding."""

    def flip_bound(
        self, record: Record, scores: Floats, example: int, classes: tuple[int, int]
    ) -> float | None:
        """How far two classes' scores of a validation example may be off; None if unknown.

        Args:
            record: the run.
            scores: those of :meth:`scores`.
            example: its place among the validation examples.
            classes: the reference's and the run's.
        """
        return None

    @property
    def fed_sha256(self) -> str | None:
        """What a run says of what it was fed; None if that is not known beforehand."""
        return None

    def check_fed(self, record: Record) -> None:
        """Raise RecordError if a run was fed something else and none of its arrays shows what."""
        received = record.facts["fed_sha256"]
        if self.fed_sha256 not in (None, received):
            raise RecordError("fed_sha256", self.fed_sha256, received)

    @property
    @abstractmethod
    def liveness(self) -> Liveness:
        """The signs of learning that the reference shows by more than rounding."""

    @abstractmethod
    def lifeless(self, record: Record) -> str | None:
        """Why the run counts as not having learned anything: :func:`grades.lifeless`."""

    @property
    def reference_facts(self) -> dict[str, Any]:
        """What a report states of the reference besides."""
        return {}

    @property
    @abstractmethod
    def envelope_facts(self) -> dict[str, Any]:
        """What a report states of the envelope besides."""

    def row_facts(self, record: Record) -> dict[str, Any]:
        """What a report states of a run besides."""
        return {}

    def label_finding(self, record: Record) -> Finding | None:
        """The first step whose batch holds a label that is not the data's."""
        return None

    # How far

    @cached_property
    def free_running(self) -> FreeRunning:
        """How far rounding alone carries this plan's training."""
        oracle, envelope = self.oracle, self.envelope
        train = np.maximum(np.abs(epoch_means(oracle.step_loss, self.plan)), 1e-3)
        epochs = np.maximum(
            envelope.train_loss / train,
            envelope.val_loss / np.maximum(np.abs(oracle.val_loss), 1e-3),
        )
        return FreeRunning.measured(
            epochs,
            envelope.unshared_loss / np.repeat(train, self.plan.steps_per_epoch),
            dict(zip(self.points, self.moved().tolist(), strict=True)),
            envelope.val_loss[-1],
            self.thresholds,
        )

    @cached_property
    def loss_envelope(self) -> Floats:
        """Of each step's loss; steps that can be compared share none with those that cannot."""
        found, steps = self.envelope.loss.copy(), self.free_running.steps
        found[: min(steps, POOLED_STEPS)] = self.envelope.unshared_loss[:steps][:POOLED_STEPS].max(
            initial=0.0
        )
        return found

    def judge(self, record: Record) -> Judgement:
        """Grade one run.

        Raises:
            RecordError: if an array of the record is missing, or has not the shape that the plan
                asks for.
        """
        self.check(record)
        oracle, envelope, history = self.oracle, self.envelope, record.facts["history"]
        steps = min(len(record.arrays["step_loss"]), self.plan.num_steps)
        loss_errors = np.abs(record.arrays["step_loss"][:steps] - oracle.step_loss[:steps])
        loss_ratios = loss_errors / self.loss_envelope[:steps]
        val_errors = np.abs(np.array(history["val_loss"]) - oracle.val_loss)
        exact = reference_dtype(self.plan)
        held = {name: values.astype(exact) for name, values in self.held(record).items()}
        s = min(map(len, held.values()))
        errors = {n: largest_in_each(v - oracle.parameters[n][:s]) for n, v in held.items()}
        ratios = {n: error / envelope.parameters[n][:s] for n, error in errors.items()}
        parameter_ratios = np.max([*ratios.values()], axis=0)
        scores = self.scores(record)
        logits_error = float(np.abs(self.score_errors(scores)).max())
        free, informative = self.free_running.steps, self.free_running.informative
        epochs = free // self.plan.steps_per_epoch
        flips = self.flips(record, scores)
        compared = [
            *loss_ratios[:free],
            *parameter_ratios[np.array(self.points[:s]) <= free],
            *(val_errors / envelope.val_loss)[:epochs],
            *[logits_error / envelope.logits] * informative,
        ]
        train = np.repeat(epoch_means(oracle.step_loss, self.plan), self.plan.steps_per_epoch)
        relative = [
            *(loss_errors / np.maximum(np.abs(train[:steps]), 1e-3))[:free],
            *(val_errors / np.maximum(np.abs(oracle.val_loss), 1e-3))[:epochs],
        ]
        loss_envelopes = float(max(loss_ratios.max(), (val_errors / envelope.val_loss).max()))
        findings = list(self.ladder.findings(record))
        lockstep = max((found.envelopes for found in findings), default=0.0)
        metrics = sorted(self.metric_findings(record), key=lambda found: found.step)
        judgement = Judgement(
            grade="rounding",
            reason=None,
            divergence=None,
            stages=worst_of_stages([*findings, *metrics]),
            loss_error=float(max(loss_errors.max(), val_errors.max())),
            parameter_error=float(max(errors[name].max() for name in self.initial)),
            logits_error=logits_error,
            loss_envelopes=loss_envelopes,
            parameter_envelopes=float(max(ratios[name].max() for name in self.initial)),
            logits_envelopes=logits_error / envelope.logits,
            lockstep_envelopes=lockstep,
            # Where rounding alone parts the outcomes, it explains no single prediction.
            flips=flips if informative else [flip | {"explained": None} for flip in flips],
            loss_errors_per_step=loss_errors,
            loss_envelopes_per_step=loss_ratios,
            parameter_envelopes_per_snapshot=parameter_ratios,
            free_envelopes=float(max(compared, default=0.0)),
            free_relative=float(max(relative, default=0.0)),
        )
        divergence = self.divergence(record, judgement, metrics)
        grade, reason = self.grade(record, judgement, divergence)
        return replace(judgement, grade=grade, reason=reason, divergence=divergence)

    # Where

    def divergence(
        self,
        record: Record,
        judgement: Judgement,
        metrics: Sequence[Finding],
    ) -> Finding | None:
        """The first divergence: by lock-step, else by what was fed, else by the free run."""
        limit = self.thresholds.envelopes
        found, fed = self.ladder.locate(record, limit), fed_finding(self.plan, record)
        sooner = fed and (found is None or (fed.step, fed.stage) < (found.step, found.stage))
        if initial := self.given_finding(record):
            return fed if fed and initial.tensor == "number of steps" else initial
        if sooner:
            return fed
        labels = self.label_finding(record)
        if labels and (found is None or labels.step <= found.step):
            return labels
        free = self.free_finding(judgement, record)
        if found and free and free.step < found.step:
            note = "; ".join(filter(None, (off_before(free.step), found.note)))
            return replace(found, note=note)
        return found or free or first_divergence(metrics, limit)

    def given_finding(self, record: Record) -> Finding | None:
        """A difference in what training was given before its first step, or in its length."""
        for name, planned in self.initial.items():
            error = float(np.abs(record.arrays[f"initial/{name}"] - planned).max())
            if error:
                ulps = error / (2 * unit_roundoff(self.plan))
                return unequal(0, "data", f"initial {name}", error, ulps)
        made, planned_steps = len(record.arrays["step_loss"]), self.plan.num_steps
        if made != planned_steps:
            first = int(min(made, planned_steps) // self.plan.recipe.max_epochs)
            return unequal(first, "data", "number of steps", abs(made - planned_steps))
        return None

    def free_finding(self, judgement: Judgement, record: Record) -> Finding | None:
        """Where the free run leaves its envelope although every probed step is sound.

        It is looked at as far as free runs can be compared: at the parameters on record, and at
        the losses, which are there of every step. What a single step from a given state does not
        show is carried from step to step: the state of an optimizer, say. It is put down to the
        update.
        """
        limit, steps = self.thresholds.envelopes, self.free_running.steps
        wrong_losses = np.flatnonzero(judgement.loss_envelopes_per_step[:steps] > limit)
        ratios = judgement.parameter_envelopes_per_snapshot
        outside = np.flatnonzero(ratios > limit)
        if len(outside) and self.points[outside[0]] <= steps:
            i = int(outside[0])
            ratio, errors = float(ratios[i]), {}
            for name, values in self.held(record).items():
                error = values[i].astype(np.float64) - self.oracle.parameters[name][i]
                errors[name] = float(np.abs(error).max())
            name = max(errors, key=lambda name: errors[name] / self.envelope.parameters[name][i])
            exact = self.oracle.parameters[name]
            magnitude = float(np.abs(exact[i]).max())
            step, note = self.points[i] - 1, ""
            if "fed/examples" in record.arrays and name in self.initial:
                start = self.initial[name]
                moved = float(np.abs(exact[i] - start).max())
                if errors[name] <= 2 * feeding_resolution(self.plan) * moved:
                    note = may_begin_in(["data"])
            tensor = carried(name, record)
            found = off(self.plan, step, tensor, errors[name], magnitude, ratio, note)
            if not len(wrong_losses) or wrong_losses[0] > step:
                return found
            loss = self.loss_finding(judgement, int(wrong_losses[0]))
            right = {0, *np.array(self.points)[:i][ratios[:i] <= 1].tolist()}
            return loss if loss.step in right else seen_in_loss(loss, found)
        return self.loss_finding(judgement, int(wrong_losses[0])) if len(wrong_losses) else None

    def loss_finding(self, judgement: Judgement, step: int) -> Finding:
        """How far the loss of a step of the free run is off."""
        error = float(judgement.loss_errors_per_step[step])
        exact, ratio = self.oracle.step_loss[step], judgement.loss_envelopes_per_step[step]
        return off(self.plan, step, "loss", error, float(exact), float(ratio))

    def flips(self, record: Record, scores: Floats) -> list[dict[str, Any]]:
        """Validation examples that the run classifies differently from the reference.

        Of a sequence every place counts. Where targets are numbers, or scores are not one for
        each class, there are none. A flip is explained if the reference's margin between the two
        classes is no larger than the error that the run's scores have there; None says that this
        error is not known.
        """
        exact, labels = self.oracle.val_logits, np.asarray(self.data.y_val)
        if not self.data.has_classes or exact.shape[:-1] != labels.shape:
            return []
        each, classes_ = labels[0].size, exact.shape[-1]
        exact, labels = exact.reshape(-1, classes_), labels.ravel()
        predicted = record.arrays["val_y_hat"].reshape(-1, classes_).argmax(axis=1)
        expected = exact.argmax(axis=1)
        found = []
        for i in np.flatnonzero(predicted != expected):
            ours, theirs = expected[i], predicted[i]
            margin = float(exact[i, ours] - exact[i, theirs])
            bound = self.flip_bound(record, scores, int(i), (int(ours), int(theirs)))
            found.append(
                {
                    "example": int(i) // each,
                    "label": int(labels[i]),
                    "reference": int(ours),
                    "run": int(theirs),
                    "margin": margin,
                    "bound": bound,
                    "explained": None if bound is None else margin <= bound,
                }
            )
        return found

    # How bad

    def grade(
        self, record: Record, judgement: Judgement, divergence: Finding | None
    ) -> tuple[str, str | None]:
        """The grade of a run, and why it is not rounding."""
        if dead := self.lifeless(record):
            return "disagree", f"it learned nothing, though the reference did: {dead}"
        made = len(record.arrays["step_loss"])
        if made != self.plan.num_steps:
            return "disagree", f"it made {made} steps, the plan has {self.plan.num_steps}"
        if not self.free_running.informative:
            return self.grade_of_the_comparable(record, judgement, divergence)
        limit, worst = self.thresholds.envelopes, self.worst(judgement)
        unexplained = judgement.unexplained_flips
        if divergence is None and worst <= limit and not unexplained:
            return "rounding", None
        outside = how_far_outside(divergence, worst, limit)
        complaints = list(self.complaints(record, judgement))
        if complaints:
            return "disagree", f"{outside}; {'; '.join(complaints)}"
        return "drift", f"{outside}, yet the outcome is the same"

    def grade_of_the_comparable(
        self, record: Record, judgement: Judgement, divergence: Finding | None
    ) -> tuple[str, str]:
        """The grade of a run whose outcome cannot be compared, and why.

        Single steps decide, and the free run as far as it can be compared: by how far it is off
        where it first leaves its envelope, since what it grows to is chaos again.
        """
        limit, steps = self.thresholds.envelopes, self.free_running.steps
        outside = []
        stages = list(judgement.stages.values())
        if divergence and divergence.stage == "data":  # what was fed is seen in no probed step
            stages.append(divergence)
        if unsound := [
            (f.relative(self.plan), (f.step, f.stage)) for f in stages if f.envelopes > limit
        ]:
            far, where = max(unsound)
            outside.append((far, f"step {where[0]}, stage {where[1]}, {how_much(far)}"))
        if judgement.free_envelopes > limit:
            first = self.free_finding(judgement, record)
            far = first.relative(self.plan) if first else judgement.free_relative
            said = f"its own training, in the first {steps} steps, {how_much(far)}"
            outside.append((far, said))
        if not outside:
            return "chaotic", not_comparable(steps, self.plan.num_steps)
        found = "; ".join(said for _, said in outside)
        words = f"beyond rounding where it can be compared: {found}"
        within = max(far for far, _ in outside) <= self.thresholds.drift_loss
        return "drift" if within else "disagree", words

    def worst(self, judgement: Judgement) -> float:
        """The largest number of envelopes of anything that decides the grade."""
        metric = judgement.stages.get("metric")
        of_metric = metric.envelopes if metric else 0.0
        return max(judgement.lockstep_envelopes, of_metric, judgement.free_envelopes)

    def complaints(self, record: Record, judgement: Judgement) -> Iterator[str]:
        """What makes the outcome of a run another one than the reference's."""
        relative, changed = self.relative_loss_error(record), len(judgement.flips)
        if relative > self.thresholds.drift_loss:
            yield (
                f"an epoch's loss is off by {relative:.2g} (relative), more than the "
                f"{self.thresholds.drift_loss:g} of drift"
            )
        if unexplained := judgement.unexplained_flips:
            yield (
                f"{unexplained} of its predictions changed, though its logits are off by too "
                "little for that"
            )
        if changed / self.data.y_val.size > self.thresholds.drift_predictions:
            yield (
                f"{changed / self.data.y_val.size:.2%} of its predictions changed, more than the "
                f"{self.thresholds.drift_predictions:.2%} of drift"
            )
        if (metric := judgement.stages.get("metric")) and self.misleading(metric):
            limits = self.thresholds
            bound = f"{limits.drift_predictions:g}"
            if self.metric(metric.tensor) is not None:
                bound = f"{limits.drift_loss:g} (relative)"
            yield (
                f"its {metric.tensor} at step {metric.step} is off by {metric.error:.2g}, more "
                f"than the {bound} of drift"
            )

    def metric(self, name: str) -> Floats | None:
        """What a metric's error is relative to, of each epoch; None of one that counts examples."""
        return self.oracle.val_loss if "loss" in name else None

    def misleading(self, metric: Finding) -> bool:
        """Whether a metric is farther from what it measures than drift may be."""
        if (exact := self.metric(metric.tensor)) is not None:
            scale = float(np.abs(exact).min())
            return metric.error > self.thresholds.drift_loss * max(scale, 1e-12)
        outside = metric.envelopes > self.thresholds.envelopes
        return outside and metric.error > self.thresholds.drift_predictions

    def relative_loss_error(self, record: Record) -> float:
        """Largest relative error of an epoch's training or validation loss."""
        train = epoch_means(self.oracle.step_loss, self.plan)
        history = record.facts["history"]
        pairs = [(history["train_loss"], train), (history["val_loss"], self.oracle.val_loss)]
        return max(
            float((np.abs(np.array(run) - exact) / np.maximum(np.abs(exact), 1e-12)).max())
            for run, exact in pairs
        )


def worst_of_stages(findings: Sequence[Finding]) -> dict[str, Finding]:
    """The worst finding of each stage that has any, in the ladder's order."""
    found = {stage: [f for f in findings if f.stage == stage] for stage in STAGES}
    return {stage: max(some, key=lambda f: f.envelopes) for stage, some in found.items() if some}


def how_far_outside(divergence: Finding | None, farthest: float, limit: float) -> str:
    """How far a run is beyond rounding: at its first divergence, else where it is farthest off."""
    if divergence is None and farthest <= limit:
        return "within rounding but for its predictions"
    far = farthest if divergence is None else divergence.envelopes
    if far > WORST / 10:
        return "beyond rounding: something that must be equal is not"
    place = "its first divergence" if divergence else "its farthest"
    return f"{far:.3g} × rounding at {place}, more than {limit:g}"


def how_much(relative: float) -> str:
    """A relative error in words."""
    if relative > WORST / 10:
        return "must be equal and is not"
    return f"is off by {relative:.1g} (relative)"
