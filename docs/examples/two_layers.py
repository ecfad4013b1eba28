"""A network of two layers in every framework: the same parameters, the same mathematics.

compare.py model docs/examples/two_layers.py
"""

import numpy as np

HIDDEN = 32
PARAMETERS = {
    "W1": ("inputs", HIDDEN),
    "b1": (HIDDEN,),
    "W2": (HIDDEN, "outputs"),
    "b2": ("outputs",),
}


def numpy_model(d2l, num_inputs, num_outputs, lr):
    class TwoLayers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W1, self.b1 = np.zeros((num_inputs, HIDDEN)), np.zeros(HIDDEN)
            self.W2, self.b2 = np.zeros((HIDDEN, num_outputs)), np.zeros(num_outputs)

        def forward(self, X):
            return np.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2

        def gradients(self, X, y_hat, y):
            hidden = np.tanh(X @ self.W1 + self.b1)
            exp = np.exp(y_hat - y_hat.max(axis=1, keepdims=True))
            error = exp / exp.sum(axis=1, keepdims=True)
            error[np.arange(len(y)), y] -= 1
            error /= error.dtype.type(len(y))
            below = (error @ self.W2.T) * (1 - hidden**2)
            return {
                "W1": X.T @ below,
                "b1": below.sum(axis=0),
                "W2": hidden.T @ error,
                "b2": error.sum(axis=0),
            }

    return TwoLayers()


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    class TwoLayers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W1 = nn.Parameter(torch.zeros(num_inputs, HIDDEN))
            self.b1 = nn.Parameter(torch.zeros(HIDDEN))
            self.W2 = nn.Parameter(torch.zeros(HIDDEN, num_outputs))
            self.b2 = nn.Parameter(torch.zeros(num_outputs))

        def forward(self, X):
            return torch.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2

    return TwoLayers()


def jax_model(d2l, num_inputs, num_outputs, lr):
    from flax import linen as nn

    class TwoLayers(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            zeros = nn.initializers.zeros
            W1 = self.param("W1", zeros, (num_inputs, HIDDEN))
            b1 = self.param("b1", zeros, (HIDDEN,))
            W2 = self.param("W2", zeros, (HIDDEN, num_outputs))
            b2 = self.param("b2", zeros, (num_outputs,))
            return nn.tanh(X @ W1 + b1) @ W2 + b2

    return TwoLayers(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import tensorflow as tf

    class TwoLayers(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.W1 = tf.Variable(tf.zeros((num_inputs, HIDDEN)))
            self.b1 = tf.Variable(tf.zeros(HIDDEN))
            self.W2 = tf.Variable(tf.zeros((HIDDEN, num_outputs)))
            self.b2 = tf.Variable(tf.zeros(num_outputs))

        def forward(self, X):
            return tf.tanh(X @ self.W1 + self.b1) @ self.W2 + self.b2

    return TwoLayers()


def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import np as mx

    class TwoLayers(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.W1, self.b1 = mx.zeros((num_inputs, HIDDEN)), mx.zeros(HIDDEN)
            self.W2, self.b2 = mx.zeros((HIDDEN, num_outputs)), mx.zeros(num_outputs)
            for array in (self.W1, self.b1, self.W2, self.b2):
                array.attach_grad()

        def forward(self, X):
            return mx.dot(mx.tanh(mx.dot(X, self.W1) + self.b1), self.W2) + self.b2

    return TwoLayers()
