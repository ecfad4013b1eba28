"""NumPy's half of Trainer."""

from contextlib import contextmanager

import numpy as np

from framework_parity.backends.numpy.classifier import Classifier
from framework_parity.backends.numpy.optimizer import arguments
from framework_parity.common.training.eager_trainer import EagerTrainer


class Trainer(EagerTrainer):
    """Trains a NumPy :class:`Classifier`; one loop in Python over the batches of an epoch."""

    @staticmethod
    def train_step(model, optimizer, X, y):
        y_hat = model.forward(X)
        loss = model.loss(y_hat, y)
        if model.masks is not None:
            model.masks.layer = 0  # gradients begin with the first layer again
        gradients = model.gradients(X, y_hat, y)
        optimizer.step(model.clip_gradients(gradients))
        return y_hat, loss, gradients

    @staticmethod
    @contextmanager
    def dropout_from(masks):
        Classifier.masks = masks
        try:
            yield
        finally:
            Classifier.masks = None

    def build(self, dtype):
        super().build(dtype)
        for name, value in self.model.get_buffers().items():
            if value.dtype.kind == "f":
                self.model.buffers[name] = value.astype(dtype)

    def tensor(self, array):
        return array

    def optimizer_arguments(self, num_steps):
        return arguments(self.optim, num_steps)

    def place(self, X, y):
        super().place(X, y)
        self.X_batch = np.empty((min(self.batch_size, len(X)), *X.shape[1:]), X.dtype)

    def gather(self, rows):
        # Into memory that is in the cache; "clip" spares NumPy a copy of it (rows are valid).
        return np.take(self.X, rows, axis=0, out=self.X_batch[: len(rows)], mode="clip")
