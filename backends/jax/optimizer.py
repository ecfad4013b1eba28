"""Stochastic gradient descent by hand, in JAX, and what Optax's optimizers remember."""

from dataclasses import dataclass

import jax

KINDS = {
    "trace": "velocity",
    "mu": "first_moment",
    "nu": "second_moment",
    "nu_max": "largest_second_moment",
    "sum_of_squares": "sum_of_squares",
    "count": "count",
}
"""Fields of the states of Optax (optax/_src/transform.py), by canonical name.

A trace is :meth:`Trainer.optimizer_state`'s velocity where the learning rate comes after it, as in
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


def kept_in(state):
    """The parts of an optimizer's state that keep something, in the order of their use.

    Raises:
        TypeError: if one is of an unknown kind.
    """
    if type(state) is tuple:  # a chain
        return [part for link in state for part in kept_in(link)]
    name = type(state).__name__
    if name == "MaskedState" and not any(kept_in(state.inner_state)):  # decay of some parameters
        return []
    if not (type(state).__module__.startswith("optax.") and name in KNOWN):
        raise TypeError(name)
    return [state]


def memory(state):
    """What an optimizer's state keeps, by canonical name, as trees and numbers; None: not known."""
    try:
        parts = kept_in(state)
    except TypeError:
        return None
    found = {}
    for part in parts:
        for field, value in zip(part._fields, part, strict=True):
            if field != "count" and KINDS[field] in found:
                return None  # which of the two is meant?
            found[KINDS[field]] = value
    return None if parts and hasattr(parts[-1], "trace") else found


def remember(state, memory):
    """An optimizer's state in which each part is that of the ``memory``, if it has it."""
    if type(state) is tuple:
        return tuple(remember(link, memory) for link in state)
    kinds = {field: KINDS[field] for field in state._fields if field in KINDS}
    return state._replace(**{f: memory[kind] for f, kind in kinds.items() if kind in memory})
