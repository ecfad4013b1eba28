"""Judges runs of a user's own model against a float64 run of one framework and its rounding.

As :mod:`judging.judge` and :mod:`judging.ladder` do for softmax regression, but knowing nothing
of the model's mathematics: all that is exact comes from the reference's record, and all that is
rounding from the records of its ensemble.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array, largest_in_each
from framework_parity.common.judging.grades import Liveness, lifeless, not_comparable
from framework_parity.common.judging.judge import FreeRunning, how_far_outside, worst_of_stages
from framework_parity.common.judging.ladder import (
    EXAMPLE,
    STAGES,
    Finding,
    carried,
    count_borderline,
    fed_finding,
    first_divergence,
    may_begin_in,
    off,
    seen_in_loss,
    unequal,
)
from framework_parity.common.judging.layers import NEAR, Layer, listed, partners, worst_of_rungs
from framework_parity.common.judging.metrics import count_findings, mean_findings
from framework_parity.common.judging.record_check import check_history, check_shape
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import LEAST, POOLED_STEPS, unit_roundoff
from framework_parity.common.reference.replay import WORST
from framework_parity.common.training.feeding import COUNTS, ROWS, check_feeding
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import HISTORY, Record, RecordError

Floats = np.ndarray[Any, np.dtype[np.float64]]
LOSSES = ("train_loss", "val_loss")
ACCURACIES = ("train_accuracy", "val_accuracy")
WIDE = 100.0
"""How many times as far as the first member, which is the plan's own training in its dtype, the
others may stray before that is said. It decides no grade."""
COARSE = 2.0**12
"""From how many units of rounding on an envelope is said to be a coarse one."""


@dataclass(frozen=True)
class ModelJudge:
    """Judges the runs of one plan and model.

    Args:
        plan: what was to be trained.
        num_outputs: classes.
        reference: the record of the float64 run.
        members: the records of its ensemble, in the plan's dtype, the first in the plan's order.
        thresholds: where the grades part.

    Raises:
        RecordError: if a member lacks an array, or holds numbers that are not finite.
    """

    plan: Plan
    num_outputs: int
    reference: Record
    members: Sequence[Record]
    thresholds: Thresholds

    def __post_init__(self) -> None:
        for record in (self.reference, *self.members):
            self.check(record)

    @cached_property
    def envelope(self) -> dict[str, Floats]:
        """The ensemble's largest error of each quantity so far, at each of its points."""
        return self._envelope(self.members)

    def _envelope(self, members: Sequence[Record]) -> dict[str, Floats]:
        unit = unit_roundoff(self.plan)
        exact = self.reference.arrays
        envelope: dict[str, Floats] = {}
        for name in ("step_loss", "step_accuracy", *self.parameters, "val_y_hat"):
            errors = [largest_in_each(m.arrays[name] - exact[name]) for m in members]
            scale = largest_in_each(exact[name])
            # Losses are sums of logarithms of numbers near one, whose rounding is that of one.
            floor = unit * np.maximum(scale, 1.0 if name == "step_loss" else LEAST)
            if name == "step_accuracy":  # counts of examples, of which one may fall either way
                sizes = np.tile(self._lengths(), len(scale) // self.plan.steps_per_epoch)
                counts = np.max([error * sizes for error in errors], axis=0)
                envelope[name] = np.maximum(np.maximum.accumulate(counts), 1.0) / sizes
            elif name == "val_y_hat":  # known at the end alone
                envelope[name] = np.max([*errors, floor], keepdims=True)
            else:
                envelope[name] = np.maximum.accumulate(np.max([*errors, floor], axis=0))
        envelope["unshared_loss"] = envelope["step_loss"].copy()
        envelope["step_loss"][:POOLED_STEPS] = envelope["step_loss"][:POOLED_STEPS].max()
        for name in HISTORY:
            found = [_history(m, name) - _history(self.reference, name) for m in members]
            floor = unit * np.maximum(_history(self.reference, name), 1.0)
            if name in ACCURACIES:
                floor[:] = 1 / (len(exact["val_y_hat"]) if "val" in name else self._lengths().sum())
            envelope[name] = np.maximum.accumulate(np.max([*np.abs(found), floor], axis=0))
        return envelope

    def _lengths(self) -> Floats:
        """The numbers of examples in the batches of an epoch."""
        steps = range(self.plan.steps_per_epoch)
        return np.array([len(self.plan.rows(step)) for step in steps], dtype=np.float64)

    @property
    def parameters(self) -> list[str]:
        """Keys of the recorded parameters."""
        return [name for name in self.reference.arrays if name.startswith("parameters/")]

    @cached_property
    def free_running(self) -> FreeRunning:
        """How far rounding alone carries this training, in the largest of all parameters."""
        return self._free_running(self.envelope)

    def _free_running(self, envelope: Mapping[str, Floats]) -> FreeRunning:
        exact = {name: np.maximum(_history(self.reference, name), 1e-3) for name in LOSSES}
        epochs = np.max([envelope[name] / exact[name] for name in LOSSES], axis=0)
        moved = np.max(
            [
                envelope[name] / np.maximum(largest_in_each(self.reference.arrays[name]), LEAST)
                for name in self.parameters
                if self.reference.arrays[name][1:].any()
            ],
            axis=0,
        )
        points = self.reference.arrays["points"].tolist()
        return FreeRunning.measured(
            epochs,
            envelope["unshared_loss"] / np.repeat(exact["train_loss"], self.plan.steps_per_epoch),
            dict(zip(points[1:], moved[1:].tolist(), strict=True)),
            envelope["val_loss"][-1],
            self.thresholds,
        )

    def notices(self) -> Iterator[str]:
        """What to say of an envelope that is wider than one would take it to be."""
        unit, plain = unit_roundoff(self.plan), self._envelope(self.members[:1])
        wide = {name: float(self.envelope[name][-1] / plain[name][-1]) for name in self.parameters}
        worst = max(wide, key=lambda name: wide[name])
        if wide[worst] > WIDE:
            yield (
                f"The ensemble strays up to {wide[worst]:.2g} × as far as the plan's own training "
                f"in {self.plan.recipe.dtype} ({worst.removeprefix('parameters/')}, at the end): "
                "a difference within it may be more than rounding."
            )
        if self._free_running(plain).steps > self.free_running.steps:
            yield (
                "It is the ensemble alone that makes these trainings incomparable so early: the "
                f"plan's own in {self.plan.recipe.dtype} stays comparable for longer."
            )
        for (tensor, statistic), value in self.ladder.items():
            if statistic == "largest" and not tensor.startswith("metric") and value > COARSE * unit:
                yield (
                    f"{tensor} rounds coarsely in {self.reference.facts['backend']} itself: by up "
                    f"to {value:.1g}, relative; a difference below {self.thresholds.envelopes:g} × "
                    "that is not seen there."
                )

    # The layers

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The activations of the reference, in the order of its network."""
        return self._layers(self.reference)

    def _layers(self, record: Record) -> dict[str, Layer]:
        """Those that a record has of every probed step."""
        names = [n for n in map(_layer, record.arrays) if n]
        keys = {n: [f"probe/{step}/forward/{n}" for step in self.plan.probes] for n in names}
        whole = {n: found for n, found in keys.items() if set(found) <= set(record.arrays)}
        return {
            n: (record.facts["kinds"].get(n, ""), tuple(record.arrays[key].shape for key in found))
            for n, found in whole.items()
        }

    def matched(self, record: Record) -> tuple[Record, dict[str, str]]:
        """A record with the reference's names for its activations, and its own by these.

        It is without those that have no partner.
        """
        own = self._layers(record)

        def of(pairs: Mapping[str, str]) -> dict[str, Array]:
            keys = [
                (f"probe/{step}/forward/", pair)
                for step in self.plan.probes
                for pair in pairs.items()
            ]
            return {f"{key}{name}": record.arrays[f"{key}{other}"] for key, (name, other) in keys}

        @cache
        def apart(name: str, other: str) -> float:
            """In the last probed step: in the first one, biases may not have begun."""
            given = Record({}, of({name: other}))
            return self.statistics(given, self.plan.probes[-1], f"forward/{name}")["largest"]

        def is_another(name: str, other: str) -> bool:
            """Whether it is far off where what is computed from it is not."""
            given, limit = Record({}, of({name: other})), self.thresholds.envelopes
            y_hat = "forward/y_hat"
            return any(
                self.statistics(given, step, f"forward/{name}")["largest"] > NEAR
                and max(self._ratios(y_hat, self.statistics(record, step, y_hat)).values()) <= limit
                for step in self.plan.probes
            )

        compared = {
            name: layer
            for name, layer in self.layers.items()
            if (f"forward/{name}", "largest") in self.ladder
        }
        pairs = partners(compared, own, apart)
        pairs = {name: other for name, other in pairs.items() if not is_another(name, other)}
        others = {key: array for key, array in record.arrays.items() if not _layer(key)}
        return Record(record.facts, others | of(pairs)), pairs

    # The stages of a step

    def tensors(self, record: Record) -> Iterator[tuple[str, str]]:
        """Keys of the compared tensors in the order of the ladder, with their stages.

        Of the activations those that the record has.
        """
        has = self._layers(record)
        yield from ((f"forward/{name}", "forward") for name in self.layers if name in has)
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
                for tensor, _ in self.tensors(member):
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

    def _ratios(self, tensor: str, values: Mapping[str, float]) -> dict[str, float]:
        """Statistics of a tensor in their envelopes."""
        return {name: value / self.ladder[tensor, name] for name, value in values.items()}

    def _tensor(self, record: Record, step: int, tensor: str) -> Array:
        """A tensor of a probed step in float64, an update as the change of its parameter."""
        found = record.arrays[f"probe/{step}/{tensor}"].astype(np.float64)
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
        """What was fed wrongly, and every tensor of every probed step, by its worst statistic."""
        fed = fed_finding(self.plan, record)
        for found in self._probed(record):
            if fed and fed.step <= found.step:
                yield fed
                fed = None
            yield found
        if fed:
            yield fed

    def _probed(self, record: Record) -> Iterator[Finding]:
        unit = unit_roundoff(self.plan)
        for step in self.plan.probes:
            labels = record.arrays[f"probe/{step}/data/y"]
            if not np.array_equal(labels, self.reference.arrays[f"probe/{step}/data/y"]):
                yield unequal(step, "data", "labels")
            for tensor, stage in self.tensors(record):
                if stage == "metric":
                    scores = self._tensor(self.reference, step, "forward/y_hat")
                    rounding = self.ladder["forward/y_hat", "largest"]
                    rounding *= self._scale(step, "forward/y_hat", scores)
                    exact = self._tensor(self.reference, step, tensor)
                    error = float(self._tensor(record, step, tensor) - exact)
                    yield self._accuracy_finding(step, "accuracy", error, scores, rounding)
                    continue
                values = self.statistics(record, step, tensor)
                ratios = self._ratios(tensor, values)
                worst = max(ratios, key=lambda name: ratios[name])
                exact = self._tensor(self.reference, step, tensor)
                scale = self._scale(step, tensor, exact) if worst == "largest" else 1.0
                ulps = values["largest"] / (2 * unit)
                name = tensor.partition("/")[2] or tensor
                yield Finding(step, stage, name, worst, values[worst] * scale, ulps, ratios[worst])

    def _accuracy_finding(
        self, step: int, name: str, error: float, scores: Array, rounding: float
    ) -> Finding:
        """An accuracy against the reference's: only examples near to a tie may fall otherwise.

        The scores are what ``forward`` gives for its examples in the reference.
        """
        unit, n = unit_roundoff(self.plan), len(scores)
        near = count_borderline(scores, rounding, "logits", unit)
        error = max(abs(error) - near / n, 0.0)
        envelopes = min(error / max(EXAMPLE / n, unit), WORST)
        return Finding(step, "metric", name, "largest", error, error / (2 * unit), envelopes)

    def metric_findings(self, record: Record) -> Iterator[Finding]:
        """Whether its own numbers fit each other, and what it reports of validation at its end.

        The latter of a run that can be compared to its end.
        """
        yield from count_findings(self.plan, record, len(self.reference.arrays["val_y_hat"]))
        yield from mean_findings(self.plan, record)
        if self.free_running.informative:
            error = _history(record, "val_accuracy") - _history(self.reference, "val_accuracy")
            scores = self.reference.arrays["val_y_hat"]
            rounding = float(self.envelope["val_y_hat"].max())
            step = self.plan.num_steps - 1
            yield self._accuracy_finding(step, "val_accuracy", error[-1], scores, rounding)

    # The whole

    def judge(self, record: Record) -> dict[str, Any]:
        """The judged facts of one run.

        Raises:
            RecordError: if it lacks an array, or holds numbers that are not finite.
        """
        self.check(record)
        own = list(self._layers(record))
        record, partners = self.matched(record)
        limit, exact, envelope = self.thresholds.envelopes, self.reference.arrays, self.envelope
        free, informative = self.free_running.steps, self.free_running.informative
        epochs = free // self.plan.steps_per_epoch
        of_steps = {
            name: largest_in_each(record.arrays[name] - exact[name])
            for name in ("step_loss", "step_accuracy")
        }
        errors = {n: largest_in_each(record.arrays[n] - exact[n]) for n in self.parameters}
        ratios = np.max([errors[n] / envelope[n] for n in self.parameters], axis=0)
        history = {
            name: np.abs(_history(record, name) - _history(self.reference, name))
            for name in HISTORY
        }
        logits = float(
            np.abs(record.arrays["val_y_hat"].astype(np.float64) - exact["val_y_hat"]).max()
        )
        loss_ratio = max(
            float((of_steps["step_loss"] / envelope["step_loss"]).max()),
            *(float((history[name] / envelope[name]).max()) for name in LOSSES),
        )
        compared = {
            "the loss of a step": (of_steps["step_loss"] / envelope["step_loss"])[:free],
            "the accuracy of a step": (of_steps["step_accuracy"] / envelope["step_accuracy"])[
                :free
            ],
            "a parameter": ratios[exact["points"] <= free],
            "an epoch's loss": [(history[n] / envelope[n])[:epochs].max(initial=0) for n in LOSSES],
            "an epoch's accuracy": [
                (history[n] / envelope[n])[:epochs].max(initial=0) for n in ACCURACIES
            ],
            "what forward gives in validation": logits / envelope["val_y_hat"] * informative,
        }
        far = {name: float(np.max(values, initial=0.0)) for name, values in compared.items()}
        findings = list(self.findings(record))
        metrics = sorted(self.metric_findings(record), key=lambda found: found.step)
        lockstep = max(finding.envelopes for finding in findings)
        worst = max([lockstep, *far.values(), *(f.envelopes for f in metrics)])
        divergence = self._noted(first_divergence(findings, limit))
        if divergence is None and worst > limit:
            losses = (of_steps["step_loss"] / envelope["step_loss"])[:free]
            divergence = self._free_finding(record, errors, ratios, losses) or first_divergence(
                metrics, limit
            )
        elif divergence is not None and divergence.stage == "forward":
            note = self._way_to(divergence.tensor, partners)
            divergence = replace(divergence, note=note)
        flips = record.arrays["val_y_hat"].argmax(axis=1) != exact["val_y_hat"].argmax(axis=1)
        outside = [f"{name}, {value:.3g} ×" for name, value in far.items() if value > limit]
        grade, reason = self._grade(
            record, worst, divergence, history, float(flips.mean()), outside
        )
        stages = worst_of_stages([*findings, *metrics])
        return {
            "grade": grade,
            "reason": reason,
            "divergence": divergence and asdict(divergence),
            "stages": {stage: asdict(finding) for stage, finding in stages.items()},
            "rungs": [asdict(finding) for finding in worst_of_rungs(findings)],
            "layers": {
                "compared": partners,
                "alone": [name for name in own if name not in partners.values()],
                "missing": [name for name in self.layers if name not in partners],
            },
            "loss_error": float(max(of_steps["step_loss"].max(), history["val_loss"].max())),
            "loss_envelopes": loss_ratio,
            "parameter_error": float(max(values.max() for values in errors.values())),
            "parameter_envelopes": float(ratios.max()),
            "logits_error": logits,
            "lockstep_envelopes": lockstep,
            "envelopes": worst,
            "prediction_flips": int(flips.sum()),
        }

    def check(self, record: Record) -> None:
        """Raise RecordError unless the record has the reference's arrays, all of them finite."""
        check_feeding(self.plan, record.arrays)
        given = {name for name in record.arrays if not _layer(name)}
        if unknown := given - {*self.reference.arrays, *COUNTS, ROWS}:
            raise RecordError(min(unknown), "the arrays of the reference", "one more")
        for name, expected in self.reference.arrays.items():
            # A member has nothing that was fed, and who is fed otherwise more. Layers are matched.
            if name.startswith("fed/") or _layer(name):
                continue
            check_shape(record, name, expected.shape)
            if not np.isfinite(record.arrays[name]).all():
                raise RecordError(name, "finite numbers", "others")
        if not np.array_equal(record.arrays["points"], self.reference.arrays["points"]):
            raise RecordError("points", "those of the reference", record.arrays["points"].tolist())
        check_history(self.plan, record)

    def _way_to(self, rung: str, partners: Mapping[str, str]) -> str:
        """What there is to say of a layer that is the first to be off."""
        before = list(self.layers)
        before = before[: before.index(rung)] if rung in before else before
        alone = [name for name in before if name not in partners]
        last = max((before.index(n) for n in before if n in partners), default=-1)
        between = [name for name in alone if before.index(name) > last]
        other = partners.get(rung, rung)
        return "; ".join(
            [f"its own name is {other}"] * (other != rung)
            + [f"not compared on the way to it: {listed(between)}"] * bool(between)
        )

    def _noted(self, first: Finding | None) -> Finding | None:
        """With the stages before it that would not show an error as small as it is."""
        if first is None or first.stage in ("data", "metric"):
            return first
        before = {"forward": "forward/y_hat", "example loss": "example_loss", "loss": "loss"}
        hidden = [
            stage
            for stage, tensor in before.items()
            if STAGES.index(stage) < STAGES.index(first.stage)
            and first.relative(self.plan)
            <= 2 * self.thresholds.envelopes * self.ladder[tensor, "largest"]
        ]
        return replace(first, note=may_begin_in(hidden)) if hidden else first

    def _free_finding(
        self, record: Record, errors: Mapping[str, Floats], ratios: Floats, losses: Floats
    ) -> Finding | None:
        """Where the free run leaves its envelope although every probed step is sound."""
        outside = np.flatnonzero(ratios > self.thresholds.envelopes)
        if not len(outside):
            return None
        place = int(outside[0])
        name = max(errors, key=lambda n: errors[n][place] / self.envelope[n][place])
        scale = float(np.abs(self.reference.arrays[name][place]).max())
        tensor = carried(name.removeprefix("parameters/"), record)
        step = max(int(self.reference.arrays["points"][place]) - 1, 0)
        found = off(
            self.plan, step, tensor, float(errors[name][place]), scale, float(ratios[place])
        )
        wrong = np.flatnonzero(losses > self.thresholds.envelopes)
        if not len(wrong) or wrong[0] > step:
            return found
        first, exact = int(wrong[0]), self.reference.arrays["step_loss"]
        error = float(abs(record.arrays["step_loss"][first] - exact[first]))
        loss = off(self.plan, first, "loss", error, float(exact[first]), float(losses[first]))
        right = {0, *self.reference.arrays["points"][:place][ratios[:place] <= 1].tolist()}
        return loss if first in right else seen_in_loss(loss, found)

    def _grade(
        self,
        record: Record,
        worst: float,
        divergence: Finding | None,
        history: Mapping[str, Floats],
        flipped: float,
        free: Sequence[str],
    ) -> tuple[str, str | None]:
        if dead := self._lifeless(record):
            return "disagree", f"it learned nothing, though the reference did: {dead}"
        limits, informative = self.thresholds, self.free_running.informative
        if worst <= limits.envelopes:
            if informative:
                return "rounding", None
            return "chaotic", not_comparable(self.free_running.steps, self.plan.num_steps)
        outside = how_far_outside(divergence, worst, limits.envelopes)
        outside += f" (in its own training: {'; '.join(free)})" * bool(free)
        epochs = self.free_running.steps // self.plan.steps_per_epoch
        relative = max(
            float(
                (history[n] / np.maximum(_history(self.reference, n), 1e-12))[:epochs].max(
                    initial=0
                )
            )
            for n in LOSSES
        )
        if relative > limits.drift_loss:
            return "disagree", f"{outside}; an epoch's loss is off by {relative:.2g} (relative)"
        metrics = max(float(history[n][:epochs].max(initial=0)) for n in ACCURACIES)
        if metrics > limits.drift_predictions and not flipped:
            return "disagree", f"{outside}; an epoch's accuracy is off by {metrics:.2g}"
        if not informative:
            return "disagree", f"{outside}, where the outcome cannot be compared"
        if flipped > limits.drift_predictions:
            return "disagree", f"{outside}; {flipped:.2%} of its predictions changed"
        return "drift", f"{outside}, yet the outcome is the same"

    def _lifeless(self, record: Record) -> str | None:
        """Why a run counts as not having learned anything: :func:`grades.lifeless`."""
        return lifeless(self._liveness(record), self._liveness(self.reference))

    def _liveness(self, record: Record) -> Liveness:
        stacks = [record.arrays[name] for name in self.parameters]
        informative = self.free_running.informative  # else rounding may decide the outcome
        history, first = record.facts["history"], record.arrays["step_loss"][0]
        return Liveness(
            moved=not all(np.array_equal(stack[0], stack[-1]) for stack in stacks),
            fell=not informative or bool(history["train_loss"][-1] < first),
            above_chance=not informative or history["val_accuracy"][-1] > 1 / self.num_outputs,
        )


def _layer(key: str) -> str:
    """The name of the activation that an array is; empty if it is none."""
    kind, _, name = key.partition("/forward/")
    return name if kind.startswith("probe/") and name != "y_hat" else ""


def _history(record: Record, name: str) -> Floats:
    return np.array(record.facts["history"][name], dtype=np.float64)
