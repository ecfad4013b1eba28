"""Softmax regression from MXNet's own layers, loss and optimizer."""

from mxnet.gluon import nn

from framework_parity.backends.mxnet.classifier import Classifier


class SoftmaxRegression(Classifier):
    """Softmax regression; ``forward`` gives logits, and the first batch sets the input width.

    Args:
        num_outputs: classes.
        lr: learning rate.
    """

    names = {"W": "net.weight.T", "b": "net.bias"}

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Dense(num_outputs)
        self.net.initialize()
