"""Arrays by the book's names."""

import numpy as np


def tensor(values):
    """An array.

    Args:
        values: numbers or nested lists; fractions are float32 unless they say more.
    """
    array = np.array(values)
    said = isinstance(values, np.ndarray)
    return array if said or array.dtype.kind != "f" else array.astype(np.float32)


def numpy(tensor):
    """The ``tensor`` itself, which is an array."""
    return np.asarray(tensor)
