"""A process that the launcher started: its standard streams, and how it ends."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
from pathlib import Path
from typing import NoReturn, TextIO

NEXT = "next"
"""The event by which a process says that one run is done and it begins the next."""


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


def leave() -> NoReturn:
    """End this process now that its records are written.

    For interpreter and framework to take themselves apart takes up to 0.7 s (TensorFlow).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
