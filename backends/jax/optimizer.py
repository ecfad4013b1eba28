"""Stochastic gradient descent by hand, in JAX, and what Optax's optimizers remember."""

from dataclasses import dataclass

import jax
import numpy as np

from framework_parity.common.training.optimizer_state import UnknownOptimizerError

KINDS = {
    "trace": "velocity",
    "mu": "first_moment",
    "nu": "second_moment",
    "nu_max": "largest_second_moment",
    "sum_of_squares": "sum_of_squares",
    "count": "count",
}
"""Fields of the states of Optax (optax/_src/transform.py), by canonical name.

A trace is a velocity as others have it where the learning rate comes after it, as in
``optax.sgd``; ``optax.rmsprop`` has it before, in the trace.
"""
KNOWN = (
    "EmptyState",
    "TraceState",
    "ScaleByAdamState",
    "ScaleByAmsgradState",
    "ScaleByRmsState",
    "ScaleByRmsWithCountState",
    "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState",
    "ScaleByRssState",
    "ScaleByScheduleState",
)


@dataclass(frozen=True)  # a train state compares and hashes its optimizer
class SGD:
    """``parameter ← parameter − lr × gradient``, as Optax's optimizers say it: what to add.

    Args:
        lr: learning rate.
    """

    lr: float

    def init(self, params):
        """The optimizer's memory for a tree ``params``: it has none."""
        return ()

    def update(self, gradients, state, params=None):
        """What to add to the parameters, and the memory.

        Args:
            gradients: a tree of arrays, as what is returned.
            state: the memory, returned as it is.
            params: the parameters, which are not needed.
        """
        return jax.tree.map(lambda gradient: -self.lr * gradient, gradients), state


def memory(state):
    """What the state of an optimizer remembers: see :mod:`optimizer_state`."""
    parts, found = list(_parts(state)), {}
    for part in parts:
        for field, value in zip(part._fields, part, strict=True):
            if KINDS[field] in found and field != "count":
                raise UnknownOptimizerError(f"two {type(part).__name__} in a chain of Optax")
            found[KINDS[field]] = value
    if parts and hasattr(parts[-1], "trace"):
        raise UnknownOptimizerError("a TraceState of Optax behind the learning rate")
    return found


def remember(state, memory):
    """The state of an optimizer that made no step yet, with the ``memory`` of another."""
    if type(state) is tuple:
        return tuple(remember(link, memory) for link in state)
    kept = memory | {"count": np.int32(memory.get("count", 0))}
    kinds = {field: KINDS[field] for field in state._fields if KINDS.get(field) in kept}
    return state._replace(**{field: kept[kind] for field, kind in kinds.items()})


def _parts(state):
    """The links of a chain of optimizers, in the order of their use."""
    if type(state) is tuple:
        for link in state:
            yield from _parts(link)
        return
    name = type(state).__name__
    if name == "MaskedState" and not any(_parts(state.inner_state)):  # decay of some parameters
        return
    if not (type(state).__module__.startswith("optax.") and name in KNOWN):
        raise UnknownOptimizerError(f"{type(state).__module__}.{name}")
    yield state
