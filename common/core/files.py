"""Files and folders, written whole or not at all; their places checked."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from framework_parity.common.core.errors import ParityError, told

# NumPy is imported where arrays are: a kernel that is to have another one imports this first.


def write_whole(
    path: Path, content: str | bytes | Mapping[str, Any], *, lasting: bool = False
) -> None:
    """Write a file by one rename, so that a reader never sees half of it.

    Folders above it are made. What is there and no regular file (a terminal, a pipe) is written
    to as it is. The content is a text or bytes; or a mapping, of arrays if the name ends in
    ``.npz``, else of facts for a JSON file. With ``lasting`` it is on the disk before the rename,
    so that it is whole after a power cut, too. A new file has the mode that the user's umask says.

    Raises:
        OSError: if there is no room or no permission; the file is then as it was.
    """
    target = path.resolve()  # a link stays one
    if _is_device(path):
        with path.open("wb") as stream:
            _write(stream, path, content)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{secrets.token_hex(8)}")
    try:
        with partial.open("xb") as file:
            _write(file, path, content)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            partial.chmod(target.stat().st_mode & 0o777)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if lasting:
        sync_folder(target.parent)


def sync_folder(folder: Path, files: bool = False) -> None:
    """Have what a folder holds on the disk: its names, and with ``files`` their contents.

    Some systems open no folder; there it is left to them.
    """
    for path in (*(folder.iterdir() if files else ()), folder):
        with contextlib.suppress(PermissionError, IsADirectoryError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _write(file: IO[bytes], path: Path, content: str | bytes | Mapping[str, Any]) -> None:
    if isinstance(content, Mapping) and path.suffix == ".npz":
        import numpy as np

        np.savez(file, **content)
        return
    if isinstance(content, Mapping):
        content = json.dumps(content, indent=1) + "\n"
    file.write(content.encode("utf-8", "replace") if isinstance(content, str) else content)


@contextlib.contextmanager
def new_folder_beside(folder: Path) -> Iterator[Path]:
    """A new folder to fill, then to be renamed to this one; what is left of it is removed.

    Raises:
        OSError: if there is no room or no permission.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = folder.with_name(f".{folder.name}-{secrets.token_hex(8)}")
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


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
        reason = told(error)
    if reason:
        raise ParityError(
            option, "a file that can be written", f"{path}, {reason}", "name another one"
        )


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
