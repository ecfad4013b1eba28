"""The errors that a user can cause, and can mend, and the one form of what they say."""

from __future__ import annotations

from typing import Self

MOST_CHARACTERS = 4000
"""Of what is said of one thing; of a longer text the two ends are said."""

MOST_RECEIVED = 2000
"""Likewise of what was received, so that there is room for what to do."""


def plain(text: object, most: int = MOST_CHARACTERS) -> str:
    """A text as it may be printed or drawn, on one line: nothing in it steers a terminal or a page.

    Control characters, marks of the direction of writing and whatever else shows nothing are
    written as Python writes them, ``\\x1b``; a lone half of a character becomes ``�``; of a text
    longer than ``most`` characters the middle is left out.
    """
    said = str(text)
    if len(said) > most:
        half = most // 2
        said = f"{said[:half]} … {said[-half:]}"
    return said if said.isprintable() else "".join(map(_shown, said))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace():
        return " "
    return "�" if "\ud800" <= character <= "\udfff" else ascii(character)[1:-1]


def told(error: BaseException) -> str:
    """What an exception says, in words and on one line."""
    if isinstance(error, KeyError):
        return f"no {error}"
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(words).split())


class Complaint(Exception):  # noqa: N818 - the form of others
    """One line: what it is about, what was expected, what was received and what to do.

    Args:
        what: a file, an option, the name of an array; empty if nothing has to be named.
        expected: what could have been used.
        received: what was there.
        remedy: what to do, as an order; empty if there is nothing to be done.
    """

    def __init__(self, what: object, expected: str, received: object, remedy: str = "") -> None:
        self.what, self.expected, self.received, self.remedy = what, expected, received, remedy
        about, mend = f"{what}: " if what != "" else "", f"; {remedy}" if remedy else ""
        said = f"{about}expected {expected}; received {plain(received, MOST_RECEIVED)}{mend}"
        super().__init__(plain(said))

    def inside(self, place: object) -> Self:
        """The same complaint of a part of something, such as an array of a file."""
        what = f"{place}: {self.what}" if self.what else place
        return type(self)(what, self.expected, self.received, self.remedy)


class ParityError(Complaint):
    """Unusable input.

    The command line prints it without a traceback and ends with ``exit_status``.
    """

    exit_status = 2


class RelayedError(ParityError):
    """A complaint that another process, or the parser of the command line, has put into words."""

    def __init__(self, sentence: str) -> None:
        Exception.__init__(self, plain(sentence))


class NotRunError(ParityError):
    """Something that was asked for did not run, and without it there is nothing to report."""

    exit_status = 3
