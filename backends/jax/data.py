"""The data modules, giving batches as JAX arrays: images of shape ``(n, h, w, 1)``."""

import jax

from framework_parity.common.data import data_module as data
from framework_parity.common.data import datasets


class _Arrays:
    def tensors(self, X, y):
        return jax.device_put((X[..., None] if X.ndim == 3 else X, y))


class DataModule(_Arrays, data.DataModule):
    __doc__ = data.DataModule.__doc__


class FashionMNIST(_Arrays, datasets.FashionMNIST):
    __doc__ = datasets.FashionMNIST.__doc__


class Digits(_Arrays, datasets.Digits):
    __doc__ = datasets.Digits.__doc__


class Synthetic(_Arrays, datasets.Synthetic):
    __doc__ = datasets.Synthetic.__doc__
