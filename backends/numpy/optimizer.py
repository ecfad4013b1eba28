"""Stochastic gradient descent in NumPy; ``d2l`` has one with momentum, and others."""

import inspect

from framework_parity.common.reference import optimizers


class SGD:
    """``parameter ← parameter − lr × gradient``, in place.

    Args:
        parameters: arrays by name.
        lr: learning rate.
    """

    def __init__(self, parameters, lr):
        self.parameters = parameters
        self.lr = lr
        self.state = {}  # what it remembers

    def step(self, gradients):
        """Update every parameter; ``gradients`` has an array for each, by the same name."""
        for name, gradient in gradients.items():
            parameter = self.parameters[name]
            parameter -= parameter.dtype.type(self.lr) * gradient


def arguments(optimizer, num_steps):
    """What an optimizer is: see :data:`optimizer_state.ARGUMENTS`."""
    kind = type(optimizer)
    if kind not in (SGD, *vars(optimizers).values()):
        return None
    names = [*inspect.signature(kind).parameters][2:]
    lr = optimizer.lr
    rates = [float(lr(step)) for step in range(num_steps)] if callable(lr) else float(lr)
    given = {name: getattr(optimizer, name) for name in names if hasattr(optimizer, name)}
    return {"kind": kind.__name__, "lr": rates, **given}
