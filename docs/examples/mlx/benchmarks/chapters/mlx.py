"""The book's two sections as a reader types them in MLX, and what a reader builds next."""

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers


def scratch(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from scratch: a subclass, then its methods one by one."""

    class SoftmaxRegressionScratch(d2l.Classifier):
        def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
            super().__init__()
            self.save_hyperparameters()
            self.W = mx.random.normal((num_inputs, num_outputs), scale=sigma)
            self.b = mx.zeros(num_outputs)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def forward(self, X):
        return d2l.softmax(X.reshape((-1, self.W.shape[0])) @ self.W + self.b)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def loss(self, y_hat, y):
        return d2l.cross_entropy(y_hat, y)

    return SoftmaxRegressionScratch(num_inputs, num_outputs, lr)


def concise(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from the framework's layers, which want the width of their inputs."""

    class SoftmaxRegression(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr, self.net = lr, nn.Linear(num_inputs, num_outputs)

        def forward(self, X):
            return self.net(X.reshape(len(X), -1))

    return SoftmaxRegression()


def predict(model, trainer, data):
    """The first validation batch and its predicted classes."""
    X, y = next(iter(data.val_dataloader()))
    return X, y, model(X).argmax(axis=1)


def show_wrong(data, X, y, preds):
    """Draw the images that were classified wrongly, each under its true and predicted label."""
    wrong = mx.array(np.flatnonzero(np.array(preds != y)))  # MLX reads no booleans as an index
    X, y, preds = X[wrong], y[wrong], preds[wrong]
    names = map(data.text_labels, (y, preds))
    labels = ["\n".join(pair) for pair in zip(*names, strict=True)]
    return (X, y), labels, data.visualize([X, y], labels=labels)


def two_layers(d2l, num_inputs, num_hidden, num_outputs, lr):
    """A classifier with one hidden layer, which the suite knows nothing of."""
    model, one = d2l.Classifier(), nn.Linear(num_inputs, num_hidden)
    model.lr, model.net = lr, nn.Sequential(one, nn.ReLU(), nn.Linear(num_hidden, num_outputs))
    return model


def concise_with_sgd_by_hand(d2l, num_inputs, num_outputs, lr):
    """The concise model with another updater: SGD by hand."""
    model = d2l.SoftmaxRegression(num_outputs, lr)
    model.configure_optimizers = lambda: d2l.SGD(lr)
    return model


def scratch_with_framework_sgd(d2l, num_inputs, num_outputs, lr):
    """The from-scratch model with another updater: the framework's SGD."""
    model = d2l.SoftmaxRegressionScratch(num_inputs, num_outputs, lr)
    model.configure_optimizers = lambda: optimizers.SGD(lr)
    return model
