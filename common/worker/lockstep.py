"""Lock-step, the worker's half: from the reference's own states the backend computes one step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.reference.replay import Rows, Trajectory, difference
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.trainer import Trainer

POLL_SECONDS = 0.02


def wait_for(record: Path) -> Path:
    """Where the reference's record is, once its process has left it there.

    Does not give up: the launcher ends a worker whose time is spent, or whose reference failed.
    """
    while not record.exists():
        time.sleep(POLL_SECONDS)
    return record


def probe_steps(
    trainer: Trainer, plan: Plan, orders: Sequence[Rows], reference: Trajectory
) -> dict[str, Array]:
    """Compute the plan's probed steps from the reference's states, by training's own code.

    Args:
        trainer: after its fit.
        plan: says which steps; its data are what every batch should be.
        orders: those that training was given.
        reference: holds the states.

    Returns:
        ``probe/STEP/KEY`` for the keys of :meth:`Trainer.probe`, but for the features: of these
        ``data/X_error``, the largest difference from the plan's batch, and for step 0 also
        ``data/X`` itself. Where training had no such batch, ``data/missing`` alone.
    """
    data = plan.data()
    found: dict[str, Array] = {}
    for i, step in enumerate(plan.probes):
        rows, planned = plan.rows(step, orders), plan.rows(step)
        if not len(rows):
            found[f"probe/{step}/data/missing"] = np.array(1)
            continue
        X, y = trainer.batch(rows)
        arrays = trainer.probe(reference.before(i), X, y)
        X = arrays.pop("data/X")
        y = np.asarray(data.y_train[planned], np.int64)
        arrays["data/X_error"] = np.array(difference(X, data.scale(data.stored_rows(planned))))
        arrays["data/y_error"] = np.array(difference(arrays["data/y"], y))
        if step == 0:
            arrays["data/X"] = X
        found |= {f"probe/{step}/{name}": array for name, array in arrays.items()}
    return found
