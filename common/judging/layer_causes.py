"""Why the first layer that is off is off: its own input and output against the classic differences.

A formula that gives the reference's float64 output from its input tells of what kind the layer is,
and which parameters are its own. One difference in it, or a few, that give the run's output from
the run's own input within rounding, in every probed step, are the cause. What is a number is solved
for.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from framework_parity.common.judging.attention_kinds import (
    Attention,
    AttentionLayer,
    Scores,
    Softmax,
    Sum,
)
from framework_parity.common.judging.diagnosis import Diagnosis, short
from framework_parity.common.judging.layer_kinds import (
    Change,
    Dense,
    Function,
    Kind,
    Normalisation,
    Options,
    Roles,
    near,
)
from framework_parity.common.judging.place_kinds import (
    Convolution,
    Flattening,
    Pooling,
    Reduction,
)
from framework_parity.common.judging.recurrent_kinds import Recurrence
from framework_parity.common.reference.layer_formulas import Floats

EVIDENT = 2.0
"""How many times nearer than the reference's formula a run must be to a changed one."""

KINDS: Sequence[Kind] = (
    Function(),
    Dense(),
    Normalisation(),
    Softmax(),
    Flattening(),
    Reduction(),
    Convolution(),
    Pooling(),
    AttentionLayer(),
    Recurrence(),
    Scores(),
    Sum(),
    Attention(),
)
"""In the order in which they are tried, those of one input first."""

SOURCES = {1: 12, 2: 6, 3: 5}
"""By how many arrays a kind is computed from: among how many earlier ones they are looked for."""

ROUNDS = 12
"""Of solving for a number, at most."""


@dataclass(frozen=True)
class Step:
    """One probed step on one side: what a layer was given by name, its parameters, its output.

    ``exact`` is the reference's output; ``roles`` are the layer's own parameters by what they are
    in it, as far as that is known.
    """

    given: Mapping[str, Floats]
    parameters: Mapping[str, Floats]
    target: Floats
    exact: Floats
    roles: Roles = field(default_factory=dict)

    def of(self, names: Sequence[str]) -> list[Floats]:
        """Those of what it was given."""
        return [self.given[name] for name in names]


@dataclass(frozen=True)
class Fit:
    """Options that reproduce a run's output.

    Args:
        labels: what is changed in them.
        options: all of them.
        envelopes: how well they do.
        is_tidy: whether what was solved for is a number that somebody would write.
        solved: which option was solved for.
        best: its number before it was rounded to such a one.
    """

    labels: tuple[str, ...]
    options: Options
    envelopes: float
    is_tidy: bool = True
    solved: str | None = None
    best: float | None = None

    @property
    def value(self) -> float | None:
        """The number that was solved for."""
        return self.options[self.solved] if self.solved else None

    @property
    def is_rough(self) -> bool:
        """Whether the number named is another than the nearest one, by more than a hundredth."""
        value, best = self.value, self.best
        return value is not None and best is not None and abs(best - value) > 0.01 * abs(value)


