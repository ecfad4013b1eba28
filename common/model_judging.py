"""Judges runs of a user's own model against a float64 run of one framework and its rounding.

As :mod:`common.agreement` and :mod:`common.ladder` do for softmax regression, but knowing nothing
of the model's mathematics: all that is exact comes from the reference's record, and all that is
rounding from the records of its ensemble.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from common.arrays import Array
from common.grades import Liveness, comparable_steps, lifeless, not_comparable
from common.ladder import Finding, in_ulps
from common.plan import Plan
from common.record import Record, RecordError
from common.reference import LEAST, POOLED_STEPS, unit_roundoff
from common.replay import WORST
from common.thresholds import Thresholds

Floats = np.ndarray[Any, np.dtype[np.float64]]
HISTORY = ("train_loss", "val_loss")


@dataclass(frozen=True)
class ModelJudge:
    """Judges the runs of one plan and model.

    Args:
        plan: what was to be trained.
        num_outputs: classes.
        reference: the record of the float64 run.
        members: the records of its ensemble, in the plan's dtype.
        thresholds: where the grades part.
    """

    plan: Plan
    num_outputs: int
    reference: Record
    members: Sequence[Record]
    thresholds: Thresholds

    @cached_property
    def envelope(self) -> dict[str, Floats]:
        """The ensemble's largest error of each quantity so far, at each of its points."""
        unit = unit_roundoff(self.plan)
        exact = self.reference.arrays
        envelope: dict[str, Floats] = {}
        for name in ("step_loss", *self.parameters):
            errors = [_per_point(m.arrays[name] - exact[name]) for m in self.members]
            scale = _per_point(exact[name])
            # Losses are sums of logarithms of numbers near one, whose rounding is that of one.
            floor = unit * np.maximum(scale, 1.0 if name == "step_loss" else LEAST)
            envelope[name] = np.maximum.accumulate(np.max([*errors, floor], axis=0))
        envelope["unshared_loss"] = envelope["step_loss"].copy()
        envelope["step_loss"][:POOLED_STEPS] = envelope["step_loss"][:POOLED_STEPS].max()
        for name in HISTORY:
            found = [_history(m, name) - _history(self.reference, name) for m in self.members]
            floor = unit * np.maximum(_history(self.reference, name), 1.0)
            envelope[name] = np.maximum.accumulate(np.max([*np.abs(found), floor], axis=0))
        return envelope

    @property
    def parameters(self) -> list[str]:
        """Keys of the recorded parameters."""
        return [name for name in self.reference.arrays if name.startswith("parameters/")]

    @cached_property
    def free_running(self) -> dict[str, Any]:
        """What rounding alone does to this training, and whether free runs can be compared.

        As :class:`common.agreement.FreeRunning`, in the largest of all parameters.
        """
        scales = {name: np.maximum(_history(self.reference, name), 1e-3) for name in HISTORY}
        epochs = np.max([self.envelope[name] / scales[name] for name in HISTORY], axis=0)
        points = self.reference.arrays["points"].tolist()
        moved = {
            n: max(
                float(self.envelope[name][i]) / _per_point(self.reference.arrays[name])[i]
                for name in self.parameters
                if self.reference.arrays[name][i].any()
            )
            for i, n in enumerate(points)
            if i
        }
        scale = np.repeat(scales["train_loss"], self.plan.steps_per_epoch)
        steps = comparable_steps(
            epochs, self.envelope["unshared_loss"] / scale, moved, self.thresholds
        )
        return {
            "informative": steps == self.plan.num_steps,
            "steps": steps,
            "first": moved[points[1]],
            "last": moved[points[-1]],
            "loss": float(epochs.max()),
            "val_loss": float(self.envelope["val_loss"][-1]),
        }

    # The stages of a step

    def tensors(self) -> Iterator[tuple[str, str]]:
        """Keys of the compared tensors in the order of the ladder, with their stages."""
        yield from (("forward/y_hat", "forward"), ("example_loss", "example loss"))
        yield "loss", "loss"
        for kind in ("gradient", "update"):
            for name in self.parameters:
                yield f"{kind}/{name.removeprefix('parameters/')}", kind
        yield "metric/accuracy", "metric"

    @cached_property
    def ladder(self) -> dict[tuple[str, str], float]:
        """The envelope of each statistic of each tensor: the largest over members and steps.

        Relative to the tensor's largest entry, so that all probed steps can share it.
        """
        least = dict[tuple[str, str], float]()
        for member in self.members:
            for step in self.plan.probes:
                for tensor, _ in self.tensors():
                    for statistic, value in self.statistics(member, step, tensor).items():
                        key = tensor, statistic
                        least[key] = max(least.get(key, unit_roundoff(self.plan)), value)
        return least

    def statistics(self, record: Record, step: int, tensor: str) -> dict[str, float]:
        """How far one tensor is from the reference's, relative to it, in every way."""
        exact = self._tensor(self.reference, step, tensor)
        error = self._tensor(record, step, tensor) - exact
        scale = self._scale(step, tensor, exact)
        values = {"largest": float(np.abs(error).max()) / scale}
        square = float((exact * exact).sum())
        if exact.ndim and square:
            values["gain"] = abs(float((error * exact).sum())) / square
        return values

    def _tensor(self, record: Record, step: int, tensor: str) -> Array:
        """A tensor of a probed step in float64, an update as the change of its parameter."""
        received = record.arrays.get(f"probe/{step}/{tensor}")
        exact = self.reference.arrays[f"probe/{step}/{tensor}"]
        if received is None or received.shape != exact.shape:
            raise RecordError(f"expected {tensor} of step {step} with shape {exact.shape}")
        found = np.asarray(received, dtype=np.float64)
        return found - self._state(step, tensor) if tensor.startswith("update/") else found

    def _state(self, step: int, tensor: str) -> Array:
        """The parameter that a probed step began with, as every run was given it."""
        place = int(np.flatnonzero(self.reference.arrays["points"] == step)[0])
        name = tensor.removeprefix("update/")
        state = self.reference.arrays[f"parameters/{name}"][place]
        return np.asarray(state.astype(self.plan.recipe.dtype), dtype=np.float64)

    def _scale(self, step: int, tensor: str, exact: Array) -> float:
        """What a tensor's rounding is relative to."""
        scale = float(np.abs(exact).max())
        if tensor in ("loss", "example_loss"):
            return max(scale, 1.0)
        if tensor.startswith("update/"):  # the parameter is rounded after its update
            return max(scale, float(np.abs(self._state(step, tensor)).max()), LEAST)
        if tensor == "metric/accuracy":  # one example may fall either way
            return 1 / (unit_roundoff(self.plan) * len(self.plan.rows(step)))
        return max(scale, LEAST)

    def findings(self, record: Record) -> Iterator[Finding]:
        """Every tensor of every probed step, in the ladder's order, by its worst statistic."""
        unit = unit_roundoff(self.plan)
        for step in self.plan.probes:
            labels = record.arrays[f"probe/{step}/data/y"]
            if not np.array_equal(labels, self.reference.arrays[f"probe/{step}/data/y"]):
                yield Finding(step, "data", "labels", "largest", WORST, WORST, WORST)
            for tensor, stage in self.tensors():
                values = self.statistics(record, step, tensor)
                ratios = {name: v / self.ladder[tensor, name] for name, v in values.items()}
                worst = max(ratios, key=lambda name: ratios[name])
                exact = self._tensor(self.reference, step, tensor)
                scale = self._scale(step, tensor, exact) if worst == "largest" else 1.0
                ulps = values["largest"] / (2 * unit)
                name = tensor.rpartition("/")[2]
                yield Finding(step, stage, name, worst, values[worst] * scale, ulps, ratios[worst])

    # The whole

    def judge(self, record: Record) -> dict[str, Any]:
        """The judged facts of one run.

        Raises:
            RecordError: if it lacks an array, or holds numbers that are not finite.
        """
        self.check(record)
        limit, exact = self.thresholds.envelopes, self.reference.arrays
        loss_errors = np.abs(record.arrays["step_loss"] - exact["step_loss"])
        errors = {n: _per_point(record.arrays[n] - exact[n]) for n in self.parameters}
        ratios = np.max([errors[n] / self.envelope[n] for n in self.parameters], axis=0)
        history = {
            name: np.abs(_history(record, name) - _history(self.reference, name))
            for name in HISTORY
        }
        loss_ratios = loss_errors / self.envelope["step_loss"]
        history_ratios = [history[name] / self.envelope[name] for name in HISTORY]
        findings = list(self.findings(record))
        lockstep = max(finding.envelopes for finding in findings)
        steps = self.free_running["steps"]
        epochs = steps // self.plan.steps_per_epoch
        free = [
            *loss_ratios[:steps],
            *ratios[exact["points"] <= steps],
            *(ratio for values in history_ratios for ratio in values[:epochs]),
        ]
        worst = float(max(lockstep, *free))
        divergence = next((f for f in findings if f.envelopes > limit), None)
        if divergence is None and worst > limit:
            divergence = self._free_finding(errors, ratios)
        flips = record.arrays["val_y_hat"].argmax(axis=1) != exact["val_y_hat"].argmax(axis=1)
        grade, reason = self._grade(record, worst, history, float(flips.mean()))
        if not self.free_running["informative"] and not self._lifeless(record):
            grade, reason = self._grade_of_the_comparable(worst, divergence, findings, loss_errors)
        stages = {
            stage: max((f for f in findings if f.stage == stage), key=lambda f: f.envelopes)
            for stage in dict.fromkeys(finding.stage for finding in findings)
        }
        logits = np.abs(record.arrays["val_y_hat"].astype(np.float64) - exact["val_y_hat"]).max()
        return {
            "grade": grade,
            "reason": reason,
            "divergence": divergence and divergence.to_json(),
            "stages": {stage: finding.to_json() for stage, finding in stages.items()},
            "loss_error": float(max(loss_errors.max(), history["val_loss"].max())),
            "loss_envelopes": float(max(loss_ratios.max(), *map(np.max, history_ratios))),
            "parameter_error": float(max(values.max() for values in errors.values())),
            "parameter_envelopes": float(ratios.max()),
            "logits_error": float(logits),
            "lockstep_envelopes": lockstep,
            "envelopes": worst,
            "prediction_flips": int(flips.sum()),
        }

    def check(self, record: Record) -> None:
        """Raise RecordError unless the record has the reference's arrays, all of them finite."""
        for name in ("step_loss", "points", "val_y_hat", *self.parameters):
            expected, received = self.reference.arrays[name], record.arrays.get(name)
            if received is None or received.shape != expected.shape:
                shape = None if received is None else received.shape
                raise RecordError(f"{name}: expected shape {expected.shape}, received {shape}")
        for name, array in record.arrays.items():
            if not np.isfinite(array).all():
                raise RecordError(f"{name}: expected finite numbers")

    def _free_finding(self, errors: Mapping[str, Floats], ratios: Floats) -> Finding | None:
        """Where the free run leaves its envelope although every probed step is sound."""
        outside = np.flatnonzero(ratios > self.thresholds.envelopes)
        points = self.reference.arrays["points"]
        if not len(outside) or points[outside[0]] > self.free_running["steps"]:
            return None
        place = int(outside[0])
        name = max(errors, key=lambda n: errors[n][place] / self.envelope[n][place])
        scale = float(np.abs(self.reference.arrays[name][place]).max())
        error = float(errors[name][place])
        ulps = in_ulps(self.plan, error, scale)
        tensor = f"{name.removeprefix('parameters/')}, carried over steps"
        step = max(int(points[place]) - 1, 0)
        return Finding(step, "update", tensor, "largest", error, ulps, float(ratios[place]))

    def _grade(
        self, record: Record, worst: float, history: Mapping[str, Floats], flipped: float
    ) -> tuple[str, str | None]:
        if dead := self._lifeless(record):
            return "disagree", f"nothing to compare: {dead}"
        limits = self.thresholds
        if worst <= limits.envelopes:
            return "rounding", None
        outside = f"{worst:.3g} × rounding, more than {limits.envelopes:g}"
        relative = max(
            float((history[n] / np.maximum(_history(self.reference, n), 1e-12)).max())
            for n in HISTORY
        )
        if relative > limits.drift_loss:
            return "disagree", f"{outside}; an epoch's loss is off by {relative:.2g}"
        if flipped > limits.drift_predictions:
            return "disagree", f"{outside}; {flipped:.2%} of its predictions changed"
        return "drift", f"{outside}, yet the outcome is the same"

    def _grade_of_the_comparable(
        self,
        worst: float,
        divergence: Finding | None,
        findings: Sequence[Finding],
        loss_errors: Floats,
    ) -> tuple[str, str]:
        """As :meth:`common.agreement.Judge.grade_of_the_comparable`."""
        limit, steps = self.thresholds.envelopes, self.free_running["steps"]
        if worst <= limit:
            return "chaotic", not_comparable(steps, self.plan.num_steps)
        off = [found for found in (divergence, *findings) if found and found.envelopes > limit]
        if off:
            relative = max(found.relative(self.plan) for found in off)
        else:  # the losses alone
            train = np.maximum(_history(self.reference, "train_loss"), 1e-3)
            scale = np.repeat(train, self.plan.steps_per_epoch)
            relative = float((loss_errors / scale)[:steps].max(initial=0.0))
        outside = f"outside rounding where it can be compared, by {relative:.1g}, relative"
        return "drift" if relative <= self.thresholds.drift_loss else "disagree", outside

    def _lifeless(self, record: Record) -> str | None:
        """Why a run counts as not having learned anything: :func:`common.grades.lifeless`."""
        return lifeless(self._liveness(record), self._liveness(self.reference))

    def _liveness(self, record: Record) -> Liveness:
        stacks = [record.arrays[name] for name in self.parameters]
        return Liveness(
            moved=not all(np.array_equal(stack[0], stack[-1]) for stack in stacks),
            fell=_fell(record),
            above_chance=record.facts["history"]["val_accuracy"][-1] > 1 / self.num_outputs,
        )

    def reference_facts(self) -> dict[str, list[float]]:
        """The reference's numbers per epoch."""
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
        return {name: list(self.reference.facts["history"][name]) for name in names}


def _fell(record: Record) -> bool:
    """Whether a run's loss ends below where it began."""
    return bool(record.facts["history"]["train_loss"][-1] < record.arrays["step_loss"][0])


def _per_point(values: Array) -> Floats:
    """The largest magnitude in each slice along the first axis."""
    return np.asarray(np.abs(values).reshape(len(values), -1).max(axis=1), dtype=np.float64)


def _history(record: Record, name: str) -> Floats:
    return np.array(record.facts["history"][name], dtype=np.float64)
