"""Run one backend's implementation on one plan: ``python -m common.worker --help``.

Started by the launcher in the backend's own interpreter. Standard output carries one JSON object
a line, the progress; whatever a framework prints goes to standard error. Needs NumPy and the
standard library only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from common.data import Array, DataModule, hash_arrays
from common.plan import Plan
from common.record import Record
from common.trainer import Progress, Trainer


class Witness(DataModule):
    """A data module that remembers what it gave to the framework."""

    def examples(self, train: bool, dtype: str = "float32") -> tuple[Array, Array]:
        X, y = super().examples(train, dtype)
        self.fed = {**getattr(self, "fed", {}), f"X_{train}": X, f"y_{train}": y}
        return X, y


class Recorder:
    """The trainer's callback: reports progress and keeps the parameters at the snapshots."""

    def __init__(self, plan: Plan, out: TextIO) -> None:
        self.plan, self.out = plan, out
        self.steps: list[int] = []
        self.parameters: dict[str, list[Array]] = {}
        self.fed_sha256 = ""

    def say(self, event: str, **facts: Any) -> None:
        """Write one line of progress."""
        print(json.dumps({"event": event, **facts}), file=self.out, flush=True)

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        if progress.kind == "compiling":
            self.fed_sha256 = fed_sha256(trainer.data, trainer.model.get_parameters(), self.plan)
            self.say("compiling")
        if progress.step in self.plan.snapshots and progress.step not in self.steps:
            self.steps.append(progress.step)
            for name, value in trainer.model.get_parameters().items():
                self.parameters.setdefault(name, []).append(value)
        if progress.kind == "epoch":
            self.say(
                "training",
                epoch=progress.epoch,
                max_epochs=trainer.max_epochs,
                loss=trainer.history["train_loss"][-1],
            )


def fed_sha256(data: DataModule, parameters: dict[str, Array], plan: Plan) -> str:
    """Digest of what training is given: scaled examples, labels, parameters, order."""
    fed = getattr(data, "fed", {})
    return hash_arrays({**dict(sorted(fed.items())), **parameters, "order": plan.order})


def run(backend_name: str, implementation: str, plan: Plan, out: Path, recorder: Recorder) -> None:
    """Train one implementation as the plan says and write its record.

    Args:
        backend_name: a folder of ``backends/``.
        implementation: ``scratch`` or ``concise``.
        plan: what to train.
        out: the record's folder.
        recorder: where progress goes.
    """
    started = time.perf_counter()
    recorder.say("importing")
    backend = importlib.import_module(f"backends.{backend_name}")
    import_seconds = time.perf_counter() - started

    recipe = plan.recipe
    data = Witness.open(plan.data_folder, recipe.batch_size)
    model: Any
    if implementation == "scratch":
        model = backend.SoftmaxRegressionScratch(
            data.num_inputs, data.num_outputs, recipe.lr, recipe.sigma
        )
    else:
        model = backend.SoftmaxRegression(data.num_outputs, recipe.lr)
    trainer = backend.Trainer(recipe.max_epochs, callbacks=[recorder], pauses=plan.snapshots)
    trainer.fit(model, data, orders=plan.order, parameters=plan.parameters, dtype=recipe.dtype)
    y_hat = [trainer.predict(X) for X, _ in trainer.validation_batches(10_000)]
    facts = {
        "backend": backend_name,
        "implementation": implementation,
        "plan_sha256": plan.sha256,
        "fed_sha256": recorder.fed_sha256,
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            **backend.versions(),
        },
        "history": trainer.history,
        "seconds": {
            "import": import_seconds,
            **trainer.seconds,
            "total": time.perf_counter() - started,
        },
        "peak_rss_bytes": peak_rss_bytes(),
    }
    arrays = {
        "step_loss": trainer.step_loss,
        "step_accuracy": trainer.step_accuracy,
        "snapshots": np.array(recorder.steps),
        "val_y_hat": np.concatenate(y_hat),
        **{f"parameters/{name}": np.stack(v) for name, v in recorder.parameters.items()},
    }
    Record(facts, arrays).save(out)


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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m common.worker", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="folder of the plan")
    parser.add_argument("--backend", required=True, help="a folder of backends/")
    parser.add_argument("--implementation", required=True, help="scratch or concise")
    parser.add_argument("--out", type=Path, required=True, help="folder of the record to write")
    arguments = parser.parse_args()
    out = claim_stdout()
    end_with_parent()
    plan = Plan.load(arguments.plan)
    run(arguments.backend, arguments.implementation, plan, arguments.out, Recorder(plan, out))


if __name__ == "__main__":
    main()
