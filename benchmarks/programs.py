"""Backends that are programs of their own: what their records say of a training."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework_parity.benchmarks.measure import Task
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.external import worker_command
from framework_parity.common.execution.processes import Contender
from framework_parity.common.training.record import RecordError


@dataclass(kw_only=True)
class Program(Task):
    """A training by a program, which times itself: one number for all epochs, wall time alone.

    It draws initial parameters and orders itself: the task ``independent`` of docs/external.md,
    in which nothing is probed and no reference is needed.

    Args:
        environment: the program.
    """

    environment: Environment

    def command(self, folder: Path) -> tuple[str, ...]:
        record = folder / "record"
        shutil.rmtree(record, ignore_errors=True)
        command, arguments = worker_command(
            self.environment,
            self.settings["implementation"],
            plan=Path(self.settings["plan"]),
            reference=folder / "none",
            record=record,
            log=folder / "sample.log",
            task="independent",
        )
        return (*command, *arguments)

    def read(self, folder: Path) -> dict[str, Any]:
        contender = Contender(self.environment, self.settings["implementation"])
        facts = contender.read(folder / "record").facts
        seconds, losses = facts["seconds"], facts["history"].get("train_loss")
        if not losses:
            raise RecordError("history lacks train_loss")
        return {
            "import_seconds": seconds["import"],
            "first_step_seconds": seconds["compile"],
            "epoch_seconds": [seconds["fit"] / len(losses)],
            "peak_rss_bytes": facts["peak_rss_bytes"],
            "versions": facts["versions"],
            "loss": losses[-1],
            "val_accuracy": facts["history"]["val_accuracy"],
        }
