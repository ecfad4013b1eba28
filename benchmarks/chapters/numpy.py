"""The book's two sections as a reader types them here, and what a reader builds next.

``d2l`` is this backend's public interface, in place of the book's module of that name.
"""

import numpy as np


def scratch(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from scratch: a subclass, then its methods one by one."""

    class SoftmaxRegressionScratch(d2l.Classifier):
        def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
            super().__init__()
            self.save_hyperparameters()
            self.W = np.random.normal(0, sigma, (num_inputs, num_outputs))
            self.W = self.W.astype(np.float32)
            self.b = np.zeros(num_outputs, dtype=np.float32)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def forward(self, X):
        X = X.reshape((-1, self.W.shape[0]))
        return d2l.softmax(X @ self.W + self.b)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def loss(self, y_hat, y):
        return d2l.cross_entropy(y_hat, y)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def gradients(self, X, y_hat, y):
        error = (y_hat - np.eye(self.num_outputs, dtype=np.float32)[y]) / np.float32(len(y))
        return {"W": X.reshape((-1, self.W.shape[0])).T @ error, "b": error.sum(axis=0)}

    return SoftmaxRegressionScratch(num_inputs, num_outputs, lr)


def concise(d2l, num_inputs, num_outputs, lr):
    """Softmax regression as the backend ships it; the width comes from the first batch."""
    return d2l.SoftmaxRegression(num_outputs, lr)


def predict(model, trainer, data):
    """The first validation batch and its predicted classes."""
    X, y = next(iter(data.val_dataloader()))
    return X, y, model(X).argmax(axis=1)


def show_wrong(data, X, y, preds):
    """Draw the images that were classified wrongly, each under its true and predicted label."""
    wrong = preds.astype(y.dtype) != y
    X, y, preds = X[wrong], y[wrong], preds[wrong]
    labels = [
        a + "\n" + b for a, b in zip(data.text_labels(y), data.text_labels(preds), strict=True)
    ]
    return (X, y), labels, data.visualize([X, y], labels=labels)


def two_layers(d2l, num_inputs, num_hidden, num_outputs, lr):
    """A classifier with one hidden layer, which the suite knows nothing of."""

    class TwoLayers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            random = np.random.default_rng(0)
            self.W1 = random.normal(0, 0.3, (num_inputs, num_hidden)).astype(np.float32)
            self.b1 = np.zeros(num_hidden, dtype=np.float32)
            self.W2 = random.normal(0, 0.3, (num_hidden, num_outputs)).astype(np.float32)
            self.b2 = np.zeros(num_outputs, dtype=np.float32)

        def hidden(self, X):
            return np.maximum(X @ self.W1 + self.b1, 0)

        def forward(self, X):
            return self.hidden(X) @ self.W2 + self.b2

        def gradients(self, X, y_hat, y):
            hidden = self.hidden(X)
            error = d2l.softmax(y_hat, stable=True)
            error[np.arange(len(y)), y] -= 1
            error /= np.float32(len(y))
            back = (error @ self.W2.T) * (hidden > 0)
            return {
                "W1": X.T @ back,
                "b1": back.sum(axis=0),
                "W2": hidden.T @ error,
                "b2": error.sum(axis=0),
            }

    return TwoLayers()


def concise_with_sgd_by_hand(d2l, num_inputs, num_outputs, lr):
    """The concise model with another updater: minibatch SGD as momentum of zero."""

    class Replaced(d2l.SoftmaxRegression):
        def configure_optimizers(self):
            return _Momentum(self.named_tensors(), self.lr)

    return Replaced(num_outputs, lr)


def scratch_with_framework_sgd(d2l, num_inputs, num_outputs, lr):
    """The from-scratch model with another updater."""

    class Replaced(d2l.SoftmaxRegressionScratch):
        def configure_optimizers(self):
            return _Momentum(self.named_tensors(), self.lr)

    return Replaced(num_inputs, num_outputs, lr)


class _Momentum:
    """Any object with ``step(gradients)`` is an optimizer here."""

    def __init__(self, parameters, lr, momentum=0.0):
        self.parameters, self.lr, self.momentum = parameters, lr, momentum
        self.velocity = {name: np.zeros_like(value) for name, value in parameters.items()}

    def step(self, gradients):
        for name, gradient in gradients.items():
            velocity = self.velocity[name]
            velocity *= np.float32(self.momentum)
            velocity += gradient
            self.parameters[name] -= self.parameters[name].dtype.type(self.lr) * velocity
