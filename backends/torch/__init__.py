"""PyTorch behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import torch

from framework_parity.backends.torch.arrays import numpy, tensor
from framework_parity.backends.torch.classifier import Classifier, evaluate_accuracy
from framework_parity.backends.torch.concise import SoftmaxRegression
from framework_parity.backends.torch.data import DataModule, Digits, FashionMNIST, Synthetic
from framework_parity.backends.torch.optimizer import SGD
from framework_parity.backends.torch.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.torch.trainer import Trainer
from framework_parity.common.core.hyperparameters import HyperParameters, add_to_class
from framework_parity.common.training.progress_board import ProgressBoard

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
    return {"torch": torch.__version__}


def seed(number):
    """Seed the generator that initial parameters and shuffles are drawn from.

    Args:
        number: a whole number, zero or larger.
    """
    torch.manual_seed(number)
