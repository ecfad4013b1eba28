"""LeNet on pictures of any side, trained with Adam.

compare.py model docs/examples/lenet.py --data fashion-mnist --lr 0.001 --max-epochs 1
"""

from math import isqrt


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    side = isqrt(num_inputs)

    class LeNet(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.net = nn.Sequential(
                nn.Unflatten(1, (1, side, side)),
                nn.Conv2d(1, 6, kernel_size=5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(6, 16, kernel_size=5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(16 * (side // 4) ** 2, 120),
                nn.ReLU(),
                nn.Linear(120, 84),
                nn.ReLU(),
                nn.Linear(84, num_outputs),
            )

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=self.lr)

    return LeNet()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn

    side = isqrt(num_inputs)

    class LeNet(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            X = X.reshape(-1, side, side, 1)
            X = nn.relu(nn.Conv(6, (5, 5))(X))
            X = nn.max_pool(X, (2, 2), strides=(2, 2))
            X = nn.relu(nn.Conv(16, (5, 5))(X))
            X = nn.max_pool(X, (2, 2), strides=(2, 2))
            X = X.transpose(0, 3, 1, 2).reshape(len(X), -1)  # channels first, as in PyTorch
            X = nn.relu(nn.Dense(120)(X))
            X = nn.relu(nn.Dense(84)(X))
            return nn.Dense(num_outputs)(X)

        def configure_optimizers(self):
            return optax.adam(self.lr)

    return LeNet(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    from keras import layers

    side = isqrt(num_inputs)

    class LeNet(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.net = keras.Sequential(
                [
                    layers.Reshape((side, side, 1)),
                    layers.Conv2D(6, 5, padding="same", activation="relu"),
                    layers.MaxPooling2D(2),
                    layers.Conv2D(16, 5, padding="same", activation="relu"),
                    layers.MaxPooling2D(2),
                    layers.Permute((3, 1, 2)),  # channels first, as in PyTorch
                    layers.Flatten(),
                    layers.Dense(120, activation="relu"),
                    layers.Dense(84, activation="relu"),
                    layers.Dense(num_outputs),
                ]
            )

        def configure_optimizers(self):
            return keras.optimizers.Adam(self.lr, epsilon=1e-8)

    return LeNet()
