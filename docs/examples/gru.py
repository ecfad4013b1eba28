"""A GRU that reads pictures row by row, trained with Adam.

compare.py model docs/examples/gru.py --data digits --lr 0.005 --max-epochs 3
"""

from math import isqrt

WIDTH = 32


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    side = isqrt(num_inputs)

    class Reader(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.gru = nn.GRU(side, WIDTH, batch_first=True)
            self.output = nn.Linear(WIDTH, num_outputs)

        def forward(self, X):
            states, _ = self.gru(X.reshape(-1, side, side))
            return self.output(states[:, -1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=self.lr)

    return Reader()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn
    from jax import numpy as jnp

    side = isqrt(num_inputs)

    class GRU(nn.Module):
        """PyTorch's, which has two biases for each gate; ``nn.GRUCell`` has one."""

        @nn.compact
        def __call__(self, X):
            state = jnp.zeros((len(X), WIDTH), X.dtype)
            of_input = nn.Dense(3 * WIDTH, name="ih")
            of_state = nn.Dense(3 * WIDTH, name="hh")
            for row in range(side):
                reset, update, new = jnp.split(of_input(X[:, row]), 3, axis=-1)
                old_reset, old_update, old_new = jnp.split(of_state(state), 3, axis=-1)
                reset = nn.sigmoid(reset + old_reset)
                update = nn.sigmoid(update + old_update)
                new = nn.tanh(new + reset * old_new)
                state = (1 - update) * new + update * state
            return state

    class Reader(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            state = GRU(name="gru")(X.reshape(-1, side, side))
            return nn.Dense(num_outputs, name="output")(state)

        def configure_optimizers(self):
            return optax.adam(self.lr)

    return Reader(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    import tensorflow as tf
    from keras import layers

    side = isqrt(num_inputs)

    class Reader(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.gru = layers.GRU(WIDTH)
            self.output = layers.Dense(num_outputs)

        def forward(self, X):
            return self.output(self.gru(tf.reshape(X, (-1, side, side))))

        def configure_optimizers(self):
            return keras.optimizers.Adam(self.lr, epsilon=1e-8)

    return Reader()
