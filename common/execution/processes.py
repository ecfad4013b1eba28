"""The processes of a comparison: the reference, its ensemble, and a worker for every run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from framework_parity.common.core.device import DEVICES
from framework_parity.common.core.errors import RelayedError
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.external import ExternalEnvironment
from framework_parity.common.environments.specifier import same_release
from framework_parity.common.execution.launcher import Job, Outcome, Tell, run_jobs
from framework_parity.common.execution.worker_pool import WorkerPool
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.training.model_file import OwnModel
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import COMPUTED, OtherRowError, Record, RecordError
from framework_parity.common.worker.own_model import MATCHED, REFUSED
from framework_parity.common.worker.request import Request

REFERENCE = "reference"
CONFIRMATION = "confirmation"
"""The float64 run of a second framework."""
EVALUATION = "evaluation"
"""What the parameters of the runs give in float64."""
ENVELOPE = "envelope"
"""Names in the folder ``reference``: the reference's record, and the file of what judged."""
MEMBERS = tuple(f"rounding-{index}" for index in range(ENSEMBLE_MEMBERS))


@dataclass(frozen=True)
class Contender:
    """What is compared: one implementation in one environment.

    Args:
        environment: the backend's interpreter, or why there is none.
        implementation: ``scratch`` or ``concise``; of a model of a user's own, its file's name
            without the ending.
    """

    environment: Environment
    implementation: str

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self.environment.backend

    @property
    def name(self) -> str:
        """How the run is called in files and in progress."""
        return f"{self.environment.label}-{self.implementation}"

    def read(
        self, folder: Path, plan_sha256: str | None = None, dtype: str | None = None
    ) -> Record:
        """A record of its. Whatever is said of a row is said of a record that was read here.

        As of :meth:`record.Record.load`; it must have computed in that ``dtype`` if one is given.

        Raises:
            RecordError: if it cannot be judged, or computed in another type.
            OtherRowError: if it is of another backend, implementation or release. One that names
                no release is nobody's: what nothing contradicts, nothing confirms.
        """
        record = Record.load(folder, plan_sha256)
        for name, ours in (("backend", self.backend), ("implementation", self.implementation)):
            if (received := record.facts[name]) != ours:
                raise OtherRowError("", f"the {name} {ours}", received)
        trained, mend = record.facts["versions"].get(self.backend), ""
        said = f"one with {trained}"
        if not (isinstance(trained, str) and trained):
            stated = ", ".join(record.facts["versions"]) or "nothing"
            said, trained = f"the versions of {stated}, and no text for {self.backend}", ""
            mend = f"let the backend's versions() give that of {self.backend}"
        for named in (self.environment.version, self.environment.asked):
            if named is not None and not same_release(trained, named):
                raise OtherRowError("", f"a training with {self.backend} {named}", said, mend)
        for name, array in record.arrays.items():
            if dtype is not None and COMPUTED.fullmatch(name) and array.dtype != dtype:
                raise RecordError(name, dtype, array.dtype)
        return record


@dataclass(frozen=True)
class Subject:
    """What is trained: softmax regression, whose reference is NumPy's, or the model in a file.

    Args:
        model: read from that file; None: softmax regression.
        by: who trains the reference and its ensemble.
        second: whose float64 run is to confirm the reference; None if there is nothing to confirm.
        is_named: whether the user named the reference: then it is one, whoever confirms it.
    """

    model: OwnModel | None = None
    by: Environment = Environment(REFERENCE, Path(sys.executable))  # noqa: RUF009  # frozen, too
    second: Contender | None = None
    is_named: bool = False

    def reference(self, plan: Plan, name: str) -> tuple[str, dict[str, object]]:
        """The kind and the fields of the request for the reference, or for what goes with it."""
        member = {"member": MEMBERS.index(name)} if name in MEMBERS else {}
        if self.model is None:
            return "reference", {**member}
        who = self.second.backend if name == CONFIRMATION and self.second else self.by.backend
        dtype = plan.recipe.dtype if member else "float64"
        return "own_model", {"backend": who, "model": self.model.path, "dtype": dtype, **member}

    def training(
        self, plan: Plan, contender: Contender, kind: str
    ) -> tuple[str, dict[str, object]]:
        """Likewise of a request to a contender; ``kind`` is that of softmax regression."""
        if self.model is None:
            implementation = contender.implementation
            return kind, {"backend": contender.backend, "implementation": implementation}
        dtype = plan.recipe.dtype
        who = {"backend": contender.backend, "model": self.model.path, "dtype": dtype}
        return "own_model", who


