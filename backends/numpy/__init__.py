"""NumPy behind the shared interface: the backend without a framework."""

import numpy as np

from backends.numpy.arrays import numpy, tensor
from backends.numpy.classifier import Classifier, evaluate_accuracy
from backends.numpy.concise import SoftmaxRegression
from backends.numpy.optimizer import SGD
from backends.numpy.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from backends.numpy.trainer import Trainer
from common import data as _data
from common import datasets as _datasets
from common.board import ProgressBoard
from common.hyperparameters import HyperParameters, add_to_class

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
