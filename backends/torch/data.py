"""The data modules, giving batches as PyTorch tensors: images of shape ``(n, 1, h, w)``."""

import torch

from framework_parity.backends.torch.device import in_use
from framework_parity.common.data import data_module as data
from framework_parity.common.data import datasets


class _Tensors:
    def tensors(self, X, y):
        X, y = (torch.as_tensor(array, device=in_use()) for array in (X, y))
        return X.unsqueeze(1) if X.ndim == 3 else X, y.long()

    def visualize(self, batch, *args, **kwargs):
        # numpy.asarray refuses a tensor of a GPU
        arrays = [part.cpu() if isinstance(part, torch.Tensor) else part for part in batch]
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
