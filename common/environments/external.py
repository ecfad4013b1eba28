"""External backends: programs in any language that take a plan and leave a record.

A backend's folder that holds a ``command.toml`` instead of a ``requirements.txt``: the file says
how to set the program up and how to start it. docs/external.md has the whole protocol.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.errors import Complaint, ParityError
from framework_parity.common.environments.backend import IMPLEMENTATIONS, Backend, Environment
from framework_parity.common.environments.environment import IMPORT_SECONDS
from framework_parity.common.environments.external_command import COMMAND_FILE, Command, fill
from framework_parity.common.environments.filled_once import BuildError, Tell, build_once
from framework_parity.common.environments.program import run_program


@dataclass(frozen=True, kw_only=True)
class ExternalBackend(Backend):
    """A folder of ``backends/`` that holds a ``command.toml``: the folder, what the file says."""

    folder: Path
    command: Command

    @property
    def is_framework(self) -> bool:
        """Whether it is in the default comparison: if its file says so and its program is here.

        So are the programs that set it up.
        """
        needed = {self.command.program, *(words[0] for words in self.command.setup)}
        return self.command.default and all(shutil.which(name) for name in needed)

    @property
    def pinned_version(self) -> str:
        """The release that the file names."""
        return self.command.release

    def at(self, version: str, find_links: Sequence[str] = ()) -> Backend:
        """Raise ParityError: only its own files know how to set another release up."""
        raise ParityError(
            f"{self.name}=={version}",
            "a backend in Python",
            f"one whose release, {self.command.release}, its {COMMAND_FILE} sets up",
            "copy its folder and change that",
        )


@dataclass(frozen=True, kw_only=True)
class ExternalEnvironment(Environment):
    """The program that runs an external backend; it stands for the interpreter.

    Its arguments hold the placeholders of a run.
    """

    arguments: tuple[str, ...] = ()


def discover_external(folder: Path) -> dict[str, Backend]:
    """The external backends in a folder, by name.

    Raises:
        ParityError: if one's ``command.toml`` cannot be used.
    """
    found: dict[str, Backend] = {}
    for path in sorted(folder.glob(f"*/{COMMAND_FILE}")):
        command = Command.read(path, IMPLEMENTATIONS)
        found[path.parent.name] = ExternalBackend(
            name=path.parent.name,
            requirements=(),
            implementations=command.implementations,
            folder=path.parent,
            command=command,
        )
    return found


def find_external(
    backend: ExternalBackend, named: Path | None, build: bool, tell: Tell, stop: threading.Event
) -> Environment:
    """The program of an external backend and what is set up for it.

    Arguments as of :func:`environment.find_environment`; a program that the user named
    is taken as it is.
    """
    command = backend.command
    try:
        folder = environment_folder(backend)
        program, programs = _find_program(command, named, build, tell, stop)
        # What belongs to the program, such as its package manager, before all others.
        path = os.pathsep.join([str(program.parent), os.environ.get("PATH", os.defpath)])
        places = {"folder": str(backend.folder), "environment": str(folder)}

        def check() -> str:
            what = f"{backend.name}'s version"
            words = [str(program), *fill(command.version, places)]
            lines = run_program(words, folder, what, stop, IMPORT_SECONDS).splitlines()
            if lines[-1:] != [command.release]:
                received = lines[-1][:80] if lines else "nothing"
                raise BuildError(str(Complaint(what, command.release, received)))
            return command.release

        def make() -> dict[str, str]:
            for name in command.files:
                shutil.copy(backend.folder / name, folder)
            for name, *words in command.setup:
                tell(f"running {name}")
                called = [*programs.get(name, (name,)), *fill(words, places)]
                run_program(called, folder, name, stop, path=path)
            tell("starting for the first time")
            return {"version": check()}

        build_once(folder, build and make, tell, stop)
        if named is not None:
            check()
    except (BuildError, OSError) as error:
        return ExternalEnvironment(backend=backend.name, python=None, reason=str(error))
    return ExternalEnvironment(
        backend=backend.name,
        python=program,
        version=command.release,
        arguments=fill(command.arguments, places),
    )


def environment_folder(backend: ExternalBackend) -> Path:
    """Where what is set up is kept: named after all that the setup depends on."""
    command = backend.command
    digest = hashlib.sha256(json.dumps([command.release, command.setup]).encode())
    for name in command.files:
        digest.update(f"\n{name}\n".encode())
        digest.update((backend.folder / name).read_bytes())
    return cache_directory() / "environments" / f"{backend.name}-{digest.hexdigest()[:12]}"


def _find_program(
    command: Command, named: Path | None, build: bool, tell: Tell, stop: threading.Event
) -> tuple[Path, Mapping[str, Sequence[str]]]:
    """The program: the one named, else the one on the PATH, else one from its package.

    Returns:
        Where it is; and how to call the programs that came with it, where they are not to be
        looked for on the PATH.
    """
    if named is not None:
        place = Path(os.path.expanduser(named)).absolute()
        found = shutil.which(named if len(named.parts) == 1 else place)
        if found is None:
            raise BuildError(str(Complaint(named, "a program", "none that can be run")))
        return Path(found).absolute(), {}
    if (found := shutil.which(command.program)) is not None:
        return Path(found).absolute(), {}
    absent = f"{command.program} is not on the PATH"
    if command.requirement is None:
        raise BuildError(f"{absent}: install it")
    digest = hashlib.sha256((command.requirement + sys.version).encode()).hexdigest()[:12]
    folder = cache_directory() / "environments" / f"{command.program}-{digest}"
    places = {"package": str(folder)}
    programs = {name: fill(words, places) for name, words in command.programs.items()}
    program = programs[command.program][0]

    def make() -> dict[str, str]:
        tell(f"fetching {command.program}")
        pip = [sys.executable, "-m", "pip", "install", "--no-input", "--no-deps"]
        pip += ["--disable-pip-version-check", "--target", str(folder), str(command.requirement)]
        run_program(pip, folder, f"{absent}, and pip", stop)
        version = run_program([program, "--version"], folder, command.program, stop)
        return {"version": version.strip()}

    build_once(folder, build and make, tell, stop, absent)
    return Path(program), programs
