"""Softmax regression from scratch, in TensorFlow."""

import tensorflow as tf

from framework_parity.backends.tensorflow.classifier import Classifier


def softmax(X, stable=False):
    """Exponentials of each row, divided by their sum.

    Args:
        X: logits, shape ``(n, num_outputs)``.
        stable: subtract each row's largest entry first, which leaves the result the same and
            keeps the exponentials from overflowing.
    """
    if stable:
        X = X - tf.reduce_max(X, 1, keepdims=True)
    X_exp = tf.exp(X)
    return X_exp / tf.reduce_sum(X_exp, 1, keepdims=True)


def cross_entropy(y_hat, y, averaged=True):
    """Negative logarithm of the probability given to each label.

    Args:
        y_hat: probabilities, shape ``(n, num_outputs)``.
        y: classes, shape ``(n,)``.
        averaged: the mean over examples; else the loss of each, shape ``(n,)``.
    """
    losses = -tf.math.log(tf.gather(y_hat, y, axis=1, batch_dims=1))
    return tf.reduce_mean(losses) if averaged else losses


def cross_entropy_one_hot(y_hat, y, averaged=True):
    """The same from the definition: −Σ_j y_j log ŷ_j with one-hot labels.

    Arguments as of :func:`cross_entropy`.
    """
    y_hat = tf.convert_to_tensor(y_hat)
    one_hot = tf.one_hot(y, depth=y_hat.shape[-1], dtype=y_hat.dtype)
    losses = -tf.reduce_sum(one_hot * tf.math.log(y_hat), 1)
    return tf.reduce_mean(losses) if averaged else losses


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
        self.W = tf.Variable(tf.random.normal((num_inputs, num_outputs), 0, sigma))
        self.b = tf.Variable(tf.zeros(num_outputs))

    def forward(self, X):
        X = tf.reshape(X, (-1, self.W.shape[0]))
        return softmax(tf.matmul(X, self.W) + self.b)

    def loss(self, y_hat, y, averaged=True):
        return cross_entropy(y_hat, y, averaged)
