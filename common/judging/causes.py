"""Which known discrepancy explains a run.

A cause explains a run if its replay fits the run within rounding: the probed steps, stage by
stage, and the free run as far as is needed to tell the causes apart. What the change leaves open
(the factor of a learning rate, say) is fitted first. A cause is named only if it fits and no
other one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.threads import in_threads
from framework_parity.common.judging.candidates import Candidate, Clues
from framework_parity.common.judging.judge import Judge, Judgement
from framework_parity.common.reference.ensemble import BLOCK
from framework_parity.common.reference.replay import (
    FORMS,
    WORST,
    Rows,
    Step,
    Training,
    losses_from_logits,
)
from framework_parity.common.reference.variations import LearningRate, Variation, both
from framework_parity.common.training.record import Record

FIT_STEPS = (2, 16)
"""Updates of the free run that take part in a fit, first so many, then more: what is carried
from step to step shows from the second on, where its effect is still linear."""

EVIDENT = 2.0
"""How many times nearer than to the plan itself a run must be to a cause's replay."""

TOLD_APART = 8
"""How many steps more than any other a cause must explain if it does not explain them all."""

NUDGE = 2.0**-21
"""Numbers nearer than this part to the middle of two of a narrow format may be rounded to either:
a float32 that has come a few operations has that error."""

OTHER_RATE = 1.01
"""A factor of the learning rate by which it is asked whether a cause's size is known without it."""

CHAOS = 1e-3
"""A replay is compared as far as its own rounding stays below this part of its weights. From 1e-5
to 1e-2 it makes no difference to the 32 cases of ``tests/test_causes.py``."""

HOPELESS = 1e3
"""So many envelopes away from a run a late cause is not replayed once more for its own rounding."""

SETTLED = 0.01
"""A fit ends when its value moves by less than this part of what it may be off."""

FIT_ROUNDS = 3
"""Gauss-Newton rounds at each; the effects are all but linear in what is fitted. With one round one
of the 32 cases of ``tests/test_causes.py`` (Nesterov momentum 0.9) is misnamed."""