@dataclass(frozen=True)
class Execution:
    """Runs the processes of one plan in one folder.

    Args:
        plan: what is trained; saved as ``folder/plan``.
        folder: takes ``runs/``, ``reference/`` and ``second_look/``.
        slots: how many processes run at once.
        threads: threads of each.
        timeout: seconds after which one is ended.
        tell: told of progress.
        alone: a process for every run, so that what it took is its own; else one process trains
            all implementations of a backend, one after the other.
        device: the kind of device that they compute on; the reference is NumPy's everywhere.
        pool: its workers do what they can; None for processes of its own alone.
        subject: what is trained.
    """

    plan: Plan
    folder: Path
    slots: int
    threads: int
    timeout: float
    tell: Tell = lambda *_: None
    alone: bool = False
    device: str = DEVICES[0]
    pool: WorkerPool | None = None
    subject: Subject = Subject()

    def train(self, contenders: Sequence[Contender], repeats: int = 1) -> dict[str, Outcome]:
        """Run everything, each contender so often; the outcome of each process by its name."""
        oracle, *members = [self._reference_job(name) for name in (REFERENCE, *MEMBERS)]
        groups = [[oracle], *self._training_jobs(contenders, repeats)]
        if self.subject.second:
            groups.append([self._reference_job(CONFIRMATION)])
        # The reference first: workers wait for its states. Members last, the longest first: they
        # are short, and even out when the processors are done. Those of a file's model share the
        # processes: each imports the framework.
        shared = len(members) if self.subject.model is None else min(self.slots, len(members))
        return self.run([*groups, *(members[start::shared] for start in reversed(range(shared)))])

    def train_again(self, contenders: Sequence[Contender], repeats: int = 1) -> dict[str, Outcome]:
        """Run workers alone, where the reference is there; what they left before is replaced."""
        for repeat, contender in product(range(repeats), contenders):
            place = self.folder / "second_look" / repeat_name(contender, repeat)
            shutil.rmtree(place, ignore_errors=True)
        return self.run(self._training_jobs(contenders, repeats))

    def train_reference(self) -> dict[str, Outcome]:
        """Run the reference alone."""
        return self.run([[self._reference_job(REFERENCE)]])

    def train_independently(
        self, contenders: Sequence[Contender], seeds: Sequence[int]
    ) -> dict[str, Outcome]:
        """Train each contender on each seed, initialised and shuffled by its framework."""
        groups: list[list[Job]] = []
        for seed in seeds:
            name = partial(seed_name, seed=seed)
            groups += self._jobs(contenders, name, "independent", seed=seed)
        return self.run(groups)

    def look_again(self, contenders: Sequence[Contender]) -> dict[str, Outcome]:
        """Probe other steps: ``second_look/NAME`` holds their plan, and takes what comes of it.

        Softmax regression is not trained again for that, and its states are there. A file's model
        is: in a new process it goes from its beginning to these steps, as the reference does.
        """
        groups = []
        for contender in contenders:
            place = self.folder / "second_look" / contender.name
            fields = {"plan": place / "plan", "reference": place / REFERENCE}
            kind, more = self.subject.training(self.plan, contender, "probe")
            request = Request(kind, place / "record", place / "log", fields | more)
            groups.append([Job(contender.name, contender.environment, request)])
            if self.subject.model is not None:
                kind, more = self.subject.reference(self.plan, REFERENCE)
                more |= {"plan": fields["plan"]}
                request = Request(kind, place / REFERENCE, place / "reference.log", more)
                groups.insert(0, [Job(f"{REFERENCE} {contender.name}", self.subject.by, request)])
        return self.run(groups)

    def evaluate(self, names: Sequence[str]) -> Outcome:
        """Compute in float64, by the reference's framework, what the parameters of runs give."""
        _, fields = self.subject.reference(self.plan, REFERENCE)
        del fields["dtype"]
        folders = [
            self.reference_folder(name) if name in MEMBERS else self.record_folder(name)
            for name in names
        ]
        fields |= {"plan": self.folder / "plan", "reference": self.reference_folder(REFERENCE)}
        fields |= {"records": [str(folder.absolute()) for folder in folders]}
        place = self.reference_folder(EVALUATION)
        request = Request("evaluate_model", place, place.with_name(f"{EVALUATION}.log"), fields)
        return self.run([[Job(EVALUATION, self.subject.by, request)]])[EVALUATION]

    def reference_folder(self, name: str) -> Path:
        """Where the reference, or a member of the ensemble, leaves its record."""
        return self.folder / "reference" / name

    def record_folder(self, name: str) -> Path:
        """Where the run of that name leaves its record."""
        return self.folder / "runs" / name

    def run(self, groups: Sequence[Sequence[Job]]) -> dict[str, Outcome]:
        """As :func:`run_jobs`, as many and for as long as this execution says.

        Raises:
            RelayedError: if the model of a file does what cannot be held equal.
        """
        refused: list[str] = []

        def tell(name: str, facts: dict[str, Any]) -> None:
            if facts["event"] == REFUSED:
                refused.append(str(facts.get("reason")))
            if not (facts["event"] == MATCHED and name == CONFIRMATION):  # as in its own row
                self.tell(name, facts)

        outcomes = run_jobs(
            groups,
            slots=self.slots,
            threads=self.threads,
            timeout=self.timeout,
            tell=tell,
            device=self.device,
            pool=self.pool,
        )
        if refused and self.subject.model is not None:
            raise RelayedError(f"{self.subject.model.path}: {refused[0]}")
        return outcomes

    def _reference_job(self, name: str) -> Job:
        kind, fields = self.subject.reference(self.plan, name)
        if self.subject.model is not None and name != REFERENCE:
            fields["reference"] = self.reference_folder(REFERENCE)
        record, environment = self.reference_folder(name), self.subject.by
        if name == CONFIRMATION and self.subject.second:
            environment = self.subject.second.environment
        given = {"plan": self.folder / "plan", **fields}
        request = Request(kind, record, record.with_name(f"{name}.log"), given)
        return Job(name, environment, request, essential=name != CONFIRMATION)

    def _training_jobs(self, contenders: Sequence[Contender], repeats: int) -> list[list[Job]]:
        reference, groups = self.reference_folder(REFERENCE), list[list[Job]]()
        for repeat in range(repeats):
            name = partial(repeat_name, repeat=repeat)
            groups += self._jobs(contenders, name, "train", reference=reference)
        return groups

    def _jobs(
        self,
        contenders: Sequence[Contender],
        name: Callable[[Contender], str],
        kind: str,
        **fields: object,
    ) -> list[list[Job]]:
        """The jobs of every process; those without an interpreter are passed over."""
        groups: dict[str, list[Job]] = {}
        for contender in contenders:
            environment, called = contender.environment, name(contender)
            if environment.python is not None:
                record, log = (self.record_folder(f"{called}{end}") for end in ("", ".log"))
                asked, who = self.subject.training(self.plan, contender, kind)
                given = {"plan": self.folder / "plan", **who, **fields}
                request = Request(asked, record, log, given)
                alone = self.alone or isinstance(environment, ExternalEnvironment)
                group = groups.setdefault(called if alone else environment.label, [])
                group.append(Job(called, environment, request))
        return list(groups.values())


def seed_name(contender: Contender, seed: int) -> str:
    """The name of a contender's run that draws everything from a seed of its own."""
    return f"{contender.name}-seed-{seed}"


def repeat_name(contender: Contender, repeat: int) -> str:
    """The name of a contender's run; repeated ones are numbered from the second on."""
    return contender.name if repeat == 0 else f"{contender.name}-{repeat + 1}"
