"""Softmax regression from PyTorch's own layers, loss and optimizer."""

import torch
from torch import nn

from framework_parity.backends.torch.classifier import Classifier


class SoftmaxRegression(Classifier):
    """Softmax regression; ``forward`` gives logits, and the first batch sets the input width.

    Args:
        num_outputs: classes.
        lr: learning rate.
    """

    names = {"W": "net.1.weight.T", "b": "net.1.bias"}

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))

    def set_parameters(self, parameters):
        layer = self.net[1]
        if isinstance(layer, nn.LazyLinear):  # it takes its shape from an input
            self(torch.zeros(1, len(parameters["W"]), device=layer.weight.device))
        super().set_parameters(parameters)
