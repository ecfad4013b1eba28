"""Softmax regression from scratch, in JAX."""

from flax import linen as nn
from jax import numpy as jnp

from framework_parity.backends.jax.classifier import Classifier
from framework_parity.backends.jax.optimizer import SGD


def softmax(X, stable=False):
    """Exponentials of each row, divided by their sum.

    Args:
        X: logits, shape ``(n, num_outputs)``.
        stable: subtract each row's largest entry first, which leaves the result the same and
            keeps the exponentials from overflowing.
    """
    if stable:
        X = X - X.max(axis=1, keepdims=True)
    X_exp = jnp.exp(X)
    return X_exp / X_exp.sum(axis=1, keepdims=True)


def cross_entropy(y_hat, y, averaged=True):
    """Negative logarithm of the probability given to each label.

    Args:
        y_hat: probabilities, shape ``(n, num_outputs)``.
        y: classes, shape ``(n,)``.
        averaged: the mean over examples; else the loss of each, shape ``(n,)``.
    """
    y_hat, y = jnp.asarray(y_hat), jnp.asarray(y)
    losses = -jnp.log(y_hat[jnp.arange(len(y_hat)), y])
    return losses.mean() if averaged else losses


def cross_entropy_one_hot(y_hat, y, averaged=True):
    """The same from the definition: −Σ_j y_j log ŷ_j with one-hot labels.

    Arguments as of :func:`cross_entropy`.
    """
    y_hat, y = jnp.asarray(y_hat), jnp.asarray(y)
    one_hot = (y[:, None] == jnp.arange(y_hat.shape[1])).astype(y_hat.dtype)
    losses = -(one_hot * jnp.log(y_hat)).sum(axis=1)
    return losses.mean() if averaged else losses


class SoftmaxRegressionScratch(Classifier):
    """Softmax regression by hand; ``forward`` gives probabilities.

    Attributes:
        num_inputs: features of an example, flattened.
        num_outputs: classes.
        lr: learning rate.
        sigma: standard deviation of the initial weights; the biases start at zero.
    """

    num_inputs: int
    num_outputs: int
    lr: float
    sigma: float = 0.01

    def setup(self):
        """Declare the parameters, as Flax asks for."""
        shape = (self.num_inputs, self.num_outputs)
        self.W = self.param("W", nn.initializers.normal(self.sigma), shape)
        self.b = self.param("b", nn.initializers.zeros, (self.num_outputs,))

    def forward(self, X):
        X = X.reshape((-1, self.W.shape[0]))
        return softmax(jnp.matmul(X, self.W) + self.b)

    def loss(self, params, X, y, state, averaged=True):
        y_hat = state.apply_fn({"params": params}, *X)
        return cross_entropy(y_hat, y, averaged), {}

    def configure_optimizers(self):
        return SGD(self.lr)
