"""Where the suite keeps what it fetched and built."""

from __future__ import annotations

import os
import sys
from pathlib import Path

CACHE_VARIABLE = "FRAMEWORK_PARITY_CACHE"
DATA_VARIABLE = "FRAMEWORK_PARITY_DATA"
MEMORY_VARIABLE = "FRAMEWORK_PARITY_MEMORY"


def cache_directory() -> Path:
    """The user's cache folder: ``$FRAMEWORK_PARITY_CACHE``, else the platform's convention.

    The folder is not created here.
    """
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
