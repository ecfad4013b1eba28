"""Compares a user's own model between frameworks: its processes, and the facts of its report."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from framework_parity.common.commands.judge_comparison import gave_way, plan_facts
from framework_parity.common.commands.run_facts import row, unavailable
from framework_parity.common.core.errors import NotRunError, ParityError, RelayedError
from framework_parity.common.core.files import write_whole
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Job, Outcome, not_done, run_jobs
from framework_parity.common.execution.processes import MEMBERS, REFERENCE, Contender, Execution
from framework_parity.common.judging.grades import verdict
from framework_parity.common.judging.layers import listed
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.facts import SCHEMA
from framework_parity.common.report.wording import run_name
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.record import HISTORY, OtherRowError, Record, RecordError
from framework_parity.common.worker.own_model import INITIAL_FILE, REFUSED
from framework_parity.common.worker.request import Request

READ_SECONDS = 600.0
"""In which a file must be read."""


def read_model(path: Path, backends: Iterable[str]) -> OwnModel:
    """What :meth:`OwnModel.load` finds, by a process of its own: a file may end the one it is in.

    Raises:
        ParityError: as :meth:`OwnModel.load` does, and if the file ends that process.
    """
    with tempfile.TemporaryDirectory() as folder:
        record, log = Path(folder, "record"), Path(folder, "log")
        fields = {"model": path, "backends": list(backends)}
        request = Request("read_model", record, log, fields)
        job = Job("model", Environment("", Path(sys.executable)), request)
        outcome = run_jobs([[job]], slots=1, threads=1, timeout=READ_SECONDS)[job.name]
        try:
            found = Record.read(record).facts
        except RecordError:
            raise ParityError(
                path,
                "a file that can be imported",
                f"the end of its process ({outcome.reason or 'exit status 0'}) before all was read",
                "take out what ends it",
            ) from None
    if "refused" in found:
        raise RelayedError(f"{path}{found['refused']}")
    shapes = {name: tuple(shape) for name, shape in found["shapes"].items()}
    return OwnModel(path, shapes, tuple(found["backends"]))


class ModelComparison:
    """Runs and judges one model.

    Args:
        model: the file.
        execution: its folder is the report's; its plan is saved there.
        data: the examples.
        reference: the framework whose float64 run is the reference.
        contenders: what is compared.
    """

    def __init__(
        self,
        model: OwnModel,
        execution: Execution,
        data: DataModule,
        reference: Environment,
        contenders: Sequence[Contender],
    ) -> None:
        self.model, self.execution, self.data = model, execution, data
        self.reference, self.contenders = reference, contenders
        self.plan, self.folder = execution.plan, execution.folder
        self.refused: dict[str, str] = {}

    def run(self, thresholds: Thresholds) -> dict[str, Any]:
        """Train everything and judge it; the facts of a report.

        Raises:
            NotRunError: if the reference or one of its ensemble failed.
        ParityError: if the model does in a framework what cannot be held equal.
        """
        self._draw()
        outcomes = self._run([[self._job(REFERENCE, self.reference, "float64")]])
        self._check(outcomes)
        workers = [
            [self._job(contender.name, contender.environment, self.plan.recipe.dtype)]
            for contender in self.contenders
            if contender.environment.python is not None
        ]
        outcomes |= self._run([*workers, *self._member_jobs()])
        self._check({name: outcomes[name] for name in MEMBERS})
        records = [self._record(name) for name in (REFERENCE, *MEMBERS)]
        try:
            judge = ModelJudge(
                self.plan, self.data.num_outputs, records[0], records[1:], thresholds
            )
        except RecordError as error:
            raise self._unusable(f"{REFERENCE} or its ensemble", error) from None
        return self._facts(judge, outcomes)

    def _draw(self) -> None:
        """Write the initial parameters beside the plan."""
        drawn = self.model.draw(
            self.data.num_inputs, self.data.num_outputs, self.plan.recipe.seed, "float64"
        )
        # Rounded to the plan's dtype here, so that the reference begins with the same numbers.
        arrays = {name: value.astype(self.plan.recipe.dtype) for name, value in drawn.items()}
        write_whole(self.folder / "plan" / INITIAL_FILE, arrays)

    def _place(self, name: str) -> Path:
        kind = "reference" if name in (REFERENCE, *MEMBERS) else "runs"
        return (self.folder / kind / name).absolute()

    def _job(self, name: str, environment: Environment, dtype: str, **fields: object) -> Job:
        place = self._place(name)
        given: dict[str, object] = {
            "plan": self.folder / "plan",
            "backend": environment.backend,
            "model": self.model.path,
            "dtype": dtype,
            **({} if name == REFERENCE else {"reference": self._place(REFERENCE)}),
            **fields,
        }
        request = Request("own_model", place, place.with_name(f"{name}.log"), given)
        return Job(name, environment, request, essential=name in MEMBERS)

    def _member_jobs(self) -> list[list[Job]]:
        """The ensemble in as many processes as run at once: each imports the framework once."""
        jobs = [
            self._job(name, self.reference, self.plan.recipe.dtype, member=index)
            for index, name in enumerate(MEMBERS)
        ]
        slots = self.execution.slots
        return [jobs[start::slots] for start in range(min(slots, len(jobs)))]

    def _run(self, groups: Sequence[Sequence[Job]]) -> dict[str, Outcome]:
        outcomes = self.execution.run(groups, self._tell)
        for reason in self.refused.values():
            raise RelayedError(f"{self.model.path}: {reason}")
        return outcomes

    def _tell(self, name: str, facts: dict[str, Any]) -> None:
        if facts["event"] == REFUSED:
            self.refused[name] = str(facts.get("reason"))
        self.execution.tell(name, facts)

    def _record(self, name: str) -> Record:
        """What the reference, or a member of its ensemble, left."""
        contender = Contender(self.reference, self.model.path.stem)
        dtype = "float64" if name == REFERENCE else self.plan.recipe.dtype
        return contender.read(self._place(name), self.plan.sha256, dtype)

    def _check(self, outcomes: Mapping[str, Outcome]) -> None:
        for name in not_done(outcomes, outcomes):
            raise NotRunError(
                f"{name} ({self.reference.label})",
                f"a finished training of {self.model.path}",
                f"{outcomes[name].status}: {outcomes[name].reason}",
                "mend the model",
            )
        for name in outcomes:
            if not self._place(name).exists():
                raise self._ended_early(f"{name} ({self.reference.label})")
            try:
                self._record(name)
            except RecordError as error:
                raise self._unusable(name, error) from None

    def _ended_early(self, name: str = "") -> NotRunError:
        received = f"none, exit status 0: {self.model.path} ended its process"
        return NotRunError(name, "a record", received, "take out what does")

    def _unusable(self, name: str, error: RecordError) -> ParityError:
        if isinstance(error, OtherRowError):
            return NotRunError(
                name, error.expected, error.received, "name the interpreter of that release"
            )
        return ParityError(
            f"{name} ({self.reference.label})",
            "a training that can be judged",
            error,
            "lower --lr if its numbers are not finite",
        )

    def _facts(self, judge: ModelJudge, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        runs = [self._run_facts(judge, contender, outcomes) for contender in self.contenders]
        reference = judge.reference.facts
        return {
            "schema": SCHEMA,
            "verdict": verdict([run["status"] for run in runs], [run["grade"] for run in runs]),
            "notices": [
                *gave_way(self.contenders),
                *self._notices(judge),
                *judge.notices(),
                *self._without_partners(runs, reference["backend"]),
            ],
            **plan_facts(self.plan, self.data),
            "model": {
                "file": self.model.path.name,
                "parameters": {n: list(shape) for n, shape in self.model.shapes.items()},
                "layers": list(judge.layers),
            },
            "machine": machine_facts(),
            "thresholds": vars(judge.thresholds).copy(),
            "reference": {
                **{name: list(reference["history"][name]) for name in HISTORY},
                "by": reference["backend"],
            },
            "envelope": {
                "loss": float(judge.envelope["step_loss"][-1]),
                "parameters": float(max(judge.envelope[n][-1] for n in judge.parameters)),
                "members": len(MEMBERS),
                "orders": list(reference["orders"]),
            },
            "free_running": vars(judge.free_running).copy(),
            "runs": runs,
        }

    def _notices(self, judge: ModelJudge) -> Iterator[str]:
        """What the comparison does not show."""
        by = judge.reference.facts["backend"]
        if all(contender.backend == by for contender in self.contenders):
            yield (
                f"The reference is {by}'s, too: this compares {by} with itself, "
                f"{self.plan.recipe.dtype} with float64, and no framework with another."
            )
        orders = judge.reference.facts["orders"]
        if self.model.has("inputs") and "features" not in orders and not self.data.is_large:
            yield (
                "The model computes something else where the features, and the axes that "
                "PARAMETERS calls inputs, are in another order: the ensemble keeps their order."
            )
        if "examples" not in orders:
            yield (
                "The model computes something else where the examples of a batch are in another "
                "order: the ensemble keeps it."
            )
        distinct = {
            tuple(record.arrays[n].tobytes() for n in judge.parameters) for record in judge.members
        }
        if len(distinct) < len(MEMBERS):
            yield (
                f"Only {len(distinct)} of the ensemble's {len(MEMBERS)} trainings differ: the "
                "rounding envelope may be too narrow."
            )

    @staticmethod
    def _without_partners(runs: Sequence[Mapping[str, Any]], by: str) -> Iterator[str]:
        """Which activations are not compared, of each run that was."""
        for run in runs:
            found = run.get("layers") or {"alone": (), "missing": ()}
            said = [f"{listed(found['alone'])} of {run['backend']}"] * bool(found["alone"])
            said += [f"{listed(found['missing'])} of the reference ({by})"] * bool(found["missing"])
            if said:
                yield (
                    f"{run_name(run)}: activations without a partner are not compared: "
                    f"{'; '.join(said)}. Name them alike, or in LAYERS."
                )

    def _run_facts(
        self, judge: ModelJudge, contender: Contender, outcomes: Mapping[str, Outcome]
    ) -> dict[str, Any]:
        outcome = outcomes.get(contender.name, unavailable(contender))
        facts = row(contender, outcome)
        if outcome.status != "done":
            return facts
        if not self._place(contender.name).exists():
            return facts | {"status": "failed", "reason": str(self._ended_early())}
        try:
            place, dtype = self._place(contender.name), self.plan.recipe.dtype
            record = contender.read(place, self.plan.sha256, dtype)
            judged = judge.judge(record)
        except RecordError as error:
            return facts | {"status": "failed", "reason": f"bad record: {error}"}
        return row(contender, outcome, record) | judged
