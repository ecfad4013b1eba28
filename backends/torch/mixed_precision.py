"""Passes of a PyTorch model in a narrower format than that of its parameters."""

import copy

import torch
from torch.func import functional_call


class Mixed:
    """A model whose forward and backward passes are computed in another format.

    Of each pass the parameters, which stay as they are, and the features are rounded to it, and
    what ``forward`` gives is float32 again. On its way back the gradient is multiplied by the loss
    scale where it enters the format, and divided by it where it leaves: Micikevicius et al., Mixed
    Precision Training, arXiv 1710.03740. All else is the model's own.
    """

    def __init__(self, model, dtype, scale):
        self.model, self.dtype, self.scale = model, dtype, scale

    def __call__(self, X):
        registered, held = dict(self.model.named_parameters()), vars(self.model)
        by_hand = {
            name: tensor
            for name, tensor in held.items()
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad
        }
        try:
            held.update({name: self._rounded(tensor) for name, tensor in by_hand.items()})
            low = {name: self._rounded(tensor) for name, tensor in registered.items()}
            y_hat = functional_call(self.model, low, (X.to(self.dtype),))
        finally:
            held.update(by_hand)
        return _Result.apply(y_hat, self.scale)

    def _rounded(self, tensor):
        return _Rounded.apply(tensor, self.dtype, self.scale)

    def __getattr__(self, name):
        if name == "model":  # while it is copied
            raise AttributeError(name)
        return getattr(self.model, name)

    def __deepcopy__(self, memo):
        return Mixed(copy.deepcopy(self.model, memo), self.dtype, self.scale)


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx, tensor, dtype, scale):
        ctx.given = tensor.dtype, scale
        return tensor.to(dtype)

    @staticmethod
    def backward(ctx, gradient):
        dtype, scale = ctx.given
        return gradient.to(dtype) / scale, None, None


class _Result(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y_hat, scale):
        ctx.given = y_hat.dtype, scale
        return y_hat.to(torch.float32)

    @staticmethod
    def backward(ctx, gradient):
        dtype, scale = ctx.given
        return (gradient * scale).to(dtype), None
