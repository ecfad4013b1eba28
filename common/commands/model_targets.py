"""The examples that a user's own model learns from: its file may make targets of its own."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from framework_parity.common.core.errors import ParityError, RelayedError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.named import store
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.worker.request import Request

READ_SECONDS = 600.0
"""In which a file must be read, or has made its targets."""


def ask(kind: str, path: Path, backends: Iterable[str], **fields: object) -> Record:
    """What a process of its own finds in a file: a file may end the process that reads it.

    Raises:
        ParityError: as what is asked raises it, and if the file ends that process.
    """
    with tempfile.TemporaryDirectory() as folder:
        record, log = Path(folder, "record"), Path(folder, "log")
        given = {"model": path, "backends": list(backends), **fields}
        request = Request(kind, record, log, given)
        job = Job("model", Environment("", Path(sys.executable)), request)
        outcome = run_jobs([[job]], slots=1, threads=1, timeout=READ_SECONDS)[job.name]
        try:
            found = Record.read(record)
        except RecordError:
            raise ParityError(
                path,
                "a file that can be imported",
                f"the end of its process ({outcome.reason or 'exit status 0'}) before all was read",
                "take out what ends it",
            ) from None
    if "refused" in found.facts:
        raise RelayedError(f"{path}{found.facts['refused']}")
    return found


def with_targets(model: OwnModel, folder: Path, data: DataModule) -> tuple[Path, DataModule]:
    """The stored examples with the targets that the file makes of them, stored likewise.

    They are made once, so that every framework gets the same bytes.

    Raises:
        ParityError: if it makes none that can be learned.
    """
    if not model.makes_targets:
        return folder, data
    made = ask("model_targets", model.path, model.backends, data=folder).arrays
    try:
        other = DataModule(
            *(data.X_train, made["y_train"], data.X_val, made["y_val"]),
            name=data.name,
            divisor=data.divisor,
            image_shape=data.image_shape,
            source=f"{data.source}; targets of {model.path.name}",
            any_targets=True,
        )
    except ParityError as error:
        raise error.inside(f"{model.path}: targets") from None
    stored = store(other)
    return stored, DataModule.open(stored, data.batch_size)
