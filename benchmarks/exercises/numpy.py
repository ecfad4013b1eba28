"""What the book's exercises ask of NumPy: exp, in every number format."""

import numpy as np

TYPES = {
    "FP64": "float64",
    "FP32": "float32",
    "BF16": "bfloat16",
    "FP16": "float16",
    "INT8": "int8",
}


def exp(values, number_format):
    """e to the power of each value in a number format, as float64, and the name of its type."""
    with np.errstate(over="ignore", under="ignore"):
        powers = np.exp(values.astype(TYPES[number_format]))
    return powers.astype(np.float64), powers.dtype.name
