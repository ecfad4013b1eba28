"""Stochastic gradient descent in NumPy."""


class SGD:
    """``parameter ← parameter − lr × gradient``, in place.

    Args:
        parameters: arrays by name.
        lr: learning rate.
    """

    def __init__(self, parameters, lr):
        self.parameters = parameters
        self.lr = lr

    def step(self, gradients):
        """Update every parameter; ``gradients`` has an array for each, by the same name."""
        for name, gradient in gradients.items():
            parameter = self.parameters[name]
            parameter -= parameter.dtype.type(self.lr) * gradient
