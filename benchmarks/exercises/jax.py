"""What the book's exercises ask of JAX: exp, in every number format."""

import numpy as np
from jax import numpy as jnp

from framework_parity.backends.jax.trainer import enable_x64

TYPES = {
    "FP64": jnp.float64,
    "FP32": jnp.float32,
    "BF16": jnp.bfloat16,
    "FP16": jnp.float16,
    "INT8": jnp.int8,
}


def exp(values, number_format):
    """e to the power of each value in a number format, as float64, and the name of its type."""
    with enable_x64(number_format == "FP64"):
        powers = jnp.exp(jnp.asarray(values.astype(TYPES[number_format])))
        return np.asarray(powers).astype(np.float64), powers.dtype.name
