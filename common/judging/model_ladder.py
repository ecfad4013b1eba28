"""The ladder of stages of a user's own model: single steps against a float64 run and its ensemble.

As :mod:`judging.ladder` does for softmax regression, but knowing nothing of the model's
mathematics: all that is exact comes from the reference's record, and all that is rounding from
the records of its ensemble.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.ladder import (
    EXAMPLE,
    IN_EVALUATION,
    STAGES,
    Finding,
    count_borderline,
    fed_finding,
    first_divergence,
    may_begin_in,
    spoken,
    unequal,
)
from framework_parity.common.judging.layers import (
    NEAR,
    Layer,
    far,
    listed,
    partners,
    turned,
    worst_of_rungs,
)
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import LEAST, unit_roundoff
from framework_parity.common.reference.replay import WORST
from framework_parity.common.training.buffers import BUFFER, INITIAL
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.forward_checks import INPUT, MOMENTS
from framework_parity.common.training.optimizer_state import OPTIMIZER, UNKNOWN, probed_steps
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record


@dataclass(frozen=True)
class ModelLadder:
    """The stages of a plan's probed steps, exact and with their envelopes.

    Args:
        plan: what was to be trained.
        reference: the record of the float64 run.
        members: the records of its ensemble, in the plan's dtype.
        first: the ladder of the plan's own probed steps, if this has further ones: its envelopes,
            which all steps share, are this one's, too.
        further: the states before those steps.
    """

    plan: Plan
    reference: Record
    members: Sequence[Record]
    first: ModelLadder | None = None
    further: Mapping[int, Parameters] = field(default_factory=dict)

    def reprobed(self, plan: Plan, again: Record) -> ModelLadder:
        """The same with further steps: those of a plan with which the reference trained again."""
        arrays = {**again.probes().arrays, **self.reference.arrays}
        reference = replace(self.reference, arrays=arrays)
        return ModelLadder(plan, reference, self.members, self.first or self, again.states())

    @property
    def parameters(self) -> list[str]:
        """Names of the parameters."""
        prefix = "parameters/"
        return [n.removeprefix(prefix) for n in self.reference.arrays if n.startswith(prefix)]

    @property
    def memory(self) -> list[str]:
        """Keys of what the optimizer remembered where parameters were recorded."""
        return [name for name in self.reference.arrays if name.startswith(OPTIMIZER)]

    @property
    def buffers(self) -> list[str]:
        """Keys of what the model keeps besides its parameters, there."""
        return [name for name in self.reference.arrays if name.startswith(BUFFER)]

    def unlike(self, record: Record) -> Iterator[str]:
        """What to say of an optimizer that remembers something else than the reference's."""
        run = f"{record.facts['backend']} {record.facts['implementation']}"
        if unknown := [r.facts[UNKNOWN] for r in (record, self.reference) if UNKNOWN in r.facts]:
            yield (
                f"{run}: there is no telling what the optimizer {unknown[0]} remembers. Only the "
                f"first step is compared from the reference's state, later ones in its own "
                "training alone."
            )
            return
        here, there = (
            {name.split("/")[1] for name in r.arrays if name.startswith(OPTIMIZER)} - {"count"}
            for r in (record, self.reference)
        )
        initial = {n: a for n, a in self.reference.arrays.items() if n.startswith(f"{INITIAL}/")}
        missing = [  # of counters alone nothing is said
            name.partition("/")[2]
            for name, array in initial.items()
            if name not in record.arrays and array.dtype.kind == "f"
        ]
        if missing:
            yield (
                f"{run}: it keeps nothing like {listed(missing)} of the reference's: that is not "
                "compared, what evaluation makes of it is."
            )
        if here != there:
            yield (
                f"{run}: its optimizer remembers {', '.join(sorted(here)) or 'nothing'}, the "
                f"reference's {', '.join(sorted(there)) or 'nothing'}: what one of them has not is "
                "not compared."
            )

    # The layers

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """The activations of the reference, in the order of its network."""
        return self._layers(self.reference)

    def _layers(self, record: Record) -> dict[str, Layer]:
        """Those that a record has of every probed step."""
        steps = probed_steps(self.plan, record)
        names = [name for name in map(layer_of, record.arrays) if name]
        keys = {n: [f"probe/{step}/forward/{n}" for step in steps] for n in names}
        whole = {n: found for n, found in keys.items() if set(found) <= set(record.arrays)}
        return {
            n: (
                record.facts.get("kinds", {}).get(n, ""),
                tuple(record.arrays[key].shape for key in found),
            )
            for n, found in whole.items()
        }

    def turned(self, record: Record) -> Record:
        """A record with the axes of its activations in the order of the reference's."""
        last = probed_steps(self.plan, self.reference, record)[-1]
        ours: dict[str, Array] = {}
        theirs: dict[str, Array] = {}
        for found, r in ((ours, self.reference), (theirs, record)):
            found |= {n: r.arrays[f"probe/{last}/forward/{n}"] for n in self._layers(r)}
            given = {f"{INPUT}{n}": self.given_to(r, last, n) for n in self._layers(r)}
            found |= {name: array for name, array in given.items() if array is not None}
        if not (axes := turned(ours, theirs)):
            return record
        arrays = {
            key: array.transpose(axes[name]) if (name := layer_of(key)) in axes else array
            for key, array in record.arrays.items()
        }
        return Record(record.facts, arrays)

    def given_to(self, record: Record, step: int, name: str) -> Array | None:
        """What a layer of a record was given, by its own name; None if that is not known."""
        if (array := record.arrays.get(f"probe/{step}/{INPUT}{name}")) is not None:
            return array
        source = record.facts.get("inputs", {}).get(name, "")
        return record.arrays.get(f"probe/{step}/forward/{source}")

    def given_apart(self, record: Record, step: int, name: str, other: str) -> float:
        """How far what two layers were given is apart, whatever the order of its axes."""
        exact, received = (
            self.given_to(r, step, n) for r, n in ((self.reference, name), (record, other))
        )
        if exact is None or received is None:
            return math.inf
        axes = turned({name: exact}, {name: received}).get(name)
        received = received if axes is None else received.transpose(axes)
        return far(received, exact) if received.shape == exact.shape else math.inf

    def matched(self, record: Record) -> tuple[Record, dict[str, str]]:
        """A record with the reference's names for its activations, and its own by these.

        It is without those that have no partner.
        """
        if id(record) not in self._matched:
            self._matched[id(record)] = record, *self._match(self.turned(record))
        return self._matched[id(record)][1:]

    @cached_property
    def _matched(self) -> dict[int, tuple[Record, Record, dict[str, str]]]:
        """What was matched before, with the records, whose places in memory are their keys."""
        return {}

    def _match(self, record: Record) -> tuple[Record, dict[str, str]]:
        steps = probed_steps(self.plan, self.reference, record)

        def of(pairs: Mapping[str, str]) -> dict[str, Array]:
            keys = [
                (f"probe/{step}/{mode}/", *pair)
                for step in steps
                for mode in ("forward", "evaluation")
                for pair in pairs.items()
            ]
            arrays = record.arrays
            return {f"{k}{n}": arrays[f"{k}{m}"] for k, n, m in keys if f"{k}{m}" in arrays}

        @cache
        def apart(name: str, other: str) -> float:
            """In the last probed step: in the first one, biases may not have begun."""
            given = Record({}, of({name: other}))
            return self.statistics(given, steps[-1], f"forward/{name}")["largest"]

        def is_another(name: str, other: str) -> bool:
            """Whether it is far off where what is computed from it is not."""
            given, y_hat = Record({}, of({name: other})), "forward/y_hat"
            return any(
                self.statistics(given, step, f"forward/{name}")["largest"] > NEAR
                and max(self._ratios(y_hat, self.statistics(record, step, y_hat)).values())
                <= Thresholds.envelopes
                for step in steps
            )

        compared = {
            name: layer
            for name, layer in self.layers.items()
            if (f"forward/{name}", "largest") in self.envelopes
        }
        pairs = partners(
            compared,
            self._layers(record),
            apart,
            lambda name, other: self.given_apart(record, steps[-1], name, other),
        )
        pairs = {name: other for name, other in pairs.items() if not is_another(name, other)}
        others = {key: array for key, array in record.arrays.items() if not layer_of(key)}
        return Record(record.facts, others | of(pairs)), pairs

    def layer_facts(self, record: Record) -> dict[str, Any]:
        """What a report states of a run's layers: each rung's worst, and what has a partner."""
        own, pairs = self._layers(record), self.matched(record)[1]
        return {
            "rungs": [asdict(found) for found in worst_of_rungs([*self.findings(record)])],
            "layers": {
                "compared": pairs,
                "alone": [name for name in own if name not in pairs.values()],
                "missing": [name for name in self.layers if name not in pairs],
            },
        }

    def way_to(self, rung: str, record: Record) -> str:
        """What there is to say of a layer that is the first to be off."""
        pairs = self.matched(record)[1]
        before, rung = list(self.layers), rung.removesuffix(IN_EVALUATION)
        before = before[: before.index(rung)] if rung in before else before
        alone = [name for name in before if name not in pairs]
        last = max((before.index(name) for name in before if name in pairs), default=-1)
        between = [name for name in alone if before.index(name) > last]
        other = pairs.get(rung, rung)
        return "; ".join(
            [f"its own name is {other}, matched by {self._how(rung, other, record)}"]
            * (other != rung)
            + [f"not compared on the way to it: {listed(between)}"] * bool(between)
        )

    def _how(self, rung: str, other: str, record: Record) -> str:
        """By what two activations of unlike names are partners."""
        last = probed_steps(self.plan, self.reference, record)[-1]
        key = f"probe/{last}/forward/{rung}"
        if far(self.matched(record)[0].arrays[key], self.reference.arrays[key]) <= NEAR:
            return "its values"
        return "its input" if self.given_apart(record, last, rung, other) <= NEAR else "its place"

    # The stages of a step

    def tensors(self, record: Record, modes: bool = False) -> Iterator[tuple[str, str]]:
        """Keys of the compared tensors in the order of the ladder, with their stages.

        Of the activations those that the record has. Those of evaluation come with ``modes``, and
        where the model or the reference's computes otherwise in training.
        """
        has = self._layers(record)
        yield from ((f"forward/{name}", "forward") for name in self.layers if name in has)
        yield "forward/y_hat", "forward"
        if modes or any(r.facts.get("modes") for r in (record, self.reference)):
            first = f"probe/{self.plan.probes[0]}/"
            keys = [f"evaluation/{name}" for name in (*self.layers, "y_hat")]
            both = {*record.arrays} & {*self.reference.arrays}
            yield from ((key, "forward") for key in keys if f"{first}{key}" in both)
        yield "example_loss", "example loss"
        yield "loss", "loss"
        for kind in ("gradient", "update"):
            if kind == "update":
                yield from ((name, kind) for name in (*self.buffers, *self.memory))
            for name in self.parameters:
                yield f"{kind}/{name}", kind
        if f"probe/{self.plan.probes[0]}/metric/accuracy" in self.reference.arrays:
            yield "metric/accuracy", "metric"  # where targets are classes

    @cached_property
    def envelopes(self) -> dict[tuple[str, str], float]:
        """The envelope of each statistic of each tensor: the largest over members and steps.

        Relative to the tensor's largest entry, so that all probed steps can share it.
        """
        if self.first:
            return self.first.envelopes
        least = dict[tuple[str, str], float]()
        for member in self.members:
            for step in probed_steps(self.plan, self.reference):
                for tensor, _ in self.tensors(member, modes=True):
                    for statistic, value in self.statistics(member, step, tensor).items():
                        key = tensor, statistic
                        least[key] = max(least.get(key, self._floor(*key)), value)
        return least

    def _floor(self, tensor: str, statistic: str) -> float:
        """The least envelope: half a unit of the format in which a tensor is computed.

        Updated parameters, and what an optimizer remembers, are of the plan's dtype, though what is
        added to them, a common factor hence, is of the format of the passes.
        """
        updated = tensor.startswith(("update/", OPTIMIZER)) and statistic == "largest"
        return unit_roundoff(self.plan) if updated else self.plan.recipe.unit

    def statistics(self, record: Record, step: int, tensor: str) -> dict[str, float]:
        """How far one tensor is from the reference's, relative to it, in every way."""
        exact = self._tensor(self.reference, step, tensor)
        return self._statistics(record, step, tensor, exact)

    def _statistics(self, record: Record, step: int, tensor: str, exact: Array) -> dict[str, float]:
        error = self._tensor(record, step, tensor) - exact
        scale = self._scale(step, tensor, exact)
        values = {"largest": float(np.abs(error).max()) / scale}
        square = float((exact * exact).sum())
        if exact.ndim and square:
            values["gain"] = abs(float((error * exact).sum())) / square
        return values

    def _ratios(self, tensor: str, values: Mapping[str, float]) -> dict[str, float]:
        """Statistics of a tensor in their envelopes."""
        return {name: value / self.envelopes[tensor, name] for name, value in values.items()}

    def _tensor(self, record: Record, step: int, tensor: str) -> Array:
        """A tensor of a probed step in float64, an update as the change of its parameter."""
        found = record.arrays[f"probe/{step}/{tensor}"].astype(np.float64)
        return found - self._state(step, tensor) if tensor.startswith("update/") else found

    @property
    def steps(self) -> Sequence[int]:
        """As of :meth:`judge.Stages.steps`."""
        return probed_steps(self.plan, self.reference)

    def before(self, step: int) -> Parameters:
        """As of :meth:`judge.Stages.before`."""
        return {**self.further, **self.reference.states()}[step]

    def _state(self, step: int, tensor: str) -> Array:
        """The parameter that a probed step began with, as every run was given it."""
        name = tensor.removeprefix("update/")
        state = self.before(step)[name]
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

    def stages(self, record: Record) -> Iterator[tuple[int, str, str, Array, Array]]:
        """As of :meth:`judge.Stages.stages`."""
        record = self.matched(record)[0]
        for step in probed_steps(self.plan, self.reference, record):
            for tensor, stage in self.tensors(record):
                array = record.arrays.get(f"probe/{step}/{tensor}")
                exact = self.reference.arrays.get(f"probe/{step}/{tensor}")
                if array is not None and exact is not None and array.shape == exact.shape:
                    yield step, stage, tensor, array, self._tensor(record, step, tensor)

    def may_lack(self, tensor: str) -> bool:
        """As of :meth:`judge.Stages.may_lack`: activations, which find a partner or none."""
        return tensor.startswith("forward/") and tensor != "forward/y_hat"

    def coherent_parts(self, step: int, tensor: str, values: Array) -> dict[str, float]:
        """As of :meth:`judge.Stages.coherent_parts`."""
        exact = self._tensor(self.reference, step, tensor)
        square = float((exact * exact).sum())
        return {"gain": float((values * exact).sum()) / square} if exact.ndim and square else {}

    def ratios(self, step: int, tensor: str, values: Mapping[str, float]) -> dict[str, float]:
        """As of :meth:`judge.Stages.ratios`."""
        scale = self._scale(step, tensor, self._tensor(self.reference, step, tensor))
        relative = {name: v / scale if name == "largest" else v for name, v in values.items()}
        return self._ratios(tensor, relative)

    def magnitude(self, step: int, tensor: str) -> float:
        """As of :meth:`judge.Stages.magnitude`."""
        return self._scale(step, tensor, self._tensor(self.reference, step, tensor))

    def findings(self, record: Record) -> Iterator[Finding]:
        """What was fed wrongly, and every tensor of every probed step, by its worst statistic."""
        fed = fed_finding(self.plan, record)
        for found in self._probed(self.matched(record)[0]):
            if fed and fed.step <= found.step:
                yield fed
                fed = None
            yield found
        if fed:
            yield fed

    def _probed(self, record: Record) -> Iterator[Finding]:
        unit = unit_roundoff(self.plan)
        for step in probed_steps(self.plan, self.reference, record):
            labels = record.arrays[f"probe/{step}/data/y"]
            if not np.array_equal(labels, self.reference.arrays[f"probe/{step}/data/y"]):
                yield unequal(step, "data", "labels" if labels.dtype.kind != "f" else "targets")
            for tensor, stage in self.tensors(record):
                if f"probe/{step}/{tensor}" not in record.arrays:  # an optimizer of another kind
                    continue
                if stage == "metric":
                    scores = self._tensor(self.reference, step, "forward/y_hat")
                    rounding = self.envelopes["forward/y_hat", "largest"]
                    rounding *= self._scale(step, "forward/y_hat", scores)
                    exact = self._tensor(self.reference, step, tensor)
                    error = float(self._tensor(record, step, tensor) - exact)
                    yield accuracy_finding(self.plan, step, "accuracy", error, scores, rounding)
                    continue
                values = self.statistics(record, step, tensor)
                ratios = self._ratios(tensor, values)
                worst = max(ratios, key=lambda name: ratios[name])
                exact = self._tensor(self.reference, step, tensor)
                scale = self._scale(step, tensor, exact) if worst == "largest" else 1.0
                ulps = values["largest"] / (2 * unit)
                name = spoken(tensor)
                yield Finding(step, stage, name, worst, values[worst] * scale, ulps, ratios[worst])

    def locate(self, record: Record, threshold: float) -> Finding | None:
        """The first divergence; None if nowhere."""
        first = first_divergence(list(self.findings(record)), threshold)
        if first is None:
            return None
        found = self.noted(first, threshold)
        if found.stage == "forward":
            return replace(found, note=self.way_to(found.tensor, record))
        return found

    # What a search for causes asks

    def given(self, step: int, name: str) -> Array:
        """A parameter as every run was given it, before a probed step."""
        return self._state(step, f"update/{name}")

    def received(self, record: Record, step: int, tensor: str) -> Array:
        """A tensor of a probed step in float64, an update as the change of its parameter."""
        return self._tensor(record, step, tensor)

    def rounding(self, record: Record, step: int, tensor: str) -> float:
        """The envelope of an entry of a tensor, at the size that it has in a run."""
        scale = self._scale(step, tensor, self._tensor(record, step, tensor))
        return self.envelopes[tensor, "largest"] * scale

    def misfit(self, record: Record, step: int, tensor: str, exact: Array | None = None) -> float:
        """How far a tensor is from what it should be, by default the reference's; in envelopes.

        A parameter is rounded after its update, and differently after another update: by so much
        the updates of all members may be off alike, and this one otherwise.
        """
        other = exact is not None and tensor.startswith("update/")
        exact = self._tensor(self.reference, step, tensor) if exact is None else exact
        values, unit = self._statistics(record, step, tensor, exact), unit_roundoff(self.plan)
        bounds = {name: self.envelopes.get((tensor, name), unit) for name in values}
        if other and "gain" in values:
            state = self._state(step, tensor)
            noise = unit * float(np.linalg.norm(state * exact)) / float((exact * exact).sum())
            bounds["gain"] = max(bounds["gain"], noise)
        return max(value / bounds[name] for name, value in values.items())

    def noted(self, first: Finding, threshold: float) -> Finding:
        """The first divergence, with the stages before it that would not show one so small."""
        if first.stage in ("data", "metric"):
            return first
        before = {"forward": "forward/y_hat", "example loss": "example_loss", "loss": "loss"}
        hidden = [
            stage
            for stage, tensor in before.items()
            if STAGES.index(stage) < STAGES.index(first.stage)
            and first.relative(self.plan) <= 2 * threshold * self.envelopes[tensor, "largest"]
        ]
        return replace(first, note=may_begin_in(hidden)) if hidden else first