@dataclass(frozen=True)
class Diagnosis:
    """A cause that fits a run.

    Args:
        name: of the cause.
        value: what was fitted, or None.
        sentence: the finding, for a report.
        envelopes: how well the replay fits, in rounding envelopes.
        runner_up: the next best cause, or None if none other was possible.
        runner_up_envelopes: how well that one fits.
        from_step: the first step that the cause explains.
        through_step: the last one; beyond it rounding decides, or ``then``. None of a metric.
        num_steps: how many steps the run has.
        then: what else there is: ``name`` and ``value`` of a further cause, or null where none is
            known and :data:`THE_PLAN` where the cause ends, and ``from_step``, or null where it
            is the validation metrics.
    """

    name: str
    value: float | None
    sentence: str
    envelopes: float
    runner_up: str | None
    runner_up_envelopes: float | None
    from_step: int = 0
    through_step: int | None = None
    num_steps: int | None = None
    then: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as a JSON object."""
        return vars(self).copy()


Steps = Iterator[tuple[Step, Array, Array]]


class Path(NamedTuple):
    """Where a training goes: the loss of each step, the parameters of each snapshot.

    ``misfits`` are those of the probed steps.
    """

    step_loss: Array
    W: Sequence[Array] | Array
    b: Sequence[Array] | Array
    misfits: Mapping[int, float] = MappingProxyType({})


class State(NamedTuple):
    """What a training has come to before a step."""

    W: Array
    b: Array
    velocity: tuple[Array, Array] | None

    def steps(self, training: Training, begin: int) -> Steps:
        """Train on from here."""
        W, b = self.W.astype(training.dtype), self.b.astype(training.dtype)
        training.reset()
        if self.velocity is not None:
            of_W, of_b = self.velocity
            training.velocity = of_W.astype(training.dtype), of_b.astype(training.dtype)
        first, place = divmod(begin, training.plan.steps_per_epoch)
        for epoch in range(first, training.plan.recipe.max_epochs):
            for rows in list(training.rows(epoch))[place if epoch == first else 0 :]:
                step = training.step(W, b, rows)
                training.update(W, b, step.gradient_W, step.gradient_b)
                yield step, W, b


THE_PLAN = "the plan"
"""What explains the rest of a run whose cause ends."""

SAME_PRECISION = ("float16 products", "TF32 products")
"""Formats of 11 bits each, which differ only where numbers are tiny or huge."""


def find_cause(judge: Judge, record: Record, judgement: Judgement) -> Diagnosis | None:
    """The one known discrepancy that reproduces a run, or None.

    Args:
        judge: of the run's plan.
        record: the run.
        judgement: what the judge said of it.
    """
    if judgement.divergence is None:
        return None
    if judgement.divergence.stage == "metric":
        return _metric_cause(judge, record)
    with np.errstate(all="ignore"):
        return _Search(judge, record, judgement).run()


def known_by_product(words: str) -> str:
    """A cause of which only the product with the learning rate is known."""
    return f"{words}, or in that product with another learning rate,"


def at_the_latest(name: str) -> str:
    """A cause of which neither the first step nor the size is known."""
    return f"{name} (from there at the latest)"


class _Search:
    """Fits the candidates to a run and drops those that do not fit."""

    def __init__(self, judge: Judge, record: Record, judgement: Judgement) -> None:
        self.judge, self.record, self.judgement = judge, record, judgement
        self.plan, self.data, self.ladder = judge.plan, judge.data, judge.ladder
        self.limit = judge.thresholds.envelopes
        self.probes = {step: self.ladder.probe(record, step) for step in self.plan.probes}
        self.num_steps = len(record.arrays["step_loss"])
        self.recorded = [int(step) for step in record.arrays["snapshots"]]
        self.clues = Clues(judge, record, judgement, self.probes)
        self.loss_envelope = max(
            (self.ladder.envelopes[step, "loss", "largest"] for step in self.plan.probes),
            default=0.0,
        )

    def run(self) -> Diagnosis | None:
        candidates = list(self.clues.candidates())
        in_threads(self.try_out, candidates)
        rivals = [c for c in candidates if c.through >= FIT_STEPS[-1] or c.envelopes <= self.limit]
        in_threads(self.follow, rivals)
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

    def follow(self, candidate: Candidate) -> None:
        """See how far a candidate that fits the first steps reproduces the run."""
        self.measure(candidate, None)

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
            sentence += f"; the next best, {runner_up.name}, at {_short(runner_up.envelopes)} ×"
        then = None
        if best.metric_envelopes > self.limit:
            metric = _metric_cause(self.judge, self.record)
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

    def states(self, training: Training, steps: set[int]) -> tuple[dict[int, State], Path]:
        """What a replay has come to before some steps, and where it goes."""
        found, losses, Ws, bs = {}, [], [], []
        if 0 in steps:
            found[0] = State(*training.initial(), None)
        for done, (step, W, b) in enumerate(training.steps(), 1):
            losses.append(step.loss)
            if done in steps:
                found[done] = State(W.copy(), b.copy(), training.velocity)
            if done in self.recorded:
                Ws.append(W.copy())
                bs.append(b.copy())
        misfits = {
            step: self.probe_misfit(i, step, probe, training, [])
            for i, (step, probe) in enumerate(self.probes.items())
        }
        return found, Path(np.array(losses), Ws, bs, misfits)

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

    # How well a candidate fits

    def measure(self, candidate: Candidate, horizon: int | None) -> None:
        """How well, and how far, a candidate's replay fits the run.

        The replay has its own rounding, which can be larger than the reference's where its
        numbers are: if it does not fit the reference's envelope, it is replayed in the recipe's
        dtype as well, in several summation orders.
        """
        exact = candidate.replay()
        worst, through = self.lockstep_misfit(exact, [])
        if worst > self.limit:
            own = [candidate.replay(**options) for options in self.orders()]
            worst, through = self.lockstep_misfit(exact, own)
        candidate.envelopes, candidate.through = min(worst, WORST), through
        if through:
            self.measure_free(candidate, horizon)
            candidate.envelopes = min(max(worst, candidate.envelopes), WORST)
            if worst > self.limit and through <= candidate.through:
                candidate.through, candidate.ends_with_loss = through, False

    def measure_free(
        self,
        candidate: Candidate,
        horizon: int | None,
        begin: int = 0,
        state: State | None = None,
        path: Path | None = None,
    ) -> None:
        """How well, and how far, it fits the free run; from a step on if a state is given."""
        oracle = self.judge.oracle
        path = path or Path(oracle.step_loss, oracle.W, oracle.b)
        for own in ([], self.orders()):
            trainings = [candidate.replay(), *(candidate.replay(**options) for options in own)]
            runs = [t.steps() if state is None else state.steps(t, begin) for t in trainings]
            self.free_misfit(candidate, trainings[0], runs, horizon, begin, path)
            if candidate.is_whole and candidate.metric_envelopes <= self.limit:
                return
            if state is not None and not candidate.is_whole and candidate.envelopes > HOPELESS:
                return

    def orders(self) -> list[dict[str, Any]]:
        """Options of the replays that measure a candidate's own rounding."""
        dtype = self.plan.recipe.dtype
        blocks = [{"dtype": dtype, "block": block} for block in (BLOCK, 8 * BLOCK)]
        forms = [{"dtype": dtype, "form": form} for form in FORMS[1:]]
        nudges = [{"dtype": dtype, "nudge": nudge} for nudge in (NUDGE, -NUDGE)]
        return [{"dtype": dtype}, *blocks, *forms, *nudges]

    def lockstep_misfit(self, exact: Training, own: Sequence[Training]) -> tuple[float, int]:
        """The largest difference in any tensor of any probed step, and the first step outside."""
        worst, through = 0.0, self.num_steps
        for i, (step, probe) in enumerate(self.probes.items()):
            misfit = self.probe_misfit(i, step, probe, exact, own)
            if misfit > self.limit:
                through = min(through, step)
            worst = max(worst, misfit)
        return worst, through

    def probe_misfit(
        self,
        i: int,
        step: int,
        probe: Mapping[str, Array],
        exact: Training,
        own: Sequence[Training],
    ) -> float:
        """The largest difference in any tensor of one probed step."""
        stages = self.stages(exact, i, step)
        if stages is None or "data/missing" in probe:
            return 0.0 if (stages is None) == ("data/missing" in probe) else WORST
        labels = probe.get("data/y")  # a program that is not ours may leave them out
        if labels is not None and not np.array_equal(labels, self.batch(exact, step)[1]):
            return WORST
        rounded = [stages_ for o in own if (stages_ := self.stages(o, i, step)) is not None]
        return max(
            (
                self.ratio(step, key, received, stages[key], rounded)
                for key, received in probe.items()
                if key in stages
            ),
            default=0.0,
        )

    def ratio(
        self, step: int, key: str, received: Array, exact: Array, own: Sequence[dict[str, Array]]
    ) -> float:
        """One tensor's worst statistic in envelopes: the reference's, or the replay's own."""
        if received.shape != exact.shape or not np.isfinite(received).all():
            return WORST
        values = self.ladder.statistics(step, key, received, exact)
        largest = float(np.abs(self.ladder.exact[step][key]).max())
        growth = max(1.0, float(np.abs(exact).max()) / largest) if largest else 1.0
        own_values = [self.ladder.statistics(step, key, array[key], exact) for array in own]
        worst = 0.0
        for name, value in values.items():
            envelope = self.ladder.envelopes[step, key, name]
            if name in ("largest", "offset"):
                envelope *= growth
            envelope = max([envelope, *(v[name] for v in own_values if np.isfinite(v[name]))])
            if key == "loss":
                # A few replays measure a single number badly, and nothing is graded by it here:
                # a fit that is worth a name may be as far off as the largest of the probed steps.
                envelope = max(envelope, self.loss_envelope)
            worst = max(worst, value / envelope)
        return worst

    def stages(self, training: Training, i: int, step: int) -> dict[str, Array] | None:
        """The replay's stages from the reference's state; None where it has no such step."""
        rows = self.rows(training, step)
        if rows is None:
            return None
        oracle = self.judge.oracle
        return training.stages(oracle.probe_W[i], oracle.probe_b[i], rows)

    def rows(self, training: Training, step: int) -> Rows | None:
        epoch, place = divmod(step, self.plan.steps_per_epoch)
        return next((rows for j, rows in enumerate(training.rows(epoch)) if j == place), None)

    def batch(self, training: Training, step: int) -> tuple[Array, Array]:
        rows = self.rows(training, step)
        assert rows is not None
        return training.examples(rows)

    def free_misfit(
        self,
        candidate: Candidate,
        training: Training,
        runs: Sequence[Steps],
        horizon: int | None,
        begin: int,
        path: Path,
    ) -> None:
        """Compare the free run with replays, the first exact, up to a number of updates.

        As far as the reference and the replays keep together: beyond, rounding decides. By the
        same bounds it is compared with the path of what the candidate was changed from.
        """
        envelope, worst = self.judge.envelope, 0.0
        candidate.unchanged_envelopes = 0.0
        step_loss, W_run, b_run = (
            self.record.arrays[name] for name in ("step_loss", "parameters/W", "parameters/b")
        )
        end = min(horizon or self.num_steps, self.num_steps)
        loss_own = W_own = b_own = 0.0
        metrics = np.zeros(2)
        done = begin
        candidate.is_whole = False
        for (step, W, b), *others in zip(*runs, strict=True):
            if done == end:
                # Beyond the run's last step there is none to compare.
                candidate.is_whole = horizon is not None and horizon < self.num_steps
                break
            done += 1
            for other, W_other, b_other in others:
                loss_own = max(loss_own, np.nan_to_num(abs(other.loss - step.loss)))
                W_own = max(W_own, float(np.nan_to_num(np.abs(W_other - W).max())))
                b_own = max(b_own, float(np.nan_to_num(np.abs(b_other - b).max())))
            passed = min(int(np.searchsorted(self.recorded, done)), len(self.recorded) - 1)
            if max(W_own, envelope.W[passed]) > CHAOS * float(np.abs(W).max()):
                candidate.is_whole = True
                done -= 1
                break
            known = min(done, self.plan.num_steps) - 1
            bound = max(envelope.loss[known], loss_own)
            ratio = abs(step_loss[done - 1] - step.loss) / bound
            ends_with_loss = not ratio <= self.limit  # or not a number
            unchanged = 0.0
            if done <= len(path.step_loss):
                unchanged = abs(step_loss[done - 1] - path.step_loss[done - 1]) / bound
            if done in self.recorded:
                i = self.recorded.index(done)
                for run, exact, plain, bound in (
                    (W_run[i], W, path.W, max(envelope.W[i], W_own)),
                    (b_run[i], b, path.b, max(envelope.b[i], b_own)),
                ):
                    ratio = max(ratio, np.abs(run - exact).max() / bound)
                    if i < len(plain):
                        unchanged = max(unchanged, np.abs(run - plain[i]).max() / bound)
            if not ratio <= self.limit:
                candidate.envelopes = float(min(np.nan_to_num(ratio, nan=WORST), WORST))
                candidate.through = candidate.compared = done - 1
                candidate.ends_with_loss = ends_with_loss and done - 1 not in self.recorded
                return
            worst = max(worst, float(ratio))
            unchanged = float(np.nan_to_num(unchanged, nan=WORST))
            candidate.unchanged_envelopes = max(candidate.unchanged_envelopes, unchanged)
            if horizon is None and done % self.plan.steps_per_epoch == 0:
                epoch = done // self.plan.steps_per_epoch - 1
                metrics = np.maximum(metrics, self.metric_misfits(training, W, b, epoch, loss_own))
        else:
            candidate.is_whole = done == self.num_steps
        candidate.envelopes = worst if candidate.is_whole else float(WORST)
        candidate.through = candidate.compared = done
        candidate.metric_envelopes = float(metrics.min())

    def metric_misfits(
        self, training: Training, W: Array, b: Array, epoch: int, loss_own: float
    ) -> tuple[float, float]:
        """How far the validation metrics are from the plan's way to evaluate, and the replay's."""
        history, data = self.record.facts["history"], self.data
        y = np.asarray(data.y_val, np.int64)
        planned = self.judge.validation @ W + b
        own = training.logits(training.change(training.scaled(data.X_val)), W, b)
        bound = max(self.judge.envelope.val_loss[epoch], loss_own)
        found = []
        for logits, losses in (
            (planned, losses_from_logits(planned, y)[0]),
            (own, training.losses(own, y)[0]),
        ):
            error = abs(history["val_loss"][epoch] - losses.mean()) / bound
            accuracy = float(np.mean(logits.argmax(axis=1) == y))
            examples = abs(history["val_accuracy"][epoch] - accuracy) * data.num_val
            found.append(max(float(error), examples / 2))  # as many borderline as an envelope
        return found[0], found[1]

    # What a fit finds

    def fit(self, candidate: Candidate, fit_steps: Sequence[int]) -> None:
        """Find a candidate's value by least squares on the probed steps and the first updates."""
        for steps in fit_steps:
            self.improve(candidate, partial(self.residual, steps=steps), FIT_ROUNDS)

    def improve(
        self,
        candidate: Candidate,
        residual: Callable[[Training], npt.NDArray[np.float64] | None],
        rounds: int,
    ) -> None:
        """Gauss-Newton rounds, until the value moves no longer."""
        for _ in range(rounds):
            assert candidate.value is not None
            value = candidate.value
            delta = max(abs(value) * 1e-4, candidate.scale)
            here, there = residual(candidate.make(value)), residual(candidate.make(value + delta))
            if here is None or there is None:
                return
            slope = (there - here) / delta
            square = float(slope @ slope)
            if not square or not np.isfinite(square):
                return
            change = float(slope @ here) / square
            candidate.value = value - change
            candidate.uncertainty = 1 / float(np.abs(slope).max())
            if abs(change) <= SETTLED * candidate.uncertainty:
                return

    def residual(self, training: Training, steps: int) -> npt.NDArray[np.float64] | None:
        """Replay less run, every entry in envelopes; None if their shapes differ."""
        parts = []
        for i, (step, probe) in enumerate(self.probes.items()):
            stages = self.stages(training, i, step)
            if stages is None or "data/missing" in probe:
                continue
            for key, received in probe.items():
                if key in stages and key != "metric/accuracy":
                    if received.shape != stages[key].shape:
                        return None
                    envelope = self.ladder.envelopes[step, key, "largest"]
                    parts.append(((stages[key] - received) / envelope).ravel())
        envelope_W = self.judge.envelope.W
        for done, (_, W, _) in enumerate(training.steps(), 1):
            if done > steps:
                break
            if done in self.recorded:
                i = self.recorded.index(done)
                run = self.record.arrays["parameters/W"][i]
                parts.append(((W - run) / envelope_W[i]).ravel())
        joined = np.concatenate(parts)
        return joined if np.isfinite(joined).all() else None

    def free_residual(self, steps: Steps, begin: int, end: int) -> npt.NDArray[np.float64] | None:
        """Replay less run in envelopes, of what is recorded between two steps."""
        parts = []
        for done, (step, W, _) in enumerate(steps, begin + 1):
            if done > min(end, self.num_steps):
                break
            error = step.loss - self.record.arrays["step_loss"][done - 1]
            parts.append(np.array([error / self.judge.envelope.loss[done - 1]]))
            if done in self.recorded:
                i = self.recorded.index(done)
                run = self.record.arrays["parameters/W"][i]
                parts.append(((W - run) / self.judge.envelope.W[i]).ravel())
        joined = np.concatenate(parts)
        return joined if np.isfinite(joined).all() else None


