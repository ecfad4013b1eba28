"""MXNet behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import importlib.metadata

import mxnet

mxnet.npx.set_np()

from framework_parity.backends.mxnet.arrays import numpy, tensor  # noqa: E402
from framework_parity.backends.mxnet.classifier import Classifier, evaluate_accuracy  # noqa: E402
from framework_parity.backends.mxnet.concise import SoftmaxRegression  # noqa: E402
from framework_parity.backends.mxnet.data import DataModule, Digits, FashionMNIST, Synthetic  # noqa: E402
from framework_parity.backends.mxnet.optimizer import SGD  # noqa: E402
from framework_parity.backends.mxnet.scratch import (  # noqa: E402
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.mxnet.trainer import Trainer  # noqa: E402
from framework_parity.common.core.hyperparameters import (  # noqa: E402
    HyperParameters,
    add_to_class,
)
from framework_parity.common.training.progress_board import ProgressBoard  # noqa: E402

Module = Classifier

__all__ = [
    "SGD",
    "Classifier",
    "DataModule",
    "Digits",
    "FashionMNIST",
    "HyperParameters",
    "Module",
    "ProgressBoard",
    "SoftmaxRegression",
    "SoftmaxRegressionScratch",
    "Synthetic",
    "Trainer",
    "add_to_class",
    "cross_entropy",
    "cross_entropy_one_hot",
    "evaluate_accuracy",
    "numpy",
    "seed",
    "softmax",
    "tensor",
    "versions",
]


def versions():
    """The versions of the libraries that compute, by name."""
    try:
        # A wheel may be a post-release, of which the library itself does not know.
        return {"mxnet": importlib.metadata.version("mxnet")}
    except importlib.metadata.PackageNotFoundError:  # a build for a GPU has another name
        return {"mxnet": mxnet.__version__}


def seed(number):
    """Seed the generator that initial parameters and shuffles are drawn from.

    Args:
        number: a whole number, zero or larger.
    """
    mxnet.random.seed(number)
