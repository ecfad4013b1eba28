"""A child process that a job is run in: its progress, its end, and what to say of a bad one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.program import clean_environment, end_process_group

LOG_LINES = 5
"""How many of a log's last lines the reason of a failure quotes."""


class Process(Protocol):
    """What the launcher asks of a process, whether it ends with its jobs or stays."""

    def lines(self) -> Iterator[str]:
        """What it says of its progress, line by line, until its jobs are over."""

    def failure(self) -> tuple[str, bool] | None:
        """After the last line: why it did not do its jobs, and whether it was killed."""

    def end(self) -> None:
        """Kill it and all that it started; from any thread."""

    def close(self) -> None:
        """Let go of it once its jobs are over: what it started for them ends, too."""


class OwnProcess:
    """A process that is started for its jobs and ends with them.

    Args:
        command: the program and its arguments; run from the project's root, without a shell.
        log: the file that takes its standard error.
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
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**clean_environment(), **variables},
                stdin=subprocess.PIPE,  # a worker ends itself when this closes
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                errors="replace",
                start_new_session=True,
            )

    def lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        yield from self._process.stdout

    def failure(self) -> tuple[str, bool] | None:
        code = self._process.wait()
        if code < 0:
            return f"killed by {_signal_name(-code)}", True
        return (f"ended with exit status {code}", False) if code else None

    def end(self) -> None:
        end_process_group(self._process)

    def close(self) -> None:
        self.end()  # what it started may outlive it
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:  # most real-time signals have none
        return f"signal {number}"
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


def log_tail(log: Path) -> str:
    """The last lines of a log, joined."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    # Lines of nothing but marks point at a part of the line above, which no longer stands there.
    said = [line.strip() for line in lines if line.strip(" ^~")]
    return " | ".join(said[-LOG_LINES:])
