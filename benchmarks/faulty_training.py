"""A training with a fault planted, as a request: what :mod:`worker.train` does, by its functions.

Needs NumPy and the standard library only.
"""

from __future__ import annotations

from pathlib import Path

from framework_parity.benchmarks.faults import plant
from framework_parity.benchmarks.planting import Setup
from framework_parity.common.reference.recording_data import RecordingData
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.worker.recorder import Recorder
from framework_parity.common.worker.train import build_model, fit
from framework_parity.common.worker.worker import Worker

UNKNOWN = "cannot express it"
"""The event that says that the backend has no such fault; the record is then empty."""


def train(
    worker: Worker,
    plan: Path,
    backend: str,
    implementation: str,
    reference: Path,
    fault: str | None = None,
    size: float | str | None = None,
    probe_only: bool = False,
) -> Record:
    """Train as :func:`worker.train.train` does, or only probe, with a fault if one is named."""
    d2l, made = worker.backend(backend), Plan.load(plan)
    setup = Setup(d2l, made, RecordingData, list(made.order), made.parameters)
    if fault is not None:
        if (planted := plant(fault, size, setup, backend)) is None:
            worker.say(UNKNOWN)
            return Record({}, {})
        setup = planted
    data = setup.data_class.open(made.data_folder, made.recipe.batch_size)
    recorder = Recorder(worker, made, implementation)
    model = build_model(setup.backend, implementation, setup.plan, data)
    epochs = 0 if probe_only else made.recipe.max_epochs
    given = (setup.orders, setup.parameters, epochs)
    trainer = fit(setup.backend, model, data, setup.plan, recorder, *given)
    facts = {"backend": backend, "implementation": implementation, "versions": d2l.versions()}
    record = recorder.record(trainer, facts, reference)
    return record.probes() if probe_only else record
