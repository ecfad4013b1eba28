"""The data modules, giving batches as TensorFlow tensors: images of shape ``(n, h, w, 1)``."""

import tensorflow as tf

from common import data


class _Tensors:
    def tensors(self, X, y):
        X = tf.constant(X)
        return tf.expand_dims(X, -1) if X.ndim == 3 else X, tf.constant(y)


class DataModule(_Tensors, data.DataModule):
    __doc__ = data.DataModule.__doc__


class FashionMNIST(_Tensors, data.FashionMNIST):
    __doc__ = data.FashionMNIST.__doc__


class Digits(_Tensors, data.Digits):
    __doc__ = data.Digits.__doc__


class Synthetic(_Tensors, data.Synthetic):
    __doc__ = data.Synthetic.__doc__
