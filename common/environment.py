"""Finds backends; finds or builds the virtual environment of each one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import filelock
from packaging.requirements import Requirement

from common.cache import cache_directory
from common.errors import ParityError

ROOT = Path(__file__).resolve().parent.parent
IMPLEMENTATIONS = ("scratch", "concise")
PROJECT_FILE = "requirements.txt"
WORKER_NEEDS = {"numpy", "matplotlib"}
"""What every backend has: arrays, and pictures for the book's ``data.visualize``."""

INSTALL_SECONDS = 3600.0
IMPORT_SECONDS = 300.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Backend:
    """A folder of ``backends/`` that holds a ``requirements.txt``.

    Args:
        name: the folder's name, which is the framework's import name.
        requirements: lines of the requirements file, parsed; the framework itself comes first.
        implementations: which of ``scratch`` and ``concise`` it has.
    """

    name: str
    requirements: tuple[Requirement, ...]
    implementations: tuple[str, ...]

    @property
    def is_framework(self) -> bool:
        """Whether it needs more than every worker does; only such run by default."""
        return any(requirement.name not in WORKER_NEEDS for requirement in self.requirements)

    @property
    def pinned_version(self) -> str:
        """The framework's version that the requirements pin."""
        return next(iter(self.requirements[0].specifier)).version


@dataclass(frozen=True)
class Environment:
    """The interpreter that runs a backend.

    Args:
        backend: the backend's name.
        python: its interpreter; None if there is none.
        version: the framework's version there; None if unknown.
        reason: why there is no interpreter, or None.
    """

    backend: str
    python: Path | None
    version: str | None = None
    reason: str | None = None


def discover(folder: Path = ROOT / "backends", external: bool = True) -> dict[str, Backend]:
    """The backends by name, in alphabetical order.

    Args:
        folder: where they are.
        external: also those that hold a ``command.toml`` and are not imported but called.
    """
    found = {}
    for requirements in sorted(folder.glob(f"*/{PROJECT_FILE}")):
        lines = (line.partition("#")[0].strip() for line in _read(requirements).splitlines())
        found[requirements.parent.name] = Backend(
            name=requirements.parent.name,
            requirements=tuple(Requirement(line) for line in lines if line),
            implementations=tuple(
                name for name in IMPLEMENTATIONS if (requirements.parent / f"{name}.py").exists()
            ),
        )
    if not external:
        return found
    from common.external import discover_external  # it stands on this module

    return dict(sorted((found | discover_external(folder)).items()))


def choose(names: Iterable[str], found: Mapping[str, Backend]) -> list[Backend]:
    """The backends of these names; every framework if none is named.

    Raises:
        ParityError: if a name is not a backend's.
    """
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in found]:
        raise ParityError(
            f"backend: expected some of {', '.join(found)}; received {', '.join(unknown)}; "
            "compare.py --list shows what there is"
        )
    return [found[name] for name in names] or [b for b in found.values() if b.is_framework]


