"""Backends: folders of ``backends/``, what each requires, and the interpreter that runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

import framework_parity
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.specifier import label

ROOT = Path(__file__).resolve().parents[2]
"""What holds ``backends/``: the repository, or the package where it is installed."""
MODELS = {"scratch": "SoftmaxRegressionScratch", "concise": "SoftmaxRegression"}
"""The class of each implementation, in any file of a backend's folder."""
IMPLEMENTATIONS = tuple(MODELS)
REQUIREMENTS_FILE = "requirements.txt"
WORKER_NEEDS = {"numpy", "matplotlib"}
"""What every backend has: arrays, and pictures for the book's ``data.visualize``."""

BOOTSTRAP = str(Path(framework_parity.__file__).absolute().parent / "bootstrap.py")
"""The script by which an interpreter runs a module of the project: its name follows."""


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

    def missing(self) -> Environment:
        """What it has without an interpreter."""
        return Environment(self.name, None, asked=self.version)

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


def python_backends(folder: Path) -> dict[str, Backend]:
    """The backends in Python in a folder, by name.

    Raises:
        ParityError: if a backend's requirements cannot be read, or do not pin its framework.
    """
    found = {}
    for path in sorted(folder.glob(f"*/{REQUIREMENTS_FILE}")):
        code = "\n".join(map(read_text, sorted(path.parent.glob("*.py"))))
        found[path.parent.name] = Backend(
            name=path.parent.name,
            requirements=_requirements(path),
            implementations=tuple(
                name
                for name, model in MODELS.items()
                if re.search(rf"^class {model}\b", code, re.M)
            ),
        )
    return found


def _requirements(path: Path) -> tuple[Requirement, ...]:
    """The lines of a requirements file; the first one pins the framework."""
    lines = (line.partition("#")[0].strip() for line in read_text(path).splitlines())
    given = [line for line in lines if line]
    try:
        parsed = tuple(Requirement(line) for line in given)
        pins = [pin.operator for pin in parsed[0].specifier]
    except (InvalidRequirement, IndexError):
        pins = []
    if pins != ["=="]:
        raise ParityError(
            path,
            "lines of NAME==VERSION, the framework's first",
            "; ".join(given) or "none",
            "pin a release of it",
        )
    return parsed


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
