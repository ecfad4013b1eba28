"""The float64 reference of a plan, or a member of its ensemble, as a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framework_parity.common.reference import ensemble
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.worker.worker import Worker


def reference(worker: Worker, plan: Path, member: int | None = None) -> Record:
    """Train in NumPy: the reference, or that member of the ensemble; its trajectory."""
    loaded = Plan.load(plan)
    data = loaded.data()
    if member is None:
        training = ensemble.reference(loaded, data)
    else:
        training = ensemble.member(loaded, data, member)

    def tell(epoch: int) -> None:
        worker.say("training", epoch=epoch, max_epochs=loaded.recipe.max_epochs)

    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return training.run(tell).record()
