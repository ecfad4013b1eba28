"""Faults of JAX's own making, for the suite's test of itself."""

import jax
import optax
from jax import lax
from jax import numpy as jnp

from framework_parity.backends.jax.scratch import SoftmaxRegressionScratch, softmax


def optimizers(make):
    """Another optimizer: ``make(lr, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def configure_optimizers(self):
                return make(self.lr, size)

        return Faulty

    return plant


def losses(of_examples):
    """Another loss of each example: ``of_examples(p, y, size)`` from the probabilities."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, params, X, y, state, averaged=True):
                y_hat = state.apply_fn({"params": params}, *X)
                scratch = isinstance(self, SoftmaxRegressionScratch)
                found = of_examples(y_hat if scratch else jax.nn.softmax(y_hat), y, size)
                return (found.mean() if averaged else found), {}

        return Faulty

    return plant


def reductions(divisor):
    """Losses summed up and divided by ``divisor(n, size)``."""

    def plant(model_class, size):
        class Faulty(model_class):
            def loss(self, params, X, y, state, averaged=True):
                found, _ = super().loss(params, X, y, state, averaged=False)
                return (found.sum() / divisor(len(y), size) if averaged else found), {}

        return Faulty

    return plant


def forwards(logits):
    """Another forward pass: ``logits(X, W, b)``."""

    def plant(model_class, _):
        class Faulty(model_class):
            def train_state(self, params):
                def apply(variables, X):
                    b, W = sorted(jax.tree.leaves(variables["params"]), key=jnp.ndim)
                    scores = logits(X, W, b)
                    scratch = isinstance(self, SoftmaxRegressionScratch)
                    return softmax(scores) if scratch else scores

                return super().train_state(params).replace(apply_fn=apply)

        return Faulty

    return plant


def products(rounded):
    """Both factors of every matrix product rounded, forward and backward."""

    @jax.custom_vjp
    def product(X, W):
        return rounded(X) @ rounded(W)

    def forward(X, W):
        X, W = rounded(X), rounded(W)
        return X @ W, (X, W)

    def backward(kept, error):
        X, W = kept
        error = rounded(error)
        return error @ W.T, X.T @ error

    product.defvjp(forward, backward)
    return forwards(lambda X, W, b: product(X, W) + b)


def cast(dtype):
    """Rounding by a cast, which XLA would drop if it saw the cast back."""
    return lambda X: lax.optimization_barrier(X.astype(dtype)).astype(X.dtype)


def frozen_bias(lr, _):
    """SGD whose updates of the biases are set to zero."""

    def biases(params):
        return jax.tree.map(lambda leaf: leaf.ndim == 1, params)

    return optax.chain(optax.sgd(lr), optax.masked(optax.set_to_zero(), biases))


def smoothed(p, y, part):
    """Label smoothing."""
    labels = optax.smooth_labels(jax.nn.one_hot(y, p.shape[1]), part)
    return -(labels * jnp.log(p)).sum(axis=1)


def clipped(p, y, epsilon):
    """A logarithm whose argument is kept from falling below an epsilon."""
    return -jnp.log(jnp.maximum(p[jnp.arange(len(y)), y], epsilon))


def put_parameters(trainer, parameters):
    """Other parameters in the middle of a training, which goes by Flax's train state."""
    tree = trainer.model.build_tree(parameters)
    trainer.state = trainer.state.replace(params=trainer._put_tree(tree))
    trainer.model.hold(trainer.state.params)


def focal(p, y, gamma):
    """The focal loss."""
    chosen = p[jnp.arange(len(y)), y]
    return -((1 - chosen) ** gamma) * jnp.log(chosen)


def weighted(p, y, size):
    """Classes that weigh the more, the higher their number."""
    return (1 + size * y) * -jnp.log(p[jnp.arange(len(y)), y])


def tempered(p, y, temperature):
    """Logits divided by a temperature."""
    return optax.softmax_cross_entropy_with_integer_labels(jnp.log(p) / temperature, y)


def penalised(p, y, size):
    """A penalty on confidence: less a part of the entropy."""
    return -jnp.log(p[jnp.arange(len(y)), y]) + size * (p * jnp.log(p)).sum(axis=1)


FAULTS = {
    "weight decay": optimizers(
        lambda lr, decay: optax.chain(optax.add_decayed_weights(decay), optax.sgd(lr))
    ),
    "momentum": optimizers(optax.sgd),
    "Nesterov momentum": optimizers(lambda lr, size: optax.sgd(lr, size, nesterov=True)),
    "gradient clipping": optimizers(
        lambda lr, norm: optax.chain(optax.clip_by_global_norm(norm), optax.sgd(lr))
    ),
    "bias never updated": optimizers(frozen_bias),
    "last batch over batch_size": reductions(max),
    "sum instead of mean": reductions(lambda n, _: 1),
    "no bias": forwards(lambda X, W, b: X @ W + 0 * b),
    "label smoothing": losses(smoothed),
    "log clipped": losses(clipped),
    "softmax applied twice": losses(
        lambda p, y, _: optax.softmax_cross_entropy_with_integer_labels(p, y)
    ),
    "bfloat16 products": products(cast(jnp.bfloat16)),
    "float16 products": products(cast(jnp.float16)),
    "TF32 products": products(lambda X: lax.reduce_precision(X, 8, 10)),
    "focal loss": losses(focal),
    "class weights": losses(weighted),
    "temperature": losses(tempered),
    "confidence penalty": losses(penalised),
}
