"""NumPy's arrays as JAX's and back, by the book's names."""

import numpy as np
from jax import numpy as jnp


def tensor(values):
    """An array.

    Args:
        values: numbers, nested lists or NumPy's array; fractions are float32.
    """
    return jnp.array(values)


def numpy(tensor):
    """The numbers of a ``tensor``, in NumPy."""
    return np.asarray(tensor)
