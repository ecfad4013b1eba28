"""MXNet behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import importlib.metadata

import mxnet

mxnet.npx.set_np()

# isort: split
from framework_parity.backends.mxnet.classifier import Classifier, numpy, tensor
from framework_parity.backends.mxnet.concise import SoftmaxRegression
from framework_parity.backends.mxnet.optimizer import SGD
from framework_parity.backends.mxnet.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.mxnet.trainer import Trainer
from framework_parity.common.training.public_interface import complete


def versions():
    """The versions of the libraries that compute, by name."""
    try:
        # A wheel may be a post-release, of which the library itself does not know.
        return {"mxnet": importlib.metadata.version("mxnet")}
    except importlib.metadata.PackageNotFoundError:  # a build for a GPU has another name
        return {"mxnet": mxnet.__version__}


def seed(number):
    """Seed, with a ``number`` from zero up, what draws initial parameters and shuffles."""
    mxnet.random.seed(number)


def _tensors(X, y):
    """A batch: images of shape ``(n, 1, h, w)``."""
    return tensor(X[:, None] if X.ndim == 3 else X), tensor(y)


complete(globals(), _tensors)
