"""The data modules, giving batches as JAX arrays: images of shape ``(n, h, w, 1)``."""

import jax

from common import data


class _Arrays:
    def tensors(self, X, y):
        return jax.device_put((X[..., None] if X.ndim == 3 else X, y))


class DataModule(_Arrays, data.DataModule):
    __doc__ = data.DataModule.__doc__


class FashionMNIST(_Arrays, data.FashionMNIST):
    __doc__ = data.FashionMNIST.__doc__


class Digits(_Arrays, data.Digits):
    __doc__ = data.Digits.__doc__


class Synthetic(_Arrays, data.Synthetic):
    __doc__ = data.Synthetic.__doc__
