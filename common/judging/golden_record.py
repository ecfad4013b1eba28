"""Golden records: what is kept of one run so that a later one can be compared with it.

Small enough to commit, and enough to tell "the same bits" from "moved by so many envelopes", and
where: digests of everything that training gave; every loss; of each parameter at every snapshot a
vector, or some rows of a matrix and some projections of all of it; all of it at the end; and of
each probed step the stages' digests, coherent parts and some entries. Every number is exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array, hash_arrays
from framework_parity.common.judging.judge import Judge
from framework_parity.common.judging.record_difference import bits_of, predictions
from framework_parity.common.training.record import Record

Floats = npt.NDArray[np.float64]

SAMPLED_ROWS = 8
"""Of the weights at each snapshot; spread evenly over the features."""

SAMPLED_ENTRIES = 16
"""Of each tensor of a probed step; spread evenly."""

PROJECTIONS = 4
"""Sums of all weights of a class with other signs: each sees a change wherever it is."""


def sampled(size: int, most: int) -> npt.NDArray[np.intp]:
    """So many indices, spread evenly over a size."""
    return np.unique(np.linspace(0, size - 1, min(size, most)).astype(np.intp))


def projections(values: Array) -> Floats:
    """Sums over the features with signs of a fixed sequence.

    Args:
        values: shape ``(s, num_inputs, num_outputs)``.

    Returns:
        float64, shape ``(s, PROJECTIONS, num_outputs)``. The mean square of a difference's
        projections is, on average, the sum of its squares.
    """
    size = values.shape[1]
    drawn = hashlib.shake_256(b"projections").digest(-(-PROJECTIONS * size // 8))
    bits = np.unpackbits(np.frombuffer(drawn, np.uint8))[: PROJECTIONS * size]
    signs = 1.0 - 2.0 * bits.reshape(PROJECTIONS, size)
    return np.asarray(signs @ values.astype(np.float64))


def rows_of(values: Array) -> Array:
    """A parameter at its snapshots, shape ``(s, …)``, as rows: ``(s, first axis, all others)``."""
    return values.reshape(*values.shape[:2], -1)


def state_digests(judge: Judge) -> dict[str, str]:
    """Digests of the states before the probed steps: from others, other bits follow."""
    before = judge.ladder.before
    return {f"step {step}": hash_arrays(dict(before(step))) for step in judge.ladder.steps}


def golden_record(
    judge: Judge, record: Record, run: Mapping[str, Any], surroundings: Mapping[str, Any]
) -> Record:
    """What is kept of one run: a record of some of its facts and arrays."""
    stages, cause = list(judge.ladder.stages(record)), run["cause"]
    held = {name: record.arrays[f"parameters/{name}"] for name in judge.initial}
    facts = {
        **{name: run[name] for name in ("backend", "implementation", "version", "versions")},
        "grade": "rounding" if run["grade"] == "exact" else run["grade"],
        "envelopes": run["envelopes"],
        "divergence": run["divergence"],
        "cause": cause and cause["sentence"],
        "surroundings": dict(surroundings),
        "history": {name: list(of) for name, of in record.facts["history"].items()},
        "parameters": {name: list(values.shape[1:]) for name, values in held.items()},
        "sha256": bits_of(judge, record),
        "states_sha256": state_digests(judge),
        "stages": [
            {"step": step, "stage": stage, "tensor": tensor}
            | judge.ladder.coherent_parts(step, tensor, values)
            for step, stage, tensor, _, values in stages
        ],
    }
    arrays = {
        "step_loss": record.arrays["step_loss"],
        "predicted": predictions(judge, record).astype(np.min_scalar_type(judge.data.num_outputs)),
        **{f"probe/{step}/{name}": entries(values) for step, _, name, _, values in stages},
    }
    for name, values in held.items():
        arrays |= kept_of(name, values)
    return Record(facts, arrays)


def kept_of(name: str, values: Array) -> dict[str, Array]:
    """What is kept of a parameter, shape ``(s, …)``: a vector, or parts of what has more axes."""
    if values.ndim == 2:
        return {f"parameters/{name}": values}
    rows = rows_of(values)
    return {
        f"rows/{name}": rows[:, sampled(rows.shape[1], SAMPLED_ROWS)],
        f"projections/{name}": projections(rows),
        f"final/{name}": values[-1:],
    }


def entries(values: Array) -> Array:
    """Some entries of a tensor, spread evenly."""
    flat = np.ravel(values)
    return np.asarray(flat[sampled(len(flat), SAMPLED_ENTRIES)])
