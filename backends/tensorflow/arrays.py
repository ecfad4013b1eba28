"""NumPy's arrays as TensorFlow's tensors and back, by the book's names."""

import tensorflow as tf


def tensor(values):
    """A tensor.

    Args:
        values: numbers, nested lists or an array; fractions are float32 unless they say more.
    """
    return tf.constant(values)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return tensor.numpy()
