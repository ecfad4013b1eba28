"""NumPy's arrays as JAX's and back, by the book's names."""

import numpy as np
from jax import numpy as jnp


def tensor(values):
    """An array of numbers, nested lists or NumPy's array; fractions are float32."""
    return jnp.array(values)


def numpy(tensor):
    """The array's numbers in NumPy."""
    return np.asarray(tensor)
