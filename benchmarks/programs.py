"""Backends that are programs of their own: what their records say of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from framework_parity.benchmarks.measure import Task
from framework_parity.common.execution.processes import Contender
from framework_parity.common.training.record import RecordError
from framework_parity.common.worker.request import Request


class Program(Task):
    """A training by a program, which times itself: one number for all epochs, wall time alone.

    It draws initial parameters and orders itself: the task ``independent`` of docs/external.md,
    in which nothing is probed and no reference is needed.
    """

    def request(self, folder: Path) -> Request:
        fields = {name: value for name, value in self.settings.items() if name != "kind"}
        places = (folder / "sample", folder / "sample.log")
        return Request("independent", *places, {**fields, "seed": 0})

    def read(self, folder: Path) -> dict[str, Any]:
        contender = Contender(self.environment, self.settings["implementation"])
        facts = contender.read(folder / "sample").facts
        seconds, losses = facts["seconds"], facts["history"].get("train_loss")
        if not losses:
            raise RecordError("history", "train_loss", "none")
        return {
            "import_seconds": seconds["import"],
            "first_step_seconds": seconds["compile"],
            "epoch_seconds": [seconds["fit"] / len(losses)],
            "peak_rss_bytes": facts["peak_rss_bytes"],
            "versions": facts["versions"],
            "loss": losses[-1],
            "val_accuracy": facts["history"]["val_accuracy"],
        }
