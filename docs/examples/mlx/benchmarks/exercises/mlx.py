"""What the book asks of exp in MLX, in every number format."""

import mlx.core as mx
import numpy as np

TYPES = {"FP32": mx.float32, "BF16": mx.bfloat16, "FP16": mx.float16, "INT8": mx.int8}


def exp(values, number_format):
    """The powers of e in a number format, as float64, and the name of their type."""
    powers = mx.exp(mx.array(values).astype(TYPES[number_format]))
    return np.array(powers.astype(mx.float32), np.float64), str(powers.dtype).rpartition(".")[2]
