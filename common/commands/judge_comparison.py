"""From the records in a folder to the facts of a report."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from framework_parity.common.commands.model_comparison import (
    Recomputed,
    confirmation,
    ended_early,
    load_model_judge,
    model_facts,
    notices_of_model,
    recompute,
)
from framework_parity.common.commands.regression import Regression
from framework_parity.common.commands.reprobe import second_look
from framework_parity.common.commands.run_facts import repeat_facts, row, run_facts, unavailable
from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import NotRunError, ParityError, told
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.execution.launcher import Outcome, not_done
from framework_parity.common.execution.processes import (
    ENVELOPE,
    MEMBERS,
    REFERENCE,
    Contender,
    Execution,
)
from framework_parity.common.judging.grades import UNCONFIRMED, unlearned, verdict
from framework_parity.common.judging.judge import Judge, Judgement
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.recomputed import with_recomputed
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.reference.replay import Trajectory, epoch_means
from framework_parity.common.report.facts import SCHEMA
from framework_parity.common.training.feeding import with_counts
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError

LITTLE_ROOM_BYTES = 100_000


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small products on several threads wait for each other more than they compute."""
    with threadpool_limits(1):
        yield


@one_thread()
def judge_comparison(
    execution: Execution,
    data: DataModule,
    contenders: Sequence[Contender],
    outcomes: Mapping[str, Outcome],
    thresholds: Thresholds,
    repeats: int = 1,
    regression: Regression | None = None,
) -> dict[str, Any]:
    """Judge every record of a comparison; the facts of its report."""
    regression, plan, subject = regression or Regression(), execution.plan, execution.subject
    recomputed, unknown = recompute(execution, contenders, outcomes)
    judge = judge_of(execution, data, outcomes, thresholds, recomputed)
    judge.envelope.save(execution.reference_folder(f"{ENVELOPE}.npz"))
    judged, runs = judge_runs(judge, execution, contenders, outcomes, repeats, recomputed)
    found = [judged.get(contender.name) for contender in contenders]
    read = {name: each[0] for name, each in judged.items() if isinstance(each, tuple)}
    notices = [*gave_way(contenders), *what_the_plan_teaches(judge), *unknown]
    if isinstance(judge, ModelJudge):
        said, is_confirmed = confirmation(judge, execution, outcomes)
        notices += said
        notices += notices_of_model(judge, subject, contenders, runs)
        for i, each in enumerate(found):
            if isinstance(each, tuple):
                notices += judge.ladder.unlike(each[0])
            if isinstance(each, tuple) and not (is_confirmed or subject.is_named):
                again = row(contenders[i], outcomes[contenders[i].name], each[0])
                runs[i], found[i] = again | {"status": UNCONFIRMED}, None
    over_time = regression.judge(judge, runs, found, execution.threads, device=execution.device)
    oracle, envelope = judge.oracle, judge.envelope
    accuracies = {}
    if data.has_classes:
        accuracies["train_accuracy"] = epoch_means(oracle.step_accuracy, plan).tolist()
        accuracies["val_accuracy"] = oracle.val_accuracy.tolist()
    return {
        "schema": SCHEMA,
        "verdict": verdict([run["status"] for run in runs], [run["grade"] for run in runs]),
        "notices": notices,
        **plan_facts(plan, data),
        **({"model": model_facts(judge, subject, read)} if isinstance(judge, ModelJudge) else {}),
        "machine": machine_facts(),
        "thresholds": vars(judge.thresholds).copy(),
        "reference": {
            "train_loss": epoch_means(oracle.step_loss, plan).tolist(),
            "val_loss": oracle.val_loss.tolist(),
            **accuracies,
            **judge.reference_facts,
            **({"second": subject.second and subject.second.backend} if subject.model else {}),
        },
        "envelope": {
            "loss": float(envelope.loss[-1]),
            "parameters": float(max(envelope.parameters[name][-1] for name in judge.initial)),
            **judge.envelope_facts,
            "members": ENSEMBLE_MEMBERS,
        },
        "free_running": vars(judge.free_running).copy(),
        **over_time,
        "runs": runs,
    }


