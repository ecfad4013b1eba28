"""Whether a record has the arrays and facts of its plan: before that nothing of it is judged."""

from __future__ import annotations

import numpy as np

from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.feeding import check_feeding
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import KNOWN, Record, RecordError


def check_record(plan: Plan, data: DataModule, record: Record) -> None:
    """Raise RecordError unless the record has the arrays of this plan.

    A run may have made fewer or more steps than the plan has: that is a divergence, and
    judged as one.
    """
    if (y_hat := record.facts.get("y_hat")) not in ("probabilities", "logits"):
        raise RecordError(f"y_hat: expected probabilities or logits, received {y_hat!r}")
    for name, array in record.arrays.items():
        kind, _, rest = name.partition("/")
        if kind == "probe" and not rest.partition("/")[0].isdigit():
            raise RecordError(f"{name}: expected probe/STEP/…, with the number of a step")
        if kind == "probe" and int(rest.partition("/")[0]) >= plan.num_steps:
            raise RecordError(f"{name}: expected one of {plan.num_steps} steps")
        if kind == "probe" and int(rest.partition("/")[0]) not in plan.probes:
            raise RecordError(f"{name}: expected one of the probed steps {plan.probes}")
        if not KNOWN.fullmatch(name):
            raise RecordError(f"{name}: expected an array of docs/record.md, nothing else")
        if kind == "probe" and name.endswith("_error") and array.shape:
            raise RecordError(f"{name}: expected one number, received shape {array.shape}")
    num_inputs, num_outputs = plan.W.shape
    snapshots = record.arrays.get("snapshots", np.empty(0))
    recorded = tuple(np.ravel(snapshots).tolist())
    steps = record.arrays.get("step_loss", np.empty(0)).shape
    if len(steps) != 1 or not steps[0]:
        raise RecordError(f"step_loss: expected one number per step, received shape {steps}")
    planned = tuple(step for step in plan.snapshots if step <= steps[0])
    if snapshots.ndim != 1 or not recorded or recorded != planned:
        raise RecordError("parameters were recorded after other steps than the plan's")
    s = len(recorded)
    expected: dict[str, tuple[int, ...]] = {
        "step_accuracy": steps,
        "parameters/W": (s, num_inputs, num_outputs),
        "parameters/b": (s, num_outputs),
        "initial/W": (num_inputs, num_outputs),
        "initial/b": (num_outputs,),
        "val_y_hat": (data.num_val, num_outputs),
        "fed/y_train": (data.num_train,),
    }
    for name, shape in expected.items():
        if name not in record.arrays:
            raise RecordError(f"record lacks the array {name}")
        if record.arrays[name].shape != shape:
            raise RecordError(
                f"{name}: expected shape {shape}, received {record.arrays[name].shape}"
            )
    check_feeding(plan, record.arrays)
    for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
        values = record.facts["history"].get(name, ())
        if len(values) != plan.recipe.max_epochs or not np.isfinite(values).all():
            raise RecordError(
                f"{name}: expected {plan.recipe.max_epochs} finite numbers, received {values}"
            )
