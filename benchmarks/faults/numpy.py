"""Faults of NumPy's own making, for the suite's test of itself.

There is no autograd: a fault in the loss brings its own derivative by the logits.
"""

import numpy as np

from framework_parity.backends.numpy.classifier import log_softmax
from framework_parity.backends.numpy.optimizer import SGD
from framework_parity.backends.numpy.scratch import SoftmaxRegressionScratch, softmax


class Momentum(SGD):
    """Updates by a velocity."""

    def __init__(self, parameters, lr, momentum, nesterov=False):
        super().__init__(parameters, lr)
        self.momentum, self.nesterov = momentum, nesterov
        self.velocity = {name: 0 * value for name, value in parameters.items()}

    def step(self, gradients):
        moved = {}
        for name, gradient in gradients.items():
            momentum = gradient.dtype.type(self.momentum)
            self.velocity[name] = velocity = momentum * self.velocity[name] + gradient
            moved[name] = gradient + momentum * velocity if self.nesterov else velocity
        super().step(moved)


class Nesterov(Momentum):
    """Updates that look ahead along the velocity."""

    def __init__(self, parameters, lr, momentum):
        super().__init__(parameters, lr, momentum, nesterov=True)


class Changed(SGD):
    """Gradients that :meth:`change` alters before each update."""

    def __init__(self, parameters, lr, size):
        super().__init__(parameters, lr)
        self.size = size

    def step(self, gradients):
        super().step(self.change(gradients))


class Decayed(Changed):
    """Weight decay."""

    def change(self, gradients):
        return {n: g + g.dtype.type(self.size) * self.parameters[n] for n, g in gradients.items()}


class Clipped(Changed):
    """Gradients clipped by their common norm."""

    def change(self, gradients):
        norm = np.sqrt(sum((g * g).sum() for g in gradients.values()))
        factor = min(1.0, self.size / norm)
        return {name: g * g.dtype.type(factor) for name, g in gradients.items()}


class Biasless(Changed):
    """No update of the biases."""

    def change(self, gradients):
        return {"W": gradients["W"]}


def optimizers(kind):
    """Another optimizer."""

    def plant(model_class, size):
        class Faulty(model_class):
            def configure_optimizers(self):
                return kind(self.named_tensors(), self.lr, size)

        return Faulty

    return plant


