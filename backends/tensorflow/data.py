"""The data modules, giving batches as TensorFlow tensors: images of shape ``(n, h, w, 1)``."""

import tensorflow as tf

from framework_parity.common.data import data_module as data
from framework_parity.common.data import datasets


class _Tensors:
    def tensors(self, X, y):
        X = tf.constant(X)
        return tf.expand_dims(X, -1) if X.ndim == 3 else X, tf.constant(y)


class DataModule(_Tensors, data.DataModule):
    __doc__ = data.DataModule.__doc__


class FashionMNIST(_Tensors, datasets.FashionMNIST):
    __doc__ = datasets.FashionMNIST.__doc__


class Digits(_Tensors, datasets.Digits):
    __doc__ = datasets.Digits.__doc__


class Synthetic(_Tensors, datasets.Synthetic):
    __doc__ = datasets.Synthetic.__doc__
