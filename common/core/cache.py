"""Where the suite keeps what it fetched and built."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from pathlib import Path

from framework_parity.common.core.errors import ParityError

CACHE_VARIABLE = "FRAMEWORK_PARITY_CACHE"
DATA_VARIABLE = "FRAMEWORK_PARITY_DATA"
MEMORY_VARIABLE = "FRAMEWORK_PARITY_MEMORY"


def cache_directory() -> Path:
    """The user's cache folder: ``$FRAMEWORK_PARITY_CACHE``, else the platform's convention.

    The folder is not created here.

    Raises:
        ParityError: if others may write to it: what it holds is run.
    """
    check_own(folder := _cache_directory())
    return folder


def check_own(folder: Path) -> None:
    """Raise ParityError if others than the user may write to a folder of the cache.

    A group of the user alone, which has the user's name, is no other; nor is root.
    """
    if sys.platform == "win32":
        return
    import grp
    import pwd

    try:
        facts, user = folder.stat(), os.geteuid()
    except OSError:
        return
    own_group = False
    with contextlib.suppress(KeyError):
        own_group = grp.getgrgid(facts.st_gid).gr_name == pwd.getpwuid(user).pw_name
    who = f"user {facts.st_uid} owns" * (facts.st_uid not in (user, 0))
    who = who or "everybody may write to" * bool(facts.st_mode & stat.S_IWOTH)
    who = who or f"group {facts.st_gid} may write to" * bool(
        facts.st_mode & stat.S_IWGRP and not own_group
    )
    if who:
        raise ParityError(
            folder,
            "a cache that is yours alone, since what it holds is run",
            f"one that {who}",
            f"chmod go-w it, or set {CACHE_VARIABLE} to another folder",
        )


def make_own(folder: Path) -> None:
    """Make a folder of the cache, and those above it, which the user alone may write to."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in new:
        path.chmod(path.stat().st_mode & ~(stat.S_IWGRP | stat.S_IWOTH))


def _cache_directory() -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(os.path.expanduser(named)).absolute()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        # A relative path is to be ignored (XDG Base Directory Specification); workers, which run
        # in another folder, would not find it.
        named = os.environ.get("XDG_CACHE_HOME", "")
        base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return base / "framework-parity"
