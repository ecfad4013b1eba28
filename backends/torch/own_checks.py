"""What only this backend has to keep; the tests run every function of ``CHECKS``."""

from unittest import mock

import numpy as np
import torch

from backends.torch import DataModule, SoftmaxRegression, SoftmaxRegressionScratch, Trainer, trainer


def tensors_follow_the_device_in_use():
    """With PyTorch's device without memory in place of a GPU: it has shapes, and no values."""
    random = np.random.default_rng(0)
    examples = random.random((10, 5), np.float32), np.arange(10, dtype=np.int32) % 3
    data = DataModule(*examples, *examples, num_outputs=3, batch_size=4)
    read = []

    def read_shape(tensor):
        read.append(tensor.device.type)
        return np.zeros(tensor.shape)

    torch.set_default_device("meta")
    try:
        with mock.patch.object(trainer, "read", read_shape):
            for model in (SoftmaxRegression(3, 0.1), _scratch()):
                fit = Trainer(1)
                fit.batch_size = data.batch_size
                fit.prepare(model, data, "float32")
                fit.fit_epoch(np.arange(10, dtype=np.int32))
                fit.training_batch(np.arange(3, dtype=np.int32))
                fit.predict(fit.X_val)
                fit.shuffle(10)
                read += [tensor.device.type for tensor in model.named_tensors().values()]
    finally:
        torch.set_default_device(None)
    assert set(read) == {"meta"}


def _scratch():
    model = SoftmaxRegressionScratch(5, 3, 0.1)
    model.W = model.W.detach().to("meta").requires_grad_()  # ``_move`` cannot: it has no values
    return model


CHECKS = [tensors_follow_the_device_in_use]
