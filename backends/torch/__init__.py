"""PyTorch behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import torch

from backends.torch.arrays import numpy, tensor
from backends.torch.classifier import Classifier, evaluate_accuracy
from backends.torch.concise import SoftmaxRegression
from backends.torch.data import DataModule, Digits, FashionMNIST, Synthetic
from backends.torch.optimizer import SGD
from backends.torch.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from backends.torch.trainer import Trainer
from common.board import ProgressBoard
from common.hyperparameters import HyperParameters, add_to_class

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