def find_environment(
    backend: Backend,
    named: Path | None = None,
    build: bool = True,
    tell: Callable[[str], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> Environment:
    """The interpreter of a backend: the one named, else the current one, else one built for it.

    Args:
        backend: whose environment.
        named: an interpreter that the user named; it is taken as it is.
        build: build the environment if there is none yet.
        tell: told what is being done.
        stop: when it is set, from another thread, what is being done is given up.
    """
    from common.external import ExternalBackend, find_external

    stop = stop or threading.Event()
    if isinstance(backend, ExternalBackend):
        return find_external(backend, named, build, tell, stop)
    if named is not None:
        return _named(backend, named, stop)
    if _satisfied_here(backend.requirements):
        version = importlib.metadata.version(backend.requirements[0].name)
        return Environment(backend.name, Path(sys.executable), version)
    folder = environment_folder(backend)
    if not (folder / "complete.json").exists():
        if not build:
            return Environment(backend.name, None, reason="not built yet: compare.py --setup")
        try:
            _build(backend, folder, tell, stop)
        except _BuildError as error:
            return Environment(backend.name, None, reason=str(error))
        except OSError as error:
            return Environment(backend.name, None, reason=f"cannot build {folder}: {error}")
    facts = json.loads(_read(folder / "complete.json"))
    return Environment(backend.name, _python(folder), facts["version"])


def environment_folder(backend: Backend) -> Path:
    """Where a backend's environment is kept: named after its requirements and the Python."""
    content = "\n".join(sorted(map(str, backend.requirements))) + sys.version
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return cache_directory() / "environments" / f"{backend.name}-{python}-{digest}"


def clean_environment() -> dict[str, str]:
    """Environment variables for another interpreter: none that changes what it imports."""
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "PYTHONWARNINGS"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return kept | {"PYTHONNOUSERSITE": "1"}


class _BuildError(Exception):
    pass


def _build(
    backend: Backend, folder: Path, tell: Callable[[str], None], stop: threading.Event
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    tell("waiting for another installation")
    lock = filelock.FileLock(f"{folder}.lock")
    try:
        held = lock.acquire(cancel_check=stop.is_set)
    except filelock.Timeout:
        raise _BuildError("interrupted") from None
    with held:
        if (folder / "complete.json").exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        try:
            tell("creating the environment")
            _run([sys.executable, "-m", "venv", str(folder)], folder, "venv", stop)
            tell("installing")
            wanted = folder / PROJECT_FILE
            wanted.write_text("".join(f"{r}\n" for r in backend.requirements), encoding="utf-8")
            pip = [str(_python(folder)), "-m", "pip", "install", "--no-input"]
            _run([*pip, "--disable-pip-version-check", "-r", str(wanted)], folder, "pip", stop)
            tell("importing for the first time")
            version = _version(backend, _python(folder), stop)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        complete = folder / "complete.partial"
        complete.write_text(json.dumps({"version": version}), encoding="utf-8")
        complete.replace(folder / "complete.json")


def _named(backend: Backend, python: Path, stop: threading.Event) -> Environment:
    # Workers run in another folder, so a relative path would not be found there.
    found = python.expanduser().absolute()
    if len(python.parts) == 1 and not found.is_file() and (on_path := shutil.which(python)):
        found = Path(on_path).absolute()
    try:
        return Environment(backend.name, found, _version(backend, found, stop))
    except (_BuildError, OSError) as error:
        return Environment(backend.name, None, reason=f"{python}: {error}")


def _version(backend: Backend, python: Path, stop: threading.Event) -> str:
    """Import the framework with an interpreter and ask for its version."""
    package = backend.requirements[0].name
    code = (
        f"import importlib, importlib.metadata; importlib.import_module({backend.name!r}); "
        f"print('version', importlib.metadata.version({package!r}))"
    )
    what = f"importing {backend.name}"
    words = _run([str(python), "-c", code], None, what, stop, IMPORT_SECONDS).split()
    if words[-2:-1] != ["version"]:
        raise _BuildError(f"{what} printed no version; is it a Python interpreter?")
    return words[-1]


def _run(
    command: list[str],
    folder: Path | None,
    what: str,
    stop: threading.Event,
    seconds: float = INSTALL_SECONDS,
    path: str | None = None,
) -> str:
    variables = clean_environment() | ({"PATH": path} if path is not None else {})
    deadline = time.monotonic() + seconds
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=variables,
        cwd=folder if folder and folder.exists() else None,
        start_new_session=True,  # so that its helpers end with it
    ) as process:
        try:
            while True:
                try:
                    output, errors = process.communicate(timeout=POLL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    if stop.is_set():
                        raise _BuildError(f"{what} was interrupted") from None
                    if time.monotonic() > deadline:
                        raise _BuildError(f"{what} took more than {seconds:.0f} s") from None
        except BaseException:
            end_process_group(process)
            process.wait()
            raise
    if process.returncode:
        raise _BuildError(f"{what} failed: {_gist(errors or output)}")
    return output


def end_process_group(process: subprocess.Popen[str]) -> None:
    """Kill a process that has its own session, and all that it started."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except ProcessLookupError:
        pass


def _gist(text: str) -> str:
    """The line of an output that says what went wrong: the first error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(\w+ )?error", line, re.IGNORECASE)]
    return (errors or lines[-1:] or ["it said nothing"])[0]


def _satisfied_here(requirements: Iterable[Requirement]) -> bool:
    """Whether the current interpreter has what the requirements ask for."""
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            return False
        if version not in requirement.specifier:
            return False
    return True


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
