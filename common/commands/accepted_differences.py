"""Known differences that a team accepts for a time: a TOML file. No grade changes by it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.outside import read_toml
from framework_parity.common.environments.discovery import discover
from framework_parity.common.judging.grades import BEYOND
from framework_parity.common.judging.ladder import STAGES

TABLE = "accept"
CHAOTIC = "chaotic"
"""What stands for a stage where none is to blame: the run's outcome cannot be compared."""

KEYS = ("backend", "implementation", "stage", "bound", "reason", "expires")
EXAMPLE = "expires = 2027-01-31"


@dataclass(frozen=True)
class Entry:
    """One accepted difference.

    Args:
        backend: the run's backend.
        implementation: the run's implementation.
        stage: where its first divergence is; ``chaotic`` of a run whose grade is that.
        bound: the largest number of envelopes, of anything that decides its grade.
        reason: why it is accepted.
        expires: the last day on which it is.
    """

    backend: str
    implementation: str
    stage: str
    bound: float
    reason: str
    expires: date

    def fits(self, run: Mapping[str, Any], against: Mapping[str, Any]) -> bool:
        """Whether this is about a run's difference from the reference or from the baseline."""
        where = against["divergence"]
        stage = CHAOTIC if against["grade"] == CHAOTIC else where and where["stage"]
        return self.names(run) and stage == self.stage

    def names(self, run: Mapping[str, Any]) -> bool:
        """Whether this is about a run."""
        return (run["backend"], run["implementation"]) == (self.backend, self.implementation)


@dataclass(frozen=True)
class Accepted:
    """The entries of a file."""

    path: Path
    entries: tuple[Entry, ...]

    @classmethod
    def load(cls, path: Path) -> Accepted:
        """Read a file of accepted differences.

        Raises:
            ParityError: if it cannot be read, or an entry lacks something or says what cannot be.
        """
        try:
            facts = read_toml(path)
        except OSError as error:
            _refuse(path, told(error), "name another file")
        except ValueError as error:
            _refuse(path, f"no TOML ({told(error)})", "mend the file")
        tables = facts.pop(TABLE, [])
        if facts or not isinstance(tables, list):
            odd = ", ".join(facts) or repr(tables)
            _refuse(path, odd, f"write each entry as a [[{TABLE}]] table")
        entries = tuple(_entry(path, number, table) for number, table in enumerate(tables, 1))
        seen: set[tuple[str, str, str]] = set()
        for entry in entries:
            if (key := (entry.backend, entry.implementation, entry.stage)) in seen:
                _refuse(path, f"two entries for {' '.join(key)}", "keep one of them")
            seen.add(key)
        return cls(path, entries)

    def apply(self, runs: Sequence[dict[str, Any]], today: date) -> list[dict[str, Any]]:
        """Mark the runs all of whose differences are accepted; say what became of each entry.

        Args:
            runs: rows of a report; each gets ``accepted``.
            today: the day on which they ran.

        Returns:
            The entries as JSON objects with a ``state``: ``accepted``, ``expired``, ``exceeded``,
            ``unmatched`` or ``not compared``.
        """
        states = [self._state(entry, runs, today) for entry in self.entries]
        in_force = [e for e, state in zip(self.entries, states, strict=True) if state == "accepted"]
        for run in runs:
            covering = [
                next((entry for entry in in_force if entry.fits(run, difference)), None)
                for difference in differences(run)
            ]
            if covering and None not in covering:
                first = min(filter(None, covering), key=lambda entry: entry.expires)
                run["accepted"] = {"until": first.expires.isoformat(), "reason": first.reason}
        return [
            vars(entry) | {"expires": entry.expires.isoformat(), "state": state}
            for entry, state in zip(self.entries, states, strict=True)
        ]

    @staticmethod
    def _state(entry: Entry, runs: Sequence[Mapping[str, Any]], today: date) -> str:
        ours = [run for run in runs if entry.names(run)]
        if not ours:
            backend = discover().get(entry.backend)
            gone = backend is None or entry.implementation not in backend.implementations
            return "unmatched" if gone else "not compared"
        if any(run["status"] != "done" for run in ours):
            return "not compared"
        fitting = [d for run in ours for d in differences(run) if entry.fits(run, d)]
        if not fitting:
            return "unmatched"
        if today > entry.expires:
            return "expired"
        within = all(difference["envelopes"] <= entry.bound for difference in fitting)
        return "accepted" if within else "exceeded"


def differences(run: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What is beyond rounding in a run: against the reference, against the baseline.

    If nothing is, what cannot be compared.
    """
    against = [found for found in (run, run["baseline"]) if found]
    beyond = [found for found in against if found["grade"] in BEYOND]
    yield from beyond or [found for found in against[:1] if found["grade"] == CHAOTIC]


def _entry(path: Path, number: int, table: Any) -> Entry:
    if not isinstance(table, dict):
        _refuse(path, repr(table), f"write each entry as a [[{TABLE}]] table")
    where = f"entry {number}"
    if odd := [name for name in table if name not in KEYS]:
        _refuse(path, f"{where} with {', '.join(odd)}", f"give {', '.join(KEYS)}")
    if missing := [name for name in KEYS if name not in table]:
        _refuse(path, f"{where} without {', '.join(missing)}", f"give {', '.join(KEYS)}")
    for name in ("backend", "implementation", "reason"):
        if not isinstance(table[name], str) or not table[name].strip():
            _refuse(path, f"{where} with {name} {table[name]!r}", "give it as text")
    if table["stage"] not in (*STAGES, CHAOTIC):
        known = ", ".join((*STAGES, CHAOTIC))
        _refuse(path, f"{where} with stage {table['stage']!r}", f"give one of {known}")
    bound = table["bound"]
    is_number = isinstance(bound, (int, float)) and not isinstance(bound, bool)
    if not (is_number and math.isfinite(bound) and bound > 0):
        _refuse(path, f"{where} with bound {bound!r}", "give envelopes, a number above zero")
    if type(table["expires"]) is not date:
        _refuse(path, f"{where} with expires {table['expires']!r}", f"give a date, {EXAMPLE}")
    return Entry(**table)


def _refuse(path: Path, received: str, mend: str) -> NoReturn:
    raise ParityError(path, "accepted differences", received, mend) from None
