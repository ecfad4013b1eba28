"""The ladder of stages: one step from a known state, compared stage by stage with its rounding.

For each probed step the reference gives every stage in float64, and the members of the ensemble
give how far rounding alone moves it. A fault shows in one of five ways, and each has its own
envelope: in the largest error of an entry; in a common factor (``gain``), a common shift
(``offset``), a common factor of what is left without the mean (``spread``), or, for an update, a
part along the parameter itself (``decay``). All but the first average over all entries, so that
they see a coherent error far below the rounding of one entry, such as a learning rate that is
wrong by a part in 100,000, in a single step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.threads import in_threads
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import (
    LEAST,
    LOCKSTEP_MEMBERS,
    member,
    reference,
    unit_roundoff,
)
from framework_parity.common.reference.replay import WORST, Training, Trajectory, difference
from framework_parity.common.training.buffers import BUFFER, parts
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.feeding import first_wrong_batch
from framework_parity.common.training.optimizer_state import OPTIMIZER
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record

PARTS = ("gain", "offset", "spread", "decay")
"""What entries have in common: the statistics that a finding may have beside ``largest``."""

STAGES = ("data", "forward", "example loss", "loss", "gradient", "update", "metric")

TENSORS = {
    "forward/y_hat": "forward",
    "example_loss": "example loss",
    "loss": "loss",
    "gradient/W": "gradient",
    "gradient/b": "gradient",
    "update/W": "update",
    "update/b": "update",
    "metric/accuracy": "metric",
}
"""The compared tensors in the order of the ladder, with their stages."""


DROWNING = ("forward", "example_loss")
"""Of these tensors also the part about their mean is looked at (``spread``): near a uniform
prediction it is a small part of every entry, and what is wrong in it drowns in the rest."""

IN_EVALUATION = " in evaluation"
"""What comes after the name of an activation that training gives otherwise."""

EXAMPLE = 0.125
"""The envelope of an accuracy, in examples: one that is not borderline is eight envelopes, and the
mean itself rounds by less."""


def order_rounding(rounding: float, kind: str, unit: float) -> float:
    """How near two logits of an example may be for their order to be rounding.

    Each is off by so many envelopes as are still rounding. Probabilities have a rounding of
    their own, that of the exponential and of the division, however near the logits are: of two
    that differ by less either may come out larger, or both the same.

    Args:
        rounding: the envelope of a logit.
        kind: ``logits`` or ``probabilities``: by whose largest entry a run classifies.
        unit: half a unit in the last place of one.
    """
    least = unit if kind == "probabilities" else 0.0
    return 2 * Thresholds.envelopes * max(rounding, least)


def count_borderline(logits: Array, rounding: float, kind: str, unit: float) -> int:
    """How many examples have two best logits nearer than :func:`order_rounding`."""
    if logits.shape[1] == 1:
        return 0
    best = np.sort(logits, axis=1)[:, -2:]
    margins = best[:, 1] - best[:, 0]
    return int(np.count_nonzero(margins <= order_rounding(rounding, kind, unit)))


def rounding_of_entries(rounding: Array, exact: Array) -> dict[str, float]:
    """What each statistic of a tensor is where every entry is off by its rounding, on its own."""
    return {
        "largest": float(rounding.max()),
        "gain": _noise(rounding, exact),
        "offset": _norm(rounding) / exact.size,
    }


def larger(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Of each statistic the larger one."""
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


@dataclass(frozen=True)
class Finding:
    """How far one tensor of one probed step is from the reference.

    Args:
        step: the step, counted from 0.
        stage: one of :data:`STAGES`.
        tensor: which array of the stage.
        statistic: ``largest``, ``gain``, ``offset``, ``spread`` or ``decay``.
        error: its value.
        ulps: the largest error of an entry, in units in the last place of the largest entry.
        envelopes: the statistic's value in its own rounding envelopes.
        note: what else there is to say of the place; empty if nothing.
    """

    step: int
    stage: str
    tensor: str
    statistic: str
    error: float
    ulps: float
    envelopes: float
    note: str = ""

    def relative(self, plan: Plan) -> float:
        """The error relative to the tensor: of the statistic if it is a factor, else in ulps."""
        factor = self.statistic in ("gain", "spread", "decay")
        return self.error if factor else 2 * unit_roundoff(plan) * self.ulps


def unequal(
    step: int, stage: str, tensor: str, error: float = WORST, ulps: float = WORST
) -> Finding:
    """Of what must be equal, and is not."""
    return Finding(step, stage, tensor, "largest", error, ulps, WORST)


