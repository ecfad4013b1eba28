"""What is measured, in a fresh process each time: requests of kind ``benchmarks.kinds:NAME``.

Runs in a backend's own interpreter; needs NumPy and the standard library, and what it measures.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.benchmarks.memory import Watch, resident_bytes
from framework_parity.common.core.arrays import aligned
from framework_parity.common.core.device import asked_device
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.worker.recorder import peak_rss_bytes
from framework_parity.common.worker.train import build_model
from framework_parity.common.worker.worker import Worker


class Clock:
    """Wall and processor seconds of each call of a function that returns when its work is done."""

    def __init__(self):
        self.wall, self.cpu = [], []

    def __call__(self, function):
        def timed(*arguments):
            wall, cpu = time.perf_counter(), time.process_time()
            result = function(*arguments)
            self.wall.append(time.perf_counter() - wall)
            self.cpu.append(time.process_time() - cpu)
            return result

        return timed


class Measurement:
    """What every kind of measurement shares: import, plan and data, and the facts to report.

    Args:
        worker: the process.
        plan: folder of the plan.
        backend: a folder of ``backends/``; empty for none.
    """

    def __init__(self, worker, plan, backend):
        self.clock = Clock()
        self.facts, self.parameters = {}, {}
        self.plan = Plan.load(plan)
        self.started, cpu = time.perf_counter(), time.process_time()
        self.backend = worker.backend(backend) if backend else None
        self.facts["import_seconds"] = time.perf_counter() - self.started
        self.facts["import_cpu_seconds"] = time.process_time() - cpu
        self.facts["import_rss_bytes"] = peak_rss_bytes()
        self.facts["import_resident_bytes"] = resident_bytes()
        self.data = self.plan.data()
        self.orders = [np.asarray(order) for order in self.plan.order]

    def record(self):
        """The facts, and the parameters that came of it."""
        wall, cpu = self.clock.wall, self.clock.cpu
        later = wall[1:] or wall
        self.facts |= {
            "epoch_seconds": later,
            "epoch_cpu_seconds": cpu[1:] or cpu,
            "first_epoch_seconds": wall[0] if wall else None,
            "total_seconds": time.perf_counter() - self.started,
            "total_cpu_seconds": time.process_time(),
            "peak_rss_bytes": peak_rss_bytes(),
            "numpy": np.__version__,
            "versions": self.backend.versions() if self.backend else {},
        }
        if wall:
            extra = max(0.0, wall[0] - float(np.median(later)))
            self.facts["first_step_seconds"] = self.facts.pop("compile_seconds", 0.0) + extra
        return Record(self.facts, self.parameters)


def fit(
    worker: Worker,
    plan: Path,
    backend: str,
    implementation: str,
    accuracies: list[float] | None = None,
    chunked: bool = False,
) -> Record:
    """``Trainer.fit`` of a shipped implementation, from the plan's initial parameters.

    When each accuracy of validation was reached is noted; ``chunked`` is as if the memory were too
    small for any data.
    """
    measurement = Measurement(worker, plan, backend)
    model = build_model(measurement.backend, implementation, measurement.plan, measurement.data)
    return fit_model(measurement, model, measurement.plan.parameters, accuracies or [], chunked)


def own(worker: Worker, plan: Path, backend: str, implementation: str) -> Record:
    """``Trainer.fit`` of a model that a user defines, the book's way; it draws its parameters."""
    measurement = Measurement(worker, plan, backend)
    chapters = importlib.import_module(f"framework_parity.benchmarks.chapters.{backend}")
    make, data = getattr(chapters, implementation), measurement.data
    shape = data.num_inputs, data.num_outputs
    model = make(measurement.backend, *shape, measurement.plan.recipe.lr)
    return fit_model(measurement, model, None)


