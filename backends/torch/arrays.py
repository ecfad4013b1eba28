"""NumPy's arrays as PyTorch's tensors and back, by the book's names."""

import torch

from framework_parity.backends.torch.device import in_use


def tensor(values):
    """A tensor.

    Args:
        values: numbers, nested lists or an array; fractions are float32 unless they say more.
    """
    return torch.tensor(values, device=in_use())


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return tensor.detach().cpu().numpy()
