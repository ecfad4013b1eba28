"""Networks of Gluon's layers as they stand, for ``test_converters``."""

import contextlib

from mxnet import autograd, np, npx
from mxnet.gluon import nn, rnn

float64 = contextlib.nullcontext


def predict(model, X):
    model.cast("float64")  # what is not trained, too
    with autograd.record():  # as in training
        return model(np.array(X, dtype=X.dtype)).asnumpy()


def network(d2l, make, forward):
    class Network(d2l.Classifier):
        def __init__(self):
            super().__init__()
            make(self)
            self.initialize()

        def forward(self, X):
            return forward(self, X)

    return Network()


def image(X):
    return X.reshape(len(X), 8, 8, -1).transpose(0, 3, 1, 2)


def series(X):
    return X.reshape(len(X), 16, 4).transpose(0, 2, 1)


def flat(Y):
    return Y.transpose(0, *range(2, Y.ndim), 1).reshape(len(Y), -1)


def words(X):
    return (np.abs(X[:, :6]) * 8).astype("int32") % 7


def in_turn(*layers, before=lambda X: X, after=lambda Y: Y):
    def make(model):
        model.net = nn.Sequential()
        model.net.add(*(layer() for layer in layers))

    return make, lambda model, X: after(model.net(before(X)))


def layer(kind, *given, **options):
    return lambda: getattr(nn, kind)(*given, **options)


def tied(model):
    model.embedding, model.mixed = nn.Embedding(7, 5), nn.Dense(5, flatten=False)
    model.scores = nn.Dense(7, flatten=False, use_bias=False, params=model.embedding.params)


def of_tied(model, X):
    return model.scores(np.tanh(model.mixed(model.embedding(words(X))))).reshape(len(X), -1)


def recurrent(kind, frozen):
    def make(model):
        model.cells = getattr(rnn, kind)(5, layout="NTC", input_size=8)
        model.scores = nn.Dense(3)
        if frozen:
            model.cells.l0_h2h_bias.grad_req = "null"

    def forward(model, X):
        return model.scores(model.cells(X.reshape(len(X), 8, 8))[:, -1])

    return make, forward


def networks(d2l):
    """By case and variant a function that makes the network."""
    npx.set_np()
    of_series, of_image = ({"before": before, "after": flat} for before in (series, image))
    cases = {
        "linear": in_turn(
            layer("Dense", 8, activation="tanh"),
            layer("Dense", 8, activation="tanh"),
            layer("Dense", 3),
        ),
        "convolution": in_turn(
            layer("Conv2D", 4, (3, 2), activation="tanh"), layer("Conv2D", 4, 3), **of_image
        ),
        "convolution, 1-d": in_turn(layer("Conv1D", 6, 3), **of_series),
        "grouped": in_turn(layer("Conv1D", 6, 3, groups=2, in_channels=4), **of_series),
        "depthwise": in_turn(layer("Conv2D", 4, 3), layer("Conv2D", 8, 3, groups=4), **of_image),
        "transposed": in_turn(
            layer("Conv2D", 4, 3), layer("Conv2DTranspose", 3, (3, 2), (2, 2)), **of_image
        ),
        "batch norm": in_turn(layer("Conv2D", 4, 3), layer("BatchNorm", epsilon=1e-5), **of_image),
        "layer norm": in_turn(layer("Dense", 8), layer("LayerNorm"), layer("Dense", 3)),
        "embedding": in_turn(layer("Embedding", 7, 5), layer("Dense", 3), before=words),
        "tied": (tied, of_tied),
        "lstm": recurrent("LSTM", True),
        "lstm of two biases": recurrent("LSTM", False),
        "gru": recurrent("GRU", True),
        "gru of two biases": recurrent("GRU", False),
    }
    return {(case, ""): lambda made=made: network(d2l, *made) for case, made in cases.items()}
