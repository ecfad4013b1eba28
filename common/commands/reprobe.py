"""A second look: steps are probed where the free run left its envelope and no probe shows why."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from framework_parity.common.execution.processes import REFERENCE, Contender, Execution
from framework_parity.common.judging.judge import Judge, Judgement
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.reference.ensemble import reference
from framework_parity.common.reference.replay import Trajectory, stacked
from framework_parity.common.training.optimizer_state import UNKNOWN
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError

MAX_PROBES = 64
"""How many steps a second look probes."""


def second_look(
    judge: SoftmaxJudge | ModelJudge,
    execution: Execution,
    contenders: Sequence[Contender],
    judged: Mapping[str, tuple[Record, Judgement] | str],
) -> dict[str, tuple[Record, Judgement]]:
    """Judge again, by probes of the steps in which the free run left its envelope.

    What shows only now and then (a logarithm that is clipped, a gradient that is) may miss all
    probed steps, or the first of them in which it matters. The run's worker is started again to
    compute the steps between its last sound snapshot and the first sign.
    """
    asked: dict[str, tuple[Contender, Plan, Record]] = {}
    for contender in contenders:
        found = judged.get(contender.name)
        if found is None or isinstance(found, str):
            continue
        if steps := steps_to_probe(judge, *found):
            plan = with_steps(judge, steps)
            place = execution.folder / "second_look" / contender.name
            shutil.rmtree(place, ignore_errors=True)  # a bisection judges a run twice
            plan.save(place / "plan")
            if isinstance(judge, SoftmaxJudge):
                oracle_of(judge, plan).record().save(place / REFERENCE)
            asked[contender.name] = contender, plan, found[0]
    outcomes = execution.look_again([contender for contender, *_ in asked.values()])
    seen = {}
    for name, (contender, plan, record) in asked.items():
        if outcomes[name].status != "done":
            continue
        with contextlib.suppress(RecordError):  # what was found without it stands
            place = execution.folder / "second_look" / name
            again = contender.read(place / "record", plan.sha256, plan.recipe.dtype)
            other: Judge
            if isinstance(judge, SoftmaxJudge):
                other = judge.reprobed(plan, Trajectory.load(place / REFERENCE))
            else:
                other = judge.reprobed(plan, Record.load(place / REFERENCE, plan.sha256))
            whole = replace(record, arrays={**again.probes().arrays, **record.arrays})
            seen[name] = whole, other.judge(whole)
    return seen


def steps_to_probe(judge: Judge, record: Record, judgement: Judgement) -> tuple[int, ...]:
    """The steps from the last sound snapshot to the first sign that the free run is off.

    None where a probed step shows it as early. Thinned out if they are many.
    """
    found, limit = judgement.divergence, judge.thresholds.envelopes
    if found is None or found.stage in ("data", "metric") or UNKNOWN in record.facts:
        return ()
    free = judge.free_finding(judgement, record)
    if free is None or (judgement.lockstep_envelopes > limit and free.step >= found.step):
        return ()
    ratios, last = judgement.parameter_envelopes_per_snapshot, judge.plan.num_steps
    snapshots = np.array([0, *judge.points[: len(ratios)]])
    if (outside := np.flatnonzero(ratios > limit)).size:
        last = int(snapshots[outside[0] + 1])
    if (losses := np.flatnonzero(judgement.loss_envelopes_per_step > limit)).size:
        last = min(last, int(losses[0]) + 1)
    first = int(snapshots[snapshots < last].max())
    return tuple(np.unique(np.linspace(first, last - 1, MAX_PROBES).astype(int)).tolist())


def with_steps(judge: Judge, steps: Sequence[int]) -> Plan:
    """The plan that has these steps probed, too."""
    return replace(judge.plan, probed=tuple(sorted({*judge.plan.probes, *steps})))


def judge_of_steps(judge: SoftmaxJudge, steps: Sequence[int]) -> SoftmaxJudge:
    """The judge of the same plan whose ladder has these steps, too."""
    plan = with_steps(judge, steps)
    return judge.reprobed(plan, oracle_of(judge, plan))


def oracle_of(judge: SoftmaxJudge, plan: Plan) -> Trajectory:
    """The reference with the states before other probed steps: those of this plan."""
    training = reference(plan, judge.data)
    states = {0: training.initial()}
    for done, (_, W, b) in enumerate(training.steps(), 1):
        if done in plan.probes:
            states[done] = W.copy(), b.copy()
        if done >= plan.probes[-1]:
            break
    probed = {n: a.astype(plan.recipe.dtype) for n, a in stacked([*states.values()]).items()}
    return replace(judge.oracle, probed=probed)
