"""TensorFlow behind the shared interface, and a drop-in for the book's ``d2l`` module."""

from framework_parity.backends.tensorflow.runtime import tf

# isort: split
from framework_parity.backends.tensorflow.classifier import Classifier, numpy, tensor
from framework_parity.backends.tensorflow.concise import SoftmaxRegression
from framework_parity.backends.tensorflow.optimizer import SGD
from framework_parity.backends.tensorflow.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.tensorflow.trainer import Trainer
from framework_parity.common.training.public_interface import complete


def versions():
    """The versions of the libraries that compute, by name."""
    return {"tensorflow": tf.__version__, "keras": tf.keras.__version__}


def seed(number):
    """Seed, with a ``number`` from zero up, what draws initial parameters and shuffles."""
    tf.keras.utils.set_random_seed(number)


def _tensors(X, y):
    """A batch: images of shape ``(n, h, w, 1)``."""
    return tensor(X[..., None] if X.ndim == 3 else X), tensor(y)


complete(globals(), _tensors)
