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

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(num_outputs))

    def read_tensors(self, read):
        layer = self.net[1]
        W, b = (read(tensor).detach().cpu().numpy() for tensor in (layer.weight, layer.bias))
        return {"W": W.T.copy(), "b": b.copy()}

    def set_parameters(self, parameters):
        layer = self.net[1]
        device = layer.weight.device
        W, b = (torch.tensor(parameters[name], device=device) for name in ("W", "b"))
        if isinstance(layer, nn.LazyLinear):
            # The lazy layer takes its shape from an input.
            self(torch.zeros(1, len(W), device=device))
        layer.weight.data, layer.bias.data = W.T.contiguous(), b