def off(
    plan: Plan, step: int, tensor: str, error: float, exact: float, ratio: float, note: str = ""
) -> Finding:
    """Of the ``loss``, or of a parameter after its update: the largest error, and largest entry."""
    stage = "loss" if tensor == "loss" else "update"
    return Finding(step, stage, tensor, "largest", error, in_ulps(plan, error, exact), ratio, note)


def spoken(tensor: str) -> str:
    """The name of a tensor in a sentence, what an optimizer or a layer remembers in words."""
    if tensor.startswith(BUFFER):
        layer, kept = parts(tensor.removeprefix(BUFFER))
        return f"{kept} of {layer}" if layer else kept
    if tensor.startswith("evaluation/"):
        return f"{tensor.partition('/')[2]}{IN_EVALUATION}"
    if not tensor.startswith(OPTIMIZER):
        return tensor.partition("/")[2] or tensor
    kind, _, name = tensor.removeprefix(OPTIMIZER).partition("/")
    return f"{kind} of {name}" if name else kind


def carried(name: str, record: Record) -> str:
    """How a parameter is called that no single step shows to be off."""
    fed = " (what was fed is not on record)" * ("fed/examples" not in record.arrays)
    return f"{spoken(name)}, carried over steps{fed}"


def fed_finding(plan: Plan, record: Record) -> Finding | None:
    """The first step that was not fed the examples of the plan."""
    if wrong := first_wrong_batch(plan, record.arrays):
        step, count, words = wrong
        return unequal(step, "data", words, count)
    return None


