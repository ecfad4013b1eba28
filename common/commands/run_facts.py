"""What a report states of one run: from its record, its judgement and those of its repetitions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from framework_parity.common.commands.reprobe import judge_of_steps
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import Contender, Execution, repeat_name
from framework_parity.common.judging.causes import find_cause
from framework_parity.common.judging.diagnosis import Diagnosis
from framework_parity.common.judging.judge import Judge, Judgement
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.record_difference import (
    differing_bits,
    parameter_moves,
    trained_alike,
)
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.training.record import Record, RecordError

MAX_FLIPS = 1000
"""How many changed predictions of a run a report lists."""

RUN_FACTS = (
    *("status", "reason", "grade", "versions", "fed_sha256"),
    *("train_loss", "train_accuracy", "val_loss", "val_accuracy"),
    *("loss_error", "parameter_error", "logits_error"),
    *("loss_envelopes", "parameter_envelopes", "logits_envelopes", "lockstep_envelopes"),
    *("envelopes", "divergence", "cause", "stages", "repeats", "baseline", "accepted"),
    *("prediction_flips", "flips", "unexplained_flips"),
    *("seconds", "peak_rss_bytes", "earlier_in_process"),
)
"""What a report states of every run; null where there is nothing to state."""


def run_facts(
    judge: Judge,
    contender: Contender,
    outcomes: Mapping[str, Outcome],
    judged: tuple[Record, Judgement] | str | None,
) -> dict[str, Any]:
    """The facts of one run: as its record and its judgement say, or why there is none."""
    outcome = outcomes.get(contender.name, unavailable(contender))
    if judged is None:
        return row(contender, outcome)
    if isinstance(judged, str):
        return row(contender, outcome) | {"status": "failed", "reason": judged}
    record, found = judged
    diagnosis = diagnose(judge, record, found)
    return (
        row(contender, outcome, record)
        | found.to_json()
        | {
            "envelopes": judge.worst(found),
            "cause": diagnosis and asdict(diagnosis),
            "flips": found.flips[:MAX_FLIPS],
            "prediction_flips": len(found.flips) if judge.data.has_classes else None,
            "earlier_in_process": record.facts.get("earlier_in_process", []),
        }
        | judge.row_facts(record)
    )


def row(contender: Contender, outcome: Outcome, record: Record | None = None) -> dict[str, Any]:
    """What a report states of a run before it is judged: whose it is, and what its record says."""
    facts: dict[str, Any] = {
        "backend": contender.backend,
        "implementation": contender.implementation,
        "version": contender.environment.version or contender.environment.asked,
        "asked_version": contender.environment.asked,
        **dict.fromkeys(RUN_FACTS),
        "status": outcome.status,
        "reason": outcome.reason,
    }
    if record is None:
        return facts
    return facts | {
        **{name: record.facts[name] for name in ("versions", "fed_sha256", "peak_rss_bytes")},
        **record.facts["history"],
        "seconds": {**record.facts["seconds"], "total": outcome.seconds},
    }


def diagnose(judge: Judge, record: Record, found: Judgement) -> Diagnosis | None:
    """The cause of a divergence, looked for with every step that was probed."""
    if isinstance(judge, ModelJudge):
        return judge.cause(record, found)
    if not isinstance(judge, SoftmaxJudge):
        return None
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
    from the first in parameters: its largest difference, and that in envelopes. If not all
    trained, the ``reason`` of the first that did not.
    """
    if repeats == 1 or contender.environment.python is None:
        return {}
    records, reasons = [], []
    for repeat in range(repeats):
        name = repeat_name(contender, repeat)
        reason = f"{outcomes[name].status}: {outcomes[name].reason}"
        if outcomes[name].status == "done":
            try:
                asked = (judge.plan.sha256, judge.plan.recipe.dtype)
                record = contender.read(execution.record_folder(name), *asked)
                judge.check(record)
                records.append(record)
                continue
            except RecordError as bad:
                reason = f"bad record: {bad}"
        reasons.append(f"training {repeat + 1} of {repeats}: {reason}")
    if reasons:
        return {"repeats": {"asked": repeats, "trained": len(records), "reason": reasons[0]}}
    first, *others = records
    moved = [parameter_moves(judge, first, other) for other in others]
    return {
        "repeats": {
            "asked": repeats,
            "trained": len(records),
            "identical": all(
                trained_alike(differing_bits(judge, first, other)) for other in others
            ),
            "parameter_error": max(float(move.errors.max()) for move in moved),
            "parameter_envelopes": max(float(move.envelopes.max()) for move in moved),
        }
    }


def unavailable(contender: Contender) -> Outcome:
    """The outcome of a run that has no process because its environment cannot be had."""
    return Outcome("unavailable", contender.environment.reason, 0.0)
