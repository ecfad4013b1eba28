"""What a porting bug is, and how the text of a file is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Changes = Sequence[tuple[str, str]]
"""What stands in a file, and what is to stand there."""


@dataclass(frozen=True)
class Bug:
    """A bug, and where and how the verdict should name it.

    Args:
        name: its name.
        example: the file that it is planted into, without its ending.
        stage: where it first shows.
        tensors: names of the reference's that may be first: the layer or the parameter, and what
            is computed from it next, where frameworks do not show the former; none: any.
        cause: a pattern of the name of the right cause, in lower case; empty where the catalogue
            has none.
        changes: by framework.
    """

    name: str
    example: str
    stage: str
    tensors: tuple[str, ...]
    cause: str
    changes: Mapping[str, Changes]


UPDATE = ("update", ())
"""Stage and tensors of a bug in an optimizer."""


def changed(text: str, changes: Changes, backend: str | None = None) -> str:
    """The text of a file with changes made, in the function of one backend or everywhere.

    Raises:
        ValueError: if what is to be changed does not stand there.
    """
    start = end = 0
    if backend is not None:
        found = re.search(rf"^def {backend}_model\b.*?(?=^def |\Z)", text, re.M | re.S)
        if found is None:
            raise ValueError(f"no {backend}_model")
        start, end = found.span()
    part = text[start:end] if backend else text
    for old, new in changes:
        if old not in part:
            raise ValueError(f"{old!r} does not stand there")
        part = part.replace(old, new)
    return text[:start] + part + text[end:] if backend else part
