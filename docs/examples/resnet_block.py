"""A residual block with batch normalisation, trained with momentum.

compare.py model docs/examples/resnet_block.py --data digits --lr 0.05 --max-epochs 3
"""

from math import isqrt

CHANNELS = 8


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn
    from torch.nn import functional

    side = isqrt(num_inputs)

    class ResNet(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.stem = nn.Conv2d(1, CHANNELS, 3, padding=1)
            self.conv1 = nn.Conv2d(CHANNELS, 2 * CHANNELS, 3, stride=2, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(2 * CHANNELS)
            self.conv2 = nn.Conv2d(2 * CHANNELS, 2 * CHANNELS, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(2 * CHANNELS)
            self.shortcut = nn.Conv2d(CHANNELS, 2 * CHANNELS, 1, stride=2)
            self.output = nn.Linear(2 * CHANNELS, num_outputs)

        def forward(self, X):
            X = functional.relu(self.stem(X.reshape(-1, 1, side, side)))
            H = functional.relu(self.bn1(self.conv1(X)))
            H = functional.relu(self.bn2(self.conv2(H)) + self.shortcut(X))
            return self.output(H.mean(dim=(2, 3)))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    return ResNet()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn

    side = isqrt(num_inputs)
    same = ((1, 1), (1, 1))  # "SAME" pads only behind, where the stride is 2

    class ResNet(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X, training=False):
            def norm(name):
                average = not training
                return nn.BatchNorm(average, momentum=0.9, epsilon=1e-5, name=name)

            X = X.reshape(-1, side, side, 1)
            X = nn.relu(nn.Conv(CHANNELS, (3, 3), padding=same, name="stem")(X))
            H = nn.Conv(2 * CHANNELS, (3, 3), 2, same, use_bias=False, name="conv1")(X)
            H = nn.relu(norm("bn1")(H))
            H = nn.Conv(2 * CHANNELS, (3, 3), 1, same, use_bias=False, name="conv2")(H)
            H = norm("bn2")(H) + nn.Conv(2 * CHANNELS, (1, 1), 2, name="shortcut")(X)
            return nn.Dense(num_outputs, name="output")(nn.relu(H).mean(axis=(1, 2)))

        def configure_optimizers(self):
            return optax.sgd(self.lr, momentum=0.9)

    return ResNet(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    import tensorflow as tf
    from keras import layers

    side = isqrt(num_inputs)

    class ResNet(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            self.stem = layers.Conv2D(CHANNELS, 3, padding="same", activation="relu")
            self.pad = layers.ZeroPadding2D(1)  # "same" pads only behind, where the stride is 2
            self.conv1 = layers.Conv2D(2 * CHANNELS, 3, strides=2, use_bias=False)
            self.bn1 = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
            self.conv2 = layers.Conv2D(2 * CHANNELS, 3, padding="same", use_bias=False)
            self.bn2 = layers.BatchNormalization(momentum=0.9, epsilon=1e-5)
            self.shortcut = layers.Conv2D(2 * CHANNELS, 1, strides=2)
            self.output = layers.Dense(num_outputs)

        def forward(self, X):
            X = self.stem(tf.reshape(X, (-1, side, side, 1)))
            H = tf.nn.relu(self.bn1(self.conv1(self.pad(X))))
            H = tf.nn.relu(self.bn2(self.conv2(H)) + self.shortcut(X))
            return self.output(tf.reduce_mean(H, axis=(1, 2)))

        def configure_optimizers(self):
            return keras.optimizers.SGD(self.lr, momentum=0.9)

    return ResNet()
