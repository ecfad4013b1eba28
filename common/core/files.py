"""Files that a user names: written whole or not at all, and their places checked beforehand."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from framework_parity.common.core.errors import ParityError


def write_whole(path: Path, text: str) -> None:
    """Write a text file by one rename, so that a reader never sees half of it.

    Folders above it are made. What is there and no regular file (a terminal, a pipe) is written
    to as it is.

    Raises:
        OSError: if there is no room or no permission; the file is then as it was.
    """
    target = path.resolve()  # a link stays one
    if _is_device(path):
        with path.open("w", encoding="utf-8", errors="replace", newline="") as stream:
            stream.write(text)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=".partial-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace", newline="") as file:
            file.write(text)
        os.chmod(partial, target.stat().st_mode & 0o777 if target.exists() else 0o644)
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def check_place(path: Path, option: str) -> None:
    """See that a file can be written there, before anything else is done. Writes nothing.

    Raises:
        ParityError: if it cannot.
    """
    reason = None
    try:
        target = path.resolve()
        if target.is_dir():
            reason = "a folder"
        elif not _is_device(path):
            folder = target.parent
            while not folder.exists():
                folder = folder.parent
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(getattr(error, "strerror", None) or error)
    if reason:
        raise ParityError(
            f"{option}: expected a file that can be written; received {path}, {reason}; "
            "name another one"
        )


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
