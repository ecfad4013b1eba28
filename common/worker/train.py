"""Train a backend's implementation on a plan: the requests that programs of any language take."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.recording_data import RecordingData
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import Trainer
from framework_parity.common.worker.recorder import Recorder
from framework_parity.common.worker.worker import Worker


def train(
    worker: Worker,
    plan: Path,
    backend: str,
    implementation: str,
    reference: Path | None = None,
    max_epochs: int | None = None,
) -> Record:
    """Train as the plan in a folder says.

    Args:
        worker, plan, backend, implementation: who, what and how.
        reference: the reference's record, for the lock-step probes; none without it.
        max_epochs: how many epochs, if not as many as the plan says.
    """
    started = time.perf_counter()
    d2l, made = worker.backend(backend), Plan.load(plan)
    recorder = Recorder(worker, made, implementation)
    data = RecordingData.open(made.data_folder, made.recipe.batch_size)
    model = build_model(d2l, implementation, made, data)
    given = (list(made.order), made.parameters, max_epochs)
    trainer = fit(d2l, model, data, made, recorder, *given)
    facts = {"backend": backend, "implementation": implementation, "versions": versions(d2l)}
    record = recorder.record(trainer, facts, reference)
    record.facts["seconds"]["total"] = time.perf_counter() - started
    return record


def probe(worker: Worker, plan: Path, backend: str, implementation: str, reference: Path) -> Record:
    """Do not train: the record holds nothing but the probes. Arguments as of :func:`train`."""
    return train(worker, plan, backend, implementation, reference, max_epochs=0).probes()


def independent(worker: Worker, plan: Path, backend: str, implementation: str, seed: int) -> Record:
    """Train from initial parameters and orders that the framework draws from a seed.

    The record holds the outcome alone. Other arguments as of :func:`train`.
    """
    d2l, made = worker.backend(backend), Plan.load(plan)
    d2l.seed(seed)
    recorder = Recorder(worker, made, implementation)
    data = RecordingData.open(made.data_folder, made.recipe.batch_size)
    model = build_model(d2l, implementation, made, data)
    trainer: Trainer = d2l.Trainer(made.recipe.max_epochs, callbacks=[recorder.tell_epoch])
    trainer.fit(model, data, dtype=made.recipe.dtype)
    facts = {"backend": backend, "implementation": implementation, "versions": versions(d2l)}
    return Record(facts | recorder.facts(trainer), {})


def build_model(backend: Any, implementation: str, plan: Plan, data: DataModule) -> Any:
    """The backend's model of that implementation, with the plan's hyperparameters."""
    recipe = plan.recipe
    if implementation == "scratch":
        return backend.SoftmaxRegressionScratch(
            data.num_inputs, data.num_outputs, recipe.lr, recipe.sigma
        )
    return backend.SoftmaxRegression(data.num_outputs, recipe.lr)


def fit(
    backend: Any,
    model: Any,
    data: RecordingData,
    plan: Plan,
    recorder: Recorder,
    orders: Sequence[Rows],
    parameters: Parameters,
    max_epochs: int | None = None,
    dtype: str | None = None,
    compute_in: tuple[str, float] | None = None,
) -> Trainer:
    """Fit a model and keep what was fed and what came of it in the recorder.

    ``compute_in``: arguments of :meth:`Trainer.compute_in`.
    """
    epochs = plan.recipe.max_epochs if max_epochs is None else max_epochs
    trainer: Trainer = backend.Trainer(epochs, callbacks=[recorder], pauses=recorder.points)
    if compute_in:
        trainer.compute_in(*compute_in)
    recorder.orders, dtype = orders, dtype or plan.recipe.dtype
    trainer.fit(model, data, orders=orders, parameters=parameters, dtype=dtype)
    return trainer


def versions(backend: Any) -> dict[str, str]:
    """Versions of Python, NumPy and the backend's libraries."""
    own = {"python": platform.python_version(), "numpy": np.__version__}
    return {**own, **backend.versions()}
