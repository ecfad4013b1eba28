"""How much memory this process held, by kind, while something ran.

Worker-side: standard library only.
"""

from __future__ import annotations

import threading
from pathlib import Path

SECONDS = 0.02
"""Between two looks."""
KINDS = {"RssAnon": "anonymous", "RssFile": "file", "RssShmem": "shared"}
"""What Linux tells apart: memory that was asked for, and pages of files that are mapped."""


def resident_bytes() -> dict[str, int]:
    """Resident memory of this process now, by kind; nothing where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {KINDS[name]: int(value.split()[0]) * 1024 for name, _, value in pairs if name in KINDS}


class Watch:
    """Looks again and again in a thread; the largest of what it saw is in ``peaks``.

    The kernel keeps one peak for all kinds together (``VmHWM``); of each apart it has none.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while True:
            for kind, size in resident_bytes().items():
                self.peaks[kind] = max(size, self.peaks.get(kind, 0))
            if self._ended.wait(SECONDS):
                return
