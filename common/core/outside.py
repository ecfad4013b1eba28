"""What comes from outside, read with limits on its size, depth and numbers before it is used.

Records, baselines, reports, TOML, lines of progress, a user's data: each may be broken or hostile.
Archives of arrays are read by :mod:`core.archive`.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, get_args

from framework_parity.common.core.errors import plain

MOST_BYTES = 2**25
"""Of a JSON or TOML file: far more than a report of many runs takes."""

MOST_DEPTH = 64
"""Of objects and lists in each other."""

MOST_BITS = 512
"""Of a whole number; far below what no float can hold."""

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a link",
}


def open_file(path: Path, links: bool = True) -> IO[bytes]:
    """Open a regular file to be read: nothing that may never end, or never begin.

    Args:
        path: where it is.
        links: whether the path may be a link to it.

    Raises:
        OSError: if it cannot be opened, or is something else.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | (0 if links else getattr(os, "O_NOFOLLOW", 0)))
    except OSError as error:
        if error.errno != errno.ELOOP and not (error.errno == errno.ENXIO and path.exists()):
            raise
        raise OSError(errno.EINVAL, _no_file(path.lstat()), str(path)) from None
    if not stat.S_ISREG((facts := os.fstat(handle)).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, _no_file(facts), str(path))
    return open(handle, "rb")


def _no_file(facts: os.stat_result) -> str:
    return f"{KINDS.get(stat.S_IFMT(facts.st_mode), 'something else')}, not a regular file"


def read_bytes(path: Path, most: int = MOST_BYTES, links: bool = True) -> bytes:
    """The content of a file of at most so many bytes; ``links`` as of :func:`open_file`.

    Raises:
        OSError: if it cannot be read, or is no regular file.
        ValueError: if it is larger.
    """
    with open_file(path, links) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"more than {most:,} bytes")
    return content


def read_json(path: Path, links: bool = True, finite: bool = True) -> Any:
    """The value of a JSON file; arguments as of :func:`open_file` and :func:`parse_json`.

    Raises:
        OSError: if it cannot be read, or is no regular file.
        ValueError: if it is no JSON, or beyond a limit.
    """
    return parse_json(read_bytes(path, links=links), finite)


def parse_json(text: bytes | str, finite: bool = True) -> Any:
    """The value of a JSON text.

    Args:
        text: UTF-8, if bytes.
        finite: whether all numbers must be.

    Raises:
        ValueError: if it is no JSON, names something twice, or is beyond a limit.
    """
    said = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(said, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
    return _within(value, finite)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        OSError: if it cannot be read, or is no regular file.
        ValueError: if it is no TOML, or beyond a limit.
    """
    try:
        value = tomllib.loads(read_bytes(path).decode())
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} deep") from None
    _within(value, finite=False)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} twice")
    return found


def _within(value: Any, finite: bool) -> Any:
    """The value, if nothing of it is beyond a limit."""
    layer, depth = [value], 0
    while layer:
        if depth > MOST_DEPTH:
            raise ValueError(f"nested more than {MOST_DEPTH} deep")
        below: list[Any] = []
        for item in layer:
            if isinstance(item, dict):
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, int):
                if item.bit_length() > MOST_BITS:
                    raise ValueError(f"a whole number of more than {MOST_BITS} bits")
            elif finite and isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"{item} is no number")
        layer, depth = below, depth + 1
    return value


def plain_values(value: Any) -> Any:
    """A value of JSON in which no text steers a terminal or a page."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {plain(name): plain_values(item) for name, item in value.items()}
    return [plain_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def misfit(value: Any, form: Any, place: str = "") -> str | None:
    """Where a value that was read is not as it must be, and what is there; None if all of it is.

    Args:
        value: what JSON or TOML holds.
        form: a type, or several (``int | None``; True is no number); a dict of forms, for an
            object with these entries at the least; a list of one form, for a list of such.
        place: what stands before the answer.
    """
    parts: Iterable[tuple[object, Any, Any]]
    if isinstance(form, dict) and isinstance(value, dict):
        parts = ((name, value.get(name), kind) for name, kind in form.items())
    elif isinstance(form, list) and isinstance(value, list):
        parts = ((number, item, form[0]) for number, item in enumerate(value))
    elif isinstance(form, (dict, list)) or not isinstance(value, form):
        return f"{place}{str(value)[:80]!r}"
    else:
        is_odd = isinstance(value, bool) and bool not in (get_args(form) or (form,))
        return f"{place}{value}" if is_odd else None
    found = (misfit(item, kind, f"{place}{name}: ") for name, item, kind in parts)
    return next(filter(None, found), None)
