"""How a worker is asked: one request after the other, until nobody is there to ask.

The other end is :mod:`execution.process`.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

HELLO = "hello"
"""The question for a sign of life, and the event that answers it: ``pid`` is the worker's."""


def done(request: Path) -> str:
    """The line by which a worker says that a request is carried out: it waits for the next."""
    return json.dumps({"event": "done", "request": str(request)})


class Server:
    """The threads that listen while the main one works: frameworks expect that one.

    A request is a line, its file's path in JSON; the answers are lines of progress, the last one
    :func:`done`. :data:`HELLO` is answered at once. The process ends when nobody is left to ask,
    and when whoever asked for what is under way is gone.
    """

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[TextIO, Path]] = queue.SimpleQueue()
        self._lock, self._askers = threading.Lock(), 0
        self._busy: TextIO | None = None

    def accept(self, listener: socket.socket) -> None:
        """From now on listen to whoever connects."""

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                self.hear(
                    connection.makefile("r", encoding="utf-8"),
                    connection.makefile("w", encoding="utf-8"),
                )

        threading.Thread(target=accept, daemon=True).start()

    def hear(self, lines: TextIO, out: TextIO) -> None:
        """From now on listen to this stream, and answer on the other one."""

        def hear() -> None:
            try:
                for line in lines:
                    if (request := json.loads(line)) == HELLO:
                        answer = {"event": HELLO, "pid": os.getpid()}
                        print(json.dumps(answer), file=out, flush=True)
                    else:
                        self.ask(Path(request), out)
            finally:  # it closed, or broke
                with self._lock:
                    self._askers -= 1
                    if out is self._busy or not self._askers:
                        os._exit(0 if self._busy is None and self._requests.empty() else 1)

        with self._lock:
            self._askers += 1
        threading.Thread(target=hear, daemon=True).start()

    def ask(self, request: Path, out: TextIO) -> None:
        """Have a request carried out; its progress goes to that stream."""
        self._requests.put((out, request))

    def serve(self, carry_out: Callable[[Path, TextIO], None]) -> NoReturn:
        """Carry out requests for ever, one at a time; ends with what one of them raises."""
        while True:
            out, request = self._requests.get()
            self._busy = out
            carry_out(request, out)
            self._busy = None  # before it is said, so that whoever heard it may leave
            print(done(request), file=out, flush=True)
