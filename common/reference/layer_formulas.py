"""What layers compute, in NumPy, each with what frameworks are known to choose differently.

Arrays are float64. Channels stand in the last axis, but where an axis is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)


def sigmoid(X: Floats) -> Floats:
    """1 / (1 + exp(−x)), of large numbers, too."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * X)))


def softplus(X: Floats) -> Floats:
    """log(1 + exp(x))."""
    return np.asarray(np.logaddexp(0.0, X))


FUNCTIONS: dict[str, Callable[[Floats], Floats]] = {
    "none": lambda X: X,
    "ReLU": lambda X: np.maximum(X, 0.0),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "GELU by erf": lambda X: X * 0.5 * (1 + np.asarray(_erf(X / math.sqrt(2)), np.float64)),
    "GELU by tanh": lambda X: (
        0.5 * X * (1 + np.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))
    ),
    "GELU by sigmoid": lambda X: X * sigmoid(1.702 * X),
    "SiLU": lambda X: X * sigmoid(X),
    "softplus": softplus,
    "softsign": lambda X: X / (1 + np.abs(X)),
    "SELU": lambda X: 1.0507009873554805 * np.where(X > 0, X, 1.6732632423543772 * np.expm1(X)),
    "ReLU6": lambda X: np.clip(X, 0.0, 6.0),
    "hard tanh": lambda X: np.clip(X, -1.0, 1.0),
    "hard sigmoid of x/6": lambda X: np.clip(X / 6 + 0.5, 0.0, 1.0),
    "hard sigmoid of 0.2x": lambda X: np.clip(0.2 * X + 0.5, 0.0, 1.0),
    "hard swish": lambda X: X * np.clip(X / 6 + 0.5, 0.0, 1.0),
    "Mish": lambda X: X * np.tanh(softplus(X)),
    "log sigmoid": lambda X: -softplus(-X),
    "square": np.square,
}
"""Functions of single numbers. GELU: Hendrycks and Gimpel, arXiv:1606.08415, eq. 2 and after; SiLU:
arXiv:1702.03118; SELU: arXiv:1706.02515; Mish: arXiv:1908.08681. A hard sigmoid has the slope 1/6
in PyTorch, Flax and Keras 3, 0.2 in MXNet and in Keras before."""

SLOPED: dict[str, Callable[[Floats, float], Floats]] = {
    "leaky ReLU": lambda X, slope: np.where(X > 0, X, slope * X),
    "ELU": lambda X, slope: np.where(X > 0, X, slope * np.expm1(np.minimum(X, 0.0))),
}
"""Those with a number to choose: the slope below zero (by default 0.01 in PyTorch and Flax, 0.3 in
Keras), or what an ELU falls to (arXiv:1511.07289)."""


def normalised(
    X: Floats,
    over: tuple[str, int, int],
    epsilon: float,
    centred: bool = True,
    biased: bool = True,
    inside: bool = True,
    moments: Floats | None = None,
) -> Floats:
    """(x − mean) / √(variance + ε), or over √variance + ε if ε is not ``inside`` the root.

    Args:
        X: what is normalised.
        over: ``("features", k, 0)``, over the last k axes (layer normalisation,
            arXiv:1607.06450); ``("batch", axis, 0)``, over all but the channels' axis (batch
            normalisation, arXiv:1502.03167); ``("groups", axis, g)``, over g groups of channels
            and all places of one example (group normalisation, arXiv:1803.08494).
        epsilon: ε.
        centred: whether the mean is subtracted; else it is the root of the mean square
            (arXiv:1910.07467).
        biased: whether the variance is divided by n, else by n − 1.
        inside: whether ε is inside the root.
        moments: of a batch, where ``X`` is a part of it: mean, variance (by n) and n of each
            channel, shape ``(3, channels)``.
    """
    kind, axis, groups = over
    shape = X.shape
    if kind == "groups":
        X = X.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
        axes = tuple(a for a in range(X.ndim) if a not in (0, axis))
    elif kind == "batch":
        axes = tuple(a for a in range(X.ndim) if a != axis)
    else:
        axes = tuple(range(X.ndim - axis, X.ndim))
    if moments is None:
        mean = X.mean(axes, keepdims=True)
        square = ((X - mean) ** 2).mean(axes, keepdims=True)
        n: Any = math.prod(X.shape[a] for a in axes)
    else:
        there = [size if a == axis else 1 for a, size in enumerate(X.shape)]
        mean, square, n = (values.reshape(there) for values in moments)
    deviation = X - mean if centred else X
    variance = square if centred else square + mean**2
    variance = variance if biased else variance * (n / np.maximum(n - 1, 1))
    root = np.sqrt(variance + epsilon) if inside else np.sqrt(variance) + epsilon
    return np.asarray((deviation / root).reshape(shape))


