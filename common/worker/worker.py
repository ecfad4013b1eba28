"""What a worker does with a request: read it, call its kind, leave the record."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from framework_parity.common.core.device import asked_device
from framework_parity.common.core.errors import ParityError
from framework_parity.common.training.record import Record
from framework_parity.common.worker.request import Request

Kind = Callable[..., Record]
"""A function of the worker and of a request's fields, by name: ``train(worker, plan, …)``."""

DRAWS_NOTHING = ("train", "probe", "independent")
"""Kinds in which no code of a user's own runs."""


class Worker:
    """A process that carries out requests, one after the other: a framework is imported once.

    Args:
        out: where lines of progress go.

    Attributes:
        earlier: implementations that it has trained before.
        import_seconds: what the first import of a backend took.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.earlier: list[str] = []
        self.import_seconds: float | None = None

    def say(self, event: str, **facts: Any) -> None:
        """Write one line of progress."""
        print(json.dumps({"event": event, **facts}), file=self.out, flush=True)

    def backend(self, name: str) -> Any:
        """A backend's public interface, on the device that this process was told to compute on."""
        started = time.perf_counter()
        if self.import_seconds is None:
            self.say("importing")
        d2l = importlib.import_module(f"framework_parity.backends.{name}")
        if self.import_seconds is None:
            d2l.Trainer.use_device(asked_device())
            self.import_seconds = time.perf_counter() - started
        return d2l

    def carry_out(self, file: Path, find_kind: Callable[[str], Kind]) -> None:
        """Do what a request asks for and write its record.

        Raises:
            SystemExit: with one line, if it is not a request that can be carried out.
        """
        try:
            request = Request.read(file)
            kind = find_kind(request.kind)
            arguments = request.arguments(kind)
        except ParityError as error:
            sys.exit(str(error))
        if request.kind in DRAWS_NOTHING:
            # Keras imports half a second of it if it is there.
            sys.modules["matplotlib"] = None  # type: ignore[assignment]
        begin_anew(request.log)
        kind(self, **arguments).save(request.record)
        sys.stdout.flush()  # whoever hears of the end may end this process
        sys.stderr.flush()
        if implementation := request.fields.get("implementation"):
            self.earlier.append(implementation)


def begin_anew(log: Path) -> None:
    """Before a request: forget an earlier one's memory, and write to its own log.

    The peak counts from here where the system can reset it; elsewhere from the process's start.
    """
    gc.collect()  # frameworks' compiled functions refer to themselves
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("a", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
