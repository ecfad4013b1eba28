"""Starts worker processes, streams their progress, holds their time limits.

Whatever happens to a process becomes an :class:`Outcome`; only the user's interrupt is raised.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework_parity.common.core.child_process import NEXT
from framework_parity.common.core.device import DEVICE_VARIABLE, DEVICES
from framework_parity.common.core.threads import available_cpus
from framework_parity.common.environments.external import WORKER
from framework_parity.common.environments.program import THREAD_VARIABLES
from framework_parity.common.execution.job_process import OwnProcess, Process, log_tail
from framework_parity.common.execution.worker_pool import StayingProcess, StayingWorkers

ENDED = "ended because another process failed"
"""The reason of a process that is not at fault itself."""


@dataclass(frozen=True)
class Job:
    """A process to run.

    Args:
        name: how its progress is labelled.
        command: the program and its arguments; run from the project's root, without a shell.
        log: the file that takes its standard error.
        essential: if it is not done, nothing that the others do is of use: they are ended.
        arguments: of this job alone; they follow the command.
        then: jobs of the same command that the same process does afterwards, one by one. Their
            arguments follow; the process says :data:`child_process.NEXT` in between, and opens
            their logs. If it ends early, those that it had not begun are run in another one.
        stays_as: the name of the worker that can do it, if workers stay (see
            :mod:`execution.worker_pool`); None if it always needs a process of its own.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    essential: bool = False
    arguments: tuple[str, ...] = ()
    then: tuple[Job, ...] = ()
    stays_as: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        status: ``done``, ``failed`` or ``timeout``.
        reason: why it is not done, with the end of its log; None if it is.
        seconds: from its start to its end; that of its process, or of the job before it there.
    """

    status: str
    reason: str | None
    seconds: float


def not_done(outcomes: Mapping[str, Outcome], names: Iterable[str]) -> list[str]:
    """Those of the names whose process did not do its job; those that are not at fault last."""
    failed = [name for name in names if outcomes[name].status != "done"]
    return sorted(failed, key=lambda name: outcomes[name].reason == ENDED)


Tell = Callable[[str, dict[str, Any]], None]
"""Told a job's name and a line of its progress, as :class:`recorder.Recorder` writes it."""


