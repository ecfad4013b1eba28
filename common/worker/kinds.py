"""What a worker can be asked for: the function of each kind of request."""

from __future__ import annotations

import importlib
import re

from framework_parity.common.core.errors import ParityError, told
from framework_parity.common.worker.evaluation import evaluate_model
from framework_parity.common.worker.exercises import limits, sweep
from framework_parity.common.worker.own_model import model_targets, own_model, read_model
from framework_parity.common.worker.reference import reference
from framework_parity.common.worker.train import independent, probe, train
from framework_parity.common.worker.worker import Kind

KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        *(train, probe, independent, own_model, evaluate_model, read_model, model_targets),
        *(reference, limits, sweep),
    )
}


def find_kind(name: str) -> Kind:
    """The function of a kind: one of :data:`KINDS`, or ``module:function`` of this package.

    Raises:
        ParityError: if there is none.
    """
    if name in KINDS:
        return KINDS[name]
    module, _, function = name.partition(":")
    try:
        if re.fullmatch(r"[\w.]+:\w+", name) is None:
            raise ValueError(name)
        found: Kind = getattr(importlib.import_module(f"framework_parity.{module}"), function)
    except (ValueError, ImportError, AttributeError) as error:
        raise ParityError(
            "kind", f"{', '.join(KINDS)}, or module:function", told(error), "choose one"
        ) from None
    return found
