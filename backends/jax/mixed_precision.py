"""Passes of a Flax model in a narrower format than that of its parameters."""

import jax
import numpy as np
from jax import numpy as jnp


def mixed(apply, dtype, scale):
    """What ``apply`` is where forward and backward passes are computed in another format.

    Of each pass the parameters, which stay as they are, and the features are rounded to it, and
    what the model gives is float32 again. On its way back the gradient is multiplied by the loss
    scale where it enters the format, and divided by it where it leaves: Micikevicius et al., Mixed
    Precision Training, arXiv 1710.03740.

    Args:
        apply: of the module.
        dtype: the format's name.
        scale: of the loss.
    """

    @jax.custom_vjp
    def given(params):
        return rounded(params, dtype)

    def back(_, gradients):
        return (jax.tree.map(lambda g: g.astype(jnp.float32) / scale, gradients),)

    given.defvjp(lambda params: (given(params), None), back)

    @jax.custom_vjp
    def result(y_hat):
        return y_hat.astype(jnp.float32)

    result.defvjp(
        lambda y_hat: (result(y_hat), jnp.zeros((), y_hat.dtype)),
        lambda like, gradient: ((gradient * scale).astype(like.dtype),),
    )

    def mixed_apply(variables, *X):
        return result(apply({"params": given(variables["params"])}, *rounded(X, dtype)))

    return mixed_apply


def rounded(tree, dtype):
    """Arrays of a tree in another format."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


def widened(array):
    """An array in NumPy, of a type that NumPy has."""
    narrow = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize == 2
    return np.asarray(array.astype(jnp.float32) if narrow else array)
