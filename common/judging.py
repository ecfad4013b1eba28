"""From the records in a folder to the facts of a report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from common.agreement import Judge, Judgement, verdict
from common.causes import Diagnosis, find_cause
from common.data import DataModule
from common.errors import ParityError
from common.execution import MEMBERS, REFERENCE, Contender, Execution, repeat_name
from common.ladder import Ladder
from common.launcher import ENDED, Outcome
from common.machine import machine_facts
from common.plan import Plan
from common.record import Record, RecordError
from common.reference import ENSEMBLE_MEMBERS, Envelope, measure_envelope
from common.regression import Regression
from common.replay import Training, Trajectory, epoch_means
from common.report.report import SCHEMA
from common.thresholds import Thresholds

LITTLE_ROOM_BYTES = 100_000

MAX_FLIPS = 1000
"""How many changed predictions of a run a report lists."""

MAX_PROBES = 64
"""How many steps a second look probes."""

RUN_FACTS = (
    "status",
    "reason",
    "grade",
    "versions",
    "fed_sha256",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "loss_error",
    "parameter_error",
    "logits_error",
    "loss_envelopes",
    "parameter_envelopes",
    "logits_envelopes",
    "lockstep_envelopes",
    "envelopes",
    "divergence",
    "cause",
    "stages",
    "repeats",
    "baseline",
    "accepted",
    "prediction_flips",
    "flips",
    "unexplained_flips",
    "seconds",
    "peak_rss_bytes",
    "earlier_in_process",
)
"""What a report states of every run; null where there is nothing to state."""


def judge_comparison(
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    outcomes: Mapping[str, Outcome],
    thresholds: Thresholds,
    repeats: int = 1,
    regression: Regression | None = None,
) -> dict[str, Any]:
    """Judge every record of a comparison; the facts of its report.

    Args:
        execution: whose folder holds the records.
        data: the examples of its plan.
        contenders: in the order of the report.
        outcomes: of the processes, by name.
        thresholds: where the grades part.
        repeats: how often each contender trained.
        regression: golden records to compare with, and accepted differences.
    """
    regression = regression or Regression()
    # Small products on several threads wait for each other more than they compute.
    with threadpool_limits(1):
        return _judge_comparison(
            execution, data, contenders, outcomes, thresholds, repeats, regression
        )


def _judge_comparison(
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    outcomes: Mapping[str, Outcome],
    thresholds: Thresholds,
    repeats: int,
    regression: Regression,
) -> dict[str, Any]:
    plan = execution.plan
    oracle, envelope = load_reference(execution, data, outcomes)
    judge = Judge(plan, data, oracle, envelope, Ladder(plan, data, oracle), thresholds)
    judged: dict[str, tuple[Record, Judgement] | str] = {}
    done = [
        contender.name
        for contender in contenders
        if outcomes.get(contender.name, _unavailable(contender)).status == "done"
    ]

    def facts(contender: Contender) -> dict[str, Any]:
        return run_facts(judge, contender, outcomes, judged.get(contender.name)) | repeat_facts(
            judge, execution, contender, outcomes, repeats
        )

    # NumPy computes without the interpreter's lock: as many runs at once as there were workers.
    with ThreadPoolExecutor(max_workers=execution.slots) as pool:
        judged |= zip(done, pool.map(partial(judge_record, judge, execution), done), strict=True)
        judged |= second_look(judge, execution, contenders, judged)
        runs = list(pool.map(facts, contenders))
    found = [judged.get(contender.name) for contender in contenders]
    regression_facts = regression.judge(judge, runs, found, execution.threads)
    return {
        "schema": SCHEMA,
        "verdict": verdict([run["status"] for run in runs], [run["grade"] for run in runs]),
        "notices": list(gave_way(contenders)),
        **plan_facts(plan, data),
        "machine": machine_facts(),
        "thresholds": vars(thresholds).copy(),
        "reference": {
            "train_loss": epoch_means(oracle.step_loss, plan).tolist(),
            "train_accuracy": epoch_means(oracle.step_accuracy, plan).tolist(),
            "val_loss": oracle.val_loss.tolist(),
            "val_accuracy": oracle.val_accuracy.tolist(),
        },
        "envelope": {
            "loss": float(envelope.loss[-1]),
            "parameters": float(max(envelope.W[-1], envelope.b[-1])),
            "logits": envelope.logits,
            "forward": envelope.forward,
            "members": ENSEMBLE_MEMBERS,
        },
        "free_running": vars(judge.free_running).copy(),
        **regression_facts,
        "runs": runs,
    }


def gave_way(contenders: Sequence[Contender]) -> Iterator[str]:
    """What to say of environments in which a folder's other pins gave way to the release."""
    environments = dict.fromkeys(contender.environment for contender in contenders)
    for environment in environments:
        if environment.gave_way:
            yield f"{environment.label}: with {', '.join(environment.gave_way)}"


