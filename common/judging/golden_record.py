"""Golden records: what is kept of one run so that a later one can be compared with it.

Small enough to commit, and enough to tell "the same bits" from "moved by so many envelopes", and
where: digests of everything that training gave; every loss; the biases, some rows of the weights
and some projections of all of them at every snapshot; the weights themselves at the end; and of
each probed step the stages' digests, coherent parts and some entries. Every number is exact.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.judge import Judge
from framework_parity.common.judging.ladder import TENSORS
from framework_parity.common.training.record import HISTORY, Record

Floats = npt.NDArray[np.float64]

SAMPLED_ROWS = 8
"""Of the weights at each snapshot; spread evenly over the features."""

SAMPLED_ENTRIES = 16
"""Of each tensor of a probed step; spread evenly."""

PROJECTIONS = 4
"""Sums of all weights of a class with other signs: each sees a change wherever it is."""

TRAINED = ("step_loss", "step_accuracy", "val_y_hat")
"""Arrays of a record whose bits count, beside the parameters."""


# Arrays in JSON


def encode(array: Array) -> dict[str, Any]:
    """An array as a JSON object, exactly; float64 that float32 holds takes half the room.

    A program that is not ours may record other types: float64 holds those all.
    """
    array = np.ascontiguousarray(array)
    if array.dtype != np.float32:
        array = array.astype(np.float64)
        with np.errstate(over="ignore"):
            narrow = array.astype(np.float32)
        array = narrow if np.array_equal(narrow, array) else array
    array = array.astype(array.dtype.newbyteorder("<"))
    content = base64.b64encode(array.tobytes()).decode("ascii")
    return {"dtype": array.dtype.str, "shape": list(array.shape), "base64": content}


def decode(facts: Any) -> Floats:
    """The array that :func:`encode` wrote, in float64.

    Raises:
        ValueError: if it is none, or holds numbers that are not finite.
    """
    try:
        kind, shape = facts["dtype"], tuple(facts["shape"])
        if kind not in ("<f4", "<f8"):
            raise ValueError(f"dtype {kind!r}")
        content = base64.b64decode(facts["base64"], validate=True)
        array = np.frombuffer(content, kind).reshape(shape).astype(np.float64)
    except (TypeError, KeyError, binascii.Error) as error:
        raise ValueError(f"no array: {error!r}") from None
    if not np.isfinite(array).all():
        raise ValueError("numbers that are not finite")
    return array


def digest(array: Array) -> str:
    """SHA-256 over type, shape and bytes of an array."""
    array = np.ascontiguousarray(array)
    array = array.astype(array.dtype.newbyteorder("<"))
    found = hashlib.sha256(f"{array.dtype.str}:{array.shape};".encode())
    found.update(array.tobytes())
    return found.hexdigest()


# What is kept


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


def stages_of(judge: Judge, record: Record) -> Iterator[tuple[int, str, str, str, Array]]:
    """The probed steps of a record, stage by stage, as they are kept.

    Yields:
        step, stage, tensor, digest, and the values; an update's as the change of its parameter.
        Tensors that are missing, or have another shape than they should, are left out.
    """
    for step in judge.plan.probes:
        probe = judge.ladder.probe(record, step)
        for name, stage in TENSORS.items():
            key = f"forward/{record.facts['y_hat']}" if stage == "forward" else name
            values = probe.get(key)
            if values is None or values.shape != judge.ladder.exact[step][key].shape:
                continue
            yield step, stage, key, digest(record.arrays[f"probe/{step}/{name}"]), values


def state_digests(judge: Judge) -> dict[str, str]:
    """Digests of the states before the probed steps: from others, other bits follow."""
    oracle = judge.oracle
    return {
        str(step): hashlib.sha256(
            (digest(oracle.probe_W[i]) + digest(oracle.probe_b[i])).encode()
        ).hexdigest()
        for i, step in enumerate(judge.plan.probes)
    }


def bits_of(record: Record) -> dict[str, str]:
    """Digests of everything that a training gave, but for its parameters."""
    return {name: digest(record.arrays[name]) for name in TRAINED}


def snapshot_bits(record: Record) -> dict[str, str]:
    """The digest of all parameters at each snapshot, by its number of updates."""
    parameters = record.parameters()
    return {
        str(int(step)): hashlib.sha256(
            "".join(digest(parameters[name][i]) for name in sorted(parameters)).encode()
        ).hexdigest()
        for i, step in enumerate(record.arrays["snapshots"])
    }


def exceptional_predictions(judge: Judge, record: Record) -> dict[str, int]:
    """Predictions that are not those of the final parameters in float64: ties and their like."""
    W, b = (record.arrays[f"parameters/{name}"][-1].astype(np.float64) for name in "Wb")
    expected = (judge.validation @ W + b).argmax(axis=1)
    predicted = record.arrays["val_y_hat"].argmax(axis=1)
    return {str(i): int(predicted[i]) for i in np.flatnonzero(predicted != expected)}


def golden_record(judge: Judge, record: Record, run: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of one run: a JSON object.

    Args:
        judge: of its plan.
        record: what its worker left.
        run: its row of the report.
    """
    W, b = record.arrays["parameters/W"], record.arrays["parameters/b"]
    cause = run["cause"]
    return {
        **{name: run[name] for name in ("backend", "implementation", "version", "versions")},
        "grade": "rounding" if run["grade"] == "exact" else run["grade"],
        "envelopes": run["envelopes"],
        "divergence": run["divergence"],
        "cause": cause and cause["sentence"],
        **{name: list(run[name]) for name in HISTORY},
        "fed_sha256": run["fed_sha256"],
        "sha256": bits_of(record),
        "snapshots_sha256": snapshot_bits(record),
        "states_sha256": state_digests(judge),
        "step_loss": encode(record.arrays["step_loss"]),
        "b": encode(b),
        "rows": encode(W[:, sampled(W.shape[1], SAMPLED_ROWS)]),
        "projections": encode(projections(W)),
        "final_W": encode(W[-1]),
        "exceptional_predictions": exceptional_predictions(judge, record),
        "stages": [
            {
                "step": step,
                "stage": stage,
                "tensor": tensor,
                "sha256": bits,
                **judge.ladder.coherent_parts(step, tensor, values),
                "entries": encode(entries(values)),
            }
            for step, stage, tensor, bits, values in stages_of(judge, record)
        ],
    }


def entries(values: Array) -> Array:
    """Some entries of a tensor, spread evenly."""
    flat = np.ravel(values)
    return np.asarray(flat[sampled(len(flat), SAMPLED_ENTRIES)])
