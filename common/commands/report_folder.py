"""The folder of a report: checked, prepared, and what is said when it cannot be written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from framework_parity.common.commands.bisection_state import STATE_FILE
from framework_parity.common.core.errors import NotRunError, ParityError, told
from framework_parity.common.core.machine import available_bytes
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.report.facts import FILE
from framework_parity.common.report.page import PAGE
from framework_parity.common.training.plan import Plan

PLAN = "plan/plan.json"
"""What a folder holds that a comparison left, and each of its ``seed-N``."""

OWN_FOLDERS = ("plan", "runs", "reference", "second_look")
"""What a comparison puts beside its report, and replaces there if there is a plan among them.

So it does with ``seed-N`` (see :func:`seed_folders`), of which each has a plan of its own.
"""

STEPS_FILE = "steps.json"
"""What ``compare.py plan`` puts beside its plan, and a comparison does not."""

NO_ROOM = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
}
"""The errors of the system that another folder, or room in this one, mends."""


def seed_folders(folder: Path) -> list[Path]:
    """What in a folder is called as a comparison over seeds calls its further plans: ``seed-N``."""
    return [path for path in folder.glob("seed-*") if re.fullmatch("seed-[0-9]+", path.name)]


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise ParityError unless a report can be written to the folder. Writes nothing that stays."""
    if os.path.exists(folder / FILE) and not overwrite:
        raise ParityError(
            folder,
            "a folder without a report",
            f"one that holds {FILE}",
            "name another --out or add --overwrite",
        )
    with _writable(folder):
        has_plan = (folder / PLAN).exists()
        if has_plan and (folder / STEPS_FILE).exists():
            raise ParityError(
                folder,
                "a folder for a report",
                "one that compare.py plan wrote, whose plan and reference are still to judge by",
                "name another --out",
            )
        others = [] if has_plan else [name for name in OWN_FOLDERS if (folder / name).exists()]
        others += [path.name for path in seed_folders(folder) if not (path / PLAN).exists()]
        for name in others:
            raise ParityError(
                folder,
                "a folder for a report",
                f"one with a {name} that no comparison left there",
                "name another --out",
            )
        ancestor = folder
        while not ancestor.exists():
            ancestor = ancestor.parent
        with tempfile.TemporaryFile(dir=ancestor):
            pass


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ParityError(
            folder, "a folder that can be written", told(error), "name another --out"
        ) from error


def check_room(plan: Plan, folder: Path) -> None:
    """Raise ParityError unless the reference and its ensemble find room in memory and on the disk.

    Of what they leave the recorded parameters are the largest part; no less will do.
    """
    numbers = plan.W.size * len(plan.snapshots)
    needed = numbers * (8 + ENSEMBLE_MEMBERS * plan.W.itemsize)
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    for where, room in (
        ("memory", available_bytes()),
        (f"the disk of {folder}", shutil.disk_usage(there).free),
    ):
        if needed > room:
            raise ParityError(
                "recorded parameters",
                f"what finds room in {where}, where {room:,} bytes are free",
                f"{needed:,} bytes, for {plan.W.size:,} weights after {len(plan.snapshots)} steps",
                "train a smaller model, or on less",
            )


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder that went away, into a ParityError.

    Any other refusal of the system (no more files, no more memory) is a NotRunError, which does
    not blame the folder.
    """
    try:
        yield
    except OSError as error:
        where, reason = error.filename or folder, told(error)
        if error.errno in NO_ROOM or (error.errno == errno.ENOENT and not folder.exists()):
            raise ParityError(
                where,
                "room and permission to write",
                reason,
                "free space there or name another --out",
            ) from None
        raise NotRunError(
            where,
            "the system to do what a comparison asks of it",
            reason,
            "mend that and try again",
        ) from error


def claim(folder: Path) -> Callable[[], None]:
    """Make a folder, and take it for one run, until what is given is called.

    Raises:
        ParityError: if another run has it, or it cannot be made.
    """
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if sys.platform == "win32":
            return lambda: None
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ParityError(
                folder,
                "a folder that no other run writes to",
                "one that another run is using",
                "wait for its end or name another --out",
            ) from None
        except OSError:
            pass  # some network file systems have no locks
        return lambda: os.close(handle)


def prepare_folder(folder: Path, overwrite: bool) -> None:
    """Create the report's folder; with ``overwrite``, without what an earlier run left there."""
    with _writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        seeds = [path for path in seed_folders(folder) if (path / PLAN).exists()]
        for old in [*(folder / name for name in OWN_FOLDERS), *seeds]:
            if old.exists():
                shutil.rmtree(old)
        if overwrite:
            for name in (FILE, PAGE, STATE_FILE):
                (folder / name).unlink(missing_ok=True)