def softmax(X: Floats, axis: int = -1, mask: Floats | None = None, late: bool = False) -> Floats:
    """exp(x) over its sum along an axis.

    Args:
        X: scores.
        axis: along which.
        mask: what is kept, 1, and what is not, 0.
        late: whether the mask falls on the result, which is not divided by its sum again.
    """
    kept = X if mask is None or late else np.where(mask > 0, X, -np.inf)
    E = np.exp(kept - kept.max(axis, keepdims=True))
    E = E / E.sum(axis, keepdims=True)
    return np.asarray(E * mask if mask is not None and late else E)


def attention(
    Q: Floats, K: Floats, V: Floats, heads: int, scale: float, mask: str = "none"
) -> Floats:
    """softmax(scale · Q Kᵀ) V in several heads (arXiv:1706.03762).

    Args:
        Q, K, V: shape ``(n, T, d)``.
        heads: into how many the last axis is divided.
        scale: 1/√(d / heads) by rights.
        mask: ``none``, ``causal``, or ``causal, late``: on the weights, after the softmax.
    """
    q, k, v = (A.reshape(*A.shape[:2], heads, -1).swapaxes(1, 2) for A in (Q, K, V))
    scores = scale * (q @ k.swapaxes(-1, -2))
    kept = np.tril(np.ones(scores.shape[-2:])) if mask != "none" else None
    found = softmax(scores, mask=kept, late=mask.endswith("late")) @ v
    return np.asarray(found.swapaxes(1, 2).reshape(*Q.shape[:2], -1))


PADDINGS = {
    "zeros": "constant",
    "reflection": "reflect",
    "the edge": "edge",
    "the other side": "wrap",
}
"""What stands beyond the edge, and NumPy's word for it."""


def windows(
    X: Floats,
    size: Sequence[int],
    stride: int,
    out: Sequence[int],
    before: Sequence[int],
    mode: str = "zeros",
    fill: float = 0.0,
) -> Floats:
    """The places that a filter sees: shape ``(n, *out, channels, *size)``.

    Args:
        X: shape ``(n, *places, channels)``.
        size: of the filter.
        stride: from one place to the next.
        out: how many places there are; so much is padded behind as these need.
        before: what is padded before the first place, by axis.
        mode: one of :data:`PADDINGS`.
        fill: what stands there if that is a number.
    """
    widths, cut = [(0, 0)], [slice(None)]
    for n, k, o, lo in zip(X.shape[1:-1], size, out, before, strict=True):
        need = (o - 1) * stride + k
        widths.append((lo, max(need - n - lo, 0)))
        cut.append(slice(0, need))
    more: dict[str, Any] = {"constant_values": fill} if mode == "zeros" else {}
    padded = np.pad(X, [*widths, (0, 0)], PADDINGS[mode], **more)[tuple(cut)]  # type: ignore[call-overload]
    axes = tuple(range(1, X.ndim - 1))
    seen = np.lib.stride_tricks.sliding_window_view(padded, tuple(size), axes)
    return np.asarray(seen[(slice(None), *[slice(None, None, stride)] * len(axes))])


