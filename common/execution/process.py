"""A process that carries out requests: how it is asked, how it ends, what to say of a bad end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from framework_parity.common.core.outside import open_file
from framework_parity.common.core.programs import MARK, end_all, new_mark
from framework_parity.common.environments.backend import BOOTSTRAP, ROOT, Environment
from framework_parity.common.environments.external import ExternalEnvironment
from framework_parity.common.environments.external_command import fill
from framework_parity.common.environments.program import clean_environment
from framework_parity.common.worker.request import Request
from framework_parity.common.worker.server import done

TRACEBACK = "Traceback (most recent call last):"
OURS = re.compile(r"^framework_parity\.[\w.]+\.(?=\w+: )")
"""Where a class of ours is, before what its exception says."""
LOG_LINES = 5
"""How many of a log's last lines the reason of a failure quotes."""

LONGEST_LINE = 2**20
"""Of characters; what is longer is no progress."""

MOST_LINES = 1000
"""That wait to be told; then whoever says more waits."""

TICK_SECONDS = 0.2

MOST_LOG_BYTES, LOG_PART_BYTES = 2**24, 2**20
"""Of a log, and of its first and last part, which stay."""

WORKER = (BOOTSTRAP, "framework_parity.common.worker")
"""The arguments of an interpreter that make it a worker."""


def command(environment: Environment, request: Request) -> tuple[str, ...]:
    """What carries out a request: a worker, to whom it is handed, or a program of another language.

    That one takes it apart as its ``command.toml`` says, and ends with it.
    """
    if not isinstance(environment, ExternalEnvironment):
        return (str(environment.python), *WORKER, str(request.file))
    fields = {"record": request.record, **request.fields}
    if "reference" in fields:
        fields["reference"] /= "arrays.npz"
    values = {"task": request.kind, "reference": "", "seed": "0"}
    for name, value in fields.items():
        values[name] = str(value.absolute() if isinstance(value, Path) else value)
    return (str(environment.python), *fill(environment.arguments, values))


class Process(ABC):
    """What the launcher asks of a process, whether it ends with its requests or stays.

    Args:
        lines: what it says.
        requests: where it reads.

    Attributes:
        waits: whether it has carried out all that it was asked.
    """

    def __init__(self, lines: IO[str], requests: IO[str]) -> None:
        self._lines, self._requests, self.waits = lines, requests, False
        self._said: queue.Queue[str | None] = queue.Queue(MOST_LINES)
        self._reader: threading.Thread | None = None

    def ask(self, request: object) -> None:
        """Hand it a request: the path of its file."""
        self._requests.write(f"{json.dumps(request, default=str)}\n")
        self._requests.flush()

    def progress(self, request: Path) -> Iterator[str]:
        """What it says, line by line, until it has carried out that request, or ends.

        An empty line whenever it has said nothing for a while.
        """
        self.waits, last, gone = False, done(request), False
        while True:
            try:
                line = self.listen(TICK_SECONDS)
            except queue.Empty:
                if gone:  # what it started may hold its pipe for ever
                    return
                gone = self.is_gone()
                yield ""
                continue
            if line is None:
                return
            if line.rstrip("\n") == last:
                self.waits = True
                return
            yield line

    def listen(self, seconds: float) -> str | None:
        """The next line; None if there will be no other one.

        Raises:
            queue.Empty: if there is none in this time.
        """
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self._said.get(timeout=seconds)

    def _read(self) -> None:
        is_new = True
        with contextlib.suppress(OSError, ValueError):
            while line := self._lines.readline(LONGEST_LINE):
                if is_new and len(line) < LONGEST_LINE:
                    self._said.put(line)
                is_new = line.endswith("\n")
        self._said.put(None)

    def _stop_listening(self) -> bool:
        """Once it has ended: whether nothing reads its lines any more."""
        deadline = time.monotonic() + TICK_SECONDS
        while self._reader is not None and self._reader.is_alive():
            with contextlib.suppress(queue.Empty):
                self._said.get(timeout=0.01)
            if time.monotonic() > deadline:
                return False
        return True

    @abstractmethod
    def is_gone(self) -> bool:
        """Whether it has ended."""

    @abstractmethod
    def failure(self) -> tuple[str, bool] | None:
        """After the last line: why it did not carry it out, and whether it was killed."""

    @abstractmethod
    def end(self) -> None:
        """Kill it and all that it started; from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it: what it started ends, too."""


class OwnProcess(Process):
    """A process that is started for one group of requests and ends with them.

    Args:
        command: the program and its arguments; run from the project's root, without a shell.
        log: takes its standard error.
        variables: added to its environment.
        cpus: the processors that it keeps to; None for all.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        variables: Mapping[str, str],
        cpus: Sequence[int] | None,
    ) -> None:
        with log.open("a", encoding="utf-8") as file:
            if cpus is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cpus)  # of this thread; the process inherits it
            self._mark = new_mark()
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**clean_environment(), **variables, MARK: self._mark},
                stdin=subprocess.PIPE,  # a worker ends itself when this closes
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        super().__init__(self._process.stdout, self._process.stdin)

    def failure(self) -> tuple[str, bool] | None:
        if self.waits:
            return None
        code = self._process.wait()
        if code < 0:
            return f"killed by {_signal_name(-code)}", True
        return (f"ended with exit status {code}", False) if code else None

    def is_gone(self) -> bool:
        return self._process.poll() is not None

    def end(self) -> None:
        end_all(self._process.pid, self._mark)

    def close(self) -> None:
        self.end()  # what it started may outlive it
        self._process.wait()
        with contextlib.suppress(OSError):  # what it was asked and did not read
            self._requests.close()
        if self._stop_listening():  # else it closes with its reader
            with contextlib.suppress(OSError):
                self._lines.close()


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


def cut_log(log: Path) -> None:
    """Of a log that is too long keep the first and the last part; whoever writes appends."""
    with contextlib.suppress(OSError):
        if not log.stat().st_size > MOST_LOG_BYTES:
            return
        with open_file(log) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(size - LOG_PART_BYTES)
            last = file.read(LOG_PART_BYTES)
        os.truncate(log, LOG_PART_BYTES)
        with log.open("ab") as file:
            file.write(b"\n[ ... left out: the log was too long ... ]\n" + last)


def log_tail(log: Path) -> str:
    """The last lines of a log, joined; of a traceback only what it says at its end."""
    try:
        with open_file(log) as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    # Lines of nothing but marks point at a part of the line above, which no longer stands there.
    said = [line for line in lines if line.strip(" ^~")]
    if TRACEBACK in said:
        last = len(said) - said[::-1].index(TRACEBACK)
        said = [line for line in said[last:] if not line.startswith(" ")]
    return " | ".join(OURS.sub("", line.strip()) for line in said[-LOG_LINES:])
