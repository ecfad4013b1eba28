"""Runs other programs: what they see of this one's environment, their time, and their end."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from pathlib import Path

from framework_parity.common.core.programs import run_to_end
from framework_parity.common.environments.filled_once import BuildError

INSTALL_SECONDS = 3600.0

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""The environment variables that say how many threads NumPy and the frameworks use."""


def clean_environment() -> dict[str, str]:
    """Environment variables for another interpreter: none that changes what it imports."""
    dropped = {"VIRTUAL_ENV", "PYTHONWARNINGS"}
    dropped |= {f"PYTHON{name}" for name in ("PATH", "HOME", "STARTUP", "SAFEPATH", "PLATLIBDIR")}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONNOUSERSITE": "1"}


def run_program(
    command: list[str],
    folder: Path | None,
    what: str,
    stop: threading.Event,
    seconds: float = INSTALL_SECONDS,
    path: str | None = None,
) -> str:
    """Run a program to its end, and give what it printed.

    Args:
        command: the program and its arguments.
        folder: where it runs, if it is there.
        what: what it is called in reasons.
        stop: when it is set, from another thread, the program is ended.
        seconds: after which it is ended.
        path: its PATH, if not that of this process.

    Raises:
        BuildError: if it did not end well.
    """
    variables = clean_environment() | ({"PATH": path} if path is not None else {})
    cwd = folder if folder and folder.exists() else None
    try:
        process = run_to_end(command, seconds, stop.is_set, env=variables, cwd=cwd)
    except InterruptedError:
        raise BuildError(f"{what} was interrupted") from None
    except subprocess.TimeoutExpired:
        raise BuildError(f"{what} took more than {seconds:.0f} s") from None
    output, errors = (text.decode(errors="replace") for text in (process.stdout, process.stderr))
    if process.returncode:
        error = BuildError(f"{what} failed: {_gist(errors or output)}")
        error.output = output + errors
        raise error
    return output


def _gist(text: str) -> str:
    """The line of an output that says what went wrong: the first error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    error = re.compile(r"(?!.*Ignored)(\w+ )?error", re.IGNORECASE)
    errors = [line for line in lines if error.match(line)]
    said = (errors or lines[-1:] or ["it said nothing"])[0]
    # pip lists every release that there is.
    return re.sub(r"\(from versions: .*, (.*?, .*?, .*?)\)", r"(from versions: …, \1)", said)