@dataclass(frozen=True)
class LayerSearch:
    """The search for the cause in one layer.

    Args:
        envelopes: of the statistics of its output: ``largest`` and ``gain``, relative.
        limit: how many envelopes are rounding.
        reference: its probed steps in the reference.
        run: the same of the run.
        kinds: that are tried.
    """

    envelopes: Mapping[str, float]
    limit: float
    reference: Sequence[Step]
    run: Sequence[Step]
    kinds: Sequence[Kind] = KINDS

    @property
    def named(self) -> float:
        """Within how many envelopes a change must reproduce the output.

        Half of the limit: of one layer alone there is less rounding than of all before it.
        """
        return self.limit / 2

    def misfit(self, found: Sequence[Floats]) -> float:
        """How far a run's output is from what was computed, in envelopes, at its worst step."""
        return max(map(self._misfit, self.run, found))

    def _misfit(self, step: Step, found: Floats) -> float:
        received, exact = step.target, step.exact
        if received.shape != found.shape or not np.isfinite(found).all():
            return math.inf
        error, square = received - found, float((found * found).sum())
        scale = float(np.abs(exact).max(initial=0.0)) or 1.0
        ratios = [float(np.abs(error).max(initial=0.0)) / scale / self.envelopes["largest"]]
        if square and "gain" in self.envelopes:
            gain = abs(float((error * found).sum())) / square
            ratios.append(gain / self.envelopes["gain"])
        return max(ratios)

    @cached_property
    def identified(self) -> tuple[Kind, tuple[str, ...], Options] | None:
        """What the layer is in the reference: kind, from what it is computed, and its options."""
        with np.errstate(all="ignore"):  # what does not fit may divide by zero
            return self._identified()

    def _identified(self) -> tuple[Kind, tuple[str, ...], Options] | None:
        given, last = self.reference[0].given, self.reference[-1].target
        for kind in self.kinds:
            names = [n for n in given if kind.arity == 1 or given[n].shape[:-1] == last.shape[:-1]]
            for sources in itertools.permutations(names[: SOURCES[kind.arity]], kind.arity):
                if found := self._of_kind(kind, sources):
                    return kind, sources, found
        return None

    def _of_kind(self, kind: Kind, sources: tuple[str, ...]) -> Options | None:
        last = self.reference[-1]  # at first, biases may be zero
        for guess in kind.guesses(last.of(sources), last.target, last.parameters, last.roles):
            options = guess.options
            if guess.solve:
                if not self._may_be(kind, guess, sources):
                    continue
                options = self.solved(kind, options, guess.solve, sources, self.reference)
                options = self._tidied(kind, options, guess.solve, sources)
            found = self.computed(kind, options, sources, self.reference)
            pairs = zip(found, self.reference, strict=True)
            if all(near(values, step.target) for values, step in pairs):
                return options
        return None

    def _may_be(self, kind: Kind, guess: Change, sources: tuple[str, ...]) -> bool:
        """Whether it is worth solving for a number: some are near before."""
        last = self.reference[-1]
        found = kind.compute(guess.options, last.of(sources), last.parameters, last.exact)
        if found.shape != last.target.shape:
            return False
        both = float((found * last.target).sum()), float(np.sqrt((found**2).sum()))
        return both[0] >= 0.5 * both[1] * float(np.sqrt((last.target**2).sum()))

    def _tidied(self, kind: Kind, options: Options, name: str, sources: tuple[str, ...]) -> Options:
        """With a number that somebody would write, where that is as near in the reference."""
        for value in tidy(options[name]):
            other = options | {name: value}
            found = self.computed(kind, other, sources, self.reference)
            pairs = zip(found, self.reference, strict=True)
            if all(near(values, step.target) for values, step in pairs):
                return other
        return options

    def computed(
        self, kind: Kind, options: Options, sources: tuple[str, ...], steps: Sequence[Step]
    ) -> list[Floats]:
        """What a layer gives in some steps."""
        return [
            kind.compute(options, step.of(sources), step.parameters, step.exact) for step in steps
        ]

    def solved(
        self,
        kind: Kind,
        options: Options,
        name: str,
        sources: tuple[str, ...],
        steps: Sequence[Step],
    ) -> Options:
        """The options with the number that is nearest to some steps' outputs (Gauss–Newton)."""
        value = float(options[name]) or 0.1

        def flat(number: float) -> Floats:
            found = self.computed(kind, options | {name: number}, sources, steps)
            return np.concatenate([values.ravel() for values in found])

        exact = np.concatenate([step.target.ravel() for step in steps])
        for _ in range(ROUNDS):
            width = max(abs(value) * 1e-3, 1e-9)
            here, there = flat(value), flat(value + width)
            if here.shape != exact.shape or not np.isfinite([here, there]).all():
                break
            slope = (there - here) / width
            if not (square := float(slope @ slope)):
                break
            new = value + float(slope @ (exact - here)) / square
            new = float(np.clip(new, value / 30, value * 30)) if value > 0 else new
            done = abs(new - value) <= 1e-10 * abs(value)
            value = new
            if done:
                break
        return options | {name: value}

    # Where the run differs

    def fits(self, kind: Kind, sources: tuple[str, ...], options: Options) -> list[Fit]:
        """The fewest changes that reproduce the run's output as well as any do."""
        last, found = self.run[-1], list[Fit]()
        alone = list(kind.changes(options, last.of(sources), last.parameters))
        for count in range(1, kind.most + 1):
            for changes in itertools.combinations(alone, count):
                labels = tuple(change.label for change in changes)
                solved = [change.solve for change in changes if change.solve]
                alike = len(set(labels)) < count or (count > 1 and kind.alone & {*labels})
                if not alike and len(solved) <= 1:
                    other = dict(options)
                    for change in changes:
                        other |= change.options
                    fit = self._fit(kind, sources, labels, other, *solved)
                    found += [fit] if fit.envelopes <= self.named else []
            if any(fit.is_tidy and fit.envelopes <= 1 for fit in found):
                break
        found = best_of(found)
        found = [fit for fit in found if fit.is_tidy] or found
        fewest = min((len(fit.labels) for fit in found), default=0)
        return [fit for fit in found if len(fit.labels) == fewest]

    def _fit(
        self,
        kind: Kind,
        sources: tuple[str, ...],
        labels: tuple[str, ...],
        options: Options,
        solve: str | None = None,
    ) -> Fit:
        def misfit(value: float | None) -> float:
            given = options if solve is None or value is None else options | {solve: value}
            return self.misfit(self.computed(kind, given, sources, self.run))

        if solve is None:
            return Fit(labels, options, misfit(None))
        options = self.solved(kind, options, solve, sources, self.run)
        best, least = options[solve], misfit(None)
        if least > self.named:
            return Fit(labels, options, least)
        for value in tidy(best):
            if solve == "slope" and not value:  # then it is another function
                return Fit(labels, options, math.inf)
            if (envelopes := misfit(value)) <= self.named:
                return Fit(labels, options | {solve: value}, envelopes, True, solve, best)
        return Fit(labels, options, least, False, solve, best)

    def cause(self, place: str) -> Diagnosis | None:
        """The cause, as far as there is one; ``place`` says where, in words."""
        with np.errstate(all="ignore"):
            return self._cause(place)

    def _cause(self, place: str) -> Diagnosis | None:
        found = self.identified
        if found is None:
            return None
        kind, sources, options = found
        if not set(sources) <= self.run[0].given.keys():
            return None
        unchanged = self.misfit(self.computed(kind, options, sources, self.run))
        if unchanged <= self.limit:
            return None
        fits = [
            fit
            for fit in self.fits(kind, sources, options)
            if unchanged > max(self.limit, EVIDENT * fit.envelopes)
        ]
        return self._said(kind, options, fits, unchanged, place) if fits else None

    def _said(
        self, kind: Kind, options: Options, fits: Sequence[Fit], unchanged: float, place: str
    ) -> Diagnosis:
        def words(fit: Fit) -> str:
            parts = []
            for label in fit.labels:
                ours, theirs = kind.say(label, fit.options), kind.say(label, options)
                if fit.is_rough and label in (fit.solved, "function"):
                    ours = f"{ours} (nearest: {fit.best:.3g})"
                parts.append(f"{LABELS.get(label, label)}: {ours}, in the reference {theirs}")
            return " and ".join(parts)

        names = [" and ".join(LABELS.get(n, n) for n in fit.labels) for fit in fits]
        first, least = fits[0], max(fit.envelopes for fit in fits)
        apart = "; these cannot be told apart" * (len(fits) > 1)
        steps = len(self.run)
        sentence = (
            f"{place} ({kind.name}): {' or '.join(map(words, fits))}{apart}. So computed, its own "
            f"input gives its output in {steps} probed step{'s' * (steps > 1)} (within "
            f"{max(least, 0.01):.2g} × rounding; as in the reference, {short(unchanged)} ×)"
        )
        alone = len(fits) == 1
        return Diagnosis(
            " or ".join(dict.fromkeys(names)),
            first.value if alone else None,
            sentence,
            least,
            None,
            None,
        )