def run_jobs(
    jobs: Sequence[Job],
    *,
    slots: int,
    threads: int,
    timeout: float,
    tell: Tell = lambda *_: None,
    device: str = "cpu",
    staying: StayingWorkers | None = None,
) -> dict[str, Outcome]:
    """Run processes side by side; give the outcome of each job by its name.

    Args:
        jobs: what to run, started in this order.
        slots: how many run at once.
        threads: threads of each; where the processors suffice and do the computing, each slot
            keeps to its own, so that no worker's time depends on its neighbour's.
        timeout: seconds that a job may take before its process is killed.
        tell: told of progress, from several threads.
        device: the kind of device that workers are told to compute on.
        staying: workers that stay do what they can; their time is shared, so that they keep to
            no processor.

    Raises:
        KeyboardInterrupt: after every process is ended.
    """
    slots = min(slots, max(1, len(jobs)))
    # What feeds a GPU needs threads beside the one that computes.
    cpus = available_cpus() if device == DEVICES[0] else []
    places: queue.SimpleQueue[Sequence[int] | None] = queue.SimpleQueue()
    for slot in range(slots):
        own = cpus[slot * threads : (slot + 1) * threads]
        places.put(own if slots * threads <= len(cpus) else None)
    running = _Running(threads, device, staying)

    def run(job: Job) -> dict[str, Outcome]:
        waiting, outcomes = [job, *job.then], dict[str, Outcome]()
        place = places.get()
        try:
            while waiting:
                outcomes |= _run_process(waiting, place, timeout, tell, running)
                if job.essential and any(o.status != "done" for o in outcomes.values()):
                    running.end_all()
                waiting = [j for j in waiting if j.name not in outcomes]
            return outcomes
        finally:
            places.put(place)

    with ThreadPoolExecutor(max_workers=slots) as pool:
        futures = [pool.submit(run, job) for job in jobs]
        try:
            return {name: o for future in futures for name, o in future.result().items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.end_all()
            raise


class _Running:
    """The processes under way, so that all can be ended at once."""

    def __init__(self, threads: int, device: str, staying: StayingWorkers | None) -> None:
        self.variables = dict.fromkeys(THREAD_VARIABLES, str(threads)) | {DEVICE_VARIABLE: device}
        self._staying = staying
        self._lock = threading.Lock()
        self._processes: set[Process] = set()
        self.ended = False

    def start(self, jobs: Sequence[Job], cpus: Sequence[int] | None) -> Process:
        job = jobs[0]
        command = [*job.command, *(word for each in jobs for word in each.arguments)]
        for each in jobs:
            each.log.parent.mkdir(parents=True, exist_ok=True)
            each.log.write_bytes(b"")  # whoever writes to it appends
        if self._staying is not None and job.stays_as is not None:
            return self._ask_staying(self._staying, job.stays_as, command)
        with self._lock:
            if self.ended:
                raise InterruptedError
            process = OwnProcess(command, job.log, self.variables, cpus)
            self._processes.add(process)
        return process

    def _ask_staying(
        self, staying: StayingWorkers, name: str, command: Sequence[str]
    ) -> StayingProcess:
        program, words = command[: len(WORKER) + 1], command[len(WORKER) + 1 :]
        kind = "-".join(self.variables.values())
        process = staying.take(
            f"{name}-{kind}", [*program, "--listen"], self.variables, lambda: self.ended
        )
        with self._lock:
            if self.ended:
                process.close()
                raise InterruptedError
            self._processes.add(process)
        process.ask(words)
        return process

    def forget(self, process: Process) -> None:
        with self._lock:
            self._processes.discard(process)

    def end_all(self) -> None:
        with self._lock:
            self.ended = True
            for process in self._processes:
                process.end()


def _run_process(
    jobs: Sequence[Job],
    cpus: Sequence[int] | None,
    timeout: float,
    tell: Tell,
    running: _Running,
) -> dict[str, Outcome]:
    """Run jobs one by one in one process; the outcomes of those that it began."""
    job = jobs[0]
    try:
        process = running.start(jobs, cpus)
    except InterruptedError:
        return {job.name: Outcome("failed", ENDED, 0.0) for job in jobs}
    except OSError as error:
        tell(job.name, {"event": "failed"})
        return {job.name: Outcome("failed", f"cannot start {job.command[0]}: {error}", 0.0)}
    done: dict[str, Outcome] = {}
    alarm, started = _Alarm(timeout, process), time.perf_counter()
    try:
        for line in process.lines():
            facts = _parse(line)
            if facts is None:
                continue
            if facts["event"] != NEXT:
                tell(job.name, facts)
            elif len(done) + 1 < len(jobs) and alarm.restart():
                tell(job.name, {"event": "done"})
                done[job.name] = Outcome("done", None, time.perf_counter() - started)
                job, started = jobs[len(done)], time.perf_counter()
        failure = process.failure()
    finally:
        alarm.stop()
        running.forget(process)
        process.close()
    seconds = time.perf_counter() - started
    status, reason = "done", None
    if alarm.rang:
        status, reason = "timeout", f"still running after {timeout:g} s"
    elif failure is not None:
        reason, killed = failure
        status, reason = "failed", ENDED if killed and running.ended else reason
    tell(job.name, {"event": status})
    if reason not in (None, ENDED) and (tail := log_tail(job.log)):
        reason = f"{reason}; its log ends: {tail}"
    return done | {job.name: Outcome(status, reason, seconds)}


class _Alarm:
    """Kills a process that takes too long for one job."""

    def __init__(self, timeout: float, process: Process) -> None:
        self.timeout, self.process, self.rang = timeout, process, False
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._start()

    def restart(self) -> bool:
        """Give the next job its own time; False if it is too late for that."""
        self.stop()
        with self._lock:
            if not self.rang:
                self._start()
            return not self.rang

    def stop(self) -> None:
        """From now on it does not ring."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = None

    def _start(self) -> None:
        self._timer = threading.Timer(self.timeout, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        with self._lock:
            if threading.current_thread() is self._timer:  # else it was stopped meanwhile
                self.rang = True
                self.process.end()


def _parse(line: str) -> dict[str, Any] | None:
    """A line of progress; None if it is something else."""
    try:
        facts = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or not isinstance(facts.get("event"), str):
        return None
    kinds = {"epoch": int, "max_epochs": int, "loss": float}
    if any(not isinstance(facts[name], kind) for name, kind in kinds.items() if name in facts):
        return None
    return facts if ("epoch" in facts) == ("max_epochs" in facts) else None
