"""PyTorch's half of Classifier."""

from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from framework_parity.backends.torch.device import in_use
from framework_parity.backends.torch.layers import entries
from framework_parity.backends.torch.optimizer import SGD
from framework_parity.common.training.eager_classifier import EagerClassifier


def tensor(values):
    """A tensor of ``values``: numbers, nested lists or an array.

    Fractions are float32 unless they say more.
    """
    return torch.tensor(values, device=in_use())


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy; of a narrow format as float32."""
    tensor = tensor.detach().cpu()
    narrow = tensor.is_floating_point() and tensor.element_size() == 2
    return (tensor.float() if narrow else tensor).numpy()


@contextmanager
def evaluation(model):
    """Inside the block the model is in evaluation; then each of its modules is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class Classifier(nn.Module, EagerClassifier):
    """A classifier in PyTorch whose ``forward`` gives logits, until a subclass says otherwise.

    A subclass needs parameters, or layers in ``self.net``, and usually ``self.lr``.
    """

    tensor, numpy = staticmethod(tensor), staticmethod(numpy)

    def forward(self, X):
        return self.net(X)

    def loss(self, y_hat, y, averaged=True):
        if y_hat.ndim > 2:
            y_hat, y = y_hat.reshape(-1, y_hat.shape[-1]), y.reshape(-1)
        return functional.cross_entropy(y_hat, y, reduction="mean" if averaged else "none")

    def accuracy(self, y_hat, y, averaged=True):
        if self.learns_numbers:
            return y.new_full(() if averaged else (len(y),), torch.nan)
        y_hat = y_hat.reshape(-1, y_hat.shape[-1])
        correct = (y_hat.argmax(dim=1).type(y.dtype) == y.reshape(-1)).type(torch.float32)
        return correct.mean() if averaged else correct

    def configure_optimizers(self):
        parameters = list(self.parameters())
        if isinstance(self.parameters(), list):  # by hand, as the book's from-scratch models
            return SGD(parameters, self.lr)
        return torch.optim.SGD(parameters, lr=self.lr)

    def named_tensors(self):
        """The trainable tensors by name: registered parameters, else attributes by hand."""
        registered = {name: held for name, held in self.named_parameters() if held.requires_grad}
        by_hand = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor) and value.requires_grad
        }
        return registered | by_hand

    def entries(self, X):
        if any(nn.parameter.is_lazy(parameter) for parameter in nn.Module.parameters(self)):
            with torch.no_grad(), evaluation(self):
                self(tensor(X))
        return entries(self)

    def get_buffers(self):
        return {name: numpy(buffer).copy() for name, buffer in self.named_buffers()}

    def set_buffers(self, buffers):
        held = dict(self.named_buffers())
        for name, value in buffers.items():
            held[name].copy_(torch.as_tensor(value))

    def set_tensor(self, name, value):
        held = self.named_tensors()[name]
        held.data = torch.tensor(value, device=held.device)
