"""What the book's exercises ask of every framework, answered in each one's own environment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framework_parity.common.core.threads import available_cpus
from framework_parity.common.data.named import open_data
from framework_parity.common.environments.backend import BOOTSTRAP
from framework_parity.common.environments.discovery import choose, discover, find_environment
from framework_parity.common.execution.launcher import Job, run_jobs
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.recipe import Recipe

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
    return ask({"question": "limits"}, backends)


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
        question = {"question": "sweep", "plans": plans, "implementation": implementation}
        return ask(question, names)


def ask(question: dict[str, Any], backends: Sequence[str] = ()) -> dict[str, Any]:
    """Every backend's answer to a question: one of :mod:`worker.exercises`, with its settings.

    Args:
        question: ``question`` names it; the rest is its settings.
        backends: names of backends; every backend in Python if none is given.

    Raises:
        ParityError: if a name is not that of a backend in Python.
    """
    found = discover(external=False)
    answers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        jobs, outs = list[Job](), dict[str, Path]()
        for backend in choose(backends or list(found), found):
            environment = find_environment(backend)
            answers[backend.label] = {FAILED: environment.reason}
            if environment.python is None:
                continue
            place = Path(temporary) / str(len(jobs))
            outs[backend.label] = place.with_suffix(".answer.json")
            settings = {"backend": backend.name, "out": str(outs[backend.label]), **question}
            place.with_suffix(".json").write_text(json.dumps(settings), encoding="utf-8")
            command = (
                str(environment.python),
                BOOTSTRAP,
                "framework_parity.common.worker.exercises",
            )
            arguments = (str(place.with_suffix(".json")),)
            log = place.with_suffix(".log")
            jobs.append(Job(backend.label, command, log, arguments=arguments))
        slots = len(available_cpus())
        outcomes = run_jobs(jobs, slots=slots, threads=1, timeout=TIMEOUT_SECONDS)
        for name, outcome in outcomes.items():
            answers[name] = {FAILED: outcome.reason}
            if outcome.status == "done":
                try:
                    answers[name] = dict(json.loads(outs[name].read_text(encoding="utf-8")))
                except (OSError, ValueError, TypeError) as error:
                    answers[name] = {FAILED: f"its process ended without an answer: {error}"}
    return answers
