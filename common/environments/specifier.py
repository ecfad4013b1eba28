"""Backends as a user names them: ``NAME``, ``NAME==VERSION``, and ranges of releases."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from framework_parity.common.core.errors import ParityError

PYTHON = re.compile(r"([^=]*(?:==[^=]+)?)=(.*)", re.DOTALL)


def label(name: str, version: str | None) -> str:
    """How a backend is called: its name, with the version if one was asked for."""
    return name if version is None else f"{name}=={version}"


def parse_backend(text: str) -> tuple[str, str | None]:
    """The name and the version, if any, of ``NAME`` or ``NAME==VERSION``.

    Raises:
        ParityError: if it is neither.
    """
    if not re.search(r"[=<>!~@;\[]", text):
        return text, None
    requirement = _requirement(text)
    pins = list(requirement.specifier) if requirement else []
    if requirement is None or [pin.operator for pin in pins] != ["=="] or "*" in pins[0].version:
        raise ParityError(
            "backend",
            "NAME or NAME==VERSION",
            repr(text),
            "give one release, or compare.py bisect for a range",
        )
    return requirement.name, pins[0].version


def parse_range(text: str) -> tuple[str, SpecifierSet]:
    """The name and the range of releases of, for example, ``NAME>=1.0,<=2.0``.

    Raises:
        ParityError: if it is no such range.
    """
    requirement = _requirement(text)
    if requirement is None or not requirement.specifier:
        raise ParityError(
            "bisect",
            "a backend with a range, such as 'NAME>=1.0,<=2.0'",
            repr(text),
            "give its oldest and its newest release",
        )
    return requirement.name, requirement.specifier


def parse_pythons(pairs: Iterable[str]) -> dict[str, str]:
    """The path of each backend of some ``BACKEND=PATH`` or ``BACKEND==VERSION=PATH``.

    Raises:
        ParityError: if one is neither, or two are of one backend.
    """
    paths: dict[str, str] = {}
    for pair in pairs:
        found = PYTHON.fullmatch(pair)
        if found is None or found[2].startswith("="):
            raise ParityError(
                "--python",
                "BACKEND=PATH or BACKEND==VERSION=PATH",
                repr(pair),
                "name the backend and the interpreter",
            )
        if (name := label(*parse_backend(found[1]))) in paths:
            raise ParityError("--python", f"one for {name}", pair, "leave one of them out")
        paths[name] = found[2]
    return paths


def is_release(version: str, asked: str) -> bool:
    """Whether a version is the release asked for; a local part such as +cpu may differ."""
    try:
        return Specifier(f"=={asked}").contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False


def same_release(one: str, other: str) -> bool:
    """Whether two statements name one release; either may leave its local part out."""
    try:
        a, b = Version(one), Version(other)
    except InvalidVersion:
        return one == other
    return Version(a.public) == Version(b.public) and (
        None in (a.local, b.local) or a.local == b.local
    )


def _requirement(text: str) -> Requirement | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        return None
    plain = not (requirement.extras or requirement.url or requirement.marker)
    return requirement if plain else None