def layer_of(key: str) -> str:
    """The name of the activation that an array is; empty if it is none."""
    kind, _, name = key.replace("/evaluation/", "/forward/").partition("/forward/")
    return name if kind.startswith("probe/") and name != "y_hat" else ""


def is_of_layer(key: str) -> bool:
    """Whether an array is an activation, or what a layer was given."""
    kinds = [f"{part}/" for part in key.split("/")[2:3]]
    return bool(layer_of(key)) or kinds in ([INPUT], [MOMENTS])


def accuracy_finding(
    plan: Plan, step: int, name: str, error: float, scores: Array, rounding: float
) -> Finding:
    """An accuracy against the reference's: only examples near to a tie may fall otherwise.

    Args:
        plan: what was to be trained.
        step: where.
        name: of the metric.
        error: its difference.
        scores: what ``forward`` gives for its examples in the reference.
        rounding: the envelope of a score.
    """
    scores = scores.reshape(-1, scores.shape[-1] if scores.ndim > 1 else 1)
    unit, n = unit_roundoff(plan), len(scores)
    near = count_borderline(scores, rounding, "logits", unit)
    error = max(abs(error) - near / n, 0.0)
    envelopes = min(error / max(EXAMPLE / n, unit), WORST)
    return Finding(step, "metric", name, "largest", error, error / (2 * unit), envelopes)
