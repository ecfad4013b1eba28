"""What a bisection asks and knows, in a file from which it goes on after an interruption."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.outside import read_json

SCHEMA = 2
STATE_FILE = "bisection.json"
BY = ("grade", "bits")


@dataclass(frozen=True)
class Question:
    """What a bisection asks; it goes on only where the same was asked.

    Args:
        backend: the backend's name.
        range: the releases, as a specifier.
        by: what tells two releases apart: their ``grade``, or the ``bits`` of their records.
        implementations: which are trained.
        find_links: where pip looks for releases besides its index.
        plan_sha256: what is trained.
        thresholds: the numbers that decide a grade, as of :class:`thresholds.Thresholds`.
        model: SHA-256 of the file of a model of a user's own; None: softmax regression.
    """

    backend: str
    range: str
    by: str
    implementations: tuple[str, ...]
    find_links: tuple[str, ...]
    plan_sha256: str
    thresholds: tuple[float, ...]
    model: str | None = None


@dataclass(frozen=True)
class Trial:
    """What came of one release.

    Args:
        outcomes: how its processes ended: status, reason and seconds by name.
        grades: of each implementation, or its status if it was not trained to the end.
        digests: of each implementation's record; None if there is none.
        failure: why one of its trainings did not end well, or None.
    """

    outcomes: dict[str, tuple[str, str | None, float]]
    grades: tuple[str, ...]
    digests: tuple[str | None, ...]
    failure: str | None


@dataclass(frozen=True)
class State:
    """What a bisection knows so far; its file is all that an interrupted one needs to go on.

    Args:
        question: what is asked.
        releases: in its range, from oldest to newest.
        trials: what came of those that were tried. Releases that could not be had are not kept:
            the reason may have been the network's.
    """

    question: Question
    releases: tuple[str, ...]
    trials: dict[str, Trial] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        write_whole(path, {"schema": SCHEMA, **asdict(self)}, lasting=True)

    def check(self, question: Question, path: Path) -> None:
        """Raise ParityError unless it is the state of this question."""
        if self.question != question:
            raise ParityError(
                path,
                "a bisection of the same releases and recipe",
                "another",
                "repeat its options, name another --out or add --overwrite",
            )


def load_state(path: Path) -> State | None:
    """What a bisection left; None if there was none.

    Raises:
        ParityError: if it cannot be read.
    """
    try:
        facts = read_json(path)
        if (schema := facts["schema"]) != SCHEMA:
            raise ValueError(f"schema {schema!r}, not {SCHEMA}")
        question: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in facts["question"].items()
        }
        trials = {
            release: Trial(
                {name: (str(o[0]), o[1], float(o[2])) for name, o in trial["outcomes"].items()},
                tuple(trial["grades"]),
                tuple(trial["digests"]),
                trial["failure"],
            )
            for release, trial in facts["trials"].items()
        }
        return State(Question(**question), tuple(facts["releases"]), trials)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ParityError(
            path, "the state of a bisection", told(error), "name another --out or add --overwrite"
        ) from None
