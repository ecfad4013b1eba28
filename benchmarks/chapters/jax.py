"""The book's two sections as a reader types them, and what a reader builds next.

``d2l`` is this backend's public interface, in place of the book's module of that name.
"""

from functools import partial

import jax
import optax
from flax import linen as nn
from jax import numpy as jnp


def scratch(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from scratch: a subclass, then its methods one by one."""

    class SoftmaxRegressionScratch(d2l.Classifier):
        num_inputs: int
        num_outputs: int
        lr: float
        sigma: float = 0.01

        def setup(self):
            self.W = self.param(
                "W", nn.initializers.normal(self.sigma), (self.num_inputs, self.num_outputs)
            )
            self.b = self.param("b", nn.initializers.zeros, self.num_outputs)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def forward(self, X):
        X = X.reshape((-1, self.W.shape[0]))
        return d2l.softmax(jnp.matmul(X, self.W) + self.b)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    @partial(jax.jit, static_argnums=(0))
    def loss(self, params, X, y, state):
        def cross_entropy(y_hat, y):
            return -jnp.mean(jnp.log(y_hat[list(range(len(y_hat))), y]))

        y_hat = state.apply_fn({"params": params}, *X)
        return cross_entropy(y_hat, y), {}

    return SoftmaxRegressionScratch(num_inputs, num_outputs, lr)


def concise(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from the framework's layers, as the book's section has it."""

    class SoftmaxRegression(d2l.Classifier):
        num_outputs: int
        lr: float

        @nn.compact
        def __call__(self, X):
            X = X.reshape((X.shape[0], -1))
            return nn.Dense(self.num_outputs)(X)

    @d2l.add_to_class(SoftmaxRegression)
    @partial(jax.jit, static_argnums=(0, 5))
    def loss(self, params, X, Y, state, averaged=True):
        Y_hat = state.apply_fn({"params": params}, *X, mutable=False, rngs=None)
        Y_hat = Y_hat.reshape((-1, Y_hat.shape[-1]))
        Y = Y.reshape((-1,))
        fn = optax.softmax_cross_entropy_with_integer_labels
        return (fn(Y_hat, Y).mean(), {}) if averaged else (fn(Y_hat, Y), {})

    return SoftmaxRegression(num_outputs, lr)


def predict(model, trainer, data):
    """The first validation batch and its predicted classes."""
    X, y = next(iter(data.val_dataloader()))
    return X, y, model.apply({"params": trainer.state.params}, X).argmax(axis=1)


def show_wrong(data, X, y, preds):
    """Draw the images that were classified wrongly, each under its true and predicted label."""
    wrong = preds.astype(y.dtype) != y
    X, y, preds = X[wrong], y[wrong], preds[wrong]
    labels = [
        a + "\n" + b for a, b in zip(data.text_labels(y), data.text_labels(preds), strict=True)
    ]
    return (X, y), labels, data.visualize([X, y], labels=labels)


def two_layers(d2l, num_inputs, num_hidden, num_outputs, lr):
    """A classifier with one hidden layer, which the suite knows nothing of."""

    class TwoLayers(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            return nn.Dense(num_outputs)(nn.relu(nn.Dense(num_hidden)(X)))

    return TwoLayers(lr)


def concise_with_sgd_by_hand(d2l, num_inputs, num_outputs, lr):
    """The concise model with another updater: SGD by hand."""

    class Replaced(d2l.SoftmaxRegression):
        def configure_optimizers(self):
            return d2l.SGD(self.lr)

    return Replaced(num_outputs, lr)


def scratch_with_framework_sgd(d2l, num_inputs, num_outputs, lr):
    """The from-scratch model with another updater: the framework's SGD."""

    class Replaced(d2l.SoftmaxRegressionScratch):
        def configure_optimizers(self):
            return optax.sgd(self.lr)

    return Replaced(num_inputs, num_outputs, lr)
