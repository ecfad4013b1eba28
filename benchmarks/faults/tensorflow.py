"""Faults of TensorFlow's own making, for the suite's test of itself."""

import tensorflow as tf

from framework_parity.backends.tensorflow.optimizer import SGD
from framework_parity.backends.tensorflow.scratch import SoftmaxRegressionScratch, softmax


class FrozenBias(SGD):
    """SGD that leaves the biases alone."""

    def apply_gradients(self, grads_and_vars):
        super().apply_gradients([pair for pair in grads_and_vars if len(pair[1].shape) == 2])


def optimizers(make):
    """Another optimizer: ``make(lr, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def configure_optimizers(self):
                optimizer = make(self.lr, size)
                if isinstance(optimizer, tf.keras.optimizers.Optimizer):
                    optimizer.build(self.trainable_variables)  # a graph may not make variables
                return optimizer

        return Faulty

    return plant


def keras(**options):
    """Keras' SGD; an option that is ``...`` takes the fault's size."""

    def make(lr, size):
        chosen = {name: size if value is ... else value for name, value in options.items()}
        return tf.keras.optimizers.SGD(lr, **chosen)

    return make


def losses(of_examples):
    """Another loss of each example: ``of_examples(p, y, size)`` from the probabilities."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                scratch = isinstance(self, SoftmaxRegressionScratch)
                found = of_examples(y_hat if scratch else tf.nn.softmax(y_hat), y, size)
                return tf.reduce_mean(found) if averaged else found

        return Faulty

    return plant


def reductions(divisor):
    """Losses summed up and divided by ``divisor(n, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, y_hat, y, averaged=True):
                found = super().loss(y_hat, y, averaged=False)
                return tf.reduce_sum(found) / divisor(y.shape[0], size) if averaged else found

        return Faulty

    return plant


def forwards(logits):
    """Another forward pass: ``logits(X, W, b)``."""

    def plant(model_class, _):
        class Faulty(model_class):
            def forward(self, X):
                W, b = (tf.convert_to_tensor(v) for v in self.named_tensors().values())
                scores = logits(X, W, b)
                return softmax(scores) if isinstance(self, SoftmaxRegressionScratch) else scores

        return Faulty

    return plant


def products(rounded):
    """Both factors of every matrix product rounded, forward and backward."""

    @tf.custom_gradient
    def product(X, W):
        X, W = rounded(X), rounded(W)

        def gradient(error):
            error = rounded(error)
            return tf.matmul(error, W, transpose_b=True), tf.matmul(X, error, transpose_a=True)

        return tf.matmul(X, W), gradient

    return forwards(lambda X, W, b: product(X, W) + b)


def cast(dtype):
    """Rounding by a cast."""
    return lambda X: tf.cast(tf.cast(X, dtype), X.dtype)


def tf32(X):
    """All but the last 13 bits, ties to even."""
    bits = tf.bitcast(X, tf.int32)
    even = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, 13), 1)
    return tf.bitcast(tf.bitwise.bitwise_and(bits + 0xFFF + even, -0x2000), tf.float32)


def smoothed(p, y, part):
    """Label smoothing."""
    labels = (1 - part) * tf.one_hot(y, p.shape[1]) + part / p.shape[1]
    return -tf.reduce_sum(labels * tf.math.log(p), axis=1)


def clipped(p, y, epsilon):
    """A logarithm whose argument is kept from falling below an epsilon."""
    return -tf.math.log(tf.maximum(tf.gather(p, y, axis=1, batch_dims=1), epsilon))


def log_chosen(p, y):
    """The logarithm of the probability of each example's class."""
    return tf.math.log(tf.gather(p, y, axis=1, batch_dims=1))


def focal(p, y, gamma):
    """The focal loss."""
    log = log_chosen(p, y)
    return -((1 - tf.exp(log)) ** gamma) * log


def weighted(p, y, size):
    """Classes that weigh the more, the higher their number."""
    return (1 + size * tf.cast(y, p.dtype)) * -log_chosen(p, y)


def tempered(p, y, temperature):
    """Logits divided by a temperature."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, tf.math.log(p) / temperature)


def penalised(p, y, size):
    """A penalty on confidence: less a part of the entropy."""
    return -log_chosen(p, y) + size * tf.reduce_sum(p * tf.math.log(p), axis=1)


FAULTS = {
    "weight decay": optimizers(keras(weight_decay=...)),
    "momentum": optimizers(keras(momentum=...)),
    "Nesterov momentum": optimizers(keras(momentum=..., nesterov=True)),
    "gradient clipping": optimizers(keras(global_clipnorm=...)),
    "bias never updated": optimizers(lambda lr, _: FrozenBias(lr)),
    "last batch over batch_size": reductions(max),
    "sum instead of mean": reductions(lambda n, _: 1),
    "no bias": forwards(lambda X, W, b: X @ W + 0 * b),
    "label smoothing": losses(smoothed),
    "log clipped": losses(clipped),
    "softmax applied twice": losses(
        lambda p, y, _: tf.nn.sparse_softmax_cross_entropy_with_logits(y, p)
    ),
    "bfloat16 products": products(cast(tf.bfloat16)),
    "float16 products": products(cast(tf.float16)),
    "TF32 products": products(tf32),
    "focal loss": losses(focal),
    "class weights": losses(weighted),
    "temperature": losses(tempered),
    "confidence penalty": losses(penalised),
}