def fit_model(measurement, model, initial, accuracies=(), chunked=False):
    """``Trainer.fit`` of any model, timed."""
    backend, plan, data = measurement.backend, measurement.plan, measurement.data
    reached = measurement.facts["reached_seconds"] = {}

    began = []

    def note(trainer, progress):
        if progress.kind == "compiling":
            began.append(time.process_time())
        if progress.kind == "epoch":
            for accuracy in accuracies:
                if trainer.history["val_accuracy"][-1] >= accuracy:
                    seconds = time.perf_counter() - measurement.started
                    reached.setdefault(str(accuracy), [seconds, progress.epoch])

    trainer = backend.Trainer(plan.recipe.max_epochs, callbacks=[note])
    trainer.fit_epoch = measurement.clock(trainer.fit_epoch)
    orders = measurement.orders
    if chunked:
        data.memory_bytes = 0
    watch = Watch() if data.is_large else contextlib.nullcontext()  # none where time is measured
    with watch:
        trainer.fit(model, data, orders=orders, parameters=initial, dtype=plan.recipe.dtype)
    measurement.facts["resident_bytes"] = getattr(watch, "peaks", None)
    if data.is_large:  # an epoch is many calls then, and waits for its chunks between them
        measurement.clock.wall = [trainer.seconds["fit"]]
        measurement.clock.cpu = [time.process_time() - began[0]]
    measurement.parameters = model.get_parameters()
    measurement.facts["compile_seconds"] = trainer.seconds["compile"]
    measurement.facts["evaluate_seconds"] = trainer.seconds["evaluate"]
    measurement.facts["loss"] = trainer.history["train_loss"][-1]
    measurement.facts["val_accuracy"] = trainer.history["val_accuracy"]
    return measurement.record()


def loop(worker: Worker, plan: Path, backend: str, loop: str, epochs: int | None = None) -> Record:
    """A loop written by hand, of the backend's file in ``raw_loops/``; ``epochs`` of it, or all."""
    measurement = Measurement(worker, plan, backend)
    name = f"framework_parity.benchmarks.raw_loops.{backend}"
    plan, data = measurement.plan, measurement.data
    initial = {name: np.array(value) for name, value in plan.parameters.items()}
    X, y = data.examples(train=True, dtype=plan.recipe.dtype)
    shared = plan.recipe.lr, plan.recipe.batch_size
    make = importlib.import_module(name).LOOPS[loop]
    if loop.endswith("loader"):  # it converts what is stored, one by one
        shape = data.image_shape or (1, data.num_inputs)
        made = make(aligned(np.array(data.X_train)), y, initial, *shared, shape, data.divisor)
    else:
        made = make(X, y, initial, *shared)
    epoch = measurement.clock(made.epoch)
    for order in measurement.orders[:epochs]:
        losses, _ = epoch(order)
    measurement.parameters = made.get_parameters()
    measurement.facts["loss"] = float(np.mean(losses))
    return measurement.record()


