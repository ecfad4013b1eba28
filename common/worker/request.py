"""Request: what a worker is asked to do, in one JSON file; what comes of it is one record."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.outside import read_json


@dataclass(frozen=True)
class Request:
    """One thing to do.

    Args:
        kind: what; a name of :data:`kinds.KINDS`, or the ``module:function`` of a benchmark.
        record: the folder of the record to leave.
        log: the file that takes what is printed meanwhile.
        fields: what that kind asks for besides: the arguments of its function, by name.
    """

    kind: str
    record: Path
    log: Path
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """Where :meth:`write` puts it: beside the log."""
        return self.log.absolute().with_suffix(".request.json")

    def write(self) -> None:
        """Write the file, whole."""
        facts = {"kind": self.kind, "record": self.record, "log": self.log, **self.fields}
        write_whole(self.file, json.dumps(facts, indent=1, default=_place) + "\n")

    @classmethod
    def read(cls, path: Path) -> Request:
        """Read a request.

        Raises:
            ParityError: if there is none.
        """
        try:
            facts = read_json(path)
            kind, record, log = (facts.pop(name) for name in ("kind", "record", "log"))
            return cls(str(kind), Path(record), Path(log), facts)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ParityError(
                path,
                "a request, a JSON object with kind, record and log",
                told(error),
                "write it with Request.write",
            ) from None

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """The fields as the kind's function takes them behind its first argument.

        Raises:
            ParityError: if one is missing, unknown or of another type.
        """
        hints = get_type_hints(function)
        _, *known = inspect.signature(function).parameters.values()
        missing = {p.name for p in known if p.default is p.empty} - set(self.fields)
        wrong = [n for n, value in self.fields.items() if not _fits(value, hints.get(n, ()))]
        if missing or wrong:
            received = [f"{name} = {self.fields[name]!r}" for name in wrong]
            received += [f"no {name}" for name in sorted(missing)]
            raise ParityError(
                self.kind,
                f"a request with {', '.join(str(p) for p in known)}",
                ", ".join(received),
                "mend it",
            )
        return {
            name: Path(value) if isinstance(value, str) and Path in _kinds(hints[name]) else value
            for name, value in self.fields.items()
        }


def _place(value: object) -> str:
    if not isinstance(value, Path):
        raise TypeError(f"expected what JSON holds, or a path; received {value!r}")
    return str(value.absolute())


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if isinstance(hint, UnionType) else (hint,)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value of a JSON file is of a type; those of lists and objects are not looked at."""
    held: dict[Any, Any] = {Path: str, float: (int, float)}  # what JSON has for them
    return isinstance(value, tuple(held.get(k, get_origin(k) or k) for k in _kinds(hint)))
