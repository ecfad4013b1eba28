"""Softmax regression from scratch, in MXNet."""

from mxnet import np, npx

from framework_parity.backends.mxnet.classifier import Classifier


def softmax(X, stable=False):
    """Exponentials of each row, divided by their sum.

    Args:
        X: logits, shape ``(n, num_outputs)``.
        stable: subtract each row's largest entry first, which leaves the result the same and
            keeps the exponentials from overflowing.
    """
    if stable:
        X = X - X.max(axis=1, keepdims=True)
    X_exp = np.exp(X)
    return X_exp / X_exp.sum(1, keepdims=True)


def cross_entropy(y_hat, y, averaged=True):
    """Negative logarithm of the probability given to each label.

    Args:
        y_hat: probabilities, shape ``(n, num_outputs)``.
        y: classes, shape ``(n,)``.
        averaged: the mean over examples; else the loss of each, shape ``(n,)``.
    """
    # y_hat[np.arange(len(y_hat)), y], without the 0.5 ms that MXNet takes to read such an index
    losses = -np.log(npx.pick(y_hat, y))
    return losses.mean() if averaged else losses


def cross_entropy_one_hot(y_hat, y, averaged=True):
    """The same from the definition: −Σ_j y_j log ŷ_j with one-hot labels.

    Arguments as of :func:`cross_entropy`.
    """
    one_hot = npx.one_hot(y, y_hat.shape[1], dtype=y_hat.dtype)
    losses = -(one_hot * np.log(y_hat)).sum(1)
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
        self.W = np.random.normal(0, sigma, (num_inputs, num_outputs))
        self.b = np.zeros(num_outputs)
        self.W.attach_grad()
        self.b.attach_grad()

    def collect_params(self):
        """What is trained, by hand: gluon knows of no parameter here."""
        return [self.W, self.b]

    def forward(self, X):
        if X.ndim > 2:  # MXNet copies when it reshapes
            X = X.reshape((-1, self.W.shape[0]))
        return softmax(np.dot(X, self.W) + self.b)

    def loss(self, y_hat, y, averaged=True):
        return cross_entropy(y_hat, y, averaged)
