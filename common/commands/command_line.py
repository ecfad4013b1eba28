"""From words to options: the command line of any class of options, and its help."""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from framework_parity.common.commands.options import Help, Options, described, kinds_of
from framework_parity.common.core.errors import ParityError
from framework_parity.common.environments.specifier import parse_pythons

WIDTH = 80


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits a narrow terminal."""

    def __init__(self, prog: str) -> None:
        width = min(WIDTH, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=26, width=width)


COMPLAINTS = (
    (r"argument (.+): invalid int value: (.+)", 1, "a whole number", 2),
    (r"argument (.+): invalid float value: (.+)", 1, "a number", 2),
    (r"argument (.+): invalid choice: (.+) \(choose from (.+)\)", 1, r"one of \3", 2),
    (r"argument (.+): expected .*argument.*", 1, "a value", None),
    (r"argument (.+): ignored explicit argument (.+)", 1, "no value", 2),
    (r"the following arguments are required: (.+)", None, r"\1", None),
    (r"unrecognized arguments: (.+)", None, "what PROGRAM takes", 1),
    (r"(.+)", None, "what PROGRAM takes", 1),
)
"""What argparse says; in that: what it is about, what was expected and what was received."""


class Once(argparse.Action):
    """Keeps the value of an option that is given once, and refuses another one."""

    given = False

    def __call__(
        self, _parser: object, namespace: object, values: Any, option: str | None = None
    ) -> None:
        if option and self.given:
            raise ParityError(
                option, "one value", f"another one, {values}", "leave one of them out"
            )
        self.given = True
        setattr(namespace, self.dest, values)


class Parser(argparse.ArgumentParser):
    """A parser whose help is narrow, and that says in one line what was expected and received."""

    def __init__(self, **texts: Any) -> None:
        super().__init__(formatter_class=Formatter, allow_abbrev=False, **texts)
        self.register("action", None, Once)

    def error(self, message: str) -> NoReturn:
        for pattern, what, expected, received in COMPLAINTS:
            if found := re.fullmatch(pattern, message, re.DOTALL):
                raise ParityError(
                    found[what] if what else "",
                    found.expand(expected.replace("PROGRAM", self.prog)),
                    found[received] if received else "none",
                    f"{self.prog} --help lists what there is",
                )
        raise AssertionError(message)


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
    parser = Parser(**texts)
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
            several = Sequence in kinds_of(hint)
            parser.usage += f"[{said.metavar} ...] " if several else f"{said.metavar} "
            more = {"nargs": "*", "default": ()} if several else {}
            groups[heading].add_argument(field.name, metavar=said.metavar, help=said.text, **more)
    parser.usage += "[options]"
    given = {n: v for n, v in vars(parser.parse_intermixed_args(words)).items() if v is not None}
    if "pythons" in given:
        given["pythons"] = parse_pythons(given["pythons"])
    return [
        options(**{f.name: given[f.name] for f in fields(options) if f.name in given})
        for options in classes
    ]


def _add_option(group: Any, name: str, hint: Any, said: Help, default: Any) -> None:
    flag, kinds, text = f"--{said.flag or name.replace('_', '-')}", kinds_of(hint), said.text
    if bool in kinds:
        group.add_argument(flag, dest=name, action="store_true", help=text)
        return
    kind: Any = next((each for each in (int, float) if each in kinds), str)
    keywords: dict[str, Any] = {"type": kind}
    metavar = said.metavar or {int: "N", float: "X"}.get(kind)
    if kinds.keys() & {Sequence, Mapping}:
        keywords["action"] = "append"
        text += "; several times for several"
    elif default is not None:
        text += f"; default: {default:g}" if kind is float else f"; default: {default}"
        metavar = metavar or ("{" + ",".join(said.choices) + "}" if said.choices else None)
    group.add_argument(flag, dest=name, metavar=metavar, help=text, **keywords)
