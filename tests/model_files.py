"""Files of models of many kinds for ``--model``: in several frameworks, sound and with a mistake.

Examples are the digits: 8 rows of 8 pixels.
"""

import re
from typing import NamedTuple

TORCH = """
def torch_model(d2l, num_inputs, num_outputs, lr):
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                zeros = torch.zeros([sizes.get(size, size) for size in shape])
                setattr(self, name, nn.Parameter(zeros))
            LAYERS

        def forward(self, X):
            FORWARD

    return Mine()
"""
JAX = """
def jax_model(d2l, num_inputs, num_outputs, lr):
    import jax
    from flax import linen as nn
    from jax import numpy as jnp

    class Mine(d2l.Classifier):
        lr: float

        @nn.compact
        def __call__(self, X):
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            p = {
                name: self.param(
                    name, nn.initializers.zeros, [sizes.get(size, size) for size in shape]
                )
                for name, shape in PARAMETERS.items()
            }
            FORWARD

    return Mine(lr)
"""
TENSORFLOW = """
def tensorflow_model(d2l, num_inputs, num_outputs, lr):
    import tensorflow as tf

    class Mine(d2l.Classifier):
        def __init__(self):
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                zeros = tf.zeros([sizes.get(size, size) for size in shape])
                setattr(self, name, tf.Variable(zeros))
            LAYERS

        def forward(self, X):
            FORWARD

    return Mine()
"""
MXNET = """
def mxnet_model(d2l, num_inputs, num_outputs, lr):
    from mxnet import np as mx, npx
    from mxnet.gluon import nn

    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                array = mx.zeros([sizes.get(size, size) for size in shape])
                array.attach_grad()
                setattr(self, name, array)
            LAYERS

        def forward(self, X):
            FORWARD

    return Mine()
"""
FRAMES = {"torch": TORCH, "jax": JAX, "tensorflow": TENSORFLOW, "mxnet": MXNET}


def model_file(parameters, forwards, layers=None):
    """The text of a file.

    Args:
        parameters: what ``PARAMETERS`` is, as text.
        forwards: the body of ``forward`` by framework.
        layers: what ``__init__`` does besides, by framework.
    """
    text = f"PARAMETERS = {parameters}\n"
    for name, body in forwards.items():
        frame = FRAMES[name].replace("LAYERS", (layers or {}).get(name, "pass"))
        lines = body.strip().splitlines()
        text += frame.replace("FORWARD", "\n            ".join(line.strip() for line in lines))
    return text


class Kind(NamedTuple):
    """A kind of model.

    ``mistake`` is of the framework of that name: what stands in its forward pass, and what would
    in a port that went wrong.
    """

    parameters: str
    forwards: dict
    mistake: tuple

    @property
    def sound(self):
        return model_file(self.parameters, self.forwards)

    @property
    def wrong(self):
        name, right, wrong = self.mistake
        assert self.forwards[name].count(right) == 1
        body = self.forwards[name].replace(right, wrong)
        return model_file(self.parameters, self.forwards | {name: body})


