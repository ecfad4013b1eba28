"""NumPy's arrays as PyTorch's tensors and back, by the book's names."""

import torch


def tensor(values):
    """A tensor of numbers, nested lists or an array; fractions are float32 unless they say more."""
    return torch.tensor(values)


def numpy(tensor):
    """The tensor's numbers in NumPy."""
    return tensor.detach().cpu().numpy()
