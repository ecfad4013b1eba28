"""Over time: golden records compared and saved, known differences accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from framework_parity.common.commands.accepted_differences import Accepted
from framework_parity.common.commands.golden_records import (
    Baseline,
    save_baseline,
    surroundings,
)
from framework_parity.common.core.device import DEVICES
from framework_parity.common.judging.baseline_difference import (
    Moved,
    compare_with_golden,
    worst_grade,
)
from framework_parity.common.judging.golden_record import golden_record
from framework_parity.common.judging.judge import Judge, Judgement
from framework_parity.common.report.wording import moved_sentence
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record

Judged = tuple[Record, Judgement] | str | None


class Regression:
    """The golden records and accepted differences of one comparison.

    Args:
        baseline: golden records to compare with.
        target: where to save golden records.
        because: the reason for saving them.
        accepted: known differences.

    Raises:
        ParityError: if a file cannot be read, or is none of its kind.
    """

    def __init__(
        self,
        baseline: str | Path | None = None,
        target: str | Path | None = None,
        because: str | None = None,
        accepted: str | Path | None = None,
    ) -> None:
        self.because = (because or "").strip() or None
        self.target = None if target is None else Path(target)
        self.old: Baseline | None = None
        if self.target is not None and self.target.exists():
            self.old = Baseline.load(self.target)
        self.baseline = None if baseline is None else Baseline.load(Path(baseline))
        self.accepted = None if accepted is None else Accepted.load(Path(accepted))
        self._golden: list[Record] = []
        self._changes: list[str] = []
        self._plan: Plan | None = None

    def check_plan(self, plan: Plan) -> None:
        """Raise ParityError unless the golden records are of this plan."""
        self._plan = plan
        for baseline in (self.baseline, self.old):
            if baseline is not None:
                baseline.check_plan(plan)

    def judge(
        self,
        judge: Judge,
        runs: Sequence[dict[str, Any]],
        judged: Sequence[Judged],
        threads: int,
        today: date | None = None,
        device: str = DEVICES[0],
    ) -> dict[str, Any]:
        """Compare runs with their golden records; mark what is accepted.

        Args:
            judge: of their plan.
            runs: rows of the report; they get ``baseline``, ``accepted`` and the grade ``exact``.
            judged: what was found of each.
            threads: of each worker.
            today: the day; the clock's if not given.
            device: the kind of device that the workers computed on.

        Returns:
            The report's facts ``baseline`` and ``accepted``.
        """
        around = surroundings(threads, device)
        for run, found in zip(runs, judged, strict=True):
            if found is None or isinstance(found, str):
                continue
            if moved := self._moved(self.baseline, judge, found[0], run, around):
                run["baseline"] = asdict(moved)
                if moved.grade == "exact" and run["grade"] == "rounding":
                    run["grade"] = "exact"
            if self.target is not None:
                self._golden.append(golden_record(judge, found[0], run, around))
                if (old := self._moved(self.old, judge, found[0], run, around)) is not None:
                    self._changes.append(moved_sentence(run, asdict(old)))
        told: dict[str, Any] = {}
        if self.baseline is not None:
            told["baseline"] = self._baseline_facts(runs)
        if self.accepted is not None:
            entries = self.accepted.apply(runs, today or date.today())
            told["accepted"] = {"file": str(self.accepted.path), "entries": entries}
        return told

    def save(self, complete: bool) -> str | None:
        """Save the golden records, if they are to be and all ran; what was done, as a sentence."""
        if self.target is None:
            return None
        if not complete or self._plan is None:
            return f"{self.target}: baseline not saved, since not everything ran"
        save_baseline(self.target, self.old, self._plan, self._golden, self.because, self._changes)
        return f"{self.target}: baseline saved, {len(self._golden)} runs"

    @staticmethod
    def _moved(
        baseline: Baseline | None,
        judge: Judge,
        record: Record,
        run: Mapping[str, Any],
        around: Mapping[str, Any],
    ) -> Moved | None:
        if baseline is None:
            return None
        golden = baseline.find(run["backend"], run["implementation"], run["version"])
        if golden is None:
            return None
        baseline.check_model(golden, judge.initial)
        return compare_with_golden(judge, golden, record, run, around)

    def _baseline_facts(self, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        assert self.baseline is not None
        grades = [run["baseline"]["grade"] for run in runs if run["baseline"]]
        here = {(run["backend"], run["implementation"]) for run in runs}
        history = self.baseline.facts["history"]
        last = history[-1] if history else {}
        return {
            "file": str(self.baseline.path),
            "grade": worst_grade(grades) if grades else None,
            "saved": last.get("saved"),
            "because": last.get("because"),
            "new": [
                f"{run['backend']} {run['implementation']}"
                for run in runs
                if run["status"] == "done" and not run["baseline"]
            ],
            "not_trained": [
                f"{run.facts['backend']} {run.facts['implementation']}"
                for run in self.baseline.runs
                if (run.facts["backend"], run.facts["implementation"]) not in here
            ],
        }
