"""Locks between processes, waited for with a limit, and with a word on what is waited for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import filelock

SILENT_SECONDS = 2.0
"""Waited without a word."""


def wait_for(
    path: Path,
    seconds: float,
    is_stopped: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda _: None,
) -> filelock.BaseFileLock:
    """Take a lock; it is held until it is released.

    Args:
        path: of its file.
        seconds: that are waited.
        is_stopped: asked now and then whether to give up.
        tell: told what is waited for, if it lasts.

    Raises:
        InterruptedError: if the waiting was given up.
        TimeoutError: if it took too long.
    """
    lock = filelock.FileLock(path)
    for limit in (min(SILENT_SECONDS, seconds), seconds):
        try:
            lock.acquire(timeout=limit, cancel_check=is_stopped)
            return lock
        except filelock.Timeout:
            if is_stopped():
                raise InterruptedError from None
        tell(f"waiting for another process, which holds {path}")
    raise TimeoutError(f"another process has held {path} for {seconds:g} s")
