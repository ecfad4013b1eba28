"""The book's two sections as a reader types them, and what a reader builds next.

``d2l`` is this backend's public interface, in place of the book's module of that name.
"""

from mxnet import gluon, init, np
from mxnet.gluon import nn


def scratch(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from scratch: a subclass, then its methods one by one."""

    class SoftmaxRegressionScratch(d2l.Classifier):
        def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
            super().__init__()
            self.save_hyperparameters()
            self.W = np.random.normal(0, sigma, (num_inputs, num_outputs))
            self.b = np.zeros(num_outputs)
            self.W.attach_grad()
            self.b.attach_grad()

        def collect_params(self):
            return [self.W, self.b]

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def forward(self, X):
        X = X.reshape((-1, self.W.shape[0]))
        return d2l.softmax(np.dot(X, self.W) + self.b)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def loss(self, y_hat, y):
        return -np.log(y_hat[list(range(len(y_hat))), y]).mean()

    return SoftmaxRegressionScratch(num_inputs, num_outputs, lr)


def concise(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from the framework's layers, as the book's section has it."""

    class SoftmaxRegression(d2l.Classifier):
        def __init__(self, num_outputs, lr):
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Dense(num_outputs)
            self.net.initialize()

        def forward(self, X):
            return self.net(X)

    @d2l.add_to_class(SoftmaxRegression)
    def loss(self, Y_hat, Y, averaged=True):
        Y_hat = Y_hat.reshape((-1, Y_hat.shape[-1]))
        Y = Y.reshape((-1,))
        fn = gluon.loss.SoftmaxCrossEntropyLoss()
        losses = fn(Y_hat, Y)
        return losses.mean() if averaged else losses

    return SoftmaxRegression(num_outputs, lr)


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
        def __init__(self, lr):
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential()
            self.net.add(nn.Dense(num_hidden, activation="relu"), nn.Dense(num_outputs))
            self.net.initialize(init.Normal(0.3))

    return TwoLayers(lr)


def concise_with_sgd_by_hand(d2l, num_inputs, num_outputs, lr):
    """The concise model with another updater: SGD by hand."""

    class Replaced(d2l.SoftmaxRegression):
        def configure_optimizers(self):
            return d2l.SGD(self.collect_params(), self.lr)

    return Replaced(num_outputs, lr)


def scratch_with_framework_sgd(d2l, num_inputs, num_outputs, lr):
    """A model by hand with the framework's updater, for which gluon holds the parameters."""

    class Replaced(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W = self.params.get("W", shape=(num_inputs, num_outputs), init=init.Normal(0.01))
            self.b = self.params.get("b", shape=(num_outputs,), init=init.Zero())
            self.initialize()

        def forward(self, X):
            return d2l.softmax(np.dot(X, self.W.data()) + self.b.data())

        def loss(self, y_hat, y, averaged=True):
            return d2l.cross_entropy(y_hat, y, averaged)

        def configure_optimizers(self):
            return gluon.Trainer(self.collect_params(), "sgd", {"learning_rate": self.lr})

    return Replaced()
