"""The processes of a comparison: the reference, its ensemble, and a worker for every run."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from framework_parity.common.core.device import DEVICES
from framework_parity.common.environments.backend import BOOTSTRAP, Environment
from framework_parity.common.environments.external import ExternalEnvironment, worker_command
from framework_parity.common.environments.specifier import same_release
from framework_parity.common.execution.launcher import Job, Outcome, Tell, run_jobs
from framework_parity.common.execution.worker_pool import StayingWorkers
from framework_parity.common.reference.ensemble import ENSEMBLE_MEMBERS
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import COMPUTED, OtherRowError, Record, RecordError

REFERENCE = "reference"
ENVELOPE = "envelope"
"""The files of these names, in the folder ``reference``, are the trajectory and what judged."""
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

        Args:
            folder: as of :meth:`record.Record.load`.
            plan_sha256: likewise.
            dtype: the type that it must have computed in; None where that is not known.

        Raises:
            RecordError: if it cannot be judged, or computed in another type.
            OtherRowError: if it is of another backend, implementation or release. One that names
                no release is nobody's: what nothing contradicts, nothing confirms.
        """
        record = Record.load(folder, plan_sha256)
        for name, ours in (("backend", self.backend), ("implementation", self.implementation)):
            if (received := record.facts[name]) != ours:
                raise OtherRowError(f"expected the {name} {ours}; received {received}")
        trained = record.facts["versions"].get(self.backend)
        said = trained if isinstance(trained, str) and trained else "none that it names"
        for named in (self.environment.version, self.environment.asked):
            if named is not None and not same_release(said, named):
                raise OtherRowError(
                    f"expected a training with {self.backend} {named}; received one with {said}"
                )
        for name, array in record.arrays.items():
            if dtype is not None and COMPUTED.fullmatch(name) and array.dtype != dtype:
                raise RecordError(f"{name}: expected {dtype}, received {array.dtype}")
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
        staying: workers that stay do what they can; None for processes of its own alone.
    """

    plan: Plan
    folder: Path
    slots: int
    threads: int
    timeout: float
    tell: Tell = lambda *_: None
    alone: bool = False
    device: str = DEVICES[0]
    staying: StayingWorkers | None = None

    def train(self, contenders: Sequence[Contender], repeats: int = 1) -> dict[str, Outcome]:
        """Run everything; the outcome of each process by its name.

        Args:
            contenders: those without an interpreter are passed over.
            repeats: how often each trains; see :meth:`repeat_name`.
        """
        oracle, *members = [self._reference_job(name) for name in (REFERENCE, *MEMBERS)]
        workers = [
            job
            for repeat in range(repeats)
            for job in self._worker_jobs(contenders, partial(repeat_name, repeat=repeat))
        ]
        # The reference first: workers wait for its states at the end of their training. Members
        # last, the longest first: they are short, and even out when the processors are done.
        return self._run([oracle, *workers, *reversed(members)])

    def train_again(self, contenders: Sequence[Contender], repeats: int = 1) -> dict[str, Outcome]:
        """Run workers alone, where the reference is there; what they left before is replaced."""
        jobs = []
        for repeat in range(repeats):
            for contender in contenders:
                name = repeat_name(contender, repeat)
                shutil.rmtree(self.record_folder(name), ignore_errors=True)
                shutil.rmtree(self.folder / "second_look" / name, ignore_errors=True)
            jobs += self._worker_jobs(contenders, partial(repeat_name, repeat=repeat))
        return self._run(jobs)

    def train_reference(self) -> dict[str, Outcome]:
        """Run the reference alone."""
        return self._run([self._reference_job(REFERENCE)])

    def train_independently(
        self, contenders: Sequence[Contender], seeds: Sequence[int]
    ) -> dict[str, Outcome]:
        """Train each contender on each seed, initialised and shuffled by its framework."""
        return self._run(
            [
                job
                for seed in seeds
                for job in self._worker_jobs(
                    contenders, partial(seed_name, seed=seed), task="independent", seed=seed
                )
            ]
        )

    def look_again(self, contenders: Sequence[Contender]) -> dict[str, Outcome]:
        """Probe other steps, without training: ``second_look/NAME`` holds plan and states."""
        jobs = []
        for contender in contenders:
            place = self.folder / "second_look" / contender.name
            command, arguments = worker_command(
                contender.environment,
                contender.implementation,
                plan=place / "plan",
                reference=place / "reference.npz",
                record=place / "record",
                log=place / "log",
                task="probe",
            )
            stays_as = staying_name(contender.environment)
            jobs.append(
                Job(
                    contender.name,
                    command,
                    place / "log",
                    arguments=arguments,
                    stays_as=stays_as,
                )
            )
        return self._run(jobs)

    def reference_file(self, name: str) -> Path:
        """Where the reference, or a member of the ensemble, leaves its trajectory."""
        return self.folder / "reference" / f"{name}.npz"

    def record_folder(self, name: str) -> Path:
        """Where the run of that name leaves its record."""
        return self.folder / "runs" / name

    def _reference_job(self, name: str) -> Job:
        options = () if name == REFERENCE else ("--member", str(MEMBERS.index(name)))
        command = (
            *(
                sys.executable,
                BOOTSTRAP,
                "framework_parity.common.reference.ensemble",
                "--plan",
                self._plan_folder(),
                *options,
            ),
            *("--out", str(self.reference_file(name).absolute())),
        )
        log = self.folder / "reference" / f"{name}.log"
        return Job(name, command, log, essential=True)

    def _worker_jobs(
        self,
        contenders: Sequence[Contender],
        name: Callable[[Contender], str],
        task: str = "train",
        seed: int = 0,
    ) -> list[Job]:
        """A job for every process; those without an interpreter are passed over."""
        groups: dict[str, list[Job]] = {}
        for contender in contenders:
            environment = contender.environment
            if environment.python is not None:
                job = self._worker_job(contender, name(contender), task, seed)
                alone = self.alone or isinstance(environment, ExternalEnvironment)
                groups.setdefault(job.name if alone else environment.label, []).append(job)
        return [replace(first, then=tuple(others)) for first, *others in groups.values()]

    def _worker_job(
        self, contender: Contender, name: str, task: str = "train", seed: int = 0
    ) -> Job:
        log = self.folder / "runs" / f"{name}.log"
        command, arguments = worker_command(
            contender.environment,
            contender.implementation,
            plan=self.folder / "plan",
            reference=self.reference_file(REFERENCE),
            record=self.record_folder(name),
            log=log,
            task=task,
            seed=seed,
        )
        stays_as = staying_name(contender.environment)
        return Job(name, command, log, arguments=arguments, stays_as=stays_as)

    def _plan_folder(self) -> str:
        return str((self.folder / "plan").absolute())

    def _run(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        return run_jobs(
            jobs,
            slots=self.slots,
            threads=self.threads,
            timeout=self.timeout,
            tell=self.tell,
            device=self.device,
            staying=self.staying,
        )


def staying_name(environment: Environment) -> str | None:
    """The name of the worker that can do an environment's jobs if it stays; a program that is not
    Python does one and ends."""
    if isinstance(environment, ExternalEnvironment):
        return None
    python = hashlib.sha256(os.fsencode(str(environment.python))).hexdigest()
    return f"{environment.label}-{python[:8]}"


def seed_name(contender: Contender, seed: int) -> str:
    """The name of a contender's run that draws everything from a seed of its own."""
    return f"{contender.name}-seed-{seed}"


def repeat_name(contender: Contender, repeat: int) -> str:
    """The name of a contender's run; repeated ones are numbered from the second on."""
    return contender.name if repeat == 0 else f"{contender.name}-{repeat + 1}"
