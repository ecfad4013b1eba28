"""Has requests carried out by processes, streams their progress, holds their time limits.

Whatever happens to a process becomes an :class:`Outcome`; only the user's interrupt is raised.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from framework_parity.common.core.cache import cache_directory
from framework_parity.common.core.device import DEVICE_VARIABLE, DEVICES
from framework_parity.common.core.errors import told
from framework_parity.common.core.outside import misfit, parse_json
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.environments.backend import Environment
from framework_parity.common.environments.external import ExternalEnvironment
from framework_parity.common.environments.program import THREAD_VARIABLES
from framework_parity.common.execution.process import (
    TICK_SECONDS,
    OwnProcess,
    Process,
    command,
    cut_log,
    log_tail,
)
from framework_parity.common.execution.worker_pool import WorkerPool
from framework_parity.common.worker.request import Request

ENDED = "ended because another process failed"
"""The reason of a process that is not at fault itself."""


@dataclass(frozen=True)
class Job:
    """A request, and who carries it out.

    Args:
        name: how its progress is labelled.
        environment: the interpreter of the worker, or the program.
        request: what is to do.
        essential: if it leaves no record, nothing that the others do is of use: they are ended.
            No worker of a pool does it.
    """

    name: str
    environment: Environment
    request: Request
    essential: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: ``done``, ``failed`` or ``timeout``.
        reason: why it is not done, with the end of its log; None if it is.
        seconds: from its start to its end; the first one of a process has that of its start.
    """

    status: str
    reason: str | None
    seconds: float


def not_done(outcomes: Mapping[str, Outcome], names: Iterable[str]) -> list[str]:
    """Those of the names whose process did not do its job; those that are not at fault last."""
    failed = [name for name in names if outcomes[name].status != "done"]
    return sorted(failed, key=lambda name: outcomes[name].reason == ENDED)


Tell = Callable[[str, dict[str, Any]], None]
"""Told a job's name and a line of its progress, as :meth:`worker.Worker.say` writes it."""


def run_jobs(
    groups: Sequence[Sequence[Job]],
    *,
    slots: int,
    threads: int,
    timeout: float,
    tell: Tell = lambda *_: None,
    device: str = "cpu",
    pool: WorkerPool | None = None,
) -> dict[str, Outcome]:
    """Run processes side by side; give the outcome of each job by its name.

    Args:
        groups: jobs of one environment that one process does, one after the other; started in
            this order. If it ends early, the rest of its group is done by another one.
        slots: how many processes run at once.
        threads: threads of each; where the processors suffice and do the computing, each slot
            keeps to its own, so that no worker's time depends on its neighbour's.
        timeout: seconds that a job may take before its process is killed.
        tell: told of progress, from several threads.
        device: the kind of device that workers are told to compute on.
        pool: its workers do what they can; their time is shared, so that they keep to no
            processor.

    Raises:
        KeyboardInterrupt: after every process is ended.
    """
    slots = min(slots, max(1, len(groups)))
    # What feeds a GPU needs threads beside the one that computes.
    cpus = available_cpus() if device == DEVICES[0] else []
    places: queue.SimpleQueue[Sequence[int] | None] = queue.SimpleQueue()
    for slot in range(slots):
        own = cpus[slot * threads : (slot + 1) * threads]
        places.put(own if slots * threads <= len(cpus) else None)
    variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | {DEVICE_VARIABLE: device}
    launcher = _Launcher(variables, timeout, tell, pool)

    def run(jobs: Sequence[Job]) -> dict[str, Outcome]:
        place = places.get()
        try:
            return launcher.run(jobs, place)
        finally:
            places.put(place)

    with ThreadPoolExecutor(max_workers=slots) as executor:
        futures = [executor.submit(run, jobs) for jobs in groups]
        try:
            return {name: o for future in futures for name, o in future.result().items()}
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            launcher.end_all()
            raise


