"""The data modules, giving batches as MXNet arrays: images of shape ``(n, 1, h, w)``."""

from mxnet import np

from framework_parity.common.data import data_module as data
from framework_parity.common.data import datasets


class _Tensors:
    def tensors(self, X, y):
        X = np.array(X, dtype=X.dtype)
        return np.expand_dims(X, 1) if X.ndim == 3 else X, np.array(y, dtype=y.dtype)

    def visualize(self, batch, *args, **kwargs):
        # numpy.asarray makes objects of an MXNet array
        arrays = [part.asnumpy() if isinstance(part, np.ndarray) else part for part in batch]
        return super().visualize(arrays, *args, **kwargs)

    visualize.__doc__ = data.DataModule.visualize.__doc__


class DataModule(_Tensors, data.DataModule):
    __doc__ = data.DataModule.__doc__


class FashionMNIST(_Tensors, datasets.FashionMNIST):
    __doc__ = datasets.FashionMNIST.__doc__


class Digits(_Tensors, datasets.Digits):
    __doc__ = datasets.Digits.__doc__


class Synthetic(_Tensors, datasets.Synthetic):
    __doc__ = datasets.Synthetic.__doc__
