"""Softmax regression from Keras' own layers, loss and optimizer."""

import tensorflow as tf

from framework_parity.backends.tensorflow.classifier import Classifier


class SoftmaxRegression(Classifier):
    """Softmax regression; ``forward`` gives logits, and the first batch sets the input width.

    Args:
        num_outputs: classes.
        lr: learning rate.
    """

    def __init__(self, num_outputs, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = self._layers(tf.keras.config.floatx())

    def _layers(self, dtype):
        net = tf.keras.models.Sequential()
        net.add(tf.keras.layers.Flatten(dtype=dtype))
        net.add(tf.keras.layers.Dense(self.num_outputs, dtype=dtype))
        return net

    def named_tensors(self):
        dense = self.net.layers[-1]
        return {"W": dense.kernel, "b": dense.bias}

    def set_parameters(self, parameters):
        W = parameters["W"]
        if self.net.layers[-1].compute_dtype != W.dtype:
            self.net = self._layers(W.dtype.name)
        if not self.net.built:
            self.net.build((None, len(W)))
        super().set_parameters(parameters)
