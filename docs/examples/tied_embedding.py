"""A network whose input embedding is its output layer, too: one array, two uses.

Every pixel is one of 17 tokens; a class is a token as well. Trained with momentum.

compare.py model docs/examples/tied_embedding.py --data digits
"""

TOKENS, WIDTH = 17, 16


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    class Tied(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.embedding = nn.Embedding(TOKENS, WIDTH)
            self.hidden = nn.Linear(num_inputs * WIDTH, WIDTH)
            self.output = nn.Linear(WIDTH, TOKENS, bias=False)
            self.output.weight = self.embedding.weight

        def forward(self, X):
            tokens = (X * (TOKENS - 1)).round().long()
            hidden = self.hidden(self.embedding(tokens).flatten(1))
            return self.output(torch.tanh(hidden))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9, nesterov=True)

    return Tied()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn
    from jax import numpy as jnp

    class Tied(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            embedding = nn.Embed(TOKENS, WIDTH, name="embedding")
            tokens = jnp.round(X * (TOKENS - 1)).astype(int)
            hidden = nn.Dense(WIDTH, name="hidden")(embedding(tokens).reshape(len(X), -1))
            return embedding.attend(nn.tanh(hidden))

        def configure_optimizers(self):
            return optax.sgd(self.lr, momentum=0.9, nesterov=True)

    return Tied(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    import tensorflow as tf
    from keras import layers

    class Tied(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.embedding = layers.Embedding(TOKENS, WIDTH)
            self.hidden = layers.Dense(WIDTH, activation="tanh")

        def forward(self, X):
            tokens = tf.cast(tf.round(X * (TOKENS - 1)), tf.int32)
            embedded = tf.reshape(self.embedding(tokens), (-1, num_inputs * WIDTH))
            hidden = self.hidden(embedded)
            return tf.matmul(hidden, self.embedding.embeddings, transpose_b=True)

        def configure_optimizers(self):
            return keras.optimizers.SGD(self.lr, momentum=0.9, nesterov=True)

    return Tied()
