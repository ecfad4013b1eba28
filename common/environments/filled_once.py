"""Folders in the cache that are filled once, whoever asks first."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import filelock

from framework_parity.common.core.files import write_whole

COMPLETE = "complete.json"


class BuildError(Exception):
    """Why there is no environment; ``output`` is all that a program said that failed."""

    output = ""


Tell = Callable[[str], None]
"""Told what is being done."""


def build_once(
    folder: Path,
    make: Callable[[], Mapping[str, Any]] | Literal[False],
    tell: Tell,
    stop: threading.Event,
    absent: str = "not built yet",
) -> None:
    """Fill a folder, under a lock, unless it is complete; nothing is left of a failure.

    Args:
        folder: empty when ``make`` is called.
        make: fills it; gives what :data:`COMPLETE` says of it, among it the ``version``. False if
            it is not to be filled now.
        tell: told what is being done.
        stop: when it is set, the lock is no longer waited for.
        absent: what to say of a folder that is not to be filled and was not.

    Raises:
        BuildError: if it was interrupted, or is absent; and whatever ``make`` raises.
    """
    complete = folder / COMPLETE
    if complete.exists():
        return
    if not make:
        raise BuildError(f"{absent}: compare.py setup")
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell("waiting for another installation")
    try:
        held = filelock.FileLock(f"{folder}.lock").acquire(cancel_check=stop.is_set)
    except filelock.Timeout:
        raise BuildError("interrupted") from None
    with held:
        if complete.exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            facts = make()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        write_whole(complete, facts)
