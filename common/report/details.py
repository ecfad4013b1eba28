"""What is drawn of a comparison and not in its ``report.json``: read from the folder's records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from framework_parity.common.core.arrays import Array, largest_in_each
from framework_parity.common.core.errors import ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.processes import ENVELOPE, REFERENCE, Contender
from framework_parity.common.judging.record_difference import moves
from framework_parity.common.reference.replay import Floats, Trajectory
from framework_parity.common.report.wording import run_name
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError

Ints = npt.NDArray[np.int64]

CURVE_POINTS = 160
"""A curve over steps is thinned out to about so many points."""


@dataclass(frozen=True)
class RunDetails:
    """One finished run, against the reference.

    Args:
        loss_error: of each step's loss, shape ``(steps made,)``.
        W_error: largest error of a weight at each snapshot, shape ``(s,)``.
        b_error: likewise of a bias.
        W: final weights, shape ``(num_inputs, num_outputs)``.
        b: final biases, shape ``(num_outputs,)``.
        predicted: class of each validation example, shape ``(num_val,)``.
    """

    loss_error: Floats
    W_error: Floats
    b_error: Floats
    W: Floats
    b: Floats
    predicted: Ints


@dataclass(frozen=True)
class Difference:
    """A validation example that not all runs and the reference classify alike.

    Args:
        example: its row.
        label: its class.
        reference: what the reference says.
        runs: what the runs say that say otherwise, by name.
        margin: the reference's logit of its class less that of the others' (the largest, if they
            say several).
        explained: whether the error of the logits covers every one of them; None if the report
            does not list all.
    """

    example: int
    label: int
    reference: int
    runs: dict[str, int]
    margin: float
    explained: bool | None

    @property
    def groups(self) -> dict[int, list[str]]:
        """The runs by what they say."""
        found: dict[int, list[str]] = {}
        for name, said in self.runs.items():
            found.setdefault(said, []).append(name)
        return found


@dataclass(frozen=True)
class Details:
    """Everything that is drawn from plan, reference, ensemble and records.

    Args:
        plan: what was trained.
        labels: the text of each class.
        y_val: class of each validation example, or None where the data set is gone.
        images: the data set, if it is there and has images.
        oracle: the reference.
        loss_envelope: rounding of each step's loss, shape ``(num_steps,)``.
        W_envelope: of the weights at each snapshot, shape ``(s,)``.
        b_envelope: likewise of the biases.
        runs: each run whose record is there, by name.
        missing: what could not be read, a line each.
        differences: the examples on which runs differ, the widest margin first.
    """

    plan: Plan
    labels: tuple[str, ...]
    y_val: Ints | None
    images: DataModule | None
    oracle: Trajectory
    loss_envelope: Floats
    W_envelope: Floats
    b_envelope: Floats
    runs: dict[str, RunDetails]
    missing: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def predicted(self) -> Ints:
        """The reference's class of each validation example."""
        return np.asarray(self.oracle.val_logits.argmax(axis=1))

    def confusion(self, predicted: Ints) -> Ints:
        """Counts of validation examples by true class (rows) and predicted class (columns)."""
        assert self.y_val is not None
        classes = len(self.labels)
        counts = np.bincount(self.y_val * classes + predicted, minlength=classes**2)
        return np.asarray(counts.reshape(classes, classes), dtype=np.int64)

    def wrong(self, predicted: Ints) -> Ints:
        """Rows of the wrongly classified validation examples.

        Those that the reference is surest of being something else come first.
        """
        assert self.y_val is not None
        rows = np.flatnonzero(predicted != self.y_val)
        logits = self.oracle.val_logits
        margins = logits[rows, predicted[rows]] - logits[rows, self.y_val[rows]]
        return np.asarray(rows[np.argsort(-margins, kind="stable")])

    def pair(self, one: str | None, other: str | None) -> tuple[float, int]:
        """How far two runs are apart at the end; None is the reference.

        Returns:
            The largest difference of a parameter in rounding envelopes, and how many validation
            examples they classify differently.
        """
        (W, b, y), (V, c, z) = (self._end(name) for name in (one, other))
        bounds = {"W": self.W_envelope[-1], "b": self.b_envelope[-1]}
        found = moves({"W": W[None], "b": b[None]}, {"W": V[None], "b": c[None]}, bounds)
        apart = max(float(move.envelopes[0]) for move in found.values())
        return apart, int(np.count_nonzero(y != z))

    def _end(self, name: str | None) -> tuple[Array, Array, Array]:
        if name is None:
            exact = self.oracle.parameters
            return exact["W"][-1], exact["b"][-1], self.predicted
        run = self.runs[name]
        return run.W, run.b, run.predicted


