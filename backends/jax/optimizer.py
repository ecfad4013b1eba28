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
