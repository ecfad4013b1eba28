"""Loops by hand in MLX, with the same public calls as the trainer, to measure it against."""

import mlx.core as mx
import numpy as np
from mlx import nn, optimizers


class Logits:
    """A linear layer, cross-entropy and the framework's SGD."""

    def __init__(self, X, y, parameters, lr, batch_size):
        self.X, self.y, self.batch_size = mx.array(X), mx.array(y), batch_size
        self.model = nn.Linear(*parameters["W"].shape)
        tensors = {"weight": parameters["W"].T, "bias": parameters["b"]}
        self.model.update({name: mx.array(value) for name, value in tensors.items()})
        self.optimizer = optimizers.SGD(lr)

    def loss(self, y_hat, y):
        return nn.losses.cross_entropy(y_hat, y, reduction="mean")

    def epoch(self, order):
        def loss_and_scores(X, y):
            y_hat = self.model(X)
            return self.loss(y_hat, y), y_hat

        step = nn.value_and_grad(self.model, loss_and_scores)
        order, losses, scores = mx.array(order), [], []
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            (loss, y_hat), gradients = step(self.X[rows], self.y[rows])
            self.optimizer.update(self.model, gradients)
            mx.eval(self.model.parameters(), self.optimizer.state, y_hat, loss)
            losses.append(loss.item())
            scores.append(y_hat)
        correct = mx.concatenate(scores).argmax(axis=1) == self.y[order]
        return np.array(losses), np.array(correct)

    def get_parameters(self):
        return {"W": np.array(self.model.weight).T, "b": np.array(self.model.bias)}


class Probabilities(Logits):
    """Softmax and loss written out."""

    def loss(self, y_hat, y):
        exp = mx.exp(y_hat)
        return -mx.log((exp / exp.sum(axis=1, keepdims=True))[mx.arange(len(y)), y]).mean()


LOOPS = {"idiomatic scratch": Probabilities, "idiomatic concise": Logits}
