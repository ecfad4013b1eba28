"""The virtual environment of a backend in Python: found, or built."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import told
from framework_parity.common.core.outside import misfit, parse_json
from framework_parity.common.environments.backend import REQUIREMENTS_FILE, Backend, Environment
from framework_parity.common.environments.filled_once import BuildError, Tell, build_once
from framework_parity.common.environments.program import run_program
from framework_parity.common.environments.specifier import is_release

IMPORT_SECONDS = 300.0
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
"""Folders of packages that this process has from another one: see ``notebook.activation``."""


def find_interpreter(
    backend: Backend, named: Path | None, build: bool, tell: Tell, stop: threading.Event
) -> Environment:
    """The interpreter of a backend: the one named, else the current one, else one built for it.

    Arguments as of :func:`discovery.find_environment`.
    """
    if named is not None:
        return _named(backend, named, stop)
    missing = backend.missing()
    if _satisfied_here(backend.requirements):
        version = _version_here(backend.requirements[0].name)
        return replace(missing, python=Path(sys.executable), version=version)
    folder = environment_folder(backend)
    try:
        facts = _build(backend, folder, build, tell, stop)
    except BuildError as error:
        return replace(missing, reason=str(error))
    except OSError as error:
        return replace(missing, reason=f"cannot build {folder}: {told(error)}")
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
    backend: Backend, folder: Path, build: bool, tell: Tell, stop: threading.Event
) -> dict[str, Any]:
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

    def damage(facts: Mapping[str, Any]) -> str | None:
        if not os.access(_python(folder), os.X_OK):
            return "its interpreter is gone"
        places = [*folder.glob("[lL]ib/python*/site-packages"), folder / "Lib" / "site-packages"]
        package, places = backend.requirements[0].name, [p for p in places if p.is_dir()]
        found = importlib.metadata.distributions(name=package, path=[*map(str, places)])
        versions = [each.version for each in found]
        if versions != [facts["version"]]:
            return (
                f"expected {package} {facts['version']}; received {', '.join(versions) or 'none'}"
            )
        if not any((p / backend.name).is_dir() or [*p.glob(f"{backend.name}.*")] for p in places):
            return f"{backend.name} is gone"
        return None

    return build_once(folder, build and make, tell, stop, damage=damage)


def _install(backend: Backend, folder: Path, stop: threading.Event) -> None:
    wanted = folder / REQUIREMENTS_FILE
    pip = [str(_python(folder)), "-m", "pip", "install", "--no-input"]
    pip += ["--disable-pip-version-check", "-r", str(wanted)]
    pip += [word for place in backend.find_links for word in ("--find-links", place)]
    attempts = backend.attempts()
    for requirements in attempts:
        wanted.write_text("".join(f"{r}\n" for r in requirements), encoding="utf-8")
        try:
            run_program(pip, folder, "pip", stop)
            return
        except BuildError as error:
            # Only a conflict is mended by fewer pins; to compile in vain takes minutes each time.
            if requirements is attempts[-1] or "ResolutionImpossible" not in error.output:
                raise


def _gave_way(backend: Backend, python: Path, stop: threading.Event) -> list[str]:
    """Which of the folder's other pins an environment does not keep."""
    pins = {r.name: r.specifier for r in backend.requirements[1:]}
    code = (
        "import sys; sys.path[:] = filter(None, sys.path); import importlib.metadata, json; "
        "print(json.dumps({name: importlib.metadata.version(name) for name in sys.argv[1:]}))"
    )
    what = "listing what is installed"
    output = run_program([str(python), "-c", code, *pins], None, what, stop)
    try:
        found = parse_json(output)
    except ValueError as error:
        raise BuildError(f"{what} gave no list: {told(error)}") from None
    if odd := misfit(found, dict.fromkeys(pins, str)):
        raise BuildError(f"{what} gave no list: {odd}")
    return [
        f"{name} {found[name]} (pinned {', '.join(pin.version for pin in pins[name])})"
        for name in pins
        if found[name] not in pins[name]
    ]


def _named(backend: Backend, python: Path, stop: threading.Event) -> Environment:
    # Workers run in another folder, so a relative path would not be found there.
    found = Path(os.path.expanduser(python)).absolute()
    if len(python.parts) == 1 and not found.is_file() and (on_path := shutil.which(python)):
        found = Path(on_path).absolute()
    missing = backend.missing()
    try:
        version = _version(backend, found, stop)
    except (BuildError, OSError) as error:
        return replace(missing, reason=f"{python}: {told(error)}")
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
    versions = ((r.specifier, _version_here(r.name)) for r in requirements)
    return all(version is not None and version in wanted for wanted, version in versions)


def _version_here(package: str) -> str | None:
    """The version that this interpreter has; what was lent to the process does not count."""
    for found in importlib.metadata.distributions(name=package):
        if Path(str(found.locate_file(""))) not in LENT:
            return found.version
    return None


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