def load_details(folder: Path, runs: Sequence[dict[str, Any]]) -> Details:
    """Read what a comparison left in its folder.

    Raises:
        ParityError: if plan, reference or envelope are gone. A run whose record is gone, and a
            data set that is, are named in ``missing`` instead.
    """
    plan = Plan.load(folder / "plan")
    path = folder / "reference" / REFERENCE
    with _left(path):
        oracle = Trajectory.load(path)
    path = path.with_name(f"{ENVELOPE}.npz")
    with _left(path), np.load(path, allow_pickle=False) as archive:
        keys = {"loss": "loss", "W": "parameters/W", "b": "parameters/b"}
        envelope = {f"{name}_envelope": archive[key] for name, key in keys.items()}
    missing: list[str] = []
    found: dict[str, RunDetails] = {}
    for run in runs:
        if run["status"] != "done":
            continue
        try:
            named = {"version": run["version"], "asked": run.get("asked_version")}
            environment = Environment(run["backend"], None, **named)
            contender = Contender(environment, run["implementation"])
            record = contender.read(folder / "runs" / contender.name, plan.sha256)
            found[run_name(run)] = _run(record, oracle)
        except (RecordError, KeyError, ValueError) as error:
            missing.append(f"{run_name(run)}: its record cannot be drawn: {error}")
    data = None
    try:
        data = plan.data()
    except ParityError as error:
        missing.append(str(error))
    y_val = None if data is None else np.asarray(data.y_val, dtype=np.int64)
    classes = range(plan.W.shape[1])
    return Details(
        plan=plan,
        labels=tuple(map(str, classes) if data is None else data.text_labels(classes)),
        y_val=y_val,
        images=data if data is not None and data.image_shape else None,
        oracle=oracle,
        **envelope,
        runs=found,
        missing=tuple(missing),
        differences=() if y_val is None else _differences(found, runs, oracle, y_val),
    )


def thinned(values: Floats, points: int = CURVE_POINTS) -> tuple[Ints, Floats]:
    """A curve over steps as the largest value of each of evenly spaced parts of a log axis.

    Args:
        values: one for each step, shape ``(n,)``.
        points: about how many are kept.

    Returns:
        The last step of each part, counted from 1, and the largest value in it; all steps if
        there are no more than ``points``.
    """
    edges = np.unique(np.geomspace(1, len(values), points).round().astype(int))
    if len(values) <= points:
        edges = np.arange(1, len(values) + 1)
    parts = pairwise([0, *edges.tolist()])
    return edges, np.array([values[start:end].max() for start, end in parts])


@contextmanager
def _left(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, KeyError, ValueError, TypeError, BadZipFile, RecordError) as error:
        raise ParityError(
            path, "what the comparison left there", error, "run the comparison again"
        ) from None


def _run(record: Record, oracle: Trajectory) -> RunDetails:
    losses = record.arrays["step_loss"]
    steps = min(len(losses), len(oracle.step_loss))
    W, b = record.arrays["parameters/W"], record.arrays["parameters/b"]
    s = len(W)
    return RunDetails(
        loss_error=np.abs(losses[:steps] - oracle.step_loss[:steps]),
        W_error=largest_in_each(W - oracle.parameters["W"][:s]),
        b_error=largest_in_each(b - oracle.parameters["b"][:s]),
        W=W[-1].astype(np.float64),
        b=b[-1].astype(np.float64),
        predicted=record.arrays["val_y_hat"].argmax(axis=1),
    )


def _differences(
    found: dict[str, RunDetails],
    runs: Sequence[dict[str, Any]],
    oracle: Trajectory,
    y_val: Ints,
) -> tuple[Difference, ...]:
    expected = np.asarray(oracle.val_logits.argmax(axis=1))
    explained = {
        (run_name(run), flip["example"]): flip["explained"]
        for run in runs
        for flip in run["flips"] or ()
    }
    others: dict[int, dict[str, int]] = {}
    for name, run in found.items():
        for i in np.flatnonzero(run.predicted != expected).tolist():
            others.setdefault(i, {})[name] = int(run.predicted[i])
    differences = []
    for i, said in others.items():
        logits = oracle.val_logits[i]
        answers = [explained.get((name, i)) for name in said]
        differences.append(
            Difference(
                example=i,
                label=int(y_val[i]),
                reference=int(expected[i]),
                runs=said,
                margin=max(float(logits[expected[i]] - logits[other]) for other in said.values()),
                explained=None if None in answers else all(answers),
            )
        )
    return tuple(sorted(differences, key=lambda difference: -difference.margin))