class Ladder:
    """The stages of a plan's probed steps, exact and with their envelopes.

    Args:
        plan: the plan.
        data: its examples.
        oracle: its reference, which holds the states before the probed steps.
        members: the ensemble; that of the suite if not given.
    """

    def __init__(
        self,
        plan: Plan,
        data: DataModule,
        oracle: Trajectory,
        members: Sequence[Training] | None = None,
    ) -> None:
        self.plan, self.data = plan, data
        self.unit = unit_roundoff(plan)
        exact = reference(plan, data)
        if members is None:
            members = [member(plan, data, index) for index in range(LOCKSTEP_MEMBERS)]
        self.parameters: dict[int, Mapping[str, Array]] = {}
        self.exact: dict[int, dict[str, Array]] = {}
        self.envelopes: dict[tuple[int, str, str], float] = {}
        for i, step in enumerate(plan.probes):
            state = oracle.before(i)
            self.parameters[step] = {f"update/{name}": value for name, value in state.items()}
            self.exact[step] = exact.stages(state, self.plan.rows(step))
            seen = in_threads(partial(self.member_statistics, state=state, step=step), members)
            for tensor in self.exact[step]:
                self._measure(step, tensor, [statistics[tensor] for statistics in seen])

    def member_stages(self, training: Training, state: Parameters, step: int) -> dict[str, Array]:
        """The stages of a step as a member of the ensemble computes them.

        It sees the batch in the plan's order: an order of examples is its own to choose only
        where the result does not list them.
        """
        rows, shuffle, training.shuffle = self.plan.rows(step), training.shuffle, None
        listed = training.stages(state, rows)
        if shuffle is None:
            return listed
        training.shuffle = shuffle
        summed = training.stages(state, rows)
        return {
            name: (listed if name.startswith(("forward", "example")) else summed)[name]
            for name in listed
        }

    def member_statistics(
        self, training: Training, *, state: Parameters, step: int
    ) -> dict[str, dict[str, float]]:
        """How far each tensor of a member's step is from the reference, in every way."""
        with np.errstate(all="ignore"):
            stages = self.member_stages(training, state, step)
            return {name: self.statistics(step, name, array) for name, array in stages.items()}

    def _measure(self, step: int, tensor: str, seen: Sequence[Mapping[str, float]]) -> None:
        """Keep the envelope of each statistic: the members' largest, and at least its floor."""
        if tensor == "metric/accuracy":
            seen = []  # which examples are borderline says it better than how a few fell
        for name, floor in self._floors(step, tensor).items():
            finite = [values[name] for values in seen if np.isfinite(values[name])]
            self.envelopes[step, tensor, name] = max([floor, self.unit * LEAST, *finite])

    def _floors(self, step: int, tensor: str) -> dict[str, float]:
        """The least envelope of each statistic: rounding that no measurement can rule out."""
        if tensor == "metric/accuracy":
            return {"largest": EXAMPLE / len(self.plan.rows(step))}
        exact = self.exact[step][tensor]
        scale = float(np.abs(exact).max())
        if tensor in ("loss", "example_loss"):
            scale = max(scale, 1.0)  # logarithms of numbers near one round as one does
        floors = {"largest": self.unit * scale}
        if exact.ndim:
            # Half a unit in the last place, made by every entry alike: an elementary function
            # may be biased by as much and still be faithful. Over a narrow range of arguments its
            # error may also follow them (``spread``).
            floors |= {"gain": self.unit, "offset": self.unit * scale}
        if tensor.startswith(DROWNING):
            rounding = self.unit * np.maximum(np.abs(exact), tensor == "example_loss")
            floors["spread"] = _coherent(rounding, exact - exact.mean())
            if tensor == "example_loss":
                floors = larger(floors, rounding_of_entries(rounding, exact))
        for stage in ("gradient", "update"):
            if tensor.startswith(stage):
                floors = larger(floors, self._rounding_of_probabilities(step, tensor))
        if tensor in self.parameters[step]:
            floors = larger(floors, self._floors_of_update(step, tensor))
        return floors

    def _rounding_of_probabilities(self, step: int, tensor: str) -> dict[str, float]:
        """The least envelopes of a gradient: those of the difference that it is made of.

        The probabilities less the one-hot labels are off by half a unit in the last place of the
        probabilities, however near to the labels these come: an entry of the gradient is off by
        that of |X|ᵀ p / n. Where examples are classified with certainty it is all
        that a gradient has, and members whose softmax happens to end in exactly one do not show it.
        """
        rows = self.plan.rows(step)
        p = self.exact[step]["forward/probabilities"]
        X = np.abs(self.data.scale(self.data.stored_rows(rows))) if tensor.endswith("W") else None
        rounding = (p.sum(axis=0) if X is None else X.T @ p) * (self.unit / len(rows))
        if tensor.startswith("update"):
            rounding = rounding * self.plan.recipe.lr
        return rounding_of_entries(rounding, self.exact[step][tensor])

    def _floors_of_update(self, step: int, tensor: str) -> dict[str, float]:
        """The least envelopes of an update: those of the sum that it is a part of.

        The parameter is rounded after its update, every entry by up to half a unit. What that
        gives along a direction of n entries is that half unit over the direction's norm; a mean
        is along n equal entries. More members do not measure it: a few biases may be rounded
        alike by 48 of them and otherwise by the next, up to 53 envelopes off without this
        (``benchmarks/results/envelope.md``).
        """
        exact = self.exact[step][tensor]
        parameter = self.parameters[step][tensor].astype(np.float64)
        largest = max(float(np.abs(parameter).max()), float(np.abs(exact).max()))
        half = max(self.unit * largest, LEAST)
        return {
            "largest": half,
            "offset": half / np.sqrt(exact.size),
            "gain": half / max(_norm(exact), half),
            "decay": half / max(_norm(parameter), half),
        }

    def statistics(
        self, step: int, tensor: str, received: Array, exact: Array | None = None
    ) -> dict[str, float]:
        """How far a tensor is from the reference, or from another exact value, in every way."""
        exact = (self.exact[step][tensor] if exact is None else exact).astype(np.float64)
        error = received.astype(np.float64) - exact
        parts = self.coherent_parts(step, tensor, error, exact)
        coherent = {name: abs(part) for name, part in parts.items()}
        return {"largest": float(np.abs(error).max()), **coherent}

    def coherent_parts(
        self, step: int, tensor: str, values: Array, exact: Array | None = None
    ) -> dict[str, float]:
        """The parts of values that entries have in common, signed, in every way that is looked at.

        They are linear: of a difference they are the differences of the parts.
        """
        exact = (self.exact[step][tensor] if exact is None else exact).astype(np.float64)
        parts = {}
        if exact.ndim:
            parts["gain"] = _part(values, exact)
            parts["offset"] = float(np.mean(values, dtype=np.float64))
        if tensor.startswith(DROWNING):
            parts["spread"] = _part(values, exact - exact.mean())
        if tensor in self.parameters[step]:
            parts["decay"] = _part(values, self.parameters[step][tensor].astype(np.float64))
        return parts

    def probe(self, record: Record, step: int) -> dict[str, Array]:
        """What a record holds of one probed step, an update as the change of its parameter.

        ``forward/y_hat`` goes by what it is: ``forward/logits`` or ``forward/probabilities``.
        """
        prefix = f"probe/{step}/"
        found = {
            name.removeprefix(prefix): array
            for name, array in record.arrays.items()
            if name.startswith(prefix)
        }
        for tensor, parameter in self.parameters[step].items():
            if tensor in found and found[tensor].shape == parameter.shape:
                found[tensor] = found[tensor].astype(np.float64) - parameter
        if "forward/y_hat" in found:
            found[f"forward/{record.facts['y_hat']}"] = found.pop("forward/y_hat")
        return found

    def stages(self, record: Record) -> Iterator[tuple[int, str, str, Array, Array]]:
        """As of :meth:`judge.Stages.stages`."""
        for step in self.plan.probes:
            probe = self.probe(record, step)
            for name, stage in TENSORS.items():
                key = f"forward/{record.facts['y_hat']}" if stage == "forward" else name
                values = probe.get(key)
                if values is not None and values.shape == self.exact[step][key].shape:
                    yield step, stage, key, record.arrays[f"probe/{step}/{name}"], values

    def may_lack(self, tensor: str) -> bool:
        """As of :meth:`judge.Stages.may_lack`."""
        return False

    @property
    def steps(self) -> Sequence[int]:
        """As of :meth:`judge.Stages.steps`."""
        return self.plan.probes

    def before(self, step: int) -> Parameters:
        """As of :meth:`judge.Stages.before`."""
        state = self.parameters[step].items()
        return {name.removeprefix("update/"): value for name, value in state}

    def ratios(self, step: int, tensor: str, values: Mapping[str, float]) -> dict[str, float]:
        """As of :meth:`judge.Stages.ratios`."""
        return {name: value / self.envelopes[step, tensor, name] for name, value in values.items()}

    def magnitude(self, step: int, tensor: str) -> float:
        """As of :meth:`judge.Stages.magnitude`."""
        exact = self.parameters[step].get(tensor, self.exact[step][tensor])
        return float(np.abs(exact).max())

    def findings(self, record: Record) -> Iterator[Finding]:
        """Every tensor of every probed step, in the ladder's order, by its worst statistic."""
        for step in self.plan.probes:
            probe = self.probe(record, step)
            yield from self._data_findings(step, probe)
            if "data/missing" in probe:
                continue
            for tensor, stage in TENSORS.items():
                key = f"forward/{record.facts['y_hat']}" if stage == "forward" else tensor
                yield self._finding(step, stage, key, probe.get(key), record.facts["y_hat"])

    def locate(self, record: Record, threshold: float) -> Finding | None:
        """Where a record first leaves the ladder's envelopes; None if nowhere.

        It is the first divergence, unless that is so small that a stage before it could not show
        it at that step, and does show one at another. An error of 1e-6 in the loss is a coherent
        part of the gradient from the first step on, where the losses themselves, of nearly
        uniform predictions, round by as much; they show it when the predictions are confident.
        """
        findings = list(self.findings(record))
        first = first_divergence(findings, threshold)
        if first is None or first.stage not in ("example loss", "loss", "gradient", "update"):
            return first
        outside = [found for found in findings if found.envelopes > threshold]
        same = [found for found in outside if found.stage == first.stage]
        hidden = {}
        for stage in STAGES[1 : min(STAGES.index(first.stage), STAGES.index("gradient"))]:
            shown = next((found for found in outside if found.stage == stage), None)
            at = [first.step] if shown else sorted({found.step for found in same})
            sizes = {
                step: min(found.relative(self.plan) for found in same if found.step == step)
                for step in at
            }
            least = {step: self.least_shown(step, stage, record, threshold) for step in at}
            hidden[stage] = all(sizes[step] <= least[step] for step in at)
            if shown and hidden[stage]:
                return replace(shown, note=shown_before(first))
        if any(hidden.values()):
            return replace(first, note=may_begin_in([stage for stage in hidden if hidden[stage]]))
        return first

    def least_shown(self, step: int, stage: str, record: Record, threshold: float) -> float:
        """How large a factor an earlier stage of a step shows for certain, relative.

        An error of a factor is of the same size in every later stage, not the same: twice what is
        a divergence there. Where all entries are equal, as those of logits of zero weights, a
        fault that leaves them equal shows at no size.
        """
        kind = record.facts["y_hat"]
        key = {"forward": f"forward/{kind}", "example loss": "example_loss"}.get(stage, stage)
        exact = self.exact[step]["forward/logits"]
        if np.ptp(exact) <= self.unit * float(np.abs(exact).max()):
            return np.inf
        if (least := self.envelopes.get((step, key, "spread"))) is None:
            scale = float(np.abs(self.exact[step][key]).max())
            least = self.envelopes[step, key, "largest"] / max(scale, LEAST)
        return 2 * threshold * least

    def _data_findings(self, step: int, probe: Mapping[str, Array]) -> Iterator[Finding]:
        """The batch itself, of which every bit counts."""
        if "data/missing" in probe or not {"data/X_error", "data/y_error"} <= set(probe):
            yield unequal(step, "data", "batch")
            return
        rows = self.plan.rows(step)
        planned = {"data/y": np.asarray(self.data.y_train[rows])}
        if "data/X" in probe:
            planned["data/X"] = self.data.scale(self.data.X_train[rows])
        for tensor in ("X", "y"):
            error = abs(float(probe[f"data/{tensor}_error"]))  # a program may give it a sign
            if (key := f"data/{tensor}") in probe:
                # A program that is not ours may compare with what it got wrong in the first place.
                error = max(error, difference(probe[key], planned[key]))
            error = min(error, WORST)
            worst = WORST if error else 0.0
            ulps = min(error / (2 * self.unit), WORST)
            yield Finding(step, "data", tensor, "largest", error, ulps, worst)

    def _finding(
        self, step: int, stage: str, key: str, received: Array | None, kind: str
    ) -> Finding:
        exact = self.exact[step][key]
        label = key.removeprefix(f"{stage.replace(' ', '_')}/")
        if received is None or received.shape != exact.shape or not np.isfinite(received).all():
            return unequal(step, stage, label)
        values = self.statistics(step, key, received)
        if key == "metric/accuracy":
            logits = self.exact[step]["forward/logits"]
            rounding = self.envelopes[step, "forward/logits", "largest"]
            near = count_borderline(logits, rounding, kind, self.unit)
            values["largest"] = max(values["largest"] - near / len(logits), 0.0)
        ratios = self.ratios(step, key, values)
        worst = max(ratios, key=lambda name: ratios[name])
        parameter = self.parameters[step].get(key, exact)  # an update's, before it: zero, perhaps
        scale = max(float(np.abs(array).max()) for array in (parameter, exact))
        return Finding(
            step,
            stage,
            label,
            worst,
            values[worst],
            in_ulps(self.plan, values["largest"], scale),
            min(ratios[worst], WORST),
        )


