"""The facts of a finished comparison, as its ``report.json`` holds them, and what they say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.outside import plain_values, read_json
from framework_parity.common.environments.specifier import same_release
from framework_parity.common.judging.grades import (
    BEYOND,
    GRADES,
    NOT_SHOWN,
    UNCONFIRMED,
    failing,
    over_seeds,
    verdict,
    worst_verdict,
)
from framework_parity.common.report.findings import farthest
from framework_parity.common.report.wording import failures, run_name, runs_of_seeds, seed_tests

SCHEMA = 1
FILE = "report.json"

EXIT_AGREE, EXIT_DISAGREE, EXIT_USAGE, EXIT_INCOMPLETE = 0, 1, 2, 3


@dataclass(frozen=True, repr=False)
class ReportFacts:
    """What a comparison found. Everything printed or drawn comes from ``facts``.

    Args:
        facts: the JSON object; ``docs/report.md`` describes it.
        folder: where the report and the records lie.
    """

    facts: dict[str, Any]
    folder: Path

    def __post_init__(self) -> None:
        # Names, reasons and versions come from records, logs and other reports.
        said = plain_values(self.facts)
        self.facts.clear()
        self.facts.update(said)

    @property
    def verdict(self) -> str:
        """One of :data:`grades.VERDICTS`."""
        return str(self.facts["verdict"])

    @property
    def runs(self) -> list[dict[str, Any]]:
        """One object per run, in the order of the table."""
        return list(self.facts["runs"])

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, and what else fails."""
        said = [self._verdict_sentence(), *self._seeds_sentence(), *self._baseline_sentence()]
        return " ".join(said)

    def _seeds_sentence(self) -> list[str]:
        """How many of the outcomes are shown to be equivalent over seeds, and which are not."""
        tests = list(seed_tests(self.facts))
        if not tests:
            return []
        odd = [
            f"{name} {metric} (p = {f['p']:.2g})"
            for name, metric, f in tests
            if not f["equivalent"]
        ]
        count = f"{len(tests) - len(odd)} of {len(tests)} final losses and accuracies"
        named = f"; not shown for {', '.join(odd)}" if odd else ""
        seeds = len(self.facts["seeds"]["seeds"])
        return [f"Over {seeds} seeds equivalence is shown for {count}{named}."]

    def _baseline_sentence(self) -> list[str]:
        """How many runs moved since the baseline, and how; what fails beside the grades."""
        grades = [run["baseline"]["grade"] for run in self.runs if run.get("baseline")]
        counted = ", ".join(f"{grades.count(g)} {g}" for g in GRADES if g in grades)
        failed = "; ".join(self.failures)
        return [
            *([f"Against the baseline: {counted}."] if counted else []),
            *([f"Failed: {failed}."] if failed else []),
        ]

    def _verdict_sentence(self) -> str:
        done = [run for run in self.runs if run["status"] == "done"]
        missing = [run for run in self.runs if run["status"] != "done"]
        limit = self.facts["thresholds"]["envelopes"]
        free = self.facts["free_running"]
        trained = f"{len(done)} run{'s' * (len(done) != 1)}"
        if self.verdict == "agree":
            return (
                f"agree: {trained} within {limit:g} × rounding of the float64 reference "
                f"({farthest(done)})."
            )
        if self.verdict == "chaotic":
            return f"chaotic: {self._apart(done)}"
        if self.verdict == NOT_SHOWN:
            return f"not shown: {trained} ({self._grades(done)}) on the plan of the first seed."
        if self.verdict == "incomplete":
            names = [f"{run_name(run)} ({run['status']})" for run in missing]
            names += self._of_other_seeds(None)
            names += [f"{n} over seeds" for n in (self.facts.get("seeds") or {}).get("failed", ())]
            rest = f" Of the others: {self._grades(done)}." if done else ""
            if any(run["status"] == UNCONFIRMED for run in missing):
                return "incomplete: nothing is graded, since the reference is not confirmed."
            if not names:
                return "incomplete: nothing was compared."
            return f"incomplete: {', '.join(names)} did not run.{rest}"
        odd = [f"{run_name(r)}{_accepted(r)}" for r in done if r["grade"] == self.verdict]
        odd += self._of_other_seeds(self.verdict)
        if self.verdict == "drift" and not free["informative"]:
            return (
                f"drift: {', '.join(odd)} outside rounding by no more than drift may be, in the "
                "steps that can be compared; outcomes cannot be."
            )
        if self.verdict == "drift":
            return f"drift: {', '.join(odd)} outside rounding, with the same outcome."
        return (
            f"disagree: {', '.join(odd)} {'do' if len(odd) > 1 else 'does'} not agree with the "
            "reference."
        )

    def _apart(self, done: Sequence[Mapping[str, Any]]) -> str:
        """What was compared of a chaotic plan, and how far the outcomes lie apart."""
        limit, free = self.facts["thresholds"]["envelopes"], self.facts["free_running"]
        if free["informative"]:
            names = [run_name(run) for run in done if run["grade"] == "chaotic"]
            names += self._of_other_seeds("chaotic")
            return (
                f"within {limit:g} × rounding as far as can be compared, but the outcomes of "
                f"{', '.join(names)} cannot be: rounding alone drives equal trainings apart."
            )
        ends = []
        metrics = {"validation losses": ("val_loss", 6), "accuracies": ("val_accuracy", 4)}
        if "val_accuracy" not in self.facts["reference"]:
            del metrics["accuracies"]
        for name, digits in metrics.values():  # as in the table
            values = [run[name][-1] for run in done]
            values += self.facts["reference"][name][-1:]
            low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
            ends.append(low if low == high else f"{low} to {high}")
        where = ", ".join(f"{name} end at {end}" for name, end in zip(metrics, ends, strict=True))
        steps = free["steps"]
        first = f" and in the first {steps} steps of the training" * bool(steps)
        return (
            f"{len(done)} run{'s' * (len(done) != 1)} within {limit:g} × rounding of the float64 "
            f"reference as far as can be compared: in every probed step{first} "
            f"({farthest(done)}). Outcomes cannot be, since rounding alone drives equal trainings "
            f"apart: {where.replace(', accuracies end', ', accuracies')}, the reference's among "
            "them."
        )

    def _of_other_seeds(self, grade: str | None) -> list[str]:
        """The runs on further seeds' plans that have this grade."""
        found = runs_of_seeds(self.facts)
        return [f"{name} (seed {seed})" for name, seed, received in found if received == grade]

    @staticmethod
    def _grades(runs: list[dict[str, Any]]) -> str:
        grades = [run["grade"] for run in runs]
        return ", ".join(f"{grades.count(g)} {g}" for g in sorted(set(grades), key=grades.index))

    @property
    def deciding_verdict(self) -> str:
        """The verdict over what no entry of accepted differences covers."""
        open_runs = [run for run in self.runs if _is_open(run)]
        if len(open_runs) == len(self.runs):
            return self.verdict
        grades = [run["grade"] for run in open_runs]
        own = verdict([run["status"] for run in open_runs], grades) if open_runs else "agree"
        return worst_verdict([own, *over_seeds(self.facts.get("seeds") or {})])

    @property
    def failures(self) -> list[str]:
        """What fails beside the grades, in words: see :func:`wording.failures`."""
        return failures(self.facts)

    def exit_status(self, fail_on: str = "disagree") -> int:
        """The exit status of ``compare.py``: 0, 1 or 3.

        Args:
            fail_on: ``chaotic``, ``drift`` or ``disagree``: the mildest verdict that fails.

        Raises:
            ParityError: if ``fail_on`` is something else.
        """
        fails = self.deciding_verdict in failing(fail_on)
        if self.facts.get("bisection"):
            return EXIT_AGREE  # it found its pair, whatever the grades of its releases
        if self.deciding_verdict == "incomplete":
            return EXIT_INCOMPLETE
        failed = fails or self.failures
        return EXIT_DISAGREE if failed else EXIT_AGREE

    def check(self) -> None:
        """Raise ValueError if the verdict says what the rows do not."""
        for run in self.runs:
            if run["status"] != "done":
                continue
            if run["grade"] not in GRADES:
                raise ValueError(f"{run_name(run)} has no grade")
            trained = run["versions"].get(run["backend"], "")
            if run["version"] is not None and not same_release(trained, run["version"]):
                raise ValueError(
                    f"{run_name(run)} trained with {trained or 'no release that it names'}, "
                    f"not {run['version']}"
                )
        own = verdict([run["status"] for run in self.runs], [run["grade"] for run in self.runs])
        worst = worst_verdict([own, *over_seeds(self.facts.get("seeds") or {})])
        if self.verdict != worst_verdict([self.verdict, worst]):
            raise ValueError(f"verdict {self.verdict} over rows that {worst}")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.folder}: {self.sentence}>"

    def save(self) -> None:
        """Write ``report.json``, whole or not at all."""
        text = json.dumps(self.facts, indent=1, allow_nan=False) + "\n"
        write_whole(self.folder / FILE, text, lasting=True)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a report.

        Args:
            folder: ``--out`` of a finished comparison, which holds ``report.json``.

        Raises:
            ParityError: if there is none, or it is of another schema.
        """
        folder = Path(folder)
        try:
            facts = read_json(folder / FILE)
            if not isinstance(facts, dict):
                raise ValueError("no object")
            schema = facts["schema"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ParityError(
                folder, "a report", told(error), "name the --out of a finished comparison"
            ) from None
        if schema != SCHEMA:
            raise ParityError(
                folder / FILE, f"schema {SCHEMA}", repr(schema), "use the release that wrote it"
            )
        return cls(facts, folder)


def _is_open(run: Mapping[str, Any]) -> bool:
    """Whether no entry of accepted differences covers a run.

    Where a chaotic run moved since its baseline, what is accepted is that movement alone.
    """
    moved = (run.get("baseline") or {}).get("grade") in BEYOND
    return not run.get("accepted") or (run["grade"] == "chaotic" and moved)


def _accepted(run: dict[str, Any]) -> str:
    accepted = run.get("accepted")
    return f" (accepted until {accepted['until']})" if accepted else ""
