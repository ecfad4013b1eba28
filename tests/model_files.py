"""Files of models of many kinds for the command ``model``: in several frameworks, sound or not.

Examples are the digits: 8 rows of 8 pixels. How a framework computes stands in
``own_models/``, in a file of its name.
"""

import runpy

from framework_parity.common.environments.backend import ROOT
from tests.conftest import BACKENDS

FOUND = {
    name: runpy.run_path(str(place))
    for name in BACKENDS
    if (place := ROOT / "tests" / "own_models" / f"{name}.py").exists()
}
KINDS = {
    "convolution": '{"K": (3, 3, 1, 4), "W": (256, "outputs"), "b": ("outputs",)}',
    "attention": '{"Q": (8, 8), "K": (8, 8), "V": (8, 8), "W": (64, "outputs"), "b": ("outputs",)}',
    "recurrence": '{"U": (8, 8), "R": (8, 8), "c": (8,), "W": (8, "outputs"), "b": ("outputs",)}',
    "depthwise and pooling": '{"K": (3, 3, 1, 4), "W": (64, "outputs"), "b": ("outputs",)}',
    "layers of all features": '{"W1": ("inputs", 16), "b1": (16,), "W2": (16, "outputs")}',
}
"""Parameters by kind."""

PARAMETERS = '{"W": ("inputs", "outputs"), "b": ("outputs",)}'
UNEQUAL = {name: found["UNEQUAL"] for name, found in FOUND.items()}


def model_file(parameters, forwards, layers="pass"):
    """The text of a file.

    Args:
        parameters: what ``PARAMETERS`` is, as text.
        forwards: the body of ``forward`` by framework.
        layers: what ``__init__`` does besides.
    """
    text = f"PARAMETERS = {parameters}\n"
    for name, body in forwards.items():
        lines = "\n            ".join(body.strip().splitlines())
        frame = FOUND[name]["FRAME"].replace("LAYERS", layers)
        text += frame.replace("FORWARD", lines)
    return text


def sound_file(kind):
    """A file with the model in every framework that has it, and their names."""
    forwards = {
        name: found["FORWARDS"][kind] for name, found in FOUND.items() if kind in found["FORWARDS"]
    }
    return model_file(KINDS[kind], forwards), list(forwards)


def wrong_file(kind):
    """A file with the model in two frameworks, and the name of the one that went wrong."""
    (faulty,) = (name for name, found in FOUND.items() if kind in found["MISTAKES"])
    right, wrong = FOUND[faulty]["MISTAKES"][kind]
    _, names = sound_file(kind)
    other = next(name for name in names if name != faulty)
    forwards = {name: FOUND[name]["FORWARDS"][kind] for name in (other, faulty)}
    assert forwards[faulty].count(right) == 1
    forwards[faulty] = forwards[faulty].replace(right, wrong)
    return model_file(KINDS[kind], forwards), faulty


LAYERED = (
    '{"W1": ("inputs", 16), "b1": (16,), "W2": (16, 16), "b2": (16,), '
    '"W3": (16, "outputs"), "b3": ("outputs",)}'
)
SOUND = {"FIRST": "1", "EPSILON": "1e-5", "SECOND": "1", "BIAS": "1", "THIRD": "1"}
FAULTS = {
    "a first layer that is larger": ({"FIRST": "1.001"}, "forward", "hidden"),
    "another function": ({}, "forward", "act"),
    "another epsilon": ({"EPSILON": "1e-4"}, "forward", "norm"),
    "a second layer that is larger": ({"SECOND": "1.001"}, "forward", "second"),
    "a third layer that is larger": ({"THIRD": "1.001"}, "forward", "scores"),
    "no bias": ({"BIAS": "0"}, "gradient", "b3"),  # it is zero at first: the forward pass is right
}
"""What is wrong in the layers of a port, and the stage and rung in which it shows first."""


def layered_file(name, fault=None):
    """The text of a file with the layers of one framework, sound or with one of ``FAULTS``."""
    layers, body, functions = FOUND[name]["LAYERED"]
    text = model_file(LAYERED, {name: body}, layers)
    changed = FAULTS[fault][0] if fault else {}
    function = functions[fault == "another function"]
    for mark, value in (SOUND | changed | {"FUNCTION": function}).items():
        text = text.replace(mark, value)
    return text


def unequal_file(name, case):
    """The text of a file whose model does what a comparison may not be able to hold equal."""
    layers, head, _ = UNEQUAL[name][case]
    return model_file(PARAMETERS, {name: f"H = {head}\n{FOUND[name]['LINEAR']}"}, layers)


PLAIN_LINEAR = """
import numpy as np


def PLAIN_model(d2l, num_inputs, num_outputs, lr):
    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.W, self.b = np.zeros((num_inputs, num_outputs)), np.zeros(num_outputs)

        def forward(self, X):
            return X @ self.W + self.b

        def gradients(self, X, y_hat, y):
            exp = np.exp(y_hat - y_hat.max(axis=1, keepdims=True))
            error = exp / exp.sum(axis=1, keepdims=True)
            error[np.arange(len(y)), y] -= 1
            error /= error.dtype.type(len(y))
            return {"W": X.T @ error, "b": error.sum(axis=0)}

        def configure_optimizers(self):
            return OPTIMIZER

    return Mine()
"""
PLAIN_OPTIMIZERS = {
    "momentum": "d2l.SGD(self.named_tensors(), lr, momentum=0.9)",
    "nesterov": "d2l.SGD(self.named_tensors(), lr, momentum=0.9, nesterov=True)",
    "adam": "d2l.Adam(self.named_tensors(), lr, eps=1e-30)",
    "adamw": "d2l.AdamW(self.named_tensors(), lr, eps=1e-30, weight_decay=0.01)",
    "rmsprop": "d2l.RMSprop(self.named_tensors(), lr, alpha=0.9, eps=1e-30)",
    "adagrad": "d2l.Adagrad(self.named_tensors(), lr, eps=1e-30)",
}


