"""Stochastic gradient descent in NumPy; ``d2l`` has one with momentum, and others."""


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
