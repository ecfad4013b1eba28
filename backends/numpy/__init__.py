"""NumPy behind the shared interface: the backend without a framework."""

import numpy as np

from framework_parity.backends.numpy.classifier import Classifier, numpy, tensor
from framework_parity.backends.numpy.concise import SoftmaxRegression
from framework_parity.backends.numpy.scratch import (
    SoftmaxRegressionScratch,
    cross_entropy,
    cross_entropy_one_hot,
    softmax,
)
from framework_parity.backends.numpy.trainer import Trainer
from framework_parity.common.reference.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop, clipped
from framework_parity.common.training.public_interface import complete


def seed(number):
    """Seed, with a ``number`` from zero up, what draws initial parameters and shuffles."""
    np.random.seed(number)


complete(globals())
