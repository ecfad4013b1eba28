"""Records to grades and a verdict. Pure functions: no files, no processes, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data import DataModule
from common.plan import Plan
from common.record import Record, RecordError
from common.reference import Envelope, Trajectory, centred, epoch_means

Floats = npt.NDArray[np.float64]

GRADES = ("exact", "rounding", "drift", "disagree")
"""From best to worst."""


@dataclass(frozen=True)
class Thresholds:
    """The numbers that decide a grade; every report states them.

    Args:
        envelopes: how many rounding envelopes still count as rounding.
        drift_loss: largest relative difference of an epoch's loss that is still drift.
        drift_predictions: largest part of the predictions that may change in drift.
    """

    envelopes: float = 4.0
    drift_loss: float = 1e-4
    drift_predictions: float = 1e-3


@dataclass(frozen=True)
class Judgement:
    """What the judging of one run found.

    Args:
        grade: one of :data:`GRADES`.
        reason: why it is not rounding, or None.
        loss_error: largest error of a step's or an epoch's loss.
        parameter_error: largest error of a parameter at a snapshot.
        logits_error: largest error of a validation logit, recomputed from the parameters; what
            all classes share does not count.
        loss_envelopes: the first in rounding envelopes, at its worst place.
        parameter_envelopes: likewise.
        logits_envelopes: likewise.
        prediction_flips: validation examples classified differently from the reference.
        unexplained_flips: those whose margin the error of their logits does not cover.
        loss_envelopes_per_step: shape ``(num_steps,)``.
        parameter_envelopes_per_snapshot: shape ``(s,)``.
    """

    grade: str
    reason: str | None
    loss_error: float
    parameter_error: float
    logits_error: float
    loss_envelopes: float
    parameter_envelopes: float
    logits_envelopes: float
    prediction_flips: int
    unexplained_flips: int
    loss_envelopes_per_step: Floats
    parameter_envelopes_per_snapshot: Floats


@dataclass(frozen=True)
class Judge:
    """Judges the runs of one plan against its reference and rounding envelope.

    Args:
        plan: what was to be trained.
        data: its examples.
        oracle: the float64 reference.
        envelope: the measured rounding of this plan.
        thresholds: where the grades part.
    """

    plan: Plan
    data: DataModule
    oracle: Trajectory
    envelope: Envelope
    thresholds: Thresholds = Thresholds()

    def judge(self, record: Record) -> Judgement:
        """Grade one run.

        Raises:
            RecordError: if an array of the record is missing or has another shape than the plan
                asks for.
        """
        self.check(record)
        oracle, envelope = self.oracle, self.envelope
        history = record.facts["history"]
        loss_errors = np.abs(record.arrays["step_loss"] - oracle.step_loss)
        loss_ratios = loss_errors / envelope.loss
        val_errors = np.abs(np.array(history["val_loss"]) - oracle.val_loss)
        W, b = (record.arrays[f"parameters/{name}"].astype(np.float64) for name in "Wb")
        W_errors, b_errors = _per_snapshot(W - oracle.W), _per_snapshot(b - oracle.b)
        parameter_ratios = np.maximum(W_errors / envelope.W, b_errors / envelope.b)
        logits = self.logits(W[-1], b[-1])
        logits_error = float(np.abs(centred(logits - oracle.val_logits)).max())
        flips = self.flips(record, logits)
        loss_envelopes = float(max(loss_ratios.max(), (val_errors / envelope.val_loss).max()))
        parameter_envelopes = float(parameter_ratios.max())
        logits_envelopes = logits_error / envelope.logits if logits_error else 0.0
        unexplained = sum(not flip["explained"] for flip in flips)
        worst = max(loss_envelopes, parameter_envelopes, logits_envelopes)
        grade, reason = self.grade(record, worst, len(flips), unexplained)
        return Judgement(
            grade=grade,
            reason=reason,
            loss_error=float(max(loss_errors.max(), val_errors.max())),
            parameter_error=float(max(W_errors.max(), b_errors.max())),
            logits_error=logits_error,
            loss_envelopes=loss_envelopes,
            parameter_envelopes=parameter_envelopes,
            logits_envelopes=logits_envelopes,
            prediction_flips=len(flips),
            unexplained_flips=unexplained,
            loss_envelopes_per_step=loss_ratios,
            parameter_envelopes_per_snapshot=parameter_ratios,
        )

    def check(self, record: Record) -> None:
        """Raise RecordError unless the record has the arrays of this plan, whole."""
        s, (num_inputs, num_outputs) = len(self.plan.snapshots), self.plan.W.shape
        expected: dict[str, tuple[int, ...]] = {
            "step_loss": (self.plan.num_steps,),
            "step_accuracy": (self.plan.num_steps,),
            "snapshots": (s,),
            "parameters/W": (s, num_inputs, num_outputs),
            "parameters/b": (s, num_outputs),
            "val_y_hat": (self.data.num_val, num_outputs),
        }
        for name, shape in expected.items():
            if name not in record.arrays:
                raise RecordError(f"record lacks the array {name}")
            if record.arrays[name].shape != shape:
                raise RecordError(
                    f"{name}: expected shape {shape}, received {record.arrays[name].shape}"
                )
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            values = record.facts["history"].get(name, ())
            if len(values) != self.plan.recipe.max_epochs or not np.isfinite(values).all():
                raise RecordError(
                    f"{name}: expected {self.plan.recipe.max_epochs} finite numbers, received "
                    f"{values}"
                )
        if tuple(record.arrays["snapshots"]) != self.plan.snapshots:
            raise RecordError("parameters were recorded after other steps than the plan's")

    def logits(self, W: Floats, b: Floats) -> Floats:
        """Validation logits in float64 from parameters."""
        return np.asarray(self.data.examples(train=False, dtype="float64")[0] @ W + b)

    def flips(self, record: Record, logits: Floats) -> list[dict[str, Any]]:
        """Validation examples that the run classifies differently from the reference.

        A flip is explained if the reference's margin between the two classes is no larger than
        the error that the run's logits have there: that of its parameters, measured in float64,
        and the rounding of two logits in the forward pass.
        """
        exact = self.oracle.val_logits
        predicted, expected = record.arrays["val_y_hat"].argmax(axis=1), exact.argmax(axis=1)
        forward = 2 * self.thresholds.envelopes * self.envelope.forward
        found = []
        for i in np.flatnonzero(predicted != expected):
            ours, theirs = expected[i], predicted[i]
            margin = float(exact[i, ours] - exact[i, theirs])
            moved = (logits[i, theirs] - exact[i, theirs]) - (logits[i, ours] - exact[i, ours])
            bound = abs(float(moved)) + forward
            found.append(
                {
                    "example": int(i),
                    "label": int(self.data.y_val[i]),
                    "reference": int(ours),
                    "run": int(theirs),
                    "margin": margin,
                    "bound": bound,
                    "explained": margin <= bound,
                }
            )
        return found

    def grade(
        self, record: Record, envelopes: float, flips: int, unexplained: int
    ) -> tuple[str, str | None]:
        """The grade of a run, and why it is not rounding."""
        if dead := self.lifeless(record):
            return "disagree", f"nothing to compare: {dead}"
        allowed = self.thresholds.envelopes
        if envelopes <= allowed and not unexplained:
            return "rounding", None
        outside = f"{envelopes:.3g} × rounding, more than {allowed:g}"
        if envelopes <= allowed:
            outside = "within rounding"
        relative = self.relative_loss_error(record)
        changed = flips / self.data.num_val
        complaints = []
        if relative > self.thresholds.drift_loss:
            complaints.append(
                f"an epoch's loss is off by {relative:.2g}, more than "
                f"{self.thresholds.drift_loss:g}"
            )
        if unexplained:
            complaints.append(f"{unexplained} of its predictions are not explained by its logits")
        if changed > self.thresholds.drift_predictions:
            complaints.append(
                f"{changed:.2%} of its predictions changed, more than "
                f"{self.thresholds.drift_predictions:.2%}"
            )
        if complaints:
            return "disagree", f"{outside}; {'; '.join(complaints)}"
        return "drift", f"{outside}, yet the outcome is the same"

    def relative_loss_error(self, record: Record) -> float:
        """Largest relative error of an epoch's training or validation loss."""
        train = epoch_means(self.oracle.step_loss, self.plan)
        history = record.facts["history"]
        pairs = [(history["train_loss"], train), (history["val_loss"], self.oracle.val_loss)]
        return max(
            float((np.abs(np.array(run) - exact) / np.maximum(np.abs(exact), 1e-12)).max())
            for run, exact in pairs
        )

    def lifeless(self, record: Record) -> str | None:
        """Why the run counts as not having learned anything, or None. Two dead models agree."""
        W = record.arrays["parameters/W"]
        train_loss = record.facts["history"]["train_loss"]
        if np.array_equal(W[-1], self.plan.W):
            return "the weights never moved"
        if not train_loss[-1] < record.arrays["step_loss"][0]:
            return "the loss did not fall"
        chance = 1 / self.data.num_outputs
        if not record.facts["history"]["val_accuracy"][-1] > chance:
            return f"its accuracy is not above chance, {chance:.3g}"
        return None


def verdict(statuses: Sequence[str], grades: Sequence[str | None]) -> str:
    """The verdict of a comparison from the status and grade of its runs.

    Returns:
        ``incomplete`` if something asked for did not run, or nothing was asked for; else
        ``disagree``, ``drift`` or ``agree`` after the worst grade.
    """
    worst = max((GRADES.index(grade) for grade in grades if grade), default=0)
    if not statuses or any(status != "done" for status in statuses):
        return "incomplete"
    return {"exact": "agree", "rounding": "agree"}.get(GRADES[worst], GRADES[worst])


def _per_snapshot(values: Floats) -> Floats:
    return np.asarray(np.abs(values).reshape(len(values), -1).max(axis=1))
