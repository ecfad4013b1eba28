"""What the book's exercises ask of every framework, answered in each one's own environment.

:func:`ask` starts ``python -m common.exercises`` once per backend; that half needs NumPy and the
standard library only.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.child import claim_stdout, end_with_parent
from common.classifier import Classifier
from common.device import asked_device
from common.errors import ParityError
from common.number_formats import COMPUTED_IN, FORMATS, limits_of_exp
from common.plan import Plan
from common.recipe import Recipe
from common.worker import build_model, versions

LANES = 64
"""Equal numbers per call of exp: vectors go through another code than single numbers."""

TIMEOUT_SECONDS = 600.0
FAILED = "failed"


# Asking


def limits(backends: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The smallest and the largest argument of exp in every number format, per backend.

    Args:
        backends: names of backends; every backend in Python if none is given.

    Returns:
        By backend and format: ``largest``, ``smallest``, ``smallest_normal`` (see
        :func:`common.number_formats.limits_of_exp`) and ``type``, that of the result; or
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
        By backend ``histories``, one for each recipe, as of :class:`common.trainer.Trainer`.
    """
    from common.environment import discover
    from common.fetch import open_data

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
    """Every backend's answer to a question: one of :data:`ANSWERS`, with its settings.

    Args:
        question: ``question`` names it; the rest is its settings.
        backends: names of backends; every backend in Python if none is given.

    Raises:
        ParityError: if a name is not that of a backend in Python.
    """
    from common.environment import BOOTSTRAP, choose, discover, find_environment
    from common.launcher import Job, run_jobs
    from common.parallel import available_cpus

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
            command = (str(environment.python), BOOTSTRAP, "common.exercises")
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


# Answering


def answer_limits(backend: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """See :func:`limits`."""
    name = f"backends.{settings['backend']}.exercises"
    if importlib.util.find_spec(name) is None:
        raise ParityError(f"{name}: expected a module; received none; docs/python.md describes it")
    module = importlib.import_module(name)
    return {number_format: _limits_in(module, number_format) for number_format in FORMATS}


def _limits_in(module: Any, number_format: str) -> dict[str, Any]:
    computed = COMPUTED_IN.get(number_format, number_format)
    types = []

    def exp(value: float) -> float:
        powers, kind = module.exp(np.full(LANES, value), computed)
        types.append(kind)
        return float(powers[0])

    try:
        found = limits_of_exp(number_format, exp)
    except Exception as error:  # each framework has its own for what it cannot do
        return {"reason": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
    return found | {"type": types[0]}


def answer_sweep(backend: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """See :func:`sweep`."""
    histories = []
    for folder in settings["plans"]:
        plan = Plan.load(Path(folder))
        data = plan.data()
        model: Classifier = build_model(backend, settings["implementation"], plan, data)
        trainer = backend.Trainer(plan.recipe.max_epochs, board=False)
        orders, dtype = list(plan.order), plan.recipe.dtype
        trainer.fit(model, data, orders=orders, parameters=plan.parameters, dtype=dtype)
        histories.append(trainer.history)
    return {"histories": histories, "versions": versions(backend)}


ANSWERS = {"limits": answer_limits, "sweep": answer_sweep}


def main() -> None:
    """Read a question's settings, answer, write the answer."""
    claim_stdout()
    end_with_parent()
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    backend = importlib.import_module(f"backends.{settings['backend']}")
    backend.Trainer.use_device(asked_device())
    answer = ANSWERS[settings["question"]](backend, settings)
    Path(settings["out"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
