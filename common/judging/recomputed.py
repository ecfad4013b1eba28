"""What the parameters of a run give in float64, beside what the run reported of itself.

The framework of the reference computes it, of every run and of every member of the ensemble alike;
how far the members' own numbers are from that is the rounding of a forward pass and of a metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.judging.ladder import EXAMPLE, Finding, count_borderline
from framework_parity.common.judging.metrics import finding
from framework_parity.common.reference.ensemble import LEAST
from framework_parity.common.reference.replay import Floats
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record

PREFIX = "recomputed/"


def with_recomputed(record: Record, found: Mapping[str, Array]) -> Record:
    """A run's record, and with it what its parameters give; nothing of that if nothing is known."""
    own = {name: array for name, array in record.arrays.items() if not name.startswith(PREFIX)}
    return replace(record, arrays=own | {f"{PREFIX}{name}": a for name, a in found.items()})


def scores_of(record: Record) -> Floats:
    """What ``forward`` gives at the end: from the parameters in float64, else as reported."""
    reported = record.arrays["val_y_hat"]
    return np.asarray(record.arrays.get(f"{PREFIX}scores", reported), np.float64)


def is_recomputed(record: Record) -> bool:
    """Whether it is known what the parameters of a run give."""
    return f"{PREFIX}scores" in record.arrays


@dataclass(frozen=True)
class ForwardRounding:
    """How far the members' own numbers are from what their parameters give.

    Args:
        scores: of what ``forward`` gives for a validation example.
        loss: of a mean validation loss.
    """

    scores: float
    loss: float

    @classmethod
    def measure(cls, plan: Plan, members: Sequence[Record]) -> ForwardRounding | None:
        """That of an ensemble; None if nothing is known of it."""
        unit, known = plan.recipe.unit, [each for each in members if is_recomputed(each)]
        if not known:
            return None
        exact = [scores_of(each) for each in known]
        largest = max(float(np.abs(each).max()) for each in exact)
        errors = [
            float(np.abs(record.arrays["val_y_hat"] - each).max())
            for record, each in zip(known, exact, strict=True)
        ]
        forward = max(unit * max(largest, LEAST), *errors)
        losses = [float(np.abs(loss_errors(record)).max()) for record in known]
        size = max(1.0, *(float(np.abs(r.arrays[f"{PREFIX}losses"]).max()) for r in known))
        # Scores of n examples that round independently: their mean loss by a √n-th of it.
        return cls(forward, max(unit * size, forward / np.sqrt(len(exact[0])), *losses))

    def findings(
        self, plan: Plan, record: Record, has_classes: bool, each: int
    ) -> Iterator[Finding]:
        """What a run reported of itself against what its parameters give.

        ``each``: how many predictions an example has.
        """
        epochs, unit = record.arrays[f"{PREFIX}epochs"].tolist(), plan.recipe.unit
        for epoch, error in zip(epochs, loss_errors(record).tolist(), strict=True):
            step = epoch * plan.steps_per_epoch - 1
            yield finding(plan, step, "val_loss", abs(error), self.loss)
        exact, last = scores_of(record), plan.num_steps - 1
        if has_classes and exact.ndim > 1:
            size = len(exact) * each
            reported = record.facts["history"]["val_accuracy"][-1]
            error = abs(reported - float(record.arrays[f"{PREFIX}accuracies"][-1]))
            near = count_borderline(exact.reshape(size, -1), self.scores, "logits", unit)
            yield finding(plan, last, "val_accuracy", max(error - near / size, 0.0), EXAMPLE / size)
        error = float(np.abs(record.arrays["val_y_hat"] - exact).max())
        yield finding(plan, last, "val_y_hat", error, self.scores)


def loss_errors(record: Record) -> Floats:
    """How far each reported validation loss is from that of the parameters."""
    epochs = record.arrays[f"{PREFIX}epochs"].tolist()
    reported = np.array([record.facts["history"]["val_loss"][epoch - 1] for epoch in epochs])
    return np.asarray(reported - record.arrays[f"{PREFIX}losses"])
