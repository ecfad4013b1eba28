"""``command.toml``: how an external backend is set up and started. See docs/external.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework_parity.common.core.errors import ParityError

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
        """Read a ``command.toml``.

        Args:
            path: the file.
            known: implementations that a backend can have.

        Raises:
            ParityError: if it is unreadable, or an entry is missing, unknown or malformed.
        """
        try:
            facts = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise _wrong(path, "a TOML file", str(error), "mend it") from None
        setup, package = _table(path, facts, "setup"), _table(path, facts, "package")
        programs = _Entries(path, _table(path, package, "programs"))
        entries = _Entries(path, facts)
        command = cls(
            program=entries.text("program"),
            arguments=entries.texts("arguments"),
            version=entries.texts("version"),
            release=entries.text("release"),
            implementations=entries.texts("implementations"),
            default=entries.flag("default"),
            files=_Entries(path, setup).texts("files", ()),
            setup=_Entries(path, setup).lists("commands"),
            requirement=_Entries(path, package).text("requirement") if package else None,
            programs={name: programs.texts(name) for name in programs.table},
        )
        if command.requirement and not command.programs.get(command.program):
            raise _wrong(path, f"programs.{command.program} in [package]", "none", "add it")
        allowed = {"program", "arguments", "version", "release", "implementations", "default"}
        _no_others(path, facts, allowed | {"setup", "package"})
        _no_others(path, setup, {"files", "commands"})
        _no_others(path, package, {"requirement", "programs"})
        for words, names in (
            (command.arguments, SETUP_PLACEHOLDERS + RUN_PLACEHOLDERS),
            (command.version, SETUP_PLACEHOLDERS),
            *((words, SETUP_PLACEHOLDERS) for words in command.setup),
            *((words, PACKAGE_PLACEHOLDERS) for words in command.programs.values()),
        ):
            for name in PLACEHOLDER.findall(" ".join(words)):
                if name not in names:
                    expected = ", ".join(f"{{{known}}}" for known in names)
                    raise _wrong(path, f"placeholders among {expected}", f"{{{name}}}", "mend it")
        if not command.implementations or set(command.implementations) - set(known):
            received = ", ".join(command.implementations) or "none"
            raise _wrong(
                path, f"implementations among {', '.join(known)}", received, "name those it has"
            )
        return command


def fill(words: Sequence[str], values: Mapping[str, str]) -> tuple[str, ...]:
    """Words with their placeholders replaced; one without a value stays."""
    return tuple(
        PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in words
    )


class _Entries:
    def __init__(self, path: Path, table: Mapping[str, Any]) -> None:
        self.path, self.table = path, table

    def text(self, name: str) -> str:
        value = self.table.get(name)
        if not isinstance(value, str) or not value:
            raise _wrong(self.path, f"{name} = a text", repr(value), "add it")
        return value

    def texts(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        value = self.table.get(name, default)
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise _wrong(self.path, f"{name} = a list of texts", repr(value), "add it")
        return tuple(value)

    def lists(self, name: str) -> tuple[tuple[str, ...], ...]:
        value = self.table.get(name, [])
        if not isinstance(value, list) or not all(
            isinstance(words, list) and words and all(isinstance(word, str) for word in words)
            for words in value
        ):
            raise _wrong(self.path, f"{name} = a list of lists of texts", repr(value), "mend it")
        return tuple(tuple(words) for words in value)

    def flag(self, name: str) -> bool:
        value = self.table.get(name, False)
        if not isinstance(value, bool):
            raise _wrong(self.path, f"{name} = true or false", repr(value), "mend it")
        return value


def _table(path: Path, facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = facts.get(name, {})
    if not isinstance(table, dict):
        raise _wrong(path, f"a table [{name}]", repr(table), "mend it")
    return table


def _no_others(path: Path, table: Mapping[str, Any], known: set[str]) -> None:
    if unknown := sorted(set(table) - known):
        raise _wrong(path, f"entries among {', '.join(sorted(known))}", ", ".join(unknown), "drop")


def _wrong(path: Path, expected: str, received: str, remedy: str) -> ParityError:
    return ParityError(path, expected, received, remedy)
