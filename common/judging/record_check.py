"""Whether a record has the arrays and facts of its plan: before that nothing of it is judged."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from framework_parity.common.data.data_module import DataModule
from framework_parity.common.training.feeding import check_feeding
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import HISTORY, KNOWN, Record, RecordError


def check_record(plan: Plan, data: DataModule, record: Record) -> None:
    """Raise RecordError unless the record has the arrays of this plan.

    A run may have made fewer or more steps than the plan has: that is a divergence, and
    judged as one.
    """
    if (y_hat := record.facts.get("y_hat")) not in ("probabilities", "logits"):
        raise RecordError("y_hat", "probabilities or logits", repr(y_hat))
    for name, array in record.arrays.items():
        kind, step, *_ = *name.split("/"), ""
        if kind == "probe":
            if not step.isdigit():
                raise RecordError(name, "probe/STEP/…, with the number of a step", repr(step))
            if int(step) >= plan.num_steps:
                raise RecordError(name, f"one of {plan.num_steps} steps", step)
            if int(step) not in plan.probes:
                raise RecordError(name, f"one of the probed steps {plan.probes}", step)
            if name.endswith("_error") and array.shape:
                raise RecordError(name, "one number", f"shape {array.shape}")
        if not KNOWN.fullmatch(name):
            raise RecordError(name, "the arrays of docs/record.md", "one more")
    num_inputs, num_outputs = plan.W.shape
    snapshots = record.arrays.get("snapshots", np.empty(0))
    recorded = tuple(np.ravel(snapshots).tolist())
    steps = record.arrays.get("step_loss", np.empty(0)).shape
    if len(steps) != 1 or not steps[0]:
        raise RecordError("step_loss", "one number per step", f"shape {steps}")
    planned = tuple(step for step in plan.snapshots if step <= steps[0])
    if snapshots.ndim != 1 or not recorded or recorded != planned:
        raise RecordError("snapshots", f"the plan's {planned}", f"other steps: {recorded}")
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
        check_shape(record, name, shape)
    check_feeding(plan, record.arrays)
    check_history(plan, record)


def check_shape(record: Record, name: str, shape: tuple[int, ...]) -> None:
    """Raise RecordError unless the record has an array of this name and shape."""
    received = record.arrays[name].shape if name in record.arrays else "none"
    if received != shape:
        raise RecordError(name, f"shape {shape}", received)


def check_history(plan: Plan, record: Record, names: Iterable[str] = HISTORY) -> None:
    """Raise RecordError unless every metric has a finite number for each epoch."""
    for name in names:
        values = record.facts["history"].get(name, ())
        if len(values) != plan.recipe.max_epochs or not np.isfinite(values).all():
            raise RecordError(name, f"{plan.recipe.max_epochs} finite numbers", values)
