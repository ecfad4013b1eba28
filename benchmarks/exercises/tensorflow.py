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
    """e to the power of each value in a number format, as float64, and the name of its type."""
    powers = tf.exp(tf.cast(values, TYPES[number_format]))
    return tf.cast(powers, tf.float64).numpy(), powers.dtype.name
