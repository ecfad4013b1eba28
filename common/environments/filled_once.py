"""Folders in the cache that are filled once, whoever asks first."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock

from framework_parity.common.core.errors import Complaint
from framework_parity.common.core.files import write_whole

COMPLETE = "complete.json"


class BuildError(Complaint):
    """Why there is no environment; ``output`` is all that a program said that failed."""

    output = ""


def is_complete(folder: Path) -> bool:
    """Whether a folder was filled to the end."""
    return (folder / COMPLETE).exists()


def build_once(
    folder: Path,
    make: Callable[[], Mapping[str, Any]],
    tell: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Fill a folder, under a lock, unless it is complete; nothing is left of a failure.

    Args:
        folder: empty when ``make`` is called.
        make: fills it; gives what :data:`COMPLETE` says of it, among it the ``version``.
        tell: told what is being done.
        stop: when it is set, the lock is no longer waited for.

    Raises:
        BuildError: if it was interrupted; and whatever ``make`` raises.
    """
    if is_complete(folder):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell("waiting for another installation")
    try:
        held = filelock.FileLock(f"{folder}.lock").acquire(cancel_check=stop.is_set)
    except filelock.Timeout:
        raise BuildError("interrupted") from None
    with held:
        if is_complete(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            facts = make()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_whole(folder / COMPLETE, facts)
