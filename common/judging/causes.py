"""Which known discrepancy explains a run.

A cause explains a run if its replay fits the run within rounding: the probed steps, stage by
stage, and the free run as far as is needed to tell the causes apart. What the change leaves open
(the factor of a learning rate, say) is fitted first. A cause is named only if it fits and no
other one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.threads import in_threads
from framework_parity.common.judging.candidates import Candidate, Clues
from framework_parity.common.judging.diagnosis import Diagnosis, short
from framework_parity.common.judging.judge import Judgement
from framework_parity.common.judging.metric_cause import metric_cause
from framework_parity.common.judging.replay_fit import FIT_ROUNDS, Path, ReplayFit, State
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.replay import Training
from framework_parity.common.reference.variations import LearningRate, Variation, both
from framework_parity.common.training.record import Record

FIT_STEPS = (2, 16)
"""Updates of the free run that take part in a fit, first so many, then more: what is carried
from step to step shows from the second on, where its effect is still linear."""

EVIDENT = 2.0
"""How many times nearer than to the plan itself a run must be to a cause's replay."""

TOLD_APART = 8
"""How many steps more than any other a cause must explain if it does not explain them all."""

OTHER_RATE = 1.01
"""A factor of the learning rate by which it is asked whether a cause's size is known without it."""

THE_PLAN = "the plan"
"""What explains the rest of a run whose cause ends."""

SAME_PRECISION = ("float16 products", "TF32 products")
"""Formats of 11 bits each, which differ only where numbers are tiny or huge."""


def find_cause(judge: SoftmaxJudge, record: Record, judgement: Judgement) -> Diagnosis | None:
    """The one known discrepancy that reproduces a run, or None."""
    if judgement.divergence is None:
        return None
    if judgement.divergence.stage == "metric":
        return metric_cause(judge, record)
    with np.errstate(all="ignore"):
        return _Search(judge, record, judgement).run()


def known_by_product(words: str) -> str:
    """A cause of which only the product with the learning rate is known."""
    return f"{words}, or in that product with another learning rate,"


def at_the_latest(name: str) -> str:
    """A cause of which neither the first step nor the size is known."""
    return f"{name} (from there at the latest)"


