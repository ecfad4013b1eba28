"""Softmax regression from MXNet's own layers, loss and optimizer."""

from mxnet.gluon import nn

from framework_parity.backends.mxnet.classifier import Classifier


class SoftmaxRegression(Classifier):
    """Softmax regression; ``forward`` gives logits, and the first batch sets the input width.

    Args:
        num_outputs: classes.
        lr: learning rate.
    """

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Dense(num_outputs)
        self.net.initialize()

    def read_tensors(self, read):
        W, b = (read(parameter.data()) for parameter in (self.net.weight, self.net.bias))
        return {"W": W.asnumpy().T.copy(), "b": b.asnumpy()}

    def set_parameters(self, parameters):
        super().set_parameters({"net.weight": parameters["W"].T, "net.bias": parameters["b"]})