def convolution(
    X: Floats,
    K: Floats,
    stride: int,
    out: Sequence[int],
    before: Sequence[int],
    mode: str = "zeros",
    groups: int = 1,
) -> Floats:
    """A cross-correlation, which frameworks call convolution.

    Args:
        X: shape ``(n, *places, channels)``.
        K: shape ``(*size, channels / groups, outputs)``.
        stride, out, before, mode: as of :func:`windows`.
        groups: of channels, each of which has outputs of its own.
    """
    d = K.ndim - 2
    seen = windows(X, K.shape[:d], stride, out, before, mode)
    ours, theirs = [d + 1, *range(d + 2, 2 * d + 2)], [d, *range(d)]
    if groups == 1:
        return np.asarray(np.tensordot(seen, K, (ours, theirs)))
    parts = zip(np.split(seen, groups, d + 1), np.split(K, groups, -1), strict=True)
    return np.concatenate([np.tensordot(x, k, (ours, theirs)) for x, k in parts], -1)


def pooled(
    X: Floats,
    largest: bool,
    size: int,
    stride: int,
    out: Sequence[int],
    before: Sequence[int],
    counted: bool = True,
) -> Floats:
    """The largest, or the mean, of each window.

    Args:
        X, stride, out, before: as of :func:`windows`.
        largest: the largest one, else the mean.
        size: of the window, in every axis.
        counted: whether a mean counts what is padded.
    """
    sizes = [size] * (X.ndim - 2)
    axes = tuple(range(-len(sizes), 0))
    seen = windows(X, sizes, stride, out, before, fill=-np.inf if largest else 0.0)
    if largest:
        return np.asarray(seen.max(axes))
    if counted:
        return np.asarray(seen.mean(axes))
    there = windows(np.ones_like(X[:1]), sizes, stride, out, before)
    return np.asarray(seen.sum(axes) / np.maximum(there.sum(axes), 1.0))


def recurrent(
    X: Floats,
    W: Floats,
    U: Floats,
    b: Floats | float,
    c: Floats | float,
    order: str,
    after: bool = True,
    keeps: bool = True,
    forget: float = 0.0,
) -> Floats:
    """The states of a recurrent layer, shape ``(n, T, h)``: LSTM, GRU or a plain one.

    The LSTM is that of Gers et al. (2000); the GRU that of arXiv:1406.1078, which resets the state
    before the product (``after`` false), or cuDNN's, which resets the product.

    Args:
        X: shape ``(n, T, d)``.
        W: shape ``(d, gates · h)``.
        U: shape ``(h, gates · h)``.
        b, c: what is added to the products with W and with U.
        order: of the gates: of ``ifgo`` (input, forget, candidate, output), of ``rzn`` (reset,
            update, candidate), or ``n``.
        after: whether a GRU resets after the product with U.
        keeps: whether a GRU's update gate says how much of the state is kept, else replaced.
        forget: what is added to the forget gate.
    """
    size = U.shape[0]
    places = {gate: slice(i * size, (i + 1) * size) for i, gate in enumerate(order)}
    h, cell, states = np.zeros((len(X), size)), np.zeros((len(X), size)), []
    below = X @ W + b
    for t in range(X.shape[1]):
        x, u = below[:, t], h @ U + c
        z = {gate: x[:, at] + u[:, at] for gate, at in places.items()}
        if len(order) == 4:
            cell = sigmoid(z["f"] + forget) * cell + sigmoid(z["i"]) * np.tanh(z["g"])
            h = sigmoid(z["o"]) * np.tanh(cell)
        elif len(order) == 3:
            reset, update, at = sigmoid(z["r"]), sigmoid(z["z"]), places["n"]
            if after:
                candidate = np.tanh(x[:, at] + reset * u[:, at])
            else:
                added = c[at] if isinstance(c, np.ndarray) else c
                candidate = np.tanh(x[:, at] + (reset * h) @ U[:, at] + added)
            old = update if keeps else 1 - update
            h = old * h + (1 - old) * candidate
        else:
            h = np.tanh(z["n"])
        states.append(h)
    return np.stack(states, 1)
