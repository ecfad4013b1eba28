"""Comparisons that share their trainings: many in one test run, each training done once.

Under one folder, a plan's reference and every backend's implementation is trained at most once,
whichever process asks first; the others wait for it. Its workers may stay for the next plan.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framework_parity.common.commands.chosen import Chosen
from framework_parity.common.commands.judge_arrays import Found, judge_arrays, load_arrays
from framework_parity.common.commands.judge_comparison import judge_comparison, load_judge
from framework_parity.common.commands.model_targets import with_targets
from framework_parity.common.commands.regression import Regression
from framework_parity.common.core.errors import NotRunError, ParityError
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.outside import read_json
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.discovery import find_environment
from framework_parity.common.environments.lock import wait_for
from framework_parity.common.execution.launcher import Outcome
from framework_parity.common.execution.processes import Contender, Execution, Subject
from framework_parity.common.execution.worker_pool import WorkerPool
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.report import Report
from framework_parity.common.report.wording import (
    comparable_lines,
    lines_of_runs,
    lines_over_time,
)
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe

TIMEOUT_SECONDS = 600.0
THREADS = 1
"""Of each worker."""
SHARED = ("plan", "reference", "runs")


@dataclass(frozen=True)
class Comparison:
    """A finished comparison, to be asserted.

    Args:
        report: what was found.
    """

    report: Report

    def assert_agreement(self, fail_on: str = "drift") -> None:
        """Raise AssertionError, in a few lines, unless everything ran and agrees.

        Args:
            fail_on: ``chaotic``, ``drift`` or ``disagree``: the mildest verdict that fails. What
                moved beyond rounding since a baseline fails in any case, and what is accepted
                does not.

        Raises:
            ParityError: if ``fail_on`` is something else.
        """
        __tracebackhide__ = True
        if self.report.exit_status(fail_on):
            raise AssertionError("\n".join(failure_lines(self.report)))


def failure_lines(report: Report) -> list[str]:
    """What is wrong, in a few lines: the verdict; of each run step, stage, tensor and cause."""
    lines = (lines_of_runs, comparable_lines, lines_over_time)
    return [report.sentence, *(line for of in lines for line in of(report.facts))]


@dataclass(frozen=True)
class Shared:
    """A plan whose trainings are shared.

    Args:
        plan: what is trained.
        data: its examples.
        notice: what a report says on top, or None.
        folder: where its trainings are.
        workers: train it.
        subject: what is trained.
    """

    plan: Plan
    data: DataModule
    notice: str | None
    folder: Path
    workers: WorkerPool | None = None
    subject: Subject = Subject()  # noqa: RUF009  # frozen, too

    @classmethod
    def open(
        cls,
        folder: Path,
        data: str | None,
        data_dir: str | None,
        workers: WorkerPool | None = None,
        model: OwnModel | None = None,
        **recipe: Any,
    ) -> Shared:
        """Make the plan of a recipe; the targets may be those that a user's own model makes.

        Raises:
            ParityError: for unusable input.
        """
        known = [name for name in vars(Recipe()) if name != "data"]
        if unknown := [name for name in recipe if name not in known]:
            raise ParityError(
                "recipe", f"some of {', '.join(known)}", ", ".join(unknown), "choose among them"
            )
        wanted = Recipe(data or Recipe.data, **recipe)
        data_folder, examples, notice = open_data(
            data, wanted.batch_size, data_dir, lambda *_: None, any_targets=model is not None
        )
        if model is not None:
            data_folder, examples = with_targets(model, data_folder, examples)
        plan = Plan.make(Recipe(examples.name, **recipe), examples, data_folder)
        return cls(plan, examples, notice, folder / plan.sha256[:16], workers)

    def of(self, subject: Subject) -> Shared:
        """The same plan for what is trained, which has a folder of its own if a file gives it."""
        if subject.model is None:
            return self
        names = [subject.by.label, subject.second.name if subject.second else ""]
        content = [subject.model.path.read_bytes(), *(name.encode() for name in names)]
        digest = hashlib.sha256(b"\0".join(content)).hexdigest()[:16]
        return replace(self, subject=subject, folder=self.folder / "models" / digest)

    def execution(self, folder: Path) -> Execution:
        """Runs this plan's processes in a folder."""
        how = (len(available_cpus()), THREADS, TIMEOUT_SECONDS)
        return Execution(self.plan, folder, *how, pool=self.workers, subject=self.subject)

    def train(self, contenders: Sequence[Contender]) -> dict[str, Outcome]:
        """Train what is not trained yet; the outcome of every process so far by its name."""
        self.folder.mkdir(parents=True, exist_ok=True)
        execution, kept = self.execution(self.folder), self.folder / "outcomes.json"
        try:
            held = wait_for(Path(f"{self.folder}.lock"), 10 * TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise NotRunError(
                self.folder, "its turn to train", error, "end the other process"
            ) from None
        with held:
            outcomes: dict[str, Outcome] = {}
            if kept.exists():
                facts = read_json(kept)
                outcomes = {name: Outcome(**fact) for name, fact in facts.items()}
            missing = [c for c in contenders if c.name not in outcomes and c.environment.python]
            if not outcomes:
                shutil.rmtree(self.folder)  # somebody was interrupted in it
                self.plan.save(self.folder / "plan")
                outcomes = execution.train(missing)
            elif missing:
                outcomes |= execution.train_again(missing)
            write_whole(kept, {name: vars(outcome) for name, outcome in outcomes.items()})
        return outcomes

    def place(self) -> Path:
        """A new folder for one comparison, from which the shared trainings can be reached."""
        folder = self.folder / "comparisons" / uuid.uuid4().hex
        folder.mkdir(parents=True)
        for name in SHARED:
            (self.folder / name).mkdir(exist_ok=True)
            (folder / name).symlink_to(self.folder / name, target_is_directory=True)
        return folder


def judge_shared(shared: Shared, run: Any, thresholds: Thresholds) -> Found:
    """Judge the arrays of other code by the reference of a plan, which is shared.

    Raises:
        ParityError: if the arrays cannot be used.
    """
    arrays, outcomes = load_arrays(run), shared.train([])
    judge = load_judge(shared.execution(shared.folder), shared.data, outcomes, thresholds)
    return judge_arrays(judge, arrays)


def compare_shared(
    shared: Shared, chosen: Chosen, thresholds: Thresholds, files: Mapping[str, Any]
) -> Comparison:
    """Compare what is chosen on a plan, by trainings that are shared.

    Raises:
        ParityError: for unusable input.
    """
    regression = Regression(**files)
    regression.check_plan(shared.plan)
    environments = {backend.label: find_environment(backend) for backend in chosen.wanted}
    contenders = chosen.contenders(environments)
    shared = shared.of(chosen.subject(environments))
    outcomes = shared.train(contenders)
    execution = shared.execution(shared.place())
    facts = judge_comparison(
        execution, shared.data, contenders, outcomes, thresholds, regression=regression
    )
    facts["notices"] += [shared.notice] if shared.notice else []
    facts["settings"] = {"threads": THREADS, "timeout_seconds": TIMEOUT_SECONDS}
    report = Report(facts, execution.folder)
    report.save()
    return Comparison(report)