def _metric_cause(judge: Judge, record: Record) -> Diagnosis | None:
    """Which other number a run's validation metrics are, if it is a known one.

    Compared are the loss, in rounding envelopes, and the accuracy, in half examples, of every
    epoch at whose end the parameters were recorded, as at its beginning.
    """
    plan, data, history = judge.plan, judge.data, record.facts["history"]
    if len(record.arrays["step_loss"]) != plan.num_steps:  # its epochs end elsewhere
        return None
    W, b = (record.arrays[f"parameters/{name}"].astype(np.float64) for name in "Wb")
    states = {epoch: (W[i], b[i]) for epoch, i in plan.epoch_ends.items()}
    states[0] = plan.W.astype(np.float64), plan.b.astype(np.float64)
    epochs = [epoch for epoch in states if epoch and epoch - 1 in states]
    if not epochs:
        return None

    def evaluate(X: Array, y: Array, W: Array, b: Array) -> tuple[Array, Array]:
        logits = X @ W + b
        return losses_from_logits(logits, y)[0], logits.argmax(axis=1) == y

    def evaluate_training(W: Array, b: Array) -> tuple[Array, Array]:
        parts = [
            evaluate(data.scale(data.X_train[rows[0] : rows[-1] + 1]), y_train[rows], W, b)
            for rows in data.stored_pieces()
        ]
        losses, correct = (np.concatenate(column) for column in zip(*parts, strict=True))
        return losses, correct

    def batched(values: Array) -> float:
        size = plan.recipe.batch_size
        return float(np.mean([values[i : i + size].mean() for i in range(0, len(values), size)]))

    y_val, y_train = (np.asarray(y, np.int64) for y in (data.y_val, data.y_train))
    metrics: dict[str, Callable[[int], tuple[float, float]]] = {
        "metric averaged over batches": lambda e: _pair(
            evaluate(judge.validation, y_val, *states[e]), batched
        ),
        "metric on the training data": lambda e: _pair(evaluate_training(*states[e]), np.mean),
        "metric before the epoch": lambda e: _pair(
            evaluate(judge.validation, y_val, *states[e - 1]), np.mean
        ),
    }

    def right(e: int) -> tuple[float, float]:
        return _pair(evaluate(judge.validation, y_val, *states[e]), np.mean)

    misfits, evidence = {}, False
    for name, predict in metrics.items():
        worst = 0.0
        for e in epochs:
            loss, accuracy = predict(e)
            worst = max(worst, abs(history["val_loss"][e - 1] - loss) / judge.envelope.metric)
            examples = abs(history["val_accuracy"][e - 1] - accuracy) * data.num_val
            worst = max(worst, examples / 2)  # two borderline examples are one envelope
        misfits[name] = worst
    first, second = sorted(misfits, key=lambda name: misfits[name])[:2]
    limit = judge.thresholds.envelopes
    if misfits[first] > limit or misfits[second] <= limit:
        return None
    for e in epochs:  # a number that is the right one as well, as of equal batches, is no evidence
        (loss, accuracy), (exact, exact_accuracy) = metrics[first](e), right(e)
        evidence |= abs(loss - exact) > 2 * limit * judge.envelope.metric
        evidence |= abs(accuracy - exact_accuracy) * data.num_val > 2 * limit
    if not evidence:
        return None
    sentence = (
        f"{first} reproduces its validation metrics (within {misfits[first]:.2g} × rounding; the "
        f"next best, {second}, at {_short(misfits[second])} ×)"
    )
    return Diagnosis(first, None, sentence, misfits[first], second, misfits[second])


def _pair(values: tuple[Array, Array], mean: Callable[[Array], Any]) -> tuple[float, float]:
    losses, correct = values
    return float(mean(losses)), float(mean(correct.astype(np.float64)))


def _names(candidates: Sequence[Candidate]) -> set[str]:
    return {candidate.name for candidate in candidates}


def _short(envelopes: float) -> str:
    return "> 1e6" if envelopes > 1e6 else f"{envelopes:.2g}"