def losses(of_examples):
    """Another loss: ``of_examples(p, y, size)`` gives it and its derivative by the logits."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                found, _ = of_examples(_probabilities(self, y_hat), y, size)
                return found.mean() if averaged else found

            def gradients(self, X, y_hat, y):
                _, error = of_examples(_probabilities(self, y_hat), y, size)
                error /= error.dtype.type(len(y))
                return {"W": X.T @ error, "b": error.sum(axis=0)}

        return Faulty

    return plant


def reductions(divisor):
    """Losses summed up and divided by ``divisor(n, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                found = super().loss(y_hat, y, averaged=False)
                return found.sum() / found.dtype.type(divisor(len(y), size)) if averaged else found

            def gradients(self, X, y_hat, y):
                factor = y_hat.dtype.type(len(y) / divisor(len(y), size))
                return {n: factor * g for n, g in super().gradients(X, y_hat, y).items()}

        return Faulty

    return plant


def products(rounded):
    """Both factors of every matrix product rounded."""

    def plant(model_class, _):
        class Faulty(model_class):
            def forward(self, X):
                logits = rounded(X) @ rounded(self.W) + self.b
                return softmax(logits) if isinstance(self, SoftmaxRegressionScratch) else logits

            def gradients(self, X, y_hat, y):
                error = _error(_probabilities(self, y_hat), y) / y_hat.dtype.type(len(y))
                return {"W": rounded(X).T @ rounded(error), "b": error.sum(axis=0)}

        return Faulty

    return plant


def no_bias(model_class, _):
    """A forward pass without biases."""

    class Faulty(model_class):
        def forward(self, X):
            logits = X @ self.W
            return softmax(logits) if isinstance(self, SoftmaxRegressionScratch) else logits

        def gradients(self, X, y_hat, y):
            found = super().gradients(X, y_hat, y)
            return {"W": found["W"], "b": 0 * found["b"]}

    return Faulty


def smoothed(p, y, part):
    """Label smoothing."""
    q = np.full_like(p, part / p.shape[1])
    q[np.arange(len(y)), y] += p.dtype.type(1 - part)
    return -(q * np.log(p)).sum(axis=1), p - q


def clipped(p, y, epsilon):
    """A logarithm whose argument is kept from falling below an epsilon."""
    chosen = p[np.arange(len(y)), y]
    kept = chosen > epsilon
    return -np.log(np.maximum(chosen, p.dtype.type(epsilon))), _error(p, y) * kept[:, None]


def twice(p, y, _):
    """The softmax of the softmax."""
    log_softmax_of_p = log_softmax(p)
    error = _error(np.exp(log_softmax_of_p), y)
    error = p * (error - (p * error).sum(axis=1, keepdims=True))
    return -log_softmax_of_p[np.arange(len(y)), y], error


def bfloat16(X):
    """The upper half of the bits, ties to even."""
    bits = np.ascontiguousarray(X).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


def tf32(X):
    """All but the last 13 bits, ties to even."""
    bits = np.ascontiguousarray(X).view(np.uint32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def float16(X):
    """Half precision."""
    return X.astype(np.float16).astype(X.dtype)


def _probabilities(model, y_hat):
    return y_hat if isinstance(model, SoftmaxRegressionScratch) else np.exp(log_softmax(y_hat))


def _error(p, y):
    error = p.copy()
    error[np.arange(len(y)), y] -= 1
    return error


def put_parameters(trainer, parameters):
    """Other parameters in the middle of a training, in the arrays that the optimizer holds."""
    for name, value in trainer.model.named_tensors().items():
        value[...] = parameters[name]


def focal(p, y, gamma):
    """The focal loss."""
    chosen = p[np.arange(len(y)), y]
    rest = 1 - chosen
    part = rest**gamma - gamma * chosen * rest ** (gamma - 1) * np.log(chosen)
    return -(rest**gamma) * np.log(chosen), part[:, None] * _error(p, y)


def weighted(p, y, size):
    """Classes that weigh the more, the higher their number."""
    weight = (1 + size * y).astype(p.dtype)
    return -weight * np.log(p[np.arange(len(y)), y]), weight[:, None] * _error(p, y)


def tempered(p, y, temperature):
    """Logits divided by a temperature."""
    log = log_softmax(np.log(p) / p.dtype.type(temperature))
    error = _error(np.exp(log), y) / p.dtype.type(temperature)
    return -log[np.arange(len(y)), y], error


def penalised(p, y, size):
    """A penalty on confidence: less a part of the entropy."""
    log, size = np.log(p), p.dtype.type(size)
    entropy = -(p * log).sum(axis=1)
    error = _error(p, y) + size * p * (log + entropy[:, None])
    return -log[np.arange(len(y)), y] - size * entropy, error


FAULTS = {
    "weight decay": optimizers(Decayed),
    "momentum": optimizers(Momentum),
    "Nesterov momentum": optimizers(Nesterov),
    "gradient clipping": optimizers(Clipped),
    "bias never updated": optimizers(Biasless),
    "last batch over batch_size": reductions(max),
    "sum instead of mean": reductions(lambda n, _: 1),
    "no bias": no_bias,
    "label smoothing": losses(smoothed),
    "log clipped": losses(clipped),
    "softmax applied twice": losses(twice),
    "bfloat16 products": products(bfloat16),
    "float16 products": products(float16),
    "TF32 products": products(tf32),
    "focal loss": losses(focal),
    "class weights": losses(weighted),
    "temperature": losses(tempered),
    "confidence penalty": losses(penalised),
}
