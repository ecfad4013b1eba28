"""What the book's exercises ask of TensorFlow: exp, in every number format."""

import tensorflow as tf

TYPES = {
    "FP64": tf.float64,
    "FP32": tf.float32,
    "BF16": tf.bfloat16,
    "FP16": tf.float16,
    "INT8": tf.int8,
}


def exp(values, number_format):
    """e to the power of each value, computed in a number format.

    Args:
        values: float64, shape ``(n,)``, numbers that the format holds.
        number_format: a key of :data:`TYPES`.

    Returns:
        The powers as float64, and the name of the type in which they came.
    """
    powers = tf.exp(tf.cast(values, TYPES[number_format]))
    return tf.cast(powers, tf.float64).numpy(), powers.dtype.name
