"""A Transformer encoder on the rows of pictures, trained with AdamW.

compare.py model docs/examples/transformer.py --data digits --lr 0.003 --max-epochs 3
"""

from math import isqrt

WIDTH, HEADS, DEPTH = 32, 4, 2


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn
    from torch.nn import functional

    side = isqrt(num_inputs)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1 = nn.LayerNorm(WIDTH)
            self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
            self.norm2 = nn.LayerNorm(WIDTH)
            self.up = nn.Linear(WIDTH, 4 * WIDTH)
            self.down = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, X, empty):
            H = self.norm1(X)
            X = X + self.attention(H, H, H, key_padding_mask=empty, need_weights=False)[0]
            return X + self.down(functional.gelu(self.up(self.norm2(X))))

    class Transformer(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.embed = nn.Linear(side, WIDTH)
            self.positions = nn.Parameter(torch.zeros(side, WIDTH))
            self.blocks = nn.ModuleList([Block() for _ in range(DEPTH)])
            self.norm = nn.LayerNorm(WIDTH)
            self.output = nn.Linear(WIDTH, num_outputs)

        def forward(self, X):
            X = X.reshape(-1, side, side)
            empty = (X == 0).all(dim=-1)  # rows that nobody attends to
            X = self.embed(X) + self.positions
            for block in self.blocks:
                X = block(X, empty)
            return self.output(self.norm(X).mean(dim=1))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=self.lr)

    return Transformer()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn

    side = isqrt(num_inputs)

    class Block(nn.Module):
        @nn.compact
        def __call__(self, X, mask):
            H = nn.LayerNorm(epsilon=1e-5, name="norm1")(X)
            X = X + nn.MultiHeadDotProductAttention(HEADS, name="attention")(H, mask=mask)
            H = nn.LayerNorm(epsilon=1e-5, name="norm2")(X)
            H = nn.gelu(nn.Dense(4 * WIDTH, name="up")(H), approximate=False)
            return X + nn.Dense(WIDTH, name="down")(H)

    class Transformer(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            X = X.reshape(-1, side, side)
            mask = (X != 0).any(axis=-1)[:, None, None, :]  # rows that are attended to
            positions = self.param("positions", nn.initializers.zeros, (side, WIDTH))
            X = nn.Dense(WIDTH, name="embed")(X) + positions
            for i in range(DEPTH):
                X = Block(name=f"blocks_{i}")(X, mask)
            X = nn.LayerNorm(epsilon=1e-5, name="norm")(X)
            return nn.Dense(num_outputs, name="output")(X.mean(axis=1))

        def configure_optimizers(self):
            return optax.adamw(self.lr, weight_decay=0.01)

    return Transformer(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    import tensorflow as tf
    from keras import layers

    side = isqrt(num_inputs)

    class Block(layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm1 = layers.LayerNormalization(epsilon=1e-5)
            self.attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS)
            self.norm2 = layers.LayerNormalization(epsilon=1e-5)
            self.up = layers.Dense(4 * WIDTH, activation="gelu")
            self.down = layers.Dense(WIDTH)

        def call(self, X, mask):
            H = self.norm1(X)
            X = X + self.attention(H, H, attention_mask=mask)
            return X + self.down(self.up(self.norm2(X)))

    class Transformer(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.embed = layers.Dense(WIDTH)
            self.positions = tf.Variable(tf.zeros((side, WIDTH)))
            self.blocks = [Block() for _ in range(DEPTH)]
            self.norm = layers.LayerNormalization(epsilon=1e-5)
            self.output = layers.Dense(num_outputs)

        def forward(self, X):
            X = tf.reshape(X, (-1, side, side))
            mask = tf.reduce_any(X != 0, axis=-1)[:, None, :]  # rows that are attended to
            X = self.embed(X) + self.positions
            for block in self.blocks:
                X = block(X, mask)
            return self.output(tf.reduce_mean(self.norm(X), axis=1))

        def configure_optimizers(self):
            return keras.optimizers.AdamW(self.lr, weight_decay=0.01, epsilon=1e-8)

    return Transformer()
