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
    """``torch.optim.SGD``: its own code, without the wrappers that serve compiler and profiler.

    Those import PyTorch's compiler with the first optimizer, which takes longer than ten epochs of
    softmax regression, and cost several times the update itself in every step. Hooks on the
    optimizer work as ever.
    """

    add_param_group = inspect.unwrap(torch.optim.SGD.add_param_group)

    def step(self, closure=None):
        """Update every parameter from its ``grad``."""
        hooked = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
        return (_hooked_step if hooked else _plain_step)(self, closure)

    step.hooked = True  # keeps PyTorch from wrapping it

    def zero_grad(self, set_to_none=True):
        """Forget the gradients of the last step, or set them to zero."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None


_plain_step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))
_hooked_step = torch.optim.Optimizer.profile_hook_step(_plain_step)
