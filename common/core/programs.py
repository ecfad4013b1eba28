"""Other programs, run to their end: no input, no shell, no time without limit, nothing left.

A program may start others that leave its session, and its group with it. They are found by a mark
in their environment, which they inherit, and by their parents; see :func:`end_all`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

POLL_SECONDS = 0.2

MARK = "FRAMEWORK_PARITY_STARTED"
"""The environment variable that holds the marks of the processes above."""

ATTEMPTS = 20
"""A process may start another one while it is looked for."""

SET_CHILD_SUBREAPER = 36
"""Of ``prctl``, from ``linux/prctl.h``."""


def new_mark() -> str:
    """What tells a process and all that it starts from others."""
    return f"{os.environ.get(MARK, '')}{uuid.uuid4().hex}."


def run_to_end(
    command: Sequence[str],
    seconds: float,
    is_stopped: Callable[[], bool] = lambda: False,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program; options as of :class:`subprocess.Popen`.

    What it started and left behind ends with it.

    Raises:
        OSError: if it cannot be started.
        subprocess.TimeoutExpired: if it was ended after so many seconds.
        InterruptedError: if it was ended because it was stopped, which is asked now and then.
    """
    deadline, mark = time.monotonic() + seconds, new_mark()
    options["env"] = {**(options.get("env") or os.environ), MARK: mark}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # so that its helpers end with it
        **options,
    ) as process:
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if is_stopped():
                        raise InterruptedError from None
                    if time.monotonic() > deadline:
                        raise
                    if process.poll() is not None:  # others hold its pipes
                        end_all(process.pid, mark)
        except BaseException:
            end_all(process.pid, mark)
            process.wait()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end_all(pid: int, mark: str = "") -> None:
    """Kill a process that leads its own group, and all that it started; what has ended is no error.

    Args:
        pid: of the process.
        mark: in its environment; without one, those are found whose parents are still there.
    """
    assert pid > 0
    kill = getattr(signal, "SIGKILL", signal.SIGTERM)
    for _ in range(ATTEMPTS):
        found = started_by(pid, mark)  # before their parents end
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(pid, kill)
            else:
                os.kill(pid, kill)
        for other in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(other, kill)
        if not found:
            return
        time.sleep(0.01)


def started_by(pid: int, mark: str = "") -> list[int]:
    """The processes that descend from one, or bear its mark, and have not ended; on Linux.

    With 0 for the process, those that bear the mark and theirs.
    """
    parents: dict[int, int] = {}
    marked: list[int] = []
    try:
        names = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, *_ = file.read().rpartition(b")")[2].split()
            if state in b"ZX":
                continue
            parents[int(name)] = int(parent)
            if mark:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark.encode() in file.read():
                        marked.append(int(name))
    found = dict.fromkeys(marked)
    above = [pid, *marked] if pid else marked
    while above:
        above = [child for child, parent in parents.items() if parent in above]
        above = [child for child in above if child not in found]
        found |= dict.fromkeys(above)
    return [each for each in found if each not in (pid, os.getpid())]


def adopt_orphans() -> list[int]:
    """From now on what this process's descendants leave behind becomes its own child; on Linux.

    Returns:
        The children that it has by now: whoever was there before has left them to it.
    """
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    return started_by(os.getpid())


def end_children(others: Sequence[int]) -> None:
    """Kill everything that descends from this process, but for ``others`` and what they started."""
    for _ in range(ATTEMPTS):
        spared = {*others, *(pid for other in others for pid in started_by(other))}
        if not (found := [pid for pid in started_by(os.getpid()) if pid not in spared]):
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)