class _Launcher:
    """Follows processes, and knows those under way, so that all can be ended at once."""

    def __init__(
        self, variables: Mapping[str, str], timeout: float, tell: Tell, pool: WorkerPool | None
    ) -> None:
        self._variables, self._timeout, self._tell, self._pool = variables, timeout, tell, pool
        self._lock = threading.Lock()
        self._processes: set[Process] = set()
        self._ended = False

    def end_all(self) -> None:
        with self._lock:
            self._ended = True
            for process in self._processes:
                process.end()

    def run(self, jobs: Sequence[Job], cpus: Sequence[int] | None) -> dict[str, Outcome]:
        """Run jobs one by one, in as few processes as their ends allow."""
        outcomes: dict[str, Outcome] = {}
        process: Process | None = None
        try:
            for job in jobs:
                started = time.perf_counter()
                try:
                    process = self._ask(job, process, cpus)
                except OSError as error:
                    reason = ENDED
                    if not isinstance(error, InterruptedError):
                        self._tell(job.name, {"event": "failed"})
                        reason = f"cannot start {job.environment.python}: {told(error)}"
                    outcomes[job.name] = Outcome("failed", reason, 0.0)
                    continue
                status, why = self._follow(job, process)
                outcomes[job.name] = Outcome(status, why, time.perf_counter() - started)
                if not process.waits:
                    self._close(process)
                    process = None
                if job.essential and not (status == "done" and job.request.record.exists()):
                    self.end_all()
            return outcomes
        finally:
            self._close(process)

    def _ask(self, job: Job, process: Process | None, cpus: Sequence[int] | None) -> Process:
        """Hand a job to the process, if it is there, else to another one."""
        if self._ended:
            raise InterruptedError
        request = job.request
        request.log.parent.mkdir(parents=True, exist_ok=True)
        request.log.unlink(missing_ok=True)  # it may be a pipe by now
        request.log.write_bytes(b"")  # whoever writes to it appends
        shutil.rmtree(request.record, ignore_errors=True)
        request.write()
        if process is not None:
            with contextlib.suppress(OSError):
                process.ask(request.file)
                return process
            self._close(process)  # it ended after its last request
        worker = None
        program = isinstance(job.environment, ExternalEnvironment)
        if self._pool is not None and not job.essential and not program:
            worker = self._pool.take(job.environment, self._variables, lambda: self._ended)
        with self._lock:
            if self._ended:
                if worker is not None:
                    worker.close()
                raise InterruptedError
            words = command(job.environment, request)
            process = worker or OwnProcess(words, request.log, self._variables, cpus)
            self._processes.add(process)
        if worker is not None:
            with contextlib.suppress(OSError):  # it ended: it will not have a line to say, either
                worker.ask(request.file)
        return process

    def _follow(self, job: Job, process: Process) -> tuple[str, str | None]:
        """Tell of a job's progress until it ends; its status, and the reason of a bad one."""
        rang = threading.Event()

        def ring() -> None:
            rang.set()
            process.end()

        alarm = threading.Timer(self._timeout, ring)
        alarm.start()
        try:
            looked = 0.0
            for line in process.progress(job.request.file):
                if (facts := parse(line)) is not None:
                    self._tell(job.name, facts)
                if time.monotonic() - looked > TICK_SECONDS:
                    cut_log(job.request.log)
                    looked = time.monotonic()
            failure = process.failure()
        finally:
            alarm.cancel()
            alarm.join()  # it may ring just now
        status, reason = "done", None
        if rang.is_set():
            process.waits = False
            status, reason = "timeout", f"still running after {self._timeout:g} s"
        elif failure is not None:
            reason, killed = failure
            status, reason = "failed", ENDED if killed and self._ended else reason
        self._tell(job.name, {"event": status})
        if reason not in (None, ENDED) and (tail := log_tail(job.request.log)):
            reason = f"{reason}; its log ends: {tail}{mend(job.environment, tail)}"
        return status, reason

    def _close(self, process: Process | None) -> None:
        with self._lock:
            if process is None or process not in self._processes:
                return
            self._processes.remove(process)
        process.close()


NOT_IMPORTED = ("ImportError", "ModuleNotFoundError", "cannot open shared object file")


def mend(environment: Environment, tail: str) -> str:
    """What to do about a log that ends so: an environment in the cache may have lost some files."""
    folder = cache_directory() / "environments"
    if environment.python is None or folder not in environment.python.parents:
        return ""
    own = folder / environment.python.relative_to(folder).parts[0]
    said = f"; if {own} is damaged, delete it: it is built again"
    return said * any(words in tail for words in NOT_IMPORTED)


PROGRESS: dict[str, Any] = {
    "event": str,
    "epoch": int,
    "max_epochs": int,
    "loss": float,
    "reason": str,
    "columns": [str],
    "table": [[str]],
}
"""What a line of progress may say, the first in any case; anything else in it is dropped."""

MOST_EPOCHS = 2**31


def parse(line: str) -> dict[str, Any] | None:
    """A line of progress; None if it is something else."""
    try:
        said = parse_json(line, finite=False)
    except ValueError:
        return None
    if misfit(said, {"event": str}):
        return None
    facts = {name: said[name] for name in PROGRESS if name in said}
    if misfit(facts, {name: PROGRESS[name] for name in facts}):
        return None
    heads, rows = facts.get("columns"), facts.get("table")
    if (heads is None) != (rows is None) or any(len(row) != len(heads or ()) for row in rows or ()):
        return None
    epoch, of = facts.get("epoch"), facts.get("max_epochs")
    if epoch is None and of is None:
        return facts
    if epoch is None or of is None:
        return None
    return facts if 0 <= epoch <= of <= MOST_EPOCHS else None
