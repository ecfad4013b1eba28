"""From words to options: the command line of any class of options, and its help."""

from __future__ import annotations

import argparse
import inspect
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, NoReturn, get_args, get_origin

from framework_parity.common.commands.options import Help, Options, described
from framework_parity.common.core.errors import RelayedError
from framework_parity.common.environments.specifier import parse_python

WIDTH = 80


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits a narrow terminal."""

    def __init__(self, prog: str) -> None:
        width = min(WIDTH, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=26, width=width)


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise RelayedError(f"{message}; {self.prog} --help lists what there is")


def parse(classes: Sequence[type[Options]], words: Sequence[str], **texts: Any) -> list[Any]:
    """Read the words of a command line.

    Args:
        classes: of the options that the command takes.
        words: that follow its name.
        texts: how it is called, and what its help begins and ends with, as argparse names them.

    Returns:
        An object of each class.

    Raises:
        ParityError: if they are no such options.
    """
    parser = Parser(formatter_class=Formatter, **texts)
    parser.usage = "%(prog)s "
    groups: dict[str, Any] = {}
    for options in classes:
        headings = {
            name: str(base.__doc__)
            for base in reversed(options.__mro__)
            for name in inspect.get_annotations(base)
        }
        for field in sorted(fields(options), key=lambda field: bool(field.kw_only)):
            heading = headings[field.name]
            if heading not in groups:
                groups[heading] = parser.add_argument_group(heading)
            hint, said = described(options)[field.name]
            if field.kw_only:
                _add_option(groups[heading], field.name, hint, said, field.default)
                continue
            several = Sequence in _kinds(hint)
            parser.usage += f"[{said.metavar} ...] " if several else f"{said.metavar} "
            more = {"nargs": "*", "default": ()} if several else {}
            groups[heading].add_argument(field.name, metavar=said.metavar, help=said.text, **more)
    parser.usage += "[options]"
    given = {n: v for n, v in vars(parser.parse_intermixed_args(words)).items() if v is not None}
    if "pythons" in given:
        given["pythons"] = dict(given["pythons"])
    return [
        options(**{f.name: given[f.name] for f in fields(options) if f.name in given})
        for options in classes
    ]


def _kinds(hint: Any) -> set[Any]:
    """The types that a hint names, without what they hold."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return {get_origin(part) or part for part in parts}


def _add_option(group: Any, name: str, hint: Any, said: Help, default: Any) -> None:
    flag, kinds, text = f"--{said.flag or name.replace('_', '-')}", _kinds(hint), said.text
    if bool in kinds:
        group.add_argument(flag, dest=name, action="store_true", help=text)
        return
    kind: Any = next((each for each in (int, float) if each in kinds), str)
    keywords: dict[str, Any] = {"type": parse_python if Mapping in kinds else kind}
    metavar = said.metavar or {int: "N", float: "X"}.get(kind)
    if kinds & {Sequence, Mapping}:
        keywords["action"] = "append"
        text += "; several times for several"
    elif default is not None:
        text += f"; default: {default:g}" if kind is float else f"; default: {default}"
        metavar = metavar or ("{" + ",".join(said.choices) + "}" if said.choices else None)
    group.add_argument(flag, dest=name, metavar=metavar, help=text, **keywords)
