"""Run a backend's implementations on one plan: ``python -m common.worker --help``.

Started by the launcher in the backend's own interpreter. Standard output carries one JSON object
a line, the progress; whatever a framework prints goes to standard error. Several implementations
are trained one after the other, so that the framework is imported once; each leaves a record as
soon as it is done. Needs NumPy and the standard library only.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from common.arrays import Array, hash_arrays
from common.classifier import Parameters
from common.data import DataModule
from common.device import asked_device
from common.lockstep import probe_steps, wait_for_reference
from common.plan import Plan
from common.record import Record
from common.replay import Rows
from common.serving import serve
from common.trainer import EVALUATION_EXAMPLES, Progress, Trainer

WORKER = ("-m", "common.worker")
"""The arguments of an interpreter that make it a worker."""

NEXT = "next"
"""The event by which a process says that one run is done and it begins the next."""


class Witness(DataModule):
    """A data module that remembers what it gave to the framework, and scales it once.

    Attributes:
        fed: the arrays that were given whole, by name.
        labels_fed: the label of each training example; of data larger than memory, as far as
            :meth:`watch` saw it given.
    """

    _watched: Any = None
    _labels_seen: Array = np.empty(0)

    def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
        """As :meth:`DataModule.examples`, but the same arrays to whoever asks again."""
        fed = getattr(self, "fed", {})
        if f"X_{train}" not in fed or fed[f"X_{train}"].dtype != dtype:
            X, y = super().examples(train, dtype)
            self.fed = fed = {**fed, f"X_{train}": X, f"y_{train}": y}
        return fed[f"X_{train}"], fed[f"y_{train}"]

    @property
    def labels_fed(self) -> Array:
        """See the class."""
        return np.asarray(getattr(self, "fed", {}).get("y_True", self._labels_seen))

    def watch(self) -> None:
        """From now to :meth:`stop_watching`, take note of the chunks that are given."""
        self._watched = hashlib.sha256()
        self._labels_seen = np.full(self.num_train, -1, np.int32)

    def stop_watching(self) -> str:
        """The digest of the examples that were given, in the order of their use."""
        watched, self._watched = self._watched, None
        return str(watched.hexdigest())

    def chunks(self, order: Array, dtype: str = "float32") -> Iterator[tuple[Array, Array, int]]:
        start = 0
        for X, y, count in super().chunks(order, dtype):
            if self._watched is not None:
                self._watched.update(X[:count].data)
                self._labels_seen[order[start : start + count]] = y[:count]
            start += count
            yield X, y, count


class Recorder:
    """The trainer's callback: reports progress, keeps what was fed and what came of it.

    Args:
        plan: says after which updates parameters are kept.
        implementation: which one trains; it decides what ``forward`` gives.
        out: where lines of progress go.
        earlier: implementations that this process has trained before.
    """

    def __init__(
        self, plan: Plan, implementation: str, out: TextIO, earlier: Sequence[str] = ()
    ) -> None:
        self.plan, self.implementation, self.out = plan, implementation, out
        self.earlier = list(earlier)
        self.orders: Sequence[Rows] = ()
        self.steps: list[int] = []
        self.initial: Parameters = {}
        self.parameters: dict[str, list[Array]] = {}
        self.fed_sha256 = ""
        self.import_seconds = 0.0

    @property
    def y_hat(self) -> str:
        """What ``forward`` gives: probabilities from scratch, logits if concise."""
        return "probabilities" if self.implementation == "scratch" else "logits"

    def say(self, event: str, **facts: Any) -> None:
        """Write one line of progress."""
        print(json.dumps({"event": event, **facts}), file=self.out, flush=True)

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        if progress.kind == "compiling":
            self.initial = trainer.model.get_parameters()
            self.fed_sha256 = fed_sha256(trainer.data, self.initial, self.orders)
            self.say("compiling")
            if trainer.data.is_large:
                trainer.data.watch()
        if progress.kind == "epoch" and trainer.data.is_large and progress.epoch == 1:
            # Not before the first epoch, in which every example is given once, is this known.
            seen = {"labels": trainer.data.labels_fed}
            given = trainer.data.stop_watching() + self.fed_sha256 + hash_arrays(seen)
            self.fed_sha256 = hashlib.sha256(given.encode()).hexdigest()
        if progress.step in self.plan.snapshots and progress.step not in self.steps:
            self.steps.append(progress.step)
            for name, value in trainer.model.get_parameters().items():
                self.parameters.setdefault(name, []).append(value)
        self.tell_epoch(trainer, progress)

    def tell_epoch(self, trainer: Trainer, progress: Progress) -> None:
        """Report an epoch that ended."""
        if progress.kind == "epoch":
            self.say(
                "training",
                epoch=progress.epoch,
                max_epochs=trainer.max_epochs,
                loss=trainer.history["train_loss"][-1],
            )

    def record(self, trainer: Trainer, facts: dict[str, Any], reference: Path | None) -> Record:
        """The record of a fit that ended, with its lock-step probes if there is a reference."""
        y_hat = [trainer.predict(X) for X, _ in trainer.validation_batches(EVALUATION_EXAMPLES)]
        arrays = {
            "step_loss": trainer.step_loss,
            "step_accuracy": trainer.step_accuracy,
            "snapshots": np.array(self.steps),
            "val_y_hat": np.concatenate(y_hat),
            "fed/y_train": trainer.data.labels_fed,
            **{f"initial/{name}": value for name, value in self.initial.items()},
            **{f"parameters/{name}": np.stack(values) for name, values in self.parameters.items()},
        }
        if reference is not None:
            self.say("probing")
            states = wait_for_reference(reference)
            arrays |= probe_steps(trainer, self.plan, self.orders, states)
        facts = {
            **facts,
            "y_hat": self.y_hat,
            "plan_sha256": self.plan.sha256,
            "fed_sha256": self.fed_sha256,
            "history": trainer.history,
            **self.costs(trainer),
        }
        return Record(facts, arrays)

    def costs(self, trainer: Trainer) -> dict[str, Any]:
        """What the run took, and what its process did before."""
        return {
            "seconds": {"import": self.import_seconds, **trainer.seconds},
            "peak_rss_bytes": peak_rss_bytes(),
            "earlier_in_process": self.earlier,
        }


def fed_sha256(data: DataModule, parameters: dict[str, Array], orders: Sequence[Rows]) -> str:
    """Digest of what training is given: scaled examples, labels, parameters, order."""
    fed = getattr(data, "fed", {})
    order = {f"order {epoch}": np.asarray(rows) for epoch, rows in enumerate(orders)}
    return hash_arrays({**dict(sorted(fed.items())), **parameters, **order})


def build_model(backend: Any, implementation: str, plan: Plan, data: DataModule) -> Any:
    """The backend's model of that implementation, with the plan's hyperparameters."""
    recipe = plan.recipe
    if implementation == "scratch":
        return backend.SoftmaxRegressionScratch(
            data.num_inputs, data.num_outputs, recipe.lr, recipe.sigma
        )
    return backend.SoftmaxRegression(data.num_outputs, recipe.lr)


def train(
    backend: Any,
    model: Any,
    data: Witness,
    plan: Plan,
    recorder: Recorder,
    orders: Sequence[Rows],
    parameters: Parameters,
    max_epochs: int,
) -> Trainer:
    """Fit a model and keep what was fed and what came of it in the recorder."""
    trainer: Trainer = backend.Trainer(max_epochs, callbacks=[recorder], pauses=plan.snapshots)
    recorder.orders = orders
    trainer.fit(model, data, orders=orders, parameters=parameters, dtype=plan.recipe.dtype)
    return trainer


def run(
    backend_name: str,
    implementation: str,
    plan: Plan,
    out: Path,
    recorder: Recorder,
    data: Witness,
    reference: Path | None,
    probe_only: bool = False,
    independent: int | None = None,
) -> None:
    """Train one implementation as the plan says and write its record.

    Args:
        backend_name: a folder of ``backends/``.
        implementation: ``scratch`` or ``concise``.
        plan: what to train.
        out: the record's folder.
        recorder: where progress goes.
        data: the plan's; hashed anew in each run, so that what one did to them shows in the next.
        reference: the reference's file, for the lock-step probes; none without it.
        probe_only: do not train; the record holds nothing but the probes.
        independent: a seed: the framework draws its own initial parameters and orders, and the
            record holds the outcome alone.
    """
    started = time.perf_counter()
    if not recorder.earlier:
        recorder.say("importing")
    backend = importlib.import_module(f"backends.{backend_name}")
    recorder.import_seconds = recorder.import_seconds or time.perf_counter() - started
    if not recorder.earlier:
        backend.Trainer.use_device(asked_device())
    facts = {"backend": backend_name, "implementation": implementation}
    if independent is not None:
        backend.seed(independent)
        outcome = outcome_of_own(backend, implementation, plan, data, recorder)
        Record(facts | outcome | {"versions": versions(backend)}, {}).save(out)
        return
    model = build_model(backend, implementation, plan, data)
    orders, epochs = list(plan.order), 0 if probe_only else plan.recipe.max_epochs
    trainer = train(backend, model, data, plan, recorder, orders, plan.parameters, epochs)
    record = recorder.record(trainer, facts | {"versions": versions(backend)}, reference)
    record.facts["seconds"]["total"] = time.perf_counter() - started
    if probe_only:
        probes = {k: array for k, array in record.arrays.items() if k.startswith("probe/")}
        record = Record(record.facts, probes)
    record.save(out)


def outcome_of_own(
    backend: Any, implementation: str, plan: Plan, data: DataModule, recorder: Recorder
) -> dict[str, Any]:
    """Train with the framework's own initial parameters and orders; the facts of a record."""
    model = build_model(backend, implementation, plan, data)
    trainer: Trainer = backend.Trainer(plan.recipe.max_epochs, callbacks=[recorder.tell_epoch])
    trainer.fit(model, data, dtype=plan.recipe.dtype)
    return {
        "y_hat": recorder.y_hat,
        "plan_sha256": plan.sha256,
        "fed_sha256": "",
        "history": trainer.history,
        **recorder.costs(trainer),
    }


