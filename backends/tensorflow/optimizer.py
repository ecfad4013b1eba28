"""Stochastic gradient descent by hand, in TensorFlow."""


class SGD:
    """``parameter ← parameter − lr × gradient``, in place; the book's ``d2l.SGD``.

    Args:
        lr: learning rate.
    """

    def __init__(self, lr):
        self.lr = lr

    def apply_gradients(self, grads_and_vars):
        """Update variables.

        Args:
            grads_and_vars: pairs of a gradient and its variable.
        """
        for grad, param in grads_and_vars:
            param.assign_sub(self.lr * grad)
