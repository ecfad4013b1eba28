"""What a fault is, and how one is planted into a training: the frame of the suite's test of itself.

Needs NumPy and the standard library only: workers import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from framework_parity.common.reference.recording_data import RecordingData
from framework_parity.common.reference.replay import Rows
from framework_parity.common.training.classifier import Parameters
from framework_parity.common.training.plan import Plan

MODELS = ("SoftmaxRegressionScratch", "SoftmaxRegression")
KNOWN = "known"
BATCH_SIZE = "batch size"
"""A fault's size that is the plan's batch size."""


@dataclass(frozen=True)
class Fault:
    """A fault, and where and how the verdict should name it.

    Args:
        name: its name.
        sizes: how strongly it is planted; None where it has no size.
        stages: where it first shows; several where two are right.
        reason: why there.
        plans: the plans that it is planted into: the first at every size, the others at the first
            size; a fault of the first family there in both implementations, all else in one.
        family: what kind of fault it is; :data:`KNOWN` are those that the suite has a name for.
        causes: what the name of a cause that is right starts with; of a known fault its own name
            as well. Of others mostly none: then it is right that no known cause fits.
        parts: faults and their sizes that make it up, each of which is planted in turn.
    """

    name: str
    sizes: tuple[float | str | None, ...]
    stages: tuple[str, ...]
    reason: str
    plans: tuple[str, ...] = ("digits",)
    family: str = KNOWN
    causes: tuple[str, ...] = ()
    parts: tuple[tuple[str, float | str | None], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the name of a right cause starts with; none where no known cause is right."""
        return (self.name, *self.causes) if self.family == KNOWN else self.causes


@dataclass(frozen=True)
class Setup:
    """All that a worker gives to a training; to plant a fault is to replace some of it.

    Args:
        backend: its public interface: the two models, ``Trainer``, ``versions``.
        plan: gives the learning rate and the dtype.
        data_class: class of the data module.
        orders: rows of the training data per epoch.
        parameters: the initial ones.
        put: gives the model other parameters in the middle of a training.
    """

    backend: Any
    plan: Plan
    data_class: type[RecordingData]
    orders: list[Rows]
    parameters: Parameters
    put: Callable[[Any, Parameters], None] = lambda trainer, new: trainer.model.set_parameters(new)


Planter = Callable[[Setup, Any], Setup]


def with_changes(setup: Setup, **changes: Any) -> Setup:
    """The setup with some of its backend's classes replaced."""
    kept = {name: getattr(setup.backend, name) for name in (*MODELS, "Trainer", "versions")}
    return replace(setup, backend=SimpleNamespace(**kept | changes))


def recipes(setup: Setup, **changes: Any) -> Setup:
    """The setup with another recipe for the model and the trainer."""
    plan = setup.plan
    return replace(setup, plan=replace(plan, recipe=replace(plan.recipe, **changes)))


def at(step: int) -> Callable[[int], bool]:
    """At one step."""
    return lambda now: now == step


def since(step: int) -> Callable[[int], bool]:
    """From a step on."""
    return lambda now: now >= step
