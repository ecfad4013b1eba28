"""Stochastic gradient descent by hand, in PyTorch, and what PyTorch's optimizers remember."""

import torch

SLOTS = {
    torch.optim.SGD: {"velocity": "momentum_buffer"},
    torch.optim.Adagrad: {"sum_of_squares": "sum", "count": "step"},
    torch.optim.RMSprop: {
        "first_moment": "grad_avg",
        "second_moment": "square_avg",
        "velocity": "momentum_buffer",
        "count": "step",
    },
}
"""By class and canonical name: what ``optimizer.state`` has of a parameter. The conventions of
:meth:`Trainer.optimizer_state` are those of torch/optim/sgd.py, adam.py, rmsprop.py, adagrad.py."""
SLOTS[torch.optim.Adam] = SLOTS[torch.optim.AdamW] = {
    "first_moment": "exp_avg",
    "second_moment": "exp_avg_sq",
    "largest_second_moment": "max_exp_avg_sq",
    "count": "step",
}


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        params: tensors that require gradients.
        lr: learning rate.
    """

    def __init__(self, params, lr):
        self.params, self.lr = list(params), lr
        self.state = {}  # what it remembers

    @torch.no_grad()
    def step(self):
        """Update every parameter from its ``grad``."""
        for param in self.params:
            param -= self.lr * param.grad

    def zero_grad(self):
        """Forget the gradients of the last step."""
        for param in self.params:
            param.grad = None


def memory(optimizer, tensors):
    """What one of PyTorch's optimizers keeps of ``tensors`` by name; None: its kind is unknown."""
    slots = SLOTS.get(type(optimizer))
    if slots is None:
        return None
    found = {}
    for kind, slot in slots.items():
        states = {name: optimizer.state.get(tensor, {}) for name, tensor in tensors.items()}
        kept = {name: state[slot] for name, state in states.items() if state.get(slot) is not None}
        if kept:
            found[kind] = next(iter(kept.values())) if kind == "count" else kept
    return found


def remember(optimizer, tensors, memory):
    """Give an optimizer that made no step yet the ``memory`` of another, in NumPy."""
    slots = SLOTS[type(optimizer)]
    for name, tensor in tensors.items():
        for kind, kept in memory.items():
            if kind == "count":
                optimizer.state[tensor][slots[kind]] = torch.tensor(float(kept))
            elif name in kept:
                optimizer.state[tensor][slots[kind]] = torch.as_tensor(
                    kept[name], device=tensor.device
                )
