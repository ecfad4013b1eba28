"""Golden records: what is kept of one run so that a later one can be compared with it.

Small enough to commit, and enough to tell "the same bits" from "moved by so many envelopes", and
where: digests of everything that training gave; every loss; the biases, some rows of the weights
and some projections of all of them at every snapshot; the weights themselves at the end; and of
each probed step the stages' digests, coherent parts and some entries. Every number is exact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array, hash_arrays
from framework_parity.common.judging.record_difference import (
    bits_of,
    predictions,
    stages_of,
)
from framework_parity.common.judging.softmax_judge import SoftmaxJudge
from framework_parity.common.training.record import HISTORY, Record

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


def state_digests(judge: SoftmaxJudge) -> dict[str, str]:
    """Digests of the states before the probed steps: from others, other bits follow."""
    oracle = judge.oracle
    return {
        f"step {step}": hash_arrays(oracle.before(i)) for i, step in enumerate(judge.plan.probes)
    }


def golden_record(
    judge: SoftmaxJudge, record: Record, run: Mapping[str, Any], surroundings: Mapping[str, Any]
) -> Record:
    """What is kept of one run: a record of some of its facts and arrays."""
    W, stages = record.arrays["parameters/W"], list(stages_of(judge, record))
    cause, classes = run["cause"], W.shape[2]
    facts = {
        **{name: run[name] for name in ("backend", "implementation", "version", "versions")},
        "grade": "rounding" if run["grade"] == "exact" else run["grade"],
        "envelopes": run["envelopes"],
        "divergence": run["divergence"],
        "cause": cause and cause["sentence"],
        "surroundings": dict(surroundings),
        "history": {name: list(run[name]) for name in HISTORY},
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
        "parameters/b": record.arrays["parameters/b"],
        "rows": W[:, sampled(W.shape[1], SAMPLED_ROWS)],
        "projections": projections(W),
        "final/W": W[-1:],
        "predicted": predictions(record).astype(np.min_scalar_type(classes)),
        **{f"probe/{step}/{name}": entries(values) for step, _, name, _, values in stages},
    }
    return Record(facts, arrays)


def entries(values: Array) -> Array:
    """Some entries of a tensor, spread evenly."""
    flat = np.ravel(values)
    return np.asarray(flat[sampled(len(flat), SAMPLED_ENTRIES)])
