"""Judges runs of a user's own model against a float64 run of one framework and its rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array, largest_in_each
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.judging.diagnosis import Diagnosis
from framework_parity.common.judging.grades import Liveness, lifeless
from framework_parity.common.judging.judge import Floats, Judge, Judgement
from framework_parity.common.judging.ladder import (
    Finding,
    first_divergence,
    order_rounding,
    spoken,
    unequal,
)
from framework_parity.common.judging.layer_evidence import layer_cause
from framework_parity.common.judging.metrics import (
    count_findings,
    finding,
    mean_findings,
    step_sizes,
)
from framework_parity.common.judging.model_ladder import ModelLadder, accuracy_finding, is_of_layer
from framework_parity.common.judging.optimizer_causes import optimizer_cause
from framework_parity.common.judging.recomputed import (
    PREFIX,
    ForwardRounding,
    is_recomputed,
    scores_of,
)
from framework_parity.common.judging.record_check import check_history, check_shape
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import (
    LEAST,
    Bounds,
    loss_envelope,
    running_envelope,
    unit_roundoff,
)
from framework_parity.common.reference.replay import WORST, Course, epoch_means
from framework_parity.common.training.buffers import BUFFER, INITIAL
from framework_parity.common.training.feeding import COUNTS, ROWS, check_feeding
from framework_parity.common.training.optimizer_state import OPTIMIZER, probed_steps
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import HISTORY, Record, RecordError

WIDE = 100.0
"""How many times as far as the first member, which is the plan's own training in its dtype, the
others may stray before that is said. It decides no grade."""
COARSE = 2.0**12
"""From how many units of rounding on an envelope is said to be a coarse one."""


@dataclass(frozen=True)
class ModelJudge(Judge):
    """Judges the runs of one plan and model; arguments as of :class:`Judge`."""

    ladder: ModelLadder

    @classmethod
    def measure(
        cls,
        plan: Plan,
        data: DataModule,
        reference: Record,
        members: Sequence[Record],
        thresholds: Thresholds | None = None,
    ) -> ModelJudge:
        """The judge of a plan and model, its rounding measured.

        Args:
            plan: what was to be trained.
            data: its examples.
            reference: the record of the float64 run.
            members: the records of its ensemble, in the plan's dtype, the first in the plan's
                order.
            thresholds: where the grades part.

        Raises:
            RecordError: if a member lacks an array, or holds numbers that are not finite.
        """
        for record in (reference, *members):
            check_against(plan, reference, record)
        ladder = ModelLadder(plan, reference, members)
        oracle = course_of(reference)
        bounds = measure_bounds(plan, oracle, list(map(course_of, members)))
        return cls(plan, data, oracle, bounds, ladder, thresholds or Thresholds())

    def reprobed(self, plan: Plan, again: Record) -> ModelJudge:
        """The judge of the same training by further probed steps, with the reference's of these."""
        return replace(self, plan=plan, ladder=self.ladder.reprobed(plan, again))

    @property
    def reference(self) -> Record:
        """The record of the float64 run."""
        return self.ladder.reference

    @property
    def points(self) -> Sequence[int]:
        found: list[int] = self.reference.arrays["snapshots"].tolist()
        return found

    @property
    def initial(self) -> Mapping[str, Array]:
        return self.reference.initial()

    def moved(self) -> Floats:
        """Of the largest of all parameters that are not zero throughout."""
        held = {name: self.oracle.parameters[name] for name in self.initial}
        held = {name: values for name, values in held.items() if values.any()}
        of = self.envelope.parameters
        parts = [of[n] / np.maximum(largest_in_each(v), LEAST) for n, v in held.items()]
        return np.asarray(np.max(parts, axis=0))

    def check(self, record: Record) -> None:
        check_against(self.plan, self.reference, record)

    def given_finding(self, record: Record) -> Finding | None:
        """Besides, a difference in what the model kept before its first step."""
        for key, exact in self.reference.arrays.items():
            if not key.startswith(f"{INITIAL}/") or key not in record.arrays:
                continue
            received = record.arrays[key]
            if error := float(np.abs(received - exact.astype(received.dtype)).max(initial=0.0)):
                ulps = error / (2 * unit_roundoff(self.plan))
                name = spoken(f"{BUFFER}{key.partition('/')[2]}")
                return unequal(0, "data", f"initial {name}", error, ulps)
        return super().given_finding(record)

    def held(self, record: Record) -> Mapping[str, Array]:
        return {n: v for n, v in held_in(record).items() if n in self.oracle.parameters}

    def scores(self, record: Record) -> Floats:
        return scores_of(record)

    @cached_property
    def forward_rounding(self) -> ForwardRounding | None:
        """How far the ensemble's own numbers are from what its parameters give."""
        return ForwardRounding.measure(self.plan, self.ladder.members)

    def flip_bound(
        self, record: Record, scores: Floats, example: int, classes: tuple[int, int]
    ) -> float | None:
        """The error of a run's scores there: of its parameters, and the rounding of two scores."""
        if self.forward_rounding is None or not is_recomputed(record):
            return None
        both = (self.oracle.val_logits, scores)
        exact, received = (each.reshape(-1, each.shape[-1]) for each in both)
        ours, theirs = (received[example, c] - exact[example, c] for c in classes)
        rounding = order_rounding(self.forward_rounding.scores, "logits", unit_roundoff(self.plan))
        return abs(float(theirs - ours)) + rounding

    def metric_findings(self, record: Record) -> Iterator[Finding]:
        """Whether its own numbers fit each other, and what it reports against the reference.

        The latter as far as free runs can be compared. At the end an accuracy may be off by the
        examples near to a tie; before it, by as many as any member was.
        """
        each = self.each
        if self.data.has_classes:
            yield from count_findings(self.plan, record, self.data.num_val, each)
        yield from mean_findings(self.plan, record)
        rounding = self.forward_rounding
        if rounding and is_recomputed(record):
            yield from rounding.findings(self.plan, record, self.data.has_classes, each)
        run, free = course_of(record), self.free_running.steps
        length = self.plan.steps_per_epoch
        yield from self._named_findings(record, free // length)
        if not self.data.has_classes:
            return
        for name, (of, _) in accuracies(self.plan, self.data.num_val, each).items():
            every = 1 if name == "step_accuracy" else length
            errors, bounds = np.abs(of(run) - of(self.oracle)), self.accuracy_bounds(name)
            found = [
                finding(self.plan, (i + 1) * every - 1, name, float(errors[i]), float(bounds[i]))
                for i in range(free // every)
            ]
            if found:
                beyond = first_divergence(found, self.thresholds.envelopes)
                yield beyond or max(found, key=lambda one: one.envelopes)
        if self.free_running.informative:
            error = float(run.val_accuracy[-1] - self.oracle.val_accuracy[-1])
            scores, last = self.oracle.val_logits, self.plan.num_steps - 1
            bound = self.envelope.logits + (rounding.scores if rounding else 0.0)
            yield accuracy_finding(self.plan, last, "val_accuracy", error, scores, bound)

    def _named_findings(self, record: Record, epochs: int) -> Iterator[Finding]:
        """The file's own metrics against the reference's, in the epochs that can be compared."""
        for name, exact in self.own_metrics.items():
            found, unit = [], unit_roundoff(self.plan)
            errors = np.abs(np.array(record.facts["history"][name]) - exact)
            bounds, scales = self.own_bounds(name), np.maximum(np.abs(exact), LEAST)
            for epoch in range(epochs):
                error, step = float(errors[epoch]), (epoch + 1) * self.plan.steps_per_epoch - 1
                one = finding(self.plan, step, name, error, float(bounds[epoch]))
                ulps = min(error / (2 * unit * float(scales[epoch])), WORST)
                found.append(replace(one, ulps=ulps))
            if found:
                beyond = first_divergence(found, self.thresholds.envelopes)
                yield beyond or max(found, key=lambda one: one.envelopes)

    def own_bounds(self, name: str) -> Floats:
        """How far rounding alone moves a metric of the file's, up to each epoch."""
        exact = self.own_metrics[name]
        others = [np.array(each.facts["history"][name]) for each in self.ladder.members]
        floor = np.maximum(self.plan.recipe.unit * np.abs(exact), LEAST)
        strayed = np.max([np.abs(values - exact) for values in others], axis=0)
        return np.asarray(np.maximum.accumulate(np.maximum(strayed, floor)))

    @property
    def own_metrics(self) -> dict[str, Floats]:
        """Those that the file names, of the reference's epochs: ``val_NAME``."""
        history = self.reference.facts["history"].items()
        return {name: np.array(values) for name, values in history if name not in HISTORY}

    def metric(self, name: str) -> Floats | None:
        return self.own_metrics.get(name, super().metric(name))

    @property
    def each(self) -> int:
        """How many predictions an example has: one, or one for each place of a sequence."""
        return self.data.y_val.size // self.data.num_val

    def accuracy_bounds(self, name: str) -> Floats:
        """The envelope of an accuracy: the most examples that any member had otherwise so far."""
        of, size = accuracies(self.plan, self.data.num_val, self.each)[name]
        exact = of(self.oracle)
        strayed = [np.abs(of(course_of(member)) - exact) for member in self.ladder.members]
        counts = np.maximum.accumulate(np.max(strayed, axis=0) * size)
        return np.asarray(np.maximum(counts, 1.0) / size)

    def metric_ratios(self, name: str, errors: Floats, limit: float) -> Floats:
        losses = {"train_loss": self.envelope.train_loss, "val_loss": self.envelope.val_loss}
        if name in self.own_metrics:
            return np.asarray(errors / self.own_bounds(name))
        return np.asarray(errors / (losses[name] if name in losses else self.accuracy_bounds(name)))

    @property
    def liveness(self) -> Liveness:
        return self._liveness(self.reference)

    def lifeless(self, record: Record) -> str | None:
        return lifeless(self._liveness(record), self.liveness)

    @property
    def reference_facts(self) -> dict[str, Any]:
        own = {name: values.tolist() for name, values in self.own_metrics.items()}
        return own | {"by": self.reference.facts["backend"]}

    @property
    def envelope_facts(self) -> dict[str, Any]:
        return {"orders": list(self.reference.facts["orders"])}

    def row_facts(self, record: Record) -> dict[str, Any]:
        return self.ladder.layer_facts(record)

    def _liveness(self, record: Record) -> Liveness:
        initial, held = record.initial(), record.parameters()
        comparable = self.free_running.informative  # else rounding may decide the outcome
        history, first = record.facts["history"], record.arrays["step_loss"][0]
        return Liveness(
            moved=not all(np.array_equal(initial[name], held[name][-1]) for name in held),
            fell=not comparable or bool(history["train_loss"][-1] < first),
            above_chance=not (comparable and self.data.has_classes)
            or history["val_accuracy"][-1] > 1 / self.data.num_outputs,
        )

    @cached_property
    def alone(self) -> ModelJudge:
        """The judge that has the first member, the plan's own training in its dtype, alone."""
        first = course_of(self.ladder.members[0])
        return replace(self, envelope=measure_bounds(self.plan, self.oracle, [first]))

    def cause(self, record: Record, judgement: Judgement) -> Diagnosis | None:
        """Why a run diverges first where it does, as far as that is known."""
        if (found := judgement.divergence) is None:
            return None
        if found.stage == "update" and found.tensor in map(spoken, self.ladder.buffers):
            return None  # a layer's doing, not the optimizer's
        if found.stage == "update":
            return optimizer_cause(self.ladder, record, self.thresholds.envelopes)
        return layer_cause(self.ladder, record, found, self.thresholds.envelopes, self.examples)

    def examples(self, step: int) -> Array | None:
        """The features of a probed step's batch, in float64; None where they are too many."""
        if self.data.is_large:
            return None
        return self._features[self.plan.rows(step)]

    @cached_property
    def _features(self) -> Array:
        return self.data.examples(train=True, dtype="float64")[0]

    def notices(self) -> Iterator[str]:
        """What to say of an envelope that is wider than one would take it to be."""
        dtype, plain = self.plan.recipe.dtype, self.alone.envelope.parameters
        bounds = self.envelope.parameters
        wide = {n: float(bounds[n][-1] / plain[n][-1]) for n in self.initial}
        worst = max(wide, key=lambda name: wide[name])
        if wide[worst] > WIDE:
            yield (
                f"The ensemble strays up to {wide[worst]:.2g} × as far as the plan's own training "
                f"in {dtype} ({worst}, at the end): a difference within it may be more than "
                "rounding."
            )
        if self.alone.free_running.steps > self.free_running.steps:
            yield (
                "It is the ensemble alone that makes these trainings incomparable so early: the "
                f"plan's own in {dtype} stays comparable for longer."
            )
        unit, by = self.plan.recipe.unit, self.reference.facts["backend"]
        for (tensor, statistic), value in self.ladder.envelopes.items():
            if statistic == "largest" and not tensor.startswith("metric") and value > COARSE * unit:
                yield (
                    f"{tensor} rounds coarsely in {by} itself: by up to {value:.1g}, relative; a "
                    f"difference below {self.thresholds.envelopes:g} × that is not seen there."
                )


def held_in(record: Record) -> dict[str, Array]:
    """The parameters that a record holds, and what an optimizer and the model kept besides."""
    kinds = OPTIMIZER, BUFFER
    memory = {n: array for n, array in record.arrays.items() if n.startswith(kinds)}
    return record.parameters() | memory


def course_of(record: Record) -> Course:
    """What a record holds of its training."""
    history, arrays = record.facts["history"], record.arrays
    return Course(
        arrays["step_loss"].astype(np.float64),
        arrays.get("step_accuracy", np.empty(0)).astype(np.float64),
        held_in(record),
        np.array(history["val_loss"], np.float64),
        np.array(history.get("val_accuracy", ()), np.float64),
        scores_of(record),
    )


def measure_bounds(plan: Plan, oracle: Course, members: Sequence[Course]) -> Bounds:
    """The rounding envelope of a plan and model from its reference and its ensemble."""

    def largest(
        of: Callable[[Course], Array], least: float = 0.0, unit: float | None = None
    ) -> Floats:
        return running_envelope(plan, oracle, members, of, least, unit)

    def parameter(name: str) -> Callable[[Course], Array]:
        return lambda course: course.parameters[name]

    return Bounds(
        loss=loss_envelope(plan, oracle, members),
        unshared_loss=loss_envelope(plan, oracle, members, pooled_steps=1),
        train_loss=largest(lambda course: epoch_means(course.step_loss, plan), least=1.0),
        val_loss=largest(lambda course: course.val_loss, least=1.0),
        parameters={
            name: largest(parameter(name), unit=unit_roundoff(plan)) for name in oracle.parameters
        },
        logits=float(largest(lambda course: course.val_logits.ravel()[None])[-1]),
    )


def accuracies(
    plan: Plan, num_val: int, each: int
) -> dict[str, tuple[Callable[[Course], Floats], Array | int]]:
    """The accuracies of a course by name, and of how many predictions each number is.

    ``each``: how many an example has.
    """
    return {
        "step_accuracy": (lambda course: course.step_accuracy, each * step_sizes(plan)),
        "train_accuracy": (
            lambda course: epoch_means(course.step_accuracy, plan),
            each * plan.order.shape[1],
        ),
        "val_accuracy": (lambda course: course.val_accuracy, each * num_val),
    }


def check_against(plan: Plan, reference: Record, record: Record) -> None:
    """Raise RecordError unless a record has the reference's arrays, all of them finite."""
    check_feeding(plan, record.arrays)
    steps = set(plan.probes) - {*probed_steps(plan, reference, record)}
    left_out = tuple(f"probe/{step}/" for step in steps)
    given = {name for name in record.arrays if not is_of_layer(name)}  # layers are matched
    given = {name for name in given if not name.startswith(PREFIX)}
    unknown = given - {*reference.arrays, *COUNTS, ROWS}
    if unknown := {name for name in unknown if f"/{OPTIMIZER}" not in f"/{name}"}:
        raise RecordError(min(unknown), "the arrays of the reference", "one more")
    for name, expected in reference.arrays.items():
        # A member has no feeding, or more if wrong; layers are matched.
        if is_of_layer(name) or name.startswith(("fed/", *left_out)):
            continue
        # An optimizer of another kind, a model that keeps something else
        besides = any(f"/{kind}" in f"/{name}" for kind in (OPTIMIZER, BUFFER, INITIAL))
        if besides and name not in record.arrays:
            continue
        check_shape(record, name, expected.shape)
        if not np.isfinite(record.arrays[name]).all():
            raise RecordError(name, "finite numbers", "others")
    planned, received = (r.arrays["snapshots"].tolist() for r in (reference, record))
    if planned != received:
        raise RecordError("snapshots", f"those of the reference, {planned}", received)
    check_history(plan, record, reference.facts["history"])
