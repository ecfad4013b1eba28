"""One measurement in one fresh process: ``python -m benchmarks.worker SETTINGS.json``.

Runs in a backend's own interpreter; needs NumPy and the standard library, and what it measures.
The settings say what (:data:`KINDS`), and where the plan is and the result goes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from framework_parity.benchmarks.memory import Watch, resident_bytes
from framework_parity.common.core.arrays import aligned
from framework_parity.common.core.child_process import claim_stdout, end_with_parent
from framework_parity.common.core.device import asked_device
from framework_parity.common.training.plan import Plan
from framework_parity.common.worker.recorder import peak_rss_bytes
from framework_parity.common.worker.train import build_model


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
        settings: ``backend``, ``implementation``, ``kind``, ``plan``, ``out``, ``accuracies``,
            ``peers``.
    """

    def __init__(self, settings):
        self.settings, self.clock = settings, Clock()
        self.facts, self.parameters = {}, {}
        self.plan = Plan.load(Path(settings["plan"]))
        self.started, cpu = time.perf_counter(), time.process_time()
        name = settings["backend"]
        self.backend = (
            importlib.import_module(f"framework_parity.backends.{name}") if name else None
        )
        if self.backend:
            self.backend.Trainer.use_device(asked_device())
        self.facts["import_seconds"] = time.perf_counter() - self.started
        self.facts["import_cpu_seconds"] = time.process_time() - cpu
        self.facts["import_rss_bytes"] = peak_rss_bytes()
        self.facts["import_resident_bytes"] = resident_bytes()
        self.data = self.plan.data()
        self.orders = [np.asarray(order) for order in self.plan.order]

    def finish(self):
        """Write the facts, and the parameters that came of it."""
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
        out = Path(self.settings["out"])
        np.savez(out.with_suffix(".npz"), **self.parameters)
        out.write_text(json.dumps(self.facts), encoding="utf-8")


def fit(measurement):
    """``Trainer.fit`` of a shipped implementation, from the plan's initial parameters."""
    plan, implementation = measurement.plan, measurement.settings["implementation"]
    model = build_model(measurement.backend, implementation, plan, measurement.data)
    fit_model(measurement, model, plan.parameters)


def own(measurement):
    """``Trainer.fit`` of a model that a user defines, the book's way; it draws its parameters."""
    chapters = importlib.import_module(
        f"framework_parity.benchmarks.chapters.{measurement.settings['backend']}"
    )
    make, data = getattr(chapters, measurement.settings["implementation"]), measurement.data
    shape = data.num_inputs, data.num_outputs
    fit_model(measurement, make(measurement.backend, *shape, measurement.plan.recipe.lr), None)


def fit_model(measurement, model, initial):
    """``Trainer.fit`` of any model, timed."""
    backend, plan, data = measurement.backend, measurement.plan, measurement.data
    wanted = list(measurement.settings.get("accuracies", ()))
    reached = measurement.facts["reached_seconds"] = {}

    began = []

    def note(trainer, progress):
        if progress.kind == "compiling":
            began.append(time.process_time())
        if progress.kind == "epoch":
            for accuracy in wanted:
                if trainer.history["val_accuracy"][-1] >= accuracy:
                    seconds = time.perf_counter() - measurement.started
                    reached.setdefault(str(accuracy), [seconds, progress.epoch])

    trainer = backend.Trainer(plan.recipe.max_epochs, callbacks=[note])
    trainer.fit_epoch = measurement.clock(trainer.fit_epoch)
    orders = measurement.orders
    if measurement.settings.get("chunked"):
        data.memory_bytes = 0  # as if the memory were too small for any data
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


def loop(measurement):
    """A loop written by hand, of the backend's file in ``raw_loops/``."""
    name = f"framework_parity.benchmarks.raw_loops.{measurement.settings['backend']}"
    plan, data = measurement.plan, measurement.data
    initial = {name: np.array(value) for name, value in plan.parameters.items()}
    X, y = data.examples(train=True, dtype=plan.recipe.dtype)
    shared = plan.recipe.lr, plan.recipe.batch_size
    make = importlib.import_module(name).LOOPS[measurement.settings["loop"]]
    if measurement.settings["loop"].endswith("loader"):  # it converts what is stored, one by one
        shape = data.image_shape or (1, data.num_inputs)
        made = make(aligned(np.array(data.X_train)), y, initial, *shared, shape, data.divisor)
    else:
        made = make(X, y, initial, *shared)
    epoch = measurement.clock(made.epoch)
    for order in measurement.orders[: measurement.settings.get("epochs")]:
        losses, _ = epoch(order)
    measurement.parameters = made.get_parameters()
    measurement.facts["loss"] = float(np.mean(losses))


def keras(measurement):
    """Keras 3's ``fit`` on the same backend, in its own random order of the same examples."""
    os.environ["KERAS_BACKEND"] = measurement.settings["backend"]
    # Left to itself it takes a GPU wherever PyTorch sees one.
    os.environ["KERAS_TORCH_DEVICE"] = "cuda" if asked_device() == "gpu" else "cpu"
    if folder := measurement.settings.get("peers"):
        sys.path.append(folder)  # behind the environment's own packages
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


def limit(measurement):
    """The machine's limit: the gather of each batch and the two products with it, in NumPy."""
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


def numerics(measurement):
    """Cross-entropy from scratch, by indexing and with one-hot labels, on random probabilities.

    Each function runs on every shape in ``repeats`` turns; the number that it returns is read, so
    that the work is done when the clock stops.
    """
    measurement.facts["shapes"] = [
        _cross_entropies(measurement.backend, *shape, measurement.settings["repeats"])
        for shape in measurement.settings["shapes"]
    ]


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


KINDS = {f.__name__: f for f in (fit, own, loop, keras, limit, numerics)}


def main():
    """Read the settings, measure, write the result."""
    claim_stdout()
    end_with_parent()
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    measurement = Measurement(settings)
    KINDS[settings["kind"]](measurement)
    measurement.finish()


if __name__ == "__main__":
    main()
