"""What the book's exercises ask of MXNet: exp, in every number format."""

from mxnet import np

TYPES = {
    "FP64": "float64",
    "FP32": "float32",
    "BF16": "bfloat16",
    "FP16": "float16",
    "INT8": "int8",
}


def exp(values, number_format):
    """e to the power of each value in a number format, as float64, and the name of its type."""
    powers = np.exp(np.array(values, dtype=TYPES[number_format])).asnumpy()
    return powers.astype("float64"), powers.dtype.name
