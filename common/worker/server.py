"""A worker that stays: it takes one request after the other, until nobody is there to ask.

Needs the standard library only. The other end is :mod:`execution.worker_pool`.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

HELLO = "hello"
"""The request for a sign of life, and the event that answers it: ``pid`` is the worker's."""

IDLE = json.dumps({"event": "idle"})
"""The line by which it says that a request is carried out and it waits for the next."""


def serve(listener: socket.socket, execute: Callable[[Sequence[str], TextIO], None]) -> None:
    """Carry out requests for ever, one at a time, in this thread: frameworks expect the main one.

    A request is a line on a connection, the JSON list of a worker's arguments; the answers are
    lines of progress on the same connection, the last one :data:`IDLE`. The JSON string
    :data:`HELLO` is answered at once. The process ends when the last connection closes, and when
    one closes whose request is under way; as any worker, it ends with what a run raises.

    Args:
        listener: a socket that listens, to which one connection is made already.
        execute: carries out a request, given its arguments and where progress goes.
    """
    server = _Server(listener)
    while True:
        connection, words = server.requests.get()
        server.busy = connection
        with connection.makefile("w", encoding="utf-8") as out:
            execute(words, out)
            server.busy = None  # before it is said, so that whoever heard it may leave
            print(IDLE, file=out, flush=True)


class _Server:
    """The threads that listen while the main one trains."""

    def __init__(self, listener: socket.socket) -> None:
        self.requests: queue.SimpleQueue[tuple[socket.socket, list[str]]] = queue.SimpleQueue()
        self.busy: socket.socket | None = None
        self._listener, self._lock, self._connections = listener, threading.Lock(), 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with self._lock:
                self._connections += 1
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rw", encoding="utf-8") as lines:
                for line in lines:
                    if (request := json.loads(line)) == HELLO:
                        answer = {"event": HELLO, "pid": os.getpid()}
                        print(json.dumps(answer), file=lines, flush=True)
                    else:
                        self.requests.put((connection, request))
        finally:  # it closed, or broke
            with self._lock:
                self._connections -= 1
                if connection is self.busy or not self._connections:
                    os._exit(1)
