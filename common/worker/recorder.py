"""The trainer's callback in a worker: it reports progress and keeps what becomes the record."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.arrays import Array, hash_arrays
from framework_parity.common.reference.recording_data import fed_sha256
from framework_parity.common.reference.replay import Rows, Trajectory
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.feeding import Feeding
from framework_parity.common.training.fit_display import Progress
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.training.trainer import EVALUATION_EXAMPLES, Trainer
from framework_parity.common.worker.lockstep import probe_steps, wait_for
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
        self.points: Sequence[int] = plan.snapshots
        self.orders: Sequence[Rows] = ()
        self.initial: Parameters = {}
        self.states: dict[int, Parameters] = {}
        self.fed_sha256 = ""
        self.feeding: Feeding | None = None

    @property
    def y_hat(self) -> str:
        """What ``forward`` gives: probabilities from scratch, logits if concise."""
        return "probabilities" if self.implementation == "scratch" else "logits"

    def __call__(self, trainer: Trainer, progress: Progress) -> None:
        if progress.kind == "compiling":
            self.begin(trainer)
        if progress.kind == "epoch" and (given := trainer.data.stop_watching()):
            # Not before the first epoch, in which every example is given once, is this known.
            given += self.fed_sha256 + hash_arrays({"labels": trainer.data.labels_fed})
            self.fed_sha256 = hashlib.sha256(given.encode()).hexdigest()
        if self.feeding:
            self.feeding.take(trainer)
        if progress.step in self.points and progress.step not in self.states:
            self.states[progress.step] = trainer.model.get_parameters()
        self.tell_epoch(trainer, progress)

    def begin(self, trainer: Trainer) -> None:
        """Before the first step: note what training is given, and watch what it takes of it."""
        self.note_given(trainer)
        self.watch(trainer)
        if trainer.data.is_large:
            trainer.data.watch()

    def note_given(self, trainer: Trainer) -> None:
        """Note what training is given, and report that it begins."""
        self.initial = trainer.model.get_parameters()
        self.fed_sha256 = fed_sha256(trainer.data.fed, self.initial, self.orders)
        self.worker.say("compiling")

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
        arrays = {
            "step_loss": trainer.step_loss,
            "step_accuracy": trainer.step_accuracy,
            "snapshots": np.array(list(self.states)),
            "val_y_hat": scores(trainer),
            "fed/y_train": trainer.data.labels_fed,
            **(self.feeding.arrays() if self.feeding else {}),
            **{f"initial/{name}": value for name, value in self.initial.items()},
            **stacked(self.states),
        }
        if reference is not None:
            self.worker.say("probing")
            states = Trajectory.load(wait_for(reference))
            arrays |= probe_steps(trainer, self.plan, self.orders, states)
        return Record(facts | self.facts(trainer), arrays)

    def facts(self, trainer: Trainer) -> dict[str, Any]:
        """What a record says of a fit and of its process."""
        outcome = self.outcome(trainer)
        return {"y_hat": self.y_hat, **outcome, "earlier_in_process": list(self.worker.earlier)}

    def outcome(self, trainer: Trainer) -> dict[str, Any]:
        """What was trained, what came of it, and what it took."""
        return {
            "plan_sha256": self.plan.sha256,
            "fed_sha256": self.fed_sha256,
            "history": trainer.history,
            "seconds": {"import": self.worker.import_seconds, **trainer.seconds},
            "peak_rss_bytes": peak_rss_bytes(),
        }


def scores(trainer: Trainer) -> Array:
    """What ``forward`` gives for the validation examples."""
    batches = trainer.validation_batches(EVALUATION_EXAMPLES)
    return np.concatenate([trainer.predict(X) for X, _ in batches])


def stacked(states: Mapping[int, Parameters]) -> dict[str, Array]:
    """Parameters after some steps as a record holds them, one behind another."""
    names = next(iter(states.values()), {})
    return {f"parameters/{n}": np.stack([state[n] for state in states.values()]) for n in names}


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
