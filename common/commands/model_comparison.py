"""What is known of comparisons of a user's own model alone: their judge, facts and notices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.execution.launcher import Outcome, not_done
from framework_parity.common.execution.processes import (
    CONFIRMATION,
    EVALUATION,
    MEMBERS,
    REFERENCE,
    Contender,
    Execution,
    Subject,
)
from framework_parity.common.judging.ladder import first_divergence
from framework_parity.common.judging.layers import listed
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.recomputed import with_recomputed
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.findings import where
from framework_parity.common.report.wording import run_name
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.record import OtherRowError, Record, RecordError

Recomputed = Mapping[str, Mapping[str, Array]]
"""Of each run by its name, what :func:`judging.recomputed.with_recomputed` takes."""

CONFIRMED = 2.0**-10
"""How many envelopes two float64 runs of one model may be apart: far above float64's rounding,
which is 2e-9 of float32's, and far below anything that a grade depends on."""


def load_model_judge(
    execution: Execution,
    data: DataModule,
    outcomes: Mapping[str, Outcome],
    thresholds: Thresholds | None = None,
    recomputed: Recomputed | None = None,
) -> ModelJudge:
    """The judge of a file's model, by the reference and the ensemble that its processes left.

    With what their parameters give, as of :func:`recompute`, if that is known.

    Raises:
        NotRunError: if the reference or one of its ensemble failed.
        ParityError: if its training cannot be judged.
    """
    by, plan, names = execution.subject.by, execution.plan, (REFERENCE, *MEMBERS)
    model = execution.subject.model
    assert model is not None
    records = []
    for name in names:  # the reference first: what it left may be why others failed
        if outcomes[name].status != "done":
            guilty = not_done(outcomes, names)[0]
            raise NotRunError(
                f"{guilty} ({by.label})",
                f"a finished training of {model.path}",
                f"{outcomes[guilty].status}: {outcomes[guilty].reason}",
                "mend the model",
            )
        folder = execution.reference_folder(name)
        if not folder.exists():
            raise ended_early(model, f"{name} ({by.label})")
        dtype = "float64" if name == REFERENCE else plan.recipe.dtype
        try:
            record = Contender(by, model.path.stem).read(folder, plan.sha256, dtype)
            records.append(with_recomputed(record, (recomputed or {}).get(name, {})))
        except RecordError as error:
            raise _unusable(f"{name} ({by.label})", error) from None
    try:
        return ModelJudge.measure(plan, data, records[0], records[1:], thresholds)
    except RecordError as error:
        raise _unusable(f"{REFERENCE} or its ensemble ({by.label})", error) from None


def recompute(
    execution: Execution, contenders: Sequence[Contender], outcomes: Mapping[str, Outcome]
) -> tuple[Recomputed, list[str]]:
    """What the parameters of every run, and of the ensemble, give; what to say if nobody knows."""
    names = [*MEMBERS, *(contender.name for contender in contenders)]
    done = [name for name in names if name in outcomes and outcomes[name].status == "done"]
    if execution.subject.model is None or outcomes[REFERENCE].status != "done":
        return {}, []
    outcome, found = execution.evaluate(done), dict[str, dict[str, Array]]()
    try:
        if outcome.status != "done":
            raise RecordError("", "an evaluation", f"{outcome.status}: {outcome.reason}")
        arrays = Record.read(execution.reference_folder(EVALUATION)).arrays
    except RecordError as error:
        return {}, [f"What runs report of themselves is not recomputed in float64: {error}."]
    for key, array in arrays.items():
        name, _, what = key.rpartition("/")
        found.setdefault(name, {})[what] = array
    return found, []


def ended_early(model: OwnModel, name: str = "") -> NotRunError:
    """Of a process that ended well and left no record."""
    received = f"none, exit status 0: {model.path} ended its process"
    return NotRunError(name, "a record", received, "take out what does")


def _unusable(name: str, error: RecordError) -> ParityError:
    if isinstance(error, OtherRowError):
        mend = "name the interpreter of that release"
        return NotRunError(name, error.expected, error.received, mend)
    mend = "lower --lr if its numbers are not finite"
    return ParityError(name, "a training that can be judged", error, mend)


def model_facts(
    judge: ModelJudge, subject: Subject, records: Mapping[str, Record]
) -> dict[str, Any]:
    """What a report states of a file's model besides; ``records`` are the runs', by their names."""
    model = subject.model
    assert model is not None
    shapes = model.shapes or judge.reference.facts["shapes"]
    return {
        "file": model.path.name,
        "parameters": {name: list(shape) for name, shape in shapes.items()},
        "matched": {name: record.facts["own_names"] for name, record in records.items()},
        "layers": list(judge.ladder.layers),
        **({"loss_scale": model.loss_scale} if judge.plan.recipe.mixed else {}),
    }


