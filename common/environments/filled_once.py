"""Folders in the cache that are filled once, whoever asks first."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from framework_parity.common.core.cache import check_own, make_own
from framework_parity.common.core.errors import told
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.outside import misfit, read_json
from framework_parity.common.environments.lock import wait_for

COMPLETE = "complete.json"

LOCK_SECONDS = 7200.0
"""Longer than an installation may take."""


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
    damage: Callable[[Mapping[str, Any]], str | None] = lambda _: None,
) -> dict[str, Any]:
    """Fill a folder, under a lock, unless it is complete; nothing is left of a failure.

    One that is damaged is filled again.

    Args:
        folder: empty when ``make`` is called.
        make: fills it; gives what :data:`COMPLETE` says of it, among it the ``version``. False if
            it is not to be filled now.
        tell: told what is being done.
        stop: when it is set, the lock is no longer waited for.
        absent: what to say of a folder that is not to be filled and was not.
        damage: told what :data:`COMPLETE` says, says what is wrong with the rest; None if nothing.

    Returns:
        What :data:`COMPLETE` says.

    Raises:
        BuildError: if it was interrupted, or is absent; and whatever ``make`` raises.
        ParityError: if others may write to the folder.
    """
    found = _complete(folder, damage)
    if isinstance(found, dict):
        return found
    if not make:
        reason = absent if found is None else f"{folder} is damaged ({found})"
        raise BuildError(f"{reason}: compare.py setup")
    make_own(folder.parent)
    try:
        held = wait_for(Path(f"{folder}.lock"), LOCK_SECONDS, stop.is_set, tell)
    except InterruptedError:
        raise BuildError("interrupted") from None
    except TimeoutError as error:
        raise BuildError(str(error)) from None
    with held:
        if isinstance(found := _complete(folder, damage), dict):
            return found
        if found is not None:
            tell(f"building it again: {found}")
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
        except FileExistsError:
            raise BuildError(f"{folder} is damaged, and cannot be removed: delete it") from None
        try:
            facts = dict(make())
            if hasattr(os, "sync"):
                os.sync()  # before it is called complete: many files of other programs
            write_whole(folder / COMPLETE, facts, lasting=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return facts


def _complete(
    folder: Path, damage: Callable[[Mapping[str, Any]], str | None]
) -> dict[str, Any] | str | None:
    """What is said of a complete folder; None if there is none, or what is wrong with it."""
    try:
        facts = read_json(folder / COMPLETE)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"{COMPLETE}: {told(error)}"
    check_own(folder)
    odd = misfit(facts, {"version": str}) or misfit(facts.get("gave_way", []), [str])
    if odd is not None:
        return f"{COMPLETE}: {odd}"
    return damage(facts) or facts