LABELS = {
    "place": "place of epsilon",
    "centred": "mean",
    "over": "normalised over",
    "log": "logarithm",
    "late": "place of the mask",
    "first": "first part",
    "second": "second part",
    "beyond": "beyond the edge",
    "turned": "kernel",
    "swapped": "axes of the kernel",
    "counted": "padding",
    "order": "order of gates",
    "after": "reset gate",
    "keeps": "update gate says",
    "forget": "added to the forget gate",
    "backwards": "direction",
    "time": "time along",
}
"""What a label is called where it is no word for it."""


def best_of(fits: Sequence[Fit]) -> list[Fit]:
    """Those that no other one beats by more than rounding may."""
    least = min((fit.envelopes for fit in fits), default=0.0)
    return [fit for fit in fits if fit.envelopes <= max(1.0, 2 * least)]


def tidy(value: float) -> Iterator[float]:
    """Numbers near to one that somebody would write."""
    if not math.isfinite(value) or not value:
        return
    size, sign = abs(value), math.copysign(1.0, value)
    for power in (-2, 2):  # 1/√k and √k
        k = round(size**power) if size**power < 1e5 else 0
        if k > 1 and abs(size**power / k - 1) < 1e-3:
            yield sign * k ** (1 / power)
    yield sign * 10.0 ** round(math.log10(size))
    for digits in (1, 2, 3, 4):
        yield float(f"{value:.{digits - 1}e}")
    if size < 1e-6:
        yield 0.0
