"""PyTorch's half of Classifier."""

import torch
from torch import nn
from torch.nn import functional

from framework_parity.backends.torch.arrays import numpy
from framework_parity.backends.torch.optimizer import SGD
from framework_parity.common.training.classifier import Classifier as AbstractClassifier


class Classifier(nn.Module, AbstractClassifier):
    """A classifier in PyTorch whose ``forward`` gives logits, until a subclass says otherwise.

    A subclass needs parameters, or layers in ``self.net``, and usually ``self.lr``.
    """

    def forward(self, X):
        return self.net(X)

    def loss(self, y_hat, y, averaged=True):
        if y_hat.ndim > 2:
            y_hat, y = y_hat.reshape(-1, y_hat.shape[-1]), y.reshape(-1)
        return functional.cross_entropy(y_hat, y, reduction="mean" if averaged else "none")

    def accuracy(self, y_hat, y, averaged=True):
        y_hat = y_hat.reshape(-1, y_hat.shape[-1])
        correct = (y_hat.argmax(dim=1).type(y.dtype) == y.reshape(-1)).type(torch.float32)
        return correct.mean() if averaged else correct

    def training_step(self, batch):
        """Mean loss of one batch.

        Args:
            batch: ``(X, y)`` in the framework's tensors.
        """
        return self.loss(self(*batch[:-1]), batch[-1])

    def validation_step(self, batch):
        """Mean loss and accuracy of one batch.

        Args:
            batch: ``(X, y)`` in the framework's tensors.
        """
        y_hat = self(*batch[:-1])
        return self.loss(y_hat, batch[-1]), self.accuracy(y_hat, batch[-1])

    def configure_optimizers(self):
        parameters = list(self.parameters())
        if isinstance(self.parameters(), list):  # by hand, as the book's from-scratch models
            return SGD(parameters, self.lr)
        return torch.optim.SGD(parameters, lr=self.lr)

    def named_tensors(self):
        """The trainable tensors by name: registered parameters, else attributes by hand."""
        registered = dict(self.named_parameters())
        by_hand = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor) and value.requires_grad
        }
        return registered | by_hand

    def read_tensors(self, read):
        """``read(tensor)`` as NumPy for every trainable tensor, in the layout of the mathematics.

        A model whose framework keeps another layout overrides this and :meth:`set_parameters`.
        """
        return {name: numpy(read(tensor)).copy() for name, tensor in self.named_tensors().items()}

    def get_parameters(self):
        return self.read_tensors(lambda tensor: tensor)

    def get_gradients(self):
        """The gradients that the last backward pass left, as :meth:`get_parameters`."""
        return self.read_tensors(lambda tensor: tensor.grad)

    def set_parameters(self, parameters):
        tensors = self.named_tensors()
        for name, value in parameters.items():
            tensors[name].data = torch.tensor(value, device=tensors[name].device)


def evaluate_accuracy(model, data):
    """Accuracy of a model on the validation examples of a data module.

    Args:
        model: a :class:`Classifier` that has parameters.
        data: gives the batches.

    Returns:
        The part of the examples that is classified rightly, 0 to 1.
    """
    with torch.no_grad():
        correct = [model.accuracy(model(X), y, averaged=False) for X, y in data.val_dataloader()]
    return float(torch.cat(correct).mean())
