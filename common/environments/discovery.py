"""Which backends there are, which of them were chosen, and where each one runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.backend import ROOT, Backend, Environment, python_backends
from framework_parity.common.environments.environment import find_interpreter
from framework_parity.common.environments.external import (
    ExternalBackend,
    discover_external,
    find_external,
)
from framework_parity.common.environments.specifier import parse_backend


def discover(folder: Path = ROOT / "backends", external: bool = True) -> dict[str, Backend]:
    """The backends in a folder by name, in alphabetical order.

    Those that are ``external`` hold a ``command.toml``, and are not imported but called.

    Raises:
        ParityError: if a backend's requirements cannot be read, or do not pin its framework.
    """
    found = python_backends(folder) | (discover_external(folder) if external else {})
    return dict(sorted(found.items()))


def choose(
    names: Iterable[str], found: Mapping[str, Backend], find_links: Sequence[str] = ()
) -> list[Backend]:
    """Those of the backends found that are named; every framework if none is.

    Names are ``NAME`` or ``NAME==VERSION``; ``find_links`` is where pip looks for releases besides
    its index.

    Raises:
        ParityError: if a name is not a backend's, or a version is malformed.
    """
    named = [parse_backend(name) for name in dict.fromkeys(names)]
    if unknown := [name for name, _ in named if name not in found]:
        raise ParityError(
            "backend",
            f"some of {', '.join(found)}",
            ", ".join(unknown),
            "compare.py list shows what there is",
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
    """Where a backend runs: its interpreter, or the program that it is.

    Args:
        backend: whose environment.
        named: an interpreter that the user named; it is taken as it is.
        build: build the environment if there is none yet.
        tell: told what is being done.
        stop: when it is set, from another thread, what is being done is given up.
    """
    stop = stop or threading.Event()
    if isinstance(backend, ExternalBackend):
        return find_external(backend, named, build, tell, stop)
    return find_interpreter(backend, named, build, tell, stop)
