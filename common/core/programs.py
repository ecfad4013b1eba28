"""Other programs, run to their end: no input, no shell, no time without limit, nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

POLL_SECONDS = 0.2


def run_to_end(
    command: Sequence[str],
    seconds: float,
    is_stopped: Callable[[], bool] = lambda: False,
    **options: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program; options as of :class:`subprocess.Popen`.

    Raises:
        OSError: if it cannot be started.
        subprocess.TimeoutExpired: if it was ended after so many seconds.
        InterruptedError: if it was ended because it was stopped, which is asked now and then.
    """
    deadline = time.monotonic() + seconds
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
        except BaseException:
            end_process_group(process)
            process.wait()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end_process_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that has its own session, and all that it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass
