"""What the book's exercises ask of every framework, answered in each one's own environment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framework_parity.common.core.threads import available_cpus
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe
from framework_parity.common.training.record import Record, RecordError
from framework_parity.common.worker.request import Request

TIMEOUT_SECONDS = 600.0
FAILED = "failed"


def limits(backends: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The smallest and the largest argument of exp in every number format, per backend.

    Args:
        backends: names of backends; every backend in Python if none is given.

    Returns:
        By backend and format: ``largest``, ``smallest``, ``smallest_normal`` (see
        :func:`limits_of_exp`) and ``type``, that of the result; or
        ``reason``, why there is none. A backend that did not answer has ``failed`` alone.
    """
    return ask("limits", backends)


def sweep(
    recipes: Sequence[Recipe], backends: Sequence[str] = (), implementation: str = "concise"
) -> dict[str, Any]:
    """Train several recipes in every backend, each on one plan: equal bytes in equal order.

    Args:
        recipes: what is trained, one after the other; each names its data.
        backends: names of backends; every framework if none is given.
        implementation: ``scratch`` or ``concise``.

    Returns:
        By backend ``histories``, one for each recipe, as of :class:`trainer.Trainer`.
    """
    found = discover(external=False)
    names = backends or [name for name, backend in found.items() if backend.is_framework]
    with tempfile.TemporaryDirectory() as temporary:
        folders = []
        for number, recipe in enumerate(recipes):
            folder, data, _ = open_data(recipe.data, recipe.batch_size)
            folders.append(Path(temporary) / f"plan-{number}")
            Plan.make(recipe, data, folder).save(folders[-1])
        plans = [str(folder) for folder in folders]
        return ask("sweep", names, plans=plans, implementation=implementation)


def ask(kind: str, backends: Sequence[str] = (), **fields: object) -> dict[str, Any]:
    """Every backend's answer to a question: the facts of its record.

    Args:
        kind: of the request, one of :mod:`worker.exercises`.
        backends: names of backends; every backend in Python if none is given.
        fields: of the request, besides the backend.

    Raises:
        ParityError: if a name is not that of a backend in Python.
    """
    found = discover(external=False)
    answers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        jobs = list[Job]()
        for backend in choose(backends or list(found), found):
            environment = find_environment(backend)
            answers[backend.label] = {FAILED: environment.reason}
            if environment.python is None:
                continue
            place = Path(temporary) / str(len(jobs))
            log, asked = place.with_suffix(".log"), {"backend": backend.name, **fields}
            jobs.append(Job(backend.label, environment, Request(kind, place, log, asked)))
        outcomes = run_jobs(
            [[job] for job in jobs],
            slots=len(available_cpus()),
            threads=1,
            timeout=TIMEOUT_SECONDS,
        )
        for job in jobs:
            outcome = outcomes[job.name]
            answers[job.name] = {FAILED: outcome.reason}
            if outcome.status == "done":
                try:
                    answers[job.name] = dict(Record.read(job.request.record).facts)
                except RecordError as error:
                    reason = f"its process ended without an answer: {error}"
                    answers[job.name] = {FAILED: reason}
    return answers