def optimized_file(kind, plain, **others):
    """A linear model in every framework that has this optimizer, and in NumPy, ``plain``'s name.

    ``others`` are optimizers that frameworks have in its place.
    """
    text = f"PARAMETERS = {PARAMETERS}\n" + PLAIN_LINEAR.replace("PLAIN", plain)
    text = text.replace("OPTIMIZER", others.get(plain, PLAIN_OPTIMIZERS[kind]))
    names = [name for name, found in FOUND.items() if kind in found["OPTIMIZERS"]]
    for name in names:
        text += optimized(name, others.get(name, FOUND[name]["OPTIMIZERS"][kind]))
    return text, names


def optimized(name, optimizer):
    """A function of a file: a linear model in a framework, with an optimizer."""
    frame = FOUND[name]["OPTIMIZED"].replace("OPTIMIZER", optimizer).replace("LAYERS", "pass")
    return frame.replace("FORWARD", f"H = X\n            {FOUND[name]['LINEAR']}")


LEARNED = {
    "regression": '{"W": ("inputs", "outputs"), "b": ("outputs",)}',
    "autoencoder": '{"V": ("inputs", 4), "W": (4, "outputs"), "b": ("outputs",)}',
    "sequence": '{"W": ("inputs", 6), "b": (6,)}',
}
"""Parameters of models that learn numbers, or sequences of two classes out of three."""
TARGET_FAULTS = {
    "targets of the example before": "(y_hat - ROLLED) ** 2",
    "targets of another scale": "(y_hat - 1.01 * y) ** 2",
    "a sum over the outputs": "SUM",
    "absolute errors": "abs(y_hat - y)",
}
"""What may be wrong in a loss, in place of the squares."""
SQUARES = "(y_hat - y) ** 2"

PLAIN_LEARNED = """
import numpy as np

METRICS


def PLAIN_model(d2l, num_inputs, num_outputs, lr):
    class Mine(d2l.Classifier):
        def __init__(self):
            super().__init__()
            self.lr = lr
            sizes = {"inputs": num_inputs, "outputs": num_outputs}
            for name, shape in PARAMETERS.items():
                setattr(self, name, np.zeros([sizes.get(size, size) for size in shape]))

        def forward(self, X):
            H = np.tanh(X @ self.V) if "V" in PARAMETERS else X
            return (H @ self.W + self.b).reshape(SHAPE)

        def gradients(self, X, y_hat, y):
            H = np.tanh(X @ self.V) if "V" in PARAMETERS else X
            D = (2 * (y_hat - y) / y_hat.dtype.type(y.size)).reshape(len(X), -1)
            found = {"W": H.T @ D, "b": D.sum(axis=0)}
            if "V" in PARAMETERS:
                found["V"] = X.T @ (D @ self.W.T * (1 - H**2))
            return found

        def loss(self, y_hat, y, averaged=True):
            losses = (y_hat - y) ** 2
            return losses.mean() if averaged else losses

    return Mine()
"""
CLASSES = (
    "D = (2 * (y_hat - y) / y_hat.dtype.type(y.size)).reshape(len(X), -1)",
    """exp = np.exp(y_hat - y_hat.max(axis=2, keepdims=True))
            D = exp / exp.sum(axis=2, keepdims=True) - np.eye(3, dtype=y_hat.dtype)[y]
            D = (D / y_hat.dtype.type(y.size)).reshape(len(X), -1)""",
)
"""Of cross-entropy in place of squares."""


def plain_learned_file(kind, plain, metrics="", shape="len(X), -1"):
    """The text of a file with a model that learns numbers, or sequences, in NumPy."""
    text = f"PARAMETERS = {LEARNED[kind]}\n" + PLAIN_LEARNED.replace("METRICS", metrics)
    if kind == "autoencoder":
        text += "\n\ndef targets(X, y):\n    return X\n"
    if kind == "sequence":
        start, end = text.index("        def loss("), text.index("    return Mine()")
        text = (text[:start] + text[end:]).replace(*CLASSES)
        shape = "-1, 2, 3"
    return text.replace("SHAPE", shape).replace("PLAIN", plain)


def learned_file(name, kind, fault=None, metrics=""):
    """The text of a file with such a model in one framework, sound or with a wrong loss."""
    found = FOUND[name]
    text = metrics + model_file(LEARNED[kind], {name: found["LEARNED"][kind]})
    if kind == "sequence":
        return text
    losses = TARGET_FAULTS[fault] if fault else SQUARES
    loss = found["LOSS"].replace("LOSSES", losses)
    for mark, value in found["TARGET_FAULTS"].items():
        loss = loss.replace(mark, value.replace("D", f"({SQUARES})"))
    return text.replace("    return Mine", f"{loss.rstrip()}\n\n    return Mine")
