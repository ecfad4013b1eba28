"""Networks of PyTorch's layers as they stand, for ``test_converters``: by case, what is made."""

import contextlib

import torch
from torch import nn

float64 = contextlib.nullcontext


def predict(model, X):
    with torch.no_grad():
        return model(torch.tensor(X)).numpy()


def network(d2l, make, forward):
    class Network(d2l.Classifier):
        def __init__(self):
            super().__init__()
            make(self)

        def forward(self, X):
            return forward(self, X)

    return Network()


def image(X):  # channels last, as it comes
    return X.reshape(len(X), 8, 8, -1).permute(0, 3, 1, 2)


def flat(Y):
    return Y.permute(0, *range(2, Y.ndim), 1).flatten(1)


def words(X):
    return X[:, :6].abs().mul(8).long() % 7


def in_turn(*layers, before=lambda X: X, after=lambda Y: Y):
    def make(model):
        model.net = nn.Sequential(*layers)

    return make, lambda model, X: after(model.net(before(X)))


def tied(model):
    model.embedding, model.mixed = nn.Embedding(7, 5), nn.Linear(5, 5)
    model.scores = nn.Linear(5, 7, bias=False)
    model.scores.weight = model.embedding.weight


def recurrent(kind, frozen):
    def make(model):
        model.cells = getattr(nn, kind)(8, 5, batch_first=True)
        model.scores = nn.Linear(5, 3)
        if frozen:
            nn.init.zeros_(model.cells.bias_hh_l0).requires_grad_(False)

    return make, lambda model, X: model.scores(model.cells(X.reshape(len(X), 8, 8))[0][:, -1])


def attention(model):
    model.attention = nn.MultiheadAttention(8, 2, batch_first=True)


def attend(model, X):
    X = X.reshape(len(X), 8, 8)
    return model.attention(X, X, X, need_weights=False)[0].flatten(1)


def series(X):
    return X.reshape(len(X), 16, 4).permute(0, 2, 1)


def by_channels(*layers):
    return in_turn(*layers, before=image, after=flat)


def cases():
    return {
        "linear": in_turn(nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3)),
        "convolution": by_channels(nn.Conv2d(1, 4, (3, 2)), nn.Tanh(), nn.Conv2d(4, 4, 3)),
        "convolution, 1-d": in_turn(nn.Conv1d(4, 6, 3), before=series, after=flat),
        "grouped": in_turn(nn.Conv1d(4, 6, 3, groups=2), before=series, after=flat),
        "depthwise": by_channels(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3, groups=4)),
        "separable": by_channels(
            nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.Conv2d(8, 2, 1)
        ),
        "transposed": by_channels(nn.Conv2d(1, 4, 3), nn.ConvTranspose2d(4, 3, (3, 2), stride=2)),
        "transposed, 1-d": in_turn(nn.ConvTranspose1d(4, 3, 3), before=series, after=flat),
        "batch norm": by_channels(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
        "group norm": by_channels(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4, eps=1e-3)),
        "layer norm": in_turn(nn.Linear(64, 8), nn.LayerNorm(8), nn.Linear(8, 3)),
        "embedding": in_turn(nn.Embedding(7, 5), nn.Flatten(), nn.Linear(30, 3), before=words),
        "tied": (
            tied,
            lambda model, X: model.scores(
                torch.tanh(model.mixed(model.embedding(words(X))))
            ).flatten(1),
        ),
        "lstm": recurrent("LSTM", True),
        "lstm of two biases": recurrent("LSTM", False),
        "gru": recurrent("GRU", True),
        "gru of two biases": recurrent("GRU", False),
        "rnn": recurrent("RNN", True),
        "attention": (attention, attend),
    }


def networks(d2l):
    """By case and variant a function that makes the network."""
    return {
        (case, ""): lambda made=made: network(d2l, *made).double() for case, made in cases().items()
    }
