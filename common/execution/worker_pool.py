"""Workers for a whole test run, so that a framework is imported once.

One for every environment, in a folder that all processes of the run share (those of pytest-xdist):
whoever comes first starts it, and the others connect to it. They take turns. It ends when the last
of them has let go of it or has ended, however; see :mod:`worker.server`, which is its half.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from framework_parity.common.core.outside import misfit, parse_json
from framework_parity.common.core.programs import end_all
from framework_parity.common.environments.backend import ROOT, Environment
from framework_parity.common.environments.lock import wait_for
from framework_parity.common.environments.program import clean_environment
from framework_parity.common.execution.process import WORKER, Process, log_tail
from framework_parity.common.worker.server import HELLO

ATTEMPTS = 3
"""A worker may end in the moment in which it is found; then another one is started."""

TURN_SECONDS = 3600.0
"""In which all who came before have had their turns."""

GREETING_SECONDS = 60.0
"""In which a worker that was started, or has nothing to do, gives a sign of life."""

SUPPORTED = hasattr(socket, "AF_UNIX") and hasattr(os, "killpg")
"""Whether this system has what it takes."""


class WorkerPool:
    """The workers of one folder, which need not be there, as one process sees them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._idle: dict[str, PooledWorker] = {}

    def take(
        self, environment: Environment, variables: Mapping[str, str], given_up: Callable[[], bool]
    ) -> PooledWorker:
        """Wait for a worker's turn, until it is given up; start it if there is none.

        Raises:
            OSError: if it cannot be started.
            InterruptedError: if the waiting was given up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        name = "-".join([worker_name(environment), *variables.values()])
        turn = wait_for(self.folder / f"{name}.lock", TURN_SECONDS, given_up)
        try:
            worker = self._connect(name, environment, variables)
        except BaseException:
            turn.release()
            raise

        def over() -> None:
            if worker.waits:
                self._idle[name] = worker
            else:
                worker.end()  # before anybody else connects to it
                worker.hang_up()
            turn.release()

        worker.over = over
        return worker

    def close(self) -> None:
        """Let go of all of them."""
        while self._idle:
            self._idle.popitem()[1].hang_up()

    def _connect(
        self, name: str, environment: Environment, variables: Mapping[str, str]
    ) -> PooledWorker:
        for _ in range(ATTEMPTS):
            worker = self._idle.pop(name, None) or PooledWorker.at(self.folder / name)
            worker = worker or self._start(name, environment, variables)
            with contextlib.suppress(OSError, ValueError):
                worker.greet()
                return worker
            worker.hang_up()
        said = log_tail(self.folder / f"{name}.log")
        raise OSError(f"it ended {ATTEMPTS} times before its first word; its log ends: {said}")

    def _start(
        self, name: str, environment: Environment, variables: Mapping[str, str]
    ) -> PooledWorker:
        place = self.folder / name
        with socket.socket(socket.AF_UNIX) as listener, _short(place) as address:
            place.unlink(missing_ok=True)
            listener.bind(address)
            place.chmod(0o600)
            listener.listen()
            # Connected before it is started: a worker that nobody waits for would never end.
            worker = PooledWorker.at(place)
            assert worker is not None
            program = [str(environment.python), *WORKER, "--listen"]
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
                worker.hang_up()
                raise
        threading.Thread(target=process.wait, daemon=True).start()  # it may end at any time
        return worker


class PooledWorker(Process):
    """One turn of a worker of the pool, or the connection to it while nobody's turn it is.

    Attributes:
        over: called at the end of the turn.
    """

    over: Callable[[], None]

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(
            connection.makefile("r", encoding="utf-8", errors="replace"),
            connection.makefile("w", encoding="utf-8"),
        )
        self._connection, self._pid, self._killed = connection, 0, False

    @classmethod
    def at(cls, place: Path) -> PooledWorker | None:
        """Connect to the socket at that place; None if nobody listens there."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            with _short(place) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            return None
        return cls(connection)

    def greet(self) -> None:
        """Ask the worker for a sign of life: it may have ended since it was last asked.

        Raises:
            OSError, ValueError: if there is none.
        """
        self.ask(HELLO)
        try:
            facts = parse_json(self.listen(GREETING_SECONDS) or "null")
        except queue.Empty:
            raise TimeoutError(f"no word in {GREETING_SECONDS:g} s") from None
        if odd := misfit(facts, {"event": str, "pid": int}):
            raise ValueError(odd)
        self._pid = facts["pid"]

    def failure(self) -> tuple[str, bool] | None:
        return None if self.waits else ("its process ended", self._killed)

    def is_gone(self) -> bool:
        try:
            os.kill(self._pid, 0)
        except ProcessLookupError:
            return True
        return False

    def end(self) -> None:
        self._killed = True
        if self._pid:
            end_all(self._pid)

    def close(self) -> None:
        self.over()

    def hang_up(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)  # whoever reads from it stops
        if self._stop_listening():
            self._lines.close()
        with contextlib.suppress(OSError):
            self._requests.close()
        self._connection.close()


def worker_name(environment: Environment) -> str:
    """The name of the worker of an environment: a file's name."""
    python = hashlib.sha256(os.fsencode(str(environment.python))).hexdigest()
    return f"{environment.label}-{python[:8]}"


@contextlib.contextmanager
def _short(place: Path) -> Iterator[str]:
    """A path of the same file that a socket's address has room for, some 100 bytes."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        link = Path(folder, "to")
        link.symlink_to(place.parent.absolute(), target_is_directory=True)
        yield str(link / place.name)
