"""JAX and Flax behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import random

import flax
import jax
import jaxlib
import optax

from framework_parity.backends.jax.classifier import (
    Classifier,
    evaluate_accuracy,
    get_key,
    get_seed,
    numpy,
    tensor,
)
from framework_parity.backends.jax.concise import SoftmaxRegression
from framework_parity.backends.jax.optimizer import SGD
from framework_parity.backends.jax.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.jax.trainer import Trainer
from framework_parity.common.training.public_interface import complete


def versions():
    """The versions of the libraries that compute, by name."""
    libraries = (jax, jaxlib, flax, optax)
    return {library.__name__: library.__version__ for library in libraries}


def seed(number):
    """Seed, with a ``number`` from zero up, what draws keys, hence parameters and shuffles."""
    random.seed(number)


def _tensors(X, y):
    """A batch: images of shape ``(n, h, w, 1)``."""
    return jax.device_put((X[..., None] if X.ndim == 3 else X, y))


complete(globals(), _tensors)
