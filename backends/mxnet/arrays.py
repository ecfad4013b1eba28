"""NumPy's arrays as MXNet's and back, by the book's names."""

import numpy as onp
from mxnet import np


def tensor(values):
    """An array of numbers, nested lists or NumPy's array; fractions are float32.

    MXNet alone would make float32 of whole numbers, too, which are no classes then.
    """
    values = onp.asarray(values)
    return np.array(values, dtype="float32" if values.dtype.kind == "f" else values.dtype)


def numpy(tensor):
    """The array's numbers in NumPy."""
    return tensor.asnumpy()
