"""Stochastic gradient descent by hand, in PyTorch."""

import torch


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        params: tensors that require gradients.
        lr: learning rate.
    """

    def __init__(self, params, lr):
        self.params, self.lr = list(params), lr

    @torch.no_grad()
    def step(self):
        """Update every parameter from its ``grad``."""
        for param in self.params:
            param -= self.lr * param.grad

    def zero_grad(self):
        """Forget the gradients of the last step."""
        for param in self.params:
            param.grad = None
