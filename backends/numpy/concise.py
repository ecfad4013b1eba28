"""Softmax regression from NumPy's own parts, straight from logits."""

import numpy as np

from framework_parity.backends.numpy.classifier import Classifier, row_max


class SoftmaxRegression(Classifier):
    """Softmax regression; ``forward`` gives logits, and the first batch sets the input width.

    Args:
        num_outputs: classes.
        lr: learning rate.
    """

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.W = None
        self.b = np.zeros(num_outputs, dtype=np.float32)

    def forward(self, X):
        X = X.reshape(len(X), -1)
        if self.W is None:
            self.W = np.random.normal(0, 0.01, (X.shape[1], self.num_outputs)).astype(np.float32)
        return X @ self.W + self.b

    def gradients(self, X, y_hat, y):
        error = np.exp(y_hat - row_max(y_hat))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(len(y)), y] -= 1
        error /= error.dtype.type(len(y))
        # (errorᵀ X)ᵀ is Xᵀ error, in less time where the error is narrow
        return {"W": (error.T @ X.reshape(len(X), -1)).T, "b": error.sum(axis=0)}
