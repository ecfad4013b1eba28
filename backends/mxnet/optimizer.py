"""Stochastic gradient descent by hand, in MXNet."""

from mxnet import gluon


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        params: arrays with an attached gradient, gluon's parameters, or a dictionary of those.
        lr: learning rate.
    """

    def __init__(self, params, lr):
        self.params = list(params.values() if hasattr(params, "values") else params)
        self.lr = lr

    def step(self, batch_size):
        """Update every parameter from its gradient.

        Args:
            batch_size: as gluon's trainer takes it; not needed, since the loss is a mean.
        """
        for param in map(array_of, self.params):
            param -= self.lr * param.grad


def array_of(parameter):
    """The array that a parameter of gluon holds; an array made by hand is its own."""
    return parameter.data() if isinstance(parameter, gluon.Parameter) else parameter
