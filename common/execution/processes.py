"""The processes of a comparison: the reference, its ensemble, and a worker for every run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from framework_parity.common.core.device import DEVICES
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.external import ExternalEnvironment
from framework_parity.common.environments.specifier import same_release
from framework_parity.common.execution.launcher import Job, Outcome, Tell, run_jobs
from framework_parity.common.execution.worker_pool import WorkerPool
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import COMPUTED, OtherRowError, Record, RecordError
from framework_parity.common.worker.request import Request

REFERENCE = "reference"
ENVELOPE = "envelope"
"""Names in the folder ``reference``: the trajectory's record, and the file of what judged."""
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

    def request(self, kind: str, record: Path, log: Path, **fields: object) -> Request:
        """A request to it; arguments as of :class:`worker.request.Request`."""
        who = {"backend": self.backend, "implementation": self.implementation}
        return Request(kind, record, log, who | fields)

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

    def train(self, contenders: Sequence[Contender], repeats: int = 1) -> dict[str, Outcome]:
        """Run everything, each contender so often; the outcome of each process by its name."""
        oracle, *members = [[self._reference_job(name)] for name in (REFERENCE, *MEMBERS)]
        # The reference first: workers wait for its states at the end of their training. Members
        # last, the longest first: they are short, and even out when the processors are done.
        return self.run([oracle, *self._training_jobs(contenders, repeats), *reversed(members)])

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
        """Probe other steps, without training: ``second_look/NAME`` holds plan and states."""
        groups = []
        for contender in contenders:
            place = self.folder / "second_look" / contender.name
            fields = {"plan": place / "plan", "reference": place / "reference"}
            request = contender.request("probe", place / "record", place / "log", **fields)
            groups.append([Job(contender.name, contender.environment, request)])
        return self.run(groups)

    def reference_folder(self, name: str) -> Path:
        """Where the reference, or a member of the ensemble, leaves its record."""
        return self.folder / "reference" / name

    def record_folder(self, name: str) -> Path:
        """Where the run of that name leaves its record."""
        return self.folder / "runs" / name

    def run(self, groups: Sequence[Sequence[Job]], tell: Tell | None = None) -> dict[str, Outcome]:
        """As :func:`run_jobs`, as many and for as long as this execution says."""
        return run_jobs(
            groups,
            slots=self.slots,
            threads=self.threads,
            timeout=self.timeout,
            tell=tell or self.tell,
            device=self.device,
            pool=self.pool,
        )

    def _reference_job(self, name: str) -> Job:
        fields: dict[str, object] = {"plan": self.folder / "plan"}
        if name != REFERENCE:
            fields["member"] = MEMBERS.index(name)
        record = self.reference_folder(name)
        request = Request("reference", record, record.with_name(f"{name}.log"), fields)
        return Job(name, Environment(REFERENCE, Path(sys.executable)), request, essential=True)

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
                request = contender.request(kind, record, log, plan=self.folder / "plan", **fields)
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
