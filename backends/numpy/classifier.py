"""NumPy's half of Classifier. There is no autograd: a model brings its gradients."""

import numpy as np

from framework_parity.backends.numpy.optimizer import SGD
from framework_parity.common.training.dropout import scaled
from framework_parity.common.training.eager_classifier import EagerClassifier


def tensor(values):
    """An array of ``values``: numbers or nested lists.

    Fractions are float32 unless they say more.
    """
    array = np.array(values)
    said = isinstance(values, np.ndarray)
    return array if said or array.dtype.kind != "f" else array.astype(np.float32)


def numpy(tensor):
    """The ``tensor`` itself, which is an array."""
    return np.asarray(tensor)


class Classifier(EagerClassifier):
    """A classifier in NumPy whose ``forward`` gives logits.

    A subclass sets its parameters as array attributes (or overrides :meth:`named_tensors`) and
    defines :meth:`forward` and :meth:`gradients`. What it keeps besides and a forward pass moves,
    it has in a dictionary of arrays ``self.buffers``, ``{"norm.running_mean": …}``; it asks
    ``self.training`` whether the pass is one of training.
    """

    masks = None  # of :meth:`dropout`, where a comparison gives them

    tensor, numpy = staticmethod(tensor), staticmethod(numpy)

    def named_tensors(self):
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
        y_hat, y = y_hat.reshape(-1, y_hat.shape[-1]), y.reshape(-1)
        losses = -log_softmax(y_hat)[np.arange(len(y_hat)), y]
        return losses.mean() if averaged else losses

    def configure_optimizers(self):
        return SGD(self.named_tensors(), self.lr)

    def set_tensor(self, name, value):
        setattr(self, name, value)

    def get_buffers(self):
        return {name: np.array(value) for name, value in getattr(self, "buffers", {}).items()}

    def set_buffers(self, buffers):
        for name, value in buffers.items():
            self.buffers[name] = np.array(value, dtype=self.buffers[name].dtype)

    def dropout(self, X, rate):
        """``X``, in training each number zero with probability ``rate``, else over 1 − ``rate``.

        Of ones it is what a gradient is multiplied with. A forward pass that is made again for
        gradients drops the same.
        """
        if not (self.training and rate):
            return X
        given = self.masks is not None and self.masks.drops(rate)
        mask = self.masks.keep(X.shape, rate) if given else np.random.random(X.shape) >= rate
        return X * scaled(mask, rate, X.dtype)


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