def plan_facts(plan: Plan, data: DataModule) -> dict[str, Any]:
    """What was asked for: recipe, plan and data."""
    return {
        "recipe": plan.recipe.to_json(),
        "plan_sha256": plan.sha256,
        "data": {
            "name": data.name,
            "sha256": plan.data_sha256,
            "num_train": data.num_train,
            "num_val": data.num_val,
            "num_inputs": data.num_inputs,
            "num_outputs": data.num_outputs,
            "source": data.source,
        },
    }


def load_reference(
    execution: Execution, data: DataModule, outcomes: Mapping[str, Outcome]
) -> tuple[Trajectory, Envelope]:
    """The reference and the envelope that its processes left.

    Raises:
        ParityError: if one of them failed: without them nothing can be judged.
    """
    names = (REFERENCE, *MEMBERS)
    failed = [name for name in names if outcomes[name].status != "done"]
    # Those that were ended with it are not at fault.
    for name in sorted(failed, key=lambda name: outcomes[name].reason == ENDED):
        full = shutil.disk_usage(execution.folder).free <= LITTLE_ROOM_BYTES
        raise ParityError(
            f"{name}: expected a finished training in NumPy; received {outcomes[name].status}: "
            f"{outcomes[name].reason}{' (the disk is full)' * full}; try again"
        )
    oracle, *members = [Trajectory.load(execution.reference_file(name)) for name in names]
    for name, values in vars(oracle).items():
        if not np.isfinite(values).all():
            raise ParityError(
                f"reference: expected a training in finite numbers; received {name} beyond them, "
                "even in float64; lower --lr or --sigma"
            )
    return oracle, measure_envelope(execution.plan, data, oracle, members)


def judge_record(judge: Judge, execution: Execution, name: str) -> tuple[Record, Judgement] | str:
    """A run's record and judgement, or what is wrong with its record."""
    try:
        record = Record.load(execution.record_folder(name), judge.plan.sha256)
        return record, judge.judge(record)
    except RecordError as error:
        return f"bad record: {error}"


# The second look: a divergence that no probed step showed is looked for where the free run left


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
            judges[contender.name].plan.save(place / "plan")
            judges[contender.name].oracle.save(place / "reference.npz")
    outcomes = execution.look_again([c for c in contenders if c.name in judges])
    seen = {}
    for name, other in judges.items():
        found = judged[name]
        assert not isinstance(found, str)
        if outcomes[name].status == "done":
            try:
                probes = Record.load(execution.folder / "second_look" / name / "record")
                record = replace(found[0], arrays={**found[0].arrays, **probes.arrays})
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
    training = Training(plan, judge.data)
    states = {0: training.initial()}
    for done, (_, W, b) in enumerate(training.steps(), 1):
        if done in plan.probes:
            states[done] = W.copy(), b.copy()
        if done >= plan.probes[-1]:
            break
    W, b = (np.stack(list(arrays)) for arrays in zip(*states.values(), strict=True))
    dtype = plan.recipe.dtype
    oracle = replace(judge.oracle, probe_W=W.astype(dtype), probe_b=b.astype(dtype))
    return replace(judge, plan=plan, oracle=oracle, ladder=Ladder(plan, judge.data, oracle))


# The facts of a run


