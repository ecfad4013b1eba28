"""An autoencoder: its targets are its inputs, and its loss is their squared error.

compare.py model docs/examples/autoencoder.py --data digits --lr 0.003 --max-epochs 3
"""

WIDTHS = (32, 8, 32)


def targets(X, y):
    return X


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn
    from torch.nn import functional

    class Autoencoder(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            layers, inputs = [], num_inputs
            for width in WIDTHS:
                layers += [nn.Linear(inputs, width), nn.Tanh()]
                inputs = width
            self.net = nn.Sequential(*layers, nn.Linear(inputs, num_inputs))

        def loss(self, y_hat, y, averaged=True):
            losses = functional.mse_loss(y_hat, y, reduction="none").mean(dim=1)
            return losses.mean() if averaged else losses

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=self.lr)

    return Autoencoder()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn

    class Autoencoder(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            for width in WIDTHS:
                X = nn.tanh(nn.Dense(width)(X))
            return nn.Dense(num_inputs)(X)

        def loss(self, params, X, y, state, averaged=True):
            y_hat = state.apply_fn({"params": params}, *X)
            losses = optax.squared_error(y_hat, y).mean(axis=1)
            return (losses.mean() if averaged else losses), {}

        def configure_optimizers(self):
            return optax.adam(self.lr)

    return Autoencoder(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    from keras import layers

    class Autoencoder(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            hidden = [layers.Dense(width, activation="tanh") for width in WIDTHS]
            self.net = keras.Sequential([*hidden, layers.Dense(num_inputs)])

        def loss(self, y_hat, y, averaged=True):
            losses = keras.losses.mean_squared_error(y, y_hat)
            return keras.ops.mean(losses) if averaged else losses

        def configure_optimizers(self):
            return keras.optimizers.Adam(self.lr, epsilon=1e-8)

    return Autoencoder()
