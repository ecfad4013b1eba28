"""Stochastic gradient descent in PyTorch: by hand, and the framework's own without its detours."""

import inspect

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


class FrameworkSGD(torch.optim.SGD):
    """``torch.optim.SGD`` itself: its own code, without the wrappers that serve ``torch.compile``.

    Those import PyTorch's compiler with the first optimizer, which takes longer than ten epochs of
    softmax regression; and they take as long in every step as the update itself.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.SGD.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
