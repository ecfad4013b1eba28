"""Stochastic gradient descent by hand, in PyTorch, and what PyTorch's optimizers remember."""

import torch

from framework_parity.common.training.optimizer_state import by_hand

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
"""By class and canonical name: what ``optimizer.state`` has of a parameter; the conventions are
those of torch/optim/sgd.py, adam.py, rmsprop.py and adagrad.py."""
SLOTS[torch.optim.Adam] = SLOTS[torch.optim.AdamW] = {
    "first_moment": "exp_avg",
    "second_moment": "exp_avg_sq",
    "largest_second_moment": "max_exp_avg_sq",
    "count": "step",
}
ARGUMENTS = {
    torch.optim.SGD: ("momentum", "dampening", "nesterov"),
    torch.optim.Adam: ("betas", "eps"),
    torch.optim.AdamW: ("betas", "eps"),
    torch.optim.RMSprop: ("alpha", "eps"),
    torch.optim.Adagrad: ("initial_accumulator_value", "eps"),
}
"""By class: the arguments that optimizers by hand have by the same names."""
OTHERS = ("maximize", "amsgrad", "centered", "lr_decay")
"""Those which make it another optimizer."""


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
    """What an optimizer remembers of ``tensors`` by name: see :mod:`optimizer_state`."""
    slots = SLOTS.get(type(optimizer))
    if slots is None:
        return by_hand(optimizer)
    found = {}
    states = {name: optimizer.state.get(tensor, {}) for name, tensor in tensors.items()}
    for kind, slot in slots.items():
        kept = {name: state[slot] for name, state in states.items() if state.get(slot) is not None}
        if kept:
            found[kind] = next(iter(kept.values())) if kind == "count" else kept
    return found


def remember(optimizer, tensors, memory):
    """Give an optimizer that made no step yet the ``memory`` of another."""
    if type(optimizer) not in SLOTS:
        optimizer.state = memory
        return
    slots = SLOTS[type(optimizer)]
    for kind, kept in memory.items():
        of_each = dict.fromkeys(tensors, torch.tensor(float(kept))) if kind == "count" else kept
        for name, value in of_each.items():
            optimizer.state[tensors[name]][slots[kind]] = value.clone()


def arguments(optimizer, model):
    """What an optimizer is: see :data:`optimizer_state.ARGUMENTS`; ``lr`` is that of the first
    step."""
    if type(optimizer) is SGD:
        return {"kind": "SGD", "lr": float(optimizer.lr)}
    kind, tensors = type(optimizer), model.named_tensors()
    groups = getattr(optimizer, "param_groups", [{}])
    names = ("lr", *ARGUMENTS.get(kind, ()))
    given, *others = ({name: group.get(name) for name in names} for group in groups)
    held = {id(tensor): group for group in groups for tensor in group.get("params", ())}
    if (
        kind not in ARGUMENTS
        or any(other != given for other in others)
        or any(id(tensor) not in held for tensor in tensors.values())
        or any(group.get(name) for group in groups for name in OTHERS)
        or (kind is torch.optim.RMSprop and groups[0]["momentum"])
    ):
        return None
    decays = {
        name: torch.full_like(tensor, held[id(tensor)]["weight_decay"], requires_grad=False)
        for name, tensor in tensors.items()
    }
    by_name = {name: float(values.flat[0]) for name, values in model.read(decays).items()}
    decay = by_name if len({*by_name.values()}) > 1 else float(groups[0]["weight_decay"])
    decoupled = bool(groups[0].get("decoupled_weight_decay", kind is torch.optim.AdamW))
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}
    lr = float(given["lr"])
    return {"kind": kind.__name__, **found, "lr": lr, "weight_decay": decay, "decoupled": decoupled}
