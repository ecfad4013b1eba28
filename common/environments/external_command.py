"""``command.toml``: how an external backend is set up and started. See docs/external.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.outside import read_toml

COMMAND_FILE = "command.toml"
PLACEHOLDER = re.compile(r"\{(\w+)\}")

SETUP_PLACEHOLDERS = ("folder", "environment")
"""What stands for a place: the backend's folder, and the one that is set up for it."""

PACKAGE_PLACEHOLDERS = ("package",)
"""What stands for the folder of the package that holds the program."""

RUN_PLACEHOLDERS = ("task", "implementation", "plan", "reference", "record", "seed")
"""What stands for a part of one run."""


@dataclass(frozen=True)
class Command:
    """The content of a ``command.toml``.

    Args:
        program: name of the program, looked for on the user's PATH.
        arguments: of the worker, with placeholders.
        version: arguments that make the program compute something and print the release.
        release: what must be printed.
        implementations: which of ``scratch`` and ``concise`` it has.
        default: whether it is in the default comparison where the program is found, and those
            that the setup runs.
        files: files of the backend's folder that the setup copies to the environment.
        setup: commands that are run there, one after the other.
        requirement: a package for pip that holds the program; None if there is none.
        programs: how to call the programs that the package holds, by name.
    """

    program: str
    arguments: tuple[str, ...]
    version: tuple[str, ...]
    release: str
    implementations: tuple[str, ...]
    default: bool
    files: tuple[str, ...]
    setup: tuple[tuple[str, ...], ...]
    requirement: str | None
    programs: Mapping[str, tuple[str, ...]]

    @classmethod
    def read(cls, path: Path, known: tuple[str, ...]) -> Command:
        """Read a ``command.toml``; ``known`` are the implementations that a backend can have.

        Raises:
            ParityError: if it is unreadable, or an entry is missing, unknown or malformed.
        """
        try:
            facts = read_toml(path)
        except (OSError, ValueError) as error:
            raise ParityError(path, "a TOML file", told(error), "mend it") from None
        entries = _Entries(path, facts)
        setup, package = entries.table("setup"), entries.table("package")
        programs = package.table("programs")
        command = cls(
            program=entries.get("program", "a text"),
            arguments=entries.texts("arguments"),
            version=entries.texts("version"),
            release=entries.get("release", "a text"),
            implementations=entries.texts("implementations"),
            default=entries.get("default", "true or false", False),
            files=setup.texts("files", ()),
            setup=tuple(map(tuple, setup.get("commands", "a list of lists of texts", []))),
            requirement=package.get("requirement", "a text") if package.facts else None,
            programs={name: programs.texts(name) for name in programs.facts},
        )
        if command.requirement and not command.programs.get(command.program):
            raise ParityError(path, f"programs.{command.program} in [package]", "none", "add it")
        for table in (entries, setup, package):
            table.no_others()
        for words, names in (
            (command.arguments, SETUP_PLACEHOLDERS + RUN_PLACEHOLDERS),
            (command.version, SETUP_PLACEHOLDERS),
            *((words, SETUP_PLACEHOLDERS) for words in command.setup),
            *((words, PACKAGE_PLACEHOLDERS) for words in command.programs.values()),
        ):
            for name in PLACEHOLDER.findall(" ".join(words)):
                if name not in names:
                    expected = ", ".join(f"{{{known}}}" for known in names)
                    raise ParityError(
                        path, f"placeholders among {expected}", f"{{{name}}}", "mend it"
                    )
        if not command.implementations or set(command.implementations) - set(known):
            received = ", ".join(command.implementations) or "none"
            raise ParityError(
                path, f"implementations among {', '.join(known)}", received, "name those it has"
            )
        return command


def fill(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Words with their placeholders replaced; one without a value stays."""
    return tuple(
        PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in words
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(word, str) for word in value)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "a text": (lambda value: isinstance(value, str) and value != "", "add it"),
    "a list of texts": (_are_texts, "add it"),
    "a list of lists of texts": (
        lambda value: isinstance(value, list) and all(v and _are_texts(v) for v in value),
        "mend it",
    ),
    "true or false": (lambda value: isinstance(value, bool), "mend it"),
}
"""What an entry can be: how that is seen, and what to do where it is not."""


class _Entries:
    """A table of the file, which has no entries but those that are asked for."""

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self.path, self.facts, self.known = path, facts, set[str]()

    def table(self, name: str) -> _Entries:
        self.known.add(name)
        table = self.facts.get(name, {})
        if not isinstance(table, dict):
            raise ParityError(self.path, f"a table [{name}]", repr(table), "mend it")
        return _Entries(self.path, table)

    def get(self, name: str, kind: str, default: object = None) -> Any:
        self.known.add(name)
        value, (fits, remedy) = self.facts.get(name, default), KINDS[kind]
        if not fits(value):
            raise ParityError(self.path, f"{name} = {kind}", repr(value), remedy)
        return value

    def texts(self, name: str, default: object = None) -> tuple[str, ...]:
        return tuple(self.get(name, "a list of texts", default))

    def no_others(self) -> None:
        if unknown := sorted(set(self.facts) - self.known):
            expected = f"entries among {', '.join(sorted(self.known))}"
            raise ParityError(self.path, expected, ", ".join(unknown), "drop")
