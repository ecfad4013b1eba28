"""Finds backends; finds or builds the virtual environment of each one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from common.building import COMPLETE, BuildError, build_once, is_complete
from common.cache import cache_directory
from common.errors import ParityError
from common.program import run_program
from common.specifier import is_release, label, parse_backend

ROOT = Path(__file__).resolve().parent.parent
IMPLEMENTATIONS = ("scratch", "concise")
REQUIREMENTS_FILE = "requirements.txt"
WORKER_NEEDS = {"numpy", "matplotlib"}
"""What every backend has: arrays, and pictures for the book's ``data.visualize``."""

IMPORT_SECONDS = 300.0
BOOTSTRAP = str(ROOT / "common" / "bootstrap.py")
"""The script by which an interpreter runs a module of the project: its name follows."""

ASK_VERSION = """
import sys

sys.path[:] = filter(None, sys.path)  # not what lies in the current folder
import importlib, importlib.metadata as metadata

name, *packages = sys.argv[1:]
module = importlib.import_module(name)
try:
    found = metadata.version(packages[0])
except metadata.PackageNotFoundError:
    packages = metadata.packages_distributions().get(name)
    found = metadata.version(packages[0]) if packages else module.__version__
print("version", found)
"""
"""Builds for a GPU may be packages of another name, or no packages at all."""

LENT: list[Path] = []
"""Folders of packages that this process has from another environment: see common.activation."""


@dataclass(frozen=True)
class Backend:
    """A folder of ``backends/`` that holds a ``requirements.txt``.

    Args:
        name: the folder's name, which is the framework's import name.
        requirements: lines of the requirements file, parsed; the framework itself comes first.
        implementations: which of ``scratch`` and ``concise`` it has.
        version: the framework's release that was asked for; None for the one that is pinned.
        find_links: where pip looks for releases besides its index.
    """

    name: str
    requirements: tuple[Requirement, ...]
    implementations: tuple[str, ...]
    version: str | None = None
    find_links: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is called among others: the name, with the version if one was asked for."""
        return label(self.name, self.version)

    @property
    def is_framework(self) -> bool:
        """Whether it needs more than every worker does; only such run by default."""
        return any(requirement.name not in WORKER_NEEDS for requirement in self.requirements)

    @property
    def pinned_version(self) -> str:
        """The framework's version that the requirements pin."""
        return next(iter(self.requirements[0].specifier)).version

    def at(self, version: str, find_links: Sequence[str] = ()) -> Backend:
        """The same backend with another release of its framework."""
        framework = Requirement(f"{self.requirements[0].name}=={version}")
        requirements = (framework, *self.requirements[1:])
        return replace(
            self, requirements=requirements, version=version, find_links=tuple(find_links)
        )

    def attempts(self) -> list[tuple[Requirement, ...]]:
        """What pip is asked for, one after the other, until a set can be installed.

        Where a release was asked for, the folder's other pins give way if they must: first those
        of the framework's companions, then all.
        """
        sets = [self.requirements]
        if self.version is not None:
            framework, *others = self.requirements
            for kept in (WORKER_NEEDS, set[str]()):
                loose = (r if r.name in kept else Requirement(r.name) for r in others)
                sets.append((framework, *loose))
        return list(dict.fromkeys(sets))


