"""Compares a user's own model between frameworks: its processes, and the facts of its report."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common.data import DataModule
from common.environment import BOOTSTRAP, Environment
from common.errors import NotRunError, ParityError
from common.execution import MEMBERS, REFERENCE, Contender, Execution
from common.grades import verdict
from common.judging import gave_way, plan_facts
from common.launcher import Job, Outcome, not_done, run_jobs
from common.machine import machine_facts
from common.model_judging import ModelJudge
from common.model_worker import INITIAL_FILE
from common.own_model import OwnModel
from common.record import Record, RecordError
from common.report.report import SCHEMA
from common.run_facts import RUN_FACTS
from common.thresholds import Thresholds


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

    def run(self, thresholds: Thresholds) -> dict[str, Any]:
        """Train everything and judge it; the facts of a report.

        Raises:
            NotRunError: if the reference or one of its ensemble failed.
        """
        self._draw()
        outcomes = self._run([self._job(REFERENCE, self.reference, "float64")])
        self._check(outcomes)
        workers = [
            self._job(contender.name, contender.environment, self.plan.recipe.dtype)
            for contender in self.contenders
            if contender.environment.python is not None
        ]
        outcomes |= self._run([*workers, *self._member_jobs()])
        self._check({name: outcomes[name] for name in MEMBERS})
        judge = ModelJudge(
            self.plan,
            self.data.num_outputs,
            self._record(REFERENCE),
            [self._record(name) for name in MEMBERS],
            thresholds,
        )
        return self._facts(judge, outcomes)

    def _draw(self) -> None:
        """Write the initial parameters beside the plan."""
        drawn = self.model.draw(
            self.data.num_inputs, self.data.num_outputs, self.plan.recipe.seed, "float64"
        )
        content = io.BytesIO()
        # Rounded to the plan's dtype here, so that the reference begins with the same numbers.
        np.savez(content, **{n: v.astype(self.plan.recipe.dtype) for n, v in drawn.items()})  # type: ignore[arg-type]
        (self.folder / "plan" / INITIAL_FILE).write_bytes(content.getbuffer())

    def _place(self, name: str) -> Path:
        kind = "reference" if name in (REFERENCE, *MEMBERS) else "runs"
        return (self.folder / kind / name).absolute()

    def _job(self, name: str, environment: Environment, dtype: str) -> Job:
        command: tuple[str, ...] = (
            *(str(environment.python), BOOTSTRAP, "common.model_worker"),
            *("--model", str(self.model.path.absolute())),
            *("--plan", str((self.folder / "plan").absolute())),
            *("--backend", environment.backend, "--dtype", dtype),
        )
        if name != REFERENCE:
            command = (*command, "--reference", str(self._place(REFERENCE)))
        log = self._place(name).with_name(f"{name}.log")
        return Job(
            name, command, log, arguments=("--out", str(self._place(name)), "--log", str(log))
        )

    def _member_jobs(self) -> list[Job]:
        """The ensemble in as many processes as run at once: each imports the framework once."""
        jobs = []
        for index, name in enumerate(MEMBERS):
            job = self._job(name, self.reference, self.plan.recipe.dtype)
            arguments = (*job.arguments, "--member", str(index))
            jobs.append(replace(job, arguments=arguments, essential=True))
        chains = [jobs[start :: self.execution.slots] for start in range(self.execution.slots)]
        return [replace(first, then=tuple(others)) for first, *others in filter(None, chains)]

    def _run(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        execution = self.execution
        return run_jobs(
            jobs,
            slots=execution.slots,
            threads=execution.threads,
            timeout=execution.timeout,
            tell=execution.tell,
        )

    def _record(self, name: str) -> Record:
        return Record.load(self._place(name), self.plan.sha256)

    def _check(self, outcomes: Mapping[str, Outcome]) -> None:
        for name in not_done(outcomes, outcomes):
            raise NotRunError(
                f"{name} ({self.reference.label}): expected a finished training of "
                f"{self.model.path}; received {outcomes[name].status}: {outcomes[name].reason}; "
                "mend the model"
            )
        for name in outcomes:
            try:
                self._record(name)
            except RecordError as error:
                raise ParityError(
                    f"{name} ({self.reference.label}): expected a training in finite numbers; "
                    f"received {error}; lower --lr"
                ) from None

    def _facts(self, judge: ModelJudge, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
        runs = [self._run_facts(judge, contender, outcomes) for contender in self.contenders]
        reference = judge.reference.facts
        return {
            "schema": SCHEMA,
            "verdict": verdict([run["status"] for run in runs], [run["grade"] for run in runs]),
            "notices": list(gave_way(self.contenders)),
            **plan_facts(self.plan, self.data),
            "model": {
                "file": self.model.path.name,
                "parameters": {n: list(shape) for n, shape in self.model.shapes.items()},
            },
            "machine": machine_facts(),
            "thresholds": vars(judge.thresholds).copy(),
            "reference": {**judge.reference_facts(), "by": reference["backend"]},
            "envelope": {
                "loss": float(judge.envelope["step_loss"][-1]),
                "parameters": float(max(judge.envelope[n][-1] for n in judge.parameters)),
                "members": len(MEMBERS),
            },
            "free_running": judge.free_running(),
            "runs": runs,
        }

    def _run_facts(
        self, judge: ModelJudge, contender: Contender, outcomes: Mapping[str, Outcome]
    ) -> dict[str, Any]:
        environment = contender.environment
        missing = Outcome("unavailable", environment.reason, 0.0)
        outcome = outcomes.get(contender.name, missing)
        facts: dict[str, Any] = {
            "backend": contender.backend,
            "implementation": contender.implementation,
            "version": environment.version or environment.asked,
            "asked_version": environment.asked,
            **dict.fromkeys(RUN_FACTS),
            "status": outcome.status,
            "reason": outcome.reason,
        }
        if outcome.status != "done":
            return facts
        try:
            record = contender.read(self._place(contender.name), self.plan.sha256)
            judged = judge.judge(record)
        except RecordError as error:
            return facts | {"status": "failed", "reason": f"bad record: {error}"}
        return (
            facts
            | {
                "versions": record.facts["versions"],
                "fed_sha256": record.facts["fed_sha256"],
                **record.facts["history"],
                "seconds": {**record.facts["seconds"], "total": outcome.seconds},
                "peak_rss_bytes": record.facts["peak_rss_bytes"],
            }
            | judged
        )
