"""NumPy's half of Classifier. There is no autograd: a model brings its gradients."""

from collections.abc import Mapping

import numpy as np

from framework_parity.backends.numpy.optimizer import SGD
from framework_parity.common.training.classifier import Classifier as AbstractClassifier


class Classifier(AbstractClassifier):
    """A classifier in NumPy whose ``forward`` gives logits.

    A subclass sets its parameters as array attributes (or overrides :meth:`parameters`) and
    defines :meth:`forward` and :meth:`gradients`.
    """

    def __call__(self, X):
        return self.forward(X)

    def parameters(self):
        """The parameters by name, the arrays themselves: the attributes that are float arrays."""
        return {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        }

    def forward(self, X):
        raise NotImplementedError(f"{type(self).__name__} defines no forward(X)")

    def gradients(self, X, y_hat, y):
        """Gradients of the mean loss by parameter name.

        Args:
            X: examples, shape ``(n, num_inputs)``.
            y_hat: ``forward(X)``.
            y: classes, shape ``(n,)``.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no gradients(X, y_hat, y)")

    def loss(self, y_hat, y, averaged=True):
        losses = -log_softmax(y_hat)[np.arange(len(y_hat)), y]
        return losses.mean() if averaged else losses

    def accuracy(self, y_hat, y, averaged=True):
        correct = (y_hat.argmax(axis=1) == y).astype(np.float32)
        return correct.mean() if averaged else correct

    def configure_optimizers(self):
        return SGD(self.parameters(), self.lr)

    def get_parameters(self):
        return {name: value.copy() for name, value in self.parameters().items()}

    def set_parameters(self, parameters: Mapping[str, np.ndarray]):
        for name, value in parameters.items():
            setattr(self, name, np.array(value))


def log_softmax(logits):
    """Logarithms of the softmax of each row.

    The largest logit is subtracted first: a logarithm of the sum as large as the logits
    themselves would round coarsely enough to show in the parameters after ten epochs.
    """
    shifted = logits - row_max(logits)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def row_max(logits):
    """``logits.max(axis=1, keepdims=True)``, by its place: NumPy finds that three times as fast."""
    return logits[np.arange(len(logits)), logits.argmax(axis=1)][:, None]


def evaluate_accuracy(model, data):
    """Accuracy of a model on the validation examples of a data module.

    Args:
        model: a :class:`Classifier` that has parameters.
        data: gives the batches.

    Returns:
        The part of the examples that is classified rightly, 0 to 1.
    """
    correct = [model.accuracy(model(X), y, averaged=False) for X, y in data.val_dataloader()]
    return float(np.concatenate(correct).mean())
