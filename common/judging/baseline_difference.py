"""How far a run has moved from its golden record: the same bits, rounding, drift or more.

Both runs stray from the reference by rounding, so that two sound ones are up to twice as far
apart as either may be from the reference: that is the limit here. What decides is counted in the
plan's own envelopes, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.golden_record import (
    entries,
    kept_of,
    state_digests,
)
from framework_parity.common.judging.grades import GRADES
from framework_parity.common.judging.judge import Judge
from framework_parity.common.judging.ladder import (
    Finding,
    first_divergence,
    in_ulps,
    off,
    spoken,
    unequal,
)
from framework_parity.common.judging.metrics import finding
from framework_parity.common.judging.record_difference import (
    REPORTED,
    TRAINED,
    Move,
    differing_bits,
    moves,
    predictions,
    trained_alike,
)
from framework_parity.common.reference.replay import WORST
from framework_parity.common.training.record import Record

TWO_RUNS = 2.0
"""Two runs are apart by as much as both may stray."""


@dataclass(frozen=True)
class Moved:
    """What a comparison with a golden record found.

    Args:
        grade: one of :data:`grades.GRADES`: ``exact`` if every bit is the same.
        envelopes: the largest movement of anything that decides, in envelopes.
        parameter_error: largest change of a parameter at the end.
        loss_error: largest relative change of an epoch's loss.
        predictions: how many predictions changed.
        divergence: where something moved beyond the limit, the first place that moved by more
            than one run may stray; else None.
        first_bits: the first place where bits differ, as words; None where none do.
        versions: packages whose version changed, with the old and the new one.
        surroundings: likewise what else changed: processor, system, threads, device.
        was: grade of the golden record against the reference.
        gone: the golden record's own divergence, if there is none now: its cause, or its place.
    """

    grade: str
    envelopes: float
    parameter_error: float
    loss_error: float
    predictions: int
    divergence: Finding | None
    first_bits: str | None
    versions: dict[str, list[str | None]]
    surroundings: dict[str, list[Any]]
    was: str
    gone: str | None


def compare_with_golden(
    judge: Judge,
    golden: Record,
    record: Record,
    run: Mapping[str, Any],
    surroundings: Mapping[str, Any],
) -> Moved:
    """Compare a run with its golden record."""
    limit = TWO_RUNS * judge.thresholds.envelopes
    kept, differing = golden.facts, differing_bits(judge, golden, record)
    history = record.facts["history"]
    histories = (values == list(history.get(n, ())) for n, values in kept["history"].items())
    same = trained_alike(differing) and all(histories)
    lockstep = list(stage_findings(judge, golden, record))
    steps = judge.free_running.steps
    free = [found for found in free_findings(judge, golden, record) if found.step < steps]
    if judge.free_running.informative:
        free += metric_moves(judge, golden, record)
    deciding = [*lockstep, *free]
    envelopes = max((found.envelopes for found in deciding), default=0.0)
    divergence = None
    if envelopes > limit:  # then the first place beyond what a single run may stray is to blame
        divergence = first_divergence(deciding, judge.thresholds.envelopes)
    loss_error = loss_change(golden, record)
    changed = int(np.count_nonzero(predictions(judge, golden) != predictions(judge, record)))
    error = 0.0
    for name in judge.initial:
        before = golden.arrays.get(f"final/{name}", golden.arrays.get(f"parameters/{name}"))
        assert before is not None
        error = max(error, _largest(record.arrays[f"parameters/{name}"][-1] - before[-1]))
    within = "rounding" if judge.free_running.informative else "chaotic"
    grade = "exact" if same else within
    if not same and divergence is not None:
        grade = moved_grade(judge, deciding, loss_error, changed)
    gone = None
    if (where := kept["divergence"]) and not run["divergence"]:
        gone = kept["cause"] or f"step {where['step']}, stage {where['stage']}"
    return Moved(
        grade=grade,
        envelopes=0.0 if same else envelopes,
        parameter_error=error,
        loss_error=loss_error,
        predictions=changed,
        divergence=None if same else divergence,
        first_bits=None if same else first_bits(judge, golden, differing),
        versions=changes(kept["versions"], record.facts["versions"]),
        surroundings=changes(kept["surroundings"], surroundings),
        was=kept["grade"],
        gone=gone,
    )


def moved_grade(
    judge: Judge, deciding: Sequence[Finding], loss_error: float, predictions: int
) -> str:
    """``drift`` where the outcome stayed the same, else ``disagree``."""
    thresholds = judge.thresholds
    if not judge.free_running.informative:  # outcomes differ between sound runs, too
        unsound = [found for found in deciding if found.envelopes > thresholds.envelopes]
        relative = max(found.relative(judge.plan) for found in unsound)
        return "drift" if relative <= thresholds.drift_loss else "disagree"
    if any(found.envelopes >= WORST for found in deciding):
        return "disagree"
    changed = predictions / judge.data.y_val.size
    same = loss_error <= thresholds.drift_loss and changed <= thresholds.drift_predictions
    return "drift" if same else "disagree"


def stage_findings(judge: Judge, golden: Record, record: Record) -> Iterator[Finding]:
    """Every tensor of every probed step by how far it moved: some entries, coherent parts."""
    ladder = judge.ladder
    kept = {(entry["step"], entry["tensor"]): entry for entry in golden.facts["stages"]}
    for step, stage, tensor, _, values in ladder.stages(record):
        name = spoken(tensor)
        entry = kept.pop((step, tensor), None)
        before = golden.arrays.get(f"probe/{step}/{tensor}")
        now = entries(values)
        if entry is None and ladder.may_lack(tensor):
            continue
        if entry is None or before is None or before.shape != now.shape:
            yield unequal(step, stage, name)
            continue
        parts = ladder.coherent_parts(step, tensor, values)
        moved = {name: abs(part - entry.get(name, np.inf)) for name, part in parts.items()}
        moved["largest"] = _largest(now - before)
        ratios = ladder.ratios(step, tensor, moved)
        worst = max(ratios, key=lambda name: ratios[name])
        ulps = in_ulps(judge.plan, moved["largest"], ladder.magnitude(step, tensor))
        yield Finding(step, stage, name, worst, moved[worst], ulps, min(ratios[worst], WORST))
    for (step, tensor), entry in kept.items():
        if not ladder.may_lack(tensor):
            yield Finding(step, entry["stage"], tensor, "missing", WORST, WORST, WORST)


def free_findings(judge: Judge, golden: Record, record: Record) -> Iterator[Finding]:
    """The free run by how far it moved: at each snapshot the parameters, at each step the loss."""
    envelope, plan = judge.envelope, judge.plan
    loss, loss_before = record.arrays["step_loss"], golden.arrays["step_loss"]
    held = {name: record.arrays[f"parameters/{name}"] for name in judge.initial}
    kept = {name: [*kept_of(name, values)] for name, values in held.items()}
    snapshots = {len(golden.arrays[names[0]]) for names in kept.values()}
    if len(loss) != len(loss_before) or snapshots != {len(v) for v in held.values()}:
        step = min(len(loss), len(loss_before))
        yield unequal(step, "data", "number of steps")
        return
    parts: dict[str, Array] = {"step_loss": loss}
    bounds: dict[str, Any] = {"step_loss": envelope.loss}
    for name, values in held.items():
        of = envelope.parameters[name]
        parts |= kept_of(name, values)
        bounds |= {part: of[-1] if part.startswith("final/") else of for part in kept[name]}
    bounds = {part: bound for part, bound in bounds.items() if not part.startswith("projections/")}
    found = moves(golden.arrays, parts, bounds)
    (s,) = snapshots
    for i, updates in enumerate(judge.points[:s]):
        for name in held:
            error = moved_at(i, name, golden, parts, found)
            scale = float(np.abs(judge.oracle.parameters[name][i]).max())
            ratio = min(error / float(envelope.parameters[name][i]), WORST)
            yield off(plan, updates - 1, f"{name}, carried over steps", error, scale, ratio)
    steps = judge.free_running.steps
    errors, ratios = found["step_loss"].errors[:steps], found["step_loss"].envelopes[:steps]
    if not len(errors):
        return
    outside = np.flatnonzero(ratios > TWO_RUNS * judge.thresholds.envelopes)
    step = int(outside[0]) if len(outside) else int(ratios.argmax())
    error, ratio = float(errors[step]), min(float(ratios[step]), WORST)
    yield off(plan, step, "loss", error, float(judge.oracle.step_loss[step]), ratio)


def moved_at(
    i: int, name: str, golden: Record, parts: Mapping[str, Array], found: Mapping[str, Move]
) -> float:
    """How far a parameter moved at a snapshot: by what is kept of it."""
    if f"parameters/{name}" in found:
        return float(found[f"parameters/{name}"].errors[i])
    rows, last = found[f"rows/{name}"].errors, found[f"final/{name}"].errors[0]
    squares = (parts[f"projections/{name}"][i] - golden.arrays[f"projections/{name}"][i]) ** 2
    rms = np.sqrt(squares.mean() / len(parts[f"final/{name}"][0]))
    return float(max(rows[i], rms, last if i == len(rows) - 1 else 0.0))


def metric_moves(judge: Judge, golden: Record, record: Record) -> Iterator[Finding]:
    """Every metric of every epoch by how far it moved, at its farthest epoch."""
    plan, limit = judge.plan, TWO_RUNS * judge.thresholds.envelopes
    histories = [each.facts["history"] for each in (record, golden)]
    for name in histories[1]:
        now, before = (np.array(history[name]) for history in histories)
        errors = np.abs(now - before)
        ratios = judge.metric_ratios(name, errors, limit)
        epoch = int(ratios.argmax())
        step = (epoch + 1) * plan.steps_per_epoch - 1
        error, bound = float(errors[epoch]), float(ratios[epoch])
        yield finding(plan, step, name, error, error / bound if bound else 1.0)


def first_bits(judge: Judge, golden: Record, differing: Sequence[str]) -> str:
    """Where the first bits differ: of the probed steps, else of the free run."""
    # Before some steps the reference itself may round otherwise on this machine.
    before, now = golden.facts["states_sha256"], state_digests(judge)
    others = tuple(f"{step}, " for step in now if before.get(step) != now[step])
    first = next((name for name in differing if not name.startswith(others)), REPORTED)
    return REPORTED if first in TRAINED else first


def loss_change(before: Record, now: Record) -> float:
    """Largest relative change of an epoch's training or validation loss, or metric of a file."""
    pairs = [
        [np.array(record.facts["history"][name]) for record in (before, now)]
        for name in before.facts["history"]
        if not name.endswith("accuracy")
    ]
    return max(
        float((np.abs(new - old) / np.maximum(np.abs(old), 1e-12)).max()) for old, new in pairs
    )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What two mappings differ in, with the old and the new value."""
    names = [*before, *(name for name in now if name not in before)]
    return {n: [before.get(n), now.get(n)] for n in names if before.get(n) != now.get(n)}


def worst_grade(grades: Sequence[str]) -> str:
    """The worst of some grades; ``exact`` of none."""
    return max(grades, key=GRADES.index, default="exact")


def _largest(values: Array) -> float:
    return float(np.abs(values).max())
