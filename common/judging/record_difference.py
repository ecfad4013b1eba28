"""Two records of one plan beside each other: whose bits differ, first where, and by how much.

What a golden record keeps, another release, a repeated training, two backends and a fault changed:
all of it is compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array, hash_arrays, largest_in_each
from framework_parity.common.judging.judge import Judge
from framework_parity.common.judging.ladder import spoken
from framework_parity.common.reference.replay import WORST
from framework_parity.common.training.record import Record

Floats = npt.NDArray[np.float64]

FED = "what training was fed"
REPORTED = "losses or predictions as reported"
TRAINED = ("step_loss", "step_accuracy", "val_y_hat")
"""Arrays of a record whose bits count, beside the parameters."""


@dataclass(frozen=True)
class Move:
    """How far an array is from the same array of another record.

    Args:
        errors: the largest difference in each slice along the first axis.
        envelopes: the same in rounding envelopes.
    """

    errors: Floats
    envelopes: Floats


def moves(
    one: Mapping[str, Array], other: Mapping[str, Array], bounds: Mapping[str, Any]
) -> dict[str, Move]:
    """How far the named arrays of two records are apart, as far as both go.

    A bound is the envelope of each slice along the first axis, or one of all.
    """
    found = {}
    for name, bound in bounds.items():
        s = min(len(one[name]), len(other[name]))
        errors = largest_in_each(one[name][:s].astype(np.float64) - other[name][:s])
        found[name] = Move(errors, errors / np.atleast_1d(bound)[:s])
    return found


def parameter_moves(judge: Judge, one: Record, other: Record) -> Move:
    """How far the parameters of two records are apart at each snapshot: the farthest of them."""
    bounds = {f"parameters/{name}": judge.envelope.parameters[name] for name in judge.initial}
    found = moves(one.arrays, other.arrays, bounds).values()
    return Move(
        np.max([move.errors for move in found], axis=0),
        np.max([move.envelopes for move in found], axis=0),
    )


def bits_of(judge: Judge, record: Record) -> dict[str, str]:
    """Digests of all that a training gave, by where they are, in the order of computing.

    A golden record keeps them.
    """
    if "sha256" in record.facts:
        return dict(record.facts["sha256"])
    found = {FED: str(record.facts["fed_sha256"])}
    for step, stage, tensor, array, _ in judge.ladder.stages(record):
        found[f"step {step}, stage {stage}, {spoken(tensor)}"] = hash_arrays({"": array})
    parameters, last = record.parameters(), 0
    for i, step in enumerate(record.arrays["snapshots"]):
        kept = {name: parameters[name][i] for name in sorted(parameters)}
        found[f"the parameters between updates {last} and {step}"] = hash_arrays(kept)
        last = step
    held = [name for name in TRAINED if name in record.arrays]  # numbers have no accuracy
    return found | {name: hash_arrays({name: record.arrays[name]}) for name in held}


def predictions(judge: Judge, record: Record) -> Array:
    """The class of each validation example, where there are any; a golden record keeps it."""
    if "predicted" in record.arrays:
        return record.arrays["predicted"]
    is_of_classes = judge.data.has_classes
    return record.arrays["val_y_hat"].argmax(axis=-1).ravel() if is_of_classes else np.empty(0)


def differing_bits(judge: Judge, one: Record, other: Record) -> list[str]:
    """Where the bits of two records differ, in the order of computing."""
    before, now = bits_of(judge, one), bits_of(judge, other)
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def trained_alike(differing: list[str]) -> bool:
    """Whether only probed steps differ, hence nothing that a training gave."""
    return all(name.startswith("step ") for name in differing)


def first_difference(judge: Judge, old: Record, new: Record) -> dict[str, Any] | None:
    """The first tensor, in the ladder's order, that two records do not hold bit for bit alike.

    Both computed each probed step from the same state, so what differs first is the cause of all
    that differs after it in that step.
    """
    stages = [
        {(step, tensor): (stage, values) for step, stage, tensor, _, values in found}
        for found in (judge.ladder.stages(old), judge.ladder.stages(new))
    ]
    for step, tensor in dict.fromkeys([*stages[0], *stages[1]]):
        (stage, older), (other, newer) = (f.get((step, tensor), ("", None)) for f in stages)
        if older is None or newer is None:
            if judge.ladder.may_lack(tensor):
                continue
            error = ratio = WORST
        elif np.array_equal(older, newer):
            continue
        else:
            error = float(np.abs(newer.astype(np.float64) - older).max())
            (ratio,) = judge.ladder.ratios(step, tensor, {"largest": error}).values()
        facts = {"step": step, "stage": stage or other, "tensor": spoken(tensor)}
        return facts | {"error": error, "envelopes": min(ratio, WORST)}
    return None
