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
from framework_parity.common.core.errors import ParityError
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
        raise ParityError(f"{message}; {self.prog} --help lists what there is")


def parse(
    program: str,
    classes: Sequence[type[Options]],
    words: Sequence[str],
    description: str,
    epilog: str = "",
) -> list[Any]:
    """Read the words of a command line.

    Args:
        program: how the command is called.
        classes: of the options that it takes.
        words: that follow its name.
        description: what the help begins with.
        epilog: what the help ends with.

    Returns:
        An object of each class.

    Raises:
        ParityError: if they are no such options.
    """
    parser = Parser(prog=program, description=description, epilog=epilog, formatter_class=Formatter)
    parser.usage = "%(prog)s "
    groups: dict[str, Any] = {}
    for options in classes:
        headings = {
            name: base.__doc__
            for base in reversed(options.__mro__)
            for name in inspect.get_annotations(base)
        }
        for field in fields(options):
            heading = str(headings[field.name])
            group = groups.setdefault(heading, None) or parser.add_argument_group(heading)
            groups[heading] = group
            hint, said = described(options)[field.name]
            if field.kw_only:
                _add_option(group, field.name, hint, said, field.default)
            else:
                several = _kinds(hint) & {Sequence}
                parser.usage += f"[{said.metavar} ...] " if several else f"{said.metavar} "
                more: dict[str, Any] = {"nargs": "*"} if several else {}
                group.add_argument(field.name, metavar=said.metavar, help=said.text, **more)
    parser.usage += "[options]"
    values = vars(parser.parse_intermixed_args(words))
    return [options(**{f.name: values[f.name] for f in fields(options)}) for options in classes]


def _kinds(hint: Any) -> set[Any]:
    """The types that a hint names, without what they hold."""
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return {get_origin(part) or part for part in parts}


def _add_option(group: Any, name: str, hint: Any, said: Help, default: Any) -> None:
    flag, kinds, text = f"--{said.flag or name.replace('_', '-')}", _kinds(hint), said.text
    if bool in kinds:
        group.add_argument(flag, dest=name, action="store_true", help=text)
        return
    if kinds & {Sequence, Mapping}:
        keywords: dict[str, Any] = {"action": _Pairs if Mapping in kinds else "append"}
        text += "; several times for several"
    else:
        kind = next(each for each in (int, float, str) if each in kinds)
        keywords = {"type": kind}
        said_default = f"{default:g}" if kind is float else default
        text += "" if default is None else f"; default: {said_default}"
    shown = said.metavar or {int: "N", float: "X"}.get(keywords.get("type", str))
    group.add_argument(flag, dest=name, default=default, metavar=shown, help=text, **keywords)


class _Pairs(argparse.Action):
    """``BACKEND=PATH``, once or several times, as a mapping."""

    def __call__(self, parser: Any, namespace: Any, values: Any, *_: Any) -> None:
        pairs = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, pairs | dict([parse_python(values)]))
