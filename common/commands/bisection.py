"""Finds the first release of a framework that does not train as the oldest one does.

A bisection lives in the folder of its report: one plan and one reference, a run for every release
that was tried, and ``bisection.json``, from which it goes on after an interruption.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from framework_parity.common.commands.bisection_state import STATE_FILE, State, Trial
from framework_parity.common.commands.comparison_context import prepare_environment
from framework_parity.common.commands.judge_comparison import judge_comparison, judge_of
from framework_parity.common.core.arrays import hash_arrays
from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.environments.backend import Backend, Environment
from framework_parity.common.environments.specifier import label
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import MEMBERS, REFERENCE, Contender, Execution
from framework_parity.common.judging.release_change import Change
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.training.record import Record, RecordError


def search(
    releases: Sequence[str], low: int, high: int, sign: Callable[[str], object | None]
) -> tuple[int, int]:
    """Narrow a change down, in log2 of the releases between the ends if all can be had.

    Args:
        releases: from oldest to newest.
        low: position of the oldest.
        high: position of the newest; its sign is not the oldest's.
        sign: what is equal in two releases between which nothing changed; None if a release
            cannot be had.

    Returns:
        The positions of the last release known to be as the oldest is and of the first known to
        be otherwise; what lies between them cannot be had.
    """
    expected = sign(releases[low])
    between = list(range(low + 1, high))
    while between:
        middle = between[len(between) // 2]
        received = sign(releases[middle])
        if received is None:
            between.remove(middle)
        elif received == expected:
            low = middle
        else:
            high = middle
        between = [i for i in between if low < i < high]
    return low, high


class Bisection:
    """Tries releases one by one, and keeps what came of each.

    Args:
        state: what is asked, and what is known so far; it grows, and its file with it.
        backend: of the question.
        execution: its folder is the report's; its plan is saved there.
        data: the examples.
        thresholds: where the grades part.
    """

    def __init__(
        self,
        state: State,
        backend: Backend,
        execution: Execution,
        data: DataModule,
        thresholds: Thresholds,
    ) -> None:
        self.state, self.backend, self.thresholds = state, backend, thresholds
        self.execution, self.data = execution, data
        self.question, self.releases, self.trials = state.question, state.releases, state.trials
        self.environments: dict[str, Environment] = {}
        self.skipped: dict[str, str] = {}
        self.references: dict[str, Outcome] = {}

    def run(self) -> dict[str, Any]:
        """Bisect; the facts of a report whose rows are the releases that were tried.

        Raises:
            NotRunError: if no release can be had, or the oldest one does not train.
            ParityError: if the ends do not differ, or the oldest one not even repeats itself.
        """
        self._prepare_reference()
        low, high = search(self.releases, *self._find_ends(), self._sign)
        return self._facts(low, high)

    # One release

    def _sign(self, release: str) -> tuple[str | None, ...] | None:
        """What must be equal in two releases between which nothing changed; None: not to be had."""
        if release not in self.trials:
            if self._environment(release).python is None:
                self.skipped[release] = str(self._environment(release).reason)
                return None
            self.trials[release] = self._try(release)
            self.state.save(self.execution.folder / STATE_FILE)
        trial = self.trials[release]
        return trial.grades if self.question.by == "grade" else (*trial.grades, *trial.digests)

    def _environment(self, release: str) -> Environment:
        if release not in self.environments:
            backend = self.backend.at(release, self.question.find_links)
            self.environments[release] = prepare_environment(backend, self.execution.tell)
        return self.environments[release]

    def _contenders(self, release: str) -> list[Contender]:
        environment = self._environment(release)
        return [Contender(environment, name) for name in self.question.implementations]

    def _try(self, release: str) -> Trial:
        contenders = self._contenders(release)
        # A release that does not repeat itself would seem to differ from itself.
        repeats = 2 if self.question.by == "bits" and not self.trials else 1
        outcomes = self.execution.train_again(contenders, repeats)
        runs = self._judge(contenders, outcomes, repeats)["runs"]
        for contender, run in zip(contenders, runs, strict=True):
            if run["repeats"] and run["repeats"].get("identical") is False:
                raise ParityError(
                    "--by bits",
                    "a release that repeats itself bit for bit",
                    f"{contender.name}, which does not",
                    "bisect by grade",
                )
        return Trial(
            {name: (o.status, o.reason, o.seconds) for name, o in outcomes.items()},
            tuple(run["grade"] or run["status"] for run in runs),
            tuple(self._digest(contender) for contender in contenders),
            next((f"{r['status']}: {r['reason']}" for r in runs if r["status"] != "done"), None),
        )

    def _digest(self, contender: Contender) -> str | None:
        try:
            return hash_arrays(dict(self._record(contender).arrays))
        except RecordError:
            return None

    def _record(self, contender: Contender) -> Record:
        return contender.read(
            self.execution.record_folder(contender.name), self.question.plan_sha256
        )

    # The whole

    def _find_ends(self) -> tuple[int, int]:
        """The oldest and the newest release that can be had; they differ."""
        places = range(len(self.releases))
        low = next((i for i in places if self._sign(self.releases[i]) is not None), None)
        if low is None:
            raise NotRunError(
                "bisect",
                f"releases of {self.backend.name} that install",
                f"none of {len(self.releases)}: {self.skipped[self.releases[-1]]}",
                "see to pip",
            )
        oldest = label(self.backend.name, self.releases[low])
        if failure := self.trials[self.releases[low]].failure:
            raise NotRunError(
                oldest, "an oldest release that trains", failure, "begin with a later one"
            )
        high = next(i for i in reversed(places) if self._sign(self.releases[i]) is not None)
        if self._sign(self.releases[high]) == self._sign(self.releases[low]):
            grades = ", ".join(dict.fromkeys(self.trials[self.releases[low]].grades))
            alike = "bit for bit the same" if self.question.by == "bits" else grades
            finer = "" if self.question.by == "bits" else " or bisect by bits"
            raise ParityError(
                "bisect",
                "ends that differ",
                f"{oldest} and {label(self.backend.name, self.releases[high])}, both {alike}",
                f"widen the range{finer}",
            )
        return low, high

    def _prepare_reference(self) -> None:
        """Train the reference and the ensemble, unless an interrupted bisection did."""
        names = (REFERENCE, *MEMBERS)
        self.references = {name: Outcome("done", None, 0.0) for name in names}
        if not all(self.execution.reference_folder(name).exists() for name in names):
            shutil.rmtree(self.execution.folder / "reference", ignore_errors=True)
            self.references = self.execution.train([])

    def _judge(
        self, contenders: Sequence[Contender], outcomes: Mapping[str, Outcome], repeats: int = 1
    ) -> dict[str, Any]:
        return judge_comparison(
            self.execution,
            self.data,
            contenders,
            {**self.references, **outcomes},
            self.thresholds,
            repeats,
        )

    def _facts(self, low: int, high: int) -> dict[str, Any]:
        """The facts of a report: a row for each run of a release that was tried."""
        tried = [release for release in self.releases if release in self.trials]
        contenders = [c for release in tried for c in self._contenders(release)]
        outcomes = {
            name: Outcome(*outcome)
            for release in tried
            for name, outcome in self.trials[release].outcomes.items()
        }
        facts = self._judge(contenders, outcomes)
        self._check_kept(facts["runs"], contenders, tried)
        facts["bisection"] = {
            **asdict(self.question),
            "releases": list(self.releases),
            "tried": tried,
            "skipped": {r: self.skipped[r] for r in self.releases if r in self.skipped},
            "last_alike": self.releases[low],
            "first_different": self.releases[high],
            "between": list(self.releases[low + 1 : high]),
            "changes": self._changes(facts, self.releases[low], self.releases[high]),
        }
        return facts

    def _check_kept(
        self, runs: Sequence[Mapping[str, Any]], contenders: Sequence[Contender], tried: list[str]
    ) -> None:
        """Raise ParityError unless the records still say what they said when they were made."""
        said = [value for r in tried for value in self._said(self.trials[r])]
        for contender, run, before in zip(contenders, runs, said, strict=True):
            if before != (run["grade"] or run["status"], self._digest(contender)):
                raise ParityError(
                    contender.name,
                    "the record that was bisected by",
                    "another or none",
                    "bisect anew with --overwrite",
                )

    @staticmethod
    def _said(trial: Trial) -> Iterator[tuple[str, str | None]]:
        return zip(trial.grades, trial.digests, strict=True)

    def _changes(self, facts: Mapping[str, Any], before: str, after: str) -> list[dict[str, Any]]:
        """What changed from one release to the other, for each implementation that did."""
        judge = judge_of(self.execution, self.data, self.references)
        runs = {(run["asked_version"], run["implementation"]): run for run in facts["runs"]}
        changes = []
        for old, new in zip(self._contenders(before), self._contenders(after), strict=True):
            pair = runs[before, old.implementation], runs[after, new.implementation]
            change = Change.of_runs(*pair)
            if all(run["status"] == "done" for run in pair):
                records = self._record(old), self._record(new)
                change = change.measured(judge, *records)
            if change.differs(self.question.by):
                changes.append(asdict(change))
        return changes