def run_facts(
    judge: Judge,
    contender: Contender,
    outcomes: Mapping[str, Outcome],
    judged: tuple[Record, Judgement] | str | None,
) -> dict[str, Any]:
    """The facts of one run: as its record and its judgement say, or why there is none."""
    outcome = outcomes.get(contender.name, _unavailable(contender))
    facts: dict[str, Any] = {
        "backend": contender.backend,
        "implementation": contender.implementation,
        "version": contender.environment.version or contender.environment.asked,
        "asked_version": contender.environment.asked,
        **dict.fromkeys(RUN_FACTS),
        "status": outcome.status,
        "reason": outcome.reason,
    }
    if judged is None:
        return facts
    if isinstance(judged, str):
        return facts | {"status": "failed", "reason": judged}
    record, found = judged
    diagnosis = diagnose(judge, record, found)
    return facts | {
        "reason": found.reason,
        "grade": found.grade,
        "versions": record.facts["versions"],
        "fed_sha256": record.facts["fed_sha256"],
        **record.facts["history"],
        "loss_error": found.loss_error,
        "parameter_error": found.parameter_error,
        "logits_error": found.logits_error,
        "loss_envelopes": found.loss_envelopes,
        "parameter_envelopes": found.parameter_envelopes,
        "logits_envelopes": found.logits_envelopes,
        "lockstep_envelopes": found.lockstep_envelopes,
        "envelopes": judge.worst(found),
        "divergence": found.divergence and found.divergence.to_json(),
        "cause": diagnosis and diagnosis.to_json(),
        "stages": {stage: finding.to_json() for stage, finding in found.stages.items()},
        "prediction_flips": len(found.flips),
        "flips": found.flips[:MAX_FLIPS],
        "unexplained_flips": found.unexplained_flips,
        "seconds": {**record.facts["seconds"], "total": outcome.seconds},
        "peak_rss_bytes": record.facts["peak_rss_bytes"],
        "earlier_in_process": record.facts.get("earlier_in_process", []),
    }


def diagnose(judge: Judge, record: Record, found: Judgement) -> Diagnosis | None:
    """The cause of a divergence, looked for with every step that was probed."""
    steps = {int(name.split("/")[1]) for name in record.arrays if name.startswith("probe/")}
    if found.divergence is not None and not steps <= set(judge.plan.probes):
        judge = judge_of_steps(judge, sorted(steps))
    return find_cause(judge, record, found)


def repeat_facts(
    judge: Judge,
    execution: Execution,
    contender: Contender,
    outcomes: Mapping[str, Outcome],
    repeats: int,
) -> dict[str, Any]:
    """Whether the repeated trainings of one contender are the same, bit for bit.

    ``repeats``: how many trained, whether all are ``identical``, and how far the farthest is
    from the first in parameters: its largest difference, and that in envelopes.
    """
    if repeats == 1 or contender.environment.python is None:
        return {}
    records = []
    for repeat in range(repeats):
        name = repeat_name(contender, repeat)
        if outcomes[name].status == "done":
            try:
                records.append(Record.load(execution.record_folder(name), judge.plan.sha256))
            except RecordError:
                continue
    if len(records) < repeats:
        return {"repeats": {"asked": repeats, "trained": len(records)}}
    first, *others = records
    names = ("step_loss", "parameters/W", "parameters/b", "val_y_hat")
    identical = all(
        other.arrays[name].tobytes() == first.arrays[name].tobytes()
        for other in others
        for name in names
    )
    error = envelopes = 0.0
    for other in others:
        for name in "Wb":
            key = f"parameters/{name}"
            difference = np.abs(other.arrays[key].astype(np.float64) - first.arrays[key])
            largest = difference.reshape(len(difference), -1).max(axis=1)
            error = max(error, float(largest.max()))
            envelopes = max(envelopes, float((largest / getattr(judge.envelope, name)).max()))
    return {
        "repeats": {
            "asked": repeats,
            "trained": len(records),
            "identical": identical,
            "parameter_error": error,
            "parameter_envelopes": envelopes,
        }
    }


def _unavailable(contender: Contender) -> Outcome:
    return Outcome("unavailable", contender.environment.reason, 0.0)
