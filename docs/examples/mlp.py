"""A multilayer perceptron with ReLU, trained with momentum.

compare.py model docs/examples/mlp.py --data digits
"""

WIDTHS = (64, 32)


def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn

    class MLP(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            layers, inputs = [], num_inputs
            for width in WIDTHS:
                layers += [nn.Linear(inputs, width), nn.ReLU()]
                inputs = width
            self.net = nn.Sequential(*layers, nn.Linear(inputs, num_outputs))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    return MLP()


def jax_model(d2l, num_inputs, num_outputs, lr):
    import optax
    from flax import linen as nn

    class MLP(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            for width in WIDTHS:
                X = nn.relu(nn.Dense(width)(X))
            return nn.Dense(num_outputs)(X)

        def configure_optimizers(self):
            return optax.sgd(self.lr, momentum=0.9)

    return MLP(lr)


def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import keras
    from keras import layers

    class MLP(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            hidden = [layers.Dense(width, activation="relu") for width in WIDTHS]
            self.net = keras.Sequential([*hidden, layers.Dense(num_outputs)])

        def configure_optimizers(self):
            return keras.optimizers.SGD(self.lr, momentum=0.9)

    return MLP()


def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import gluon
    from mxnet.gluon import nn

    class MLP(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            self.net = nn.Sequential()
            for width in WIDTHS:
                self.net.add(nn.Dense(width, activation="relu"))
            self.net.add(nn.Dense(num_outputs))
            self.net.initialize()

        def configure_optimizers(self):
            settings = {"learning_rate": self.lr, "momentum": 0.9}
            return gluon.Trainer(self.collect_params(), "sgd", settings)

    return MLP()
