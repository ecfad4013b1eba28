"""NumPy's arrays as MXNet's and back, by the book's names."""

import numpy as onp
from mxnet import np


def tensor(values):
    """An array.

    MXNet alone would make float32 of whole numbers, too, which are no classes then.

    Args:
        values: numbers, nested lists or NumPy's array; fractions are float32.
    """
    values = onp.asarray(values)
    return np.array(values, dtype="float32" if values.dtype.kind == "f" else values.dtype)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return tensor.asnumpy()
