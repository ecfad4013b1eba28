"""Where new tensors are put.

``torch.set_default_device`` would do, but leads every call of PyTorch through Python from then on.
"""

GPU = "cuda"
"""What PyTorch calls a GPU, AMD's too."""

in_use = None
"""The device of new tensors; None for PyTorch's default, the processor."""
