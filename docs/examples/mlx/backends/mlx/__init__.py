"""mlx behind the shared interface, and a drop-in for the book's ``d2l`` module."""

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers
from mlx.utils import tree_flatten, tree_map, tree_unflatten

from framework_parity.common.training.eager_classifier import EagerClassifier
from framework_parity.common.training.eager_trainer import EagerTrainer
from framework_parity.common.training.public_interface import complete


def tensor(values):
    """An array of ``values``: numbers, nested lists or an array; fractions are float32."""
    return mx.array(values)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return np.array(tensor)


def seed(number):
    """Seed the generator that parameters and shuffles are drawn from with a ``number``."""
    mx.random.seed(number)


def softmax(X, stable=False):
    """Exponentials of each row of ``X``, divided by their sum; ``stable`` for large ones."""
    X_exp = mx.exp(X - X.max(axis=1, keepdims=True) if stable else X)
    return X_exp / X_exp.sum(axis=1, keepdims=True)


def cross_entropy(y_hat, y, averaged=True):
    """Negative logarithm of the probability in ``y_hat`` of each class ``y``.

    The mean over examples if ``averaged``; else the loss of each.
    """
    losses = -mx.log(y_hat[mx.arange(len(y)), y])
    return losses.mean() if averaged else losses


def cross_entropy_one_hot(y_hat, y, averaged=True):
    """The same from the definition, −Σ_j y_j log ŷ_j; arguments as of :func:`cross_entropy`."""
    one_hot = (y[:, None] == mx.arange(y_hat.shape[1])).astype(y_hat.dtype)
    losses = -(one_hot * mx.log(y_hat)).sum(axis=1)
    return losses.mean() if averaged else losses


class SGD:
    """``parameter ← parameter − lr × gradient``, by hand; ``lr`` is the learning rate."""

    def __init__(self, lr):
        self.lr, self.state = lr, {}

    def update(self, model, gradients):
        """Update the trained parameters of a ``model`` from a tree of ``gradients``."""
        parameters = model.trainable_parameters()
        model.update(tree_map(lambda p, g: p - self.lr * g, parameters, gradients))


class Classifier(nn.Module, EagerClassifier):
    """A classifier in mlx whose ``forward`` gives logits, until a subclass says otherwise.

    Every array that is an attribute is trained, unless its name begins with ``_``.
    """

    tensor, numpy = staticmethod(tensor), staticmethod(numpy)

    def loss(self, y_hat, y, averaged=True):
        return nn.losses.cross_entropy(y_hat, y, reduction="mean" if averaged else "none")

    def configure_optimizers(self):
        return optimizers.SGD(self.lr)

    def named_tensors(self):
        return dict(tree_flatten(self.trainable_parameters()))

    def set_tensor(self, name, value):
        self.update(tree_unflatten([(name, tensor(value))]))


class SoftmaxRegressionScratch(Classifier):
    """By hand; ``forward`` gives probabilities.

    It has ``num_inputs`` features, ``num_outputs`` classes, the recipe's ``lr`` and ``sigma``.
    """

    def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.W = sigma * mx.random.normal((num_inputs, num_outputs))
        self.b = mx.zeros(num_outputs)

    def forward(self, X):
        return softmax(X.reshape(len(X), -1) @ self.W + self.b)

    def loss(self, y_hat, y, averaged=True):
        return cross_entropy(y_hat, y, averaged)

    def configure_optimizers(self):
        return SGD(self.lr)


class SoftmaxRegression(Classifier):
    """From layers, loss and optimizer of mlx; ``num_outputs`` classes, learning rate ``lr``."""

    names = {"W": "net.weight.T", "b": "net.bias"}

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = None

    def _build(self, num_inputs):
        if self.net is None:  # MLX has no lazy layers
            self.net = nn.Linear(num_inputs, self.num_outputs)

    def forward(self, X):
        X = X.reshape(len(X), -1)
        self._build(X.shape[1])
        return self.net(X)

    def set_parameters(self, parameters):
        self._build(len(parameters["W"]))
        super().set_parameters(parameters)


class Trainer(EagerTrainer):
    """Trains an mlx :class:`Classifier`, eagerly, on data that is in memory as one array."""

    dtypes = ("float32",)  # its exp has seven digits, in float64 too

    @staticmethod
    def train_step(model, optimizer, X, y):
        def loss_and_scores(X, y):
            y_hat = model(X)
            return model.loss(y_hat, y), y_hat

        (loss, y_hat), gradients = nn.value_and_grad(model, loss_and_scores)(X, y)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state, y_hat, loss)  # MLX is lazy until told
        return y_hat, loss, dict(tree_flatten(gradients))

    def shuffle(self, num_examples):
        return numpy(mx.random.permutation(num_examples))


complete(globals())
