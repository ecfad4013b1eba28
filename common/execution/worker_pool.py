"""Workers that stay within a test run, so that a framework is imported once.

One for every environment, in a folder that all processes of the run share (those of pytest-xdist):
whoever comes first starts it, and the others connect to it. They take turns. It ends when the last
of them has let go of it or has ended, however; see :mod:`worker.server`, which is its half.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import filelock

from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.program import clean_environment
from framework_parity.common.execution.job_process import log_tail
from framework_parity.common.worker.server import HELLO, IDLE

ATTEMPTS = 3
"""A worker may end in the moment in which it is found; then another one is started."""

GREETING_SECONDS = 60.0
"""In which a worker that was started, or has nothing to do, gives a sign of life."""

CAN_STAY = hasattr(socket, "AF_UNIX") and hasattr(os, "killpg")
"""Whether this system has what it takes."""


class StayingWorkers:
    """The staying workers of one folder, as one process sees them.

    Args:
        folder: where they are; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: dict[str, _Line] = {}

    def take(
        self,
        name: str,
        program: Sequence[str],
        variables: Mapping[str, str],
        given_up: Callable[[], bool],
    ) -> StayingProcess:
        """Wait for a worker's turn; start it if there is none.

        Args:
            name: tells workers apart; a file's name.
            program: the command that starts it; the number of its socket follows.
            variables: added to its environment.
            given_up: asked while waiting; if true, the waiting ends.

        Raises:
            OSError: if it cannot be started.
            InterruptedError: if the waiting was given up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        turn = filelock.FileLock(self.folder / f"{name}.lock")
        try:
            turn.acquire(cancel_check=given_up)
        except filelock.Timeout:
            raise InterruptedError from None
        try:
            line = self._connect(name, program, variables)
        except BaseException:
            turn.release()
            raise

        def over(sound: bool) -> None:
            if sound:
                self._lines[name] = line
            else:
                line.close()
            turn.release()

        return StayingProcess(line, over)

    def close(self) -> None:
        """Let go of all of them."""
        while self._lines:
            self._lines.popitem()[1].close()

    def _connect(self, name: str, program: Sequence[str], variables: Mapping[str, str]) -> _Line:
        for _ in range(ATTEMPTS):
            line = self._lines.pop(name, None) or _Line.to(self.folder / name)
            line = line or self._start(name, program, variables)
            with contextlib.suppress(OSError, ValueError, KeyError):
                line.greet()
                return line
            line.close()
        said = log_tail(self.folder / f"{name}.log")
        raise OSError(f"it ended {ATTEMPTS} times before its first word; its log ends: {said}")

    def _start(self, name: str, program: Sequence[str], variables: Mapping[str, str]) -> _Line:
        place = self.folder / name
        with socket.socket(socket.AF_UNIX) as listener, _short(place) as address:
            place.unlink(missing_ok=True)
            listener.bind(address)
            place.chmod(0o600)
            listener.listen()
            # Connected before it is started: a worker that nobody waits for would never end.
            line = _Line.to(place)
            assert line is not None
            try:
                with (self.folder / f"{name}.log").open("w", encoding="utf-8") as log:
                    process = subprocess.Popen(
                        [*program, str(listener.fileno()), str(place)],  # the place for ps
                        cwd=ROOT,
                        env={**clean_environment(), **variables},
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        pass_fds=[listener.fileno()],
                        start_new_session=True,
                    )
            except OSError:
                line.close()
                raise
        threading.Thread(target=process.wait, daemon=True).start()  # it may end at any time
        return line


class _Line:
    """A connection to a staying worker.

    Attributes:
        pid: the worker's process, once it greeted.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.pid = connection, 0
        self.file = connection.makefile("r", encoding="utf-8", errors="replace")

    @classmethod
    def to(cls, place: Path) -> _Line | None:
        """Connect to the socket at that place; None if nobody listens there."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            with _short(place) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def ask(self, request: object) -> None:
        """Send a request."""
        self.connection.sendall(f"{json.dumps(request)}\n".encode())

    def greet(self) -> None:
        """Ask the worker for a sign of life: it may have ended since it was last asked.

        Raises:
            OSError, ValueError, KeyError: if there is none.
        """
        self.connection.settimeout(GREETING_SECONDS)
        self.ask(HELLO)
        facts = json.loads(self.file.readline())
        self.connection.settimeout(None)
        if facts["event"] != HELLO:
            raise ValueError(facts)
        self.pid = int(facts["pid"])

    def close(self) -> None:
        """Hang up."""
        self.file.close()
        self.connection.close()


class StayingProcess:
    """One turn of a staying worker: a :class:`job_process.Process`.

    Args:
        line: the connection to it.
        over: told once, at the end of the turn, whether it may be asked again.
    """

    def __init__(self, line: _Line, over: Callable[[bool], None]) -> None:
        self._line, self._over = line, over
        self._sound = self._killed = False

    def ask(self, words: Sequence[str]) -> None:
        """Send a request: the arguments of a worker."""
        with contextlib.suppress(OSError):  # it ended: it will not have a line to say, either
            self._line.ask(list(words))

    def lines(self) -> Iterator[str]:
        with contextlib.suppress(OSError):
            for line in self._line.file:
                if line.rstrip() == IDLE:
                    self._sound = True
                    return
                yield line

    def failure(self) -> tuple[str, bool] | None:
        return None if self._sound else ("its process ended", self._killed)

    def end(self) -> None:
        self._killed = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._line.pid, signal.SIGKILL)

    def close(self) -> None:
        if not self._sound:
            self.end()  # before anybody else connects to it
        self._over(self._sound)


@contextlib.contextmanager
def _short(place: Path) -> Iterator[str]:
    """A path of the same file that a socket's address has room for, some 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        link = Path(folder, "to")
        link.symlink_to(place.parent.absolute(), target_is_directory=True)
        yield str(link / place.name)
