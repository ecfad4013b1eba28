"""Faults of MXNet's own making, for the suite's test of itself."""

import mxnet
import numpy
from mxnet import autograd, gluon, np, npx

from framework_parity.backends.mxnet.optimizer import SGD, array_of
from framework_parity.backends.mxnet.scratch import SoftmaxRegressionScratch, softmax


class Updater:
    """One of MXNet's optimizers, for arrays made by hand as for gluon's parameters."""

    def __init__(self, params, name, **options):
        self.params = params
        self.update = mxnet.optimizer.get_updater(mxnet.optimizer.create(name, **options))

    def step(self, _):
        for i, param in enumerate(map(array_of, self.params)):
            self.update(i, param.grad, param)


class Clipped(SGD):
    """SGD whose gradients are clipped by their common norm, in place."""

    def __init__(self, params, lr, norm):
        super().__init__(params, lr)
        self.norm = norm

    def step(self, _):
        gradients = [array_of(param).grad.as_nd_ndarray() for param in self.params]
        gluon.utils.clip_global_norm(gradients, self.norm)
        super().step(_)


def optimizers(make):
    """Another optimizer: ``make(params, lr, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def configure_optimizers(self):
                return make(list(self.named_tensors().values()), self.lr, size)

        return Faulty

    return plant


def losses(of_examples):
    """Another loss of each example: ``of_examples(p, y, size)`` from the probabilities."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                scratch = isinstance(self, SoftmaxRegressionScratch)
                found = of_examples(y_hat if scratch else npx.softmax(y_hat), y, size)
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
                weight = self.net.weight
                if -1 in weight.shape:  # not built yet
                    return super().forward(X)
                return logits(X, weight.data().T, self.net.bias.data())

        return Faulty

    return plant


def products(rounded):
    """Both factors of every matrix product rounded, forward and backward."""

    class Product(autograd.Function):
        # W first: MXNet writes no gradient after the first input that wants none.
        def forward(self, W, X):
            self.W, self.X = _through(rounded, W), _through(rounded, X)
            return np.dot(self.X, self.W)

        def backward(self, error):
            error = _through(rounded, error)
            gradients = np.dot(self.X.T, error), np.dot(error, self.W.T)
            return [gradient.as_nd_ndarray() for gradient in gradients]

    return forwards(lambda X, W, b: Product()(W, X) + b)


def smoothed(p, y, part):
    """Label smoothing."""
    labels = (1 - part) * npx.one_hot(y, p.shape[1]) + part / p.shape[1]
    return -(labels * np.log(p)).sum(axis=1)


def clipped(p, y, epsilon):
    """A logarithm whose argument is kept from falling below an epsilon."""
    return -np.log(np.maximum(npx.pick(p, y), epsilon))


def twice(p, y, _):
    """The softmax of the softmax."""
    return -np.log(npx.pick(npx.softmax(p), y))


# MXNet gives no access to the bits of its arrays, and its bfloat16 no arithmetic.


def bfloat16(X):
    """The upper half of the bits, ties to even."""
    bits = numpy.ascontiguousarray(X).view(numpy.uint32)
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & numpy.uint32(0xFFFF0000)
    return bits.view(numpy.float32)


def tf32(X):
    """All but the last 13 bits, ties to even."""
    bits = numpy.ascontiguousarray(X).view(numpy.uint32)
    bits = (bits + 0xFFF + ((bits >> 13) & 1)) & numpy.uint32(0xFFFFE000)
    return bits.view(numpy.float32)


def float16(X):
    """Half precision."""
    return X.astype("float16").astype("float32")


def _through(rounded, X):
    return np.array(rounded(X.asnumpy()), dtype="float32")


def focal(p, y, gamma):
    """The focal loss."""
    chosen = npx.pick(p, y)
    return -((1 - chosen) ** gamma) * np.log(chosen)


def weighted(p, y, size):
    """Classes that weigh the more, the higher their number."""
    return (1 + size * y.astype(p.dtype)) * -np.log(npx.pick(p, y))


def tempered(p, y, temperature):
    """Logits divided by a temperature."""
    return -npx.pick(npx.log_softmax(np.log(p) / temperature), y)


def penalised(p, y, size):
    """A penalty on confidence: less a part of the entropy."""
    return -np.log(npx.pick(p, y)) + size * (p * np.log(p)).sum(axis=1)


FAULTS = {
    "weight decay": optimizers(lambda p, lr, size: Updater(p, "sgd", learning_rate=lr, wd=size)),
    "momentum": optimizers(lambda p, lr, size: Updater(p, "sgd", learning_rate=lr, momentum=size)),
    "Nesterov momentum": optimizers(
        lambda p, lr, size: Updater(p, "nag", learning_rate=lr, momentum=size)
    ),
    "gradient clipping": optimizers(Clipped),
    "bias never updated": optimizers(lambda p, lr, _: SGD(p[:1], lr)),
    "last batch over batch_size": reductions(max),
    "sum instead of mean": reductions(lambda n, _: 1),
    "no bias": forwards(lambda X, W, b: np.dot(X, W) + 0 * b),
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
