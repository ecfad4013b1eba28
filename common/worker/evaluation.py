"""What the parameters of finished runs give in float64, as a request: one framework says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from framework_parity.common.core.arrays import Array
from framework_parity.common.training.buffers import BUFFER
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.training.trainer import Trainer
from framework_parity.common.worker.own_model import Run, States, load_once
from framework_parity.common.worker.recorder import scores
from framework_parity.common.worker.worker import Worker

MOST_EPOCHS = 8
"""After how many epochs, spread evenly up to the last, a run's parameters are evaluated."""


def evaluate_model(
    worker: Worker, plan: Path, backend: str, model: Path, reference: Path, records: list[str]
) -> Record:
    """Evaluate the parameters of runs of a user's own model on the validation examples.

    Args:
        worker, backend, model: who, in what and what.
        plan: folder of the plan.
        reference: the reference's record, by whose names parameters go.
        records: folders of the runs' records. What cannot be evaluated is left out.

    Returns:
        By the name of each folder: ``epochs``, those that are evaluated; ``losses`` and
        ``accuracies`` after each; ``scores``, what ``forward`` gives at the end.
    """
    found, made = load_once(model, backend), Plan.load(plan)
    run = Run(found, made, "float64", None, reference)
    recorder = States(worker, found, backend, made)
    with worker.backend(backend).Trainer.dropout_from(recorder.masks):
        trainer, *_ = run.fitted(backend, recorder, max_epochs=0)
        return Record({}, evaluated(trainer, made, run.named_buffers(trainer), map(Path, records)))


def evaluated(
    trainer: Trainer, plan: Plan, buffers: Mapping[str, str], folders: Iterable[Path]
) -> dict[str, Array]:
    """The arrays of :func:`evaluate_model`; ``buffers``: the model's by names of records."""
    names, arrays = trainer.model.get_parameters().keys(), dict[str, Array]()
    for folder in folders:
        try:
            record = Record.load(folder, plan.sha256)
        except RecordError:  # the judge says what is wrong with it
            continue
        held, steps = record.parameters(), record.arrays["snapshots"]
        places = np.flatnonzero(steps % plan.steps_per_epoch == 0)
        kept = {own: record.arrays.get(f"{BUFFER}{name}") for own, name in buffers.items()}
        lacking = any(values is None for values in kept.values())
        if lacking or held.keys() != names or not len(places):
            continue
        spread = np.linspace(0, len(places) - 1, min(len(places), MOST_EPOCHS)).astype(int)
        metrics = []
        for place in places[spread]:
            trainer.hold({name: values[place] for name, values in held.items()})
            trainer.set_buffers({n: v[place] for n, v in kept.items() if v is not None})
            metrics.append(trainer.evaluate_accuracy_and_loss())
        losses, accuracies = np.array(metrics).T
        found_of = {"losses": losses, "scores": scores(trainer)}
        if trainer.data.has_classes:
            found_of["accuracies"] = accuracies
        found_of["epochs"] = steps[places[spread]] // plan.steps_per_epoch
        if all(np.isfinite(values).all() for values in found_of.values()):
            arrays |= {f"{folder.name}/{name}": values for name, values in found_of.items()}
    return arrays
