"""PyTorch's half of Trainer."""

import copy

import numpy as np
import torch

from common.trainer import EpochMetrics, batch_means
from common.trainer import Trainer as AbstractTrainer


class Trainer(AbstractTrainer):
    """Trains a PyTorch :class:`Classifier`, eagerly, on data that is in memory as one tensor."""

    def prepare(self, model, data, dtype):
        self.model, self.data = model, data
        self.X, self.y = map(_tensor, data.examples(train=True, dtype=dtype))
        self.X_val, self.y_val = map(_tensor, data.examples(train=False, dtype=dtype))
        with torch.no_grad():
            model(self.X[:1])  # builds lazy layers
        self.optim = model.configure_optimizers()

    def fit_epoch(self, order):
        order = torch.from_numpy(np.ascontiguousarray(order))
        losses, scores = [], []
        for rows in order.split(self.batch_size):
            X, y = self._gather(rows)
            y_hat, loss = self._step(self.model, self.optim, X, y)
            losses.append(loss)
            scores.append(y_hat)
        y_hat = torch.cat(scores)
        correct = self.model.accuracy(y_hat, self.y.index_select(0, order), averaged=False)
        return EpochMetrics(
            torch.stack(losses).double().numpy(), batch_means(correct.numpy(), self.batch_size)
        )

    @staticmethod
    def _step(model, optim, X, y):
        y_hat = model(X)
        loss = model.loss(y_hat, y)
        optim.zero_grad()
        loss.backward()
        optim.step()
        return y_hat.detach(), loss.detach()

    def _gather(self, rows):
        return self.X.index_select(0, rows), self.y.index_select(0, rows)

    def training_batch(self, rows):
        X, y = self._gather(torch.from_numpy(np.ascontiguousarray(rows)))
        return X.numpy(), y.numpy().astype(np.int32)

    def validation_batches(self, size):
        yield from zip(self.X_val.split(size), self.y_val.split(size), strict=True)

    @torch.no_grad()
    def evaluate(self, X, y):
        y_hat = self.model(X)
        return float(self.model.loss(y_hat, y)), float(self.model.accuracy(y_hat, y))

    @torch.no_grad()
    def predict(self, X):
        return self.model(X).numpy()

    def probe(self, parameters, X, y):
        model = copy.deepcopy(self.model)
        model.set_parameters(parameters)
        X, y = torch.tensor(X), _tensor(y)
        y_hat, loss = self._step(model, model.configure_optimizers(), X, y)
        arrays = {
            "data/X": X,
            "data/y": y,
            "forward/y_hat": y_hat,
            "example_loss": model.loss(y_hat, y, averaged=False),
            "loss": loss,
            "metric/accuracy": model.accuracy(y_hat, y),
        }
        arrays = {name: value.numpy() for name, value in arrays.items()}
        for name, value in model.get_parameters().items():
            arrays[f"update/{name}"] = value
        for name, value in model.get_gradients().items():
            arrays[f"gradient/{name}"] = value
        return arrays


def _tensor(array):
    """The array as a tensor; labels in the type that PyTorch indexes with."""
    if array.dtype.kind != "f":
        array = array.astype(np.int64)
    return torch.from_numpy(array)
