"""Compares a user's own model between frameworks: its processes, and the facts of its report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from framework_parity.common.commands.judge_comparison import gave_way, judge_record, plan_facts
from framework_parity.common.commands.model_targets import ask
from framework_parity.common.commands.run_facts import run_facts, unavailable
from framework_parity.common.core.errors import NotRunError, ParityError, RelayedError
from framework_parity.common.core.machine import machine_facts
from framework_parity.common.data.data_module import DataModule
from framework_parity.common.environments.backend import Environment
from framework_parity.common.execution.launcher import Job, Outcome, not_done
from framework_parity.common.execution.processes import MEMBERS, REFERENCE, Contender, Execution
from framework_parity.common.judging.grades import verdict
from framework_parity.common.judging.judge import Judgement
from framework_parity.common.judging.ladder import first_divergence
from framework_parity.common.judging.layers import listed
from framework_parity.common.judging.model_judge import ModelJudge
from framework_parity.common.judging.thresholds import Thresholds
from framework_parity.common.report.facts import SCHEMA
from framework_parity.common.report.findings import where
from framework_parity.common.report.wording import run_name
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.record import OtherRowError, Record, RecordError
from framework_parity.common.worker.own_model import MATCHED, REFUSED
from framework_parity.common.worker.request import Request

CONFIRMATION = "confirmation"
"""Name of the float64 run of a second framework, in the folder ``reference``."""

CONFIRMED = 2.0**-10
"""How many envelopes two float64 runs of one model may be apart: far above float64's rounding,
which is 2e-9 of float32's, and far below anything that a grade depends on."""


def read_model(path: Path, backends: Iterable[str]) -> OwnModel:
    """What :meth:`OwnModel.load` finds, by a process of its own: a file may end the one it is in.

    Raises:
        ParityError: as :meth:`OwnModel.load` does, and if the file ends that process.
    """
    found = ask("read_model", path, backends).facts
    shapes = {name: tuple(shape) for name, shape in found["shapes"].items()}
    return OwnModel(
        path, shapes, tuple(found["backends"]), makes_targets=bool(found["makes_targets"])
    )


class ModelComparison:
    """Runs and judges one model.

    Args:
        model: the file.
        execution: its folder is the report's; its plan is saved there.
        data: the examples.
        reference: the framework whose float64 run is the reference.
        contenders: what is compared.
        second: whose float64 run is to confirm it; None if the reference brings its gradient by
            hand, or nobody else is there.
    """

    def __init__(
        self,
        model: OwnModel,
        execution: Execution,
        data: DataModule,
        reference: Environment,
        contenders: Sequence[Contender],
        second: Contender | None = None,
    ) -> None:
        self.model, self.execution, self.data = model, execution, data
        self.reference, self.contenders, self.second = reference, contenders, second
        self.plan, self.folder = execution.plan, execution.folder
        self.refused: dict[str, str] = {}
        self.unlike: list[str] = []
        self.matched: dict[str, list[list[str]]] = {}

    def run(self, thresholds: Thresholds) -> dict[str, Any]:
        """Train everything and judge it; the facts of a report.

        Raises:
            NotRunError: if the reference or one of its ensemble failed.
        ParityError: if the model does in a framework what cannot be held equal.
        """
        outcomes = self._run([[self._job(REFERENCE, self.reference, "float64")]])
        self._check(outcomes)
        workers = [
            [self._job(contender.name, contender.environment, self.plan.recipe.dtype)]
            for contender in self.contenders
            if contender.environment.python is not None
        ]
        if self.second:
            workers.append([self._job(CONFIRMATION, self.second.environment, "float64")])
        outcomes |= self._run([*workers, *self._member_jobs()])
        self._check({name: outcomes[name] for name in MEMBERS})
        records = [self._record(name) for name in (REFERENCE, *MEMBERS)]
        try:
            judge = ModelJudge.measure(self.plan, self.data, records[0], records[1:], thresholds)
        except RecordError as error:
            raise self._unusable(f"{REFERENCE} or its ensemble", error) from None
        return self._facts(judge, outcomes)

    def _place(self, name: str) -> Path:
        kind = "reference" if name in (REFERENCE, CONFIRMATION, *MEMBERS) else "runs"
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
        if facts["event"] == MATCHED:
            self.matched[name] = facts["table"]
            if name == CONFIRMATION:  # the same as in its own row
                return
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
        shapes = self.model.shapes or reference["shapes"]
        return {
            "schema": SCHEMA,
            "verdict": verdict([run["status"] for run in runs], [run["grade"] for run in runs]),
            "notices": [
                *gave_way(self.contenders),
                *self._unconfirmed(judge, outcomes),
                *self._notices(judge),
                *self.unlike,
                *judge.notices(),
                *self._without_partners(runs, reference["backend"]),
            ],
            **plan_facts(self.plan, self.data),
            "model": {
                "file": self.model.path.name,
                "parameters": {name: list(shape) for name, shape in shapes.items()},
                "matched": {run: rows for run, rows in self.matched.items() if run != CONFIRMATION},
                "layers": list(judge.ladder.layers),
            },
            "machine": machine_facts(),
            "thresholds": vars(judge.thresholds).copy(),
            "reference": {
                **{name: list(values) for name, values in reference["history"].items()},
                "by": reference["backend"],
                "second": self.second and self.second.backend,
            },
            "envelope": {
                "loss": float(judge.envelope.loss[-1]),
                "parameters": float(max(judge.envelope.parameters[n][-1] for n in judge.initial)),
                "members": len(MEMBERS),
                "orders": list(reference["orders"]),
            },
            "free_running": vars(judge.free_running).copy(),
            "runs": runs,
        }

    def _unconfirmed(self, judge: ModelJudge, outcomes: Mapping[str, Outcome]) -> Iterator[str]:
        """What to say if no second framework trains in float64 as the reference does."""
        if self.second is None:
            return
        by, other = judge.reference.facts["backend"], self.second.backend
        try:
            if (outcome := outcomes[CONFIRMATION]).status != "done":
                raise RecordError("", "a finished training", f"{outcome.status}: {outcome.reason}")
            record = self.second.read(self._place(CONFIRMATION), self.plan.sha256, "float64")
            free = judge.judge(record).free_envelopes
        except RecordError as error:
            yield f"Nothing confirms the reference, {by}'s: {other} left no float64 run ({error})."
            return
        steps = [found for found in judge.ladder.findings(record) if found.stage != "metric"]
        first = first_divergence(steps, CONFIRMED)
        if first is None and free <= CONFIRMED:
            return
        place = where(asdict(first)) if first else "in their own training"
        yield (
            f"In float64, too, {other} does not train as {by} does ({place}): one of the two is "
            f"another model, and nothing here says which. Grades are against {by}'s; a NumPy model "
            "in the file would tell."
        )

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
            tuple(values.tobytes() for values in record.parameters().values())
            for record in judge.ladder.members
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
        judged: tuple[Record, Judgement] | str | None = None
        if outcomes.get(contender.name, unavailable(contender)).status == "done":
            judged = str(self._ended_early())
            if self._place(contender.name).exists():
                judged = judge_record(judge, self.execution, contender)
        if isinstance(judged, tuple):
            self.unlike += judge.ladder.unlike(judged[0])
        facts = run_facts(judge, contender, outcomes, judged)
        return facts | (judge.ladder.layer_facts(judged[0]) if isinstance(judged, tuple) else {})