HEAD = '"W": (64, "outputs"), "b": ("outputs",)'
KINDS = {
    "convolution": Kind(
        '{"K": (3, 3, 1, 4), "W": (256, "outputs"), "b": ("outputs",)}',
        {
            "torch": """
                H = F.pad(X.reshape(-1, 1, 8, 8), (1, 1, 1, 1))
                H = torch.tanh(F.conv2d(H, self.K.permute(3, 2, 0, 1)))
                return H.permute(0, 2, 3, 1).reshape(-1, 256) @ self.W + self.b
            """,
            "jax": """
                H = jax.lax.conv_general_dilated(
                X.reshape(-1, 8, 8, 1), p["K"], (1, 1), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"))
                return jnp.tanh(H).reshape(-1, 256) @ p["W"] + p["b"]
            """,
            "tensorflow": """
                H = tf.nn.conv2d(tf.reshape(X, (-1, 8, 8, 1)), self.K, 1, "SAME")
                return tf.reshape(tf.tanh(H), (-1, 256)) @ self.W + self.b
            """,
        },
        ("torch", "(1, 1, 1, 1)", "(0, 2, 0, 2)"),
    ),
    "attention": Kind(
        '{"Q": (8, 8), "K": (8, 8), "V": (8, 8), ' + HEAD + "}",
        {
            "torch": """
                H = X.reshape(-1, 8, 8)
                A = torch.softmax((H @ self.Q) @ (H @ self.K).transpose(1, 2) / 8**0.5, dim=-1)
                return (A @ (H @ self.V)).reshape(-1, 64) @ self.W + self.b
            """,
            "jax": """
                H = X.reshape(-1, 8, 8)
                A = nn.softmax((H @ p["Q"]) @ (H @ p["K"]).swapaxes(1, 2) / 8**0.5, axis=-1)
                return (A @ (H @ p["V"])).reshape(-1, 64) @ p["W"] + p["b"]
            """,
        },
        ("jax", "axis=-1", "axis=-2"),
    ),
    "recurrence": Kind(
        '{"U": (8, 8), "R": (8, 8), "c": (8,), "W": (8, "outputs"), "b": ("outputs",)}',
        {
            "torch": """
                h = torch.zeros(len(X), 8, dtype=X.dtype)
                for row in X.reshape(-1, 8, 8).unbind(1):
                    h = torch.tanh(row @ self.U + h @ self.R + self.c)
                return h @ self.W + self.b
            """.replace("    h = torch.tanh", "h = torch.tanh"),
            "jax": """
                h = jnp.zeros((len(X), 8), X.dtype)
                for row in range(8): h = jnp.tanh(X[:, 8 * row:8 * row + 8] @ p["U"] + h @ p["R"] + p["c"])
                return h @ p["W"] + p["b"]
            """,
            "mxnet": """
                h = mx.zeros((len(X), 8), dtype=X.dtype)
                for row in range(8): h = mx.tanh(mx.dot(X[:, 8 * row:8 * row + 8], self.U) + mx.dot(h, self.R) + self.c)
                return mx.dot(h, self.W) + self.b
            """,
        },
        ("jax", '+ p["c"])', '+ 2 * p["c"])'),
    ),
    "depthwise and pooling": Kind(
        '{"K": (3, 3, 1, 4), ' + HEAD + "}",
        {
            "torch": """
                H = F.conv2d(X.reshape(-1, 1, 8, 8), self.K.permute(3, 2, 0, 1), padding=1)
                H = F.avg_pool2d(H, 3, 2, 1, count_include_pad=False)
                return torch.tanh(H).permute(0, 2, 3, 1).reshape(-1, 64) @ self.W + self.b
            """,
            "jax": """
                H = jax.lax.conv_general_dilated(
                X.reshape(-1, 8, 8, 1), p["K"], (1, 1), "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=1)
                H = nn.avg_pool(H, (3, 3), (2, 2), ((1, 1), (1, 1)), count_include_pad=False)
                return jnp.tanh(H).reshape(-1, 64) @ p["W"] + p["b"]
            """,
        },
        ("torch", "count_include_pad=False", "count_include_pad=True"),
    ),
    "layers of all features": Kind(
        '{"W1": ("inputs", 16), "b1": (16,), "W2": (16, "outputs"), "b2": ("outputs",)}',
        {
            "torch": """
                return F.gelu(X @ self.W1 + self.b1) @ self.W2 + self.b2
            """,
            "jax": """
                H = nn.gelu(X @ p["W1"] + p["b1"], approximate=False)
                return H @ p["W2"] + p["b2"]
            """,
        },
        ("jax", "approximate=False", "approximate=True"),
    ),
}


def backends_of(text):
    """The backends that a file has a model for."""
    return re.findall(r"^def (\w+)_model", text, re.MULTILINE)
