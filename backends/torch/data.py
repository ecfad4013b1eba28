"""The data modules, giving batches as PyTorch tensors: images of shape ``(n, 1, h, w)``."""

import torch

from common import data, datasets


class _Tensors:
    def tensors(self, X, y):
        X = torch.as_tensor(X)
        return X.unsqueeze(1) if X.ndim == 3 else X, torch.as_tensor(y).long()


class DataModule(_Tensors, data.DataModule):
    __doc__ = data.DataModule.__doc__


class FashionMNIST(_Tensors, datasets.FashionMNIST):
    __doc__ = datasets.FashionMNIST.__doc__


class Digits(_Tensors, datasets.Digits):
    __doc__ = datasets.Digits.__doc__


class Synthetic(_Tensors, datasets.Synthetic):
    __doc__ = datasets.Synthetic.__doc__
