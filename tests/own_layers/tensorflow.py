"""Networks of Keras' layers as they stand, for ``test_converters``."""

import contextlib

import tensorflow as tf

keras = tf.keras.layers
float64 = contextlib.nullcontext


def predict(model, X):
    return model(tf.constant(X)).numpy()


def network(d2l, make, forward):
    class Network(d2l.Classifier):
        def __init__(self):
            make(self)

        def forward(self, X):
            return forward(self, X)

    return Network()


def image(X):
    return tf.reshape(X, (len(X), 8, 8, -1))


def series(X):
    return tf.reshape(X, (len(X), 16, 4))


def rows(X):
    return tf.reshape(X, (len(X), 8, 8))


def flat(Y):
    return tf.reshape(Y, (len(Y), -1))


def words(X):
    return tf.cast(tf.abs(X[:, :6]) * 8, tf.int32) % 7


def in_turn(layers, before=lambda X: X, after=lambda Y: Y):
    def make(model):
        model.net = tf.keras.Sequential(layers())

    def forward(model, X):
        return after(model.net(before(X), training=True))

    return make, forward


def tied(model):
    model.embedding, model.mixed = keras.Embedding(7, 5), keras.Dense(5)


def of_tied(model, X):
    H = tf.tanh(model.mixed(model.embedding(words(X))))
    return flat(tf.matmul(H, tf.convert_to_tensor(model.embedding.embeddings), transpose_b=True))


def attention(model):
    model.attention = keras.MultiHeadAttention(2, 4)


def attend(model, X):
    return flat(model.attention(rows(X), rows(X)))


def networks(d2l):
    """By case and variant a function that makes the network."""
    of_series, of_image = ({"before": before, "after": flat} for before in (series, image))
    cases = {
        "linear": in_turn(lambda: [keras.Dense(8, "tanh"), keras.Dense(8, "tanh"), keras.Dense(3)]),
        "convolution": in_turn(
            lambda: [keras.Conv2D(4, (3, 2), activation="tanh"), keras.Conv2D(4, 3)], **of_image
        ),
        "convolution, 1-d": in_turn(lambda: [keras.Conv1D(6, 3)], **of_series),
        "grouped": in_turn(lambda: [keras.Conv1D(6, 3, groups=2)], **of_series),
        "depthwise": in_turn(
            lambda: [keras.Conv2D(4, 3), keras.DepthwiseConv2D(3, depth_multiplier=2)], **of_image
        ),
        "separable": in_turn(
            lambda: [keras.Conv2D(4, 3), keras.SeparableConv2D(2, 3, depth_multiplier=2)],
            **of_image,
        ),
        "transposed": in_turn(
            lambda: [keras.Conv2D(4, 3), keras.Conv2DTranspose(3, (3, 2), 2)], **of_image
        ),
        "transposed, 1-d": in_turn(lambda: [keras.Conv1DTranspose(3, 3)], **of_series),
        "batch norm": in_turn(
            lambda: [keras.Conv2D(4, 3), keras.BatchNormalization(epsilon=1e-5)], **of_image
        ),
        "group norm": in_turn(
            lambda: [keras.Conv2D(4, 3), keras.GroupNormalization(2, epsilon=1e-3)], **of_image
        ),
        "layer norm": in_turn(
            lambda: [keras.Dense(8), keras.LayerNormalization(epsilon=1e-5), keras.Dense(3)]
        ),
        "embedding": in_turn(
            lambda: [keras.Embedding(7, 5), keras.Flatten(), keras.Dense(3)], before=words
        ),
        "tied": (tied, of_tied),
        "lstm": in_turn(lambda: [keras.LSTM(5), keras.Dense(3)], before=rows),
        "gru of two biases": in_turn(lambda: [keras.GRU(5), keras.Dense(3)], before=rows),
        "rnn": in_turn(lambda: [keras.SimpleRNN(5), keras.Dense(3)], before=rows),
        "attention": (attention, attend),
    }
    return {(case, ""): lambda made=made: network(d2l, *made) for case, made in cases.items()}