def keras(worker: Worker, plan: Path, backend: str, peers: str = "") -> Record:
    """Keras 3's ``fit`` on the same backend, in its own random order of the same examples.

    ``peers`` is a folder of packages that the environment lacks.
    """
    measurement = Measurement(worker, plan, backend)
    os.environ["KERAS_BACKEND"] = backend
    # Left to itself it takes a GPU wherever PyTorch sees one.
    os.environ["KERAS_TORCH_DEVICE"] = "cuda" if asked_device() == "gpu" else "cpu"
    if peers:
        sys.path.append(peers)  # behind the environment's own packages
    started = time.perf_counter()
    import keras

    measurement.facts["import_seconds"] += time.perf_counter() - started
    measurement.facts["keras"] = keras.__version__
    plan, (X, y) = measurement.plan, measurement.data.examples(train=True)
    model = keras.Sequential(
        [keras.Input(X.shape[1:]), keras.layers.Dense(measurement.data.num_outputs)]
    )
    model.layers[-1].set_weights([np.array(plan.W), np.array(plan.b)])
    model.compile(
        optimizer=keras.optimizers.SGD(plan.recipe.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    # One call per epoch would start Keras's loop anew each time: its own epochs are timed.
    clock = measurement.clock

    class Epochs(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch, logs=None):
            clock.wall.append(time.perf_counter() - self.began[0])
            clock.cpu.append(time.process_time() - self.began[1])

    history = model.fit(
        X, y, plan.recipe.batch_size, plan.recipe.max_epochs, verbose=0, callbacks=[Epochs()]
    )
    W, b = model.layers[-1].get_weights()
    measurement.parameters = {"W": np.asarray(W), "b": np.asarray(b)}
    measurement.facts["loss"] = float(history.history["loss"][-1])
    return measurement.record()


def limit(worker: Worker, plan: Path, backend: str = "") -> Record:
    """The machine's limit: the gather of each batch and the two products with it, in NumPy."""
    measurement = Measurement(worker, plan, backend)
    plan, (X, _) = measurement.plan, measurement.data.examples(train=True)
    size = plan.recipe.batch_size
    W, error = np.array(plan.W), np.ones((size, plan.W.shape[1]), X.dtype)
    batch = np.empty((size, X.shape[1]), X.dtype)

    def epoch(order):
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            gathered = np.take(X, rows, axis=0, out=batch[: len(rows)], mode="clip")
            gathered @ W
            error[: len(rows)].T @ gathered

    timed = measurement.clock(epoch)
    for order in measurement.orders:
        timed(order)
    return measurement.record()


def numerics(worker: Worker, plan: Path, backend: str, shapes: list[Any], repeats: int) -> Record:
    """Cross-entropy from scratch, by indexing and with one-hot labels, on random probabilities.

    Each function runs on every shape in ``repeats`` turns; the number that it returns is read, so
    that the work is done when the clock stops.
    """
    measurement = Measurement(worker, plan, backend)
    measurement.facts["shapes"] = [
        _cross_entropies(measurement.backend, *shape, repeats) for shape in shapes
    ]
    return measurement.record()


def _cross_entropies(backend, rows, classes, repeats):
    random = np.random.default_rng(0)
    p = random.random((rows, classes), dtype=np.float32) + np.float32(0.01)
    p /= p.sum(axis=1, keepdims=True)
    labels = random.integers(0, classes, rows).astype(np.int32)
    data = backend.DataModule(p, labels, p, labels, num_outputs=classes)
    y_hat, y = data.tensors(p, labels)
    functions = {"indexed": backend.cross_entropy, "one-hot": backend.cross_entropy_one_hot}
    found = {name: {"seconds": []} for name in functions}
    for turn in range(repeats + 3):
        for name, function in functions.items():
            started = time.perf_counter()
            value = float(function(y_hat, y))
            seconds = time.perf_counter() - started
            if turn >= 3:  # the first calls compile and warm up
                found[name]["seconds"].append(seconds)
            found[name]["value"] = value
    return found


def watching(worker: Worker, plan: Path, backend: str, implementation: str, epochs: int) -> Record:
    """Processor seconds of each epoch without and with the projection of what is fed, in turn."""
    d2l, made = worker.backend(backend), Plan.load(plan)
    order, trainers = np.array(made.order[0]), []
    for watched in (False, True):
        data = made.data()
        trainer = d2l.Trainer(1)
        if watched:
            trainer.watched = made.direction
        model = build_model(d2l, implementation, made, data)
        given = {"orders": [order], "parameters": made.parameters, "dtype": made.recipe.dtype}
        trainer.fit(model, data, **given)
        trainers.append(trainer)
    seconds = [[], []]
    for turn in range(epochs):
        for i in (0, 1) if turn % 2 else (1, 0):
            trainers[i].fed = []
            started = time.process_time()
            trainers[i].fit_epoch(order)
            seconds[i].append(time.process_time() - started)
    return Record({}, {"without": np.array(seconds[0]), "watched": np.array(seconds[1])})
