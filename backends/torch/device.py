"""Where new tensors are put.

``torch.set_default_device`` would do, but leads every call of PyTorch through Python from then on.
"""

import torch

GPU = "cuda"
"""What PyTorch calls a GPU, AMD's too."""

_in_use = None


def in_use():
    """The device of new tensors; None for PyTorch's default, the processor."""
    return _in_use


def use(name):
    """Put new tensors on a device from now on.

    Args:
        name: as PyTorch calls it; None for its default.
    """
    global _in_use
    _in_use = None if name is None else torch.device(name)