@dataclass(frozen=True)
class Environment:
    """The interpreter that runs a backend.

    Args:
        backend: the backend's name.
        python: its interpreter; None if there is none.
        version: the framework's version there; None if unknown.
        reason: why there is no interpreter, or None.
        asked: the release that was asked for; None for the one that is pinned.
        gave_way: what is installed there other than pinned, in words.
    """

    backend: str
    python: Path | None
    version: str | None = None
    reason: str | None = None
    asked: str | None = None
    gave_way: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is called among others: the backend, with the version if one was asked for."""
        return label(self.backend, self.asked)


def discover(folder: Path = ROOT / "backends", external: bool = True) -> dict[str, Backend]:
    """The backends by name, in alphabetical order.

    Args:
        folder: where they are.
        external: also those that hold a ``command.toml`` and are not imported but called.

    Raises:
        ParityError: if a backend's requirements cannot be read, or do not pin its framework.
    """
    found = {}
    for path in sorted(folder.glob(f"*/{REQUIREMENTS_FILE}")):
        found[path.parent.name] = Backend(
            name=path.parent.name,
            requirements=_requirements(path),
            implementations=tuple(
                name for name in IMPLEMENTATIONS if (path.parent / f"{name}.py").exists()
            ),
        )
    if not external:
        return found
    from common.external import discover_external  # it stands on this module

    return dict(sorted((found | discover_external(folder)).items()))


def _requirements(path: Path) -> tuple[Requirement, ...]:
    """The lines of a requirements file; the first one pins the framework."""
    lines = (line.partition("#")[0].strip() for line in _read(path).splitlines())
    given = [line for line in lines if line]
    try:
        parsed = tuple(Requirement(line) for line in given)
        pins = [pin.operator for pin in parsed[0].specifier]
    except (InvalidRequirement, IndexError):
        pins = []
    if pins != ["=="]:
        raise ParityError(
            f"{path}: expected lines of NAME==VERSION, the framework's first; received "
            f"{'; '.join(given) or 'none'}; pin a release of it"
        )
    return parsed


def choose(
    names: Iterable[str], found: Mapping[str, Backend], find_links: Sequence[str] = ()
) -> list[Backend]:
    """The backends of these names; every framework if none is named.

    Args:
        names: ``NAME`` or ``NAME==VERSION``.
        found: what there is.
        find_links: where pip looks for releases besides its index.

    Raises:
        ParityError: if a name is not a backend's, or a version is malformed.
    """
    named = [parse_backend(name) for name in dict.fromkeys(names)]
    if unknown := [name for name, _ in named if name not in found]:
        raise ParityError(
            f"backend: expected some of {', '.join(found)}; received {', '.join(unknown)}; "
            "compare.py --list shows what there is"
        )
    chosen = [
        found[name] if version is None else found[name].at(version, find_links)
        for name, version in dict.fromkeys(named)
    ]
    return chosen or [b for b in found.values() if b.is_framework]


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
    missing = Environment(backend.name, None, asked=backend.version)
    if _satisfied_here(backend.requirements):
        version = _version_here(backend.requirements[0].name)
        return replace(missing, python=Path(sys.executable), version=version)
    folder = environment_folder(backend)
    if not is_complete(folder):
        if not build:
            return replace(missing, reason="not built yet: compare.py --setup")
        try:
            _build(backend, folder, tell, stop)
        except BuildError as error:
            return replace(missing, reason=str(error))
        except OSError as error:
            return replace(missing, reason=f"cannot build {folder}: {error}")
    facts = json.loads(_read(folder / COMPLETE))
    return replace(
        missing,
        python=_python(folder),
        version=facts["version"],
        gave_way=tuple(facts.get("gave_way", ())),
    )


def environment_folder(backend: Backend) -> Path:
    """Where a backend's environment is kept: named after its requirements and the Python.

    A release found in a folder of the user's may be built again under the same number, so its
    files count, too.
    """
    content = "\n".join(sorted(map(str, backend.requirements))) + sys.version
    for place in backend.find_links:
        content += f"\n{place}"
        for file in sorted(Path(place).glob(f"*{backend.version}*")):
            content += f"\n{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}"
    digest = hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()[:12]
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return cache_directory() / "environments" / f"{backend.name}-{python}-{digest}"


def _build(
    backend: Backend, folder: Path, tell: Callable[[str], None], stop: threading.Event
) -> None:
    def make() -> dict[str, Any]:
        tell("creating the environment")
        run_program([sys.executable, "-m", "venv", str(folder)], folder, "venv", stop)
        tell("installing")
        _install(backend, folder, stop)
        tell("importing for the first time")
        facts: dict[str, Any] = {"version": _version(backend, _python(folder), stop)}
        if backend.version is not None:
            facts["gave_way"] = _gave_way(backend, _python(folder), stop)
        return facts

    build_once(folder, make, tell, stop)


def _install(backend: Backend, folder: Path, stop: threading.Event) -> None:
    wanted = folder / REQUIREMENTS_FILE
    pip = [str(_python(folder)), "-m", "pip", "install", "--no-input"]
    pip += ["--disable-pip-version-check", "-r", str(wanted)]
    pip += [word for place in backend.find_links for word in ("--find-links", place)]
    *attempts, last = backend.attempts()
    for requirements in attempts:
        wanted.write_text("".join(f"{r}\n" for r in requirements), encoding="utf-8")
        try:
            run_program(pip, folder, "pip", stop)
            return
        except BuildError as error:
            # Only a conflict is mended by fewer pins; to compile in vain takes minutes each time.
            if "ResolutionImpossible" not in error.output:
                raise
    wanted.write_text("".join(f"{r}\n" for r in last), encoding="utf-8")
    run_program(pip, folder, "pip", stop)


def _gave_way(backend: Backend, python: Path, stop: threading.Event) -> list[str]:
    """Which of the folder's other pins an environment does not keep."""
    pins = {r.name: r.specifier for r in backend.requirements[1:]}
    code = (
        "import sys; sys.path[:] = filter(None, sys.path); import importlib.metadata, json; "
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    )
    output = run_program([str(python), "-c", code, *pins], None, "listing what is installed", stop)
    return [
        f"{name} {version} (pinned {', '.join(pin.version for pin in pins[name])})"
        for name, version in json.loads(output).items()
        if version not in pins[name]
    ]


def _named(backend: Backend, python: Path, stop: threading.Event) -> Environment:
    # Workers run in another folder, so a relative path would not be found there.
    found = Path(os.path.expanduser(python)).absolute()
    if len(python.parts) == 1 and not found.is_file() and (on_path := shutil.which(python)):
        found = Path(on_path).absolute()
    missing = Environment(backend.name, None, asked=backend.version)
    try:
        version = _version(backend, found, stop)
    except (BuildError, OSError) as error:
        return replace(missing, reason=f"{python}: {error}")
    if backend.version is not None and not is_release(version, backend.version):
        return replace(missing, reason=f"{python}: has {version}, not {backend.version}")
    return replace(missing, python=found, version=version)


def _version(backend: Backend, python: Path, stop: threading.Event) -> str:
    """Import the framework with an interpreter and ask for its version."""
    command = [str(python), "-c", ASK_VERSION, backend.name, backend.requirements[0].name]
    what = f"importing {backend.name}"
    words = run_program(command, None, what, stop, IMPORT_SECONDS).split()
    if words[-2:-1] != ["version"]:
        raise BuildError(f"{what} printed no version; is it a Python interpreter?")
    return words[-1]


def _satisfied_here(requirements: Iterable[Requirement]) -> bool:
    """Whether the current interpreter has what the requirements ask for."""
    for requirement in requirements:
        version = _version_here(requirement.name)
        if version is None or version not in requirement.specifier:
            return False
    return True


def _version_here(package: str) -> str | None:
    """The version that this interpreter has; what was lent to the process does not count."""
    for found in importlib.metadata.distributions(name=package):
        if Path(str(found.locate_file(""))) not in LENT:
            return found.version
    return None


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
