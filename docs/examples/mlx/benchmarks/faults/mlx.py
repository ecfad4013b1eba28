"""Faults of MLX's own making, for the suite's test of itself."""

import mlx.core as mx
from mlx import optimizers
from mlx.nn.losses import cross_entropy
from mlx.optimizers import clip_grad_norm as clip

from framework_parity.backends.mlx import SoftmaxRegressionScratch, softmax


def faulty(model, **methods):
    return type("Faulty", (model,), methods)


def optimizer(make):
    """Another optimizer: ``make(lr, size)``."""
    return lambda model, s: faulty(model, configure_optimizers=lambda self: make(self.lr, s))


def changed(lr, change):
    """SGD of gradients that are changed: ``change(gradients)``."""
    optimizer = optimizers.SGD(lr)
    update = optimizer.update
    optimizer.update = lambda model, gradients: update(model, change(gradients))
    return optimizer


def weights(gradients):
    """The gradients without those of the biases."""
    layer = gradients.get("net")
    return {"net": {"weight": layer["weight"]}} if layer else {"W": gradients["W"]}


def loss(of_examples=None, divisor=lambda n, _: n):
    """Another loss of each example, ``of_examples(p, y, size)``, or another divisor of the sum."""

    def plant(model, size):
        def loss(self, y_hat, y, averaged=True):
            if of_examples is None:
                found = model.loss(self, y_hat, y, averaged=False)
            else:
                by_hand = isinstance(self, SoftmaxRegressionScratch)
                found = of_examples(y_hat if by_hand else softmax(y_hat, stable=True), y, size)
            return found.sum() / divisor(len(y), size) if averaged else found

        return faulty(model, loss=loss)

    return plant


def forward(logits):
    """Another forward pass: ``logits(X, W, b)``."""

    def plant(model, _):
        def forward(self, X):
            if isinstance(self, SoftmaxRegressionScratch):
                return softmax(logits(X, self.W, self.b))
            self._build(X.shape[1])
            return logits(X, self.net.weight.T, self.net.bias)

        return faulty(model, forward=forward)

    return plant


def product(rounded):
    """Both factors of every matrix product rounded, forward and backward."""

    @mx.custom_function
    def multiply(X, W):
        return rounded(X) @ rounded(W)

    @multiply.vjp
    def multiply_back(primals, cotangent, _):
        (X, W), error = map(rounded, primals), rounded(cotangent)
        return error @ W.T, X.T @ error

    return forward(lambda X, W, b: multiply(X, W) + b)


def tf32(X):
    """All but the last 13 bits, ties to even."""
    bits = X.view(mx.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000).view(mx.float32)


def chosen(p, y):
    return p[mx.arange(len(y)), y]


FAULTS = {
    "weight decay": optimizer(lambda lr, size: optimizers.SGD(lr, weight_decay=size)),
    "momentum": optimizer(lambda lr, size: optimizers.SGD(lr, momentum=size)),
    "Nesterov momentum": optimizer(lambda lr, size: optimizers.SGD(lr, size, nesterov=True)),
    "gradient clipping": optimizer(lambda lr, size: changed(lr, lambda g: clip(g, size)[0])),
    "bias never updated": optimizer(lambda lr, _: changed(lr, weights)),
    "last batch over batch_size": loss(divisor=max),
    "sum instead of mean": loss(divisor=lambda n, _: 1),
    "no bias": forward(lambda X, W, b: X @ W + 0 * b),
    "label smoothing": loss(lambda p, y, size: cross_entropy(mx.log(p), y, label_smoothing=size)),
    "log clipped": loss(lambda p, y, size: -mx.log(mx.maximum(chosen(p, y), size))),
    "softmax applied twice": loss(lambda p, y, _: cross_entropy(p, y)),
    "bfloat16 products": product(lambda X: X.astype(mx.bfloat16).astype(X.dtype)),
    "float16 products": product(lambda X: X.astype(mx.float16).astype(X.dtype)),
    "TF32 products": product(tf32),
    "focal loss": loss(lambda p, y, g: -((1 - chosen(p, y)) ** g) * mx.log(chosen(p, y))),
    "class weights": loss(lambda p, y, size: (1 + size * y) * -mx.log(chosen(p, y))),
    "temperature": loss(lambda p, y, size: cross_entropy(mx.log(p) / size, y)),
    "confidence penalty": loss(lambda p, y, c: c * (p * mx.log(p)).sum(1) - mx.log(chosen(p, y))),
}