def judge_runs(
    judge: SoftmaxJudge | ModelJudge,
    execution: Execution,
    contenders: Sequence[Contender],
    outcomes: Mapping[str, Outcome],
    repeats: int,
    recomputed: Recomputed,
) -> tuple[dict[str, tuple[Record, Judgement] | str], list[dict[str, Any]]]:
    """What was found of each run, by name, and the rows of the report."""
    judged: dict[str, tuple[Record, Judgement] | str] = {}
    done = [
        contender
        for contender in contenders
        if outcomes.get(contender.name, unavailable(contender)).status == "done"
    ]

    def facts(contender: Contender) -> dict[str, Any]:
        repeated = repeat_facts(judge, execution, contender, outcomes, repeats)
        failure = repeated.get("repeats", {}).get("reason")
        if failure and isinstance(judged.get(contender.name), tuple):
            judged[contender.name] = failure
        return run_facts(judge, contender, outcomes, judged.get(contender.name)) | repeated

    # NumPy computes without the interpreter's lock: as many runs at once as there were workers.
    with ThreadPoolExecutor(max_workers=execution.slots) as pool:
        known = [recomputed.get(contender.name, {}) for contender in done]
        found_of = pool.map(partial(judge_record, judge, execution), done, known)
        judged |= zip((contender.name for contender in done), found_of, strict=True)
        judged |= second_look(judge, execution, contenders, judged)
        runs = list(pool.map(facts, contenders))
    return judged, runs


def what_the_plan_teaches(judge: Judge) -> Iterator[str]:
    """What to say of a plan by which the reference itself learns nothing."""
    if judge.free_running.informative and (notice := unlearned(judge.liveness)):
        yield notice


def gave_way(contenders: Sequence[Contender]) -> Iterator[str]:
    """What to say of environments in which a folder's other pins gave way to the release."""
    environments = dict.fromkeys(contender.environment for contender in contenders)
    for environment in environments:
        if environment.gave_way:
            yield f"{environment.label} runs with {', '.join(environment.gave_way)}"


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
            "targets": data.targets,
            "source": data.source,
        },
    }


def judge_of(
    execution: Execution,
    data: DataModule,
    outcomes: Mapping[str, Outcome],
    thresholds: Thresholds | None = None,
    recomputed: Recomputed | None = None,
) -> SoftmaxJudge | ModelJudge:
    """The judge of what an execution trains: :func:`load_judge`, :func:`load_model_judge`."""
    if execution.subject.model is not None:
        return load_model_judge(execution, data, outcomes, thresholds, recomputed)
    return load_judge(execution, data, outcomes, thresholds)


def load_judge(
    execution: Execution,
    data: DataModule,
    outcomes: Mapping[str, Outcome],
    thresholds: Thresholds | None = None,
) -> SoftmaxJudge:
    """The judge of a plan, by the reference and the ensemble that its processes left.

    Raises:
        ParityError: if one of them failed: without them nothing can be judged.
    """
    oracle, *members = load_trajectories(execution, outcomes, (REFERENCE, *MEMBERS))
    return SoftmaxJudge.measure(execution.plan, data, oracle, members, thresholds)


def load_trajectories(
    execution: Execution, outcomes: Mapping[str, Outcome], names: Sequence[str]
) -> list[Trajectory]:
    """The trajectories that the processes of these names left, the reference's first.

    Raises:
        NotRunError: if a process failed.
        ParityError: if the reference left the finite numbers.
    """
    for name in not_done(outcomes, names):
        full = shutil.disk_usage(execution.folder).free <= LITTLE_ROOM_BYTES
        raise NotRunError(
            name,
            "a finished training in NumPy",
            f"{outcomes[name].status}: {outcomes[name].reason}{' (the disk is full)' * full}",
            "try again",
        )
    found = []
    for name in names:
        try:
            found.append(Trajectory.load(execution.reference_folder(name)))
        except Exception as error:  # NumPy and zipfile raise a dozen types for a broken file
            raise NotRunError(
                name, "the trajectory of a training in NumPy", f"none: {told(error)}", "try again"
            ) from None
    for name, values in found[0].record().arrays.items():
        if not np.isfinite(values).all():
            raise ParityError(
                "reference",
                "a training in finite numbers",
                f"{name} beyond them, even in float64",
                "lower --lr or --sigma",
            )
    return found


def judge_record(
    judge: Judge,
    execution: Execution,
    contender: Contender,
    recomputed: Mapping[str, Array] | None = None,
) -> tuple[Record, Judgement] | str:
    """A run's record and judgement, or what is wrong with its record.

    With what its parameters give, if that is known.
    """
    plan, folder = judge.plan, execution.record_folder(contender.name)
    if (model := execution.subject.model) and not folder.exists():
        return str(ended_early(model))
    try:
        record = contender.read(folder, plan.sha256, plan.recipe.dtype)
        record = with_counts(plan, judge.data, with_recomputed(record, recomputed or {}))
        found = judge.judge(record)
        if found.divergence is None:
            judge.check_fed(record)
        return record, found
    except RecordError as error:
        return f"bad record: {error}"
    except Exception as error:  # a record that no check foresaw is a row, too, and not the end
        return f"bad record: it cannot be judged: {type(error).__name__}: {told(error)}"
