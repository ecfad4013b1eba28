"""NumPy behind the shared interface: the backend without a framework."""

import numpy as np

from framework_parity.backends.numpy.arrays import numpy, tensor
from framework_parity.backends.numpy.classifier import Classifier, evaluate_accuracy
from framework_parity.backends.numpy.concise import SoftmaxRegression
from framework_parity.backends.numpy.optimizer import SGD
from framework_parity.backends.numpy.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.numpy.trainer import Trainer
from framework_parity.common.core.hyperparameters import HyperParameters, add_to_class
from framework_parity.common.data import data_module as _data
from framework_parity.common.data import datasets as _datasets
from framework_parity.common.training.progress_board import ProgressBoard

FashionMNIST = _datasets.FashionMNIST
Digits = _datasets.Digits
Synthetic = _datasets.Synthetic
DataModule = _data.DataModule
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
    return {"numpy": np.__version__}


def seed(number):
    """Seed the generator that initial parameters and shuffles are drawn from.

    Args:
        number: a whole number, zero or larger.
    """
    np.random.seed(number)
