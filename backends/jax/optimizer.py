"""Stochastic gradient descent by hand, in JAX."""

from dataclasses import dataclass

import jax


@dataclass(frozen=True)  # a train state compares and hashes its optimizer
class SGD:
    """``parameter ← parameter − lr × gradient``, as Optax's optimizers say it: what to add.

    Args:
        lr: learning rate.
    """

    lr: float

    def init(self, params):
        """The optimizer's memory: it has none."""
        return ()

    def update(self, gradients, state, params=None):
        """What to add to the parameters, a tree as the gradients are, and the memory."""
        return jax.tree.map(lambda gradient: -self.lr * gradient, gradients), state
