"""Faults of PyTorch's own making, for the suite's test of itself."""

import torch
from torch import nn
from torch.nn import functional

from framework_parity.backends.torch.scratch import SoftmaxRegressionScratch, softmax


def optimizers(make):
    """Another optimizer: ``make(parameters, lr, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def configure_optimizers(self):
                return make(list(self.parameters()), self.lr, size)

        return Faulty

    return plant


def losses(of_examples):
    """Another loss of each example: ``of_examples(p, y, size)`` from the probabilities."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                found = of_examples(_probabilities(self, y_hat), y, size)
                return found.mean() if averaged else found

        return Faulty

    return plant


def reductions(divisor):
    """Losses summed up and divided by ``divisor(n, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                found = super().loss(y_hat, y, averaged=False)
                return found.sum() / divisor(len(y), size) if averaged else found

        return Faulty

    return plant


def forwards(logits):
    """Another forward pass: ``logits(X, W, b)``."""

    def plant(model_class, _):
        class Faulty(model_class):
            def forward(self, X):
                if isinstance(self, SoftmaxRegressionScratch):
                    return softmax(logits(X, self.W, self.b))
                layer = self.net[1]
                if isinstance(layer, nn.LazyLinear):
                    return super().forward(X)
                return logits(X, layer.weight.T, layer.bias)

        return Faulty

    return plant


def products(rounded):
    """Both factors of every matrix product rounded, forward and backward."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(context, X, W):
            X, W = rounded(X), rounded(W)
            context.save_for_backward(X, W)
            return X @ W

        @staticmethod
        def backward(context, error):
            X, W = context.saved_tensors
            error = rounded(error)
            return error @ W.T, X.T @ error

    return forwards(lambda X, W, b: Product.apply(X, W) + b)


def clipped_gradients(parameters, lr, norm):
    """SGD whose gradients are clipped by their common norm, in place."""
    optimizer = torch.optim.SGD(parameters, lr=lr)

    def clip(*_):
        nn.utils.clip_grad_norm_(parameters, norm)

    optimizer.register_step_pre_hook(clip)
    return optimizer


def frozen_bias(parameters, lr, _):
    """SGD in which the biases have no learning rate."""
    weight, bias = parameters
    return torch.optim.SGD([{"params": [weight]}, {"params": [bias], "lr": 0.0}], lr=lr)


def sgd(**options):
    """PyTorch's SGD; an option that is ``...`` takes the fault's size."""

    def make(parameters, lr, size):
        chosen = {name: size if value is ... else value for name, value in options.items()}
        return torch.optim.SGD(parameters, lr=lr, **chosen)

    return make


def smoothed(p, y, part):
    """Label smoothing."""
    return functional.cross_entropy(torch.log(p), y, label_smoothing=part, reduction="none")


def clipped(p, y, epsilon):
    """A logarithm whose argument is kept from falling below an epsilon."""
    return -torch.log(p[torch.arange(len(p)), y].clamp(min=epsilon))


def twice(p, y, _):
    """The softmax of the softmax."""
    return functional.cross_entropy(p, y, reduction="none")


def tf32(X):
    """All but the last 13 bits, ties to even."""
    bits = X.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & -0x2000).view(torch.float32)


def _probabilities(model, y_hat):
    scratch = isinstance(model, SoftmaxRegressionScratch)
    return y_hat if scratch else functional.softmax(y_hat, dim=1)


def focal(p, y, gamma):
    """The focal loss."""
    chosen = p[torch.arange(len(p)), y]
    return -((1 - chosen) ** gamma) * torch.log(chosen)


def weighted(p, y, size):
    """Classes that weigh the more, the higher their number."""
    return (1 + size * y) * -torch.log(p[torch.arange(len(p)), y])


def tempered(p, y, temperature):
    """Logits divided by a temperature."""
    return functional.cross_entropy(torch.log(p) / temperature, y, reduction="none")


def penalised(p, y, size):
    """A penalty on confidence: less a part of the entropy."""
    return -torch.log(p[torch.arange(len(p)), y]) + size * (p * torch.log(p)).sum(dim=1)


FAULTS = {
    "weight decay": optimizers(sgd(weight_decay=...)),
    "momentum": optimizers(sgd(momentum=...)),
    "Nesterov momentum": optimizers(sgd(momentum=..., nesterov=True)),
    "gradient clipping": optimizers(clipped_gradients),
    "bias never updated": optimizers(frozen_bias),
    "last batch over batch_size": reductions(max),
    "sum instead of mean": reductions(lambda n, _: 1),
    "no bias": forwards(lambda X, W, b: X @ W + 0 * b),
    "label smoothing": losses(smoothed),
    "log clipped": losses(clipped),
    "softmax applied twice": losses(twice),
    "bfloat16 products": products(lambda X: X.bfloat16().float()),
    "float16 products": products(lambda X: X.half().float()),
    "TF32 products": products(tf32),
    "focal loss": losses(focal),
    "class weights": losses(weighted),
    "temperature": losses(tempered),
    "confidence penalty": losses(penalised),
}
