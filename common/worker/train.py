"""Run a backend's implementations on one plan: ``python -m framework_parity.common.worker.train``.

Started by the launcher in the backend's own interpreter. Standard output carries one JSON object
a line, the progress; whatever a framework prints goes to standard error. Several implementations
are trained one after the other, so that the framework is imported once; each leaves a record as
soon as it is done. Needs NumPy and the standard library only.
"""

from __future__ import annotations

import argparse
import importlib
import platform
import socket
import sys
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from framework_parity.common.core.child_process import (
    NEXT,
    begin_anew,
    claim_stdout,
    end_with_parent,
    leave,
)
from framework_parity.common.core.device import asked_device
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.reference.recording_data import Witness
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import Trainer
from framework_parity.common.worker.recorder import Recorder
from framework_parity.common.worker.server import serve


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
    backend = importlib.import_module(f"framework_parity.backends.{backend_name}")
    if not recorder.earlier:
        backend.Trainer.use_device(asked_device())
    recorder.import_seconds = recorder.import_seconds or time.perf_counter() - started
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


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The command line, with ``runs``: implementation, record's folder and log of each."""
    parser = argparse.ArgumentParser(
        prog="python -m framework_parity.common.worker.train", description=__doc__
    )
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
