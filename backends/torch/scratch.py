"""Softmax regression from scratch, in PyTorch."""

import torch

from framework_parity.backends.torch.classifier import Classifier


def softmax(X, stable=False):
    """Exponentials of each row, divided by their sum.

    Args:
        X: logits, shape ``(n, num_outputs)``.
        stable: subtract each row's largest entry first, which leaves the result the same and
            keeps the exponentials from overflowing.
    """
    if stable:
        X = X - X.max(dim=1, keepdim=True).values
    X_exp = torch.exp(X)
    return X_exp / X_exp.sum(1, keepdim=True)


def cross_entropy(y_hat, y, averaged=True):
    """Negative logarithm of the probability given to each label.

    Args:
        y_hat: probabilities, shape ``(n, num_outputs)``.
        y: classes, shape ``(n,)``.
        averaged: the mean over examples; else the loss of each, shape ``(n,)``.
    """
    losses = -torch.log(y_hat[torch.arange(len(y_hat), device=y_hat.device), y])
    return losses.mean() if averaged else losses


def cross_entropy_one_hot(y_hat, y, averaged=True):
    """The same from the definition: −Σ_j y_j log ŷ_j with one-hot labels.

    Arguments as of :func:`cross_entropy`.
    """
    one_hot = torch.nn.functional.one_hot(y.long(), y_hat.shape[1])
    losses = -(one_hot * torch.log(y_hat)).sum(1)
    return losses.mean() if averaged else losses


class SoftmaxRegressionScratch(Classifier):
    """Softmax regression by hand; ``forward`` gives probabilities.

    Args:
        num_inputs: features of an example, flattened.
        num_outputs: classes.
        lr: learning rate.
        sigma: standard deviation of the initial weights; the biases start at zero.
    """

    def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.W = torch.normal(0, sigma, size=(num_inputs, num_outputs), requires_grad=True)
        self.b = torch.zeros(num_outputs, requires_grad=True)

    def parameters(self):
        """What is trained, by hand: the module knows of no parameter here."""
        return [self.W, self.b]

    def forward(self, X):
        X = X.reshape((-1, self.W.shape[0]))
        return softmax(torch.matmul(X, self.W) + self.b)

    def loss(self, y_hat, y, averaged=True):
        return cross_entropy(y_hat, y, averaged)
