"""Answers of one framework to what the book's exercises ask, in its own environment.

``python -m framework_parity.common.worker.exercises SETTINGS.json`` is started once per backend by
:mod:`notebook.exercises`. NumPy and the standard library only.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.child_process import claim_stdout, end_with_parent
from framework_parity.common.core.device import asked_device
from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.number_formats import COMPUTED_IN, FORMATS, limits_of_exp
from framework_parity.common.training.classifier import Classifier
from framework_parity.common.training.plan import Plan
from framework_parity.common.worker.train import build_model, versions

LANES = 64
"""Equal numbers per call of exp: vectors go through another code than single numbers."""


def answer_limits(backend: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """See :func:`notebook.exercises.limits`."""
    name = f"framework_parity.benchmarks.exercises.{settings['backend']}"
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
    """See :func:`notebook.exercises.sweep`."""
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
    backend = importlib.import_module(f"framework_parity.backends.{settings['backend']}")
    backend.Trainer.use_device(asked_device())
    answer = ANSWERS[settings["question"]](backend, settings)
    Path(settings["out"]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