def versions(backend: Any) -> dict[str, str]:
    """Versions of Python, NumPy and the backend's libraries."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        **backend.versions(),
    }


def peak_rss_bytes() -> int:
    """The largest resident memory of this process so far, in bytes."""
    try:
        # Not getrusage: its maximum is inherited from the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def begin_anew(log: Path | None) -> None:
    """Before a run: forget an earlier one's memory, and write to the run's own log.

    Its peak counts from here where the system can reset it; elsewhere from the process's start.
    """
    gc.collect()  # frameworks' compiled functions refer to themselves
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if log is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def claim_stdout() -> TextIO:
    """Keep standard output for progress; what anything else prints goes to standard error."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return own


def end_with_parent() -> None:
    """End this process when the launcher's end of standard input closes, however it ended."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line, with ``runs``: implementation, record's folder and log of each."""
    parser = argparse.ArgumentParser(prog="python -m common.worker", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan")
    parser.add_argument("--backend", required=True, help="a folder of backends/")
    parser.add_argument("--reference", type=Path, help="the reference's file, for the probes")
    parser.add_argument("--independent", type=int, metavar="SEED", help="draw everything itself")
    parser.add_argument("--probe-only", action="store_true", help="probe, but do not train")
    run_of = parser.add_argument_group("each run, one after the other")
    for name, meaning, kind in (
        ("implementation", "scratch or concise", str),
        ("out", "folder of the record to write", Path),
        ("log", "takes what the run prints; standard error does without", Path),
    ):
        run_of.add_argument(
            f"--{name}", action="append", default=[], type=kind, help=f"{meaning}; once per run"
        )
    arguments = parser.parse_args(words)
    arguments.runs = list(zip_longest(arguments.implementation, arguments.out, arguments.log))
    if not arguments.runs or None in sum((run[:2] for run in arguments.runs), ()):
        parser.error("expected --implementation and --out for each run")
    return arguments


class Worker:
    """Carries out command lines, one after the other, in a process that remembers the earlier."""

    def __init__(self) -> None:
        self.import_seconds = 0.0
        self.earlier: list[str] = []

    def execute(self, arguments: argparse.Namespace, out: TextIO) -> None:
        """Do every run that a command line asks for; progress goes to ``out``."""
        plan = Plan.load(arguments.plan)
        data = Witness.open(plan.data_folder, plan.recipe.batch_size)
        assert isinstance(data, Witness)
        for index, (implementation, folder, log) in enumerate(arguments.runs):
            recorder = Recorder(plan, implementation, out, self.earlier)
            recorder.import_seconds = self.import_seconds
            if index:
                recorder.say(NEXT)
            begin_anew(log)
            run(
                arguments.backend,
                implementation,
                plan,
                folder,
                recorder,
                data,
                arguments.reference,
                arguments.probe_only,
                arguments.independent,
            )
            self.import_seconds = recorder.import_seconds
            self.earlier.append(implementation)


def leave() -> NoReturn:
    """End this process now that its records are written.

    For interpreter and framework to take themselves apart takes up to 0.7 s (TensorFlow).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """The command line, or with ``--listen SOCKET PLACE`` one command line after the other."""
    # A worker draws nothing, and Keras imports half a second of it if it is there.
    sys.modules["matplotlib"] = None  # type: ignore[assignment]
    worker, words = Worker(), sys.argv[1:]
    if words[:1] == ["--listen"]:
        listener = socket.socket(fileno=int(words[1]))
        serve(listener, lambda request, out: worker.execute(parse(request), out))
    arguments = parse(words)
    end_with_parent()
    with claim_stdout() as out:
        worker.execute(arguments, out)


if __name__ == "__main__":
    main()
    leave()
