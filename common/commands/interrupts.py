"""Ctrl-C and its like: they end a run once, whenever they come and however often."""

from __future__ import annotations

import signal
import threading
import time

PATIENCE_SECONDS = 10.0
"""In which whatever ends may end; a later signal counts again."""

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Interrupts:
    """Raises KeyboardInterrupt in the main thread at the first of these signals.

    Those that are ignored when it begins, as ``nohup`` and a shell's ``&`` have it, stay so.
    """

    def __init__(self) -> None:
        self._before: dict[int, object] = {}
        self._last = -PATIENCE_SECONDS

    def begin(self) -> None:
        """From now on."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._hear)

    def end(self, last: bool) -> None:
        """No longer; if this was the last that the process does, nothing interrupts it any more."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if last else handler)  # type: ignore[arg-type]

    def _hear(self, *_: object) -> None:
        now = time.monotonic()
        if now - self._last > PATIENCE_SECONDS:
            self._last = now
            raise KeyboardInterrupt
