"""Arrays by the book's names."""

import numpy as np


def tensor(values):
    """An array of numbers or nested lists; fractions are float32 unless they say more."""
    array = np.array(values)
    said = isinstance(values, np.ndarray)
    return array if said or array.dtype.kind != "f" else array.astype(np.float32)


def numpy(tensor):
    """The array itself."""
    return np.asarray(tensor)
