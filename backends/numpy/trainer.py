"""NumPy's half of Trainer."""

import copy

import numpy as np

from framework_parity.common.training.trainer import EpochMetrics, batch_means
from framework_parity.common.training.trainer import Trainer as AbstractTrainer


class Trainer(AbstractTrainer):
    """Trains a NumPy :class:`Classifier`; one loop in Python over the batches of an epoch."""

    def prepare(self, model, data, dtype):
        self.model, self.data = model, data
        self.place(*self.training_examples(dtype))
        self.X_val, self.y_val = data.examples(train=False, dtype=dtype)
        model.forward(self.X[:1])  # builds a model that waits for its input's width
        self.optim = model.configure_optimizers()

    def place(self, X, y):
        self.X, self.y = X, y

    def fit_epoch(self, order):
        losses, scores, fed = [], [], []
        size = min(self.batch_size, len(order))
        batch = np.empty((size, self.X.shape[1]), self.X.dtype)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            # Into memory that is in the cache; "clip" spares NumPy a copy of it (rows are valid).
            X = np.take(self.X, rows, axis=0, out=batch[: len(rows)], mode="clip")
            y = self.y[rows]
            if self.watched is not None:
                fed.append((X @ self.watched, y))
            y_hat, loss, _ = self._step(self.model, self.optim, X, y)
            losses.append(loss)
            scores.append(y_hat)
        if fed:
            X, y = map(np.concatenate, zip(*fed, strict=True))
            self.keep_fed(X, y, [len(y) for _, y in fed])
        correct = self.model.accuracy(np.concatenate(scores), self.y[order], averaged=False)
        return EpochMetrics(
            np.array(losses, dtype=np.float64), batch_means(correct, self.batch_size)
        )

    @staticmethod
    def _step(model, optim, X, y):
        y_hat = model.forward(X)
        loss = model.loss(y_hat, y)
        gradients = model.gradients(X, y_hat, y)
        optim.step(gradients)
        return y_hat, loss, gradients

    def shuffle(self, num_examples):
        return np.random.permutation(num_examples)

    def training_batch(self, rows):
        return self.X[rows], self.y[rows]

    def validation_batches(self, size):
        for start in range(0, len(self.X_val), size):
            yield self.X_val[start : start + size], self.y_val[start : start + size]

    def evaluate(self, X, y):
        y_hat = self.model.forward(X)
        return float(self.model.loss(y_hat, y)), float(self.model.accuracy(y_hat, y))

    def predict(self, X):
        return self.model.forward(X)

    def probe(self, parameters, X, y):
        model = copy.deepcopy(self.model)
        model.set_parameters(parameters)
        y_hat, loss, gradients = self._step(model, model.configure_optimizers(), X, y)
        arrays = {
            "data/X": X,
            "data/y": y,
            "forward/y_hat": y_hat,
            "example_loss": model.loss(y_hat, y, averaged=False),
            "loss": loss,
            "metric/accuracy": model.accuracy(y_hat, y),
        }
        for name, value in model.get_parameters().items():
            arrays[f"gradient/{name}"] = gradients[name]
            arrays[f"update/{name}"] = value
        return {name: np.asarray(value) for name, value in arrays.items()}
