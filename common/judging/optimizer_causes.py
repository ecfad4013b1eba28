"""Which change of the optimizer explains updates that are off.

Every probed step begins with the reference's parameters and memory. So the reference's optimizer,
by hand and with one thing changed, is to make of the run's gradients the run's updates and what
the run remembers then. A cause is named if it does so in all probed steps, within rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.candidates import digits
from framework_parity.common.judging.diagnosis import Diagnosis, short
from framework_parity.common.judging.model_ladder import ModelLadder
from framework_parity.common.judging.optimizer_changes import (
    NORM_EPSILONS,
    Change,
    changes,
    clippings,
)
from framework_parity.common.judging.optimizer_rule import (
    Begin,
    Corrected32,
    Rule,
    Weighted32,
    sampled,
)
from framework_parity.common.reference.optimizers import Adam, Optimizer
from framework_parity.common.reference.replay import WORST
from framework_parity.common.training.optimizer_state import OPTIMIZER, probed_steps
from framework_parity.common.training.record import Record

EVIDENT = 2.0
"""How many times nearer than to the reference a run must be to a cause's replay."""

EXACT = 1.0
"""Within how many envelopes the reference's own optimizer, by hand, is to give its updates."""

LEAST_STEPS = 2
"""Of one step any factor would do."""

ROUNDINGS = {
    "bias correction 1 − βᵗ in float32": Corrected32,
    "1 − β of the moments in float32": Weighted32,
}
"""How frameworks round in Adam where others do not: alone, or beside another cause."""

SHIFT = 1e-4
"""The step of a derivative, in the logarithm of a value."""

FIT_ROUNDS = 12


def optimizer_cause(ladder: ModelLadder, record: Record, limit: float) -> Diagnosis | None:
    """The known change of the optimizer that reproduces a run's updates, or None.

    Args:
        ladder: the stages of the probed steps.
        record: the run, whose first divergence is an update.
        limit: how many envelopes are rounding.
    """
    with np.errstate(all="ignore"):
        return _Search(ladder, record, limit).run()


@dataclass
class Tried:
    """A change with the value that fits best, and how far its replay is from the run."""

    change: Change
    rule: Rule
    value: float | None = None
    uncertainty: float = 0.0
    envelopes: float = WORST
    beside: str = ""

    @property
    def name(self) -> str:
        return " and ".join(filter(None, (self.change.name, self.beside)))

    @property
    def words(self) -> str:
        """The cause in words."""
        said = self.change.name
        if self.value is not None:
            shown = digits(self.value, self.change.unchanged, self.uncertainty)
            said = self.change.text.format(shown)
        return " and ".join(filter(None, (said, self.beside)))


