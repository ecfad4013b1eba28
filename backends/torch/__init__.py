"""PyTorch behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import torch

from framework_parity.backends.torch.classifier import Classifier, numpy, tensor
from framework_parity.backends.torch.concise import SoftmaxRegression
from framework_parity.backends.torch.device import in_use
from framework_parity.backends.torch.optimizer import SGD
from framework_parity.backends.torch.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.torch.trainer import Trainer
from framework_parity.common.training.public_interface import complete


def seed(number):
    """Seed, with a ``number`` from zero up, what draws initial parameters and shuffles."""
    torch.manual_seed(number)


def _tensors(X, y):
    """A batch: images of shape ``(n, 1, h, w)``."""
    X, y = (torch.as_tensor(array, device=in_use()) for array in (X, y))
    return X.unsqueeze(1) if X.ndim == 3 else X, y.long()


complete(globals(), _tensors)
