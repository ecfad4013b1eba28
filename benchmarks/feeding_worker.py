"""One row of :mod:`benchmarks.feeding_cost`: epochs with and without watching what is fed.

Needs NumPy and the standard library only. Prints processor seconds as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np

from framework_parity.common.core.child_process import claim_stdout
from framework_parity.common.core.device import asked_device
from framework_parity.common.training.plan import Plan
from framework_parity.common.worker.train import build_model


def measure(backend_name: str, implementation: str, plan: Plan, epochs: int) -> list[list[float]]:
    """Processor seconds of each epoch, without and with the projection."""
    backend = importlib.import_module(f"framework_parity.backends.{backend_name}")
    backend.Trainer.use_device(asked_device())
    order, trainers = np.array(plan.order[0]), []
    for watched in (False, True):
        data = plan.data()
        trainer = backend.Trainer(1)
        if watched:
            trainer.watched = plan.direction
        model = build_model(backend, implementation, plan, data)
        given = {"orders": [order], "parameters": plan.parameters, "dtype": plan.recipe.dtype}
        trainer.fit(model, data, **given)
        trainers.append(trainer)
    seconds: list[list[float]] = [[], []]
    for turn in range(epochs):
        for i in (0, 1) if turn % 2 else (1, 0):
            trainers[i].fed = []
            started = time.process_time()
            trainers[i].fit_epoch(order)
            seconds[i].append(time.process_time() - started)
    return seconds


if __name__ == "__main__":
    out = claim_stdout()
    name, implementation, plan, epochs = sys.argv[1:]
    seconds = measure(name, implementation, Plan.load(Path(plan)), int(epochs))
    print(json.dumps(seconds), file=out)
