"""A framework for a notebook: its environment, lent to the process that runs already.

Frameworks live in an environment each, a notebook's kernel in the runner's. Standard library,
``packaging`` and ``filelock`` only: NumPy must come from the framework's environment, so nothing
that is imported here may import it.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.metadata
import json
import os
import site
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.environments.environment import LENT
from framework_parity.common.environments.filled_once import BuildError
from framework_parity.common.environments.program import THREAD_VARIABLES, run_program

PACKAGES = ("site-packages", "dist-packages")
"""What folders of installed packages are called; Debian's are the second."""

PROJECT = "framework-parity"

ASK = """
import json, sys
print(json.dumps([sys.implementation.cache_tag, sys.version.split()[0], sys.path]))
"""

_active: list[str] = []


def activate(name: str, python: str | Path | None = None, threads: int | None = 1) -> ModuleType:
    """Make a framework importable in this process, and give its public interface, as ``d2l``.

    The environment is the one that comparisons use, built if it is not there yet; what it holds
    comes before what this interpreter holds, so NumPy is its own, too. A process has one
    framework: to change it, restart the kernel. Comparisons are not affected.

    Args:
        name: a backend, or another release of it as ``NAME==VERSION``.
        python: an interpreter that has it, in place of that environment's.
        threads: with which it computes; one, as in comparisons, if not given: the products of
            softmax regression are so narrow that threads wait for each other, and much longer
            on a busy machine. None leaves it to the framework, and what the environment's
            variables say comes first.

    Returns:
        The module ``backends.NAME``.

    Raises:
        ParityError: if the name is unknown, NumPy or a framework has been imported before, or
            the environment's Python is not this one.
        NotRunError: if the environment cannot be had.
    """
    found = discover(external=False)
    (backend,) = choose([name], found)
    if _active and _active != [backend.label]:
        raise ParityError(
            "activate",
            "one framework in a process",
            f"{backend.label} after {_active[0]}",
            "restart the kernel",
        )
    if not _active:
        if taken := sorted(set(found) & set(sys.modules)):  # numpy is among them
            raise ParityError(
                "activate",
                "a process that has imported no framework and no NumPy yet",
                f"one with {', '.join(taken)}",
                "restart the kernel and activate first",
            )
        named = None if python is None else Path(python)

        def say(what: str) -> None:
            print(f"{backend.label}: {what}", file=sys.stderr)

        environment = find_environment(backend, named, tell=say)
        if environment.python is None:
            raise NotRunError(
                backend.label,
                "an environment that has it",
                f"none: {environment.reason}",
                "mend that or name an interpreter: python=…",
            )
        if environment.python != Path(sys.executable):
            _lend(_packages(environment))
        if threads is not None:
            for variable in THREAD_VARIABLES:
                os.environ.setdefault(variable, str(threads))
        _active.append(backend.label)
    return importlib.import_module(f"framework_parity.backends.{backend.name}")


def _packages(environment: Environment) -> list[str]:
    """Where an interpreter of the same kind as this one has its packages."""
    command = [str(environment.python), "-I", "-c", ASK]
    try:
        answer = run_program(command, None, "asking for its packages", threading.Event())
    except BuildError as error:
        raise NotRunError(
            environment.python, "a Python interpreter", error, "name another"
        ) from None
    kind, version, path = json.loads(answer)
    if kind != sys.implementation.cache_tag:
        raise ParityError(
            "activate",
            f"an interpreter of this process's kind, {sys.implementation.cache_tag}",
            f"Python {version}, {kind}",
            "name another, or run the kernel with that one",
        )
    return [place for place in path if place.endswith(PACKAGES)]


def _lend(places: list[str]) -> None:
    """Look for modules there before this interpreter's own packages, but not before Python's."""
    own = list(sys.path)
    for place in places:
        site.addsitedir(place)  # which heeds .pth files, as the other interpreter does
    lent = [place for place in sys.path if place not in own]
    before = next((i for i, place in enumerate(own) if place.endswith(PACKAGES)), len(own))
    hidden = _unfit(own, lent)
    sys.path[:] = [*own[:before], *lent, *own[before:]]
    if hidden:
        sys.meta_path.insert(0, _Hidden(hidden))
    LENT.extend(Path(place) for place in lent)
    importlib.invalidate_caches()


class _Hidden(importlib.abc.MetaPathFinder):
    """Says that modules are not there which are, but cannot work with the lent NumPy.

    A framework that uses SciPy if it is there must not find one that needs another NumPy.

    Args:
        reasons: by name of the module.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = reasons

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> None:
        if reason := self.reasons.get(name.partition(".")[0]):
            raise ModuleNotFoundError(f"No module named {name!r} here: {reason}", name=name)


def _unfit(own: list[str], lent: list[str]) -> dict[str, str]:
    """Modules of this interpreter that need another NumPy than the lent one, with the reason."""
    lent_versions: dict[str, str] = {
        canonicalize_name(d.name): d.version for d in importlib.metadata.distributions(path=lent)
    }
    version, found = lent_versions.get("numpy"), dict[str, str]()
    if version is None:
        return {}
    for distribution in importlib.metadata.distributions(path=own):
        if canonicalize_name(distribution.name) in (*lent_versions, PROJECT):
            continue  # the lent one comes first; of this project, only the runner needs its NumPy
        for requirement in map(Requirement, distribution.requires or ()):
            unfit = requirement.name == "numpy" and version not in requirement.specifier
            if unfit and requirement.marker is None:
                reason = f"{distribution.name} {distribution.version} needs {requirement}"
                for module in {Path(str(file)).parts[0] for file in distribution.files or ()}:
                    found[module] = f"{reason}, and the framework has numpy {version}"
    return found
