"""How well a candidate's replay fits a run, how far, and with which value it fits best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.candidates import Candidate
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.ensemble import BLOCK
from framework_parity.common.reference.replay import (
    FORMS,
    WORST,
    Rows,
    Step,
    Training,
    losses_from_logits,
)
from framework_parity.common.training.record import Record

NUDGE = 2.0**-21
"""Numbers nearer than this part to the middle of two of a narrow format may be rounded to either:
a float32 that has come a few operations has that error."""

CHAOS = 1e-3
"""A replay is compared as far as its own rounding stays below this part of its weights. From 1e-5
to 1e-2 it makes no difference to the 32 cases of ``tests/test_causes.py``."""

HOPELESS = 1e3
"""So many envelopes away from a run a late cause is not replayed once more for its own rounding."""

NEARLY = 10.0
"""So many envelopes away from a step, a replay is asked for its own rounding in more orders: the
largest of a few errors of a small tensor is too often a small one (``ensemble.LOCKSTEP_MEMBERS``).
Two underflows of 1,000 drawn plans are named with it that are not without, at 4.3 and 5.7."""

MORE_BLOCKS = (2, 3, 4, 5, 7, 11, 13, 16, 23, 32, 45)
"""Those orders: products added up in blocks of so many."""

SETTLED = 0.01
"""A fit ends when its value moves by less than this part of what it may be off."""

FIT_ROUNDS = 3
"""Gauss-Newton rounds at each; the effects are all but linear in what is fitted. With one round one
of the 32 cases of ``tests/test_causes.py`` (Nesterov momentum 0.9) is misnamed."""

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


class ReplayFit:
    """Compares the replays of candidates with one run.

    Args:
        judge: of the run's plan.
        record: the run.
    """

    def __init__(self, judge: SoftmaxJudge, record: Record) -> None:
        self.judge, self.record = judge, record
        self.plan, self.data, self.ladder = judge.plan, judge.data, judge.ladder
        self.limit = judge.thresholds.envelopes
        self.probes = {step: self.ladder.probe(record, step) for step in self.plan.probes}
        self.num_steps = len(record.arrays["step_loss"])
        self.recorded = [int(step) for step in record.arrays["snapshots"]]
        self.loss_envelope = max(
            (self.ladder.envelopes[step, "loss", "largest"] for step in self.plan.probes),
            default=0.0,
        )

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
            if self.limit < worst <= NEARLY:
                dtype = self.plan.recipe.dtype
                own += [candidate.replay(dtype=dtype, block=block) for block in MORE_BLOCKS]
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
        path = path or Path(oracle.step_loss, oracle.parameters["W"], oracle.parameters["b"])
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
        return training.stages(self.judge.oracle.before(i), rows)

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
        of_W, of_b = (envelope.parameters[name] for name in "Wb")
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
            if max(W_own, of_W[passed]) > CHAOS * float(np.abs(W).max()):
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
                    (W_run[i], W, path.W, max(of_W[i], W_own)),
                    (b_run[i], b, path.b, max(of_b[i], b_own)),
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
        for done, (_, W, _) in enumerate(training.steps(), 1):
            if done > steps:
                break
            parts += self.weights_residual(done, W)
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
            parts += self.weights_residual(done, W)
        joined = np.concatenate(parts)
        return joined if np.isfinite(joined).all() else None

    def weights_residual(self, done: int, W: Array) -> Iterator[npt.NDArray[np.float64]]:
        """The replay's weights less the run's, in envelopes, if they are recorded then."""
        if done in self.recorded:
            i = self.recorded.index(done)
            run = self.record.arrays["parameters/W"][i]
            yield ((W - run) / self.judge.envelope.parameters["W"][i]).ravel()

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
