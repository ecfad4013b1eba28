"""Networks of Flax' layers as they stand, for ``test_converters``: of Linen and of NNX."""

import functools

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from jax import numpy as jnp

try:
    from jax import enable_x64
except ImportError:  # before 0.8
    from jax.experimental import enable_x64

float64 = functools.partial(enable_x64, True)


def predict(model, X):
    params = model.build_tree(model.get_parameters())
    held = jax.eval_shape(functools.partial(model.init, jax.random.PRNGKey(0)), X)
    others = {name: held[name] for name in held if name != "params"}
    others = jax.tree.map(lambda a: jnp.zeros(a.shape, X.dtype), others)
    found = model.apply({"params": params, **others}, X, mutable=[*others])[0]
    return np.asarray(found)


def network(d2l, forward):
    class Network(d2l.Classifier):
        @nn.compact
        def __call__(self, X):
            return forward(X)

    return Network()


def image(X):
    return X.reshape(len(X), 8, 8, -1)


def flat(Y):
    return Y.reshape(len(Y), -1)


def words(X):
    return (jnp.abs(X[:, :6]) * 8).astype(int) % 7


def in_turn(*made, before=lambda X: X, after=lambda Y: Y):
    def forward(X):
        X = before(X)
        for make in made:
            X = make()(X)
        return after(X)

    return forward


def tanh():
    return jnp.tanh


def layer(kind, *given, **options):
    return functools.partial(getattr(nn, kind), *given, **options)


def inside(kind, *given, **options):
    return functools.partial(nnx.bridge.to_linen, getattr(nnx, kind), *given, **options)


def by_channels(*made):
    return in_turn(*made, before=image, after=flat)


def series(X):
    return X.reshape(len(X), 16, 4)


def tied(X):
    embedding = nn.Embed(7, 5)
    return flat(embedding.attend(jnp.tanh(nn.Dense(5)(embedding(words(X))))))


def recurrent(cell):
    def forward(X):
        # What a cell begins with has the type of its parameters.
        H = nn.RNN(cell(param_dtype=X.dtype))(X.reshape(len(X), 8, 8))
        return nn.Dense(3)(H[:, -1])

    return forward


class Cells(nnx.Module):
    """Layers of NNX with a loop over time."""

    def __init__(self, kind, rngs):
        self.cells = kind(8, 5, dtype="float64", rngs=rngs)  # some begin in their own type
        self.scores = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, X):
        X = X.reshape(len(X), 8, 8)
        zeros = jnp.zeros((len(X), 5), X.dtype)
        carry = (zeros, zeros) if isinstance(self.cells, nnx.OptimizedLSTMCell) else zeros
        for t in range(8):
            carry, H = self.cells(carry, X[:, t])
        return self.scores(H)


def cells(kind):
    return in_turn(functools.partial(nnx.bridge.to_linen, Cells, getattr(nnx, kind)))


def attention(make):
    return in_turn(make, before=lambda X: X.reshape(len(X), 8, 8), after=flat)


def weighted(query, key, value, **_):  # NNX's own takes its softmax in float32
    return nn.dot_product_attention(query, key, value)


def cases():
    transposed = {"padding": "VALID"}
    convolution = layer("Conv", 4, (3, 3), padding="VALID")
    return {
        "linear": {
            "linen": in_turn(layer("Dense", 8), tanh, layer("Dense", 8), tanh, layer("Dense", 3)),
            "nnx": in_turn(
                inside("Linear", 64, 8), tanh, inside("Linear", 8, 8), tanh, inside("Linear", 8, 3)
            ),
        },
        "convolution": {
            "linen": by_channels(layer("Conv", 4, (3, 2), padding="VALID"), tanh, convolution),
            "nnx": by_channels(
                inside("Conv", 1, 4, (3, 2), padding="VALID"),
                tanh,
                inside("Conv", 4, 4, (3, 3), padding="VALID"),
            ),
        },
        "convolution, 1-d": {
            "linen": in_turn(layer("Conv", 6, (3,), padding="VALID"), before=series, after=flat)
        },
        "grouped": {
            "linen": in_turn(
                layer("Conv", 6, (3,), padding="VALID", feature_group_count=2),
                before=series,
                after=flat,
            )
        },
        "depthwise": {
            "linen": by_channels(
                convolution, layer("Conv", 8, (3, 3), padding="VALID", feature_group_count=4)
            )
        },
        "transposed": {
            f"transpose_kernel={swap}": by_channels(
                convolution,
                layer("ConvTranspose", 3, (3, 2), (2, 2), transpose_kernel=swap, **transposed),
            )
            for swap in (False, True)
        },
        "transposed, 1-d": {
            "linen": in_turn(
                layer("ConvTranspose", 3, (3,), **transposed), before=series, after=flat
            )
        },
        "batch norm": {
            "linen": by_channels(convolution, layer("BatchNorm", use_running_average=False)),
            "nnx": by_channels(convolution, inside("BatchNorm", 4)),
        },
        "group norm": {"linen": by_channels(convolution, layer("GroupNorm", 2, epsilon=1e-3))},
        "layer norm": {
            "linen": in_turn(
                layer("Dense", 8), layer("LayerNorm", epsilon=1e-5), layer("Dense", 3)
            ),
            "nnx": in_turn(
                inside("Linear", 64, 8),
                inside("LayerNorm", 8, epsilon=1e-5),
                inside("Linear", 8, 3),
            ),
        },
        "embedding": {
            "linen": in_turn(layer("Embed", 7, 5), lambda: flat, layer("Dense", 3), before=words)
        },
        "tied": {"linen": tied},
        "lstm": {
            "linen": recurrent(layer("LSTMCell", 5)),
            "optimized": recurrent(layer("OptimizedLSTMCell", 5)),
            "nnx": cells("OptimizedLSTMCell"),
        },
        "gru": {"nnx": cells("GRUCell")},
        "rnn": {"linen": recurrent(layer("SimpleCell", 5)), "nnx": cells("SimpleCell")},
        "attention": {
            "linen": attention(layer("MultiHeadDotProductAttention", 2)),
            "nnx": attention(
                inside("MultiHeadAttention", 2, 8, decode=False, attention_fn=weighted)
            ),
        },
    }


def networks(d2l):
    """By case and variant a function that makes the network."""
    return {
        (case, variant): functools.partial(network, d2l, forward)
        for case, variants in cases().items()
        for variant, forward in variants.items()
    }
