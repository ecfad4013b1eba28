"""A second look: a divergence that no probed step showed is looked for where the free run left."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from framework_parity.common.execution.processes import Contender, Execution
from framework_parity.common.judging.judge import Judge, Judgement
from framework_parity.common.reference.ensemble import reference
from framework_parity.common.training.record import Record, RecordError

MAX_PROBES = 64
"""How many steps a second look probes."""


def second_look(
    judge: Judge,
    execution: Execution,
    contenders: Sequence[Contender],
    judged: Mapping[str, tuple[Record, Judgement] | str],
) -> dict[str, tuple[Record, Judgement]]:
    """Judge again, by probes of the steps in which the free run left its envelope.

    What shows only now and then (a logarithm that is clipped, a gradient that is) may miss all
    probed steps. The run's worker is started again, without training, to compute the steps
    between its last sound snapshot and its first unsound one.
    """
    judges: dict[str, Judge] = {}
    for contender in contenders:
        found = judged.get(contender.name)
        if found is None or isinstance(found, str):
            continue
        if steps := steps_to_probe(judge, found[1]):
            place = execution.folder / "second_look" / contender.name
            judges[contender.name] = judge_of_steps(judge, steps)
            shutil.rmtree(place, ignore_errors=True)  # a bisection judges a run twice
            judges[contender.name].plan.save(place / "plan")
            judges[contender.name].oracle.record().save(place / "reference")
    asked = {c.name: c for c in contenders if c.name in judges}
    outcomes = execution.look_again(list(asked.values()))
    seen = {}
    for name, other in judges.items():
        found = judged[name]
        assert not isinstance(found, str)
        if outcomes[name].status == "done":
            try:
                folder = execution.folder / "second_look" / name / "record"
                plan = other.plan
                seen_again = asked[name].read(folder, plan.sha256, plan.recipe.dtype).arrays
                probes = {n: array for n, array in seen_again.items() if n.startswith("probe/")}
                record = replace(found[0], arrays={**probes, **found[0].arrays})
                seen[name] = record, other.judge(record)
            except RecordError:
                continue  # what was found without it stands
    return seen


def steps_to_probe(judge: Judge, judgement: Judgement) -> tuple[int, ...]:
    """The steps between the last sound and the first unsound snapshot, thinned out if many."""
    limit, snapshots = judge.thresholds.envelopes, judge.plan.snapshots
    if judgement.divergence is None or judgement.lockstep_envelopes > limit:
        return ()
    if judgement.divergence.stage not in ("update", "loss"):
        return ()
    outside = np.flatnonzero(judgement.parameter_envelopes_per_snapshot > limit)
    if not len(outside):
        return ()
    first, last = 0 if outside[0] == 0 else snapshots[outside[0] - 1], snapshots[outside[0]]
    return tuple(np.unique(np.linspace(first, last - 1, MAX_PROBES).astype(int)).tolist())


def judge_of_steps(judge: Judge, steps: Sequence[int]) -> Judge:
    """The judge of the same plan whose ladder has these steps, too."""
    plan = replace(judge.plan, probed=tuple(sorted({*judge.plan.probes, *steps})))
    training = reference(plan, judge.data)
    states = {0: training.initial()}
    for done, (_, W, b) in enumerate(training.steps(), 1):
        if done in plan.probes:
            states[done] = W.copy(), b.copy()
        if done >= plan.probes[-1]:
            break
    W, b = (np.stack(list(arrays)) for arrays in zip(*states.values(), strict=True))
    dtype = plan.recipe.dtype
    oracle = replace(judge.oracle, probe_W=W.astype(dtype), probe_b=b.astype(dtype))
    return judge.reprobed(plan, oracle)
