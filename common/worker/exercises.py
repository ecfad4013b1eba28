"""Answers of one framework to what the book's exercises ask, in its own environment.

:mod:`notebook.exercises` asks every backend.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from framework_parity.common.core.errors import ParityError
from framework_parity.common.core.number_formats import COMPUTED_IN, FORMATS, limits_of_exp
from framework_parity.common.training.classifier import Classifier
from framework_parity.common.training.plan import Plan
from framework_parity.common.training.record import Record
from framework_parity.common.worker.train import build_model, versions
from framework_parity.common.worker.worker import Worker

LANES = 64
"""Equal numbers per call of exp: vectors go through another code than single numbers."""


def limits(worker: Worker, backend: str) -> Record:
    """See :func:`notebook.exercises.limits`."""
    worker.backend(backend)
    name = f"framework_parity.benchmarks.exercises.{backend}"
    if importlib.util.find_spec(name) is None:
        raise ParityError(name, "a module", "none", "docs/python.md describes it")
    module = importlib.import_module(name)
    return Record({name: _limits_in(module, name) for name in FORMATS}, {})


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


def sweep(worker: Worker, plans: list[str], backend: str, implementation: str) -> Record:
    """See :func:`notebook.exercises.sweep`."""
    d2l, histories = worker.backend(backend), []
    for folder in plans:
        plan = Plan.load(Path(folder))
        data = plan.data()
        model: Classifier = build_model(d2l, implementation, plan, data)
        trainer = d2l.Trainer(plan.recipe.max_epochs, board=False)
        orders, dtype = list(plan.order), plan.recipe.dtype
        trainer.fit(model, data, orders=orders, parameters=plan.parameters, dtype=dtype)
        histories.append(trainer.history)
    return Record({"histories": histories, "versions": versions(d2l)}, {})
