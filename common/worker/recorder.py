"""The trainer's callback in a worker: it reports progress and keeps what becomes the record."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array, hash_arrays
from framework_parity.common.reference.recording_data import fed_sha256
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.feeding import Feeding
from framework_parity.common.training.fit_display import Progress
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import EVALUATION_EXAMPLES, Trainer
from framework_parity.common.worker.lockstep import probe_steps, wait_for_reference
from framework_parity.common.worker.worker import Worker


class Recorder:
    """The trainer's callback: reports progress, keeps what was fed and what came of it.

    Args:
        worker: the process, which reports the progress.
        plan: says after which updates parameters are kept.
        implementation: which one trains; it decides what ``forward`` gives.
    """

    def __init__(self, worker: Worker, plan: Plan, implementation: str) -> None:
        self.worker, self.plan, self.implementation = worker, plan, implementation
        self.orders: Sequence[Rows] = ()
        self.steps: list[int] = []
        self.initial: Parameters = {}
        self.parameters: dict[str, list[Array]] = {}
        self.fed_sha256 = ""
        self.feeding: Feeding | None = None

    @property
    def y_hat(self) -> str:
        """What ``forward`` gives: probabilities from scratch, logits if concise."""
        return "probabilities" if self.implementation == "scratch" else "logits"

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        if progress.kind == "compiling":
            self.initial = trainer.model.get_parameters()
            self.fed_sha256 = fed_sha256(trainer.data, self.initial, self.orders)
            self.worker.say("compiling")
            self.watch(trainer)
            if trainer.data.is_large:
                trainer.data.watch()
        if progress.kind == "epoch" and trainer.data.is_large and progress.epoch == 1:
            # Not before the first epoch, in which every example is given once, is this known.
            seen = {"labels": trainer.data.labels_fed}
            given = trainer.data.stop_watching() + self.fed_sha256 + hash_arrays(seen)
            self.fed_sha256 = hashlib.sha256(given.encode()).hexdigest()
        if self.feeding:
            self.feeding.take(trainer)
        if progress.step in self.plan.snapshots and progress.step not in self.steps:
            self.steps.append(progress.step)
            for name, value in trainer.model.get_parameters().items():
                self.parameters.setdefault(name, []).append(value)
        self.tell_epoch(trainer, progress)

    def watch(self, trainer: Trainer) -> None:
        """From now on see what the trainer's loop is fed."""
        self.feeding = Feeding(self.plan, self.plan.data())
        trainer.watched = self.feeding.v.astype(trainer.dtype)

    def tell_epoch(self, trainer: Trainer, progress: Progress) -> None:
        """Report an epoch that ended."""
        if progress.kind == "epoch":
            self.worker.say(
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
            **(self.feeding.arrays() if self.feeding else {}),
            **{f"initial/{name}": value for name, value in self.initial.items()},
            **{f"parameters/{name}": np.stack(values) for name, values in self.parameters.items()},
        }
        if reference is not None:
            self.worker.say("probing")
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
            "seconds": {"import": self.worker.import_seconds, **trainer.seconds},
            "peak_rss_bytes": peak_rss_bytes(),
            "earlier_in_process": list(self.worker.earlier),
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