def shown_before(first: Finding) -> str:
    """What there is to say where a later stage shows a fault at an earlier step."""
    return f"the {first.stage} is off from step {first.step} on, by too little to be seen here then"


def may_begin_in(stages: Sequence[str]) -> str:
    """What there is to say where stages before it would not show a fault so small."""
    return f"the {' or the '.join(stages)} may be off as well, by too little to be seen"


def off_before(step: int) -> str:
    """What there is to say where a run's own training is off before a probed step shows it."""
    return f"its own training is off from step {step} on"


def seen_in_loss(loss: Finding, update: Finding) -> Finding:
    """An update that is wrong, at the step before the first loss that is."""
    alone = f"or step {loss.step} itself is wrong, in its forward pass or its loss"
    tensor = f"the next loss{update.tensor[update.tensor.index(',') :]}"
    note = "; ".join(filter(None, (alone, update.note)))
    return replace(loss, step=loss.step - 1, stage="update", tensor=tensor, note=note)


def first_divergence(findings: Sequence[Finding], threshold: float) -> Finding | None:
    """The first finding outside the threshold: the earliest step, there the lowest stage.

    All stages before it, in that step and the steps before, are within rounding.
    """
    return next((found for found in findings if found.envelopes > threshold), None)


def in_ulps(plan: Plan, error: float, magnitude: float) -> float:
    """An error in units in the last place of a magnitude, in the plan's dtype."""
    ulp = float(np.spacing(np.array(magnitude, dtype=plan.recipe.dtype)))
    return min(error / ulp, WORST)


def _norm(values: Array) -> float:
    return float(np.sqrt((values.astype(np.float64) ** 2).sum()))


def _coherent(rounding: Array, direction: Array) -> float:
    """The part along a direction of errors that all have the sign that is worst for it."""
    square = float((direction * direction).sum())
    return float((rounding * np.abs(direction)).sum()) / square if square else 0.0


def _noise(rounding: Array, direction: Array) -> float:
    """The part along a direction of errors that are of no sign in common."""
    square = float((direction * direction).sum())
    return _norm(rounding * direction) / square if square else 0.0


def _part(error: Array, direction: Array) -> float:
    """The error's part along a direction, in units of the direction, with its sign."""
    square = float((direction * direction).sum())
    return float((error * direction).sum()) / square if square else 0.0
