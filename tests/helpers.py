"""The command line as a user runs it, small plans, and interpreters that fail; for system tests."""

import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

from framework_parity.common.core.cache import CACHE_VARIABLE, DATA_VARIABLE
from framework_parity.common.data.datasets import Synthetic
from framework_parity.common.environments.backend import ROOT
from framework_parity.common.environments.discovery import choose, discover
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from tests.conftest import BACKENDS

PLAIN = next(b.name for b in BACKENDS.values() if not b.is_framework)
"""A backend that needs no environment: the runner's own interpreter has all that it asks for."""

FRAMEWORKS = [b.name for b in BACKENDS.values() if b.is_framework]
DEFAULT = [b.name for b in choose((), discover())]
"""What is compared if nothing is named: the frameworks, and external ones that can run here."""
SMALL = ("--data", "synthetic:300x8x3", "--max-epochs", "2")
REPORT = "report.json"
WAIT_SECONDS = 60.0

COMPARE = (sys.executable, "-W", "error", str(ROOT / "compare.py"))
PATCHED = """
import runpy, socket, sys
from pathlib import Path

def refuse(*_, **__):
    raise OSError("no network in this test")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
root, system_folder, *sys.argv = sys.argv[1:]
sys.path.insert(0, root)
from framework_parity.common.data import sources as fetch
from framework_parity.common.data.fashion_mnist import publishers
fetch.SYSTEM_FOLDER = Path(system_folder)
publishers.BACKOFF_SECONDS = 0.0
from framework_parity import compare
sys.exit(compare.main(sys.argv))
"""
"""Runs ``compare.py`` where no socket connects and no package of the system holds the data."""


def copy_code(folder, backends=()):
    """The project's code in a folder of its own, with these backends."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "common", folder / "common", ignore=ignored)
    shutil.copytree(ROOT / "framework_parity", folder / "framework_parity", symlinks=True)
    shutil.copy(ROOT / "compare.py", folder)
    (folder / "backends").mkdir()
    shutil.copy(ROOT / "backends" / "__init__.py", folder / "backends")
    for name in backends:
        shutil.copytree(ROOT / "backends" / name, folder / "backends" / name, ignore=ignored)


def user_environment(cache, **changes):
    """A user's shell: a cache of the test's own, nothing of the terminal or pytest."""
    terminal = {"FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"}
    dropped = terminal | {"PYTEST_ADDOPTS", DATA_VARIABLE}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {CACHE_VARIABLE: str(cache), "TERM": "xterm"} | changes


def run(command, cache, *, cwd=None, seconds=2 * WAIT_SECONDS, **changes):
    """Run a program to its end."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=user_environment(cache, **changes),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
    )


def heed_interrupts():
    """In a child, before its program: a background shell's children ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(arguments, cache, prepare=None):
    """Start ``compare.py`` in a session of its own, as a terminal's shell does."""

    def begin():
        heed_interrupts()
        if prepare is not None:
            prepare()

    return subprocess.Popen(
        [*COMPARE, *map(str, arguments)],
        env=user_environment(cache),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=begin,
    )


def check_complaint(process, *parts):
    """One line on standard error that says what was expected, exit status 2, nothing else."""
    assert process.returncode == 2, process.stderr
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    assert len(lines) == 1, process.stderr
    assert lines[0].startswith("compare.py: ")
    for part in parts:
        assert str(part) in lines[0]


def program(path, script):
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def interpreter(path, pattern, script):
    """An interpreter that runs a script instead if its arguments match the shell's pattern."""
    real = shlex.quote(sys.executable)
    return program(path, f'case "$*" in {pattern}) {script} ;; esac\nexec {real} "$@"')


def off_by(path, factor):
    """The runner's interpreter, but its workers train with a learning rate that is off."""
    faulty = f"cd {shlex.quote(str(ROOT))}; exec {shlex.quote(sys.executable)} -m tests.other_rate"
    return interpreter(path, "*framework_parity.common.worker*", f'{faulty} {factor} "$@"')


def wait_until(condition):
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(pid):
    """Whether a process is there and not merely unburied."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def processes(marker):
    """Numbers of the processes whose command line holds a text."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (place / "cmdline").read_text() and alive(place.name):
                found.append(int(place.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def make_plan(folder=None, data=None, **recipe):
    """A small plan and its data; with a folder, stored there as ``plan`` and ``data``."""
    data = data or Synthetic(300, 8, 3)
    facts = {"data": data.name, "batch_size": 64, "lr": 0.5, "max_epochs": 3} | recipe
    plan = Plan.make(Recipe(**facts), data, Path("data") if folder is None else folder / "data")
    data.batch_size = plan.recipe.batch_size
    if folder is not None:
        data.save(folder / "data")
        plan.save(folder / "plan")
    return plan, data


def carry_out(request, *words):
    """Hand a request to a worker, started so; its exit status and its lines of progress."""
    words = words or ("-m", "framework_parity.common.worker")
    request.write()
    with (
        request.log.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-W", "error", *words, str(request.file)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        told = []
        for line in process.stdout:
            told.append(json.loads(line))
            if told[-1]["event"] == "done":
                process.stdin.close()  # it ends when nobody is left to ask
    return process.returncode, told
