"""What the book's exercises ask of PyTorch: exp, in every number format."""

import torch

TYPES = {
    "FP64": torch.float64,
    "FP32": torch.float32,
    "BF16": torch.bfloat16,
    "FP16": torch.float16,
    "INT8": torch.int8,
}


def exp(values, number_format):
    """e to the power of each value in a number format, as float64, and the name of its type."""
    powers = torch.exp(torch.from_numpy(values).to(TYPES[number_format]))
    return powers.double().numpy(), str(powers.dtype).removeprefix("torch.")
