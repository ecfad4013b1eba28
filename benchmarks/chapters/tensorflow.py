"""The book's two sections as a reader types them, and what a reader builds next.

``d2l`` is this backend's public interface, in place of the book's module of that name.
"""

import tensorflow as tf


def scratch(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from scratch: a subclass, then its methods one by one."""

    class SoftmaxRegressionScratch(d2l.Classifier):
        def __init__(self, num_inputs, num_outputs, lr, sigma=0.01):
            super().__init__()
            self.save_hyperparameters()
            self.W = tf.random.normal((num_inputs, num_outputs), 0, sigma)
            self.b = tf.zeros(num_outputs)
            self.W = tf.Variable(self.W)
            self.b = tf.Variable(self.b)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def forward(self, X):
        X = tf.reshape(X, (-1, self.W.shape[0]))
        return d2l.softmax(tf.matmul(X, self.W) + self.b)

    @d2l.add_to_class(SoftmaxRegressionScratch)
    def loss(self, y_hat, y):
        return -tf.reduce_mean(
            tf.math.log(tf.boolean_mask(y_hat, tf.one_hot(y, depth=y_hat.shape[-1])))
        )

    return SoftmaxRegressionScratch(num_inputs, num_outputs, lr)


def concise(d2l, num_inputs, num_outputs, lr):
    """Softmax regression from the framework's layers, as the book's section has it."""

    class SoftmaxRegression(d2l.Classifier):
        def __init__(self, num_outputs, lr):
            super().__init__()
            self.save_hyperparameters()
            self.net = tf.keras.models.Sequential()
            self.net.add(tf.keras.layers.Flatten())
            self.net.add(tf.keras.layers.Dense(num_outputs))

        def forward(self, X):
            return self.net(X)

    @d2l.add_to_class(SoftmaxRegression)
    def loss(self, Y_hat, Y, averaged=True):
        Y_hat = tf.reshape(Y_hat, (-1, Y_hat.shape[-1]))
        Y = tf.reshape(Y, (-1,))
        fn = tf.keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction="sum_over_batch_size" if averaged else None
        )
        return fn(Y, Y_hat)

    return SoftmaxRegression(num_outputs, lr)


def predict(model, trainer, data):
    """The first validation batch and its predicted classes."""
    X, y = next(iter(data.val_dataloader()))
    return X, y, tf.argmax(model(X), axis=1)


def show_wrong(data, X, y, preds):
    """Draw the images that were classified wrongly, each under its true and predicted label."""
    wrong = tf.cast(preds, y.dtype) != y
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
            self.net = tf.keras.models.Sequential(
                [
                    tf.keras.layers.Dense(num_hidden, activation="relu"),
                    tf.keras.layers.Dense(num_outputs),
                ]
            )

    return TwoLayers(lr)


def concise_with_sgd_by_hand(d2l, num_inputs, num_outputs, lr):
    """The concise model with another updater: SGD by hand."""

    class Replaced(d2l.SoftmaxRegression):
        def configure_optimizers(self):
            return d2l.SGD(self.lr)

    return Replaced(num_outputs, lr)


def scratch_with_framework_sgd(d2l, num_inputs, num_outputs, lr):
    """The from-scratch model with another updater: the framework's SGD."""

    class Replaced(d2l.SoftmaxRegressionScratch):
        def configure_optimizers(self):
            return tf.keras.optimizers.SGD(self.lr)

    return Replaced(num_inputs, num_outputs, lr)