def place_of_parting(
    judge: ModelJudge, execution: Execution, second: Contender, outcome: Outcome
) -> str | None:
    """Where the second framework's float64 run parts from the reference, and why if that is known.

    None: nowhere.

    Raises:
        RecordError: if it left none.
    """
    if outcome.status != "done":
        raise RecordError("", "a finished training", f"{outcome.status}: {outcome.reason}")
    folder = execution.reference_folder(CONFIRMATION)
    record = second.read(folder, execution.plan.sha256, "float64")
    found = judge.judge(record)
    steps = [each for each in judge.ladder.findings(record) if each.stage != "metric"]
    if first := first_divergence(steps, CONFIRMED):
        if first.stage == "data":  # then it is known who is wrong
            raise RecordError("", "a training on the plan's examples", where(asdict(first)))
        closely = replace(judge, thresholds=replace(judge.thresholds, envelopes=1.0))
        cause = closely.cause(record, replace(found, divergence=first))
        return where(asdict(first)) + (f"; {cause.sentence}" if cause else "")
    if found.free_envelopes <= CONFIRMED:
        return None
    losses = np.flatnonzero(found.loss_envelopes_per_step > CONFIRMED)
    held = np.flatnonzero(found.parameter_envelopes_per_snapshot > CONFIRMED)
    steps_off = [*losses[:1].tolist(), *(judge.points[i] - 1 for i in held[:1].tolist())]
    return f"in their own training, from step {min(steps_off, default=judge.plan.num_steps - 1)} on"


def confirmation(
    judge: ModelJudge, execution: Execution, outcomes: Mapping[str, Outcome]
) -> tuple[list[str], bool]:
    """What to say of the confirmation of a reference, and whether nobody contradicts it."""
    subject = execution.subject
    if subject.second is None:
        return [], True
    by, other = subject.by.backend, subject.second.backend
    try:
        place = place_of_parting(judge, execution, subject.second, outcomes[CONFIRMATION])
    except RecordError as error:
        return [
            f"Nothing confirms the reference, {by}'s: no float64 run of {other} can ({error})."
        ], True
    if place is None:
        return [], True
    ways = f"name the one that is right, --reference {by} or --reference {other}"
    end = f"Nothing is graded: {ways}, or give the file a NumPy model."
    if subject.is_named:
        end = f"Grades are against {by}'s, as --reference asks."
    words = (
        f"In float64, too, {other} does not train as {by} does ({place}): one of the two is "
        f"another model, and nothing here says which. {end}"
    )
    return [words], False


def notices_of_model(
    judge: ModelJudge,
    subject: Subject,
    contenders: Sequence[Contender],
    runs: Sequence[Mapping[str, Any]],
) -> Iterator[str]:
    """What the comparison does not show."""
    model = subject.model
    assert model is not None
    by, orders = judge.reference.facts["backend"], judge.reference.facts["orders"]
    if all(contender.backend == by for contender in contenders):
        yield (
            f"The reference is {by}'s, too: this compares {by} with itself, "
            f"{judge.plan.recipe.dtype} with float64, and no framework with another."
        )
    if model.has("inputs") and "features" not in orders and not judge.data.is_large:
        yield (
            "The model computes something else where the features, and the axes that "
            "PARAMETERS calls inputs, are in another order: the ensemble keeps their order."
        )
    if "examples" not in orders:
        yield (
            "The model computes something else where the examples of a batch are in another "
            "order: the ensemble keeps it."
        )
    distinct = {
        tuple(values.tobytes() for values in record.parameters().values())
        for record in judge.ladder.members
    }
    if len(distinct) < len(MEMBERS):
        yield (
            f"Only {len(distinct)} of the ensemble's {len(MEMBERS)} trainings differ: the "
            "rounding envelope may be too narrow."
        )
    yield from judge.notices()
    yield from without_partners(runs, by)


def without_partners(runs: Sequence[Mapping[str, Any]], by: str) -> Iterator[str]:
    """Which activations are not compared, of each run that was."""
    for run in runs:
        found = run.get("layers") or {"alone": (), "missing": ()}
        said = [f"{listed(found['alone'])} of {run['backend']}"] * bool(found["alone"])
        said += [f"{listed(found['missing'])} of the reference ({by})"] * bool(found["missing"])
        if said:
            yield (
                f"{run_name(run)}: activations without a partner are not compared: "
                f"{'; '.join(said)}. Name them alike, or in LAYERS."
            )
