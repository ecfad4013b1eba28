"""Loops by hand in NumPy, to measure the trainer against: as users write them, and tuned.

Each one trains on the whole data, given as ``(X, y)`` in NumPy: ``epoch(order)`` returns the loss
of every step and whether each example was classified rightly, ``get_parameters()`` what came of it.
The idiomatic ones make the same public calls as the trainer. The tuned ones do what no trainer may.
"""

import numpy as np


class Concise:
    """The log-softmax and its gradient, batch by batch."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = X, y
        self.W, self.b = parameters["W"].copy(), parameters["b"].copy()
        self.lr, self.batch_size = self.W.dtype.type(lr), batch_size
        self.batch = np.empty((batch_size, X.shape[1]), X.dtype)

    def forward(self, z, y):
        """The loss of each example, and ∂(loss)/∂logits."""
        z = z - z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        rows = np.arange(len(y))
        error = np.exp(log_p)
        error[rows, y] -= 1
        return -log_p[rows, y], error

    def epoch(self, order):
        losses, scores, y_all = [], [], self.y[order]
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            X = np.take(self.X, rows, axis=0, out=self.batch[: len(rows)], mode="clip")
            z, y = X @ self.W + self.b, y_all[start : start + self.batch_size]
            each, error = self.forward(z, y)
            error /= error.dtype.type(len(rows))
            self.W -= self.lr * (X.T @ error)
            self.b -= self.lr * error.sum(axis=0)
            losses.append(each.mean())
            scores.append(z)
        return np.array(losses), np.concatenate(scores).argmax(axis=1) == y_all

    def get_parameters(self):
        return {"W": self.W, "b": self.b}


class Scratch(Concise):
    """The plain softmax."""

    def forward(self, z, y):
        exp, rows = np.exp(z), np.arange(len(y))
        y_hat = exp / exp.sum(axis=1, keepdims=True)
        losses = -np.log(y_hat[rows, y])
        y_hat[rows, y] -= 1
        return losses, y_hat


class Logits:
    """Buffers used again, gradients as (errorᵀ X)ᵀ, losses and accuracies once an epoch."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y = X, y
        self.W, self.b = parameters["W"].copy(), parameters["b"].copy()
        self.lr, self.batch_size = self.W.dtype.type(lr), batch_size

    def epoch(self, order):
        y, size = self.y[order], self.batch_size
        one_hot = np.eye(len(self.b), dtype=self.b.dtype)[y]
        logs = np.empty_like(one_hot)
        batch = np.empty((size, self.X.shape[1]), self.X.dtype)
        each = np.arange(size)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            X = np.take(self.X, rows, axis=0, out=batch[: len(rows)], mode="clip")
            z = logs[start : start + size]
            np.matmul(X, self.W, out=z)
            z += self.b
            z -= z[each[: len(z)], z.argmax(axis=1)][:, None]  # sooner found than z.max(axis=1)
            error = np.exp(z)
            total = error.sum(axis=1, keepdims=True)
            z -= np.log(total)
            error /= total
            error -= one_hot[start : start + size]
            error *= self.lr / error.dtype.type(len(rows))
            self.W -= (error.T @ X).T
            self.b -= error.sum(axis=0)
        losses = -(logs * one_hot).sum(axis=1)
        means = [losses[i : i + size].mean() for i in range(0, len(losses), size)]
        return np.array(means), logs.argmax(axis=1) == y

    def get_parameters(self):
        return {"W": self.W, "b": self.b}


class Loader(Logits):
    """A data loader's way: examples one by one, put together to a batch, each one step."""

    def __init__(self, X, y, parameters, lr, batch_size, image_shape, divisor):
        super().__init__(X, y, parameters, lr, batch_size)
        self.images, self.divisor = X.reshape(len(X), *image_shape), np.float32(divisor)

    def __getitem__(self, index):
        image, target = self.images[index], int(self.y[index])
        return np.ravel(np.array(image, dtype=np.float32)) / self.divisor, target

    def epoch(self, order):
        losses, correct = [], []
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size].tolist()
            X, y = map(np.stack, zip(*[self[index] for index in rows], strict=True))
            z = X @ self.W + self.b
            z -= z.max(axis=1, keepdims=True)
            p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
            losses.append(-np.log(p[np.arange(len(y)), y]).mean())
            correct.append(p.argmax(axis=1) == y)
            p[np.arange(len(y)), y] -= 1
            self.W -= self.lr * (X.T @ (p / p.dtype.type(len(y))))
            self.b -= self.lr * p.mean(axis=0)
        return np.array(losses), np.concatenate(correct)


LOOPS = {
    "idiomatic scratch": Scratch,
    "idiomatic concise": Concise,
    "tuned": Logits,
    "plain loader": Loader,
}
