"""Loops by hand in JAX, to measure the trainer against: as users write them, and tuned.

Each one trains on the whole data, given as ``(X, y)`` in NumPy: ``epoch(order)`` returns the loss
of every step and whether each example was classified rightly, ``get_parameters()`` what came of it.
The idiomatic ones make the same public calls as the trainer. The tuned ones do what no trainer may.
"""

import functools

import jax
import numpy as np
import optax
from jax import lax
from jax import numpy as jnp


def _scratch_loss(parameters, X, y):
    W, b = parameters
    exp = jnp.exp(X @ W + b)
    y_hat = exp / exp.sum(axis=1, keepdims=True)
    return -jnp.log(y_hat[jnp.arange(len(y)), y]).mean(), y_hat.argmax(1) == y


def _concise_loss(parameters, X, y):
    W, b = parameters
    y_hat = X @ W + b
    losses = optax.softmax_cross_entropy_with_integer_labels(y_hat, y)
    return losses.mean(), y_hat.argmax(1) == y


def _idiomatic_step(loss, optimizer, carry, X, y):
    parameters, state = carry
    (value, correct), gradients = jax.value_and_grad(loss, has_aux=True)(parameters, X, y)
    updates, state = optimizer.update(gradients, state, parameters)
    return (optax.apply_updates(parameters, updates), state), (value, correct)


def _scan(step, carry, X, y, batches):
    return lax.scan(lambda carry, rows: step(carry, X[rows], y[rows]), carry, batches)


class Concise:
    """All batches of an epoch in one ``lax.scan``, with Optax's loss and optimizer."""

    loss = staticmethod(_concise_loss)

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = jax.device_put((X, y))
        held = jax.device_put((parameters["W"], parameters["b"]))
        optimizer = optax.sgd(lr)
        self.carry = held, optimizer.init(held)
        step = functools.partial(_idiomatic_step, self.loss, optimizer)
        self.scan = jax.jit(functools.partial(_scan, step))
        self.batch_size = batch_size

    def epoch(self, order):
        full = len(order) - len(order) % self.batch_size
        results = []
        for rows in (order[:full].reshape(-1, self.batch_size), order[full:].reshape(1, -1)):
            if rows.size:
                self.carry, values = self.scan(self.carry, self.X, self.y, rows)
                results.append([np.asarray(value).reshape(-1) for value in values])
        return tuple(np.concatenate(parts) for parts in zip(*results, strict=True))

    def get_parameters(self):
        W, b = self.carry[0]
        return {"W": np.asarray(W), "b": np.asarray(b)}


class Scratch(Concise):
    """The same with softmax and loss written out."""

    loss = staticmethod(_scratch_loss)


def _loss(parameters, X, y):
    W, b = parameters  # W transposed: its gradient errorᵀ X is the faster product
    log_p = jax.nn.log_softmax(X @ W.T + b)
    return -jnp.take_along_axis(log_p, y[:, None], 1).mean(), log_p.argmax(1) == y


def _step(lr, parameters, X, y):
    (loss, correct), gradients = jax.value_and_grad(_loss, has_aux=True)(parameters, X, y)
    new = jax.tree.map(lambda p, g: p - lr * g, parameters, gradients)
    return new, (loss, correct)


class Scan(Concise):
    """All full batches in one compiled ``lax.scan``; the short last one in a program of its own."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = jax.device_put((X, y))
        self.carry = jax.device_put((parameters["W"].T, parameters["b"]))
        step = functools.partial(_step, lr)
        self.scan, self.step = jax.jit(functools.partial(_scan, step)), jax.jit(step)
        self.batch_size = batch_size

    def get_parameters(self):
        W, b = self.carry
        return {"W": np.asarray(W).T, "b": np.asarray(b)}


class Loader(Scan):
    """A data loader's way: examples converted one by one, and each batch is one compiled step.

    JAX has no loader of its own. This is the one of its documentation, in NumPy: a data set gives
    an image and its label, a transform makes it a vector of floats, and batches are stacked.
    """

    def __init__(self, X, y, parameters, lr, batch_size, image_shape, divisor):
        super().__init__(X, y, parameters, lr, batch_size)
        self.images, self.targets = X.reshape(len(X), *image_shape), y
        self.divisor = np.float32(divisor)

    def __getitem__(self, index):
        image, target = self.images[index], int(self.targets[index])
        return np.ravel(np.array(image, dtype=np.float32)) / self.divisor, target

    def epoch(self, order):
        losses, correct = [], []
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size].tolist()
            X, y = zip(*[self[index] for index in rows], strict=True)
            batch = np.stack(X), np.array(y, np.int32)
            self.carry, (loss, right) = self.step(self.carry, *batch)
            losses.append(float(loss))
            correct.append(np.asarray(right))
        return np.array(losses), np.concatenate(correct)


LOOPS = {
    "idiomatic scratch": Scratch,
    "idiomatic concise": Concise,
    "tuned": Scan,
    "plain loader": Loader,
}