class _Search(ReplayFit):
    """Fits the candidates to a run and drops those that do not fit."""

    def __init__(self, judge: SoftmaxJudge, record: Record, judgement: Judgement) -> None:
        super().__init__(judge, record)
        self.judgement = judgement
        self.clues = Clues(judge, record, judgement, self.probes)

    def run(self) -> Diagnosis | None:
        candidates = list(self.clues.candidates())
        in_threads(self.try_out, candidates)
        rivals = [c for c in candidates if c.through >= FIT_STEPS[-1] or c.envelopes <= self.limit]
        in_threads(partial(self.measure, horizon=None), rivals)
        fitting = [c for c in rivals if c.is_whole and c.envelopes <= self.limit]
        whole = [c for c in fitting if self.is_evident(c)]
        if whole:
            return self.name(whole, candidates)
        return self.name_part(candidates)

    def try_out(self, candidate: Candidate) -> None:
        """Fit a candidate's value, and see how well it reproduces the first steps.

        What begins later spoils a fit to many steps: if that fails, it is fitted to a few.
        """
        start = candidate.value
        for fit_steps in (FIT_STEPS, FIT_STEPS[:1]):
            candidate.value = start
            if candidate.fitted and start is not None:
                self.fit(candidate, fit_steps)
            if candidate.value is not None and not (
                candidate.least <= candidate.value <= candidate.most
            ):
                candidate.through = 0
                return
            self.measure(candidate, FIT_STEPS[-1])
            if candidate.envelopes <= self.limit or not candidate.fitted or start is None:
                return

    def is_evident(self, candidate: Candidate) -> bool:
        """Whether the run is nearer to the candidate than to the plan, where they are compared."""
        nearer = candidate.envelopes <= self.judge.worst(self.judgement) / EVIDENT
        return nearer and (self.plan_fails_probes or self.tells(candidate))

    def tells(self, candidate: Candidate) -> bool:
        """Whether what a candidate was changed from fails in the candidate's own bounds.

        A replay with much rounding of its own fits much; what fits without it is no evidence.
        """
        envelopes = min(candidate.envelopes, self.limit)  # of the steps that it explains
        return candidate.unchanged_envelopes > max(self.limit, EVIDENT * envelopes)

    def name(self, whole: Sequence[Candidate], all_tried: Sequence[Candidate]) -> Diagnosis | None:
        """The cause whose replay fits to the end, if there is one such cause."""
        best = min(whole, key=lambda candidate: candidate.envelopes)
        fitting = _names(whole)
        if len(fitting) > 1:
            fitting.discard("order as it was fed")  # there is a rule in it
            best = min((c for c in whole if c.name in fitting), key=lambda c: c.envelopes)
        name = best.name
        if fitting <= set(SAME_PRECISION):
            name = " or ".join(sorted(fitting))
        elif len(fitting) > 1:
            return None
        others = [c for c in all_tried if c.name not in _names(whole)]
        runner_up = min(others, key=lambda candidate: candidate.envelopes, default=None)
        words, through = self.words(best) if name == best.name else name, ""
        if best.compared < self.num_steps:
            through = f" through step {max(best.compared, 1) - 1} of {self.num_steps}"
        sentence = f"{words} reproduces this run{through} (within {best.envelopes:.2g} × rounding"
        if runner_up:
            sentence += f"; the next best, {runner_up.name}, at {short(runner_up.envelopes)} ×"
        then = None
        if best.metric_envelopes > self.limit:
            metric = metric_cause(self.judge, self.record)
            then = {"name": metric and metric.name, "value": None, "from_step": None}
            other = metric.name if metric else "something that no known cause reproduces"
            sentence = sentence.replace("this run", "this run's training")
            sentence += f"; what it reports of its validation is {other}"
        return Diagnosis(
            name,
            best.value,
            sentence + ")",
            best.envelopes,
            runner_up.name if runner_up else None,
            runner_up.envelopes if runner_up else None,
            through_step=max(best.compared, 1) - 1,
            num_steps=self.num_steps,
            then=then,
        )

    def words(self, cause: Candidate) -> str:
        """A cause in words, without a value where only its product with the rate is known.

        As of clipping where every step is clipped: a larger bound at a smaller rate is the same.
        """
        kind, said = cause.make.func, cause.words
        assert isinstance(kind, type)
        if cause.value is None or not cause.fitted:
            return said
        joined = both(LearningRate, OTHER_RATE, kind)
        if joined is None:
            return said
        value = cause.value / OTHER_RATE
        other = replace(cause, make=partial(joined, self.plan, self.data), value=value)
        self.measure(other, None)
        if min(other.through, other.compared) < cause.through:
            return said
        cause.value = None
        return known_by_product(said)

    # What begins later, or ends

    def name_part(self, candidates: Sequence[Candidate]) -> Diagnosis | None:
        """The cause that explains the beginning, and what explains the rest."""
        plain = self.plain()
        plain.envelopes, plain.through = self.judge.worst(self.judgement), self.plan_through
        base = max([*candidates, plain], key=lambda candidate: candidate.through)
        others = [c for c in (*candidates, plain) if c.name != base.name]
        runner_up = max(others, key=lambda candidate: candidate.through)
        if plain.through + TOLD_APART > base.through:
            base = plain  # which explains nothing
        elif runner_up.through + TOLD_APART > base.through or not (
            self.plan_fails_probes or self.tells(base)
        ):
            return None
        start = base.through
        found = self.second(base, start) if start < self.num_steps else None
        if base is plain:
            if found is None or not start:
                return None
            late, begin, words = found
            sentence = (
                f"{words} from step {begin} on reproduces this run "
                f"(within {late.envelopes:.2g} × rounding)"
            )
            return self.diagnosis(late, sentence, begin, late.compared, None)
        then: dict[str, Any] = {"name": None, "value": None, "from_step": start}
        if found is None:
            rest = "it is something that no known cause reproduces"
            if base.ends_with_loss:  # which may tell of the update before it
                start, rest = start - 1, f"(its update or the next loss) {rest}"
        else:
            late, start, words = found
            said = "it follows the plan" if late.make.func is Variation else f"{words} as well"
            rest = f"{said} (within {late.envelopes:.2g} × rounding)"
            then = {"name": late.name, "value": late.value}
        if start < TOLD_APART or (found is None and self.num_steps - start < TOLD_APART):
            return None  # a replay that is only alike strays so far by the end
        begins = f"{self.words(base)} reproduces steps 0 to {start - 1} of this run"
        sentence = f"{begins}; from step {start} on {rest}"
        return self.diagnosis(base, sentence, 0, start, then | {"from_step": start})

    def diagnosis(
        self, cause: Candidate, sentence: str, begin: int, end: int, then: dict[str, Any] | None
    ) -> Diagnosis:
        """A cause of some of the steps."""
        envelopes = min(cause.envelopes, self.limit) if then else cause.envelopes
        return Diagnosis(
            cause.name,
            cause.value,
            sentence,
            envelopes,
            None,
            None,
            from_step=begin,
            through_step=end - 1,
            num_steps=self.num_steps,
            then=then,
        )

    @cached_property
    def plan_through(self) -> int:
        """How many steps the plan itself explains."""
        _, through = self.lockstep_misfit(Training(self.plan, self.data), [])
        bad_losses = np.flatnonzero(self.judgement.loss_envelopes_per_step > self.limit)
        outside = np.flatnonzero(self.judgement.parameter_envelopes_per_snapshot > self.limit)
        ends = [self.recorded[i] - 1 for i in outside[:1] if i < len(self.recorded)]
        return int(min([through, *bad_losses[:1], *ends]))

    @cached_property
    def plan_fails_probes(self) -> bool:
        """Whether a probed step shows that the run is not the plan's."""
        return self.lockstep_misfit(Training(self.plan, self.data), [])[0] > self.limit

    def second(self, base: Candidate, through: int) -> tuple[Candidate, int, str] | None:
        """The one further cause that explains the rest to the end, the step it begins at, words.

        If it explains the rest from an earlier step as well, neither step nor size is known.
        """
        first = self.plan.steps_per_epoch
        begins = {through, through - 1, through - 2, through - 3, through // first * first}
        states, path = self.states(base.replay(), {step for step in begins if step >= 0})
        found: list[tuple[Candidate, int]] = []

        def try_from(pair: tuple[Candidate, int]) -> None:
            late, begin = pair
            if self.fits_from(late, base, begin, states[begin], path):
                acts = self.acts_from(late, base, begin, states[begin])
                if self.num_steps - acts >= 2 * TOLD_APART:
                    found.append((late, acts))

        begins = {step for step in states if self.num_steps - step >= 2 * TOLD_APART}
        if base.make.func is not Variation:  # a cause may end
            in_threads(try_from, [(self.plain(), begin) for begin in begins])
        if not found:
            pairs = [(late, begin) for begin in begins for late in self.joined(base)]
            in_threads(try_from, pairs)
        if len({late.name for late, _ in found}) != 1:
            return None
        begin = max(begin for _, begin in found)
        at_begin = [late for late, at in found if at == begin]
        best = min(at_begin, key=lambda late: (late.envelopes, str(late.make.func)))
        if all(at == begin for _, at in found):
            return best, begin, best.words
        best.value = None
        return best, begin, at_the_latest(best.name)

    def joined(self, base: Candidate) -> Iterator[Candidate]:
        """What may begin later, together with a cause that is there already."""
        kind = base.make.func
        assert isinstance(kind, type)
        for late in self.clues.anything():
            of_late = late.make.func
            assert isinstance(of_late, type)
            if (kinds := both(kind, base.value or 0.0, of_late)) is not None:
                late.make = partial(kinds, self.plan, self.data)
                yield late

    def plain(self) -> Candidate:
        """Nothing wrong."""
        return Candidate(THE_PLAN, partial(Variation, self.plan, self.data))

    def acts_from(self, late: Candidate, base: Candidate, begin: int, state: State) -> int:
        """The first step at which it makes a difference."""
        runs = state.steps(base.replay(), begin), state.steps(late.replay(), begin)
        for step, (before, after) in enumerate(zip(*runs, strict=False), begin):
            (one, W, b), (other, W_other, b_other) = before, after
            same = one.loss == other.loss and np.array_equal(W, W_other)
            if not (same and np.array_equal(b, b_other)):
                return step
        return self.num_steps

    def fits_from(
        self, late: Candidate, base: Candidate, begin: int, state: State, path: Path
    ) -> bool:
        """Fit what begins at a step to half of the rest, at most; does it explain all of it?"""
        count = min(FIT_STEPS[-1], (self.num_steps - begin) // 2)
        if late.value is not None:

            def residual(training: Training) -> npt.NDArray[np.float64] | None:
                return self.free_residual(state.steps(training, begin), begin, begin + count)

            self.improve(late, residual, 2 * FIT_ROUNDS)
            if not late.least <= late.value <= late.most:
                return False
        exact = late.replay()
        for i, (step, probe) in enumerate(self.probes.items()):
            if step < begin or path.misfits[step] <= self.limit:
                continue
            if self.probe_misfit(i, step, probe, exact, []) > self.limit:
                return False
        for horizon in (begin + count, None):
            self.measure_free(late, horizon, begin, state, path)
            if not late.is_whole:
                return False
        fits = late.envelopes <= self.limit and late.metric_envelopes <= self.limit
        return fits and late.compared >= begin + 2 * TOLD_APART and self.tells(late)


def _names(candidates: Sequence[Candidate]) -> set[str]:
    return {candidate.name for candidate in candidates}