class _Search:
    """Fits the changes to a run and drops those that do not fit."""

    def __init__(self, ladder: ModelLadder, record: Record, limit: float) -> None:
        self.ladder, self.record, self.limit, self.plan = ladder, record, limit, ladder.plan
        self.steps = probed_steps(self.plan, ladder.reference, record)

    @cached_property
    def begins(self) -> list[Begin]:
        return [Begin.of(self.ladder, self.record, step) for step in self.steps]

    @cached_property
    def samples(self) -> list[Begin]:
        return [begin.sampled() for begin in self.begins]

    def tensors(self, step: int) -> list[str]:
        """What is compared of a step: updates, and what is remembered then."""
        kept = [name for name in self.ladder.memory if name.startswith(OPTIMIZER)]  # no buffers
        names = [*kept, *(f"update/{name}" for name in self.ladder.parameters)]
        return [name for name in names if f"probe/{step}/{name}" in self.record.arrays]

    @cached_property
    def kinds(self) -> set[str]:
        """Kinds of what the run remembers."""
        start = f"probe/{self.steps[-1]}/"
        held = [name.removeprefix(start) for name in self.record.arrays if name.startswith(start)]
        return kinds_of(held)

    def worst(self, rule: Rule) -> float:
        """How far a replay is from the run, in rounding envelopes, at its worst place."""
        found, record = 0.0, self.record
        for begin in self.begins:
            after = rule.after(begin)
            if kinds_of(after) != self.kinds:
                return WORST
            for tensor in self.tensors(begin.step):
                found = max(found, self.ladder.misfit(record, begin.step, tensor, after[tensor]))
        return found if np.isfinite(found) else WORST

    @cached_property
    def off(self) -> float:
        """How far the run is from the reference in all that is compared here."""
        ladder = self.ladder
        return max(
            ladder.misfit(self.record, step, tensor)
            for step in self.steps
            for tensor in self.tensors(step)
        )

    # The reference's own optimizer

    @cached_property
    def said(self) -> Rule | None:
        """What the reference's record says of its optimizer."""
        return Rule.of(self.ladder.reference, self.plan.num_steps)

    @cached_property
    def rule(self) -> Rule | None:
        """The reference's optimizer, if its record says which and that gives its updates.

        Clipping by hand is in no record: it is looked for.
        """
        said = self.said
        own = _Search(self.ladder, self.ladder.reference, self.limit)
        if said is None or own.worst(said) <= EXACT:
            return said
        for eps in NORM_EPSILONS:
            for change in clippings(said, own.begins, eps):
                if (found := own.tried(change)).envelopes <= EXACT:
                    return found.rule
        return None

    # The search

    def run(self) -> Diagnosis | None:
        rule = None if len(self.steps) < LEAST_STEPS else self.rule
        if rule is None:
            return None
        known = list(changes(rule, self.begins, self.plan.steps_per_epoch))
        roundings = ROUNDINGS if rule.kind is Adam else {}
        known += [Change(words, partial(rounding, rule, kind)) for words, kind in roundings.items()]
        tried = [self.tried(change) for change in known]
        if not (fitting := self.fitting(tried)):
            tried += [
                self.tried(change, words, kind)
                for change in known
                if change.name not in roundings
                for words, kind in roundings.items()
            ]
            fitting = self.fitting(tried)
        own = Rule.of(self.record, self.plan.num_steps)
        if not fitting and own and self.differences:
            own = replace(own, clip=own.clip or rule.clip)
            change = Change("; ".join(self.differences), partial(rounding, own, own.kind))
            tried.append(self.tried(change))
            tried += [self.tried(change, words, kind) for words, kind in roundings.items()]
            fitting = self.fitting(tried)
        return self.diagnosis(fitting, tried) if fitting else None

    @cached_property
    def differences(self) -> list[str]:
        """In what the arguments of the two optimizers differ, as far as both are on record."""
        own = Rule.of(self.record, self.plan.num_steps)
        return own.differences(self.said) if own and self.said else []

    def fitting(self, tried: Sequence[Tried]) -> list[Tried]:
        """Those that reproduce the run within rounding, and far better than the reference does.

        One that needs no value goes before all whose value is fitted.
        """
        found = [one for one in tried if one.envelopes <= min(self.limit, self.off / EVIDENT)]
        return [one for one in found if one.value is None] or found

    def tried(self, change: Change, beside: str = "", kind: type[Adam] | None = None) -> Tried:
        """A change, its value fitted, as it compares with the run."""

        def make(value: float) -> Rule:
            made = change.make(value)
            return made if kind is None or made.kind is not Adam else replace(made, kind=kind)

        if not change.starts:
            return Tried(change, make(1.0), None, 0.0, self.worst(make(1.0)), beside)
        near = {x: self.misfit(make(x), full=False) for x in change.starts}
        value, slope = self.fit(make, min(near, key=lambda x: near[x]), full=False)
        residuals = self.residuals(make(value), full=False)
        found = Tried(change, make(value), change.shown(value), beside=beside)
        if np.abs(residuals).max(initial=0.0) > 2 * self.limit:
            return found
        value, slope = self.fit(make, value, full=True)
        found.rule, found.value = make(value), change.shown(value)
        found.uncertainty = value / slope if slope else 0.0
        found.envelopes = self.worst(found.rule)
        return found

    def fit(self, make: Callable[[float], Rule], value: float, full: bool) -> tuple[float, float]:
        """The value that fits best, by Gauss and Newton in its logarithm.

        And by how many envelopes the farthest entry moves with that logarithm.
        """
        residuals, slope = self.residuals(make(value), full), 0.0
        for _ in range(FIT_ROUNDS):
            moved = self.residuals(make(value * np.exp(SHIFT)), full)
            if moved.shape != residuals.shape or not np.isfinite(moved).all():
                break
            rates = (moved - residuals) / SHIFT
            square, slope = float(rates @ rates), float(np.abs(rates).max(initial=0.0))
            if not square:
                break
            step = float(np.clip(-(rates @ residuals) / square, -2, 2))
            while abs(step) > 1e-12:
                other = self.residuals(make(value * np.exp(step)), full)
                if other.shape == residuals.shape and other @ other <= residuals @ residuals:
                    break
                step /= 4
            else:
                break
            value, residuals = value * float(np.exp(step)), other
        return value, slope

    def misfit(self, rule: Rule, full: bool) -> float:
        """How far a replay is from the run: a number to compare."""
        residuals = self.residuals(rule, full)
        square = float(residuals @ residuals)
        return square if np.isfinite(square) and residuals.size else np.inf

    def residuals(self, rule: Rule, full: bool) -> npt.NDArray[np.float64]:
        """How far every entry is from the run's, in envelopes of its tensor.

        Empty if the replay remembers another kind of thing.
        """
        found = []
        for begin in self.begins if full else self.samples:
            after = rule.after(begin)
            for tensor, received, scale in self.received(begin.step, full):
                if tensor not in after:
                    return np.empty(0)
                found.append(np.ravel(received - after[tensor]) / scale)
        return np.concatenate(found)

    @cached_property
    def _kept(self) -> dict[tuple[int, bool], list[tuple[str, Array, float]]]:
        return {}

    def received(self, step: int, full: bool) -> list[tuple[str, Array, float]]:
        """Of each tensor of a step what the run has, and its envelope."""
        key = step, full
        if key not in self._kept:
            self._kept[key] = [
                (
                    name,
                    array if full else sampled(array),
                    self.ladder.rounding(self.record, step, name),
                )
                for name in self.tensors(step)
                for array in (self.ladder.received(self.record, step, name),)
            ]
        return self._kept[key]

    # What was found

    def diagnosis(self, fitting: Sequence[Tried], tried: Sequence[Tried]) -> Diagnosis:
        """The causes that fit, in a sentence: they cannot be told apart if they are several."""
        best = min(fitting, key=lambda one: one.envelopes)
        others = [one for one in tried if one not in fitting]
        runner_up = min(others, key=lambda one: one.envelopes, default=None)
        one_each = {one.name: one for one in sorted(fitting, key=lambda one: one.envelopes)}
        words = " or ".join(one.words for one in one_each.values())
        several = len(one_each) > 1
        sentence = f"{words} reproduces every probed update (within {best.envelopes:.2g} × rounding"
        if several:
            sentence = sentence.replace(" (within", ", and they cannot be told apart (within", 1)
        if runner_up and runner_up.envelopes < WORST:
            sentence += f"; the next best, {runner_up.name}, at {short(runner_up.envelopes)} ×"
        if self.differences and best.change.name != "; ".join(self.differences):
            sentence += f"; its own arguments say: {'; '.join(self.differences)}"
        return Diagnosis(
            " or ".join(one_each),
            None if several else best.value,
            sentence + ")",
            best.envelopes,
            runner_up.name if runner_up else None,
            runner_up.envelopes if runner_up else None,
            through_step=self.steps[-1],
            num_steps=self.plan.num_steps,
        )


def rounding(rule: Rule, kind: type[Optimizer], _: float) -> Rule:
    """An optimizer that rounds otherwise."""
    return replace(rule, kind=kind)


def kinds_of(names: Iterable[str]) -> set[str]:
    """What is remembered, by the names of tensors; but for the count, which not everybody keeps."""
    return {n.split("/")[1] for n in names if n.startswith(OPTIMIZER)} - {"count"}
